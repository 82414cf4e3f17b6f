//! What tasks need beside a thread: counted resources, of which each rank declares what it has, and certain ranks.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Amounts by name: of what a rank has, or a task needs while it runs.
pub(crate) type Resources = BTreeMap<String, u64>;

/// What only some ranks can give, and only so many times.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Demand {
    pub amounts: Resources,
    /// The only ranks that may run it, if so.
    pub among: Option<BTreeSet<usize>>,
}

/// Multiples by which amounts may be given: `64GiB`, `2k`.
const UNITS: [(&str, u64); 12] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
];

/// Reads `gpu=4,mem=64GiB`.
pub(crate) fn parse(text: &str) -> Result<Resources, String> {
    let mut all = Resources::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (name, amount) = part.split_once('=').ok_or_else(|| format!("{part:?} is not NAME=AMOUNT"))?;
        let (name, amount) = (name.trim(), amount.trim());
        let unit = UNITS.iter().find(|(unit, _)| amount.ends_with(unit));
        let (digits, factor) =
            unit.map_or((amount, 1), |(unit, factor)| (amount[..amount.len() - unit.len()].trim(), *factor));
        let amount = digits.parse::<u64>().ok().and_then(|amount| amount.checked_mul(factor));
        let amount = amount.ok_or_else(|| format!("{part:?} has no whole number after the ="))?;
        if name.is_empty() {
            return Err(format!("{part:?} has no name before the ="));
        }
        if all.insert(name.to_owned(), amount).is_some() {
            return Err(format!("{name} is given twice"));
        }
    }
    Ok(all)
}

impl Demand {
    /// Whether any rank will do.
    pub fn is_none(&self) -> bool {
        self.amounts.is_empty() && self.among.is_none()
    }

    /// Whether a rank that has these resources can give it.
    pub fn suits(&self, rank: usize, resources: &Resources) -> bool {
        let has = |(name, amount): (&String, &u64)| resources.get(name).copied().unwrap_or(0) >= *amount;
        self.among.as_ref().is_none_or(|among| among.contains(&rank)) && self.amounts.iter().all(has)
    }

    /// Why none of these ranks will ever do; `None` if one will.
    pub fn problem(&self, ranks: &BTreeMap<usize, &Resources>) -> Option<String> {
        if ranks.iter().any(|(rank, resources)| self.suits(*rank, resources)) {
            return None;
        }
        let is_among = |rank: &usize| self.among.as_ref().is_none_or(|among| among.contains(rank));
        let named: BTreeMap<usize, &Resources> =
            ranks.iter().filter(|(rank, _)| is_among(rank)).map(|(rank, all)| (*rank, *all)).collect();
        if self.among.as_ref().is_some_and(BTreeSet::is_empty) {
            return Some("no rank is left of those that it may run on".into());
        }
        let among = self.among.as_ref().map_or(String::new(), |among| format!(" of {among:?}"));
        if named.is_empty() {
            return Some(format!("it may run on ranks{among} alone, and none of them is there"));
        }
        let lacks = self.amounts.iter().find_map(|(name, amount)| {
            let best =
                named.iter().map(|(rank, all)| (all.get(name).copied().unwrap_or(0), *rank)).max_by_key(|best| best.0);
            let (most, rank) = best.filter(|(most, _)| most < amount)?;
            Some(match most {
                0 => format!("it needs {name}={amount}, and no rank{among} has any {name}"),
                _ => format!("it needs {name}={amount}, and no rank{among} has more than {most} (rank {rank})"),
            })
        });
        Some(lacks.unwrap_or_else(|| format!("it needs {}, and no rank{among} has all of that", shown(&self.amounts))))
    }
}

/// As it is declared.
pub(crate) fn shown(resources: &Resources) -> String {
    let parts: Vec<String> = resources.iter().map(|(name, amount)| format!("{name}={amount}")).collect();
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(text: &str, among: Option<&[usize]>) -> Demand {
        Demand { amounts: parse(text).unwrap(), among: among.map(|ranks| ranks.iter().copied().collect()) }
    }

    #[test]
    fn amounts_are_numbers_with_or_without_a_unit() {
        let expected = [("gpu".to_owned(), 4), ("mem".to_owned(), 64 << 30), ("tokens".to_owned(), 2000)];
        assert_eq!(parse(" gpu=4, mem = 64 GiB,tokens=2k,"), Ok(expected.into()));
        assert_eq!(parse(""), Ok(Resources::new()));
        for (bad, says) in [
            ("gpu", "not NAME=AMOUNT"),
            ("=3", "no name"),
            ("gpu=many", "no whole number"),
            ("gpu=1.5", "no whole number"),
            ("gpu=99999999999T", "no whole number"),
            ("gpu=1,gpu=2", "twice"),
        ] {
            assert!(parse(bad).unwrap_err().contains(says), "{bad}");
        }
    }

    #[test]
    fn what_nobody_can_give_is_explained() {
        let (small, large) = (parse("gpu=1,mem=8").unwrap(), parse("gpu=4").unwrap());
        let ranks: BTreeMap<usize, &Resources> = [(0, &small), (3, &large)].into();
        assert_eq!(demand("gpu=4", None).problem(&ranks), None);
        let problem = |text, among| demand(text, among).problem(&ranks).unwrap();
        assert!(problem("gpu=5", None).contains("gpu=5, and no rank has more than 4 (rank 3)"));
        assert!(problem("fpga=1", None).contains("no rank has any fpga"));
        assert!(problem("gpu=2,mem=8", None).contains("has all of that"));
        assert!(problem("gpu=2", Some(&[0])).contains("no rank of {0} has more than 1 (rank 0)"));
        assert!(problem("", Some(&[])).contains("no rank is left"));
        assert!(problem("", Some(&[7])).contains("ranks of {7} alone, and none of them is there"));
    }
}

//! Runs whose items end their ranks: jobs follow each other until one ends by itself.

use super::Ended;

/// A search may take so many jobs for one item: three crashes, what is left halved twice, three crashes alone.
const JOBS_AN_ITEM: usize = 9;

/// Jobs, until one is not ended by a signal; how many that took.
pub fn until_it_ends_by_itself(items: usize, mut job: impl FnMut(usize) -> Ended) -> (Ended, usize) {
    for number in 1.. {
        let ended = job(number);
        let crashed = ended.code.is_none_or(|code| ![0, 1, 75].contains(&code));
        if !crashed {
            return (ended, number);
        }
        assert!(number <= items * JOBS_AN_ITEM, "job {number}, and still it crashes: {ended}");
    }
    unreachable!("a loop without end")
}

/// What the program prints without these items, as its user would work it out by hand.
pub fn expected(text_without: &[u64], list_without: &[u64], batches_without: &[u64], left_out: &[&str]) -> String {
    let text: String = (0..600).filter(|item| !text_without.contains(item)).map(|item| format!("{item} ")).collect();
    let list: Vec<u64> = (0..100).filter(|item| !list_without.contains(item)).collect();
    let batches: u64 = (0..300).filter(|item| !batches_without.contains(item)).sum();
    format!("{text}\n{list:?}\n{batches}\n{left_out:?}\n")
}

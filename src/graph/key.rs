//! What a node is known by from job to job: two nodes with the same key would make the same value.
//!
//! Pure: no clock, thread, file or MPI.

use super::Entry;

/// The key of each node, from all that its value depends on.
pub(super) fn keys(nodes: &[Entry]) -> Vec<u128> {
    let mut keys: Vec<u128> = Vec::with_capacity(nodes.len());
    for node in nodes {
        let mut hash = Fnv::default();
        hash.part(node.name.as_deref().unwrap_or_default().as_bytes());
        hash.part(node.function.as_bytes());
        hash.part(node.result.as_bytes());
        hash.part(&node.arguments);
        node.needs.iter().for_each(|need| hash.part(&keys[*need].to_le_bytes()));
        // 0 is no key, but what marks have.
        keys.push(hash.0.max(1));
    }
    keys
}

/// FNV-1a of 128 bits (G. Fowler, L. C. Noll, K.-P. Vo): the same on every machine, and by every build.
struct Fnv(u128);

impl Default for Fnv {
    fn default() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }
}

impl Fnv {
    /// With its length, so that parts cannot be taken for each other.
    fn part(&mut self, bytes: &[u8]) {
        self.bytes(&(bytes.len() as u64).to_le_bytes());
        self.bytes(bytes);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Graph;

    #[test]
    fn the_hash_is_the_published_one() {
        let mut hash = Fnv::default();
        hash.bytes(b"foobar");
        assert_eq!(hash.0, 0x343e_1662_793c_64bf_6f0d_3597_ba44_6f18);
    }

    #[test]
    fn a_key_changes_with_whatever_the_value_depends_on_and_with_nothing_else() {
        let keys_with = |name: &str, number: u32, before: u32, priority: i32| {
            let mut graph = Graph::new();
            let first = graph.add(|n: u32| n, (before,)).unwrap();
            let second = graph.node().priority(priority);
            second.named(name).add(|n: &u32, m: u32| n + m, (&first, number)).unwrap();
            keys(&graph.nodes)[1]
        };
        let key = keys_with("a", 1, 2, 0);
        assert_eq!(key, keys_with("a", 1, 2, 5));
        assert!(
            [keys_with("b", 1, 2, 0), keys_with("a", 2, 2, 0), keys_with("a", 1, 3, 0)]
                .iter()
                .all(|other| *other != key)
        );
    }
}

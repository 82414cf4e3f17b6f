//! The fixed tree in which values are joined, by their position alone.
//!
//! Pure. Neighbours are joined first, pairs with their buddies next, and so on; what has no right buddy at the end joins
//! with what is left of it. So aligned runs of a power of two of values can be joined elsewhere, and the tree is the same.

/// Values that were joined as far as their buddies are there.
#[derive(Debug)]
pub(super) struct Tree<V> {
    /// From left to right, with the height of the tree below each; heights decrease.
    parts: Vec<(u32, V)>,
}

impl<V> Default for Tree<V> {
    fn default() -> Self {
        Self { parts: Vec::new() }
    }
}

impl<V> Tree<V> {
    /// Adds the next value, and joins what can be.
    pub fn push<E>(&mut self, value: V, mut join: impl FnMut(V, V) -> Result<V, E>) -> Result<(), E> {
        let (mut height, mut value) = (0, value);
        while let Some((_, left)) = self.parts.pop_if(|(other, _)| *other == height) {
            value = join(left, value)?;
            height += 1;
        }
        self.parts.push((height, value));
        Ok(())
    }

    /// Joins what is left; nothing comes of nothing.
    pub fn finish<E>(mut self, mut join: impl FnMut(V, V) -> Result<V, E>) -> Result<Option<V>, E> {
        let Some((_, mut value)) = self.parts.pop() else { return Ok(None) };
        while let Some((_, left)) = self.parts.pop() {
            value = join(left, value)?;
        }
        Ok(Some(value))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    fn joined(values: impl IntoIterator<Item = String>) -> Option<String> {
        let join = |left, right| Ok::<_, Infallible>(format!("({left}{right})"));
        let mut tree = Tree::default();
        values.into_iter().for_each(|value| tree.push(value, join).unwrap());
        tree.finish(join).unwrap()
    }

    fn letters(count: usize) -> Vec<String> {
        (0..count).map(|at| char::from(b'a' + (at % 26) as u8).to_string()).collect()
    }

    #[test]
    fn neighbours_are_joined_first_and_what_is_left_over_last() {
        assert_eq!(joined(letters(6)).unwrap(), "(((ab)(cd))(ef))");
        assert_eq!(joined(letters(7)).unwrap(), "(((ab)(cd))((ef)g))");
        assert_eq!((joined(letters(1)), joined(letters(0))), (Some("a".into()), None));
    }

    proptest! {
        #[test]
        fn the_tree_does_not_depend_on_how_values_are_grouped(count in 1usize..300, power in 0u32..9) {
            let chunks = letters(count);
            let parts = chunks.chunks(1 << power).map(|chunk| joined(chunk.to_vec()).unwrap());
            prop_assert_eq!(joined(parts), joined(letters(count)));
        }
    }
}

//! What belongs to each of many things, in two vectors: most of a shop's items concern no rule, and
//! an empty list each would cost more than all that are not empty.

/// For each position, what belongs to it.
#[derive(Debug)]
pub(crate) struct Lookup<T> {
    /// Where in `all` the part of each position ends; it begins where the one before ends.
    ends: Vec<u32>,
    all: Vec<T>,
}

impl<T: Copy + PartialEq> Lookup<T> {
    /// For `count` positions. What belongs to one keeps its order; what comes twice in a row is
    /// there once.
    pub(crate) fn new(count: usize, mut pairs: Vec<(usize, T)>) -> Self {
        pairs.sort_by_key(|(position, _)| *position);
        pairs.dedup();
        let mut ends = Vec::with_capacity(count);
        for position in 0..count {
            let end = pairs.partition_point(|(of, _)| *of <= position);
            ends.push(u32::try_from(end).unwrap_or(u32::MAX));
        }
        Self { ends, all: pairs.into_iter().map(|(_, value)| value).collect() }
    }

    /// What belongs to a position.
    pub(crate) fn of(&self, position: usize) -> &[T] {
        let end = |position: usize| self.ends.get(position).map_or(0, |end| *end as usize);
        let begin = position.checked_sub(1).map_or(0, end);
        self.all.get(begin..end(position)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_position_has_what_was_given_to_it_once_and_in_order() {
        let lookup = Lookup::new(4, vec![(2, 'b'), (0, 'x'), (2, 'a'), (2, 'a')]);
        let all: Vec<String> = (0..5).map(|at| lookup.of(at).iter().collect()).collect();
        assert_eq!(all, ["x", "", "ba", "", ""]);
    }
}

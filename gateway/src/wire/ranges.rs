//! Ranges of sequence numbers, and the watermark that a recorder publishes with them.
//!
//! Ranges are closed, disjoint, ascending and never touch: `[[1,40],[43,57]]`. At most
//! [`RANGES_MAX`] are kept; beyond that the highest are forgotten, which costs their being sent
//! and stored again, and never a loss.

use serde::{Deserialize, Deserializer, Serialize};

use super::VERSION;
use crate::journal::{BootId, Stream};

/// Most ranges per stream.
pub const RANGES_MAX: usize = 64;
/// Most boots in a watermark: older ones have long been confirmed and passed.
pub const BOOTS_MAX: usize = 8;

/// A set of sequence numbers of one boot and stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// The ranges, each first and last number.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().copied()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds `(prev, seq]`; nothing when that is empty.
    pub fn insert(&mut self, prev: u64, seq: u64) {
        if seq <= prev {
            return;
        }
        let (mut first, mut last) = (prev + 1, seq);
        // All ranges that overlap or touch [first, last] are one stretch of the vector.
        let start = self.0.partition_point(|&(_, end)| end.saturating_add(1) < first);
        let end = self.0.partition_point(|&(begin, _)| begin <= last.saturating_add(1));
        if let Some(&[(begin, _), ..]) = self.0.get(start..end) {
            first = first.min(begin);
        }
        if let Some(&[.., (_, finish)]) = self.0.get(start..end) {
            last = last.max(finish);
        }
        self.0.splice(start..end, [(first, last)]);
        self.0.truncate(RANGES_MAX);
    }

    /// Adds every range of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (first, last) in other.iter() {
            self.insert(first.saturating_sub(1), last);
        }
    }

    /// Whether all of `(prev, seq]` is in the set.
    pub fn covers(&self, prev: u64, seq: u64) -> bool {
        self.end_of(prev.saturating_add(1)).is_some_and(|last| last >= seq)
    }

    /// The last number of the range that `number` lies in.
    pub fn end_of(&self, number: u64) -> Option<u64> {
        let place = self.0.partition_point(|&(_, last)| last < number);
        self.0.get(place).filter(|&&(first, _)| first <= number).map(|&(_, last)| last)
    }

    /// The greatest number in the set.
    pub fn greatest(&self) -> Option<u64> {
        self.0.last().map(|&(_, last)| last)
    }
}

impl<'de> Deserialize<'de> for Ranges {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut ranges = Self::default();
        for (first, last) in Vec::<(u64, u64)>::deserialize(deserializer)? {
            ranges.insert(first.saturating_sub(1), last);
        }
        Ok(ranges)
    }
}

/// What of one boot a recorder's store has committed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredBoot {
    /// The boot.
    pub boot: BootId,
    /// Of its observations.
    #[serde(default)]
    pub telemetry: Ranges,
    /// Of its events.
    #[serde(default)]
    pub events: Ranges,
}

impl StoredBoot {
    /// The ranges of a stream.
    pub const fn of(&self, stream: Stream) -> &Ranges {
        match stream {
            Stream::Telemetry => &self.telemetry,
            Stream::Events => &self.events,
        }
    }
}

/// The watermark of a recorder for one gateway, retained at `_gateway/stored/<recorder>`.
///
/// Several boots: after a power loss a gateway sends what the boot before has left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The payload's version.
    pub v: u8,
    /// By boot, the most recently stored one last; at most [`BOOTS_MAX`].
    pub boots: Vec<StoredBoot>,
}

impl Default for Stored {
    fn default() -> Self {
        Self { v: VERSION, boots: Vec::new() }
    }
}

impl Stored {
    /// Adds the records `(prev, seq]` of a boot's stream.
    pub fn insert(&mut self, boot: BootId, stream: Stream, prev: u64, seq: u64) {
        match self.boots.iter().position(|stored| stored.boot == boot) {
            Some(place) => self.boots[place..].rotate_left(1),
            None => {
                self.boots.push(StoredBoot { boot, ..StoredBoot::default() });
                let excess = self.boots.len().saturating_sub(BOOTS_MAX);
                self.boots.drain(..excess);
            }
        }
        let Some(stored) = self.boots.last_mut() else { return };
        match stream {
            Stream::Telemetry => stored.telemetry.insert(prev, seq),
            Stream::Events => stored.events.insert(prev, seq),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn touching_ranges_merge_and_gaps_stay() {
        let mut ranges = Ranges::default();
        for (prev, seq) in [(0, 3), (5, 6), (3, 4), (9, 9), (4, 5)] {
            ranges.insert(prev, seq);
        }
        assert_eq!(ranges.iter().collect::<Vec<_>>(), [(1, 6)]);
        ranges.insert(9, 12);
        assert!(ranges.covers(9, 12) && !ranges.covers(6, 12) && !ranges.covers(8, 10));
        assert_eq!(serde_json::to_string(&ranges).unwrap(), "[[1,6],[10,12]]");
    }

    #[test]
    fn the_highest_ranges_are_forgotten_first() {
        let mut ranges = Ranges::default();
        for n in (0..1000).rev() {
            ranges.insert(n * 2, n * 2 + 1);
        }
        assert_eq!(ranges.iter().count(), RANGES_MAX);
        assert!(ranges.covers(0, 1));
    }

    #[test]
    fn a_watermark_keeps_the_boots_stored_last() {
        let mut stored = Stored::default();
        for n in 0..20 {
            stored.insert(BootId([n; 16]), Stream::Events, 0, 1);
            stored.insert(BootId([0; 16]), Stream::Telemetry, 0, u64::from(n) + 1);
        }
        assert_eq!(stored.boots.len(), BOOTS_MAX);
        assert_eq!(stored.boots[BOOTS_MAX - 1].boot, BootId([0; 16]));
        assert!(stored.boots[BOOTS_MAX - 1].telemetry.covers(0, 20));
    }

    proptest! {
        #[test]
        fn ranges_are_a_set(inserts in prop::collection::vec((0u64..60, 0u64..9), 0..40)) {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for (prev, count) in inserts {
                ranges.insert(prev, prev + count);
                set.extend(prev + 1..=prev + count);
            }
            let numbers: BTreeSet<u64> = ranges.iter().flat_map(|(a, b)| a..=b).collect();
            prop_assert_eq!(&numbers, &set);
            for n in 0..70 {
                prop_assert_eq!(ranges.covers(n, n + 1), set.contains(&(n + 1)));
            }
        }

        #[test]
        fn any_json_ranges_become_ordered(pairs in prop::collection::vec(any::<(u64, u64)>(), 0..99)) {
            let text = serde_json::to_string(&pairs).unwrap();
            let ranges: Ranges = serde_json::from_str(&text).unwrap();
            let ends: Vec<_> = ranges.iter().collect();
            prop_assert!(ends.windows(2).all(|pair| pair[0].1 < pair[1].0));
            prop_assert!(ends.len() <= RANGES_MAX);
        }
    }
}

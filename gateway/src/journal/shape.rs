//! What the records of a block share: lists of items that come again and again, and what is known
//! of each series.
//!
//! Writer and reader hold the same after the same records. Nothing here knows a frame. Bounded by
//! the block: the caller limits how many shapes there are, and how many items one may have.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use andon_engine::time::BootTime;

use super::series::Series;

/// A list of items of a machine, as observations tend to repeat it.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) machine: Arc<str>,
    pub(super) items: Arc<[Arc<str>]>,
    pub(super) series: Places,
    last: u64,
    step: i64,
}

impl Shape {
    /// Takes the next moment and returns how far the step to it differs from the step before.
    pub(super) fn advance(&mut self, at: u64) -> i64 {
        let step = at.wrapping_sub(self.last).cast_signed();
        let change = step.wrapping_sub(self.step);
        (self.last, self.step) = (at, step);
        change
    }

    /// The inverse of [`Shape::advance`].
    pub(super) fn follow(&mut self, change: i64) -> u64 {
        self.step = self.step.wrapping_add(change);
        self.last = self.last.wrapping_add_signed(self.step);
        self.last
    }
}

/// Positions in a block's series, one for each item of a shape.
#[derive(Debug)]
pub(super) enum Places {
    /// One after the other from here on.
    From(u32),
    /// Anywhere.
    Each(Box<[u32]>),
}

impl Places {
    /// The position that belongs to the item at `at`.
    pub(super) fn of(&self, at: usize) -> usize {
        match self {
            Self::From(first) => *first as usize + at,
            Self::Each(places) => places.get(at).map_or(usize::MAX, |place| *place as usize),
        }
    }
}

/// A list of items: positions among the block's strings, and these strings.
#[derive(Clone, Debug, Default)]
pub(super) struct List {
    pub(super) positions: Arc<[u32]>,
    names: Arc<[Arc<str>]>,
    /// No item is in it twice.
    distinct: bool,
}

/// The series of a block, shared by the shapes in which they occur; names are given as positions
/// among the block's strings.
///
/// Most machines have one shape, and a block may have a hundred thousand series: those of a
/// machine's first shape lie one after the other, and are found by name only once it has another.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    by_name: HashMap<u64, u32, BuildHasherDefault<Mix>>,
    /// Of machines with one shape so far: its items, and where its series begin.
    single: HashMap<u32, (Arc<[u32]>, u32)>,
    pub(super) series: Vec<Series>,
    /// The list of items that was defined last: machines of a kind have the same.
    pub(super) last: List,
}

impl Catalogue {
    /// A shape of the machine and items with these positions; `name` gives a position's string.
    pub(super) fn shape(
        &mut self,
        (machine, items): (u32, &[u32]),
        base: BootTime,
        name: impl Fn(u32) -> Option<Arc<str>>,
    ) -> Option<Shape> {
        if *self.last.positions != *items {
            let mut sorted = items.to_vec();
            sorted.sort_unstable();
            self.last = List {
                positions: items.into(),
                names: items.iter().map(|item| name(*item)).collect::<Option<_>>()?,
                distinct: sorted.is_sorted_by(|one, next| one < next),
            };
        }
        Some(Shape {
            machine: name(machine)?,
            series: self.places(machine),
            items: Arc::clone(&self.last.names),
            last: base.0,
            step: 0,
        })
    }

    /// Where the series of a machine's new shape are, which has the items defined last.
    fn places(&mut self, machine: u32) -> Places {
        let key = |item: &u32| u64::from(machine) << 32 | u64::from(*item);
        let next = u32::try_from(self.series.len()).unwrap_or(u32::MAX);
        let items = Arc::clone(&self.last.positions);
        match self.single.entry(machine) {
            Entry::Vacant(first) if self.last.distinct => {
                first.insert((Arc::clone(&items), next));
                self.series.resize_with(self.series.len() + items.len(), Series::default);
                return Places::From(next);
            }
            Entry::Vacant(first) => {
                first.insert((Arc::default(), next));
            }
            Entry::Occupied(mut first) => {
                let (items, begin) = std::mem::take(first.get_mut());
                let places = items.iter().map(key).zip(begin..);
                self.by_name.extend(places);
            }
        }
        let (by_name, series) = (&mut self.by_name, &mut self.series);
        let place = |item: &u32| {
            *by_name.entry(key(item)).or_insert_with(|| {
                series.push(Series::default());
                u32::try_from(series.len() - 1).unwrap_or(u32::MAX)
            })
        };
        Places::Each(items.iter().map(place).collect())
    }
}

/// Hashes positions, which count up from 0 and are nobody's choice. By far the most lookups of a
/// block are of these.
#[derive(Debug, Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, value: u64) {
        // A multiplication (by the golden ratio) moves what differs up, the rotation back down.
        self.0 = value.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(32) ^ value;
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(self.0 ^ u64::from(*byte)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 4] = ["laser", "kiln", "power", "voltage"];

    fn places(catalogue: &mut Catalogue, machine: u32, items: &[u32]) -> Vec<usize> {
        let name = |at: u32| NAMES.get(at as usize).map(|name| Arc::from(*name));
        let shape = catalogue.shape((machine, items), BootTime(0), name).unwrap();
        (0..items.len()).map(|at| shape.series.of(at)).collect()
    }

    #[test]
    fn a_series_is_one_in_whatever_lists_of_its_machine_it_occurs_and_no_other_machines() {
        let mut catalogue = Catalogue::default();
        let laser = places(&mut catalogue, 0, &[2, 3]);
        let kiln = places(&mut catalogue, 1, &[2, 3]);
        assert!(laser.iter().all(|place| !kiln.contains(place)));
        // Once more, the other way round, one alone, one twice.
        assert_eq!(places(&mut catalogue, 0, &[2, 3]), laser);
        assert_eq!(places(&mut catalogue, 0, &[3, 2]), [laser[1], laser[0]]);
        assert_eq!(places(&mut catalogue, 1, &[3]), [kiln[1]]);
        assert_eq!(places(&mut catalogue, 1, &[2, 2]), [kiln[0], kiln[0]]);
        assert_eq!(catalogue.series.len(), 4);
    }

    #[test]
    fn a_list_that_names_an_item_twice_first_has_one_series_for_it() {
        let mut catalogue = Catalogue::default();
        let twice = places(&mut catalogue, 0, &[2, 2, 3]);
        assert_eq!(twice[0], twice[1]);
        assert_eq!(places(&mut catalogue, 0, &[3, 2]), [twice[2], twice[0]]);
        assert_eq!(catalogue.series.len(), 2);
    }
}

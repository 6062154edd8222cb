//! No two observations of an item are of the same millisecond, which is what MQTT says of when and
//! what a store keys by: of two it would keep the later one.
//!
//! A round that is late may be over just before the next one is due, and a device may say a thing
//! twice in one breath. The engine sees both at their moment; what leaves for the journal is of the
//! next millisecond that is free.

use andon_engine::plan::ItemIndex;
use andon_engine::time::BootTime;
use andon_engine::value::Measured;

/// Furthest that an observation is moved. A device that says more than that many values at once for
/// long has the later ones share a millisecond.
const MOVED_MAX_MS: u64 = 50;

/// The first millisecond of the boot that is free, by item.
#[derive(Debug)]
pub(super) struct Distinct(Vec<u64>);

impl Distinct {
    /// Of so many items.
    pub(super) fn new(items: usize) -> Self {
        Self(vec![0; items])
    }

    /// The moment to record for values of these items that were taken `at` then.
    pub(super) fn moment(&mut self, at: BootTime, items: &[(ItemIndex, Measured)]) -> BootTime {
        let millis = at.as_millis();
        let places = || items.iter().map(|(item, _)| item.0 as usize);
        let free = places().filter_map(|place| self.0.get(place)).copied().max().unwrap_or(0);
        let is_taken = millis < free && free - millis <= MOVED_MAX_MS;
        let (at, millis) =
            if is_taken { (BootTime::from_millis(free), free) } else { (at, millis) };
        for place in places() {
            if let Some(free) = self.0.get_mut(place) {
                *free = millis + 1;
            }
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use andon_engine::value::Value;

    use super::*;

    const MICROS: u64 = 1000;

    fn values(items: &[u32]) -> Vec<(ItemIndex, Measured)> {
        items.iter().map(|&item| (ItemIndex(item), Ok(Value::Number(1.0)))).collect()
    }

    #[test]
    fn an_item_has_one_value_of_a_millisecond_and_keeps_its_moment_when_it_can() {
        let mut distinct = Distinct::new(2);
        let at = |micros: u64| BootTime(micros * MICROS);
        let mut moment = |micros, items: &[u32]| distinct.moment(at(micros), &values(items));
        assert_eq!(moment(278_050, &[0]), at(278_050));
        assert_eq!(moment(278_400, &[1]), at(278_400), "another item's is no matter");
        assert_eq!(moment(278_900, &[0, 1]), at(279_000));
        assert_eq!(moment(279_500, &[1]), at(280_000));
        assert_eq!(moment(281_500, &[1]), at(281_500));
    }

    #[test]
    fn a_flood_does_not_run_away_from_its_time() {
        let mut distinct = Distinct::new(1);
        let moments: Vec<BootTime> = (0..1000u64)
            .map(|nth| distinct.moment(BootTime(1_000_000_000 + nth * MICROS), &values(&[0])))
            .collect();
        assert!(moments.iter().all(|moment| moment.as_millis() <= 1000 + MOVED_MAX_MS));
        let distinct: BTreeSet<u64> = moments.iter().map(|moment| moment.as_millis()).collect();
        assert!(distinct.len() as u64 >= MOVED_MAX_MS, "{distinct:?}");
    }
}

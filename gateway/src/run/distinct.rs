//! No two observations of an item are of the same millisecond, which is what MQTT says of when and
//! what a store keys by: of two it would keep the later one.
//!
//! A round that is late may be over just before the next one is due, and a device may say a thing
//! many times in one breath. The engine sees each at its moment; what leaves for the journal is of the
//! next millisecond that is free.

use std::time::Duration;

use andon_engine::plan::ItemIndex;
use andon_engine::time::BootTime;
use andon_engine::value::Measured;

/// Furthest that an observation is moved. A device that says more values than that at once has the
/// later ones share the last millisecond, of which a store keeps what was said last.
pub(super) const MOVED_MAX: Duration = Duration::from_millis(50);

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
        let moved = millis.max(free.min((at + MOVED_MAX).as_millis()));
        for place in places() {
            if let Some(free) = self.0.get_mut(place) {
                *free = (*free).max(moved + 1);
            }
        }
        if moved == millis { at } else { BootTime::from_millis(moved) }
    }
}

#[cfg(test)]
mod tests {
    use andon_engine::value::Value;

    use super::*;

    const MICRO: Duration = Duration::from_micros(1);

    fn values(items: &[u32]) -> Vec<(ItemIndex, Measured)> {
        items.iter().map(|&item| (ItemIndex(item), Ok(Value::Number(1.0)))).collect()
    }

    #[test]
    fn an_item_has_one_value_of_a_millisecond_and_keeps_its_moment_when_it_can() {
        let mut distinct = Distinct::new(2);
        let at = |micros: u32| BootTime(0) + MICRO * micros;
        let mut moment = |micros, items: &[u32]| distinct.moment(at(micros), &values(items));
        assert_eq!(moment(278_050, &[0]), at(278_050));
        assert_eq!(moment(278_400, &[1]), at(278_400), "another item's is no matter");
        assert_eq!(moment(278_900, &[0, 1]), at(279_000));
        assert_eq!(moment(279_500, &[1]), at(280_000));
        assert_eq!(moment(281_500, &[1]), at(281_500));
    }

    #[test]
    fn a_flood_neither_runs_away_from_its_time_nor_goes_back() {
        // So many at once, so many microseconds apart.
        for (count, apart) in [(60, 20), (100, 300), (300, 30), (1000, 1)] {
            let mut distinct = Distinct::new(1);
            let taken = (0..count).map(|nth| BootTime::from_millis(1000) + MICRO * (nth * apart));
            let mut moments = Vec::new();
            for at in taken {
                let moment = distinct.moment(at, &values(&[0]));
                assert!(moment >= at && moment <= at + MOVED_MAX, "{moment:?} for {at:?}");
                moments.push(moment.as_millis());
            }
            assert!(moments.is_sorted(), "what is said last is the newest: {moments:?}");
            moments.dedup();
            assert!(moments.len() >= 50, "{moments:?}");
        }
    }

    #[test]
    fn a_late_reading_frees_no_millisecond_that_is_taken() {
        let mut distinct = Distinct::new(1);
        let mut moment = |millis| distinct.moment(BootTime::from_millis(millis), &values(&[0]));
        // It was told to be stale, and then comes one that had waited for long.
        assert_eq!(moment(5000).as_millis(), 5000);
        assert_eq!(moment(4000).as_millis(), 4050);
        assert_eq!(moment(5000).as_millis(), 5001);
    }
}

//! Rows of the file by themselves: what is written comes back, and arbitrary bytes are refused.

use andon_engine::value::{Measured, Unavailable, Value};
use proptest::prelude::*;

use super::{BEGIN, number};
use crate::history::samples::Samples;
use crate::history::{column, rollup, row, summary};

fn measured() -> impl Strategy<Value = Measured> {
    prop_oneof![
        4 => (-100_000_i32..100_000).prop_map(|tenths| number(f64::from(tenths) / 10.0)),
        2 => any::<f32>().prop_map(|single| number(f64::from(single))),
        1 => any::<f64>().prop_map(number),
        2 => any::<bool>().prop_map(|flag| Ok(Value::Flag(flag))),
        2 => "[a-z]{0,3}".prop_map(|text| Ok(Value::Text(text.into()))),
        2 => (1_u8..=11).prop_map(|code| Err(Unavailable::from_code(code).unwrap())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn columns_give_back_every_bit(
        numbers in prop::collection::vec((0_i64..5000, measured()), 1..300),
    ) {
        let mut samples = Samples::default();
        let mut at = BEGIN;
        for (step, measured) in &numbers {
            at += step;
            samples.push(at, measured);
        }
        let times = column::write_times(&samples.times, BEGIN);
        let (scale, values) = column::write_values(&samples);
        let times = column::read_times(&times, samples.len(), BEGIN).unwrap();
        let back = column::read_values(&values, scale, times).unwrap();
        prop_assert_eq!(back.len(), numbers.len());
        for ((_, back), (_, measured)) in back.iter().zip(&numbers) {
            match (back, measured) {
                (Ok(Value::Number(back)), Ok(Value::Number(number))) => {
                    prop_assert_eq!(back.to_bits(), number.to_bits());
                }
                // What is no number is no value.
                (Err(Unavailable::Sentinel), Ok(Value::Number(number))) => {
                    prop_assert!(!number.is_finite());
                }
                (back, measured) => prop_assert_eq!(&back, measured),
            }
        }
    }

    #[test]
    fn slots_come_back_but_for_a_thousandth_of_a_step_of_the_mean(
        values in prop::collection::vec((-9999_i32..9999, 0_i32..500, 1_i64..60_000, any::<bool>()), 1..200),
    ) {
        let slots: Vec<summary::Sum> = values.iter().map(|(least, more, known_ms, gap)| {
            let (least, greatest) = (f64::from(*least) / 10.0, f64::from(least + more) / 10.0);
            let mean = least + (greatest - least) / 3.0;
            if *gap { return summary::Sum::default() }
            summary::Sum {
                count: 3, known_ms: *known_ms, least, greatest, last: least,
                integral: mean * *known_ms as f64, last_at: 0,
            }
        }).collect();
        let mut row = row::Builder::new(row::Kind::Slots, 0);
        rollup::write(&mut row, 3, &slots);
        let bytes = row.finish();
        let (length, crc) = row::prefix(bytes[..8].try_into().unwrap()).unwrap();
        let header = row::Header::read(&bytes[8..8 + length], crc).unwrap();
        let Some(entry) = header.entry(3) else {
            prop_assert!(slots.iter().all(summary::Sum::is_empty));
            return Ok(());
        };
        let part = |place: row::Place| &bytes[place.offset..place.offset + place.length];
        let shared = header.shared[entry.shared];
        let numbers = rollup::read_numbers(part(shared.place), shared.count).unwrap();
        let back = rollup::read(part(entry.place), entry.scale, shared.count, true).unwrap();
        let back: Vec<summary::Sum> = back.into_slots().collect();
        let known: Vec<_> = (0..).zip(&slots).filter(|(_, sum)| !sum.is_empty()).collect();
        prop_assert_eq!(known.len(), back.len());
        for (((slot, sum), number), back) in known.iter().zip(numbers).zip(back) {
            prop_assert_eq!(*slot, number);
            prop_assert_eq!((back.least, back.greatest, back.last), (sum.least, sum.greatest, sum.last));
            prop_assert_eq!((back.count, back.known_ms), (sum.count, sum.known_ms));
            prop_assert!((back.mean() - sum.mean()).abs() <= 0.1 / 1000.0);
        }
    }

    #[test]
    fn arbitrary_bytes_are_refused_and_never_panic(bytes: Vec<u8>, scale: u8, count in 0_usize..50) {
        let _ = row::Header::read(&bytes, crc32c::crc32c(&bytes));
        let _ = column::read_values(&bytes, scale, vec![0; count]);
        let _ = column::read_times(&bytes, count, i64::MAX);
        let _ = rollup::read(&bytes, scale, count, true).map(|it| it.into_slots().last());
    }
}

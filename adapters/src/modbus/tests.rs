//! The planner and the codec as properties: whatever the profile, the wants and the reply.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use andon_engine::item::Item;
use andon_engine::value::{Unavailable, Value};
use proptest::prelude::*;

use super::*;
use crate::profile::{Evidence, Profile};

fn item(table: Table, address: u16, form: Form, order: Order, scale: Scale) -> ProfileItem {
    let name = if form.is_flag() { "input.1" } else { "power.active" };
    ProfileItem {
        item: Item::named(name).unwrap(),
        table,
        address,
        encoding: Encoding { form, order },
        scale,
        scale_register: None,
        sentinels: Vec::new(),
        writable: false,
    }
}

fn profile(max_registers: u16, items: Vec<ProfileItem>) -> Profile {
    Profile {
        id: Arc::from("test/test"),
        title: String::new(),
        source: String::new(),
        evidence: Evidence::Datasheet,
        notes: String::new(),
        max_registers,
        items,
        identity: Vec::new(),
        settings: Vec::new(),
        examples: Vec::new(),
    }
}

/// The words of a block that holds this item's number, scaled by ten to `exponent`.
fn held(item: &ProfileItem, value: f64, exponent: i16) -> Vec<u16> {
    let (block, own) = (item.block(), item.own());
    let mut words = vec![0; usize::from(block.count)];
    let from = usize::from(own.start - block.start);
    words[from..from + usize::from(own.count)].copy_from_slice(&encode(item, value, exponent));
    if let Some(register) = item.scale_register {
        words[usize::from(register - block.start)] = exponent.cast_unsigned();
    }
    words
}

fn floats_at(max_registers: u16, addresses: &[u16]) -> Profile {
    let float = |&at: &u16| item(Table::Input, at, Form::F32, Order::Abcd, Scale::ONE);
    profile(max_registers, addresses.iter().map(float).collect())
}

fn blocks(profile: &Profile, holes: &Holes) -> Vec<String> {
    let all: Vec<usize> = (0..profile.items.len()).collect();
    coalesce(profile, &all, holes).iter().map(|batch| batch.block.to_string()).collect()
}

#[test]
fn near_items_share_a_read_and_far_ones_do_not() {
    let meter = floats_at(80, &[0x00, 0x06, 0x0C, 0x46, 0x48, 0x156]);
    assert_eq!(
        blocks(&meter, &Holes::default()),
        ["input:0x0000+14", "input:0x0046+4", "input:0x0156+2"]
    );
}

#[test]
fn no_read_is_longer_than_the_device_answers() {
    let addresses: Vec<u16> = (0..20).map(|n| 2 * n).collect();
    assert_eq!(
        blocks(&floats_at(30, &addresses), &Holes::default()),
        ["input:0x0000+30", "input:0x001E+10"]
    );
}

#[test]
fn a_hole_and_a_boundary_part_what_would_be_read_as_one() {
    let meter = floats_at(80, &[0, 2, 6, 8]);
    let mut holes = Holes::default();
    assert!(holes.insert(Table::Input, 4, 2));
    assert!(!holes.insert(Table::Input, 5, 1), "known already");
    assert_eq!(blocks(&meter, &holes), ["input:0x0000+4", "input:0x0006+4"]);
    assert!(holes.insert(Table::Input, 2, 0));
    assert_eq!(blocks(&meter, &holes), ["input:0x0000+2", "input:0x0002+2", "input:0x0006+4"]);
    assert!(!holes.obstruct(Block { table: Table::Holding, start: 0, count: 100 }));
}

#[test]
fn keys_are_asked_for_one_by_one() {
    let form = Form::Bcd { bytes: 3, signed: true };
    let at = |address| item(Table::Identifier(0x0203), address, form, Order::Abcd, Scale::ONE);
    let meter = profile(125, vec![at(0), at(0x0100), at(0x0001)]);
    assert_eq!(blocks(&meter, &Holes::default()), ["di:02030000", "di:02030001", "di:02030100"]);
}

#[test]
fn digits_above_nine_are_no_number() {
    let form = Form::Bcd { bytes: 3, signed: false };
    let meter = item(Table::Identifier(0x0203), 0, form, Order::Abcd, Scale::ONE);
    assert_eq!(meter.decode(&[0x00FF, 0xFFFF]), Err(Unavailable::Sentinel));
    assert_eq!(meter.decode(&[0x001A, 0x0000]), Err(Unavailable::Garbled));
    assert_eq!(meter.decode(&[0x0112, 0x3456]), Err(Unavailable::Garbled), "a fourth byte");
}

#[test]
fn holes_are_bounded() {
    let mut holes = Holes::default();
    for at in 0..2 * HOLES_MAX {
        holes.insert(Table::Input, u16::try_from(2 * at).unwrap(), 1);
    }
    assert_eq!(holes.len(), HOLES_MAX);
}

#[test]
fn a_refused_read_parts_at_its_widest_gap_and_the_gap_becomes_the_hole() {
    let meter = floats_at(80, &[0, 2, 4, 10, 12]);
    let batch = coalesce(&meter, &[0, 1, 2, 3, 4], &Holes::default()).remove(0);
    let (left, right) = batch.split(&meter).unwrap();
    assert_eq!((left.items.as_slice(), right.items.as_slice()), (&[0, 1, 2][..], &[3, 4][..]));
    let mut holes = Holes::default();
    assert!(holes.insert_between(&left, &right).is_some());
    assert_eq!(coalesce(&meter, &[0, 1, 2, 3, 4], &holes), [left, right]);
}

#[test]
fn what_was_parted_can_be_asked_for_as_one_again_within_what_the_device_allows() {
    let meter = floats_at(14, &[0, 2, 4, 10, 12]);
    let batch = coalesce(&meter, &[0, 1, 2, 3, 4], &Holes::default()).remove(0);
    let (left, right) = batch.split(&meter).unwrap();
    let across = |max| {
        let meter = floats_at(max, &[0, 2, 4, 10, 12]);
        let reads = left.across(&right, &meter)?;
        let blocks = reads.iter().map(|it| (it.block.start, it.block.count, it.items.len()));
        Some(blocks.collect::<Vec<_>>())
    };
    assert_eq!(left.across(&right, &meter), Some(vec![batch]));
    assert_eq!(across(13), Some(vec![(0, 2, 1), (2, 12, 4)]));
    assert_eq!(across(11), Some(vec![(0, 4, 2), (4, 8, 2), (12, 2, 1)]));
    assert_eq!(across(8), across(11));
    assert_eq!(across(7), None);
    let keyed = |block| Block { table: Table::Drive, ..block };
    let [left, right] = [left, right].map(|it| Batch { block: keyed(it.block), ..it });
    assert_eq!(left.across(&right, &meter), None, "keys have no order");
}

#[test]
fn two_flags_of_one_register_share_it() {
    let bit = |n| item(Table::Holding, 7, Form::Bit(n), Order::Abcd, Scale::ONE);
    let device = profile(10, vec![bit(0), bit(15)]);
    let batch = coalesce(&device, &[1, 0], &Holes::default()).remove(0);
    let read = decode(&device, &batch, Words::Registers(&[0x8000]));
    assert_eq!(read, [(0, Ok(Value::Flag(false))), (1, Ok(Value::Flag(true)))]);
}

#[test]
fn singles_show_the_digits_that_the_device_sent() {
    let kwh = Scale::of(&[1000.0], 1.0).unwrap();
    let read = |scale, words: [u16; 2]| {
        item(Table::Input, 0, Form::F32, Order::Abcd, scale).decode(&words)
    };
    assert_eq!(read(Scale::ONE, [0x4366, 0x199A]), Ok(Value::Number(230.1)));
    assert_eq!(read(kwh, [0x43AB, 0x5C29]), Ok(Value::Number(342_720.0)));
    assert_eq!(read(Scale::ONE, [0x7FC0, 0]), Err(Unavailable::Sentinel));
    assert_eq!(read(Scale::ONE, [0x7F80, 0]), Err(Unavailable::Sentinel));
}

#[test]
fn tenths_are_divided_not_multiplied() {
    let read = |scale: Option<Scale>, word| {
        item(Table::Input, 0, Form::I16, Order::Abcd, scale.unwrap()).decode(&[word])
    };
    for scale in [Scale::of(&[], 10.0), Scale::of(&[0.1], 1.0), Scale::of(&[1000.0], 10_000.0)] {
        assert_eq!(read(scale, 305), Ok(Value::Number(30.5)));
        assert_eq!(read(scale, 0xFF33), Ok(Value::Number(-20.5)));
        assert_eq!(read(scale, 3), Ok(Value::Number(0.3)));
    }
    for (factors, divisor) in [(&[0.0][..], 1.0), (&[1.0], 0.0), (&[f64::NAN], 1.0), (&[], -1.0)] {
        assert_eq!(Scale::of(factors, divisor), None, "{factors:?} / {divisor}");
    }
}

#[test]
fn word_orders_are_those_of_the_reference() {
    // 230.5 is 0x43668000: A = 43, B = 66, C = 80, D = 00.
    for (order, words) in [
        (Order::Abcd, [0x4366, 0x8000]),
        (Order::Cdab, [0x8000, 0x4366]),
        (Order::Badc, [0x6643, 0x0080]),
        (Order::Dcba, [0x0080, 0x6643]),
    ] {
        let float = item(Table::Input, 0, Form::F32, order, Scale::ONE);
        assert_eq!(float.decode(&words), Ok(Value::Number(230.5)), "{order:?}");
        assert_eq!(encode(&float, 230.5, 0), words, "{order:?}");
    }
}

#[test]
fn a_sentinel_is_no_value_and_an_absent_value_is_sent_as_one() {
    let mut power = item(Table::Holding, 0, Form::I32, Order::Cdab, Scale::ONE);
    power.sentinels = vec![0x7FFF_FFFF];
    assert_eq!(power.decode(&[0xFFFF, 0x7FFF]), Err(Unavailable::Sentinel));
    assert_eq!(encode(&power, f64::NAN, 0), [0xFFFF, 0x7FFF]);
}

fn forms() -> impl Strategy<Value = Form> {
    prop_oneof![
        (0u8..16).prop_map(Form::Bit),
        Just(Form::U16),
        Just(Form::I16),
        Just(Form::U32),
        Just(Form::I32),
        Just(Form::U64),
        Just(Form::I64),
        Just(Form::F32),
        Just(Form::F64),
        (1u8..=8, any::<bool>()).prop_map(|(bytes, signed)| Form::Bcd { bytes, signed }),
    ]
}

/// Every kind of table, those of other protocols too.
const TABLES: [Table; 7] = [
    Table::Coil,
    Table::Discrete,
    Table::Input,
    Table::Holding,
    Table::Identifier(0x0203),
    Table::Identifier1997,
    Table::Drive,
];

fn orders() -> impl Strategy<Value = Order> {
    (0usize..4).prop_map(|at| Order::ALL[at].1)
}

fn scales() -> impl Strategy<Value = Scale> {
    prop_oneof![
        (-6i32..=6).prop_map(|power| Scale::of(&[10f64.powi(power)], 1.0).unwrap()),
        (1u32..50, 1u32..50).prop_map(|(m, d)| Scale::of(&[f64::from(m)], f64::from(d)).unwrap()),
    ]
}

fn items() -> impl Strategy<Value = ProfileItem> {
    let place = (0usize..7, prop_oneof![0u16..400, 65_000u16..65_530]);
    let register = prop::option::of(0u16..4);
    let kind = (place, forms(), orders(), scales(), register);
    kind.prop_map(|((table, address), form, order, scale, register)| {
        let table = TABLES[table];
        let form = if table.is_bits() { Form::Flag } else { form };
        let mut item = item(table, address, form, order, scale);
        if matches!(table, Table::Input | Table::Holding) {
            // Just before the number, where it never makes a read too long.
            item.scale_register = register.filter(|_| form.width() < 4).and(address.checked_sub(1));
        }
        item
    })
}

fn devices() -> impl Strategy<Value = Profile> {
    (4u16..=125, prop::collection::vec(items(), 1..40))
        .prop_map(|(max_registers, items)| profile(max_registers, items))
}

fn holes() -> impl Strategy<Value = Holes> {
    prop::collection::vec((0usize..4, 0u16..400, 0u16..20), 0..12).prop_map(|list| {
        let mut holes = Holes::default();
        for (table, start, count) in list {
            holes.insert(Table::ALL[table], start, count);
        }
        holes
    })
}

/// Whether `batches` hold each of `wanted` once, inside a block that the device answers.
fn covers(device: &Profile, batches: &[Batch], wanted: &BTreeSet<usize>) {
    let mut held: Vec<usize> = batches.iter().flat_map(|batch| batch.items.clone()).collect();
    held.sort_unstable();
    assert_eq!(held, wanted.iter().copied().collect::<Vec<_>>());
    for batch in batches {
        let most = if batch.block.table.is_bits() { BITS_MAX } else { device.max_registers };
        assert!(batch.block.count >= 1 && batch.block.count <= most, "{}", batch.block);
        for &at in &batch.items {
            assert!(batch.block.contains(device.items[at].block()), "{}", batch.block);
        }
    }
}

/// What a plan costs by the formula of a serial line, in units of a tenth of a character: each
/// read 13 characters of frames and `overhead`, each byte of content ten.
fn cost(batches: &[Batch], overhead: u64, character: u64) -> u64 {
    let bytes = |batch: &Batch| match u64::from(batch.block.count) {
        _ if batch.block.table.is_keyed() => 0,
        count if batch.block.table.is_bits() => count.div_ceil(8),
        count => 2 * count,
    };
    batches.iter().map(|batch| overhead + (13 + bytes(batch)) * character).sum()
}

/// The read of a set of items, when it may be asked for.
fn read_of(device: &Profile, items: &[usize], holes: &Holes) -> Option<Batch> {
    let mut items = items.to_vec();
    items.sort_by_key(|&at| (device.items[at].block(), at));
    let several = items.len() > 1;
    let tables: BTreeSet<Table> = items.iter().map(|&at| device.items[at].table).collect();
    let batch = Batch::around(device, items)?;
    let most = if batch.block.table.is_bits() { BITS_MAX } else { device.max_registers };
    let fits = tables.len() == 1
        && !(several && batch.block.table.is_keyed())
        && !(several && batch.block.count > most)
        && !(several && holes.obstruct(batch.block));
    fits.then_some(batch)
}

/// The least cost of every way whatever to share items out among reads.
fn least_cost(
    device: &Profile,
    rest: &[usize],
    sets: &mut Vec<Vec<usize>>,
    holes: &Holes,
    price: (u64, u64),
) -> u64 {
    let Some((&item, rest)) = rest.split_first() else {
        let batches: Option<Vec<Batch>> =
            sets.iter().map(|set| read_of(device, set, holes)).collect();
        return batches.map_or(u64::MAX, |batches| cost(&batches, price.0, price.1));
    };
    let mut least = u64::MAX;
    for at in 0..=sets.len() {
        if at == sets.len() {
            sets.push(vec![item]);
        } else {
            sets[at].push(item);
        }
        least = least.min(least_cost(device, rest, sets, holes, price));
        if sets[at].len() == 1 {
            sets.remove(at);
        } else {
            sets[at].pop();
        }
    }
    least
}

proptest! {
    #[test]
    fn every_wanted_item_is_read_once_and_no_read_crosses_a_hole(
        device in devices(), holes in holes(), wanted in prop::collection::vec(0usize..50, 0..60),
    ) {
        let batches = coalesce(&device, &wanted, &holes);
        let known = wanted.into_iter().filter(|&at| at < device.items.len()).collect();
        covers(&device, &batches, &known);
        for batch in &batches {
            prop_assert!(batch.items.len() == 1 || !holes.obstruct(batch.block));
        }
    }

    #[test]
    fn the_plan_is_the_cheapest_of_all_ways_to_share_out_eight_ranges(
        device in (4u16..=60, prop::collection::vec(items(), 1..=8))
            .prop_map(|(max, items)| profile(max, items)),
        holes in holes(),
        // Nanoseconds: 1200 to 250 000 baud with turnarounds of up to 100 ms, and TCP.
        character in prop_oneof![Just(0u64), 40_000u64..9_200_000],
        overhead in 200_000u64..100_000_000,
    ) {
        let time = Duration::from_nanos;
        let price = ReadCost::new(time(overhead + 13 * character), time(character));
        let wanted: Vec<usize> = (0..device.items.len()).collect();
        let batches = plan_reads(&device, &wanted, &holes, price);
        for batch in &batches {
            prop_assert_eq!(read_of(&device, &batch.items, &holes), Some(batch.clone()));
        }
        let planned = cost(&batches, overhead, character);
        let least = least_cost(&device, &wanted, &mut Vec::new(), &holes, (overhead, character));
        prop_assert_eq!(planned, least);
    }

    #[test]
    fn a_gap_is_read_along_exactly_when_that_is_cheaper_than_another_request(
        gap in 0u16..60, turnaround in 0u64..60_000_000, baud in 1200u64..115_200,
    ) {
        // g < (13c + t35 + max(d, t35)) / 2c, as nanoseconds.
        let c = 11_000_000_000 / baud;
        let t35 = if baud > 19_200 { 1_750_000 } else { 7 * c / 2 };
        let request = 13 * c + t35 + turnaround.max(t35);
        prop_assume!(u64::from(gap) * 2 * c != request);
        let power = |at| item(Table::Input, at, Form::U16, Order::Abcd, Scale::ONE);
        let device = profile(125, vec![power(0), power(1 + gap)]);
        let price = ReadCost::new(Duration::from_nanos(request), Duration::from_nanos(c));
        let reads = plan_reads(&device, &[0, 1], &Holes::default(), price).len();
        prop_assert_eq!(reads == 1, u64::from(gap) * 2 * c < request);
    }

    #[test]
    fn splitting_ends_and_loses_nothing(device in devices()) {
        let all: Vec<usize> = (0..device.items.len()).collect();
        for batch in coalesce(&device, &all, &Holes::default()) {
            let mut open = vec![batch.clone()];
            let mut single = Vec::new();
            while let Some(next) = open.pop() {
                match next.split(&device) {
                    Some((left, right)) => {
                        prop_assert!(!left.items.is_empty() && !right.items.is_empty());
                        let wanted = next.items.iter().copied().collect();
                        covers(&device, &[left.clone(), right.clone()], &wanted);
                        open.extend([left, right]);
                    }
                    None => single.push(next),
                }
            }
            prop_assert_eq!(single.len(), batch.items.len());
        }
    }

    #[test]
    fn decoding_undoes_encoding(item in items(), value in -1e6f64..1e6) {
        let words = held(&item, value, 0);
        let read = item.decode(&words).unwrap();
        let again = match read {
            Value::Flag(on) => f64::from(u8::from(on)),
            Value::Number(number) => number,
            Value::Text(_) => unreachable!("registers hold no text here"),
        };
        if let Form::F64 = item.encoding.form {
            // Multiplying and dividing by 25/11 may cost a double its last bit.
            prop_assert!((again - value).abs() <= 1e-12 * value.abs());
        } else {
            prop_assert_eq!(held(&item, again, 0), words, "{}", again);
            prop_assert_eq!(item.decode(&held(&item, again, 0)).unwrap(), read);
        }
    }

    #[test]
    fn a_scale_register_moves_the_point(number: i16, exponent: i16) {
        let mut power = item(Table::Holding, 10, Form::I16, Order::Abcd, Scale::ONE);
        power.scale_register = Some(13);
        let words = [number.cast_unsigned(), 0, 0, exponent.cast_unsigned()];
        let read = power.decode(&words);
        match exponent {
            -10..=10 => {
                let expected: f64 = format!("{number}e{exponent}").parse().unwrap();
                prop_assert_eq!(read, Ok(Value::Number(expected)));
            }
            i16::MIN => prop_assert_eq!(read, Err(Unavailable::Sentinel)),
            _ => prop_assert_eq!(read, Err(Unavailable::OutOfRange)),
        }
    }

    #[test]
    fn digits_are_read_as_they_are_written(number in 0u32..1_000_000, minus: bool) {
        let form = Form::Bcd { bytes: 3, signed: true };
        let kilowatts = item(Table::Identifier(0x0203), 0, form, Order::Abcd, Scale::ONE);
        prop_assume!(number < 800_000);
        let raw = u32::from_str_radix(&number.to_string(), 16).unwrap() | u32::from(minus) << 23;
        let words = [(raw >> 16) as u16, (raw & 0xFFFF) as u16];
        let sign = if minus { -1.0 } else { 1.0 };
        let expected = sign * f64::from(number);
        prop_assert_eq!(kilowatts.decode(&words), Ok(Value::Number(expected)));
    }

    #[test]
    fn every_single_is_read_as_its_shortest_decimal(bits: u32, power in -6i32..=6) {
        let scale = Scale::of(&[10f64.powi(power)], 1.0).unwrap();
        let float = item(Table::Input, 0, Form::F32, Order::Abcd, scale);
        let number = f32::from_bits(bits);
        let words = [(bits >> 16) as u16, (bits & 0xFFFF) as u16];
        let expected = if number.is_finite() {
            let (digits, exponent) = format!("{number:e}").split_once('e')
                .map(|(digits, exponent)| (digits.to_owned(), exponent.parse::<i32>().unwrap()))
                .unwrap();
            Ok(Value::Number(format!("{digits}e{}", exponent + power).parse().unwrap()))
        } else {
            Err(Unavailable::Sentinel)
        };
        prop_assert_eq!(float.decode(&words), expected);
    }

    #[test]
    fn no_reply_makes_decoding_panic(
        device in devices(),
        words in prop::collection::vec(any::<u16>(), 0..150),
        block in (0usize..7, any::<u16>(), any::<u16>()),
    ) {
        let block = Block { table: TABLES[block.0], start: block.1, count: block.2 };
        let all: Vec<usize> = (0..device.items.len() + 3).collect();
        let mut batches = coalesce(&device, &all, &Holes::default());
        batches.push(Batch { block, items: all });
        let bits: Vec<bool> = words.iter().map(|word| word & 1 == 1).collect();
        for batch in &batches {
            for reply in [Words::Registers(&words), Words::Bits(&bits)] {
                let read = decode(&device, batch, reply);
                let known = batch.items.iter().filter(|&&at| at < device.items.len()).count();
                prop_assert_eq!(read.len(), known);
                if reply.len() != usize::from(batch.block.count) {
                    prop_assert!(read.iter().all(|(_, m)| *m == Err(Unavailable::Garbled)));
                }
            }
        }
    }
}

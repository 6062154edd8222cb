//! Frames that others have printed or sent, and whatever else may come.
//!
//! The meter's label and its address frames are from a DDSU666 manual; the values were read from
//! the `dlt645` 3.2.0 server of PyPI. The wire address 12 34 56 78 10 12 is label 121078563412.

use proptest::prelude::*;

use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

fn label() -> Address {
    "121078563412".parse().unwrap()
}

fn read(answer: &str, identifier: u32) -> Result<Vec<u8>, NoValue> {
    let (frame, _) = cut(&bytes(answer)).unwrap();
    value(&frame, label(), Identifier::Of2007(identifier)).map(<[u8]>::to_vec)
}

#[test]
fn requests_are_those_of_the_manual() {
    assert_eq!(address_request(), bytes("FE FE FE FE 68 AA AA AA AA AA AA 68 13 00 DF 16"));
    assert_eq!(
        read_request(label(), Identifier::Of2007(0x0001_0000)),
        bytes("FE FE FE FE 68 12 34 56 78 10 12 68 11 04 33 33 34 33 E8 16")
    );
    assert_eq!(Identifier::Of2007(0).request_bytes(), 20);
}

#[test]
fn a_meter_tells_its_label() {
    let answer = bytes("68 35 44 02 19 12 18 68 93 06 68 77 35 4C 45 4B 17 16");
    let (frame, used) = cut(&answer).unwrap();
    assert_eq!(used, answer.len());
    assert_eq!(told_address(&frame).unwrap().to_string(), "181219024435");
    assert_eq!(frame.address, told_address(&frame).unwrap());
}

#[test]
fn values_are_those_that_a_server_sent() {
    let energy = "FE FE 68 12 34 56 78 10 12 68 91 08 33 33 34 33 89 67 45 33 D4 16";
    assert_eq!(words(&read(energy, 0x0001_0000).unwrap()), [0x0012, 0x3456]);
    let volts = "68 12 34 56 78 10 12 68 91 06 33 34 34 35 34 56 F7 16";
    assert_eq!(words(&read(volts, 0x0201_0100).unwrap()), [0x2301]);
    let amperes = "68 12 34 56 78 10 12 68 91 07 33 34 35 35 33 88 33 5D 16";
    assert_eq!(words(&read(amperes, 0x0202_0100).unwrap()), [0x0000, 0x5500]);
    let watts = "68 12 34 56 78 10 12 68 91 07 33 33 36 35 78 56 34 71 16";
    assert_eq!(words(&read(watts, 0x0203_0000).unwrap()), [0x0001, 0x2345]);
}

#[test]
fn a_refusal_is_no_value_and_no_silence() {
    let refused = "68 12 34 56 78 10 12 68 D1 01 35 0D 16";
    assert_eq!(read(refused, 0x0208_0000), Err(NoValue::Refused(2)));
}

#[test]
fn the_answer_to_another_question_is_no_answer() {
    let energy = bytes("68 12 34 56 78 10 12 68 91 08 33 33 34 33 89 67 45 33 D4 16");
    let (frame, _) = cut(&energy).unwrap();
    let other = |address: Address, identifier| value(&frame, address, identifier);
    let asked = Identifier::Of2007(0x0001_0000);
    assert!(other(label(), asked).is_ok());
    assert!(other(Address::ANY, asked).is_ok());
    let neighbour = "121078563413".parse().unwrap();
    assert_eq!(other(neighbour, asked), Err(NoValue::Other));
    assert_eq!(other(label(), Identifier::Of2007(0x0002_0000)), Err(NoValue::Other));
    assert_eq!(other(label(), Identifier::Of1997(0x9010)), Err(NoValue::Other));
    let request = Frame { control: READ, ..frame.clone() };
    assert_eq!(value(&request, label(), asked), Err(NoValue::Other));
    let part = Frame { control: FROM_METER | MORE | READ, ..frame.clone() };
    assert_eq!(value(&part, label(), asked), Err(NoValue::Other));
}

#[test]
fn the_edition_of_1997_has_short_identifiers() {
    let request = read_request(label(), Identifier::Of1997(0x9010));
    // 68h twice, the address, 01h, 02h, 43h and C3h add up to 11Eh modulo 256 (by hand).
    let sum: u32 =
        [0x68, 0x12, 0x34, 0x56, 0x78, 0x10, 0x12, 0x68, 0x01, 0x02, 0x43, 0xC3].iter().sum();
    assert_eq!(
        request[4..],
        bytes(&format!("68 12 34 56 78 10 12 68 01 02 43 C3 {:02X} 16", sum % 256))
    );
    let answer = wrap(label(), 0x81, &[0x10, 0x90, 0x56, 0x34, 0x12, 0x00]);
    let (frame, _) = cut(&answer).unwrap();
    let found = value(&frame, label(), Identifier::Of1997(0x9010)).unwrap();
    assert_eq!(words(found), [0x0012, 0x3456]);
}

#[test]
fn addresses_are_twelve_digits() {
    for wrong in ["", "12345678901", "1234567890123", "12345678901A", "AAAAAAAAAAAA", "१२३४"]
    {
        assert_eq!(wrong.parse::<Address>(), Err(NoAddress), "{wrong}");
    }
    assert!(!Address::ANY.is_decimal());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(noise in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Some((frame, used)) = cut(&noise) {
            prop_assert!(used <= noise.len());
            prop_assert!(frame.data.len() <= 255);
            value(&frame, Address::ANY, Identifier::Of2007(0)).ok();
            told_address(&frame);
            words(&frame.data);
        }
    }

    #[test]
    fn a_frame_is_found_after_noise_and_byte_by_byte(
        noise in prop::collection::vec(any::<u8>().prop_filter("no start", |b| *b != 0x68), 0..40),
        data in prop::collection::vec(any::<u8>(), 0..=255),
        after in prop::collection::vec(any::<u8>(), 0..40),
        control: u8,
    ) {
        let frame = wrap(label(), control, &data);
        let mut line = noise.clone();
        for &byte in &frame {
            prop_assert_eq!(cut(&line), None, "half a frame is none");
            line.push(byte);
        }
        line.extend(&after);
        let (found, used) = cut(&line).unwrap();
        prop_assert_eq!(used, noise.len() + frame.len());
        prop_assert_eq!(found, Frame { address: label(), control, data });
    }

    #[test]
    fn merged_frames_are_cut_one_by_one(values in prop::collection::vec(any::<[u8; 4]>(), 1..6)) {
        let line: Vec<u8> =
            values.iter().flat_map(|value| wrap(label(), 0x91, value)).collect();
        let mut rest = line.as_slice();
        for value in &values {
            let (frame, used) = cut(rest).unwrap();
            prop_assert_eq!(&frame.data, value);
            rest = &rest[used..];
        }
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn one_wrong_byte_is_never_taken_for_the_value(
        at in 0usize..20,
        wrong: u8,
    ) {
        let mut answer = bytes("68 12 34 56 78 10 12 68 91 08 33 33 34 33 89 67 45 33 D4 16");
        prop_assume!(answer[at] != wrong);
        answer[at] = wrong;
        let asked = Identifier::Of2007(0x0001_0000);
        if let Some((frame, _)) = cut(&answer) {
            prop_assert!(value(&frame, label(), asked).is_err());
        }
    }
}

//! Where a value lies, as a profile writes it: `input:0x000C`, `di:00010000`, `drive:1`.

use super::toml_reader::{At, Reader, Section, nearest};
use crate::modbus::{Form, Protocol, Table};

/// The words in front of an address.
const WORDS: &[&str] = &["coil", "discrete", "input", "holding", "di", "drive"];

/// The table and address, or what is wrong and what to write instead.
pub(super) fn parse_place(text: &str) -> Result<(Table, u16), (String, String)> {
    let Some((word, address)) = text.split_once(':') else {
        let hint = "write \"input:0x000C\"".to_owned();
        return Err((format!("\"{text}\" is no table and address"), hint));
    };
    match word {
        "di" => return identifier(address),
        "drive" => return drive(address),
        _ => {}
    }
    let Some(table) = Table::ALL.into_iter().find(|table| table.word() == word) else {
        let hint = nearest(word, WORDS).map_or_else(
            || format!("one of {}", WORDS.join(", ")),
            |near| format!("did you mean \"{near}\"?"),
        );
        return Err((format!("there is no table \"{word}\""), hint));
    };
    let digits = address.strip_prefix("0x").map_or((address, 10), |hex| (hex, 16));
    match u16::from_str_radix(digits.0, digits.1) {
        Ok(address) if !digits.0.starts_with('+') => Ok((table, address)),
        _ => {
            let hexadecimal = u16::from_str_radix(address, 16).ok();
            let hint = hexadecimal.filter(|_| address.parse::<u32>().is_err()).map_or_else(
                || "0 to 65535, 0-based, decimal or 0x hexadecimal".to_owned(),
                |meant| format!("did you mean \"{}\"?", table.place(meant)),
            );
            Err((format!("\"{address}\" is no address"), hint))
        }
    }
}

/// A data identifier of DL/T 645: eight hexadecimal digits DI3 to DI0, or four of the edition of
/// 1997.
fn identifier(digits: &str) -> Result<(Table, u16), (String, String)> {
    let number = digits
        .bytes()
        .all(|digit| digit.is_ascii_hexdigit())
        .then(|| u32::from_str_radix(digits, 16).ok())
        .flatten();
    let halves = |number: u32| ((number >> 16) as u16, (number & 0xFFFF) as u16);
    match (digits.len(), number.map(halves)) {
        (8, Some((class, address))) => Ok((Table::Identifier(class), address)),
        (4, Some((_, address))) => Ok((Table::Identifier1997, address)),
        _ => {
            let hint = "eight hexadecimal digits, \"di:00010000\"; four for DL/T 645-1997";
            Err((format!("\"{digits}\" is no data identifier"), hint.to_owned()))
        }
    }
}

/// A status value of a Huanyang drive.
fn drive(number: &str) -> Result<(Table, u16), (String, String)> {
    match number.parse() {
        Ok(number @ 0..=crate::huanyang::STATUS_MAX) => Ok((Table::Drive, number)),
        _ => {
            let hint = format!("0 to {}", crate::huanyang::STATUS_MAX);
            Err((format!("\"{number}\" is no status value of a drive"), hint))
        }
    }
}

/// Data identifiers hold decimal digits, a drive's status values are registers.
pub(super) fn fits_protocol(
    reader: &mut Reader<'_>,
    section: Section<'_, '_>,
    table: Table,
    form: Form,
) {
    let digits = matches!(form, Form::Bcd { .. });
    let message = match table.protocol() {
        Protocol::Dlt645 | Protocol::Dlt645Of1997 if !digits => {
            "an identifier holds decimal digits: bcd2 to bcd4, sbcd2 to sbcd4 with a sign"
        }
        Protocol::Huanyang if !matches!(form, Form::U16 | Form::I16) => {
            "a drive's status value is u16 or i16"
        }
        _ => return,
    };
    reader.problem(section.at, "item.type", message, None);
}

/// `scale_register = "holding:40075"`: in the table of the number.
pub(super) fn scale_register(
    reader: &mut Reader<'_>,
    section: Section<'_, '_>,
    table: Table,
    form: Form,
) -> Option<u16> {
    let At { at, value } = section.text(reader, "scale_register")?;
    let key = "item.scale_register";
    let usable = matches!(table, Table::Input | Table::Holding) && !form.is_flag();
    match parse_place(value) {
        Ok((place, address)) if usable && place == table => return Some(address),
        Ok(_) if !usable => reader.problem(at, key, "only for a number in registers", None),
        Ok(_) => reader.problem(at, key, "must be in the table of the number", None),
        Err((message, hint)) => reader.problem(at, key, message, Some(hint)),
    }
    None
}

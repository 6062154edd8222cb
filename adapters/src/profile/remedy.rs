//! What an item may have been meant to be, when an example reads another value than it should: a
//! hint for a person, tried out on the example's own registers. It changes nothing.

use andon_engine::value::{Measured, Value};

use super::ProfileItem;
use super::check::TYPES;
use super::examples::{Registers, alike, decode_in};
use crate::modbus::{Encoding, Order};

/// Powers of ten that a scale or a unit is forgotten by, at most.
const POWER_MAX: i32 = 9;

/// What would make the item read `expected`; nothing where no small change does.
pub(super) fn remedy(
    item: &ProfileItem,
    registers: Registers<'_>,
    expected: &Measured,
    found: &Measured,
) -> Option<String> {
    power_of_ten(expected, found).or_else(|| encoding(item, registers, expected))
}

/// `10 times too small`.
fn power_of_ten(expected: &Measured, found: &Measured) -> Option<String> {
    let (Ok(Value::Number(expected)), Ok(Value::Number(found))) = (expected, found) else {
        return None;
    };
    let power = (1..=POWER_MAX).flat_map(|power| [power, -power]).find(|&power| {
        let scaled = Ok(Value::Number(found * 10f64.powi(power)));
        *found != 0.0 && alike(&Ok(Value::Number(*expected)), &scaled)
    })?;
    let way = if power > 0 { "small" } else { "large" };
    let factor = 10f64.powi(power.abs());
    Some(format!("{factor} times too {way}: is it scale, divide_by or unit?"))
}

/// Another order of the same number, else another type of the same width.
fn encoding(item: &ProfileItem, registers: Registers<'_>, expected: &Measured) -> Option<String> {
    let fits = |encoding: Encoding| {
        let other = ProfileItem { encoding, ..item.clone() };
        decode_in(&other, registers).is_some_and(|found| alike(expected, &found))
    };
    let Encoding { form, order } = item.encoding;
    if form.is_flag() {
        return None;
    }
    let orders = || Order::ALL.into_iter();
    if let Some((word, _)) = orders().find(|&(_, order)| fits(Encoding { form, order })) {
        return Some(format!("with order = \"{word}\" it would"));
    }
    let forms = || TYPES.iter().filter(|(_, it)| it.width() == form.width() && !it.is_flag());
    if let Some((word, _)) = forms().find(|&&(_, form)| fits(Encoding { form, order })) {
        return Some(format!("as type = \"{word}\" it would"));
    }
    forms().find_map(|&(word, form)| {
        let (by, _) = orders().find(|&(_, order)| fits(Encoding { form, order }))?;
        Some(format!("as type = \"{word}\" with order = \"{by}\" it would"))
    })
}

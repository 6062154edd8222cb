//! One item for a person: what it is believed to be, and everything from the register or message that
//! it comes from to the rules that look at it. Pure.

use std::fmt::Write as _;

use andon_engine::unit::Unit as Symbol;

use crate::bus::Fault;
use crate::cli::asking::{lasting, plain, reason};
use crate::cli::read::cause;
use crate::diagnostics::{Explanation, Heard, Origin, Refused, Register, Requests, Unit, Watchers};

/// The explanation for a person.
pub(super) fn text(it: &Explanation) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{}.{} = {}", it.machine, it.item, believed(it));
    let mut line = |name: &str, said: &str| {
        let _ = writeln!(out, "  {name:<10} {}", plain(said));
    };
    line(
        "period",
        &format!("{}, stale after {}", lasting(it.period_ms), lasting(it.stale_after_ms)),
    );
    line("reports", &reports(&it.heard));
    if let Some(last) = &it.heard.last_failure {
        line("failed", &format!("{}, {} ago", reason(last.why.word()), lasting(last.age_ms)));
    }
    match &it.origin {
        None => line("from", "nothing: no source feeds it"),
        Some(Origin::Register(register)) => from_register(register, &mut line),
        Some(Origin::Device { device, title, item }) => {
            line("from", &format!("{}.{item} ({title})", device.source));
            let why = device.why.as_ref().map_or(String::new(), |why| format!(": {why}"));
            line("device", &format!("{}{why}, {} errors", device.state, device.errors));
            line("heard", &last_answer(device.last_answer_age_ms));
        }
    }
    watchers(&it.watchers, &mut line);
    out
}

pub(super) fn believed(it: &Explanation) -> String {
    let age = it.heard.age_ms.map_or(String::new(), |ms| format!(", {} old", lasting(ms)));
    match (&it.heard.value, it.heard.why) {
        (Some(value), _) => {
            plain(&format!("{value} {}", shown(&it.unit))).trim_end().to_owned() + &age
        }
        (None, Some(why)) => format!("no value: {}{age}", reason(why.word())),
        (None, None) => format!("no value{age}"),
    }
}

/// A unit for people: a share of one is written without.
fn shown(unit: &str) -> &str {
    if unit == Symbol::Ratio.symbol() { "" } else { unit }
}

fn reports(heard: &Heard) -> String {
    let failed: u64 = heard.failures.values().sum();
    let mut said = format!("{} with a value, {failed} without since the start", heard.values);
    if failed > 0 {
        let by: Vec<String> =
            heard.failures.iter().map(|(why, n)| format!("{} {n}", reason(why))).collect();
        let _ = write!(said, " ({})", by.join(", "));
    }
    said
}

fn from_register(it: &Register, line: &mut impl FnMut(&str, &str)) {
    let unit = &it.unit;
    line(
        "from",
        &format!("{}.{} (unit {}, profile {})", unit.source, it.item, unit.unit_id, it.profile),
    );
    let down = it.bus_down.as_ref().map_or(String::new(), |why| format!(", DOWN: {why}"));
    line("bus", &format!("{}{down}", it.bus));
    let why = unit.why.as_ref().map_or(String::new(), |why| format!(" ({})", reason(why)));
    let again =
        unit.asked_again_ms.map_or(String::new(), |ms| format!(", asked again in {}", lasting(ms)));
    let standing = reason(&unit.standing);
    line("unit", &format!("{standing}{why}, {}{again}", last_answer(unit.last_answer_age_ms)));
    if matches!(&*unit.standing, "quarantined" | "slow") {
        line("check", &advice(unit));
    }
    line("requests", &requests(&unit.requests));
    let mut form = format!("{}, {} register(s) of {}", it.place, it.registers, it.form);
    if it.registers > 1 {
        let _ = write!(form, " {}", it.order);
    }
    line("register", &form);
    let mut scale = format!("× {}", it.scale);
    if let Some(register) = it.scale_register {
        let _ = write!(scale, " × 10^(register 0x{register:04X})");
    }
    if (it.ratio - 1.0).abs() > f64::EPSILON {
        let _ = write!(scale, " × {} (transformer ratio)", it.ratio);
    }
    if let Some([low, high]) = it.span {
        let _ = write!(scale, ", 4 mA is {low}, 20 mA is {high}");
    }
    line("scale", &scale);
    if let Some(refused) = &it.refused {
        refusal(refused, line);
    }
    match &it.raw {
        Some(raw) => {
            let before = if raw.place == it.place { "" } else { &*raw.place };
            let said = format!("{before} {}, {} ago", raw.words.join(" "), lasting(raw.age_ms));
            line("raw", said.trim_start());
        }
        None => line("raw", "nothing read yet"),
    }
    if let (Some(age), Some(periods)) = (it.worst_age_ms, it.worst_age_periods) {
        let age = lasting(age);
        line("worst age", &format!("{age} in the last minute, {periods:.1} of its periods"));
    }
}

/// What to look at where a unit is silent, as the answer to `andon read` has it, or slow.
fn advice(unit: &Unit) -> String {
    let id = &unit.unit_id;
    if &*unit.standing == "slow" {
        let needs = lasting(unit.turnaround_ms.unwrap_or(unit.allowance_ms) as u64);
        return format!(
            "it needs some {needs} before it answers, so it is read rarely; a longer turnaround in \
             the section of its bus lets it take the line from the others"
        );
    }
    match unit.why.as_deref() {
        Some("garbled") => format!(
            "speed and parity of the line, termination, and that no other device is unit {id}"
        ),
        _ => {
            let look = format!(
                "address (is it unit {id}?), wiring (A and B, both ends), power; then speed and parity"
            );
            if unit.last_answer_age_ms.is_some() {
                return look;
            }
            let waits = lasting(unit.allowance_ms as u64);
            format!(
                "{look}; one that needs more than {waits} before it answers wants a longer \
                 turnaround in the section of its bus"
            )
        }
    }
}

/// Which registers a device refuses, and when it is asked for them.
fn refusal(it: &Refused, line: &mut impl FnMut(&str, &str)) {
    line("refused", &format!("{} alone: {}", it.block, cause(Fault::Exception(it.exception))));
    let again = match it.again_ms {
        0 => "again with its next round".to_owned(),
        ms => format!("again in {}", lasting(ms)),
    };
    line(
        "asked",
        &format!(
            "last {} ago, {again}; in between each round reports the refusal without asking",
            lasting(it.age_ms)
        ),
    );
    line(
        "hole",
        if it.remembered {
            "remembered over restarts: other registers are read around it"
        } else {
            "not remembered: the next start asks for it again"
        },
    );
}

fn requests(it: &Requests) -> String {
    let mut said = format!("{} answered", it.answered);
    for (count, what) in [
        (it.timeout, "timed out"),
        (it.garbled, "garbled"),
        (it.refused, "refused"),
        (it.parted, "parted at a hole"),
        (it.disconnected, "lost with the port"),
        (it.late, "late"),
        (it.retries, "of these asked again"),
    ] {
        if count > 0 {
            let _ = write!(said, ", {count} {what}");
        }
    }
    said
}

fn last_answer(age: Option<u64>) -> String {
    age.map_or("has never answered".to_owned(), |ms| format!("last answer {} ago", lasting(ms)))
}

fn watchers(it: &Watchers, line: &mut impl FnMut(&str, &str)) {
    for rule in &it.rules {
        let severity = format!("{:?}", rule.severity).to_lowercase();
        let trips = rule.trips.as_ref().map_or(String::new(), |output| format!(", trips {output}"));
        line("rule", &format!("{} ({severity}{trips}): {}", rule.id, rule.message.en));
    }
    if let Some(by) = &it.activity {
        let meaning = it.meaning.as_ref().map_or(String::new(), |words| format!(": {words}"));
        line("activity", &format!("the machine's activity is told from it ({by}){meaning}"));
    }
    if it.energy {
        line("energy", "its differences are the machine's energy");
    }
    for output in &it.proves {
        line("proves", &format!("that {output} has cut"));
    }
    if *it == Watchers::default() {
        line("watched", "by no rule");
    }
}

#[cfg(test)]
mod tests {
    use andon_engine::value::Unavailable;

    use super::super::tests::power;
    use super::*;

    fn register(unit: Unit, refused: Option<Refused>) -> String {
        let mut it = power(0.0);
        it.heard = Heard { why: Some(Unavailable::Refused), age_ms: Some(900), ..Heard::default() };
        it.origin = Some(Origin::Register(Box::new(Register {
            bus: "panel".into(),
            bus_down: None,
            unit,
            profile: "eastron/sdm120".into(),
            item: "power.active".into(),
            place: "input:0x0034".to_owned(),
            table: "input".into(),
            address: 0x34,
            registers: 2,
            form: "f32".to_owned(),
            order: "ABCD".into(),
            scale: 1.0,
            scale_register: None,
            ratio: 1.0,
            span: None,
            raw: None,
            worst_age_ms: refused.is_none().then_some(2600),
            worst_age_periods: refused.is_none().then_some(2.6),
            refused,
        })));
        text(&it)
    }

    #[test]
    fn a_hole_names_its_registers_the_exception_and_when_it_is_asked_for() {
        let refused = Refused {
            block: "input:0x0034+2".to_owned(),
            exception: 2,
            age_ms: 250_000,
            again_ms: 350_000,
            remembered: true,
        };
        let online = Unit { standing: "online".into(), ..Unit::default() };
        let said = register(online.clone(), Some(refused.clone()));
        for words in [
            "input:0x0034+2 alone: refused with exception 2: it has no such register",
            "last 4 min 10 s ago, again in 5 min 50 s; in between",
            "remembered over restarts",
        ] {
            assert!(said.contains(words), "{words}: {said}");
        }
        let soon = Refused { again_ms: 0, remembered: false, ..refused };
        let said = register(online, Some(soon));
        assert!(said.contains("again with its next round"), "{said}");
        assert!(said.contains("not remembered"), "{said}");
    }

    #[test]
    fn a_dead_unit_says_when_it_is_asked_and_what_to_look_at() {
        let dead = Unit {
            unit_id: "7".to_owned(),
            standing: "quarantined".into(),
            why: Some("timeout".into()),
            asked_again_ms: Some(12_000),
            allowance_ms: 500.0,
            ..Unit::default()
        };
        let never = dead.clone();
        let said = register(dead, None);
        assert!(said.contains("has never answered, asked again in 12 s"), "{said}");
        assert!(said.contains("address (is it unit 7?), wiring"), "{said}");
        assert!(said.contains("needs more than 0.5 s before it answers"), "{said}");
        assert!(said.contains("turnaround in the section of its bus"), "{said}");
        let once = Unit { last_answer_age_ms: Some(90_000), ..never };
        assert!(!register(once, None).contains("turnaround"), "it has answered in time");
        assert!(said.contains("worst age  2.6 s in the last minute, 2.6 of its periods"), "{said}");
    }

    #[test]
    fn a_slow_unit_is_told_its_turnaround_and_nothing_of_wires() {
        let slow = Unit {
            standing: "slow".into(),
            turnaround_ms: Some(1210.0),
            asked_again_ms: Some(12_000),
            last_answer_age_ms: Some(9000),
            ..Unit::default()
        };
        let said = register(slow, None);
        assert!(said.contains("slow, last answer 9.0 s ago, asked again in 12 s"), "{said}");
        assert!(said.contains("needs some 1.2 s before it answers"), "{said}");
        assert!(said.contains("a longer turnaround in the section of its bus"), "{said}");
        assert!(!said.contains("wiring"), "{said}");
    }

    #[test]
    fn a_share_of_one_has_no_unit() {
        assert_eq!((shown("1"), shown("W")), ("", "W"));
    }
}

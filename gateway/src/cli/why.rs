//! `andon why MACHINE.ITEM`: one item of a running gateway, from the register or message that it comes
//! from to the rules that look at it. `andon why MACHINE`: why its state is what it is, from the items
//! that it is told from.

use std::fmt::Write as _;

use andon_engine::unit::Unit as Symbol;
use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::Value;

use super::asking::{Gateway, Whereabouts, lasting, plain, reason};
use super::read::cause;
use crate::bus::Fault;
use crate::diagnostics::{Explanation, Heard, Origin, Refused, Register, Requests, Unit, Watchers};

/// Arguments of `andon why`.
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// The machine and its item, laser.power.active; or the machine, for its state
    #[arg(value_name = "MACHINE[.ITEM]")]
    item: String,
    #[command(flatten)]
    whereabouts: Whereabouts,
    /// Print what the gateway answers, as JSON
    #[arg(long)]
    json: bool,
}

/// Asks the running gateway and prints what it answers.
///
/// # Errors
/// When the gateway cannot be reached, or knows no such item; the message names the likest one.
pub async fn run(args: WhyArgs) -> anyhow::Result<()> {
    let gateway = args.whereabouts.gateway()?;
    let Some((machine, item)) = args.item.split_once('.') else {
        return machine(&gateway, &args.item, args.json).await;
    };
    if machine.is_empty() || item.is_empty() {
        bail!("{:?} is no MACHINE.ITEM, such as laser.power.active", args.item);
    }
    let told = gateway.get("why", &[machine, item]).await?;
    if args.json {
        super::say(&told.to_string());
        return Ok(());
    }
    super::say(text(&read(&gateway, told)?).trim_end());
    Ok(())
}

fn read(gateway: &Gateway, told: Value) -> anyhow::Result<Explanation> {
    serde_json::from_value(told)
        .with_context(|| format!("{} explains nothing of this version", gateway.url()))
}

/// Asks for a machine's state and for the items that it is told from.
async fn machine(gateway: &Gateway, id: &str, as_json: bool) -> anyhow::Result<()> {
    let picture = gateway.get("picture", &[]).await?;
    let machines = picture["machines"].as_array().map_or(&[][..], Vec::as_slice);
    let Some(machine) = machines.iter().find(|machine| machine["id"] == id) else {
        // The gateway knows its sources too, and says whose this one is.
        gateway.get("why", &[id, "execution"]).await?;
        bail!("there is no machine {id:?}");
    };
    if as_json {
        super::say(&machine.to_string());
        return Ok(());
    }
    let mut signals = Vec::new();
    for item in machine["activity_from"].as_array().into_iter().flatten().filter_map(Value::as_str)
    {
        signals.push(read(gateway, gateway.get("why", &[id, item]).await?)?);
    }
    super::say(state(id, machine, &signals).trim_end());
    Ok(())
}

/// Why a machine's state is what it is, for a person.
fn state(id: &str, machine: &Value, signals: &[Explanation]) -> String {
    let why = machine["why"].as_str();
    let word = machine["execution"].as_str().unwrap_or("unknown");
    let since = machine["in_state_ms"]
        .as_u64()
        .map_or(String::new(), |ms| format!(", for {}", lasting(ms)));
    let mut out = format!("{id} is {}{since}", plain(word));
    // Writing to a String cannot fail.
    writeln!(out, "{}", why.map_or(String::new(), |why| format!(": {}", reason(why)))).ok();
    if signals.is_empty() {
        writeln!(
            out,
            "  nothing tells what it does; its values are all there is. For a state, write\n  \
             activity = {{ from = \"power.active\", … }} into [machine.{id}]"
        )
        .ok();
    }
    for it in signals {
        writeln!(out, "  told from  {} = {}", it.item, believed(it)).ok();
        if let Some(meaning) = &it.watchers.meaning {
            writeln!(out, "  meaning    {}", plain(meaning)).ok();
        }
    }
    if why == Some("conflict") {
        out.push_str(if signals.len() > 1 {
            "  conflict   one of these says that it runs and the power says that it is off, or the \
             power is\n             far below zero: look which of them is wrong\n"
        } else {
            "  conflict   a power far below zero is no consumption: the meter may be wired the wrong \
             way round,\n             or the machine feeds back\n"
        });
    }
    for it in signals {
        writeln!(out, "  ask        andon why {id}.{}", it.item).ok();
    }
    out
}

/// The explanation for a person.
fn text(it: &Explanation) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    writeln!(out, "{}.{} = {}", it.machine, it.item, believed(it)).ok();
    let mut line = |name: &str, said: &str| {
        writeln!(out, "  {name:<10} {}", plain(said)).ok();
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

fn believed(it: &Explanation) -> String {
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
        write!(said, " ({})", by.join(", ")).ok();
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
    if &*unit.standing == "quarantined" {
        line("check", &advice(unit));
    }
    line("requests", &requests(&unit.requests));
    let mut form = format!("{}, {} register(s) of {}", it.place, it.registers, it.form);
    if it.registers > 1 {
        write!(form, " {}", it.order).ok();
    }
    line("register", &form);
    let mut scale = format!("× {}", it.scale);
    if let Some(register) = it.scale_register {
        write!(scale, " × 10^(register 0x{register:04X})").ok();
    }
    if (it.ratio - 1.0).abs() > f64::EPSILON {
        write!(scale, " × {} (transformer ratio)", it.ratio).ok();
    }
    if let Some([low, high]) = it.span {
        write!(scale, ", 4 mA is {low}, 20 mA is {high}").ok();
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
}

/// What to look at where a unit is silent, as the answer to `andon read` has it.
fn advice(unit: &Unit) -> String {
    let id = &unit.unit_id;
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
            write!(said, ", {count} {what}").ok();
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
    use serde_json::json;

    use super::*;
    use andon_engine::value::{Unavailable, Value as Believed};

    fn power(watts: f64) -> Explanation {
        Explanation {
            v: 1,
            machine: "mains".into(),
            item: "power.active".into(),
            kind: "gauge".into(),
            unit: "W".into(),
            period_ms: 1000,
            stale_after_ms: 5000,
            heard: Heard { value: Some(Believed::Number(watts)), ..Heard::default() },
            origin: None,
            watchers: Watchers {
                meaning: Some("off below 15 W".to_owned()),
                ..Watchers::default()
            },
        }
    }

    #[test]
    fn a_state_that_is_told_from_nothing_says_what_to_write() {
        let machine = json!({ "execution": "unknown", "why": null, "in_state_ms": 12_000 });
        let said = state("mains", &machine, &[]);
        assert!(said.starts_with("mains is unknown, for 12"), "{said}");
        assert!(said.contains("into [machine.mains]"), "{said}");
    }

    #[test]
    fn a_state_names_its_signal_what_it_means_and_what_contradicts() {
        let machine = json!({ "execution": "unknown", "why": "conflict", "in_state_ms": 900 });
        let said = state("mains", &machine, &[power(-2734.5)]);
        for words in
            [": conflict\n", "power.active = -2734.5 W", "off below 15 W", "wrong way round"]
        {
            assert!(said.contains(words), "{words}: {said}");
        }
        assert!(said.contains("andon why mains.power.active"), "{said}");
    }

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
    }

    #[test]
    fn a_machine_that_nobody_heard_of_yet_says_so_in_words() {
        let machine = json!({ "execution": "unknown", "why": "not_yet", "in_state_ms": 900 });
        let said = state("mill", &machine, &[power(0.0)]);
        assert!(said.contains(": nothing heard yet\n"), "{said}");
    }

    #[test]
    fn a_share_of_one_has_no_unit() {
        assert_eq!((shown("1"), shown("W")), ("", "W"));
    }
}

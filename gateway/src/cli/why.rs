//! `andon why MACHINE.ITEM`: one item of a running gateway, from the register or message that it comes
//! from to the rules that look at it.

use std::fmt::Write as _;

use anyhow::Context as _;
use clap::Args;

use super::asking::{Whereabouts, lasting, plain};
use crate::diagnostics::{Explanation, Heard, Origin, Register, Requests, Watchers};

/// Arguments of `andon why`.
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// The machine and its item: laser.power.active
    #[arg(value_name = "MACHINE.ITEM")]
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
    let (machine, item) = args
        .item
        .split_once('.')
        .filter(|(machine, item)| !machine.is_empty() && !item.is_empty())
        .with_context(|| {
            format!("{:?} is no MACHINE.ITEM, such as laser.power.active", args.item)
        })?;
    let gateway = args.whereabouts.gateway()?;
    let told = gateway.get("why", &[machine, item]).await?;
    if args.json {
        super::say(&told.to_string());
        return Ok(());
    }
    let explanation: Explanation = serde_json::from_value(told)
        .with_context(|| format!("{} explains nothing of this version", gateway.url()))?;
    super::say(text(&explanation).trim_end());
    Ok(())
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
        line("failed", &format!("{}, {} ago", last.why.word(), lasting(last.age_ms)));
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
        (Some(value), _) => plain(&format!("{value} {}", it.unit)).trim_end().to_owned() + &age,
        (None, Some(why)) => format!("no value: {}{age}", why.word()),
        (None, None) => format!("no value{age}"),
    }
}

fn reports(heard: &Heard) -> String {
    let failed: u64 = heard.failures.values().sum();
    let mut said = format!("{} with a value, {failed} without since the start", heard.values);
    if failed > 0 {
        let by: Vec<String> = heard.failures.iter().map(|(why, n)| format!("{why} {n}")).collect();
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
    let why = unit.why.as_ref().map_or(String::new(), |why| format!(" ({why})"));
    line("unit", &format!("{}{why}, {}", unit.standing, last_answer(unit.last_answer_age_ms)));
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
    match &it.raw {
        Some(raw) => {
            let before = if raw.place == it.place { "" } else { &*raw.place };
            let said = format!("{before} {}, {} ago", raw.words.join(" "), lasting(raw.age_ms));
            line("raw", said.trim_start());
        }
        None => line("raw", "nothing read yet"),
    }
}

fn requests(it: &Requests) -> String {
    let mut said = format!("{} answered", it.answered);
    for (count, what) in [
        (it.timeout, "timed out"),
        (it.garbled, "garbled"),
        (it.refused, "refused"),
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
        line("activity", &format!("the machine's activity is told from it ({by})"));
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

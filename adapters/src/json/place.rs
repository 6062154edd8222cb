//! Where a value is found, and what it means there:
//!
//! ```text
//! place    = [ topic ":" ] path [ "*" number ] meaning
//! topic    = what follows the source's topic, without the slash: SENSOR, status/switch:0
//! path     = keys with dots, places in lists in brackets: ENERGY.Power[1], or "." for a payload
//!            that is a bare number or word; keys with other characters in quotes: "em:0".power
//! meaning  = unit | on "/" off | word "=" execution … | nothing
//! ```
//!
//! `ENERGY.Total kWh` · `relay/0/power:. W` · `co2 ppm` · `humidity %` · `raw * 0.1 A` ·
//! `STATE:POWER ON/OFF` · `state idle=ready cutting=running` · `job.file`
//!
//! A number needs the unit that it is in; the unit must be one of the item's quantity, so nobody
//! takes kilowatts for watts. Bounds: [`PATH_MAX`] steps, [`WORDS_MAX`] words.

use std::sync::Arc;

use andon_engine::event::Execution;
use andon_engine::item::{Item, Kind};
use andon_engine::unit::Unit;
use andon_engine::value::{Measured, Unavailable, Value as Said};
use serde_json::Value;

use crate::device::clean;
use crate::document;

/// Steps of a path.
pub const PATH_MAX: usize = 16;
/// Words that an execution is mapped from.
pub const WORDS_MAX: usize = 64;

/// A step into a document.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

/// What a value means.
#[derive(Clone, Debug, PartialEq)]
enum Meaning {
    /// A number, times this.
    Number(f64),
    /// A flag, by these words beside true and false, 1 and 0.
    Flag { on: String, off: String },
    /// An execution, by these words.
    Execution(Vec<(String, Execution)>),
    /// Words, verbatim.
    Text,
}

/// An item and where it is found.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// The item.
    pub item: Arc<str>,
    suffix: String,
    path: Vec<Step>,
    meaning: Meaning,
}

impl Place {
    /// Reads what a configuration says of an item.
    ///
    /// # Errors
    /// What is wrong with it, and what to write.
    pub fn parse(item: &str, text: &str) -> Result<Self, String> {
        let item = Item::named(item).map_err(|unknown| unknown.to_string())?;
        let (suffix, rest) = split_suffix(text);
        let suffix = suffix.trim().trim_matches('/');
        if suffix.contains(['+', '#', '\0']) {
            return Err(format!("the topic \"{suffix}\" must be without + and #"));
        }
        let (path, rest) = path(rest.trim())?;
        let meaning = meaning(&item, rest.trim())?;
        Ok(Self { item: item.name, suffix: suffix.to_owned(), path, meaning })
    }

    /// The whole topic of a device at `topic`.
    pub fn topic(&self, topic: &str) -> String {
        if self.suffix.is_empty() { topic.to_owned() } else { format!("{topic}/{}", self.suffix) }
    }

    /// The path, for people.
    pub fn path(&self) -> String {
        let mut path = String::new();
        for step in &self.path {
            match step {
                Step::Key(key) if path.is_empty() => path.push_str(key),
                Step::Key(key) => path.extend([".", key]),
                Step::Index(index) => path.push_str(&format!("[{index}]")),
            }
        }
        path
    }

    /// What stands there, when something does.
    pub fn find<'a>(&self, document: &'a Value) -> Option<&'a Value> {
        self.path.iter().try_fold(document, |value, step| match step {
            Step::Key(key) => value.get(key),
            Step::Index(index) => value.get(index),
        })
    }

    /// What it means.
    pub fn read(&self, value: &Value) -> Measured {
        if value.is_null() {
            return Err(Unavailable::Sentinel);
        }
        let measured = match &self.meaning {
            Meaning::Number(factor) => return document::measured(value, *factor),
            Meaning::Flag { on, off } => flag(value, on, off).map(Said::Flag),
            Meaning::Execution(words) => value.as_str().and_then(|word| {
                let (_, execution) = words.iter().find(|(known, _)| known == word)?;
                Some(Said::Text(execution.word().into()))
            }),
            Meaning::Text => match value {
                Value::String(text) => Some(Said::Text(clean(text).into())),
                Value::Number(number) => Some(Said::Text(number.to_string().into())),
                _ => None,
            },
        };
        measured.ok_or(Unavailable::Garbled)
    }
}

/// Splits at the last colon outside of quotes.
fn split_suffix(text: &str) -> (&str, &str) {
    let mut quoted = false;
    let mut colon = None;
    for (at, character) in text.char_indices() {
        match character {
            '"' => quoted = !quoted,
            ':' if !quoted => colon = Some(at),
            _ => {}
        }
    }
    colon.map_or(("", text), |at| (&text[..at], &text[at + 1..]))
}

/// Reads a path; returns what follows it.
fn path(text: &str) -> Result<(Vec<Step>, &str), String> {
    if let Some(rest) = text.strip_prefix('.').filter(|rest| !rest.starts_with(is_of_a_key)) {
        return Ok((Vec::new(), rest));
    }
    let (mut steps, mut rest) = (Vec::new(), text);
    loop {
        if let Some(after) = rest.strip_prefix('"') {
            let (key, after) = after.split_once('"').ok_or("a quote is not closed")?;
            steps.push(Step::Key(key.to_owned()));
            rest = after;
        } else {
            let end = rest.find(|c| !is_of_a_key(c)).unwrap_or(rest.len());
            if end == 0 {
                return Err(format!(
                    "\"{text}\" does not begin with a path, like ENERGY.Power or phases[0].power; \
                     write . for a payload that is a bare number"
                ));
            }
            steps.push(Step::Key(rest[..end].to_owned()));
            rest = &rest[end..];
        }
        while let Some(after) = rest.strip_prefix('[') {
            let index = after
                .split_once(']')
                .and_then(|(index, after)| Some((index.trim().parse().ok()?, after)));
            let (index, after) =
                index.ok_or("a place in a list is a number in brackets, like [0]")?;
            steps.push(Step::Index(index));
            rest = after;
        }
        if steps.len() > PATH_MAX {
            return Err(format!("the path has more than {PATH_MAX} steps"));
        }
        match rest.strip_prefix('.') {
            Some(after) => rest = after,
            None => return Ok((steps, rest)),
        }
    }
}

fn is_of_a_key(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | '-' | '$')
}

fn meaning(item: &Item, text: &str) -> Result<Meaning, String> {
    match item.kind {
        Kind::Gauge | Kind::Counter => number(item, text),
        Kind::Flag => {
            let words = if text.is_empty() { "ON/OFF" } else { text };
            let pair = words.split_once('/').map(|(on, off)| (on.trim(), off.trim()));
            match pair {
                Some((on, off)) if on != off && !on.is_empty() && !off.is_empty() => {
                    Ok(Meaning::Flag { on: on.to_owned(), off: off.to_owned() })
                }
                _ => Err(format!("\"{text}\" is not two words like ON/OFF")),
            }
        }
        Kind::Text if &*item.name == "execution" => executions(text),
        Kind::Text if text.is_empty() => Ok(Meaning::Text),
        Kind::Text => Err(format!("\"{text}\" follows the path, but {} is words", item.name)),
    }
}

fn number(item: &Item, text: &str) -> Result<Meaning, String> {
    let (factor, symbol) = match text.strip_prefix('*') {
        None => (1.0, text),
        Some(rest) => {
            let rest = rest.trim_start();
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            let factor: Option<f64> = rest[..end].parse().ok().filter(|f: &f64| f.is_finite());
            let factor = factor.filter(|factor| *factor != 0.0);
            (factor.ok_or("after * belongs a number, like * 0.1 A")?, rest[end..].trim())
        }
    };
    let belongs = match item.unit {
        Unit::None => "nothing",
        Unit::Ratio => "% or nothing",
        unit => unit.symbol(),
    };
    let hint = || format!("write the unit that the device sends, of {belongs}");
    let (unit, to_canonical) =
        Unit::of_spelling(symbol).ok_or_else(|| format!("\"{symbol}\" is no unit; {}", hint()))?;
    let plain_ratio = item.unit == Unit::Ratio && unit == Unit::None;
    if unit == item.unit || plain_ratio {
        return Ok(Meaning::Number(factor * to_canonical));
    }
    Err(match unit {
        Unit::None => format!("there is no unit; {}", hint()),
        _ => format!("\"{symbol}\" is no unit of {}; {}", item.name, hint()),
    })
}

fn executions(text: &str) -> Result<Meaning, String> {
    let mut words = Vec::new();
    for pair in text.split_whitespace() {
        if words.len() == WORDS_MAX {
            return Err(format!("there are more than {WORDS_MAX} words"));
        }
        let known = pair.rsplit_once('=').and_then(|(word, execution)| {
            let execution = Execution::ALL.into_iter().find(|known| known.word() == execution)?;
            Some((word.to_owned(), execution)).filter(|_| execution != Execution::Unknown)
        });
        words.push(known.ok_or_else(|| {
            let all: Vec<&str> = Execution::ALL[..8].iter().map(|known| known.word()).collect();
            format!("\"{pair}\" is not word=execution with one of {}", all.join(", "))
        })?);
    }
    if words.is_empty() {
        return Err("say what the device's words mean: idle=ready run=running".to_owned());
    }
    Ok(Meaning::Execution(words))
}

fn flag(value: &Value, on: &str, off: &str) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::String(word) if word == on => Some(true),
        Value::String(word) if word == off => Some(false),
        Value::String(word) if word == "true" => Some(true),
        Value::String(word) if word == "false" => Some(false),
        value => match document::number(value)? {
            1.0 => Some(true),
            0.0 => Some(false),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(item: &str, text: &str, document: &Value) -> Measured {
        let place = Place::parse(item, text).unwrap();
        place.find(document).map_or(Err(Unavailable::NotYet), |value| place.read(value))
    }

    #[test]
    fn places_are_found_and_their_values_are_in_our_units() {
        let document = json!({
            "ENERGY": { "Power": [0.5, 1.25], "Total": "3.5" }, "em:0": { "a b": 7 },
            "raw": 153, "rh": 44.5, "pf": 0.98, "POWER": "ON", "out": 1, "job": "vase",
            "n": null, "state": "cutting", "t-x": 21.5
        });
        let number = |number: f64| Ok(Said::Number(number));
        for (item, text, expected) in [
            ("power.active", "ENERGY.Power[1] kW", number(1250.0)),
            ("energy.import", "ENERGY.Total kWh", number(3500.0)),
            ("power.active", r#""em:0"."a b" W"#, number(7.0)),
            ("current", "raw * 0.1 A", number(15.3)),
            ("humidity", "rh %", number(0.445)),
            ("power.factor", "pf", number(0.98)),
            ("temperature", "t-x °C", number(21.5)),
            ("relay.1", "POWER", Ok(Said::Flag(true))),
            ("relay.1", "POWER AUS/ON", Ok(Said::Flag(false))),
            ("relay.1", "out", Ok(Said::Flag(true))),
            ("relay.1", "job", Err(Unavailable::Garbled)),
            ("job.name", "job", Ok(Said::Text("vase".into()))),
            ("execution", "state idle=ready cutting=running", Ok(Said::Text("running".into()))),
            ("execution", "state idle=ready", Err(Unavailable::Garbled)),
            ("voltage", "n V", Err(Unavailable::Sentinel)),
            ("voltage", "job V", Err(Unavailable::Garbled)),
            ("voltage", "ENERGY.Voltage V", Err(Unavailable::NotYet)),
        ] {
            let found = read(item, text, &document);
            match (&found, &expected) {
                (Ok(Said::Number(a)), Ok(Said::Number(b))) => {
                    assert!((a - b).abs() < 1e-9, "{text}");
                }
                _ => assert_eq!(found, expected, "{text}"),
            }
        }
        assert_eq!(read("co2", ". ppm", &json!(612)), number(612.0));
    }

    #[test]
    fn topics_below_the_sources_own_may_have_colons() {
        let topic = |text| Place::parse("power.active", text).unwrap().topic("plug");
        assert_eq!(topic("status/switch:0:apower W"), "plug/status/switch:0");
        assert_eq!(topic("SENSOR: ENERGY.Power W"), "plug/SENSOR");
        assert_eq!(topic(r#""switch:0".apower W"#), "plug");
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_hint() {
        for (item, text, hint) in [
            ("power.activ", "x W", "did you mean \"power.active\""),
            ("power.active", "x", "there is no unit; write the unit that the device sends, of W"),
            ("power.active", "x A", "is no unit of power.active"),
            ("power.active", "x watt", "\"watt\" is no unit"),
            ("power.active", "", "does not begin with a path"),
            ("power.active", "a..b W", "does not begin with a path"),
            ("power.active", "a[x] W", "[0]"),
            ("power.active", "\"a W", "quote"),
            ("power.active", "a * b W", "after * belongs a number"),
            ("power.active", "a * 0 W", "after * belongs a number"),
            ("power.active", "+:a W", "without + and #"),
            ("relay.1", "a ON/ON", "two words"),
            ("job.name", "a W", "is words"),
            ("execution", "a", "say what the device's words mean"),
            ("execution", "a x=busy", "off, ready, preparing"),
            ("execution", "a x=unknown", "is not word=execution"),
        ] {
            let words = Place::parse(item, text).unwrap_err();
            assert!(words.contains(hint), "{item} = {text}: {words}");
        }
        let deep = vec!["a"; PATH_MAX + 1].join(".");
        assert!(Place::parse("power.active", &format!("{deep} W")).unwrap_err().contains("steps"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_parsing_panic(item in "(power\\.active|relay\\.1|execution|job\\.name)",
                                       text in "[a-zA-Z0-9 .:*/\\[\\]\"=%°+#-]{0,40}|\\PC{0,20}") {
            let _ = Place::parse(&item, &text);
        }
    }
}

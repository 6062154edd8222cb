//! The line-protocol encoder: records → lines of the InfluxDB v2 write API.
//!
//! One measurement, `andon`, with the tags `site` and `machine`; a field per item. What is missing
//! is an absent field and its reason's code in `<item>.unavailable`; a state is one 0/1 field per
//! state, because a store of numbers can hold neither words nor nothing. The same record always
//! gives the same bytes. A line never holds a NaN, an infinity or a newline: a backslash or a
//! control character in a name becomes `_`, a control character in a text a space (stores
//! disagree about them, and one that splits a line there would store half of it).

use std::fmt::Write;

use andon_engine::event::{
    Activity, AlarmState, Confirmation, Event, Execution, Severity, TripPhase, TripState,
};
use andon_engine::value::{Measured, Unavailable, Value};

/// The measurement of every line.
pub const MEASUREMENT: &str = "andon";
/// Longest text that is stored, in bytes; the rest of a longer one is cut off.
const TEXT_MAX: usize = 4096;

/// A line under construction. Nothing is left of it unless it gets a field and is ended.
struct Line<'a> {
    out: &'a mut String,
    start: usize,
    fields: usize,
}

impl<'a> Line<'a> {
    fn begin(out: &'a mut String, site: &str, tags: &[(&str, &str)]) -> Self {
        let start = out.len();
        out.push_str(MEASUREMENT);
        let mut line = Self { out, start, fields: 0 };
        for (tag, value) in [("site", site)].iter().chain(tags) {
            if !value.is_empty() {
                let _ = write!(line.out, ",{tag}=");
                line.name(value);
            }
        }
        line
    }

    /// A tag's value or a field's key, escaped.
    fn name(&mut self, name: &str) {
        for c in name.chars() {
            match c {
                ',' | '=' | ' ' => {
                    self.out.push('\\');
                    self.out.push(c);
                }
                '\\' => self.out.push('_'),
                c if c.is_control() => self.out.push('_'),
                c => self.out.push(c),
            }
        }
    }

    fn key(&mut self, parts: &[&str]) {
        self.out.push(if self.fields == 0 { ' ' } else { ',' });
        self.fields += 1;
        for part in parts {
            self.name(part);
        }
        self.out.push('=');
    }

    fn integer(&mut self, key: &[&str], value: i64) {
        self.key(key);
        let _ = write!(self.out, "{value}i");
    }

    fn flag(&mut self, key: &[&str], value: bool) {
        self.integer(key, i64::from(value));
    }

    /// Shortest digits that read back as the same number.
    fn number(&mut self, key: &[&str], value: f64) {
        self.key(key);
        let plain = value == 0.0 || (1e-5..1e16).contains(&value.abs());
        let _ = if plain { write!(self.out, "{value}") } else { write!(self.out, "{value:e}") };
    }

    fn text(&mut self, key: &[&str], value: &str) {
        self.key(key);
        self.out.push('"');
        for (offset, c) in value.char_indices() {
            match c {
                _ if offset + c.len_utf8() > TEXT_MAX => break,
                '"' | '\\' => {
                    self.out.push('\\');
                    self.out.push(c);
                }
                c if c.is_control() => self.out.push(' '),
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }

    fn measured(&mut self, item: &str, measured: &Measured) {
        match measured {
            Ok(Value::Number(number)) if number.is_finite() => self.number(&[item], *number),
            Ok(Value::Number(_)) => self.unavailable(item, Unavailable::Sentinel),
            Ok(Value::Flag(flag)) => self.flag(&[item], *flag),
            Ok(Value::Text(text)) => self.text(&[item], text),
            Err(why) => self.unavailable(item, *why),
        }
    }

    fn unavailable(&mut self, item: &str, why: Unavailable) {
        self.integer(&[item, ".unavailable"], i64::from(why.code()));
    }

    /// Ends the line with its time; a line without fields disappears. Says whether it is there.
    fn end(self, unix_ms: i64) -> bool {
        if self.fields == 0 {
            self.out.truncate(self.start);
            return false;
        }
        let _ = writeln!(self.out, " {unix_ms}");
        true
    }
}

/// Appends the line of an observation, with its time in Unix milliseconds; `false` when it has
/// nothing to store.
pub fn observation<'v>(
    out: &mut String,
    site: &str,
    machine: &str,
    unix_ms: i64,
    items: impl IntoIterator<Item = (&'v str, &'v Measured)>,
) -> bool {
    let mut line = Line::begin(out, site, &[("machine", machine)]);
    for (item, measured) in items.into_iter().filter(|(item, _)| !item.is_empty()) {
        line.measured(item, measured);
    }
    line.end(unix_ms)
}

/// Appends the line of an event at the moment of its happening; `false` when a store of numbers
/// has nothing to gain from it.
pub fn event(out: &mut String, site: &str, unix_ms: i64, event: &Event) -> bool {
    let machine = event.machine().map_or("", |machine| &**machine);
    let tag = match event {
        Event::Alarm { state, .. } => ("alarm", &*state.alarm),
        Event::Trip { state, .. } => ("output", &*state.output),
        _ => ("", ""),
    };
    let mut line = Line::begin(out, site, &[("machine", machine), tag]);
    match event {
        Event::Started { .. } => line.flag(&["gateway.started"], true),
        Event::Stopped { .. } => line.flag(&["gateway.stopped"], true),
        Event::Clock { .. } | Event::Evidence { .. } => {}
        Event::Activity { activity, execution, why, raw_run_ms, .. } => {
            for state in Execution::ALL {
                line.flag(&["execution.", state.word()], state == *execution);
            }
            for state in Activity::ALL {
                line.flag(&["activity.", state.word()], state == *activity);
            }
            if let Some(why) = why {
                line.unavailable("activity", *why);
            }
            let raw_run_ms = i64::try_from(*raw_run_ms).unwrap_or(i64::MAX);
            line.integer(&["activity.raw_run_ms"], raw_run_ms);
        }
        Event::Energy { register, .. } if register.wh.is_finite() => {
            line.number(&["energy.register"], register.wh);
            line.integer(&["energy.epoch"], i64::from(register.epoch));
        }
        Event::Energy { .. } => {}
        Event::Alarm { state, .. } => alarm(&mut line, state),
        Event::Trip { state, .. } => trip(&mut line, state),
    }
    line.end(unix_ms)
}

fn alarm(line: &mut Line<'_>, state: &AlarmState) {
    if let Some(active) = state.active {
        line.flag(&["alarm.active"], active);
    }
    line.flag(&["alarm.unknown"], state.active.is_none());
    line.flag(&["alarm.acked"], state.acked);
    line.flag(&["alarm.latched"], state.latched);
    let severity = match state.severity {
        Severity::Low => 1,
        Severity::Medium => 2,
        Severity::High => 3,
    };
    line.integer(&["alarm.severity"], severity);
}

fn trip(line: &mut Line<'_>, state: &TripState) {
    for (word, phase) in [
        ("trip.armed", TripPhase::Armed),
        ("trip.tripping", TripPhase::Tripping),
        ("trip.latched", TripPhase::Latched),
        ("trip.failed", TripPhase::Failed),
    ] {
        line.flag(&[word], state.phase == phase);
    }
    if let Some(level) = state.level {
        let level = match level {
            Confirmation::C0 => 0,
            Confirmation::C1 => 1,
            Confirmation::C2 => 2,
            Confirmation::C3 => 3,
        };
        line.integer(&["trip.level"], level);
    }
}

#[cfg(test)]
mod tests {
    use andon_engine::time::BootTime;
    use expect_test::expect;
    use influxdb_line_protocol::{EscapedStr, FieldValue, parse_lines};
    use proptest::prelude::*;

    use super::*;

    fn of_event(happened: &Event) -> String {
        let mut out = String::new();
        event(&mut out, "chaihuo", 1_790_000_000_000, happened);
        out
    }

    #[test]
    fn an_observation_is_one_line() {
        let items: [(&str, Measured); 5] = [
            ("power.active", Ok(Value::Number(1500.25))),
            ("energy.import", Ok(Value::Number(18230.0))),
            ("input.1", Ok(Value::Flag(true))),
            ("temperature.tube", Err(Unavailable::Timeout)),
            ("humidity", Ok(Value::Number(f64::NAN))),
        ];
        let mut out = String::new();
        let items = items.iter().map(|(name, value)| (*name, value));
        assert!(observation(&mut out, "chaihuo", "laser", 1_790_000_000_250, items));
        expect![[r#"
            andon,site=chaihuo,machine=laser power.active=1500.25,energy.import=18230,input.1=1i,temperature.tube.unavailable=2i,humidity.unavailable=6i 1790000000250
        "#]]
        .assert_eq(&out);
        assert!(!observation(&mut out, "chaihuo", "laser", 1, []));
        assert_eq!(out.lines().count(), 1);
    }

    #[test]
    fn events_are_states_as_numbers() {
        let at = BootTime(1);
        expect![[r#"
            andon,site=chaihuo,machine=laser execution.off=0i,execution.ready=0i,execution.preparing=0i,execution.running=0i,execution.paused=0i,execution.finished=0i,execution.fault=0i,execution.stopped=0i,execution.unknown=1i,activity.off=0i,activity.idle=0i,activity.run=0i,activity.fault=0i,activity.unknown=1i,activity.unavailable=9i,activity.raw_run_ms=1200i 1790000000000
        "#]]
        .assert_eq(&of_event(&Event::Activity {
            machine: "laser".into(),
            at,
            activity: Activity::Unknown,
            execution: Execution::Unknown,
            why: Some(Unavailable::Stale),
            raw_run_ms: 1200,
        }));
        let state = AlarmState {
            alarm: "laser-hot".into(),
            machine: "laser".into(),
            severity: Severity::High,
            active: None,
            acked: false,
            latched: true,
            raised: at,
            cause: "temperature 63 °C".into(),
        };
        expect![[r#"
            andon,site=chaihuo,machine=laser,alarm=laser-hot alarm.unknown=1i,alarm.acked=0i,alarm.latched=1i,alarm.severity=3i 1790000000000
        "#]]
        .assert_eq(&of_event(&Event::Alarm { at, state, by: None, reason: None }));
        let state = TripState {
            output: "laser-contactor".into(),
            machine: "laser".into(),
            phase: TripPhase::Latched,
            level: Some(Confirmation::C3),
            cause: None,
            trouble: None,
        };
        expect![[r#"
            andon,site=chaihuo,machine=laser,output=laser-contactor trip.armed=0i,trip.tripping=0i,trip.latched=1i,trip.failed=0i,trip.level=3i 1790000000000
        "#]]
        .assert_eq(&of_event(&Event::Trip { at, state }));
        assert_eq!(of_event(&Event::Clock { at, wall_ms: 1 }), "");
    }

    fn measured() -> impl Strategy<Value = Measured> {
        prop_oneof![
            any::<bool>().prop_map(|flag| Ok(Value::Flag(flag))),
            any::<f64>().prop_map(|number| Ok(Value::Number(number))),
            any::<String>().prop_map(|text| Ok(Value::Text(text.into()))),
            (1u8..=11).prop_map(|code| Err(Unavailable::from_code(code).unwrap())),
        ]
    }

    /// Any name, weighted towards what hurts.
    fn name() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-z.]{1,12}",
            r#"[ ,="\\\n\r\t#é℃\u{0}\u{7f}a]{1,8}"#,
            any::<String>().prop_filter("a name is not empty", |name| !name.is_empty()),
        ]
    }

    fn plain(name: &str) -> String {
        name.chars().map(|c| if c.is_control() || c == '\\' { '_' } else { c }).collect()
    }

    fn expected(item: &str, measured: &Measured) -> (String, FieldValue<'static>) {
        let unavailable = |why: Unavailable| {
            (format!("{}.unavailable", plain(item)), FieldValue::I64(why.code().into()))
        };
        match measured {
            Ok(Value::Number(n)) if n.is_finite() => (plain(item), FieldValue::F64(*n)),
            Ok(Value::Number(_)) => unavailable(Unavailable::Sentinel),
            Ok(Value::Flag(flag)) => (plain(item), FieldValue::I64((*flag).into())),
            Ok(Value::Text(text)) => {
                let text: String =
                    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
                (plain(item), FieldValue::String(EscapedStr::CopiedValue(text)))
            }
            Err(why) => unavailable(*why),
        }
    }

    proptest! {
        #[test]
        fn lines_read_back_as_they_were_meant(
            site in name(), machine in name(), t in any::<i64>(),
            items in prop::collection::vec((name(), measured()), 1..6),
        ) {
            let mut out = String::new();
            let pairs = || items.iter().map(|(item, value)| (item.as_str(), value));
            prop_assert!(observation(&mut out, &site, &machine, t, pairs()));
            let mut again = String::new();
            observation(&mut again, &site, &machine, t, pairs());
            prop_assert_eq!(&out, &again, "equal records give equal bytes");
            prop_assert_eq!(out.matches('\n').count(), 1);
            let lines: Vec<_> = parse_lines(&out).collect();
            prop_assert_eq!(lines.len(), 1);
            let line = lines[0].as_ref().unwrap();
            prop_assert_eq!(line.series.measurement.as_str(), MEASUREMENT);
            prop_assert_eq!(line.tag_value("site").unwrap().as_str(), plain(&site));
            prop_assert_eq!(line.tag_value("machine").unwrap().as_str(), plain(&machine));
            prop_assert_eq!(line.timestamp, Some(t));
            prop_assert_eq!(line.field_set.len(), items.len());
            for ((key, value), (item, measured)) in line.field_set.iter().zip(&items) {
                let (name, field) = expected(item, measured);
                prop_assert_eq!(key.as_str(), name);
                prop_assert_eq!(value, &field);
            }
        }
    }
}

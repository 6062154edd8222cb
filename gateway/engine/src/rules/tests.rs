//! The language: what it accepts, what it refuses and how, and that it never panics.

use std::time::Duration;

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::condition::View;
use super::{RuleSource, parse};
use crate::event::{Activity, Execution};
use crate::item::Item;
use crate::plan::{ItemPlan, MachineIndex, MachinePlan, Measurand, Plan};
use crate::value::{Measured, Unavailable, Value};

fn plan() -> Plan {
    let machine = |id: &str| MachinePlan { id: id.into(), activity: Vec::new(), energy: None };
    let item = |machine, name| {
        ItemPlan::new(
            MachineIndex(machine),
            Measurand::every(Item::named(name).unwrap(), Duration::from_secs(1)),
        )
    };
    Plan {
        machines: vec![machine("laser"), machine("3d-printer")],
        items: vec![
            item(0, "temperature.coolant"),
            item(0, "power.active"),
            item(0, "input.1"),
            item(1, "power.active"),
        ],
        ..Plan::default()
    }
}

fn rule(when: &str) -> RuleSource {
    RuleSource {
        id: "test".into(),
        machine: "laser".into(),
        when: when.into(),
        hold_for: Some("1 s".into()),
        ..RuleSource::default()
    }
}

/// Evaluates with 50 °C coolant, unknown power, input on, 30 W at the printer; laser running,
/// printer unknown.
fn evaluate(when: &str) -> Option<bool> {
    let rule = parse(&rule(when), &plan()).unwrap();
    let values: Vec<Measured> = vec![
        Ok(Value::Number(50.0)),
        Err(Unavailable::Timeout),
        Ok(Value::Flag(true)),
        Ok(Value::Number(30.0)),
    ];
    let states = [(Execution::Running, Activity::Run), (Execution::Unknown, Activity::Unknown)];
    rule.when.evaluate(View { values: &values, states: &states })
}

#[test]
fn a_clear_that_can_hold_beside_its_when_is_refused() {
    let told = |when: &str, clear: &str| {
        let source = RuleSource { clear: Some(clear.into()), ..rule(when) };
        parse(&source, &plan()).err().map(|faults| {
            assert_eq!(faults[0].key, "clear");
            faults[0].hint.clone().unwrap()
        })
    };
    for (when, clear) in [
        ("temperature.coolant > 60 °C", "temperature.coolant < 50 °C"),
        ("temperature.coolant > 60 °C", "temperature.coolant <= 60 °C"),
        ("temperature.coolant > 60 °C", "not temperature.coolant > 55 °C"),
        ("power.active > 1 kW and execution == running", "power.active < 900 W"),
        ("temperature.coolant < 5 °C", "temperature.coolant > 8 °C"),
        // A button, a state, or another quantity: somebody may mean that.
        ("temperature.coolant > 60 °C", "input.1"),
        ("temperature.coolant > 60 °C", "temperature.coolant < 50 °C or input.1"),
        ("temperature.coolant > 60 °C", "power.active < 10 W"),
        ("execution == running", "activity != run"),
    ] {
        assert_eq!(told(when, clear), None, "{when} / {clear}");
    }
    let advice = "write a condition that cannot hold before \"when\" has ended";
    for (when, clear, example) in [
        (
            "temperature.coolant > 60 °C",
            "temperature.coolant > 50 °C",
            "temperature.coolant < 50 °C",
        ),
        (
            "temperature.coolant > 60 °C",
            "temperature.coolant < 70 °C",
            "temperature.coolant < 60 °C",
        ),
        (
            "temperature.coolant >= 60 °C",
            "temperature.coolant <= 60 °C",
            "temperature.coolant < 60 °C",
        ),
        ("power.active < 20 W", "power.active < 30 W", "power.active > 30 W"),
    ] {
        assert_eq!(told(when, clear), Some(format!("{advice}: \"{example}\"")));
    }
    for (when, clear) in [
        ("temperature.coolant > 60 °C and execution == running", "temperature.coolant > 50 °C"),
        ("temperature.coolant > 60 °C or power.active > 1 kW", "temperature.coolant < 50 °C"),
    ] {
        assert_eq!(told(when, clear).as_deref(), Some(advice), "{when} / {clear}");
    }
}

fn check(source: &RuleSource, expected: &Expect) {
    let told: Vec<String> = parse(source, &plan())
        .unwrap_err()
        .into_iter()
        .map(|it| {
            let hint = it.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
            format!("{} {:?}: {}{hint}", it.key, it.span, it.message)
        })
        .collect();
    expected.assert_eq(&told.join("\n"));
}

#[test]
fn conditions_follow_kleene() {
    let cases = [
        ("temperature.coolant > 40 °C", Some(true)),
        ("temperature.coolant\u{a0}>\u{a0}40\u{a0}°C", Some(true)),
        ("temperature.coolant <= 5e1 °C", Some(true)),
        ("not input.1", Some(false)),
        ("power.active > 1 kW", None),
        ("power.active > 1 kW or input.1", Some(true)),
        ("power.active > 1 kW and not input.1", Some(false)),
        ("power.active > 1 kW and input.1", None),
        ("not (power.active > 1 kW)", None),
        ("execution == running and activity != idle", Some(true)),
        ("3d-printer.activity == run", None),
        ("3d-printer.activity == unknown", Some(true)),
        ("3d-printer.power.active >= 0.03 kW", Some(true)),
        // `and` binds tighter than `or`, `not` tighter than both.
        ("input.1 or input.1 and not input.1", Some(true)),
        ("(input.1 or input.1) and not input.1", Some(false)),
    ];
    for (when, expected) in cases {
        assert_eq!(evaluate(when), expected, "{when}");
    }
}

#[test]
fn faults_say_where_and_what_to_write() {
    check(
        &rule("temperature.coolant > 40 W"),
        &expect![[r#"
        when 22..26: "W" is not a unit of °C (temperature.coolant is measured in °C)"#]],
    );
    check(
        &rule("temperature.coolant > 40"),
        &expect![[r#"
        when 22..24: "40" has no unit; °C belongs here"#]],
    );
    check(
        &rule("temperature.colant > 40 °C"),
        &expect![[r#"
        when 0..18: laser has no item temperature.colant (did you mean "temperature.coolant"?)"#]],
    );
    check(
        &rule("temperature.coolant > 9999 °C"),
        &expect![[r#"
        when 22..30: temperature.coolant never reaches this (it is believed between -60 and 1600 °C)"#]],
    );
    check(
        &rule("input.1 = on"),
        &expect![[r#"
        when 8..9: this is no part of a condition ("==" compares)"#]],
    );
    check(
        &rule("activity == runing"),
        &expect![[r#"
        when 12..18: this is no activity (did you mean "run"?)"#]],
    );
    check(
        &rule("(input.1"),
        &expect![[r#"
        when 8..8: a ")" is missing here"#]],
    );
    check(
        &rule(""),
        &expect![[r#"
        when 0..0: an item, "execution", "activity", "not" or "(" belongs here"#]],
    );
    let flickers = RuleSource { hold_for: None, ..rule("temperature.coolant > 40 °C") };
    check(
        &flickers,
        &expect![[r#"
        when 0..28: a measured quantity flickers around its limit (give the rule a "clear" condition or a "for")"#]],
    );
    let bare = RuleSource { hold_for: Some("2".into()), ..rule("input.1") };
    check(
        &bare,
        &expect![[r#"
        for 0..1: "2" has no unit; s belongs here (a duration such as "2 s" or "5 min")"#]],
    );
}

#[test]
fn what_is_too_deep_or_too_long_is_refused() {
    for when in [
        "(".repeat(4000),
        "not ".repeat(1000),
        "(".repeat(1 << 20),
        vec!["input.1"; 300].join(" or "),
        vec!["input.1"; 100_000].join(" and "),
        "input.1 ".repeat(500),
    ] {
        assert!(parse(&rule(&when), &plan()).is_err());
    }
    assert_eq!(evaluate(&format!("{}input.1{}", "(".repeat(31), ")".repeat(31))), Some(true));
}

#[test]
fn numbers_that_are_none_are_refused() {
    for limit in ["NaN °C", "inf °C", "1e999 °C", "1.2.3 °C", "- °C", "°C"] {
        let when = format!("temperature.coolant > {limit}");
        assert!(parse(&rule(&when), &plan()).is_err(), "{when}");
    }
}

proptest! {
    #[test]
    fn any_text_is_taken_or_refused(when in ".{0,200}") {
        parse(&rule(&when), &plan()).ok();
    }

    #[test]
    fn any_jumble_of_words_is_taken_or_refused(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "input.1", "and", "or", "not", "(", ")", "temperature.coolant", ">", "==", "40 °C",
                "activity", "run", "3d-printer.power.active", "<=", "1e3 W", "5", "°",
            ]),
            0..40,
        ),
    ) {
        if let Ok(rule) = parse(&rule(&words.join(" ")), &plan()) {
            let values = vec![Err(Unavailable::NotYet); 4];
            let states = [(Execution::Unknown, Activity::Unknown); 2];
            rule.when.evaluate(View { values: &values, states: &states });
        }
    }
}

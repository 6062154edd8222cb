//! `activity` of a `[machine.ID]`: which signals tell what the machine does, their bands and debounce.

use std::ops::RangeInclusive;
use std::time::Duration;

use andon_engine::item::{Item, Kind};
use andon_engine::plan::Band;
use andon_engine::unit::Unit;

use super::{Activity, Machine, Signal};
use crate::config::keys;
use crate::config::node::Content;
use crate::config::section::Section;
use crate::kinds::{self, HYSTERESIS};

/// How long a higher band must hold, unless configured.
const ENTER_FOR: Duration = Duration::from_secs(3);
/// How long a lower band must hold, unless configured: longer than a pause between two cuts.
const EXIT_FOR: Duration = Duration::from_secs(10);
/// What a debounce may be.
const DEBOUNCE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);

/// `activity = { from = "execution" }`, or a list of such tables when a machine has several signals;
/// their authority is that of their kind, not of their order. A machine with a controller that
/// says nothing of its activity follows the controller.
pub(super) fn of(section: &Section<'_>, machine: &Machine) -> Vec<Activity> {
    let tables: Vec<Section<'_>> = match section.get("activity").map(|node| &node.content) {
        None => {
            let item = machine.position("execution");
            let controller = |item| {
                let (enter_for, exit_for) = (Duration::ZERO, Duration::ZERO);
                Activity { item, signal: Signal::Controller, enter_for, exit_for }
            };
            return item.map(controller).into_iter().collect();
        }
        Some(Content::List(list)) => {
            let path = section.path_of("activity");
            let open = |node| Section::open(node, path.clone(), section.report);
            list.iter().filter_map(open).collect()
        }
        Some(_) => section.table("activity").into_iter().collect(),
    };
    let mut found: Vec<Activity> =
        tables.iter().filter_map(|table| activity(table, machine)).collect();
    found.sort_by_key(|activity| match activity.signal {
        Signal::Controller => 0,
        Signal::Input { .. } => 1,
        Signal::Power { .. } => 2,
    });
    found
}

/// `{ from = "power.active", idle_above = "15 W", run_above = "120 W" }`
fn activity(activity: &Section<'_>, machine: &Machine) -> Option<Activity> {
    let from = machine.named_by(activity, "from");
    let Some(item) = activity.need("from", "\"power.active\"", from) else {
        let known: Vec<&str> = [keys::ACTIVITY_POWER, keys::ACTIVITY_INPUT].concat();
        activity.only(&known);
        return None;
    };
    let controller = &*machine.items[item].item.name == "execution";
    let bands = bands_of_kind(activity, machine, item);
    let debounce = match bands {
        // A controller is believed at its word, unless it is known to pause between two lines.
        _ if controller => (Duration::ZERO, Duration::ZERO),
        Some(bands) => (bands.enter_for, bands.exit_for),
        None => (ENTER_FOR, EXIT_FOR),
    };
    let enter_for = activity.duration("enter_for", DEBOUNCE).unwrap_or(debounce.0);
    let exit_for = activity.duration("exit_for", DEBOUNCE).unwrap_or(debounce.1);
    let signal = match *machine.items[item].item {
        _ if controller => {
            activity.only(keys::ACTIVITY_CONTROLLER);
            Some(Signal::Controller)
        }
        Item { unit: Unit::Watt, kind: Kind::Gauge, .. } => match bands {
            Some(bands) => {
                activity.only(keys::ACTIVITY_POWER);
                Some(Signal::Power { idle: bands.idle(), run: bands.run() })
            }
            None => power(activity, kinds::of(&machine.kind).is_some()),
        },
        Item { kind: Kind::Flag, .. } => {
            activity.only(keys::ACTIVITY_INPUT);
            let run_when = activity.flag("run_when");
            activity.need("run_when", "true", run_when).map(|run_when| Signal::Input { run_when })
        }
        _ => {
            let hint = "a power (W), a contact such as input.1, or execution".to_owned();
            activity.problem("from", "activity cannot be told from this item", Some(hint));
            None
        }
    };
    Some(Activity { item, signal: signal?, enter_for, exit_for })
}

/// The bands and the debounce of the machine's kind, where no band of a power is written: they
/// belong together, so one that is written wants all of them.
fn bands_of_kind(
    activity: &Section<'_>,
    machine: &Machine,
    item: usize,
) -> Option<&'static kinds::Bands> {
    let bands = ["idle_above", "run_above", "idle_below", "run_below"];
    let written = bands.into_iter().any(|key| activity.has(key));
    let power = machine.items[item].item.unit == Unit::Watt;
    let kind = kinds::of(&machine.kind).filter(|_| power && !written);
    kind.map(|kind| &kind.activity)
}

/// The bands of a power, the right way up. A kind without bands of its own wants them written.
fn power(activity: &Section<'_>, kind_has_bands: bool) -> Option<Signal> {
    activity.only(keys::ACTIVITY_POWER);
    if !kind_has_bands && !activity.has("idle_above") && !activity.has("run_above") {
        let message = "kind \"other\" has no bands of its own";
        let hint = "write idle_above = \"15 W\" and run_above = \"120 W\" with this machine's numbers; \
                    \"andon learn\" proposes them";
        activity.problem("", message, Some(hint.to_owned()));
        return None;
    }
    let watts = |key| activity.quantity(key, Unit::Watt);
    let idle_enter = activity.need("idle_above", "\"15 W\"", watts("idle_above"));
    let run_enter = activity.need("run_above", "\"120 W\"", watts("run_above"));
    let (idle_exit, run_exit) = (watts("idle_below"), watts("run_below"));
    let (idle_enter, run_enter) = (idle_enter?, run_enter?);
    let mut upright = true;
    let mut wrong = |key: &str, message: String| {
        activity.problem(key, message, Some("the order is: off, idle, run".to_owned()));
        upright = false;
    };
    if idle_enter <= 0.0 {
        wrong("idle_above", format!("{idle_enter} W: a machine that is off uses 0 W"));
    }
    if run_enter <= idle_enter {
        wrong("run_above", format!("{run_enter} W is not above idle_above, {idle_enter} W"));
    }
    if let Some(exit) = idle_exit.filter(|exit| *exit >= idle_enter || *exit <= 0.0) {
        wrong("idle_below", format!("{exit} W is not between 0 W and idle_above, {idle_enter} W"));
    }
    if let Some(exit) = run_exit.filter(|exit| *exit >= run_enter || *exit < idle_enter) {
        let message = format!(
            "{exit} W is not between idle_above, {idle_enter} W, and run_above, {run_enter} W"
        );
        wrong("run_below", message);
    }
    let idle_exit = idle_exit.unwrap_or(idle_enter * (1.0 - HYSTERESIS));
    // Leaving run must lead to idle, not past it.
    let run_exit = run_exit.unwrap_or((run_enter * (1.0 - HYSTERESIS)).max(idle_enter));
    upright.then_some(Signal::Power {
        idle: Band { enter: idle_enter, exit: idle_exit },
        run: Band { enter: run_enter, exit: run_exit },
    })
}

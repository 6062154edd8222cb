//! What OctoPrint's flags and errors say of the printer.
//!
//! States are read from the flags, in this order, because the text may be anything:
//!
//! | flags of `/api/printer`, or of a push | execution |
//! |---|---|
//! | `error` or `closedOrError` | fault |
//! | `paused` | paused |
//! | `printing`, `pausing`, `resuming`, `finishing` or `cancelling` | running |
//! | `printing` alone, and the job waits for a heater (`heating`) | preparing |
//! | `ready`, and the job's `completion` is 100 | finished |
//! | `ready`, or `operational` alone (a file goes to the card) | ready |
//! | none of them | unknown |
//!
//! | 409 of `/api/printer`, or a push that is not `operational`; and the `error` there or in `/api/job` | execution |
//! |---|---|
//! | an `error` that names M112 | stopped |
//! | another `error` | fault |
//! | no `error` (`Offline`, `Connecting`, …) | unknown (disconnected): the printer may well print from its card |
//!
//! While it pauses or cancels, OctoPrint has the `printing` flag set and the head still moves: that
//! is running, and a stop does not stand yet. Right after connecting `temperature` is `{}`, which is
//! no value. `M112` makes OctoPrint send it and close its port, so reading it back proves what
//! OctoPrint did and not what the printer did.

use andon_engine::event::Execution;
use serde_json::Value as Json;

/// `completion` of a job that is through, in percent.
const COMPLETE: f64 = 100.0;

/// What the words of an error say: the second table.
pub(super) fn by_error(error: &str) -> Option<Execution> {
    match error {
        "" => None,
        error if error.contains("M112") => Some(Execution::Stopped),
        _ => Some(Execution::Fault),
    }
}

/// What a state and its job say but for heating.
pub(super) fn by_flags(state: &Json, job: &Json) -> Option<Execution> {
    let completion = job.pointer("/progress/completion").and_then(Json::as_f64);
    let complete = completion.is_some_and(|percent| percent >= COMPLETE);
    execution(|name| state["flags"][name] == Json::Bool(true), complete)
}

/// The first table.
pub(super) fn execution(flag: impl Fn(&str) -> bool, complete: bool) -> Option<Execution> {
    let any = |names: &[&str]| names.iter().any(|name| flag(name));
    if any(&["error", "closedOrError"]) {
        Some(Execution::Fault)
    } else if flag("paused") {
        Some(Execution::Paused)
    } else if any(&["printing", "pausing", "resuming", "finishing", "cancelling"]) {
        Some(Execution::Running)
    } else if flag("ready") && complete {
        Some(Execution::Finished)
    } else if any(&["ready", "operational"]) {
        Some(Execution::Ready)
    } else {
        None
    }
}

//! What 3D printers have in common: their items, the options that say which heaters one has, and
//! how far a stop has come by what the printer says of itself.
//!
//! Items are fixed by the configuration and never by what a printer happens to answer: a board must
//! not show what will never come, nor lose what should be there.

use std::sync::Arc;

use andon_engine::event::Execution;

use crate::device::{Outbox, Stop};
use crate::protocol::Settings;
use crate::stopping::Stopping;

/// Most nozzles; the closed list of items ends there.
const NOZZLES_MAX: u8 = 8;

/// The options of a printer's source.
pub(crate) const OPTIONS: &[(&str, &str)] = &[
    ("nozzles", "how many nozzles it has, 1 to 8; 1 unless said"),
    ("bed", "\"false\" when the bed is not heated"),
    ("chamber", "\"true\" when the chamber's temperature is measured"),
];

/// Which heaters and sensors a printer has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts {
    pub(crate) nozzles: u8,
    pub(crate) bed: bool,
    pub(crate) chamber: bool,
}

impl Parts {
    /// As the options say.
    ///
    /// # Errors
    /// In words, when an option is not what it can be.
    pub(crate) fn configured(settings: &Settings) -> Result<Self, String> {
        let nozzles = settings.option("nozzles").unwrap_or("1");
        let nozzles = nozzles.parse().ok().filter(|count| (1..=NOZZLES_MAX).contains(count));
        Ok(Self {
            nozzles: nozzles.ok_or("nozzles must be a number from 1 to 8")?,
            bed: flag(settings, "bed", true)?,
            chamber: flag(settings, "chamber", false)?,
        })
    }

    /// The items of a printer: `others`, and the temperatures of its parts.
    pub(crate) fn items(self, others: &[&str]) -> Vec<Arc<str>> {
        let mut items: Vec<Arc<str>> = others.iter().map(|item| (*item).into()).collect();
        let nozzles = (0..self.nozzles).map(nozzle);
        let bed = self.bed.then(|| "bed".to_owned());
        for place in nozzles.chain(bed) {
            items.push(actual(&place).into());
            items.push(target(&place).into());
        }
        if self.chamber {
            items.push("temperature.chamber".into());
        }
        items
    }
}

/// The place of a nozzle, counted from 0: `nozzle`, `nozzle-2`, …
pub(crate) fn nozzle(index: u8) -> String {
    match index {
        0 => "nozzle".to_owned(),
        _ => format!("nozzle-{}", index + 1),
    }
}

/// The item of a place's temperature.
pub(crate) fn actual(place: &str) -> String {
    format!("temperature.{place}")
}

/// The item of the temperature that a place is to have.
pub(crate) fn target(place: &str) -> String {
    format!("temperature.target.{place}")
}

fn flag(settings: &Settings, name: &str, unless_said: bool) -> Result<bool, String> {
    match settings.option(name) {
        None => Ok(unless_said),
        Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(_) => Err(format!("{name} must be \"true\" or \"false\"")),
    }
}

/// The printer has just said what it is doing. That it does not stand yet is no reply: a printer that
/// cancels retracts and parks first, and how long it may is its owner's business.
pub(crate) fn read_back(stopping: &mut Stopping, execution: Option<Execution>, out: &mut Outbox) {
    let Some(stop) = stopping.pending().filter(|_| stopping.is_answered()) else { return };
    if execution.is_some_and(|execution| stands(stop, execution)) {
        stopping.seen(true, out);
    }
}

/// Whether a printer that is in `execution` does what `stop` wants. A fault never counts: what a
/// printer in fault does with its heaters is not known.
fn stands(stop: Stop, execution: Execution) -> bool {
    let halted = execution == Execution::Stopped;
    let ended = matches!(execution, Execution::Ready | Execution::Finished | Execution::Off);
    match stop {
        Stop::Emergency => halted,
        Stop::Cancel => halted || ended,
        Stop::Pause => halted || ended || execution == Execution::Paused,
        Stop::Off => execution == Execution::Off,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_decide_the_items_and_all_are_on_the_list() {
        let options = vec![("nozzles", "2".to_owned()), ("chamber", "true".to_owned())];
        let parts = Parts::configured(&Settings { options, ..Settings::default() }).unwrap();
        let items = parts.items(&["execution"]);
        let expected = "execution temperature.nozzle temperature.target.nozzle \
            temperature.nozzle-2 temperature.target.nozzle-2 temperature.bed \
            temperature.target.bed temperature.chamber";
        assert_eq!(items.join(" "), expected);
        for item in items {
            assert!(andon_engine::item::Item::named(&item).is_ok(), "{item}");
        }
        for (name, text) in [("nozzles", "0"), ("nozzles", "9"), ("bed", "yes"), ("chamber", "")] {
            let options = vec![(name, text.to_owned())];
            let settings = Settings { options, ..Settings::default() };
            assert!(Parts::configured(&settings).is_err(), "{name} = {text}");
        }
    }

    #[test]
    fn a_stop_stands_only_when_the_printer_says_so() {
        use Execution as E;
        let standing = |stop| {
            let all = E::ALL.into_iter().filter(move |execution| stands(stop, *execution));
            all.collect::<Vec<_>>()
        };
        assert_eq!(standing(Stop::Emergency), [E::Stopped]);
        assert_eq!(standing(Stop::Cancel), [E::Off, E::Ready, E::Finished, E::Stopped]);
        assert_eq!(standing(Stop::Pause), [E::Off, E::Ready, E::Paused, E::Finished, E::Stopped]);
    }
}

//! Recorders: what was measured and what happened, into a time-series store.
//!
//! Two forms share the encoder ([`line`]) and the [`Writer`]: one in the gateway's process that
//! follows the journal and needs no broker ([`embedded`]), and one that stands alone behind a
//! broker ([`broker`], `andon record`). Both confirm a record only when the store has committed
//! it. Neither can delay anything but itself.

pub mod broker;
mod dead;
pub mod embedded;
#[cfg(test)]
pub(crate) mod fake;
mod ledger;
pub mod line;
mod store;
mod writer;

#[cfg(test)]
mod victoria;

pub use store::{Refusal, Store};
pub use writer::{BODY_MAX, StoreStatus, Writer};

use crate::journal::{Payload, Record};

/// The line of a record at its wall time; `None` when a store of numbers gains nothing from it.
pub fn line_of(site: &str, record: &Record, unix_ms: i64) -> Option<String> {
    let mut out = String::new();
    let there = match &record.payload {
        Payload::Observation(observation) => {
            let items = observation.items.iter().map(|(item, value)| (&**item, value));
            line::observation(&mut out, site, &observation.machine, unix_ms, items)
        }
        Payload::Event(event) => line::event(&mut out, site, unix_ms, event),
    };
    there.then_some(out)
}

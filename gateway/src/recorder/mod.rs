//! Recorders: what was measured and what happened, into a time-series store.
//!
//! Two forms share the encoder ([`line`]) and the writer ([`writer`]): one in the gateway's
//! process that follows the journal and needs no broker, and one that stands alone behind a
//! broker (`andon record`). Both confirm a record only when the store has committed it. Neither
//! can delay anything but itself.

mod dead;
#[cfg(test)]
mod fake;
pub mod line;
mod store;
mod writer;

pub use store::{Refusal, Store};
pub use writer::{StoreStatus, Writer};

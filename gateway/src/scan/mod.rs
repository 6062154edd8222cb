//! Finding devices before anybody has configured them.
//!
//! It never writes to a device: a line is held by a [`crate::bus::Inquiry`], which can only read.
//! Reading order: `fingerprint` (what answers mean), `serial` (who is asked what), `state` (where
//! it was when it was interrupted), `proposal` (the configuration that follows).

mod fingerprint;
mod proposal;
mod serial;
mod state;

pub use fingerprint::Candidate;
pub use proposal::proposal;
pub use serial::{Finding, Format, Options, Progress, Scan, Station};
pub use state::State;

#[cfg(test)]
mod tests;

//! Finding devices before anybody has configured them: what answers on a line, what is announced
//! at a broker or in the local network, as configuration that a person may take over.
//!
//! Nothing here changes a device, publishes a message or writes a file: a serial line is held by a
//! [`crate::bus::Inquiry`], which can only read. What strangers send is bounded, and cannot leave
//! its quotes or its comment in what is proposed.
//!
//! Reading order: `fingerprint` (what answers mean), `serial` (who is asked what), `state` (where
//! it was when it was interrupted), `line_proposal` (the configuration that follows); then
//! `announced`, `home_assistant`, `mdns`, `ssdp`, `subnet`, with `proposal` for what they find.

pub mod announced;
mod fingerprint;
mod home_assistant;
mod line_proposal;
pub mod mdns;
pub mod proposal;
mod serial;
pub mod ssdp;
mod state;
pub mod subnet;

pub use fingerprint::Candidate;
pub use line_proposal::line_proposal;
pub use proposal::Proposal;
pub use serial::{Finding, Format, Options, Progress, Scan, Station};
pub use state::State;

#[cfg(test)]
mod tests;

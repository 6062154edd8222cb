//! Finding devices: what is announced or answers, as configuration that a person may take over.
//!
//! Nothing here changes a device, publishes a message or writes a file. What strangers send is
//! bounded, and cannot leave its quotes or its comment in what is proposed.

pub mod announced;
mod home_assistant;
pub mod mdns;
pub mod proposal;
pub mod ssdp;
pub mod subnet;

pub use proposal::Proposal;

//! Simulated devices: any profile, DL/T 645 meters and Huanyang drives included, served over Modbus
//! TCP, over RTU on a pseudo-terminal or over RTU in TCP, with faults on demand; and three with a
//! controller of their own, for the demo: a printer (PrusaLink), a router (GRBL), a plug (Tasmota).
//!
//! The bytes are made here and not by tokio-modbus, because a simulator must be able to lie; and
//! because the gateway reads with that library, a mistake cannot hide by being made twice. For the
//! same reason this is an independent witness: its log says what was asked and answered, and when
//! the last byte passed ([`Bench::log_to`]).
//!
//! ```text
//! line (pty, listener) ── bytes ── conversation ── request ── bench: device + faults ── reply
//! ```
//!
//! It must not be linked into the path of real data: only `andon simulate`, the demo and tests
//! use it. Bounds: [`CONNECTIONS_MAX`] connections per line, [`PENDING_MAX`] requests and as many
//! replies under way per connection.

mod bench;
mod conversation;
mod device;
mod fault;
mod frame;
mod grbl;
mod line;
mod meter;
mod prusalink;
mod supply;
mod tasmota;
mod terminal;
mod witness;

#[cfg(test)]
mod tests;

pub use bench::{Address, Bench, NotThere};
pub use conversation::PENDING_MAX;
pub use device::Device;
pub use fault::{Fault, NoFault};
pub(crate) use grbl::{BANNER, ControllerShows, Grbl};
pub use line::CONNECTIONS_MAX;
pub(crate) use prusalink::{JobShows, PrinterShows, PrusaLink};
pub(crate) use tasmota::{PlugShows, Tasmota};

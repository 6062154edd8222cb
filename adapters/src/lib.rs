//! Codecs and device profiles: bytes in, readings out.
//!
//! Nothing here knows a clock, a socket, a machine's name or andon's topics. A device is a TOML
//! file in `profiles/` ([`profile`]); a protocol is one source file ([`modbus`]), and those that are
//! more than a register map are a [`device::Device`]. Who polls, when and over which wire is the
//! gateway's business.

pub mod bambu;
pub mod device;
pub mod document;
pub mod held;
pub mod json;
pub mod modbus;
pub mod presence;
pub mod profile;
pub mod protocol;
#[cfg(test)]
mod rehearsal;
pub mod shelly;
pub mod stopping;
pub mod tasmota;
pub mod zigbee2mqtt;

//! Codecs and device profiles: bytes in, readings out.
//!
//! Nothing here knows a clock, a socket, a machine's name or andon's topics. A device is a TOML
//! file in `profiles/` ([`profile`]); a protocol is one source file ([`modbus`], [`dlt645`],
//! [`huanyang`]), and those that are more than a register map are a [`device::Device`], listed in
//! [`protocol`]. Who polls, when and over which wire is the gateway's business.

pub mod bambu;
pub mod catalogue;
#[cfg(test)]
mod contract;
pub mod current_loop;
pub mod device;
pub mod dlt645;
mod document;
pub mod duet;
pub mod gpio;
pub mod grbl;
pub mod haas;
mod held;
mod http;
pub mod huanyang;
pub mod json;
pub mod linuxcnc;
pub mod marlin;
pub mod modbus;
pub mod moonraker;
pub mod mtconnect;
pub mod octoprint;
mod presence;
mod printer;
pub mod profile;
pub mod protocol;
pub mod prusalink;
pub mod shelly;
mod stopping;
pub mod tasmota;
#[cfg(test)]
mod trial;
pub mod ultimaker;
pub mod zigbee2mqtt;

//! Codecs and device profiles: bytes in, readings out.
//!
//! Nothing here knows a clock, a socket, a machine's name or andon's topics. A device is a TOML
//! file in `profiles/` ([`profile`]); a protocol is one source file ([`modbus`], [`dlt645`],
//! [`huanyang`]), and those that are more than a register map are a [`device::Device`]. Who polls,
//! when and over which wire is the gateway's business.

pub mod catalogue;
pub mod current_loop;
pub mod device;
pub mod dlt645;
pub mod gpio;
pub mod huanyang;
pub mod modbus;
pub mod profile;
pub mod protocol;

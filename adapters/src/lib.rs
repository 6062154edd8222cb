//! Codecs and device profiles: bytes in, readings out.
//!
//! Nothing here knows a clock, a socket, a machine's name or andon's topics. A device is a TOML
//! file in `profiles/` ([`profile`]); a protocol is one source file ([`modbus`], [`dlt645`],
//! [`huanyang`]). Who polls, when
//! and over which wire is the gateway's business.

pub mod current_loop;
pub mod dlt645;
pub mod huanyang;
pub mod modbus;
pub mod profile;

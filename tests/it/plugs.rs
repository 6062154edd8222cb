//! Printers, plugs and sensors behind brokers, through a real mosquitto and the real binary: what
//! is shown, what is refused, what is switched off, and what is never shown as a value.
//!
//! The devices are replays in `peers` that know nothing of andon. What is stated in seconds is the
//! device's period times a number that the protocol's own documentation in `adapters` names.

use std::io::Write as _;
use std::path::Path;
use std::process::ChildStdin;

use andon_tests::peers::need;
use andon_tests::workshop::Workshop;
use anyhow::Result;

mod broker;
mod flood;
mod http;
mod printer;
mod relays;
mod silence;

/// Types a line to a replay.
fn type_to(stdin: &mut ChildStdin, line: &str) -> Result<()> {
    Ok(writeln!(stdin, "{line}")?)
}

/// Whether mosquitto and its publisher are there; says so where they are not.
fn has_mosquitto() -> bool {
    need("mosquitto").is_some() && need("mosquitto_pub").is_some()
}

/// A workshop with the broker `home`.
fn at_home(dir: &Path, port: u16) -> Workshop {
    Workshop::new(dir).with(&broker("home", port))
}

/// `[bus.ID]` of a broker on loopback.
fn broker(id: &str, port: u16) -> String {
    format!("[bus.{id}]\ntype = \"mqtt\"\nhost = \"127.0.0.1\"\nport = {port}\n")
}

/// A device at a broker, with a machine of its own that has all its values.
fn device(bus: &str, id: &str, rest: &str) -> String {
    format!(
        "[source.{id}]\nbus = \"{bus}\"\n{rest}\nperiod = \"300 ms\"\n\
         [machine.{id}]\nkind = \"other\"\nsource = \"{id}\"\n"
    )
}

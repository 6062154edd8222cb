//! The protocols beside Modbus: their names in a configuration, how each is reached, and the
//! [`Device`] that speaks it. A new protocol is one file and its lines here.

use crate::device::Device;

/// How a device is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// HTTP requests to a host.
    Http {
        /// The usual port.
        port: u16,
    },
    /// A WebSocket.
    WebSocket {
        /// The usual port.
        port: u16,
        /// Its path.
        path: &'static str,
    },
    /// A stream of bytes over TCP.
    Tcp {
        /// The usual port.
        port: u16,
    },
    /// A stream of bytes: a serial port of its own, or a TCP port where `host` is given.
    Stream {
        /// The usual speed of the serial port.
        baud: u32,
        /// The usual TCP port.
        port: u16,
    },
    /// A session at the device's own broker, over TLS.
    OwnBroker {
        /// The usual port.
        port: u16,
    },
    /// Topics of a broker that several devices share: a bus of type `mqtt`.
    SharedBroker,
    /// Lines of a GPIO chip of this computer.
    Gpio,
}

/// What a configuration says of a device beyond its address.
#[derive(Clone, Default)]
pub struct Settings {
    /// The topic, serial number or device id that tells it from its neighbours.
    pub topic: String,
    /// Paths into JSON messages, for protocols that are mapped by hand: item and path.
    pub mapping: Vec<(String, String)>,
    /// Whatever else a protocol is told: keys of [`Protocol::options`].
    pub options: Vec<(&'static str, String)>,
}

impl std::fmt::Debug for Settings {
    /// Without the values of options: passwords that a protocol puts into its own words are there.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let options: Vec<&str> = self.options.iter().map(|(name, _)| *name).collect();
        let Self { topic, mapping, .. } = self;
        write!(f, "Settings {{ topic: {topic:?}, mapping: {mapping:?}, options: {options:?} }}")
    }
}

impl Settings {
    /// An option, when it was given.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|(known, _)| *known == name).map(|(_, text)| &**text)
    }
}

/// A protocol that andon speaks.
#[derive(Clone, Copy)]
pub struct Protocol {
    /// Its name in a configuration: `moonraker`.
    pub name: &'static str,
    /// For people: `Klipper through Moonraker`.
    pub title: &'static str,
    /// Where its facts come from.
    pub source: &'static str,
    /// How far it was tried: against which real program, or only against a fake.
    pub evidence: &'static str,
    /// How it is reached.
    pub reach: Reach,
    /// How its credentials are shown to it.
    pub login: Login,
    /// Options of a source of this protocol, with their meaning; those of [`Login::InBand`] are
    /// secrets, which a configuration does not hold itself.
    pub options: &'static [(&'static str, &'static str)],
    /// Makes a device.
    pub device: fn(&Settings) -> Result<Box<dyn Device>, String>,
}

/// How credentials are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    /// There are none.
    None,
    /// A key in this header.
    Header(&'static str),
    /// HTTP digest, with user and password; the user when none is configured.
    Digest(&'static str),
    /// HTTP digest as above, or the key in this header, whichever is configured.
    DigestOrHeader(&'static str, &'static str),
    /// HTTP basic, with user and password.
    Basic,
    /// User name and password of an MQTT session; the user when none is configured.
    Mqtt(&'static str),
    /// The device puts passwords into its own words: these options, each with the key that names
    /// the file that it is read from.
    InBand(&'static [(&'static str, &'static str)]),
}

impl std::fmt::Debug for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Protocol({})", self.name)
    }
}

/// All of them, in the order of their names.
#[rustfmt::skip]
pub const ALL: &[Protocol] = &[
    crate::bambu::PROTOCOL,
    crate::duet::PROTOCOL,
    crate::gpio::PROTOCOL,
    crate::grbl::PROTOCOL,
    crate::haas::PROTOCOL,
    crate::json::PROTOCOL,
    crate::linuxcnc::PROTOCOL,
    crate::marlin::PROTOCOL,
    crate::moonraker::PROTOCOL,
    crate::mtconnect::PROTOCOL,
    crate::octoprint::PROTOCOL,
    crate::prusalink::PROTOCOL,
    crate::shelly::rpc::PROTOCOL,
    crate::shelly::gen1::PROTOCOL,
    crate::shelly::http::PROTOCOL_GEN1,
    crate::shelly::http::PROTOCOL,
    crate::tasmota::PROTOCOL,
    crate::ultimaker::PROTOCOL,
    crate::zigbee2mqtt::PROTOCOL,
];

/// The protocol of this name.
pub fn named(name: &str) -> Option<&'static Protocol> {
    ALL.iter().find(|protocol| protocol.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_are_printed_show_no_password() {
        let options = vec![("password", "s3cret".to_owned())];
        let settings = Settings { options, ..Settings::default() };
        assert!(!format!("{settings:?}").contains("s3cret"));
    }

    #[test]
    fn every_protocol_is_sorted_whole_and_makes_a_device_of_known_items() {
        assert!(ALL.is_sorted_by(|a, b| a.name < b.name));
        for protocol in ALL {
            assert!(!protocol.title.is_empty() && !protocol.source.is_empty());
            assert!(!protocol.evidence.is_empty(), "{protocol:?}");
            let Ok(device) = (protocol.device)(&Settings::default()) else { continue };
            for item in device.items() {
                assert!(andon_engine::item::Item::named(item).is_ok(), "{protocol:?} {item}");
            }
            assert_eq!(named(protocol.name).map(|found| found.title), Some(protocol.title));
        }
    }
}

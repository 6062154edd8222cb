//! A device that was found, as the fragment of a configuration.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use andon_adapters::protocol::{Reach, named};
use serde::Serialize;

/// What is a bus rather than a source.
pub const MODBUS_TCP: &str = "modbus-tcp";
/// Longest id of a proposed source.
const ID_MAX: usize = 32;
/// Longest word of a stranger's in a comment.
const COMMENT_MAX: usize = 120;

/// How often devices behind a broker are asked. Radios are spared, and a device that is mapped by
/// hand speaks when it likes.
const PERIODS: &[(&str, &str)] = &[
    ("tasmota", "2 s"),
    ("shelly", "2 s"),
    ("shelly-gen1", "5 s"),
    ("zigbee2mqtt", "30 s"),
    ("json", "1 min"),
];

/// A device.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Proposal {
    /// What it calls itself; becomes the source's id.
    pub name: String,
    /// The protocol's name in a configuration.
    pub protocol: &'static str,
    /// Its address, for devices with a connection of their own.
    pub host: Option<String>,
    /// Its port, when it is not the usual one.
    pub port: Option<u16>,
    /// Its topic, id or serial number.
    pub topic: Option<String>,
    /// Options and other keys, as text.
    pub options: Vec<(&'static str, String)>,
    /// Items and where they are found, for the protocol that is mapped by hand.
    pub mapping: Vec<(String, String)>,
    /// What a person should know, one line each.
    pub notes: Vec<String>,
}

impl Proposal {
    /// A device of this name and protocol.
    pub fn new(name: impl Into<String>, protocol: &'static str) -> Self {
        Self { name: name.into(), protocol, ..Self::default() }
    }

    /// Adds an option.
    #[must_use]
    pub fn option(mut self, key: &'static str, text: impl Into<String>) -> Self {
        self.options.push((key, text.into()));
        self
    }

    /// Adds a note.
    #[must_use]
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(text.into());
        self
    }

    /// Sets the port, unless it is the protocol's usual one.
    #[must_use]
    pub fn at_port(mut self, port: u16) -> Self {
        self.port = (usual_port(self.protocol) != Some(port)).then_some(port);
        self
    }

    /// The fragment; `bus` is the broker's, for devices that share one.
    fn fragment(&self, id: &str, bus: &str) -> String {
        let mut toml = String::new();
        for note in &self.notes {
            let _ = writeln!(toml, "# {}", comment(note));
        }
        if self.protocol == MODBUS_TCP {
            // Not a device: a line on which there are some.
            let _ = writeln!(toml, "[bus.{id}]\ntype = {}", quoted(self.protocol));
        } else {
            let _ = writeln!(toml, "[source.{id}]");
            if self.host.is_none() {
                let _ = writeln!(toml, "bus = {}", quoted(bus));
            }
            let _ = writeln!(toml, "protocol = {}", quoted(self.protocol));
        }
        if let Some(host) = &self.host {
            let _ = writeln!(toml, "host = {}", quoted(host));
        }
        if let Some(port) = self.port {
            let _ = writeln!(toml, "port = {port}");
        }
        if let Some(topic) = &self.topic {
            // A device that is its own broker is told from others by its serial number.
            let own = named(self.protocol)
                .is_some_and(|protocol| matches!(protocol.reach, Reach::OwnBroker { .. }));
            let key = if own { "serial_number" } else { "topic" };
            let _ = writeln!(toml, "{key} = {}", quoted(topic));
        }
        for (key, text) in &self.options {
            let _ = writeln!(toml, "{key} = {}", quoted(text));
        }
        if let Some((_, period)) = PERIODS.iter().find(|(known, _)| *known == self.protocol) {
            let _ = writeln!(toml, "period = {}", quoted(period));
        }
        if !self.mapping.is_empty() {
            let pairs = self.mapping.iter();
            let pairs: Vec<String> = pairs
                .map(|(item, place)| format!("{} = {}", quoted(item), quoted(place)))
                .collect();
            let _ = writeln!(toml, "mapping = {{ {} }}", pairs.join(", "));
        }
        toml
    }
}

/// The fragments of all devices, in the order of their ids, which are made unique.
pub fn fragments(mut proposals: Vec<Proposal>, bus: &str) -> String {
    proposals.sort_by(|a, b| (&a.name, &a.topic, &a.host).cmp(&(&b.name, &b.topic, &b.host)));
    let mut taken = BTreeSet::new();
    let mut all = Vec::new();
    for proposal in &proposals {
        let base = id(&proposal.name, proposal.protocol);
        let mut unique = base.clone();
        let mut number = 2_u32;
        while !taken.insert(unique.clone()) {
            unique = format!("{base}-{number}");
            number += 1;
        }
        all.push(proposal.fragment(&unique, bus));
    }
    all.join("\n")
}

/// Small letters, digits and single hyphens; the protocol's name when nothing is left.
fn id(name: &str, protocol: &str) -> String {
    let mut id = String::new();
    for character in name.chars() {
        if id.len() == ID_MAX {
            break;
        }
        match character.to_ascii_lowercase() {
            letter if letter.is_ascii_alphanumeric() => id.push(letter),
            _ if !id.is_empty() && !id.ends_with('-') => id.push('-'),
            _ => {}
        }
    }
    let id = id.trim_end_matches('-');
    if id.is_empty() { protocol.to_owned() } else { id.to_owned() }
}

/// The port of a protocol when none is configured.
fn usual_port(protocol: &str) -> Option<u16> {
    if protocol == MODBUS_TCP {
        return Some(502);
    }
    match andon_adapters::protocol::named(protocol)?.reach {
        Reach::Http { port }
        | Reach::WebSocket { port, .. }
        | Reach::Tcp { port }
        | Reach::Stream { port, .. }
        | Reach::OwnBroker { port } => Some(port),
        Reach::SharedBroker | Reach::Gpio => None,
    }
}

/// A string of TOML.
pub fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// What may stand in a comment: one line without control characters.
pub fn comment(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(COMMENT_MAX).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn fragments_have_ids_of_their_own_and_keep_strangers_in_quotes() {
        let hostile = "Säge\"\n[machine.evil]\nx = \"";
        let plug = |topic: &str| Proposal {
            topic: Some(topic.to_owned()),
            ..Proposal::new("Plug Saw", "tasmota").note("says: \u{1b}[2J\n[evil]")
        };
        let mut meter = Proposal::new("??", "json").option("channels", "2");
        meter.mapping = vec![("co2".to_owned(), "co2 ppm".to_owned())];
        let own = Proposal {
            host: Some("192.168.1.40".to_owned()),
            port: Some(7126),
            ..Proposal::new("voron", "moonraker")
        };
        let all = fragments(vec![plug("a"), plug(hostile), meter, own], "home");
        expect![[r#"
            [source.json]
            bus = "home"
            protocol = "json"
            channels = "2"
            period = "1 min"
            mapping = { "co2" = "co2 ppm" }

            # says: [2J[evil]
            [source.plug-saw]
            bus = "home"
            protocol = "tasmota"
            topic = """
            Säge"
            [machine.evil]
            x = """"
            period = "2 s"

            # says: [2J[evil]
            [source.plug-saw-2]
            bus = "home"
            protocol = "tasmota"
            topic = "a"
            period = "2 s"

            [source.voron]
            protocol = "moonraker"
            host = "192.168.1.40"
            port = 7126
        "#]]
        .assert_eq(&all);
        let parsed: toml::Table = all.parse().unwrap();
        assert_eq!(parsed.keys().collect::<Vec<_>>(), ["source"]);
        assert_eq!(parsed["source"]["plug-saw"]["topic"].as_str(), Some(hostile));
    }
}

//! What andon can read, for people: the protocols and the profiles, each with what it offers and how
//! far it was tried. The list in the page beside this crate is generated from here, below
//! [`MARK`], and a test holds it to that.

use std::fmt::Write as _;

use crate::device::Device;
use crate::profile::{Library, Profile};
use crate::protocol::{ALL, Protocol, Reach, Settings};

/// Below this line the page is generated.
pub const MARK: &str = "<!-- Generated below: UPDATE_EXPECT=1 cargo test -p andon-adapters -->\n";

/// The list.
pub fn markdown(library: &Library) -> String {
    let mut page = format!(
        "{MARK}\n## Protocols\n\n`protocol = \"…\"` of a source. Stops are commands to the machine's \
         own controller: none of them is a safety function.\n\n"
    );
    for protocol in ALL {
        protocol_section(&mut page, protocol);
    }
    page += "## Profiles\n\n`profile = \"…\"` of a source on a Modbus line. *datasheet*: written from \
             the maker's documents or another cited source; *trial*: read from a device without \
             contradiction; *verified*: compared with the device's own display.\n\n\
             | profile | device | evidence | items |\n|---|---|---|---|\n";
    for profile in library.ids().filter_map(|id| library.get(id)) {
        profile_row(&mut page, &profile);
    }
    page
}

/// What a device of this protocol offers with no options; `None` where that is up to its mapping.
pub fn offers(protocol: &Protocol) -> Option<Box<dyn Device>> {
    let settings = Settings { topic: "device".to_owned(), ..Settings::default() };
    (protocol.device)(&settings).ok()
}

/// How a protocol is reached, in words.
pub fn reach(protocol: &Protocol) -> String {
    match protocol.reach {
        Reach::Http { port } => format!("HTTP, port {port}"),
        Reach::WebSocket { port, .. } => format!("WebSocket, port {port}"),
        Reach::Tcp { port } => format!("TCP, port {port}"),
        Reach::Stream { baud, port } => {
            format!("serial port of its own, {baud} baud, or TCP, port {port}")
        }
        Reach::OwnBroker { port } => format!("MQTT over TLS to the device, port {port}"),
        Reach::SharedBroker => "MQTT, a bus of type `mqtt`".to_owned(),
        Reach::Gpio => "chip and lines of a /dev/gpiochip of this computer".to_owned(),
    }
}

// Writing to a String cannot fail.
fn protocol_section(page: &mut String, protocol: &Protocol) {
    writeln!(page, "### `{}`: {}\n", protocol.name, protocol.title).ok();
    writeln!(page, "- reached by: {}", reach(protocol)).ok();
    writeln!(page, "- evidence: {}", protocol.evidence).ok();
    writeln!(page, "- source: {}", protocol.source).ok();
    if let Some(device) = offers(protocol) {
        let items: Vec<String> = device.items().iter().map(|item| format!("`{item}`")).collect();
        let items = if items.is_empty() { "as mapped".to_owned() } else { items.join(" ") };
        writeln!(page, "- items: {items}").ok();
        let stops: Vec<String> =
            device.stops().iter().map(|stop| format!("`{}`", stop.word())).collect();
        if !stops.is_empty() {
            writeln!(page, "- stops: {}", stops.join(" ")).ok();
        }
    } else {
        page.push_str("- items: as mapped\n");
    }
    for (name, meaning) in protocol.options {
        writeln!(page, "- option `{name}`: {meaning}").ok();
    }
    page.push('\n');
}

fn profile_row(page: &mut String, profile: &Profile) {
    let items: Vec<&str> = profile.items.iter().map(|item| &*item.item.name).collect();
    let (title, evidence) = (&profile.title, profile.evidence.word());
    writeln!(page, "| `{}` | {title} | {evidence} | {} |", profile.id, short(&items)).ok();
}

/// Item names with those of one base together: `voltage.l1 l2 l3`.
fn short(items: &[&str]) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut last = "";
    for item in items {
        match item.rsplit_once('.') {
            Some((base, suffix)) if base == last => {
                if let Some(word) = words.last_mut() {
                    word.push(' ');
                    word.push_str(suffix);
                }
            }
            split => {
                last = split.map_or("", |(base, _)| base);
                words.push((*item).to_owned());
            }
        }
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use expect_test::expect_file;

    use super::*;
    use crate::protocol::named;

    #[test]
    fn the_page_beside_the_crate_is_the_generated_one() {
        let (library, problems) = Library::load(None);
        assert!(problems.is_empty(), "{problems:?}");
        let page = include_str!("../README.md");
        let (written, _) = page.split_once(MARK).expect("the page has the mark");
        expect_file!["../README.md"].assert_eq(&(written.to_owned() + &markdown(&library)));
    }

    #[test]
    fn every_protocol_is_found_by_its_name_and_offers_items_of_the_closed_list() {
        assert!(ALL.windows(2).all(|pair| pair[0].name < pair[1].name), "in the order of names");
        for protocol in ALL {
            assert_eq!(named(protocol.name).unwrap().name, protocol.name);
            for item in offers(protocol).iter().flat_map(|device| device.items()) {
                assert!(andon_engine::item::Item::named(item).is_ok(), "{}: {item}", protocol.name);
            }
        }
    }

    #[test]
    fn names_of_one_base_are_told_together() {
        let items = ["voltage.l1", "voltage.l2", "frequency", "energy.import", "energy.export"];
        assert_eq!(short(&items), "voltage.l1 l2, frequency, energy.import export");
    }
}

//! `[source.ID]`: a device, either one of a Modbus line with its profile (`registers`), or one that
//! speaks a protocol of its own (`protocol = "moonraker"`, `spoken`). Here is what a source is, and
//! what two of them must not share.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use andon_adapters::device::Stop;
use andon_adapters::profile::{Library, Profile};
use andon_adapters::protocol::{Protocol, Settings};
use andon_engine::item::Item;

use super::bus::{Bus, Way};
use super::named::Named;
use super::plan::{Credentials, Link, Place, Station};
use super::section::Section;

mod place;
mod registers;
mod spoken;

/// Most sources.
pub(super) const SOURCES_MAX: usize = 20_000;
/// The position of a bus or source that is not there, which has been reported.
pub(super) const NOWHERE: usize = usize::MAX;

/// A device.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) id: Arc<str>,
    pub(super) period: Duration,
    /// Items with a period of their own.
    pub(super) periods: BTreeMap<usize, Duration>,
    /// What it can tell; devices of one profile share it.
    pub(super) items: Arc<[Arc<Item>]>,
    pub(super) speaks: Speaks,
}

/// How a device is understood.
#[derive(Debug)]
pub(super) enum Speaks {
    /// By a profile, on a line of Modbus devices.
    Registers(Registers),
    /// By a protocol of its own.
    Protocol(Box<Spoken>),
}

/// A device of a Modbus line.
#[derive(Debug)]
pub(super) struct Registers {
    /// Position of its bus.
    pub(super) bus: usize,
    pub(super) station: Station,
    pub(super) profile: Arc<Profile>,
    /// Its `periods` as they are written.
    pub(super) periods: Vec<(Arc<str>, Duration)>,
    pub(super) ct_ratio: f64,
    pub(super) vt_ratio: f64,
}

/// A device with a protocol of its own.
#[derive(Debug)]
pub(super) struct Spoken {
    pub(super) protocol: &'static Protocol,
    pub(super) settings: Settings,
    pub(super) place: SpokenPlace,
    pub(super) credentials: Credentials,
    pub(super) stops: Vec<Stop>,
}

/// Where such a device is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum SpokenPlace {
    /// On a bus of type `mqtt`: its position.
    Bus(usize),
    /// Anywhere else.
    Own(Place),
}

impl Source {
    /// The position of an item.
    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.items.iter().position(|item| &*item.name == name)
    }

    /// How often an item is read, by its position.
    pub(super) fn period_of(&self, item: usize) -> Duration {
        self.periods.get(&item).copied().unwrap_or(self.period)
    }

    /// The position of the bus that it is on, where it is on one.
    pub(super) fn bus(&self) -> Option<usize> {
        match &self.speaks {
            Speaks::Registers(registers) => Some(registers.bus),
            Speaks::Protocol(spoken) => match spoken.place {
                SpokenPlace::Bus(bus) => Some(bus),
                SpokenPlace::Own(_) => None,
            },
        }
    }

    /// Its profile or protocol, in words.
    pub(super) fn describe(&self) -> String {
        match &self.speaks {
            Speaks::Registers(registers) => format!("profile {}", registers.profile.id),
            Speaks::Protocol(spoken) => format!("protocol {}", spoken.protocol.name),
        }
    }
}

/// What is taken already, and by which source.
#[derive(Default)]
struct Taken<'a> {
    units: HashMap<(usize, Station), &'a str>,
    ports: HashMap<String, &'a str>,
    devices: HashMap<String, &'a str>,
    /// The items of the profiles met so far, by their ids.
    items: HashMap<Arc<str>, Arc<[Arc<Item>]>>,
}

/// Every `[source.ID]`.
pub(super) fn sources<'a>(
    root: &Section<'a>,
    buses: &Named<'a, Bus>,
    library: &Library,
    folder: &Path,
) -> Named<'a, Source> {
    let mut taken = Taken::default();
    for bus in &buses.list {
        if let Way::Line { link: Link::Rtu { port, .. }, .. } = &bus.way {
            taken.ports.insert(port.to_string_lossy().into_owned(), "a bus");
        }
    }
    Named::read(root, "source", SOURCES_MAX, |id, section| {
        if section.has("protocol") {
            spoken::source(id, section, buses, folder, &mut taken)
        } else {
            registers::source(id, section, buses, library, &mut taken)
        }
    })
}

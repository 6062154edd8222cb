//! A device of a Modbus line (also DL/T 645 meters and Huanyang inverters): its profile, its ratios
//! and what it is called on its line.

use std::sync::Arc;
use std::time::Duration;

use andon_adapters::modbus;
use andon_adapters::profile::{Library, Profile};

use super::{NOWHERE, Registers, Source, Speaks, Taken};
use crate::config::bus::{Bus, Way};
use crate::config::named::Named;
use crate::config::plan::{Link, Station};
use crate::config::section::Section;
use crate::config::{keys, period};

/// Largest transformer ratio: 100 kA to 1 A.
const RATIO_MAX: f64 = 100_000.0;
/// How often registers are read, unless configured.
const PERIOD_REGISTERS: Duration = Duration::from_secs(1);

/// A source that is read by registers. `None` only after a problem was reported.
pub(super) fn source<'a>(
    id: &'a str,
    section: &Section<'a>,
    buses: &Named<'a, Bus>,
    library: &Library,
    taken: &mut Taken<'a>,
) -> Option<Source> {
    section.only(keys::SOURCE);
    let bus = section.need("bus", "\"panel\"", buses.named_by(section, "bus"));
    let link = bus.and_then(|bus| match &buses.list[bus].way {
        Way::Line { link, .. } => Some(link),
        Way::Broker(_) => {
            let hint = "add protocol = \"tasmota\", or name a Modbus bus".to_owned();
            section.problem("bus", "is a broker, and this source has no protocol", Some(hint));
            None
        }
    });
    let profile = profile(section, library);
    let station = station(section, link, profile.as_deref());
    let period = period::every(section, period::LEAST, PERIOD_REGISTERS);
    let ct_ratio = section.ratio("ct_ratio", RATIO_MAX);
    let vt_ratio = section.ratio("vt_ratio", RATIO_MAX);
    if let Some(key) = bus.zip(station) {
        if let Some(other) = taken.units.get(&key) {
            let message = format!("source \"{other}\" has {} on this bus already", key.1);
            let hint = "two devices that answer to one address garble each other".to_owned();
            let at = if section.has("address") { "address" } else { "unit_id" };
            section.problem(at, message, Some(hint));
        } else {
            taken.units.insert(key, id);
        }
    }
    // Without its profile nobody knows what it measures; all else has a stand-in once it is
    // reported, so that the machines of this source are checked in the same run.
    let profile = profile?;
    let of_profile = || profile.items.iter().map(|item| Arc::new(item.item.clone())).collect();
    let items = taken.items.entry(profile.id.clone()).or_insert_with(of_profile).clone();
    let (periods, written) = period::of_items(section, &items);
    Some(Source {
        id: id.into(),
        period: period.unwrap_or(PERIOD_REGISTERS),
        periods,
        items,
        speaks: Speaks::Registers(Registers {
            bus: bus.filter(|_| link.is_some()).unwrap_or(NOWHERE),
            station: station.unwrap_or(Station::Unit(0)),
            profile,
            periods: written,
            ct_ratio: ct_ratio.unwrap_or(1.0),
            vt_ratio: vt_ratio.unwrap_or(1.0),
        }),
    })
}

/// What the device is called on its line, as its profile's protocol has it.
fn station(
    section: &Section<'_>,
    link: Option<&Link>,
    profile: Option<&Profile>,
) -> Option<Station> {
    let spoken = profile.map(Profile::protocol);
    if let (Some(Link::Tcp { .. }), Some(other)) = (link, spoken)
        && other != modbus::Protocol::Modbus
    {
        let hint = "type = \"modbus-rtu-over-tcp\" carries it".to_owned();
        section.problem("profile", "its devices do not speak Modbus TCP", Some(hint));
    }
    let by_digits = spoken.map_or(section.has("address"), modbus::Protocol::is_dlt645);
    if by_digits {
        if section.has("unit_id") {
            let hint = "write address = \"123456789012\", the number on its label".to_owned();
            section.problem("unit_id", "a DL/T 645 meter has none", Some(hint));
        }
        let address = section.text("address").and_then(|text| {
            let parsed = text.parse();
            if let Err(error) = &parsed {
                section.problem("address", format!("\"{text}\": {error}"), None);
            }
            parsed.ok()
        });
        return section.need("address", "\"123456789012\"", address).map(Station::Meter);
    }
    if section.has("address") {
        let hint = "write unit_id = 1".to_owned();
        section.problem("address", "only for DL/T 645 meters", Some(hint));
    }
    unit_id(section, link).map(Station::Unit)
}

/// Serial devices are 1 to 247 (Modbus over Serial Line 1.02 §2.2); over TCP also 0 and 255,
/// with which many devices mean themselves.
fn unit_id(section: &Section<'_>, link: Option<&Link>) -> Option<u8> {
    let range = if matches!(link, Some(Link::Tcp { .. })) { 0..=255 } else { 1..=247 };
    let unit_id = section.integer("unit_id", range);
    section.need("unit_id", "1", unit_id).and_then(|unit_id| u8::try_from(unit_id).ok())
}

fn profile(section: &Section<'_>, library: &Library) -> Option<Arc<Profile>> {
    let id = section.need("profile", "\"eastron/sdm120\"", section.text("profile"))?;
    let found = library.get(id);
    if found.is_none() {
        let hint = match library.nearest(id) {
            Some(nearest) => format!("did you mean \"{nearest}\"?"),
            None => "andon profile list shows those that there are".to_owned(),
        };
        section.problem("profile", format!("there is no profile \"{id}\""), Some(hint));
    }
    found
}

//! `[bus.ID]` and `[source.ID]`: lines and gateways, and the devices on them.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use andon_adapters::profile::{Library, Profile};

use super::keys;
use super::named::Named;
use super::plan::{Link, Parity};
use super::section::Section;

/// Most buses: each has a task or a thread of its own.
pub(super) const BUSES_MAX: usize = 256;
/// Most sources.
pub(super) const SOURCES_MAX: usize = 20_000;
/// What the line usually needs to be told; makers' defaults vary, so the port must say it.
const BAUDS: &[i64] = &[1200, 2400, 4800, 9600, 14_400, 19_200, 38_400, 57_600, 115_200];
/// What a device may take to begin its answer, unless configured.
const TURNAROUND_RTU: Duration = Duration::from_millis(100);
/// The same through a gateway, which may be busy with other devices.
const TURNAROUND_TCP: Duration = Duration::from_millis(250);
/// How often a source is read, unless configured.
const PERIOD: Duration = Duration::from_secs(1);
/// The position of a bus or source that is not there, which has been reported.
pub(super) const NOWHERE: usize = usize::MAX;
/// Largest transformer ratio: 100 kA to 1 A.
const RATIO_MAX: f64 = 100_000.0;

/// A bus without its devices.
#[derive(Debug)]
pub(super) struct Bus {
    pub(super) id: Arc<str>,
    pub(super) link: Link,
    pub(super) turnaround: Duration,
}

/// A device on a bus.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) id: Arc<str>,
    /// Position of its bus.
    pub(super) bus: usize,
    pub(super) unit_id: u8,
    pub(super) profile: Arc<Profile>,
    pub(super) period: Duration,
    pub(super) ct_ratio: f64,
    pub(super) vt_ratio: f64,
}

/// Every `[bus.ID]`.
pub(super) fn buses<'a>(root: &Section<'a>) -> Named<'a, Bus> {
    let mut seen: HashMap<String, (String, Link)> = HashMap::new();
    Named::read(root, "bus", BUSES_MAX, |id, section| {
        // One that is wrong stands in for itself, so that what hangs on it is checked all the same.
        let Some(link) = link(section) else {
            let link = Link::Tcp { address: String::new() };
            return Some(Bus { id: id.into(), link, turnaround: TURNAROUND_TCP });
        };
        let end = match &link {
            Link::Tcp { address } | Link::RtuOverTcp { address, .. } => address.clone(),
            Link::Rtu { port, .. } => port.to_string_lossy().into_owned(),
        };
        let (key, end_key) =
            if matches!(link, Link::Rtu { .. }) { ("port", end.clone()) } else { ("host", end) };
        if let Some((other, other_link)) = seen.get(&end_key) {
            let how = if *other_link == link { "" } else { " and with other settings" };
            let hint = format!("one line is one bus: put its sources on bus \"{other}\"");
            section.problem(key, format!("bus \"{other}\" has it already{how}"), Some(hint));
        } else {
            seen.insert(end_key, (id.to_owned(), link.clone()));
        }
        let default =
            if matches!(link, Link::Rtu { .. }) { TURNAROUND_RTU } else { TURNAROUND_TCP };
        let range = Duration::from_millis(1)..=Duration::from_secs(10);
        let turnaround = section.duration("turnaround", range).unwrap_or(default);
        Some(Bus { id: id.into(), link, turnaround })
    })
}

fn link(section: &Section<'_>) -> Option<Link> {
    const TYPES: &[&str] = &["modbus-tcp", "modbus-rtu-over-tcp", "modbus-rtu"];
    let kind = section.one_of("type", TYPES);
    match section.need("type", "\"modbus-rtu\"", kind)? {
        0 => {
            section.only(keys::BUS_TCP);
            Some(Link::Tcp { address: address(section)? })
        }
        1 => {
            section.only(keys::BUS_RTU_OVER_TCP);
            let (address, baud) = (address(section), baud(section));
            Some(Link::RtuOverTcp { address: address?, baud: baud? })
        }
        _ => {
            section.only(keys::BUS_RTU);
            let (port, baud) = (serial_port(section), baud(section));
            let parity = section.one_of("parity", &["none", "even", "odd"]);
            let stop_bits = section.integer("stop_bits", 1..=2);
            let parity = match parity {
                Some(1) => Parity::Even,
                Some(2) => Parity::Odd,
                _ => Parity::None,
            };
            let stop_bits = if stop_bits == Some(2) { 2 } else { 1 };
            Some(Link::Rtu { port: port?, baud: baud?, parity, stop_bits })
        }
    }
}

fn address(section: &Section<'_>) -> Option<String> {
    let host = section.need("host", "\"192.168.1.50\"", section.text("host"));
    let port = section.integer("port", 1..=65_535);
    let host = host.filter(|host| {
        let fine = !host.contains(|c: char| c.is_whitespace() || c == '/' || c == '@');
        if !fine {
            section.problem("host", format!("\"{host}\" is not a host name"), None);
        }
        fine
    })?;
    let port = port.unwrap_or(502);
    // A bare IPv6 address needs brackets before a port.
    let bare_v6 = host.contains(':') && !host.starts_with('[');
    Some(if bare_v6 { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
}

fn baud(section: &Section<'_>) -> Option<u32> {
    let baud = section.need("baud", "9600", section.integer("baud", 1..=4_000_000))?;
    if BAUDS.contains(&baud) {
        return u32::try_from(baud).ok();
    }
    let known: Vec<String> = BAUDS.iter().map(ToString::to_string).collect();
    let hint = format!("one of: {}", known.join(", "));
    section.problem("baud", format!("{baud} is not a usual speed"), Some(hint));
    None
}

fn serial_port(section: &Section<'_>) -> Option<PathBuf> {
    let example = "\"/dev/serial/by-id/usb-…\"";
    let port = section.need("port", example, section.text("port"))?;
    if !port.starts_with('/') {
        let hint = format!("write port = {example}");
        section.problem("port", format!("\"{port}\" is not a path of a device"), Some(hint));
        return None;
    }
    let volatile = ["/dev/ttyUSB", "/dev/ttyACM"].iter().any(|name| {
        port.strip_prefix(name).is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()))
    });
    if volatile {
        let hint = match by_id(Path::new(port)) {
            Some(stable) => format!("write \"{}\"", stable.display()),
            None => "ls -l /dev/serial/by-id shows its stable name".to_owned(),
        };
        let message = format!("{port} may be another adapter after the next restart");
        section.problem("port", message, Some(hint));
        return None;
    }
    Some(PathBuf::from(port))
}

/// The stable name of a serial port, when it is plugged in.
fn by_id(port: &Path) -> Option<PathBuf> {
    let device = fs::canonicalize(port).ok()?;
    let mut links = fs::read_dir("/dev/serial/by-id").ok()?.flatten().map(|entry| entry.path());
    links.find(|link| fs::canonicalize(link).is_ok_and(|target| target == device))
}

/// Every `[source.ID]`.
pub(super) fn sources<'a>(
    root: &Section<'a>,
    buses: &Named<'a, Bus>,
    library: &Library,
) -> Named<'a, Source> {
    let mut seen: HashMap<(usize, u8), &str> = HashMap::new();
    Named::read(root, "source", SOURCES_MAX, |id, section| {
        section.only(keys::SOURCE);
        let bus = section.need("bus", "\"panel\"", buses.named_by(section, "bus"));
        let unit_id = unit_id(section, bus.map(|bus| &buses.list[bus].link));
        let profile = profile(section, library);
        let range = Duration::from_millis(10)..=Duration::from_secs(3600);
        let period = section.duration("period", range);
        let ct_ratio = section.ratio("ct_ratio", RATIO_MAX);
        let vt_ratio = section.ratio("vt_ratio", RATIO_MAX);
        if let Some(key) = bus.zip(unit_id) {
            if let Some(other) = seen.get(&key) {
                let message = format!("source \"{other}\" has unit {} on this bus already", key.1);
                let hint = "two devices that answer to one address garble each other".to_owned();
                section.problem("unit_id", message, Some(hint));
            } else {
                seen.insert(key, id);
            }
        }
        // Without its profile nobody knows what it measures; all else has a stand-in once it is
        // reported, so that the machines of this source are checked in the same run.
        Some(Source {
            id: id.into(),
            bus: bus.unwrap_or(NOWHERE),
            unit_id: unit_id.unwrap_or(0),
            profile: profile?,
            period: period.unwrap_or(PERIOD),
            ct_ratio: ct_ratio.unwrap_or(1.0),
            vt_ratio: vt_ratio.unwrap_or(1.0),
        })
    })
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

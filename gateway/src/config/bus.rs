//! `[bus.ID]`: lines and gateways with Modbus devices on them, and brokers that devices share.

use std::collections::HashMap;
use std::fs;
use std::net::{Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use andon_engine::unit::Unit;

use super::keys;
use super::named::Named;
use super::plan::{BrokerPlan, Link, Parity, SerialLine};
use super::section::Section;
use crate::bus::unit::{DEAD_SHARE, DEAD_SHARE_MAX, DEAD_SHARE_MIN};

/// Most buses: each has a task or a thread of its own.
pub(super) const BUSES_MAX: usize = 256;
/// What the line usually needs to be told; makers' defaults vary, so the port must say it.
const BAUDS: &[i64] = &[1200, 2400, 4800, 9600, 14_400, 19_200, 38_400, 57_600, 115_200, 250_000];
/// What a device may take to begin its answer, unless configured.
const TURNAROUND_RTU: Duration = Duration::from_millis(100);
/// The same through a gateway, which may be busy with other devices.
const TURNAROUND_TCP: Duration = Duration::from_millis(250);
/// What `turnaround` may be.
pub(crate) const TURNAROUND_RANGE: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(10);

/// Longest pause between two requests: a gateway that needs more is broken.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What is configured of a line beside its address.
#[derive(Clone, Copy, Debug)]
pub(super) struct LineTimes {
    pub(super) turnaround: Duration,
    pub(super) pause: Duration,
    pub(super) dead_share: f64,
}

/// A bus without its devices.
#[derive(Debug)]
pub(super) struct Bus {
    pub(super) id: Arc<str>,
    pub(super) way: Way,
}

/// What a bus is.
#[derive(Debug)]
pub(super) enum Way {
    /// A line or gateway with Modbus devices.
    Line { link: Link, times: LineTimes },
    /// A broker that devices share.
    Broker(BrokerPlan),
}

/// Every `[bus.ID]`.
pub(super) fn buses<'a>(root: &Section<'a>, folder: &Path) -> Named<'a, Bus> {
    let mut seen: HashMap<String, (String, Link)> = HashMap::new();
    Named::read(root, "bus", BUSES_MAX, |id, section| {
        if section.text("type") == Some("mqtt") {
            let broker = broker(id, section, folder)?;
            return Some(Bus { id: id.into(), way: Way::Broker(broker) });
        }
        // One that is wrong stands in for itself, so that what hangs on it is checked all the same.
        let Some(link) = link(section) else {
            let link = Link::Tcp { address: String::new(), baud: None };
            let times = LineTimes {
                turnaround: TURNAROUND_TCP,
                pause: Duration::ZERO,
                dead_share: DEAD_SHARE,
            };
            let way = Way::Line { link, times };
            return Some(Bus { id: id.into(), way });
        };
        let end = match &link {
            Link::Tcp { address, .. } | Link::RtuOverTcp { address, .. } => endpoint(address),
            Link::Rtu { port, .. } => port.to_string_lossy().into_owned(),
        };
        let (key, end_key) =
            if matches!(link, Link::Rtu { .. }) { ("port", end.clone()) } else { ("host", end) };
        if let Some((other, other_link)) = seen.get(&end_key) {
            let how = if *other_link == link { "" } else { " and with other settings" };
            // Gateways serve as few as one connection, and whoever has two gets turns at best.
            let hint = format!("one line is one bus: put its sources on bus \"{other}\"");
            section.problem(key, format!("bus \"{other}\" has it already{how}"), Some(hint));
        } else {
            seen.insert(end_key, (id.to_owned(), link.clone()));
        }
        let times = times(section, &link);
        Some(Bus { id: id.into(), way: Way::Line { link, times } })
    })
}

fn times(section: &Section<'_>, link: &Link) -> LineTimes {
    let default = if matches!(link, Link::Rtu { .. }) { TURNAROUND_RTU } else { TURNAROUND_TCP };
    let turnaround = section.duration("turnaround", TURNAROUND_RANGE).unwrap_or(default);
    let pause = section.duration("pause", Duration::ZERO..=PAUSE_MAX).unwrap_or_default();
    let dead_share = section.quantity("dead_share", Unit::Ratio).filter(|share| {
        let allowed = (DEAD_SHARE_MIN..=DEAD_SHARE_MAX).contains(share);
        if !allowed {
            let hint = "more would be taken from the devices that answer; write \"2 %\"".to_owned();
            section.problem("dead_share", "must be between 0.1 % and 5 %", Some(hint));
        }
        allowed
    });
    LineTimes { turnaround, pause, dead_share: dead_share.unwrap_or(DEAD_SHARE) }
}

/// One way to write each address, so that a gateway is not connected to twice.
fn endpoint(address: &str) -> String {
    match address.parse::<SocketAddr>() {
        Ok(address) => address.to_string(),
        Err(_) => address.to_ascii_lowercase(),
    }
}

fn broker(id: &str, section: &Section<'_>, folder: &Path) -> Option<BrokerPlan> {
    section.only(keys::BUS_MQTT);
    let host = host(section);
    let port = section.integer("port", 1..=65_535).and_then(|port| u16::try_from(port).ok());
    let (login, ca_file) = super::general::session(section, folder);
    let default_port = if ca_file.is_some() { 8883 } else { 1883 };
    let port = port.unwrap_or(default_port);
    Some(BrokerPlan { id: id.into(), host: host?.to_owned(), port, login, ca_file })
}

fn link(section: &Section<'_>) -> Option<Link> {
    const TYPES: &[&str] = &["modbus-tcp", "modbus-rtu-over-tcp", "modbus-rtu", "dlt645", "mqtt"];
    /// What DL/T 645 meters are set to when they leave the works.
    const DLT645_BAUD: u32 = 2400;
    let kind = section.one_of("type", TYPES);
    match section.need("type", "\"modbus-rtu\"", kind)? {
        0 => {
            section.only(keys::BUS_TCP);
            let speed = section.has("baud").then(|| baud(section));
            Some(Link::Tcp { address: address(section)?, baud: speed.flatten() })
        }
        1 => {
            section.only(keys::BUS_RTU_OVER_TCP);
            let (address, baud) = (address(section), baud(section));
            Some(Link::RtuOverTcp { address: address?, baud: baud? })
        }
        kind => {
            section.only(keys::BUS_RTU);
            let dlt645 = kind == 3;
            let port = serial_port(section);
            let baud =
                if section.has("baud") || !dlt645 { baud(section) } else { Some(DLT645_BAUD) };
            let parity =
                if dlt645 && !section.has("parity") { Parity::Even } else { parity(section) };
            let stop_bits = stop_bits(section);
            Some(Link::Rtu { port: port?, baud: baud?, parity, stop_bits })
        }
    }
}

/// How characters travel on a device's own serial port; eight bits, one stop bit and no flow control
/// unless configured.
pub(super) fn serial_line(section: &Section<'_>, usual_baud: u32) -> Option<SerialLine> {
    let baud = if section.has("baud") { baud(section) } else { Some(usual_baud) };
    let parity = parity(section);
    let data_bits = if section.integer("data_bits", 7..=8) == Some(7) { 7 } else { 8 };
    let stop_bits = stop_bits(section);
    let xonxoff = section.one_of("flow", &["none", "xonxoff"]) == Some(1);
    Some(SerialLine { baud: baud?, parity, data_bits, stop_bits, xonxoff })
}

/// Stop bits of a serial line; one unless configured.
fn stop_bits(section: &Section<'_>) -> u8 {
    if section.integer("stop_bits", 1..=2) == Some(2) { 2 } else { 1 }
}

/// Parity of a serial line; none unless configured.
pub(super) fn parity(section: &Section<'_>) -> Parity {
    match section.one_of("parity", &["none", "even", "odd"]) {
        Some(1) => Parity::Even,
        Some(2) => Parity::Odd,
        _ => Parity::None,
    }
}

/// The name or address of a host.
pub(super) fn host<'a>(section: &Section<'a>) -> Option<&'a str> {
    let host = section.need("host", "\"192.168.1.50\"", section.text("host"));
    host.filter(|host| {
        let odd = host.contains(|c: char| c.is_whitespace() || c == '/' || c == '@');
        // A colon is part of an IPv6 address, which may have brackets and a zone, or a mistake.
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let address = bare.split('%').next().unwrap_or(bare);
        let colon = host.contains(':') && address.parse::<Ipv6Addr>().is_err();
        if odd || colon {
            let hint = "write the name or address alone, and the port as port = 1234".to_owned();
            section.problem("host", format!("\"{host}\" is not a host name"), Some(hint));
        }
        !odd && !colon
    })
}

fn address(section: &Section<'_>) -> Option<String> {
    let host = host(section);
    let port = section.integer("port", 1..=65_535);
    let host = host?;
    let port = port.unwrap_or(502);
    // A bare IPv6 address needs brackets before a port.
    let bare_v6 = host.contains(':') && !host.starts_with('[');
    Some(if bare_v6 { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
}

pub(super) fn baud(section: &Section<'_>) -> Option<u32> {
    let baud = section.need("baud", "9600", section.integer("baud", 1..=4_000_000))?;
    if BAUDS.contains(&baud) {
        return u32::try_from(baud).ok();
    }
    let known: Vec<String> = BAUDS.iter().map(ToString::to_string).collect();
    let hint = format!("one of: {}", known.join(", "));
    section.problem("baud", format!("{baud} is not a usual speed"), Some(hint));
    None
}

pub(super) fn serial_port(section: &Section<'_>) -> Option<PathBuf> {
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

//! `[source.ID]`: a device, either one of a Modbus line with its profile, or one that speaks a
//! protocol of its own (`protocol = "moonraker"`).
//!
//! What a protocol is told beyond its address is the protocol's own business: its constructor
//! judges it here, so that a mapping that means nothing is found by `andon check`.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use andon_adapters::device::Stop;
use andon_adapters::modbus;
use andon_adapters::profile::{Library, Profile};
use andon_adapters::protocol::{self, Login, Protocol, Reach, Settings};
use andon_engine::item::{Item, UnknownItem};

use super::bus::{self, Bus, Way};
use super::keys;
use super::named::Named;
use super::node::Content;
use super::period;
use super::plan::{Bias, Credentials, GpioLine, Link, Place, Secret, Station};
use super::problem::did_you_mean;
use super::section::Section;

/// Most sources.
pub(super) const SOURCES_MAX: usize = 20_000;
/// The position of a bus or source that is not there, which has been reported.
pub(super) const NOWHERE: usize = usize::MAX;
/// Largest transformer ratio: 100 kA to 1 A.
const RATIO_MAX: f64 = 100_000.0;
/// How often registers are read, unless configured.
const PERIOD_REGISTERS: Duration = Duration::from_secs(1);
/// How often a device with a protocol of its own is asked, unless configured.
const PERIOD_DEVICE: Duration = Duration::from_secs(2);
/// The least period of such a device: small controllers serve one request at a time, and a GRBL
/// must not be asked more than 5 times a second.
const PERIOD_DEVICE_LEAST: Duration = Duration::from_millis(200);

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
            spoken(id, section, buses, folder, &mut taken)
        } else {
            registers(id, section, buses, library, &mut taken)
        }
    })
}

fn registers<'a>(
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
    let period = period(section, period::LEAST, PERIOD_REGISTERS);
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
    Some(Source {
        id: id.into(),
        period: period.unwrap_or(PERIOD_REGISTERS),
        periods: period::of_items(section, &items),
        items,
        speaks: Speaks::Registers(Registers {
            bus: bus.filter(|_| link.is_some()).unwrap_or(NOWHERE),
            station: station.unwrap_or(Station::Unit(0)),
            profile,
            ct_ratio: ct_ratio.unwrap_or(1.0),
            vt_ratio: vt_ratio.unwrap_or(1.0),
        }),
    })
}

fn period(section: &Section<'_>, least: Duration, default: Duration) -> Option<Duration> {
    let period = section.duration("period", least..=period::LONGEST);
    period.or_else(|| (!section.has("period")).then_some(default))
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

fn spoken<'a>(
    id: &'a str,
    section: &Section<'a>,
    buses: &Named<'a, Bus>,
    folder: &Path,
    taken: &mut Taken<'a>,
) -> Option<Source> {
    let protocol = protocol(section)?;
    section.only(&known_keys(section, protocol));
    let place = place(id, section, protocol, buses, taken);
    let period = period(section, PERIOD_DEVICE_LEAST, PERIOD_DEVICE);
    let credentials = credentials(section, protocol, folder);
    let settings = settings(section, protocol, folder);
    if let (Some(place), Some(settings)) = (&place, &settings) {
        only_once(id, section, (protocol, place, settings), taken);
    }
    let (settings, device) = settings.and_then(|settings| {
        let made = (protocol.device)(&settings).map_err(|why| {
            // The words begin with the key that they are about, where it is one.
            let key = why.split([' ', ':']).next().filter(|key| section.has(key));
            section.problem(key.unwrap_or("protocol"), why.clone(), None);
        });
        Some((settings, made.ok()?))
    })?;
    let items = device.items().iter().map(|name| Item::named(name).map(Arc::new));
    let items = items.collect::<Result<_, _>>();
    let items = items.map_err(|unknown: UnknownItem| {
        let hint = unknown.nearest.map(|nearest| format!("did you mean \"{nearest}\"?"));
        match section.table(mapped(protocol)).filter(|table| table.has(&unknown.name)) {
            Some(table) => table.problem(&unknown.name, "is not an item that andon knows", hint),
            None => section.problem("protocol", format!("no item {}", unknown.name), hint),
        }
    });
    Some(Source {
        id: id.into(),
        period: period.unwrap_or(PERIOD_DEVICE),
        periods: BTreeMap::new(),
        items: items.ok()?,
        speaks: Speaks::Protocol(Box::new(Spoken {
            protocol,
            settings,
            // A place that is wrong has been reported; the machines are checked all the same.
            place: place.unwrap_or(SpokenPlace::Bus(NOWHERE)),
            credentials,
            stops: device.stops().to_vec(),
        })),
    })
}

/// Reports a device that another source asks already. Serial ports are looked at elsewhere.
fn only_once<'a>(
    id: &'a str,
    section: &Section<'a>,
    (protocol, place, settings): (&Protocol, &SpokenPlace, &Settings),
    taken: &mut Taken<'a>,
) {
    let key = match place {
        SpokenPlace::Own(Place::Net { .. }) => "host",
        SpokenPlace::Bus(_) => "topic",
        SpokenPlace::Own(_) => return,
    };
    // An agent may speak for several devices, and a message tell of several.
    let which = settings.option("device").unwrap_or_default();
    let mapping = &settings.mapping;
    let device = format!("{} {place:?} {} {which} {mapping:?}", protocol.name, settings.topic);
    if let Some(other) = taken.devices.get(&device) {
        let hint = format!("one device is one source: machines may share the items of \"{other}\"");
        section.problem(key, format!("source \"{other}\" is this device already"), Some(hint));
    } else {
        taken.devices.insert(device, id);
    }
}

fn protocol(section: &Section<'_>) -> Option<&'static Protocol> {
    let name = section.text("protocol")?;
    let found = protocol::named(name);
    if found.is_none() {
        let names = || protocol::ALL.iter().map(|protocol| protocol.name);
        let hint = did_you_mean(name, names())
            .unwrap_or_else(|| format!("one of: {}", names().collect::<Vec<_>>().join(", ")));
        section.problem("protocol", format!("there is no protocol \"{name}\""), Some(hint));
    }
    found
}

/// The keys that a source of this protocol may have.
fn known_keys<'p>(section: &Section<'_>, protocol: &'p Protocol) -> Vec<&'p str> {
    let place = match protocol.reach {
        Reach::Http { .. } | Reach::WebSocket { .. } | Reach::Tcp { .. } => keys::SOURCE_NET,
        Reach::Stream { .. } if section.has("host") => keys::SOURCE_NET,
        Reach::Stream { .. } => keys::SOURCE_SERIAL,
        Reach::OwnBroker { .. } => keys::SOURCE_OWN_BROKER,
        Reach::SharedBroker => keys::SOURCE_SHARED_BROKER,
        Reach::Gpio => keys::SOURCE_GPIO,
    };
    let login: &[&str] = match protocol.login {
        Login::None => &[],
        Login::Header(_) => keys::SOURCE_KEY,
        Login::Digest(_) | Login::Basic | Login::Mqtt(_) => keys::SOURCE_PASSWORD,
        Login::DigestOrHeader(..) => keys::SOURCE_KEY_OR_PASSWORD,
        // Their own keys are among the options.
        Login::InBand(_) => &[],
    };
    let files = in_band(protocol).iter().map(|(_, file)| *file);
    let options = protocol.options.iter().map(|(name, _)| *name).chain(files);
    [keys::SOURCE_PROTOCOL, place, login].concat().into_iter().chain(options).collect()
}

/// The options of a protocol that are secrets, each with the key of its file.
fn in_band(protocol: &Protocol) -> &'static [(&'static str, &'static str)] {
    match protocol.login {
        Login::InBand(secrets) => secrets,
        _ => &[],
    }
}

fn place<'a>(
    id: &'a str,
    section: &Section<'a>,
    protocol: &Protocol,
    buses: &Named<'a, Bus>,
    taken: &mut Taken<'a>,
) -> Option<SpokenPlace> {
    let own = |place| Some(SpokenPlace::Own(place));
    match protocol.reach {
        Reach::Http { port }
        | Reach::WebSocket { port, .. }
        | Reach::Tcp { port }
        | Reach::OwnBroker { port } => own(net(section, port)?),
        Reach::Stream { port, .. } if section.has("host") => own(net(section, port)?),
        Reach::Stream { baud, .. } => own(serial(id, section, baud, taken)?),
        Reach::Gpio => own(gpio(section)?),
        Reach::SharedBroker => {
            if !section.has("bus") {
                section.problem("bus", "missing", Some(broker_hint(buses)));
            }
            let bus = buses.named_by(section, "bus")?;
            if let Way::Broker(_) = buses.list[bus].way {
                return Some(SpokenPlace::Bus(bus));
            }
            let hint = "name a bus with type = \"mqtt\"".to_owned();
            section.problem("bus", "is not a broker", Some(hint));
            None
        }
    }
}

/// How a source comes to a broker: at one that is there, or else at one to be added.
fn broker_hint(buses: &Named<'_, Bus>) -> String {
    let broker = buses.list.iter().find(|bus| matches!(bus.way, Way::Broker(_)));
    match broker {
        Some(bus) => format!("write bus = \"{}\"", bus.id),
        None => "add a section [bus.home] with type = \"mqtt\" and host = \"…\", and write \
                 bus = \"home\""
            .to_owned(),
    }
}

fn net(section: &Section<'_>, default_port: u16) -> Option<Place> {
    let host = bus::host(section);
    let port = section.integer("port", 1..=65_535).and_then(|port| u16::try_from(port).ok());
    let port = port.or_else(|| (!section.has("port")).then_some(default_port));
    let host = host?.trim_start_matches('[').trim_end_matches(']').to_owned();
    Some(Place::Net { host, port: port? })
}

/// A serial port of its own: andon opens it only when told that nobody else does, because two
/// programs on one port break a job.
fn serial<'a>(
    id: &'a str,
    section: &Section<'a>,
    usual_baud: u32,
    taken: &mut Taken<'a>,
) -> Option<Place> {
    let port = bus::serial_port(section);
    let owner = section.one_of("owner", &["andon"]);
    if !section.has("owner") {
        let hint = "write owner = \"andon\" when no other program (OctoPrint, a sender) opens this \
                    port; otherwise read the machine through that program";
        section.problem("owner", "missing", Some(hint.to_owned()));
    }
    let line = bus::serial_line(section, usual_baud);
    let port = port?;
    if let Some(other) = taken.ports.insert(port.to_string_lossy().into_owned(), id) {
        let message = format!("{} is {other}'s already", port.display());
        section.problem("port", message, Some("one port has one owner".to_owned()));
        return None;
    }
    owner?;
    Some(Place::Serial { port, line: line? })
}

/// `chip = "/dev/gpiochip0"`, `lines = { "input.1" = "17 low pull-up" }`
fn gpio(section: &Section<'_>) -> Option<Place> {
    let chip = section.text("chip").unwrap_or("/dev/gpiochip0").into();
    let table = section.table("lines")?;
    let mut lines = Vec::new();
    let mut wrong = false;
    for (name, _) in table.iter() {
        let Some(line) = gpio_line(&table, name) else {
            wrong = true;
            continue;
        };
        if lines.iter().any(|known: &GpioLine| known.offset == line.offset) {
            table.problem(name, format!("line {} is there twice", line.offset), None);
        }
        lines.push(line);
    }
    if wrong {
        return None;
    }
    if lines.is_empty() {
        let hint = "write lines = { \"input.1\" = \"17 low pull-up\" }".to_owned();
        section.problem("lines", "names no line", Some(hint));
        return None;
    }
    Some(Place::Gpio { chip, lines })
}

fn gpio_line(table: &Section<'_>, name: &str) -> Option<GpioLine> {
    if let Some(Content::Integer(offset)) = table.get(name).map(|node| &node.content) {
        let line = u32::try_from(*offset);
        if line.is_err() {
            table.problem(name, format!("{offset} is no GPIO line"), None);
        }
        return line.ok().map(|offset| GpioLine { offset, active_low: false, bias: Bias::AsIs });
    }
    let text = table.text(name)?;
    let mut words = text.split_whitespace();
    let offset = words.next().and_then(|word| word.parse().ok());
    let mut line = offset.map(|offset| GpioLine { offset, active_low: false, bias: Bias::AsIs });
    for word in words {
        let Some(known) = &mut line else { break };
        match word {
            "low" => known.active_low = true,
            "pull-up" => known.bias = Bias::PullUp,
            "pull-down" => known.bias = Bias::PullDown,
            _ => line = None,
        }
    }
    if line.is_none() {
        let hint = "write the line's number, then any of: low pull-up pull-down".to_owned();
        table.problem(name, format!("\"{text}\" is no GPIO line"), Some(hint));
    }
    line
}

fn credentials(section: &Section<'_>, protocol: &Protocol, folder: &Path) -> Credentials {
    let secret = |key, file| super::general::secret(section, key, file, folder);
    let (wants_password, wants_key) = match protocol.login {
        Login::None | Login::InBand(_) => (false, false),
        Login::Header(_) => (false, true),
        Login::Digest(_) | Login::Basic | Login::Mqtt(_) => (true, false),
        Login::DigestOrHeader(..) => (true, true),
    };
    let user = section.text("user").map(str::to_owned);
    let password = if wants_password { secret("password", "password_file") } else { None };
    let key = if wants_key { secret("key", "key_file") } else { None };
    let written = |key: &str, file: &str| section.has(key) || section.has(file);
    let has_password = wants_password && written("password", "password_file");
    let usual = match protocol.login {
        Login::Digest(user) | Login::DigestOrHeader(user, _) | Login::Mqtt(user) => user,
        Login::Basic => "",
        Login::None | Login::Header(_) | Login::InBand(_) => {
            return Credentials { user, password, key };
        }
    };
    if has_password && usual.is_empty() && !section.has("user") {
        section.problem("user", "missing", Some("a password needs a user here".to_owned()));
    }
    if section.has("user") && !has_password {
        let hint = "write password_file = \"device.password\"".to_owned();
        section.problem("user", "has no password", Some(hint));
    }
    if has_password && wants_key && written("key", "key_file") {
        let hint = "leave out the password, or the key".to_owned();
        section.problem("key_file", "there is a password as well", Some(hint));
    }
    Credentials { user, password, key }
}

fn settings(section: &Section<'_>, protocol: &Protocol, folder: &Path) -> Option<Settings> {
    let mut settings = Settings::default();
    match protocol.reach {
        Reach::SharedBroker => {
            let topic = section.need("topic", "\"plug-saw\"", section.text("topic"))?;
            topic.clone_into(&mut settings.topic);
        }
        Reach::OwnBroker { .. } => {
            let number = section.text("serial_number");
            let number = section.need("serial_number", "\"01S00C123456789\"", number)?;
            number.clone_into(&mut settings.topic);
        }
        _ => {}
    }
    let table = section.table(mapped(protocol))?;
    for (item, node) in table.iter() {
        let text = match &node.content {
            Content::Integer(number) => number.to_string(),
            _ => table.text(item)?.to_owned(),
        };
        settings.mapping.push((item.to_owned(), text));
    }
    let secrets = in_band(protocol);
    let is_plain = |name: &str| section.has(name) && !secrets.iter().any(|(one, _)| *one == name);
    for &(name, _) in protocol.options.iter().filter(|(name, _)| is_plain(name)) {
        settings.options.push((name, option(section, name)?));
    }
    for &(name, file) in secrets {
        if let Some(Secret(word)) = super::general::secret(section, name, file, folder) {
            settings.options.push((name, word));
        }
    }
    Some(settings)
}

/// The key of the table that names this protocol's items, where they are the person's choice.
fn mapped(protocol: &Protocol) -> &'static str {
    if protocol.reach == Reach::Gpio { "lines" } else { "mapping" }
}

/// An option's text; numbers and flags may be written without quotes.
fn option(section: &Section<'_>, name: &str) -> Option<String> {
    match section.get(name).map(|node| &node.content) {
        Some(Content::Integer(number)) => Some(number.to_string()),
        Some(Content::Flag(flag)) => Some(flag.to_string()),
        _ => section.text(name).map(str::to_owned),
    }
}

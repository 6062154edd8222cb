//! A device with a protocol of its own: what it is told beyond its address, and who may log in.
//!
//! That is the protocol's own business: its constructor judges it here, so that a mapping that means
//! nothing is found by `andon check`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use andon_adapters::protocol::{self, Login, Protocol, Reach, Settings};
use andon_engine::item::{Item, UnknownItem};

use super::place::place;
use super::{NOWHERE, Source, Speaks, Spoken, SpokenPlace, Taken};
use crate::config::bus::Bus;
use crate::config::named::Named;
use crate::config::node::Content;
use crate::config::plan::{Credentials, Place, Secret};
use crate::config::problem::did_you_mean;
use crate::config::section::Section;
use crate::config::{general, keys, period};

/// How often a device with a protocol of its own is asked, unless configured.
const PERIOD_DEVICE: Duration = Duration::from_secs(2);
/// The least period of such a device: small controllers serve one request at a time, and a GRBL
/// must not be asked more than 5 times a second.
const PERIOD_DEVICE_LEAST: Duration = Duration::from_millis(200);

/// A source that speaks for itself. `None` only after a problem was reported.
pub(super) fn source<'a>(
    id: &'a str,
    section: &Section<'a>,
    buses: &Named<'a, Bus>,
    folder: &Path,
    taken: &mut Taken<'a>,
) -> Option<Source> {
    let protocol = protocol(section)?;
    section.only(&known_keys(section, protocol));
    let place = place(id, section, protocol, buses, taken);
    let period = period::every(section, PERIOD_DEVICE_LEAST, PERIOD_DEVICE);
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

fn credentials(section: &Section<'_>, protocol: &Protocol, folder: &Path) -> Credentials {
    let secret = |key, file| general::secret(section, key, file, folder);
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
        if let Some(Secret(word)) = general::secret(section, name, file, folder) {
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

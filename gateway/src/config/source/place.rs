//! Where a device with a protocol of its own is: a host, a serial port, a broker, or GPIO lines.

use andon_adapters::protocol::{Protocol, Reach};

use super::{SpokenPlace, Taken};
use crate::config::bus::{self, Bus, Way};
use crate::config::named::Named;
use crate::config::node::Content;
use crate::config::plan::{Bias, GpioLine, Place};
use crate::config::section::Section;

/// The place of a device, as its protocol reaches it. `None` only after a problem was reported.
pub(super) fn place<'a>(
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

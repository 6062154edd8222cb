//! Services in the local network by multicast DNS: one question per packet, asked from a port of
//! its own, so that the answers come to it alone (RFC 6762 §6.7) and small responders that read
//! only the first question answer at all.
//!
//! Bounds: [`FOUND_MAX`] services, [`PACKET_MAX`] bytes per answer. Names are the ones that the
//! programs register: OctoPrint's and Moonraker's documentation, PrusaLink's, Shelly's.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, QCLASS, QTYPE, Question, TYPE};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use super::proposal::Proposal;

/// Where multicast DNS is spoken.
pub const GROUP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(224, 0, 0, 251)), 5353);
/// Services that are kept.
pub const FOUND_MAX: usize = 500;
/// Largest answer (RFC 6762 §17).
pub const PACKET_MAX: usize = 9000;
/// The questions are asked this often: a datagram may be lost.
const ROUNDS: u32 = 3;
/// Time between the rounds.
const BETWEEN: Duration = Duration::from_secs(1);

/// What is asked for.
const SERVICES: &[&str] = &[
    "_octoprint._tcp.local",
    "_moonraker._tcp.local",
    "_prusalink._tcp.local",
    "_shelly._tcp.local",
    "_http._tcp.local",
];

/// A service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Service {
    /// Its kind, as in the question.
    pub kind: String,
    /// Its own name.
    pub instance: String,
    /// Its address.
    pub host: IpAddr,
    /// Its port, when it was told.
    pub port: Option<u16>,
    /// Words about it, `key=value`.
    pub words: Vec<String>,
}

/// Asks `to`, a group or a single responder, and listens for the time given.
///
/// # Errors
/// When the socket cannot be had or nothing can be sent.
pub async fn browse(
    interface: Ipv4Addr,
    to: SocketAddr,
    duration: Duration,
) -> io::Result<BTreeSet<Service>> {
    let socket = UdpSocket::bind((interface, 0)).await?;
    let end = Instant::now() + duration;
    let mut found = BTreeSet::new();
    let mut packet = vec![0; PACKET_MAX];
    for round in 1..=ROUNDS {
        for service in SERVICES {
            socket.send_to(&question(service)?, to).await?;
        }
        let next = if round == ROUNDS { end } else { end.min(Instant::now() + BETWEEN) };
        while let Ok(received) = timeout_at(next, socket.recv_from(&mut packet)).await {
            // An ICMP error of an earlier datagram is no answer, and no end either.
            let Ok((length, from)) = received else { continue };
            for service in read(&packet[..length], from.ip()) {
                if found.len() < FOUND_MAX {
                    found.insert(service);
                }
            }
        }
    }
    Ok(found)
}

/// A packet with one question.
fn question(service: &str) -> io::Result<Vec<u8>> {
    let name = Name::new(service).map_err(io::Error::other)?;
    let mut packet = Packet::new_query(0);
    packet.questions.push(Question::new(
        name,
        QTYPE::TYPE(TYPE::PTR),
        QCLASS::CLASS(CLASS::IN),
        false,
    ));
    packet.build_bytes_vec().map_err(io::Error::other)
}

/// The services that an answer tells of; none when it is no answer.
pub fn read(packet: &[u8], from: IpAddr) -> Vec<Service> {
    let Ok(packet) = Packet::parse(packet) else { return Vec::new() };
    let records = || packet.answers.iter().chain(&packet.additional_records);
    let mut services = Vec::new();
    for pointer in records() {
        let RData::PTR(instance) = &pointer.rdata else { continue };
        let kind = pointer.name.to_string();
        if !SERVICES.contains(&kind.as_str()) {
            continue;
        }
        let own = || records().filter(|record| record.name == instance.0);
        let located = own().find_map(|record| match &record.rdata {
            RData::SRV(located) => Some(located),
            _ => None,
        });
        let address = records().find_map(|record| match &record.rdata {
            RData::A(address) if located.is_some_and(|srv| srv.target == record.name) => {
                Some(IpAddr::V4(Ipv4Addr::from(address.address)))
            }
            _ => None,
        });
        let words = own().filter_map(|record| match &record.rdata {
            RData::TXT(words) => Some(words),
            _ => None,
        });
        let words = words.flat_map(|words| words.iter_raw().map(word).collect::<Vec<_>>());
        let label = instance.get_labels().first().map(ToString::to_string);
        services.push(Service {
            kind,
            instance: label.unwrap_or_default(),
            host: address.unwrap_or(from),
            port: located.map(|srv| srv.port),
            words: words.collect(),
        });
    }
    services
}

fn word((key, value): (&[u8], Option<&[u8]>)) -> String {
    let key = String::from_utf8_lossy(key);
    value.map_or_else(
        || key.to_string(),
        |value| format!("{key}={}", String::from_utf8_lossy(value)),
    )
}

/// What a service is proposed as; `None` when andon does not speak with it.
pub fn proposal(service: &Service) -> Option<Proposal> {
    let name = service.instance.as_str();
    let is_later = service.words.iter().any(|word| word.starts_with("gen=") && word != "gen=1");
    let generation = if is_later { "shelly-http" } else { "shelly-gen1-http" };
    let protocol = match service.kind.split('.').next() {
        Some("_octoprint") => "octoprint",
        Some("_moonraker") => "moonraker",
        Some("_prusalink") => "prusalink",
        Some("_shelly") => "shelly-http",
        Some("_http") if name.starts_with("shelly") => generation,
        Some("_http") if name.to_ascii_lowercase().contains("prusa") => "prusalink",
        _ => return None,
    };
    let host = Some(service.host.to_string());
    let mut proposal = Proposal { host, ..Proposal::new(name, protocol) };
    if let Some(port) = service.port {
        proposal = proposal.at_port(port);
    }
    Some(match protocol {
        "octoprint" | "moonraker" | "prusalink" => {
            proposal.note("needs key_file, unless it trusts this host")
        }
        _ => proposal,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A response made with python's `struct`: PTR, SRV, TXT and A with compressed names.
    const OCTOPRINT: &str = "0000840000000001000000030a5f6f63746f7072696e74045f746370056c6f63616c\
        00000c000100001194001b184f63746f5072696e7420696e7374616e6365206f6e207069c00cc02d0021800100\
        000078000f000000001388066f63746f7069c01cc02d0010800100001194001606706174683d2f0e7665727369\
        6f6e3d312e31312e38c05a00018001000000780004c0a80129";

    fn bytes() -> Vec<u8> {
        let digits: Vec<u8> = OCTOPRINT.bytes().filter(u8::is_ascii_hexdigit).collect();
        let pair =
            |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(pair).collect()
    }

    fn octoprint() -> Service {
        Service {
            kind: "_octoprint._tcp.local".to_owned(),
            instance: "OctoPrint instance on pi".to_owned(),
            host: "192.168.1.41".parse().unwrap(),
            port: Some(5000),
            words: vec!["path=/".to_owned(), "version=1.11.8".to_owned()],
        }
    }

    #[test]
    fn an_answer_is_read_with_its_name_address_and_port() {
        let found = read(&bytes(), IpAddr::V4(Ipv4Addr::LOCALHOST));
        assert_eq!(found, [octoprint()]);
        let proposal = proposal(&found[0]).unwrap();
        assert_eq!(
            (proposal.protocol, proposal.host.as_deref()),
            ("octoprint", Some("192.168.1.41"))
        );
        assert_eq!(proposal.port, None, "it is the usual one");
    }

    #[test]
    fn each_question_is_alone_in_its_packet_and_does_not_ask_for_unicast() {
        let packet = question("_prusalink._tcp.local").unwrap();
        let expected = b"\0\0\0\0\0\x01\0\0\0\0\0\0\x0a_prusalink\x04_tcp\x05local\0\0\x0c\0\x01";
        assert_eq!(packet, expected);
    }

    #[tokio::test]
    async fn a_responder_is_found_though_it_answers_only_one_question() {
        let responder = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let to = responder.local_addr().unwrap();
        let answering = tokio::spawn(async move {
            let mut packet = [0; 512];
            loop {
                let (length, from) = responder.recv_from(&mut packet).await.unwrap();
                responder.send_to(b"rubbish", from).await.unwrap();
                if packet[..length].windows(10).any(|window| window == b"_octoprint") {
                    responder.send_to(&bytes(), from).await.unwrap();
                }
            }
        });
        let found = browse(Ipv4Addr::LOCALHOST, to, Duration::from_millis(300)).await.unwrap();
        answering.abort();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [octoprint()]);
    }

    #[test]
    fn only_what_andon_speaks_with_is_proposed() {
        let service = |kind: &str, instance: &str, words: &[&str]| Service {
            kind: kind.to_owned(),
            instance: instance.to_owned(),
            words: words.iter().map(|&word| word.to_owned()).collect(),
            ..octoprint()
        };
        for (kind, instance, words, expected) in [
            ("_shelly._tcp.local", "shellyplus1pm-a8", &["gen=2"][..], Some("shelly-http")),
            ("_http._tcp.local", "shelly1pm-C4", &["id=shelly1pm-C4"], Some("shelly-gen1-http")),
            ("_http._tcp.local", "shellyplus1-a8", &["gen=2"], Some("shelly-http")),
            ("_http._tcp.local", "PrusaLink", &[], Some("prusalink")),
            ("_http._tcp.local", "Laser printer", &[], None),
            ("_moonraker._tcp.local", "voron", &[], Some("moonraker")),
        ] {
            let proposal = proposal(&service(kind, instance, words));
            assert_eq!(proposal.map(|proposal| proposal.protocol), expected, "{kind} {instance}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_packet_makes_it_panic(at: usize, byte: u8, length in 0_usize..200) {
            let mut packet = bytes();
            let at = at % packet.len();
            packet[at] = byte;
            packet.truncate(length);
            for service in read(&packet, IpAddr::V4(Ipv4Addr::LOCALHOST)) {
                let _ = proposal(&service);
            }
        }
    }
}

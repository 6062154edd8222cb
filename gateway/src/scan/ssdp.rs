//! Bambu Lab's printers by what they announce every few seconds: `NOTIFY` to UDP port 2021 (by
//! broadcast) and 1990 (by multicast). Only listens: the printers answer no search.
//!
//! Bounds: [`FOUND_MAX`] printers, [`PACKET_MAX`] bytes per datagram. Facts: recorded announcements
//! in public issue trackers and tools.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, bind, socket, sockopt};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use super::proposal::Proposal;

/// Where the printers announce themselves.
pub const PORTS: [u16; 2] = [2021, 1990];
/// The group of the second.
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 255, 250);
/// Printers that are kept.
pub const FOUND_MAX: usize = 200;
/// Largest datagram.
pub const PACKET_MAX: usize = 2048;
/// What they call themselves.
const KIND: &str = "urn:bambulab-com:device:3dprinter:1";

/// A printer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Printer {
    /// Its serial number.
    pub serial: String,
    /// Its address.
    pub host: IpAddr,
    /// The name that somebody gave it.
    pub name: Option<String>,
    /// The vendor's code of its model.
    pub model: Option<String>,
    /// Whether it is bound to the vendor's cloud or to the LAN.
    pub connected: Option<String>,
}

/// A socket on a port that a slicer may be listening on as well.
///
/// # Errors
/// When the port cannot be had.
pub fn listener(interface: Ipv4Addr, port: u16) -> io::Result<UdpSocket> {
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))?;
    let socket = std::net::UdpSocket::from(socket);
    // Without a route for multicast the broadcasts are still heard.
    if let Err(error) = socket.join_multicast_v4(&GROUP, &interface) {
        tracing::debug!(%error, port, "multicast cannot be joined");
    }
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

/// Listens for the time given.
pub async fn listen(socket: &UdpSocket, duration: Duration) -> BTreeMap<String, Printer> {
    let end = Instant::now() + duration;
    let mut found = BTreeMap::new();
    let mut packet = [0; PACKET_MAX];
    while let Ok(received) = timeout_at(end, socket.recv_from(&mut packet)).await {
        let Ok((length, from)) = received else { continue };
        if let Some(printer) = read(&packet[..length], from.ip())
            && (found.len() < FOUND_MAX || found.contains_key(&printer.serial))
        {
            found.insert(printer.serial.clone(), printer);
        }
    }
    found
}

/// A printer by its announcement; `None` when it is another's.
pub fn read(packet: &[u8], from: IpAddr) -> Option<Printer> {
    let text = String::from_utf8_lossy(packet);
    let headers: BTreeMap<String, &str> = text
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(key, value)| (key.trim().to_ascii_lowercase(), value.trim()))
        .collect();
    let kind = headers.get("nt").or(headers.get("st"))?;
    let serial = headers.get("usn").filter(|serial| !serial.is_empty())?;
    // The serial number becomes part of a topic.
    if *kind != KIND || serial.contains(['/', '+', '#']) {
        return None;
    }
    let word = |key: &str| headers.get(key).map(|&word| word.to_owned());
    let location = headers.get("location").and_then(|location| location.parse().ok());
    Some(Printer {
        serial: (*serial).to_owned(),
        host: location.unwrap_or(from),
        name: word("devname.bambu.com"),
        model: word("devmodel.bambu.com"),
        connected: word("devconnect.bambu.com"),
    })
}

/// What a printer is proposed as.
pub fn proposal(printer: &Printer) -> Proposal {
    let name = printer.name.clone().unwrap_or_else(|| printer.serial.clone());
    let model = printer.model.as_deref().unwrap_or("?");
    let connected = printer.connected.as_deref().unwrap_or("?");
    Proposal {
        host: Some(printer.host.to_string()),
        topic: Some(printer.serial.clone()),
        ..Proposal::new(name, "bambu")
            .note(format!("model {model}, bound to {connected}"))
            .note("needs key_file with the access code from its screen")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As quoted in a public tool's tests.
    const NOTIFY: &[u8] = b"NOTIFY * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\n\
        Server: UPnP/1.0\r\nLocation: 10.10.10.77\r\n\
        NT: urn:bambulab-com:device:3dprinter:1\r\nUSN: 22E8BJ5B1001755\r\n\
        Cache-Control: max-age=1800\r\nDevModel.bambu.com: N7\r\nDevName.bambu.com: P2S\r\n\
        DevSignal.bambu.com: -45\r\nDevConnect.bambu.com: cloud\r\nDevBind.bambu.com: occupied\r\n\
        DevVersion.bambu.com: 01.02.00.00\r\n\r\n";

    const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn a_printer_is_known_by_its_announcement() {
        let printer = read(NOTIFY, ELSEWHERE).unwrap();
        assert_eq!(
            (&*printer.serial, printer.host),
            ("22E8BJ5B1001755", "10.10.10.77".parse().unwrap())
        );
        let proposal = proposal(&printer);
        assert_eq!((&*proposal.name, proposal.protocol), ("P2S", "bambu"));
        assert_eq!(proposal.topic.as_deref(), Some("22E8BJ5B1001755"));
        assert_eq!(proposal.notes[0], "model N7, bound to cloud");
    }

    #[test]
    fn other_announcements_are_left_alone() {
        let router = b"NOTIFY * HTTP/1.1\r\nNT: upnp:rootdevice\r\nUSN: uuid:1\r\n\r\n";
        let hostile = String::from_utf8_lossy(NOTIFY).replace("22E8BJ5B1001755", "a/#");
        for packet in [&router[..], b"", b"\xff\xfe", hostile.as_bytes(), &NOTIFY[..60]] {
            assert_eq!(read(packet, ELSEWHERE), None);
        }
    }

    #[tokio::test]
    async fn announcements_are_heard_beside_another_listener() {
        // Any free port: the printers' own may be taken by a slicer on this machine.
        let first = listener(Ipv4Addr::UNSPECIFIED, 0).unwrap();
        let port = first.local_addr().unwrap().port();
        let second = listener(Ipv4Addr::UNSPECIFIED, port);
        assert!(second.is_ok());
        drop(second);
        let printer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        for packet in [b"rubbish", NOTIFY, NOTIFY] {
            printer.send_to(packet, (Ipv4Addr::LOCALHOST, port)).await.unwrap();
        }
        let found = listen(&first, Duration::from_millis(200)).await;
        assert_eq!(found.keys().collect::<Vec<_>>(), ["22E8BJ5B1001755"]);
    }
}

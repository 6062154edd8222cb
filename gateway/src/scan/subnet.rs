//! Looking from door to door, in a subnet that somebody named: a TCP connection to the usual
//! ports, one GET of a page that changes nothing, and the look of the answer.
//!
//! To a network's guards this is a port scan, so nobody is visited unasked. Bounds: a subnet of
//! [`HOSTS_MAX`] addresses, [`AT_ONCE`] connections at a time, [`BODY_MAX`] bytes of an answer.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::proposal::{MODBUS_TCP, Proposal};

/// Longest prefix that is too long to walk: a /22 has as many hosts.
pub const HOSTS_MAX: u32 = 1022;
/// Connections that are tried at the same time.
pub const AT_ONCE: usize = 32;
/// What is read of an answer.
pub const BODY_MAX: usize = 16 * 1024;
/// How long a host may take to accept a connection.
const CONNECT: Duration = Duration::from_millis(800);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(3);

/// Ports, and the page that is asked for there; none where a connection is all.
pub const DOORS: &[(u16, Option<&str>)] =
    &[(7125, Some("/server/info")), (80, Some("/")), (5000, Some("/")), (502, None)];

/// The addresses of `192.168.1.0/24`, without network and broadcast.
///
/// # Errors
/// When it is none, or larger than a /22.
pub fn hosts(subnet: &str) -> anyhow::Result<Vec<Ipv4Addr>> {
    let parsed = subnet.split_once('/').and_then(|(network, bits)| {
        Some((network.parse::<Ipv4Addr>().ok()?, bits.parse::<u32>().ok().filter(|n| *n <= 32)?))
    });
    let (network, bits) = parsed
        .with_context(|| format!("\"{subnet}\" is no subnet; write it like 192.168.1.0/24"))?;
    ensure!(bits >= 22, "{subnet} is larger than a /22; name the part where the machines are");
    let size = 1_u32 << (32 - bits);
    let first = u32::from(network) & !(size - 1);
    let inside = if size > 2 { 1..size - 1 } else { 0..size };
    Ok(inside.map(|offset| Ipv4Addr::from(first + offset)).collect())
}

/// Visits every host.
///
/// # Errors
/// When there is no HTTP client to be had.
pub async fn visit(
    hosts: Vec<Ipv4Addr>,
    doors: &'static [(u16, Option<&'static str>)],
) -> anyhow::Result<Vec<Proposal>> {
    let client = reqwest::Client::builder()
        .timeout(ANSWER)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent("andon-scan")
        .build()?;
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut visits = JoinSet::new();
    for host in hosts {
        for &(port, page) in doors {
            let (client, permits) = (client.clone(), permits.clone());
            visits.spawn(async move {
                let _permit = permits.acquire().await.ok()?;
                knock(&client, SocketAddr::new(IpAddr::V4(host), port), page).await
            });
        }
    }
    let mut proposals = Vec::new();
    while let Some(visit) = visits.join_next().await {
        proposals.extend(visit.ok().flatten());
    }
    Ok(proposals)
}

async fn knock(
    client: &reqwest::Client,
    address: SocketAddr,
    page: Option<&str>,
) -> Option<Proposal> {
    drop(timeout(CONNECT, TcpStream::connect(address)).await.ok()?.ok()?);
    let Some(page) = page else {
        let note = "something listens where Modbus TCP does; add a source with unit_id and profile";
        return Some(
            at(address, Proposal::new(format!("modbus {}", address.ip()), MODBUS_TCP)).note(note),
        );
    };
    let mut response = client.get(format!("http://{address}{page}")).send().await.ok()?;
    let challenge = response.headers().get("www-authenticate");
    let mut text = challenge.and_then(|header| header.to_str().ok()).unwrap_or("").to_owned();
    let location = response.headers().get("location").and_then(|header| header.to_str().ok());
    text.extend(["\n", location.unwrap_or("")]);
    while let Ok(Some(chunk)) = response.chunk().await {
        text.push_str(&String::from_utf8_lossy(&chunk));
        if text.len() >= BODY_MAX {
            break;
        }
    }
    recognised(address, page, &text)
}

/// What answers like this.
fn recognised(address: SocketAddr, page: &str, text: &str) -> Option<Proposal> {
    let (protocol, note) = if page == "/server/info" {
        let moonraker = text.contains("klippy_state") || text.contains("Unauthorized");
        (moonraker.then_some("moonraker")?, "needs key_file, unless it trusts this host")
    } else if text.contains("realm=\"Printer API\"") {
        ("prusalink", "needs key_file with the password from its menu")
    } else if text.contains("OctoPrint") {
        ("octoprint", "needs key_file with an application key")
    } else if text.contains("MTConnect") {
        ("mtconnect", "an MTConnect agent")
    } else if text.contains("Shelly") || text.contains("shelly") {
        ("shelly-http", "if it is of the first generation: protocol = \"shelly-gen1-http\"")
    } else {
        return None;
    };
    Some(at(address, Proposal::new(format!("{protocol} {}", address.ip()), protocol)).note(note))
}

fn at(address: SocketAddr, proposal: Proposal) -> Proposal {
    let proposal = proposal.at_port(address.port());
    Proposal { host: Some(address.ip().to_string()), ..proposal }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn a_subnet_is_walked_without_its_ends_and_a_large_one_is_not() {
        let small = hosts("192.168.1.77/30").unwrap();
        assert_eq!(small, [Ipv4Addr::new(192, 168, 1, 77), Ipv4Addr::new(192, 168, 1, 78)]);
        assert_eq!(hosts("10.0.0.0/22").unwrap().len(), HOSTS_MAX as usize);
        assert_eq!(hosts("10.0.0.9/32").unwrap(), [Ipv4Addr::new(10, 0, 0, 9)]);
        for refused in ["10.0.0.0/21", "10.0.0.0", "10.0.0/24", "10.0.0.0/33", "::1/64", "x/24"] {
            assert!(hosts(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn answers_are_recognised_by_what_the_programs_say() {
        let address: SocketAddr = "192.168.1.9:80".parse().unwrap();
        for (page, text, expected) in [
            (
                "/server/info",
                r#"{"result":{"klippy_connected":true,"klippy_state":"ready"}}"#,
                Some("moonraker"),
            ),
            ("/server/info", "<html>not found", None),
            ("/", "Digest realm=\"Printer API\", nonce=\"00\"", Some("prusalink")),
            ("/", "<title>OctoPrint Login</title>", Some("octoprint")),
            ("/", "<MTConnectError/>", Some("mtconnect")),
            ("/", "<title>Shelly Web Admin</title>", Some("shelly-http")),
            ("/", "<title>FRITZ!Box</title>", None),
        ] {
            let proposal = recognised(address, page, text);
            assert_eq!(proposal.map(|proposal| proposal.protocol), expected, "{text}");
        }
    }

    /// A server that answers `body` once per connection and notes what it was asked.
    async fn server(body: &'static str) -> (u16, Arc<std::sync::Mutex<Vec<String>>>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
        let noted = asked.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 1024];
                let length = stream.read(&mut request).await.unwrap_or(0);
                if length == 0 {
                    continue;
                }
                let line = String::from_utf8_lossy(&request[..length]);
                noted.lock().unwrap().push(line.lines().next().unwrap_or_default().to_owned());
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                stream.write_all(head.as_bytes()).await.ok();
                stream.write_all(body.as_bytes()).await.ok();
            }
        });
        (port, asked)
    }

    #[tokio::test]
    async fn a_host_is_visited_with_one_get_per_door() {
        let (port, asked) = server("<title>OctoPrint</title>").await;
        let doors = Box::leak(Box::new([(port, Some("/"))]));
        let found = visit(vec![Ipv4Addr::LOCALHOST], doors).await.unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].protocol, found[0].port), ("octoprint", Some(port)));
        assert_eq!(*asked.lock().unwrap(), ["GET / HTTP/1.1"]);
    }

    #[tokio::test]
    async fn closed_doors_and_endless_answers_are_nothing() {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let closed = free.local_addr().unwrap().port();
        drop(free);
        let (port, _) = server("x").await;
        let doors = Box::leak(Box::new([(closed, Some("/")), (port, Some("/"))]));
        assert_eq!(visit(vec![Ipv4Addr::LOCALHOST], doors).await.unwrap(), []);
    }
}

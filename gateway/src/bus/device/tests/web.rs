//! HTTP and WebSockets: servers written out here.

use std::sync::atomic::AtomicUsize;

use andon_adapters::device::BODY_BYTES_MAX;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request as Upgrade};

use super::*;
use crate::config::plan::Secret;

const HTTP: Reach = Reach::Http { port: 80 };
const WEBSOCKET: Reach = Reach::WebSocket { port: 7125, path: "/websocket" };

/// Answers the head of every request; `None` never does. Says how many connections there were.
async fn serve(
    answer: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
) -> (Place, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = net(listener.local_addr().unwrap().port());
    let (answer, count) = (Arc::new(answer), Arc::new(AtomicUsize::new(0)));
    let connections = count.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.fetch_add(1, Ordering::Relaxed);
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while let Ok(byte) = stream.read_u8().await {
                    head.push(byte);
                    if head.ends_with(b"\r\n\r\n") {
                        let asked = String::from_utf8(std::mem::take(&mut head)).unwrap();
                        match answer(&asked) {
                            Some(words) => {
                                if words.ends_with("SLOW") {
                                    tokio::time::sleep(Duration::from_millis(500)).await;
                                }
                                // Whoever asked may have gone.
                                stream.write_all(words.as_bytes()).await.ok();
                            }
                            None => std::future::pending().await,
                        }
                    }
                }
            });
        }
    });
    (place, count)
}

fn ok(body: &str) -> Option<String> {
    Some(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
}

fn sha256(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A field of an `Authorization`.
fn field(head: &str, name: &str) -> String {
    let start = format!("{name}=");
    let line = head.lines().find(|line| line.to_lowercase().starts_with("authorization:"));
    let fields = line.unwrap_or_default().split_once("Digest ").unwrap_or_default().1;
    let found = fields.split(',').find_map(|field| field.trim().strip_prefix(&start));
    found.unwrap_or_default().trim_matches('"').to_owned()
}

#[tokio::test]
async fn one_connection_and_one_key_serve_all_requests() {
    let (place, connections) = serve(|head| {
        if head.to_lowercase().contains("\r\nx-api-key: sesame\r\n") {
            ok("T 20")
        } else {
            Some("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n".to_owned())
        }
    })
    .await;
    let mut keyed = plan(protocol!(HTTP, Login::Header("X-Api-Key")), place);
    keyed.credentials.key = Some(Secret("sesame".to_owned()));
    let mut bench = Bench::start(&keyed, &[], Path::new("/nonexistent"));
    for _ in 0..5 {
        bench.until(0, &number(20.0)).await;
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1);
    assert_eq!(bench.handle.status().state, DeviceState::Answering);

    keyed.credentials.key = Some(Secret("wrong".to_owned()));
    let bench = Bench::start(&keyed, &[], Path::new("/nonexistent"));
    bench.status(|status| status.trouble.as_deref() == Some("status 401")).await;
}

#[tokio::test]
async fn an_answer_in_parts_is_heard_part_by_part_until_the_next_request() {
    let (place, connections) = serve(|_| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=b\r\n\r\n";
        let part = |body: &str| format!("--b\r\nContent-length: {}\r\n\r\n{body}\r\n", body.len());
        // And there it stays, without an end.
        Some(format!("{head}{}{}--b\r\n", part("T 20"), part("T 21")))
    })
    .await;
    let mut bench =
        Bench::start(&plan(protocol!(HTTP, Login::None), place), &[], Path::new("/nonexistent"));
    for _ in 0..3 {
        bench.until(0, &number(20.0)).await;
        bench.until(0, &number(21.0)).await;
    }
    assert!(connections.load(Ordering::Relaxed) >= 3, "each request ends the answer before it");
    assert_eq!(bench.handle.status().errors, 0);
}

#[tokio::test]
async fn an_answer_in_parts_does_not_keep_waiting_requests_from_their_turn() {
    let (place, connections) = serve(|_| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=b\r\n\r\n";
        Some(format!("{head}--b\r\nContent-length: 8\r\n\r\nT 20SLOW"))
    })
    .await;
    let plan = plan(protocol!(HTTP, Login::None), place);
    let mut bench = Bench::start(&plan, &[], Path::new("/nonexistent"));
    for _ in 0..3 {
        bench.until(0, &number(20.0)).await;
    }
    assert!(connections.load(Ordering::Relaxed) >= 3);
}

#[tokio::test]
async fn an_answer_in_parts_that_ends_is_said_and_one_that_is_none_is_garbled() {
    for (body, expected) in [
        ("--b\r\nContent-length: 4\r\n\r\nT 20\r\n", "not understood: "),
        ("--b\r\nContent-type: text/xml\r\n\r\nT 20\r\n", "a part does not say its length"),
    ] {
        let (place, _) = serve(move |_| {
            Some(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\
                 Content-Type: multipart/x-mixed-replace;boundary=b\r\n\r\n{body}",
                body.len()
            ))
        })
        .await;
        let plan = plan(protocol!(HTTP, Login::None), place);
        let bench = Bench::start(&plan, &[], Path::new("/nonexistent"));
        let told = |status: &DeviceStatus| {
            [&status.trouble, &status.down].into_iter().flatten().any(|words| words == expected)
        };
        bench.status(told).await;
    }
}

#[tokio::test]
async fn a_digest_nonce_is_counted_and_a_stale_one_replaced() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    let (place, _) = serve(move |head| {
        let nonce = field(head, "nonce");
        let mut log = log.lock().unwrap();
        // The first nonce is good for three requests.
        let current = if log.len() < 3 { "one" } else { "two" };
        if nonce != current {
            let stale = if nonce.is_empty() { "" } else { ", stale=true" };
            return Some(format!(
                "HTTP/1.1 401 No\r\nContent-Length: 0\r\nWWW-Authenticate: Digest realm=\"hall\", \
                 qop=\"auth\", algorithm=SHA-256, nonce=\"{current}\"{stale}\r\n\r\n"
            ));
        }
        let (count, cnonce) = (field(head, "nc"), field(head, "cnonce"));
        let (first, second) = (sha256("maker:hall:secret"), sha256("GET:/?"));
        let expected = sha256(&format!("{first}:{nonce}:{count}:{cnonce}:auth:{second}"));
        if field(head, "response") != expected {
            return Some("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n".to_owned());
        }
        log.push((nonce, count));
        ok(&format!("T {}", log.len()))
    })
    .await;
    let mut login = plan(protocol!(HTTP, Login::DigestOrHeader("maker", "X-Api-Key")), place);
    login.credentials.password = Some(Secret("secret".to_owned()));
    let mut bench = Bench::start(&login, &[], Path::new("/nonexistent"));
    bench.until(0, &number(5.0)).await;
    let seen = asked.lock().unwrap()[..5].to_vec();
    let seen: Vec<String> = seen.into_iter().map(|(nonce, nc)| format!("{nonce} {nc}")).collect();
    let expected = ["one 00000001", "one 00000002", "one 00000003", "two 00000001", "two 00000002"];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn an_endless_body_is_garbled_and_a_redirect_is_not_followed() {
    let endless = AtomicBool::new(true);
    let (place, _) = serve(move |_| {
        if endless.swap(false, Ordering::Relaxed) {
            ok(&"x".repeat(BODY_BYTES_MAX + 1))
        } else {
            let head =
                "HTTP/1.1 302 Go\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n";
            Some(head.to_owned())
        }
    })
    .await;
    let mut bench = Bench::start(&plan(protocol!(HTTP, Login::None), place), &[], Path::new("/"));
    bench.until(0, &Err(Unavailable::Garbled)).await;
    bench.status(|status| status.trouble.as_deref() == Some("status 302")).await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_request_that_hangs() {
    let (place, _) = serve(|head| match head.split(' ').nth(1) {
        Some("/emergency") => ok("stands"),
        _ => None,
    })
    .await;
    let mut bench = Bench::start(&plan(protocol!(HTTP, Login::None), place), &[], Path::new("/"));
    bench.status(|status| status.state == DeviceState::Silent).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let asked = Instant::now();
    bench.stop(Stop::Emergency);
    assert_eq!(bench.reply().await, Reply::ReadBack(true));
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn a_response_that_comes_after_reopening_is_not_delivered() {
    let turn = Arc::new(AtomicUsize::new(0));
    let turns = turn.clone();
    // While the first answer is being thought about, a second question is asked; the first answer
    // makes the device reopen, and the answer to the second comes when nobody waits for it.
    let (place, connections) = serve(move |_| match turns.fetch_add(1, Ordering::Relaxed) {
        0 => ok("again  SLOW"),
        1 => ok("T 666  SLOW"),
        _ => ok("T 3"),
    })
    .await;
    let mut bench = Bench::start(&plan(protocol!(HTTP, Login::None), place), &[], Path::new("/"));
    bench.until(0, &Err(Unavailable::Disconnected)).await;
    for _ in 0..5 {
        let deadline = Instant::now() + SOON;
        let delivery = tokio::time::timeout_at(deadline, bench.deliveries.recv()).await;
        for (item, measured) in delivery.unwrap().unwrap().readings {
            let truth = [number(3.0), Err(Unavailable::Disconnected)];
            assert!(item != ItemIndex(0) || truth.contains(&measured), "{measured:?}");
        }
    }
    bench.until(0, &number(3.0)).await;
    assert_eq!(connections.load(Ordering::Relaxed), 2, "the second question was on its way");
}

#[tokio::test]
async fn a_silent_host_says_so_in_words() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = net(listener.local_addr().unwrap().port());
    drop(listener);
    let mut bench = Bench::start(&plan(protocol!(HTTP, Login::None), place), &[], Path::new("/"));
    bench.until(0, &Err(Unavailable::Disconnected)).await;
    let refused = |status: &DeviceStatus| {
        status.state == DeviceState::Silent
            && status.down.as_ref().is_some_and(|words| words.contains("refused"))
    };
    bench.status(refused).await;
}

/// Serves one WebSocket after the other: the first says too much, the next answer.
async fn websockets() -> Place {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = net(listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        let mut first = true;
        while let Ok((stream, _)) = listener.accept().await {
            #[expect(clippy::result_large_err, reason = "the library's own type")]
            let check = |request: &Upgrade, response| {
                let keyed = request.headers().get("x-api-key").is_some_and(|key| key == "sesame");
                let refused = || {
                    let mut response = ErrorResponse::new(Some("no key".to_owned()));
                    *response.status_mut() =
                        tokio_tungstenite::tungstenite::http::StatusCode::FORBIDDEN;
                    response
                };
                if keyed && request.uri().path() == "/websocket" {
                    Ok(response)
                } else {
                    Err(refused())
                }
            };
            let accepted = tokio_tungstenite::accept_hdr_async(stream, check).await;
            let Ok(mut socket) = accepted else { continue };
            if std::mem::take(&mut first) {
                let long = "x".repeat(BODY_BYTES_MAX + 1);
                socket.send(Message::text(long)).await.ok();
            }
            tokio::spawn(async move {
                socket.send(Message::binary(vec![1, 2])).await.unwrap();
                while let Some(Ok(message)) = socket.next().await {
                    let words = match message {
                        Message::Text(text) if text.as_str() == "?" => "T 7",
                        Message::Text(text) if text.as_str() == "emergency" => "stands",
                        _ => continue,
                    };
                    socket.send(Message::text(words)).await.unwrap();
                }
            });
        }
    });
    place
}

#[tokio::test]
async fn a_websocket_is_opened_with_the_key_and_after_too_long_a_frame_again() {
    let mut keyed = plan(protocol!(WEBSOCKET, Login::Header("X-Api-Key")), websockets().await);
    keyed.credentials.key = Some(Secret("sesame".to_owned()));
    let mut bench = Bench::start(&keyed, &[], Path::new("/nonexistent"));
    bench.until(0, &Err(Unavailable::Disconnected)).await;
    bench.until(0, &number(7.0)).await;
    assert!(bench.handle.status().errors >= 2, "the long frame and the binary one");
    bench.stop(Stop::Emergency);
    assert_eq!(bench.reply().await, Reply::ReadBack(true));
}

#[tokio::test]
async fn a_websocket_that_is_refused_says_so() {
    let keyless = plan(protocol!(WEBSOCKET, Login::Header("X-Api-Key")), websockets().await);
    let bench = Bench::start(&keyless, &[], Path::new("/nonexistent"));
    let refused = |status: &DeviceStatus| {
        status.down.as_ref().is_some_and(|words| words.contains("refuses the WebSocket"))
    };
    bench.status(refused).await;
}

#[tokio::test]
async fn why_a_device_is_silent_and_that_no_key_is_set_is_told() {
    let keyed = protocol!(HTTP, Login::Header("X-Api-Key"));
    let look = async |place: Place| {
        let plan = plan(keyed, place);
        let dir = Path::new("/nonexistent");
        probe_device(&plan, &[], dir, Duration::from_millis(700)).await.unwrap()
    };
    let refused = look(net(9)).await.trouble.unwrap();
    assert!(refused.contains("Connection refused"), "{refused}");
    let nowhere = Place::Net { host: "no-such-host.invalid".to_owned(), port: 80 };
    let nowhere = look(nowhere).await.trouble.unwrap();
    assert!(nowhere.contains("lookup") || nowhere.contains("resolve"), "{nowhere}");
    let (place, _) = serve(|_| Some("SSH-2.0-OpenSSH_9.2\r\n".to_owned())).await;
    let strange = look(place).await.trouble.unwrap();
    assert!(strange.contains("HTTP"), "{strange}");
    let body = "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno";
    let (place, _) = serve(move |_| Some(body.to_owned())).await;
    let probed = look(place).await;
    assert_eq!(probed.raw, ["403 no"]);
    let words = probed.trouble.unwrap();
    assert!(words.contains("no key is set") && words.contains("key_file"), "{words}");
}

/// Asks its client to listen, says `T 7` to it and hangs up; asks it again, and refuses it then.
async fn pushes() -> Place {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = net(listener.local_addr().unwrap().port());
    // How often it is still to be asked to listen, and how often it may.
    let (asks, may) = (Arc::new(AtomicUsize::new(1)), Arc::new(AtomicBool::new(true)));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(pushed(stream, asks.clone(), may.clone()));
        }
    });
    place
}

async fn pushed(mut stream: TcpStream, asks: Arc<AtomicUsize>, may: Arc<AtomicBool>) {
    let mut head = [0; 9];
    while stream.peek(&mut head).await.unwrap_or(head.len()) < head.len() {}
    if &head != b"GET /push" {
        while let Ok(byte) = stream.read_u8().await {
            head.rotate_left(1);
            head[8] = byte;
            if head.ends_with(b"\r\n\r\n") {
                let asked = asks
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
                let words = ok(if asked.is_ok() { "listen" } else { "T 1" }).unwrap();
                stream.write_all(words.as_bytes()).await.ok();
            }
        }
    } else if may.swap(false, Ordering::Relaxed) {
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("hello"));
        socket.send(Message::text("T 7")).await.unwrap();
        socket.close(None).await.ok();
        asks.store(1, Ordering::Relaxed);
    } else {
        let refusal = "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(refusal.as_bytes()).await.ok();
    }
}

#[tokio::test]
async fn a_device_that_is_asked_may_push_besides_and_goes_on_without() {
    let plan = plan(protocol!(HTTP, Login::None), pushes().await);
    let mut bench = Bench::start(&plan, &[], Path::new("/nonexistent"));
    bench.until(0, &number(7.0)).await;
    let refused = |status: &DeviceStatus| {
        status.trouble.as_ref().is_some_and(|words| words.starts_with("deaf: the device refuses"))
    };
    bench.status(refused).await;
    bench.until(0, &number(1.0)).await;
    assert_eq!(bench.handle.status().state, DeviceState::Answering);
}

//! The server on a real socket.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::routes::tests::app;
use super::*;

async fn exchange(address: std::net::SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    // A server that refuses the rest of a request may reset the connection.
    drop(stream.read_to_end(&mut answer).await);
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_socket_is_served_until_shutdown() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (app, _feed) = app();
    let server = tokio::spawn(serve(listener, app, async { drop(stopped.await) }));
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let page = exchange(address, request).await;
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    for header in ["content-security-policy: default-src", "nosniff", "etag: ", "no-cache"] {
        assert!(page.contains(header), "{header} is missing from {page}");
    }
    let rubbish = exchange(address, &[0xff; 64]).await;
    assert!(!rubbish.contains(" 200 "), "{rubbish}");
    let long = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", "x".repeat(HEADER_BYTES_MAX * 2));
    let refused = exchange(address, long.as_bytes()).await;
    assert!(!refused.contains(" 200 "), "{refused}");
    // A board's endless stream does not hold up the end.
    let mut board = TcpStream::connect(address).await.unwrap();
    board.write_all(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut first = [0; 12];
    board.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    stop.send(()).unwrap();
    tokio::time::timeout(GRACE * 5, server).await.unwrap().unwrap();
}

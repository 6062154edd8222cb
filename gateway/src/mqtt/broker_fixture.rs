//! Brokers for tests: a real mosquitto on loopback, nothing on disk, stopped by its process id; and
//! one that takes everything and acknowledges nothing.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::recorder::fake::folder;

/// A running broker.
pub(crate) struct Mosquitto {
    child: Child,
    conf: PathBuf,
    pub(crate) port: u16,
}

impl Mosquitto {
    /// Starts a broker; `None` with one line where mosquitto is not installed.
    pub(crate) async fn start() -> Option<Self> {
        let program = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"]
            .into_iter()
            .find(|path| std::path::Path::new(path).exists());
        let Some(program) = program else {
            crate::testing::skip("mosquitto is not installed");
            return None;
        };
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let conf = folder("mosquitto").join("mosquitto.conf");
        let text = format!("listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n");
        std::fs::write(&conf, text).unwrap();
        let child = spawn(program, &conf);
        let broker = Self { child, conf, port };
        broker.listening().await;
        Some(broker)
    }

    async fn listening(&self) {
        for _ in 0..500 {
            if tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("mosquitto does not listen");
    }

    /// Kills the broker: sessions, queues and retained messages are gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again at the same port.
    pub(crate) async fn restart(&mut self) {
        self.child = spawn("/usr/sbin/mosquitto", &self.conf);
        self.listening().await;
    }
}

fn spawn(program: &str, conf: &std::path::Path) -> Child {
    let mut command = Command::new(program);
    command.arg("-c").arg(conf).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A broker that welcomes, answers pings, and acknowledges no message until it is told to.
pub(crate) struct DeafBroker {
    pub(crate) port: u16,
    hears: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Vec<String>>>>,
}

impl DeafBroker {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (hears, seen) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let broker = Self { port, hears: Arc::clone(&hears), seen: Arc::clone(&seen) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = {
                    let mut seen = seen.lock().unwrap();
                    seen.push(Vec::new());
                    seen.len() - 1
                };
                tokio::spawn(converse(stream, number, Arc::clone(&hears), Arc::clone(&seen)));
            }
        });
        broker
    }

    /// From now on it acknowledges.
    pub(crate) fn hear(&self) {
        self.hears.store(true, Ordering::Relaxed);
    }

    /// The topics of each connection, in order.
    pub(crate) fn connections(&self) -> Vec<Vec<String>> {
        self.seen.lock().unwrap().clone()
    }
}

/// MQTT 3.1.1: a type and flags, the length in groups of seven bits, the packet.
async fn converse(
    mut stream: TcpStream,
    number: usize,
    hears: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Vec<String>>>>,
) -> Option<()> {
    loop {
        let kind = stream.read_u8().await.ok()?;
        let mut length = 0;
        for group in 0..4 {
            let byte = stream.read_u8().await.ok()?;
            length |= usize::from(byte & 0x7f) << (7 * group);
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut packet = vec![0; length];
        stream.read_exact(&mut packet).await.ok()?;
        let answer: Vec<u8> = match kind >> 4 {
            1 => vec![0x20, 2, 0, 0],
            3 => {
                let topic_end = 2 + usize::from(u16::from_be_bytes([packet[0], packet[1]]));
                let topic = String::from_utf8_lossy(&packet[2..topic_end]).into_owned();
                seen.lock().unwrap()[number].push(topic);
                let acknowledged = hears.load(Ordering::Relaxed);
                let id = [packet[topic_end], packet[topic_end + 1]];
                if acknowledged { vec![0x40, 2, id[0], id[1]] } else { Vec::new() }
            }
            12 => vec![0xd0, 0],
            _ => Vec::new(),
        };
        stream.write_all(&answer).await.ok()?;
    }
}

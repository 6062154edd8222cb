//! A real mosquitto for tests: loopback, nothing on disk, stopped by its process id.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

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

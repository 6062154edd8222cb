//! MQTT against a real mosquitto: one over TLS with a certificate of its own, one that two devices
//! share.

use std::process::{Child, Command, Stdio};

use tokio::net::TcpStream;

use super::*;
use crate::config::plan::{GpioLine, Secret};
use crate::mqtt::broker_fixture::Mosquitto;

const OWN: Reach = Reach::OwnBroker { port: 8883 };
const SHARED: Reach = Reach::SharedBroker;

/// A device with a broker of its own: TLS, one user, and whoever answers at it.
struct Printer {
    broker: Child,
    port: u16,
    folder: std::path::PathBuf,
}

impl Printer {
    async fn start() -> Option<Self> {
        let installed = |program: &str| {
            let mut command = Command::new(program);
            command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null());
            command.arg("-h").status().is_ok()
        };
        if !["mosquitto", "mosquitto_passwd", "openssl"].into_iter().all(installed) {
            crate::testing::skip("mosquitto or openssl is not installed");
            return None;
        }
        let folder = folder("printer");
        let run = |program: &str, arguments: &[&str]| {
            let mut command = Command::new(program);
            let ended = command.args(arguments).current_dir(&folder).output().unwrap();
            assert!(ended.status.success(), "{ended:?}");
        };
        run("mosquitto_passwd", &["-b", "-c", "users", "bblp", "12345678"]);
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let path = folder.display();
        let conf = format!(
            "listener {port} 127.0.0.1\nallow_anonymous false\npassword_file {path}/users\n\
             certfile {path}/cert.pem\nkeyfile {path}/key.pem\npersistence false\nuser root\n"
        );
        std::fs::write(folder.join("conf"), conf).unwrap();
        let broker = Command::new("true").spawn().unwrap();
        let mut printer = Self { broker, port, folder };
        printer.with_a_new_certificate().await;
        Some(printer)
    }

    /// Ends the broker and starts it with another certificate.
    async fn with_a_new_certificate(&mut self) {
        self.end();
        let arguments = "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 \
                         -subj /CN=01S00C123456789";
        let arguments = arguments.split_whitespace();
        let mut openssl = Command::new("openssl");
        let made = openssl.args(arguments).current_dir(&self.folder).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let mut command = Command::new("mosquitto");
        command.arg("-c").arg(self.folder.join("conf"));
        self.broker = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + SOON;
        while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            assert!(Instant::now() < deadline, "mosquitto does not listen");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn end(&mut self) {
        self.broker.kill().ok();
        self.broker.wait().ok();
    }

    /// Says something with a program that shares nothing with andon.
    fn say(&self, topic: &str, words: &str) {
        let port = self.port.to_string();
        let mut said = Command::new("mosquitto_pub");
        said.args(["-h", "127.0.0.1", "-p", &port, "-u", "bblp", "-P", "12345678"]);
        said.args(["--cafile", "cert.pem", "--insecure", "-t", topic, "-m", words, "-r"]);
        let ended = said.current_dir(&self.folder).output().unwrap();
        assert!(ended.status.success(), "{ended:?}");
    }

    fn pin(&self) -> std::path::PathBuf {
        self.folder.join("state/pins/talker")
    }

    fn plan(&self, password: &str) -> DevicePlan {
        let mut plan = plan(protocol!(OWN, Login::Mqtt("bblp")), net(self.port));
        plan.credentials.password = Some(Secret(password.to_owned()));
        plan
    }
}

impl Drop for Printer {
    fn drop(&mut self) {
        self.end();
    }
}

#[tokio::test]
async fn a_certificate_is_pinned_on_first_use_and_another_one_refused() {
    let Some(mut printer) = Printer::start().await else { return };
    let state_dir = printer.folder.join("state");

    let stranger = Bench::start(&printer.plan("wrong"), &[], &state_dir);
    let refused = |status: &DeviceStatus| {
        status.down.as_ref().is_some_and(|words| words.contains("refuses user and password"))
    };
    stranger.status(refused).await;
    drop(stranger);
    assert!(!printer.pin().exists(), "who does not let us in is not believed for ever");

    printer.say("hall/1/say", "T 55");
    let mut bench = Bench::start(&printer.plan("12345678"), &[], &state_dir);
    bench.until(0, &number(55.0)).await;
    bench.until(2, &Ok(Value::Flag(true))).await;
    let openssl = Command::new("openssl")
        .args(["x509", "-in", "cert.pem", "-noout", "-fingerprint", "-sha256"])
        .current_dir(&printer.folder)
        .output()
        .unwrap();
    let print = String::from_utf8(openssl.stdout).unwrap();
    let print = print.trim().split_once('=').unwrap().1.replace(':', "").to_lowercase();
    assert_eq!(std::fs::read_to_string(printer.pin()).unwrap().trim(), print);

    printer.with_a_new_certificate().await;
    let refused = |status: &DeviceStatus| {
        status.down.as_ref().is_some_and(|words| {
            words.contains("not the certificate that was pinned") && words.contains("pins/talker")
        })
    };
    bench.status(refused).await;
    std::fs::remove_file(printer.pin()).unwrap();
    printer.say("hall/1/say", "T 56");
    bench.until(0, &number(56.0)).await;
    assert!(printer.pin().exists());
}

#[tokio::test]
async fn a_broken_pin_is_not_taken_for_none() {
    let Some(printer) = Printer::start().await else { return };
    std::fs::create_dir_all(printer.pin().parent().unwrap()).unwrap();
    std::fs::write(printer.pin(), "").unwrap();
    let bench = Bench::start(&printer.plan("12345678"), &[], &printer.folder.join("state"));
    let broken = |status: &DeviceStatus| {
        status.down.as_ref().is_some_and(|words| words.contains("cannot be read"))
    };
    bench.status(broken).await;
    assert_eq!(std::fs::read_to_string(printer.pin()).unwrap(), "");
}

/// A device with this topic at a broker that others share, and that broker.
fn shared_plan(mosquitto: &Mosquitto, topic: &str) -> (DevicePlan, BrokerPlan) {
    let broker = BrokerPlan {
        id: "hall".into(),
        host: "127.0.0.1".to_owned(),
        port: mosquitto.port,
        login: None,
        ca_file: None,
    };
    let mut plan = plan(protocol!(SHARED, Login::None), Place::Broker(0));
    topic.clone_into(&mut plan.settings.topic);
    (plan, broker)
}

fn at_broker(mosquitto: &Mosquitto, shared: &Runtime, topic: &str) -> Bench {
    let (plan, broker) = shared_plan(mosquitto, topic);
    let (sink, deliveries) = mpsc::channel(1000);
    let dir = Path::new("/nonexistent");
    let handle = start_device(&plan, &[broker], &engine(), dir, sink, shared).unwrap();
    let (reply, replies) = mpsc::unbounded_channel();
    Bench { handle, deliveries, replies, reply }
}

#[tokio::test]
async fn more_devices_than_the_client_takes_at_once_and_a_message_too_long_leave_the_broker_up() {
    let Some(mosquitto) = Mosquitto::start().await else { return };
    let shared = Runtime::start().unwrap();
    let start = |n: usize| at_broker(&mosquitto, &shared, &format!("hall/{n}"));
    let mut devices: Vec<Bench> = (0..2 * super::wire::ORDERS_MAX).map(start).collect();
    let port = mosquitto.port.to_string();
    let say = |topic: &str, words: &[&str]| {
        let mut command = Command::new("mosquitto_pub");
        let arguments = ["-h", "127.0.0.1", "-p", &port, "-t", topic, "-r"];
        assert!(command.args(arguments).args(words).status().unwrap().success());
    };
    let last = devices.len() - 1;
    say(&format!("hall/{last}/say"), &["-m", "T 7"]);
    devices[last].until(0, &number(7.0)).await;

    let file = folder("too-long").join("message");
    std::fs::write(&file, vec![b'9'; 2 * andon_adapters::device::BODY_BYTES_MAX]).unwrap();
    say("hall/0/say", &["-f", &file.to_string_lossy()]);
    let told = |words: &str| words.contains("2097152 bytes at hall/0/say");
    devices[0].status(|status| status.trouble.as_deref().is_some_and(told)).await;
    say("hall/0/say", &["-m", "T 1"]);
    devices[0].until(0, &number(1.0)).await;
    assert!(devices.iter().all(|device| device.handle.status().state != DeviceState::Down));
}

#[tokio::test]
async fn devices_share_a_broker_and_hear_their_own_topics_also_after_it_was_away() {
    let Some(mut mosquitto) = Mosquitto::start().await else { return };
    let shared = Runtime::start().unwrap();
    let start = |topic: &str| at_broker(&mosquitto, &shared, topic);
    let (mut first, mut second) = (start("hall/1"), start("hall/2"));
    let say = |topic: &str, words: &str| {
        let port = mosquitto.port.to_string();
        let arguments = ["-h", "127.0.0.1", "-p", &port, "-t", topic, "-m", words, "-r"];
        assert!(Command::new("mosquitto_pub").args(arguments).status().unwrap().success());
    };
    say("hall/1/say", "T 1");
    say("hall/2/say", "T 2");
    first.until(0, &number(1.0)).await;
    second.until(0, &number(2.0)).await;
    first.stop(Stop::Emergency);
    first.status(|status| status.state == DeviceState::Answering).await;
    say("hall/1/say", "stands");
    assert_eq!(first.reply().await, Reply::ReadBack(true));

    mosquitto.kill();
    first.until(0, &Err(Unavailable::Disconnected)).await;
    second.until(0, &Err(Unavailable::Disconnected)).await;
    mosquitto.restart().await;
    let port = mosquitto.port.to_string();
    for (topic, words) in [("hall/2/say", "T 22"), ("hall/1/say", "T 11")] {
        let arguments = ["-h", "127.0.0.1", "-p", &port, "-t", topic, "-m", words, "-r"];
        assert!(Command::new("mosquitto_pub").args(arguments).status().unwrap().success());
    }
    first.until(0, &number(11.0)).await;
    second.until(0, &number(22.0)).await;
    while let Ok(delivery) = first.deliveries.try_recv() {
        let strange = |(_, measured): &(_, Measured)| *measured == number(22.0);
        assert!(!delivery.readings.iter().any(strange), "the neighbour's words are not heard");
    }
}

#[tokio::test]
async fn one_look_at_a_source_leaves_the_gateways_session_at_the_broker_alone() {
    let Some(mosquitto) = Mosquitto::start().await else { return };
    let shared = Runtime::start().unwrap();
    let mut gateway = at_broker(&mosquitto, &shared, "hall/1");
    let port = mosquitto.port.to_string();
    let say = |words: &str| {
        let arguments = ["-h", "127.0.0.1", "-p", &port, "-t", "hall/1/say", "-m", words, "-r"];
        assert!(Command::new("mosquitto_pub").args(arguments).status().unwrap().success());
    };
    say("T 5");
    gateway.until(0, &number(5.0)).await;
    let (plan, broker) = shared_plan(&mosquitto, "hall/1");
    let dir = Path::new("/nonexistent");
    let probed = probe_device(&plan, &[broker], dir, Duration::from_secs(2)).await.unwrap();
    assert!(probed.said.iter().any(|(_, measured)| *measured == number(5.0)), "{probed:?}");
    say("T 6");
    let deadline = Instant::now() + SOON;
    loop {
        let delivery = tokio::time::timeout_at(deadline, gateway.deliveries.recv()).await;
        let readings = delivery.unwrap().unwrap().readings;
        let lost = |(_, measured): &(_, Measured)| *measured == Err(Unavailable::Disconnected);
        assert!(!readings.iter().any(lost), "the gateway has lost its session: {readings:?}");
        if readings.iter().any(|(_, measured)| *measured == number(6.0)) {
            break;
        }
    }
}

#[tokio::test]
async fn a_chip_that_is_not_there_is_told_in_words() {
    let line = GpioLine { offset: 4, active_low: true, bias: crate::config::plan::Bias::PullUp };
    let place = Place::Gpio { chip: "/dev/gpiochip99".into(), lines: vec![line] };
    let mut bench =
        Bench::start(&plan(protocol!(Reach::Gpio, Login::None), place), &[], Path::new("/"));
    bench.until(2, &Err(Unavailable::Disconnected)).await;
    let status = bench.status(|status| status.down.as_deref() != Some("opening")).await;
    assert!(status.down.unwrap().contains("/dev/gpiochip99"));
}

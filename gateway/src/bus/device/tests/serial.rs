//! Serial ports: pseudo-terminals with somebody at the far end.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;

use super::streams::stream;
use super::*;
use crate::config::plan::{Parity, SerialLine};

/// A pseudo-terminal with somebody at its far end. Dropping it pulls the plug.
struct Terminal {
    name: PathBuf,
    near: File,
    lines: mpsc::UnboundedReceiver<String>,
    gone: Arc<AtomicBool>,
}

impl Terminal {
    fn plug() -> Self {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let near = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&near).unwrap();
        unlockpt(&near).unwrap();
        let name = ptsname(&near, Vec::new()).unwrap().into_string().unwrap().into();
        rustix::io::ioctl_fionbio(&near, true).unwrap();
        let near = File::from(near);
        let (heard, lines) = mpsc::unbounded_channel();
        let gone = Arc::new(AtomicBool::new(false));
        let (ended, mut reading) = (gone.clone(), near.try_clone().unwrap());
        std::thread::spawn(move || {
            let (mut whole, mut bytes) = (Lines::default(), [0; 64]);
            while !ended.load(Ordering::Relaxed) {
                match reading.read(&mut bytes) {
                    Ok(count) => whole.take(&bytes[..count], |line| {
                        heard.send(line.to_owned()).ok();
                    }),
                    // Nobody has the other end open, or nothing is there.
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        });
        Self { name, near, lines, gone }
    }

    fn place(&self) -> Place {
        self.place_with(false)
    }

    /// As an old control wants it; of this, a pseudo-terminal knows the flow control alone.
    fn place_with(&self, xonxoff: bool) -> Place {
        let (port, parity) = (self.name.clone(), Parity::Even);
        let line = SerialLine { baud: 19_200, parity, data_bits: 7, stop_bits: 1, xonxoff };
        Place::Serial { port, line }
    }

    async fn asked(&mut self) -> String {
        timeout(SOON, self.lines.recv()).await.unwrap().unwrap()
    }

    fn say(&mut self, words: &str) {
        for byte in words.bytes() {
            self.near.write_all(&[byte]).unwrap();
            std::thread::sleep(Duration::from_micros(300));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_serial_device_is_heard_byte_by_byte() {
    let mut terminal = Terminal::plug();
    let mut bench = Bench::start(&plan(stream(), terminal.place()), &[], Path::new("/nonexistent"));
    assert_eq!(terminal.asked().await, "?");
    terminal.say("T 48.25\r\nSTATE ready\r\n");
    bench.until(0, &number(48.25)).await;
    let held = rustix::termios::tcgetattr(&terminal.near).unwrap();
    let hang_up = rustix::termios::ControlModes::HUPCL;
    assert!(!held.control_modes.contains(hang_up), "closing the port does not drop DTR");
    drop(terminal);
    bench.until(0, &Err(Unavailable::Disconnected)).await;
}

#[tokio::test]
async fn a_port_stays_open_during_a_job_and_is_opened_again_without_one() {
    let mut terminal = Terminal::plug();
    let mut bench = Bench::start(&plan(stream(), terminal.place()), &[], Path::new("/nonexistent"));
    assert_eq!(terminal.asked().await, "?");
    terminal.say("T 1\nSTATE running\nagain\nT 2\n");
    let mut last = None;
    while last != Some(number(2.0)) {
        let delivery = timeout(SOON, bench.deliveries.recv()).await.unwrap().unwrap();
        for (item, measured) in delivery.readings {
            assert_ne!(measured, Err(Unavailable::Disconnected), "the port was closed");
            last = last.filter(|_| item != ItemIndex(0)).or(Some(measured));
        }
    }
    bench.stop(Stop::Emergency);
    while terminal.asked().await != "emergency" {}
    terminal.say("STATE ready\nagain\n");
    bench.until(0, &Err(Unavailable::Disconnected)).await;
    assert!(failed_with(&bench.reply().await, "opened again"));
    while terminal.asked().await != "?" {}
    terminal.say("T 3\n");
    bench.until(0, &number(3.0)).await;
}

#[tokio::test]
async fn a_port_that_another_program_holds_is_refused_with_words() {
    let mut terminal = Terminal::plug();
    let mut holder = std::process::Command::new("flock")
        .args(["--exclusive", terminal.name.to_str().unwrap(), "cat"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // What cat gives back proves that the lock is held.
    holder.stdin.as_mut().unwrap().write_all(b"x").unwrap();
    holder.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    let mut bench = Bench::start(&plan(stream(), terminal.place()), &[], Path::new("/nonexistent"));
    let refused = bench.status(|status| status.errors > 0).await;
    assert!(refused.down.unwrap().contains("another program holds"));
    drop(holder.stdin.take());
    holder.wait().unwrap();
    assert_eq!(terminal.asked().await, "?");
    terminal.say("T 4\n");
    bench.until(0, &number(4.0)).await;
}

/// Whether the far end gets nothing for as long as a character that was on its way would need.
fn nothing_comes(terminal: &mut Terminal) -> bool {
    std::thread::sleep(Duration::from_millis(100));
    terminal.lines.try_recv().is_err()
}

#[tokio::test]
async fn a_device_holds_us_up_in_the_middle_of_its_answer_and_is_heard_whole() {
    let mut terminal = Terminal::plug();
    let place = terminal.place_with(true);
    let mut plan = plan(stream(), place);
    plan.period = Duration::from_millis(20);
    let mut bench = Bench::start(&plan, &[], Path::new("/nonexistent"));
    assert_eq!(terminal.asked().await, "?");
    terminal.say("T 4\u{13}8.2");
    // What was under way before it said so.
    while !nothing_comes(&mut terminal) {}
    assert!(nothing_comes(&mut terminal), "held up");
    terminal.say("5\r\nSTATE ready\r\n");
    bench.until(0, &number(48.25)).await;
    assert!(nothing_comes(&mut terminal), "still held up");
    terminal.say("\u{11}");
    assert_eq!(terminal.asked().await, "?");
}

#[tokio::test]
async fn without_flow_control_its_characters_are_heard_and_hold_nobody_up() {
    let mut terminal = Terminal::plug();
    let mut bench = Bench::start(&plan(stream(), terminal.place()), &[], Path::new("/nonexistent"));
    assert_eq!(terminal.asked().await, "?");
    terminal.say("\u{13}STATE ready\r\n");
    let heard = |status: &DeviceStatus| status.trouble.is_some();
    let status = bench.status(heard).await;
    assert_eq!(status.trouble.as_deref(), Some("not understood: \u{13}STATE"));
    assert_eq!(terminal.asked().await, "?");
    terminal.say("T 1\r\n");
    bench.until(0, &number(1.0)).await;
}

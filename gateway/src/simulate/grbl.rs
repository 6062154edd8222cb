//! A router's controller with GRBL 1.1 on a pseudo-terminal: what it does is set from outside, and
//! no G-code is executed.
//!
//! `?` is answered with a status report, `$I` with the build, every other line with `error:9`, as if it
//! were locked: it takes no orders, and hears no reset. The work offset is in every tenth report, the
//! overrides in the one after. Facts: GRBL 1.1 interface description.
//!
//! Bounds: a line of [`LINE_BYTES_MAX`], [`PUSHED_MAX`] lines that wait to be pushed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::terminal::Terminal;

/// Longest line that is listened to; GRBL takes 80 bytes, and nobody here sends as many.
const LINE_BYTES_MAX: usize = 80;
/// Lines that wait to be pushed; more are lost, as on a wire that nobody reads.
const PUSHED_MAX: usize = 16;
/// Between two work offsets while nothing moves.
const OFFSET_EVERY: u32 = 10;
/// What it says when it has started.
pub(crate) const BANNER: &str = "Grbl 1.1h ['$' for help]";

/// What a controller shows; mm, mm/min, rpm.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ControllerShows {
    /// State and substate: `Hold:0`.
    pub(crate) state: &'static str,
    pub(crate) position: [f64; 3],
    pub(crate) feed: f64,
    pub(crate) spindle: f64,
    /// Letters of the inputs that are active.
    pub(crate) pins: &'static str,
    /// Answers nothing, as while homing and after a critical alarm.
    pub(crate) silent: bool,
}

/// A served controller; it is gone when this goes.
#[derive(Debug)]
pub(crate) struct Grbl {
    shows: Arc<Mutex<ControllerShows>>,
    pushed: mpsc::Sender<&'static str>,
    path: PathBuf,
}

impl Grbl {
    /// Serves a controller on a new pseudo-terminal.
    ///
    /// # Errors
    /// When there is none to be had.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn start(shows: ControllerShows) -> io::Result<Self> {
        let terminal = Terminal::open(None)?;
        let path = terminal.path().to_owned();
        let shows = Arc::new(Mutex::new(shows));
        let (pushed, to_push) = mpsc::channel(PUSHED_MAX);
        let firmware = Firmware { shows: shows.clone(), reports: 0, line: Vec::new() };
        tokio::spawn(async move {
            if let Err(error) = serve(terminal, firmware, to_push).await {
                tracing::error!(%error, "The simulated controller's pseudo-terminal failed.");
            }
        });
        Ok(Self { shows, pushed, path })
    }

    /// Its serial port.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What it shows from now on.
    pub(crate) fn show(&self, shows: ControllerShows) {
        *self.shows.lock().unwrap_or_else(PoisonError::into_inner) = shows;
    }

    /// Says a line that nobody asked for.
    pub(crate) fn say(&self, line: &'static str) {
        // What finds no room is lost, as the bound says.
        self.pushed.try_send(line).ok();
    }
}

/// Until the handle goes.
async fn serve(
    mut terminal: Terminal,
    mut firmware: Firmware,
    mut to_push: mpsc::Receiver<&'static str>,
) -> io::Result<()> {
    let mut bytes = [0; LINE_BYTES_MAX];
    loop {
        tokio::select! {
            line = to_push.recv() => match line {
                Some(line) => terminal.write_all(format!("{line}\r\n").as_bytes()).await?,
                None => return Ok(()),
            },
            read = terminal.read(&mut bytes) => {
                for &byte in &bytes[..read?] {
                    terminal.write_all(firmware.hear(byte).as_bytes()).await?;
                }
            }
        }
    }
}

/// The controller's end of the conversation.
struct Firmware {
    shows: Arc<Mutex<ControllerShows>>,
    reports: u32,
    line: Vec<u8>,
}

impl Firmware {
    /// Takes a byte; what it answers.
    fn hear(&mut self, byte: u8) -> String {
        let shows = *self.shows.lock().unwrap_or_else(PoisonError::into_inner);
        match byte {
            _ if shows.silent => String::new(),
            b'?' => self.report(&shows),
            b'\r' | b'\n' => self.command(&shows),
            _ => {
                if self.line.len() < LINE_BYTES_MAX {
                    self.line.push(byte);
                }
                String::new()
            }
        }
    }

    fn report(&mut self, shows: &ControllerShows) -> String {
        let ControllerShows { state, position: [x, y, z], feed, spindle, pins, .. } = shows;
        let mut report = format!("<{state}|MPos:{x:.3},{y:.3},{z:.3}|FS:{feed:.0},{spindle:.0}");
        if !pins.is_empty() {
            report += &format!("|Pn:{pins}");
        }
        match self.reports % OFFSET_EVERY {
            0 => report += "|WCO:0.000,0.000,0.000",
            1 if *spindle > 0.0 => report += "|Ov:100,100,100|A:S",
            1 => report += "|Ov:100,100,100",
            _ => {}
        }
        self.reports = self.reports.wrapping_add(1);
        report + ">\r\n"
    }

    fn command(&mut self, shows: &ControllerShows) -> String {
        let line = std::mem::take(&mut self.line);
        let rests = shows.state == "Idle" || shows.state.starts_with("Alarm");
        match line.as_slice() {
            b"" => "",
            // Said only at rest.
            b"$I" if rests => "[VER:1.1h.20190825:]\r\n[OPT:V,15,128]\r\nok\r\n",
            b"$I" => "error:8\r\n",
            _ => "error:9\r\n",
        }
        .to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(shows: ControllerShows, asked: &str) -> String {
        let shows = Arc::new(Mutex::new(shows));
        let mut firmware = Firmware { shows, reports: 0, line: Vec::new() };
        asked.bytes().map(|byte| firmware.hear(byte)).collect()
    }

    /// The reports are those of the GRBL simulator, built from its sources.
    #[test]
    fn reports_have_the_firmware_s_form() {
        let idle = ControllerShows { state: "Idle", ..ControllerShows::default() };
        let first = "<Idle|MPos:0.000,0.000,0.000|FS:0,0|WCO:0.000,0.000,0.000>\r\n";
        assert_eq!(answers(idle, "?"), first);
        let position = [1.224, 0.0, 0.0];
        let held = ControllerShows { state: "Hold:1", position, pins: "PXYZRHS", ..idle };
        let third = "<Hold:1|MPos:1.224,0.000,0.000|FS:0,0|Pn:PXYZRHS>\r\n";
        assert!(answers(held, "???").ends_with(third));
    }

    #[test]
    fn it_takes_no_orders_and_is_silent_when_it_is() {
        let runs = ControllerShows { state: "Run", ..ControllerShows::default() };
        assert_eq!(answers(runs, "G0X1\n$I\n"), "error:9\r\nerror:8\r\n");
        assert_eq!(answers(ControllerShows { silent: true, ..runs }, "?$I\n"), "");
    }
}

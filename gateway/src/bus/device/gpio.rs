//! Input lines of a GPIO chip, through the kernel's character device (uAPI version 2).
//!
//! Edges are read on a thread of their own, which ends when the link is dropped; every period the
//! levels are read as well, so that a lost edge is made good.

use std::path::Path;
use std::time::Duration;

use gpiocdev::line::{EdgeDetection, Value};
use gpiocdev::{Request, request};
use tokio::sync::mpsc;

use super::connection::Event;
use crate::config::plan::{Bias, GpioLine};

/// Levels that may wait.
const LEVELS_MAX: usize = 256;
/// How long an edge must hold: contacts bounce.
const DEBOUNCE: Duration = Duration::from_millis(10);
/// How often the thread looks whether anybody still listens.
const LOOK: Duration = Duration::from_millis(500);

/// Lines that are held.
pub(super) struct GpioLink {
    levels: mpsc::Receiver<Event>,
    /// Asks the thread for all levels.
    ask: std::sync::mpsc::SyncSender<()>,
}

impl GpioLink {
    /// Requests the lines of a chip as inputs.
    pub(super) async fn open(chip: &Path, lines: &[GpioLine]) -> Result<Self, String> {
        let (chip, lines) = (chip.to_owned(), lines.to_vec());
        let opening = tokio::task::spawn_blocking(move || {
            let request =
                hold(&chip, &lines).map_err(|error| format!("{}: {error}", chip.display()))?;
            Ok::<_, String>((request, lines))
        });
        let (request, lines) = opening.await.map_err(|error| error.to_string())??;
        let (tell, levels) = mpsc::channel(LEVELS_MAX);
        let (ask, asked) = std::sync::mpsc::sync_channel(1);
        std::thread::Builder::new()
            .name("gpio".to_owned())
            .spawn(move || watch(&request, &lines, &tell, &asked))
            .map_err(|error| error.to_string())?;
        Ok(Self { levels, ask })
    }

    pub(super) async fn next(&mut self) -> Event {
        let gone = || Event::Closed("the chip is gone".to_owned());
        self.levels.recv().await.unwrap_or_else(gone)
    }

    pub(super) fn due(&mut self) {
        // Full means that it has been asked already.
        self.ask.try_send(()).ok();
    }
}

fn hold(chip: &Path, lines: &[GpioLine]) -> gpiocdev::Result<Request> {
    let mut builder = Request::builder();
    builder.on_chip(chip).with_consumer("andon");
    for line in lines {
        builder.with_line(line.offset).as_input();
        if line.active_low {
            builder.as_active_low();
        }
        match line.bias {
            Bias::AsIs => {}
            Bias::PullUp => {
                builder.with_bias(gpiocdev::line::Bias::PullUp);
            }
            Bias::PullDown => {
                builder.with_bias(gpiocdev::line::Bias::PullDown);
            }
        }
        builder.with_edge_detection(EdgeDetection::BothEdges).with_debounce_period(DEBOUNCE);
    }
    let _: &request::Builder = &builder;
    builder.request()
}

/// Tells levels until nobody listens or the chip is gone.
fn watch(
    request: &Request,
    lines: &[GpioLine],
    tell: &mpsc::Sender<Event>,
    asked: &std::sync::mpsc::Receiver<()>,
) {
    loop {
        match request.wait_edge_event(LOOK.min(Duration::from_millis(50))) {
            Ok(true) if request.read_edge_event().is_err() => break,
            Ok(edge) => {
                let due = asked.try_recv();
                if due == Err(std::sync::mpsc::TryRecvError::Disconnected) {
                    break;
                }
                if (edge || due.is_ok()) && !tell_levels(request, lines, tell) {
                    break;
                }
            }
            Err(_) => break,
        }
    }
}

/// Reads and tells all levels; whether that goes on.
fn tell_levels(request: &Request, lines: &[GpioLine], tell: &mpsc::Sender<Event>) -> bool {
    for (line, wanted) in lines.iter().enumerate() {
        let Ok(value) = request.value(wanted.offset) else { return false };
        let level = Event::Level { line, on: value == Value::Active };
        if let Err(mpsc::error::TrySendError::Closed(_)) = tell.try_send(level) {
            return false;
        }
    }
    true
}

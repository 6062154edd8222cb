//! Lines of a GPIO chip of this computer, as inputs, through the kernel's character device.
//!
//! Every line's level is told at every period and at every edge. Contacts bounce: the kernel
//! debounces where the chip lets it, and where it does not, every bounce is an edge that is told.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gpiocdev::Request;
use gpiocdev::line::{Bias as Pull, EdgeDetection, EdgeKind, Value};
use gpiocdev::tokio::AsyncRequest;

use super::wire::{Ends, News, Opener, Order, Wire};
use crate::config::plan::{Bias, GpioLine};

/// Changes shorter than this are bouncing.
const DEBOUNCE: Duration = Duration::from_millis(5);

/// The opener of these lines.
pub(super) fn opener(chip: &Path, lines: &[GpioLine]) -> Opener {
    let (chip, lines) = (chip.to_owned(), lines.to_vec());
    Box::new(move || {
        let (chip, lines) = (chip.clone(), lines.clone());
        Box::pin(async move {
            let opening = {
                let (chip, lines) = (chip.clone(), lines.clone());
                move || request(&chip, &lines)
            };
            let request =
                tokio::task::spawn_blocking(opening).await.map_err(io::Error::other)??;
            let request = AsyncRequest::new(request);
            Ok(Wire::start(|ends| carry(request, lines, ends)))
        })
    })
}

fn request(chip: &PathBuf, lines: &[GpioLine]) -> io::Result<Request> {
    let with = |debounce: Option<Duration>| {
        let mut builder = Request::builder();
        builder.on_chip(chip).with_consumer("andon");
        for line in lines {
            builder.with_line(line.offset).as_input().with_edge_detection(EdgeDetection::BothEdges);
            match line.bias {
                Bias::AsIs => {}
                Bias::PullUp => drop(builder.with_bias(Pull::PullUp)),
                Bias::PullDown => drop(builder.with_bias(Pull::PullDown)),
            }
            if line.active_low {
                builder.as_active_low();
            }
            if let Some(debounce) = debounce {
                builder.with_debounce_period(debounce);
            }
        }
        builder.request()
    };
    let words = |error: gpiocdev::Error| io::Error::other(format!("{}: {error}", chip.display()));
    with(Some(DEBOUNCE)).or_else(|_| with(None)).map_err(words)
}

async fn carry(request: AsyncRequest, lines: Vec<GpioLine>, mut ends: Ends) -> String {
    loop {
        let levels = tokio::select! {
            order = ends.orders.recv() => match order {
                None => return String::new(),
                Some(Order::Due) => levels(&request, &lines),
                Some(_) => continue,
            },
            edge = request.read_edge_event() => edge.map(|edge| {
                let at = lines.iter().position(|line| line.offset == edge.offset);
                at.map(|line| (line, edge.kind == EdgeKind::Rising)).into_iter().collect()
            }),
        };
        let levels = match levels {
            Ok(levels) => levels,
            Err(error) => return error.to_string(),
        };
        for (line, on) in levels {
            if ends.news.send(News::Level { line, on }).await.is_err() {
                return String::new();
            }
        }
    }
}

/// What every line stands at now.
fn levels(request: &AsyncRequest, lines: &[GpioLine]) -> gpiocdev::Result<Vec<(usize, bool)>> {
    let level = |(at, line): (usize, &GpioLine)| {
        Ok((at, request.as_ref().value(line.offset)? == Value::Active))
    };
    lines.iter().enumerate().map(level).collect()
}

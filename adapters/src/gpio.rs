//! Lines of a GPIO chip: contacts that are read by this computer itself.
//!
//! There is no protocol: each line is an item of the mapping (`input.1`), and its level is the
//! item's flag. Polarity, bias and debouncing are set where the lines are requested. Nothing is
//! kept, nothing is sent.

use std::sync::Arc;

use andon_engine::time::BootTime;

use crate::device::{Device, Heard, Outbox};
use crate::protocol::{Login, Protocol, Reach, Settings};

/// The lines of a GPIO chip.
pub const PROTOCOL: Protocol = Protocol {
    name: "gpio",
    title: "GPIO lines of this computer",
    source: "Linux, Documentation/userspace-api/gpio/chardev.rst (uAPI v2)",
    evidence: "not tried on a real chip yet",
    reach: Reach::Gpio,
    login: Login::None,
    options: &[],
    device,
};

fn device(settings: &Settings) -> Result<Box<dyn Device>, String> {
    if settings.mapping.is_empty() {
        return Err("a GPIO source names at least one line".to_owned());
    }
    let items = settings.mapping.iter().map(|(item, _)| Arc::from(item.as_str())).collect();
    Ok(Box::new(Gpio { items }))
}

/// The items, in the order of the lines.
struct Gpio {
    items: Vec<Arc<str>>,
}

impl Device for Gpio {
    fn items(&self) -> &[Arc<str>] {
        &self.items
    }

    fn step(&mut self, _: BootTime, heard: Heard<'_>, out: &mut Outbox) {
        if let Heard::Level { line, on } = heard
            && let Some(item) = self.items.get(line)
        {
            out.alive = true;
            out.flag(item, on);
        }
    }
}

#[cfg(test)]
mod tests {
    use andon_engine::value::Value;

    use super::*;

    #[test]
    fn a_level_is_the_flag_of_its_line_and_of_no_other() {
        let mapping = ["input.1", "door"].map(|item| (item.to_owned(), String::new())).to_vec();
        let settings = Settings { mapping, ..Settings::default() };
        let mut device = (PROTOCOL.device)(&settings).unwrap();
        let mut out = Outbox::default();
        device.step(BootTime(0), Heard::Opened, &mut out);
        device.step(BootTime(0), Heard::Due, &mut out);
        assert!(!out.alive && out.said.is_empty(), "nothing is said before it is read");
        device.step(BootTime(1), Heard::Level { line: 1, on: true }, &mut out);
        device.step(BootTime(1), Heard::Level { line: 2, on: true }, &mut out);
        assert_eq!(out.said, [(Arc::from("door"), Ok(Value::Flag(true)))]);
        assert!(out.alive);
    }

    #[test]
    fn a_source_without_lines_is_refused() {
        assert!((PROTOCOL.device)(&Settings::default()).is_err());
    }
}

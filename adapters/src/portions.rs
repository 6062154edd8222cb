//! For tests of devices that speak in lines: brings them what a wire may bring, in any portions,
//! and collects what they say. Nothing here knows a protocol.

use std::collections::BTreeMap;

use andon_engine::time::BootTime;
use andon_engine::value::{Measured, Unavailable};
use proptest::prelude::*;

use crate::contract;
use crate::device::{Device, Heard, Outbox, Outgoing, Stop, StopReply};

/// What a wire brings to a device.
#[derive(Clone, Debug)]
pub(crate) enum Sound {
    Opened,
    Due,
    Closed,
    Stop(Stop),
    Wait(u64),
    Bytes(Vec<u8>),
}

/// A device with its clock and all that it has said so far.
pub(crate) struct Trial {
    pub(crate) device: Box<dyn Device>,
    pub(crate) now: BootTime,
    pub(crate) said: BTreeMap<String, Measured>,
    pub(crate) sent: Vec<u8>,
    pub(crate) stop: Vec<StopReply>,
    pub(crate) trouble: Option<String>,
}

impl Trial {
    /// A device that has just been connected.
    pub(crate) fn opened(device: Box<dyn Device>) -> Self {
        let (said, now) = (BTreeMap::new(), BootTime::from_millis(1_000_000));
        let (sent, stop) = (Vec::new(), Vec::new());
        let mut trial = Self { device, now, said, sent, stop, trouble: None };
        trial.hear(Heard::Opened);
        trial
    }

    /// Brings one sound; what only this step said is returned.
    pub(crate) fn hear(&mut self, heard: Heard<'_>) -> Outbox {
        let mut out = Outbox::default();
        self.device.step(self.now, heard, &mut out);
        contract::check(&*self.device, &out);
        for (item, measured) in &out.said {
            self.said.insert(item.to_string(), measured.clone());
        }
        for sent in &out.sends {
            match sent {
                Outgoing::Bytes(bytes) => self.sent.extend(bytes),
                Outgoing::Reopen => self.sent.extend(b"<reopen>"),
                other => panic!("a device of lines sends {other:?}"),
            }
        }
        self.stop.extend(out.stop.iter().cloned());
        self.trouble = out.trouble.clone().or(self.trouble.take());
        out
    }

    pub(crate) fn lines(&mut self, lines: &[&str]) -> Outbox {
        self.hear(Heard::Bytes(
            lines.iter().flat_map(|l| [l, "\r\n"]).collect::<String>().as_bytes(),
        ))
    }

    pub(crate) fn due_after(&mut self, millis: u64) -> Outbox {
        self.now = BootTime(self.now.0 + millis * 1_000_000);
        self.hear(Heard::Due)
    }

    /// The text that was last said of an item.
    pub(crate) fn text(&self, item: &str) -> String {
        match self.said.get(item) {
            Some(Ok(value)) => value.to_string(),
            Some(Err(why)) => format!("({why})"),
            None => "-".to_owned(),
        }
    }

    pub(crate) fn number(&self, item: &str) -> f64 {
        self.said[item].clone().unwrap().as_number().unwrap()
    }

    /// What was sent since the last call, as text.
    pub(crate) fn take_sent(&mut self) -> String {
        std::mem::take(&mut self.sent).iter().map(|&b| char::from(b)).collect()
    }

    /// Brings all of these, bytes undivided.
    pub(crate) fn hear_all(&mut self, sounds: &[Sound]) {
        for sound in sounds {
            self.sound(sound, usize::MAX);
        }
    }

    fn sound(&mut self, sound: &Sound, portion: usize) {
        match sound {
            Sound::Opened => drop(self.hear(Heard::Opened)),
            Sound::Due => drop(self.hear(Heard::Due)),
            Sound::Closed => drop(self.hear(Heard::Closed)),
            Sound::Stop(stop) => drop(self.hear(Heard::Stop(*stop))),
            Sound::Wait(millis) => self.now = BootTime(self.now.0 + millis * 1_000_000),
            Sound::Bytes(bytes) => {
                for part in bytes.chunks(portion) {
                    self.hear(Heard::Bytes(part));
                }
            }
        }
    }
}

/// Names of a device's items, which must all be on the closed list and be there once.
pub(crate) fn offered(device: &dyn Device) -> Vec<String> {
    contract::check_items(device.items());
    device.items().iter().map(ToString::to_string).collect()
}

/// Anything a wire may bring: lines of the dialect, whole, cut off or run together, and rubbish.
pub(crate) fn sounds(dialect: &'static [&'static str]) -> impl Strategy<Value = Vec<Sound>> {
    let line = || proptest::sample::select(dialect).prop_map(|l| format!("{l}\r\n").into_bytes());
    let bytes = prop_oneof![
        6 => line(),
        1 => (line(), 0usize..40).prop_map(|(line, keep)| line[..keep.min(line.len())].to_vec()),
        1 => (line(), 0usize..40, any::<u8>()).prop_map(|(mut line, at, byte)| {
            let at = at % line.len();
            line[at] = byte;
            line
        }),
        1 => proptest::collection::vec(any::<u8>(), 0..60),
    ];
    let sound = prop_oneof![
        8 => bytes.prop_map(Sound::Bytes),
        4 => Just(Sound::Due),
        3 => (0u64..20_000).prop_map(Sound::Wait),
        1 => Just(Sound::Opened),
        1 => Just(Sound::Closed),
        1 => proptest::sample::select(&Stop::ALL[..]).prop_map(Sound::Stop),
    ];
    proptest::collection::vec(sound, 0..60)
}

/// Whatever a wire brings: no panic, nothing said that is not offered, and the same said and sent
/// whether the bytes come one by one, in portions or all together.
pub(crate) fn same_in_any_portions(make: fn() -> Box<dyn Device>, sounds: &[Sound]) {
    let after = |portion: usize| {
        let mut trial = Trial::opened(make());
        for sound in sounds {
            trial.sound(sound, portion);
        }
        (trial.said, trial.sent, trial.stop, trial.trouble)
    };
    let whole = after(usize::MAX);
    assert_eq!(whole, after(1));
    assert_eq!(whole, after(7));
}

/// A closed connection makes every item unavailable.
pub(crate) fn closing_makes_all_unavailable(trial: &mut Trial) {
    trial.hear(Heard::Closed);
    for item in offered(&*trial.device) {
        assert_eq!(trial.said[&item], Err(Unavailable::Disconnected), "{item}");
    }
}

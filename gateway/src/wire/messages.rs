//! The two payloads that carry records of the journal: observations and events.
//!
//! A message accounts for the records `(prev, seq]` of its boot and stream. Its `t` is the wall
//! time of the sample or of the happening, never that of sending, so that a message sent again
//! is the same message.

use std::fmt;
use std::sync::Arc;

use andon_engine::event::Event;
use andon_engine::time::BootTime;
use andon_engine::value::{Measured, Unavailable, Value};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{ITEMS_MAX, NAME_MAX, VERSION, WireError, decode};
use crate::journal::{BootId, Observation};

/// Whether the boot's wall time is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockState {
    /// `t` is the wall time.
    Synced,
    /// There is no wall time yet; `t` is null and the message will be sent again with one.
    Unsynced,
}

/// What every message of a record begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The payload's version.
    pub v: u8,
    /// The boot in which the record was written.
    pub boot: BootId,
    /// The record's number in its boot and stream.
    pub seq: u64,
    /// The number of the record before it, 0 when there is none.
    pub prev: u64,
    /// Unix milliseconds of the sample or the happening.
    pub t: Option<i64>,
    /// Whether `t` is known.
    pub clock: ClockState,
}

impl Header {
    /// The header of a record with this wall time.
    pub const fn new(boot: BootId, seq: u64, prev: u64, t: Option<i64>) -> Self {
        let clock = if t.is_some() { ClockState::Synced } else { ClockState::Unsynced };
        Self { v: VERSION, boot, seq, prev, t, clock }
    }

    const fn check(&self) -> Result<(), WireError> {
        if self.seq <= self.prev {
            return Err(WireError::Contradiction("seq is not above prev"));
        }
        if self.t.is_some() != matches!(self.clock, ClockState::Synced) {
            return Err(WireError::Contradiction("t and clock disagree"));
        }
        Ok(())
    }
}

/// The header of an observation or event, whatever else the message holds.
///
/// # Errors
/// [`WireError`] when even the header cannot be read.
pub fn header(payload: &[u8]) -> Result<Header, WireError> {
    let header: Header = decode(payload)?;
    header.check()?;
    Ok(header)
}

/// An observation on the wire.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ObservationMessage {
    /// The record's header.
    #[serde(flatten)]
    pub header: Header,
    /// Milliseconds since the boot.
    pub bt: u64,
    /// The values by item.
    pub items: Items,
}

impl ObservationMessage {
    /// The message of a record.
    pub fn of(header: Header, observation: &Observation) -> Self {
        Self { header, bt: observation.at.as_millis(), items: Items(observation.items.clone()) }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`WireError`] when it is malformed, too large or contradictory.
    pub fn decode(payload: &[u8]) -> Result<Self, WireError> {
        let message: Self = decode(payload)?;
        message.header.check()?;
        Ok(message)
    }

    /// The JSON of the message of a record: what [`super::encode`] makes of
    /// [`ObservationMessage::of`], without copying the items. By far most messages are these.
    pub fn encoded(header: Header, observation: &Observation) -> Vec<u8> {
        /// Bytes of a header and of an item, as a rule.
        const HEADER: usize = 192;
        const ITEM: usize = 32;
        let mut payload = Vec::with_capacity(HEADER + ITEM * observation.items.len());
        match write_observation(&mut payload, &header, observation) {
            Ok(()) => payload,
            // As in `encode`: it cannot be, and is no reason to end.
            Err(_) => Vec::new(),
        }
    }
}

/// The names are written as they are: to have them quoted and escaped anew with each message costs
/// more than all of its numbers.
fn write_observation(
    payload: &mut Vec<u8>,
    header: &Header,
    observation: &Observation,
) -> serde_json::Result<()> {
    fn put(payload: &mut Vec<u8>, name: &str, value: &impl Serialize) -> serde_json::Result<()> {
        payload.extend_from_slice(name.as_bytes());
        serde_json::to_writer(payload, value)
    }
    let Header { v, boot, seq, prev, t, clock } = header;
    put(payload, r#"{"v":"#, v)?;
    put(payload, r#","boot":"#, boot)?;
    put(payload, r#","seq":"#, seq)?;
    put(payload, r#","prev":"#, prev)?;
    put(payload, r#","t":"#, t)?;
    put(payload, r#","clock":"#, clock)?;
    put(payload, r#","bt":"#, &observation.at.as_millis())?;
    put(payload, r#","items":"#, &ItemsOf(&observation.items))?;
    payload.push(b'}');
    Ok(())
}

/// An event on the wire: the event's own fields beside the header's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventMessage {
    /// The record's header.
    #[serde(flatten)]
    pub header: Header,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

impl EventMessage {
    /// Reads a message.
    ///
    /// # Errors
    /// [`WireError`] when it is malformed, too large or contradictory, or a kind of event that is
    /// newer than this reader.
    pub fn decode(payload: &[u8]) -> Result<Self, WireError> {
        let message: Self = decode(payload)?;
        message.header.check()?;
        Ok(message)
    }
}

/// When an event happened: the boot when it is not the writer's, and the moment in it.
pub fn moment(event: &Event) -> (Option<BootId>, BootTime) {
    match event {
        Event::Started { at, .. }
        | Event::Stopped { at }
        | Event::Clock { at, .. }
        | Event::Activity { at, .. }
        | Event::Alarm { at, .. }
        | Event::Trip { at, .. } => (None, *at),
        Event::Evidence { until, boot, .. } => (boot.parse().ok(), *until),
        Event::Energy { register, .. } => (None, register.at),
    }
}

/// Items with their values, in their order; a JSON object on the wire.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Items(pub Vec<(Arc<str>, Measured)>);

/// One item's value on the wire: itself, or `{"q":"bad","why":…}`.
struct OnWire<'a>(&'a Measured);

impl Serialize for OnWire<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let why = match self.0 {
            // The engine makes no such number; a JSON null would be no value of the contract.
            Ok(Value::Number(number)) if !number.is_finite() => Unavailable::Sentinel,
            Ok(value) => return value.serialize(serializer),
            Err(why) => *why,
        };
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("q", "bad")?;
        map.serialize_entry("why", why.word())?;
        map.end()
    }
}

/// [`Items`] of somebody else.
struct ItemsOf<'a>(&'a [(Arc<str>, Measured)]);

impl Serialize for ItemsOf<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, OnWire(value))))
    }
}

impl Serialize for Items {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ItemsOf(&self.0).serialize(serializer)
    }
}

/// What a reader accepts in a value's place.
#[derive(Deserialize)]
#[serde(untagged)]
enum Read {
    Value(Value),
    Bad { q: Bad, why: String },
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Bad {
    Bad,
}

impl From<Read> for Measured {
    fn from(read: Read) -> Self {
        match read {
            Read::Value(value) => Ok(value),
            // A reason newer than this reader is still an absence: say what little is known.
            Read::Bad { q: Bad::Bad, why } => Err(Unavailable::ALL
                .into_iter()
                .find(|reason| reason.word() == why)
                .unwrap_or(Unavailable::Garbled)),
        }
    }
}

impl<'de> Deserialize<'de> for Items {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ItemsVisitor;
        impl<'de> Visitor<'de> for ItemsVisitor {
            type Value = Items;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of item names with values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Items, A::Error> {
                let mut items = Vec::new();
                while let Some((name, value)) = map.next_entry::<Arc<str>, Read>()? {
                    if items.len() >= ITEMS_MAX || name.is_empty() || name.len() > NAME_MAX {
                        return Err(A::Error::custom("too many items, or a name out of bounds"));
                    }
                    items.push((name, value.into()));
                }
                Ok(Items(items))
            }
        }
        deserializer.deserialize_map(ItemsVisitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Alarm, Birth, State, Status, Stored, encode};
    use super::*;

    /// Released examples: a file here is never edited; a payload that changes gets a new one.
    macro_rules! frozen {
        ($name:literal) => {
            include_str!(concat!("../../../tests/wire/", $name, ".json")).trim_end()
        };
    }

    /// Asserts that an example is read, and written again to the letter.
    fn holds<T: Serialize + serde::de::DeserializeOwned>(example: &str) -> T {
        let read: T = decode(example.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(encode(&read)).unwrap(), example);
        read
    }

    /// What the gateway sends for the record that a message was made of.
    fn sent(message: &ObservationMessage) -> String {
        let (machine, at) = ("laser".into(), BootTime::from_millis(message.bt));
        let items = message.items.0.clone();
        let observation = Observation { machine, at, items };
        String::from_utf8(ObservationMessage::encoded(message.header, &observation)).unwrap()
    }

    #[test]
    fn frozen_examples_are_read_and_written_to_the_letter() {
        let observation: ObservationMessage = holds(frozen!("observation"));
        assert_eq!(observation.items.0[0], ("power.active".into(), Ok(Value::Number(1500.25))));
        assert_eq!(observation.items.0[3].1, Err(Unavailable::Timeout));
        let unsynced: ObservationMessage = holds(frozen!("observation-unsynced"));
        assert_eq!(unsynced.header.clock, ClockState::Unsynced);
        assert_eq!(sent(&observation), frozen!("observation"));
        assert_eq!(sent(&unsynced), frozen!("observation-unsynced"));
        holds::<EventMessage>(frozen!("event-activity"));
        let alarm: EventMessage = holds(frozen!("event-alarm"));
        assert!(matches!(alarm.event, Event::Alarm { by: Some(by), .. } if &*by == "Lin"));
        holds::<EventMessage>(frozen!("event-trip"));
        let evidence: EventMessage = holds(frozen!("event-evidence"));
        assert_ne!(moment(&evidence.event).0, Some(evidence.header.boot));
        holds::<Birth>(frozen!("birth"));
        holds::<Birth>(frozen!("birth-protocol"));
        holds::<State>(frozen!("state"));
        holds::<Alarm>(frozen!("alarm"));
        holds::<Status>(frozen!("status"));
        holds::<Stored>(frozen!("stored"));
    }

    #[test]
    fn newer_fields_are_passed_over_and_newer_reasons_are_still_an_absence() {
        let newer = frozen!("observation")
            .replace("\"bt\"", "\"grid_ms\":[1],\"bt\"")
            .replace("timeout", "eclipse");
        let message = ObservationMessage::decode(newer.as_bytes()).unwrap();
        assert_eq!(message.items.0[3].1, Err(Unavailable::Garbled));
    }

    #[test]
    fn wrong_types_versions_and_contradictions_are_errors() {
        let example = frozen!("observation");
        for (from, to) in [
            ("\"seq\":812", "\"seq\":\"812\""),
            ("\"seq\":812", "\"seq\":811"),
            ("\"v\":1", "\"v\":2"),
            ("1500.25", "1e999"),
            ("1500.25", "null"),
            ("1500.25", "[1]"),
            ("\"synced\"", "\"unsynced\""),
            ("1790000000250", "null"),
            ("\"q\":\"bad\"", "\"q\":\"fine\""),
            ("6f1c2b3a-", "6f1c2b3a"),
        ] {
            let broken = example.replace(from, to);
            assert_ne!(broken, example);
            assert!(ObservationMessage::decode(broken.as_bytes()).is_err(), "{broken}");
        }
        let newer_kind = frozen!("event-trip").replace("\"trip\"", "\"eclipse\"");
        assert!(EventMessage::decode(newer_kind.as_bytes()).is_err());
        assert_eq!(header(newer_kind.as_bytes()).unwrap().seq, 43);
    }

    #[test]
    fn too_large_payloads_are_refused() {
        let many: String = (0..=ITEMS_MAX).map(|n| format!("\"i{n}\":1,")).collect();
        let payload = frozen!("observation").replace("\"power.active\"", &format!("{many}\"p\""));
        assert!(ObservationMessage::decode(payload.as_bytes()).is_err());
        let long = frozen!("state").replace('{', &format!("{{{}", " ".repeat(300_000)));
        assert!(matches!(decode::<State>(long.as_bytes()), Err(WireError::TooLarge(_))));
    }

    fn measured() -> impl Strategy<Value = Measured> {
        prop_oneof![
            any::<bool>().prop_map(|flag| Ok(Value::Flag(flag))),
            (prop::num::f64::NORMAL | prop::num::f64::ZERO).prop_map(|n| Ok(Value::Number(n))),
            ".*".prop_map(|text| Ok(Value::Text(text.into()))),
            (1u8..=11).prop_map(|code| Err(Unavailable::from_code(code).unwrap())),
        ]
    }

    proptest! {
        #[test]
        fn observations_read_back_as_written(
            items in prop::collection::vec(("[a-z.]{1,20}", measured()), 0..20),
            t in proptest::option::of(any::<i64>()), prev in 0..u64::MAX,
            bt in 0..u64::MAX / 1_000_000,
        ) {
            let items = items.into_iter().map(|(name, value)| (name.into(), value)).collect();
            let header = Header::new(BootId([9; 16]), prev + 1, prev, t);
            let message = ObservationMessage { header, bt, items: Items(items) };
            let json = String::from_utf8(encode(&message)).unwrap();
            prop_assert_eq!(&sent(&message), &json);
            prop_assert_eq!(ObservationMessage::decode(json.as_bytes()).unwrap(), message);
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = ObservationMessage::decode(&bytes);
            let _ = EventMessage::decode(&bytes);
            let _ = decode::<Stored>(&bytes);
        }
    }
}

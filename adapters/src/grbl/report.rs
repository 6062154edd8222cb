//! A status report of the GRBL family, taken apart:
//!
//! ```text
//! report = "<" state *( "|" field ) ">"      state = name [ ":" substate ]
//! field  = type [ ":" value *( "," value ) ]
//! ```
//!
//! Only the state is guaranteed. Fields come in any order, may be empty (`A:`) and may be of types
//! that nobody here has heard of; those are passed over. A line that does not begin and end as a
//! report, or holds a second one, is none: half a report must not pass for a whole one.

/// The parts of one report, as they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Report<'a> {
    /// State and substate: `Hold:0`.
    pub(super) word: &'a str,
    /// Machine position, an axis a value.
    pub(super) machine: Option<&'a str>,
    /// Work position: machine position less the work coordinate offset.
    pub(super) work: Option<&'a str>,
    /// The work coordinate offset, sent now and then.
    pub(super) offset: Option<&'a str>,
    /// Feed, rapid and spindle override in per cent, sent now and then.
    pub(super) overrides: Option<&'a str>,
    /// What turns and flows (S, C, F, M); left out of a report with overrides it means nothing does.
    pub(super) accessories: Option<&'a str>,
    /// Actual feed, and behind a comma actual spindle speed.
    pub(super) feed: Option<&'a str>,
    /// Letters of the inputs that are active; left out it means none.
    pub(super) pins: Option<&'a str>,
    /// Whether a pendant has taken over.
    pub(super) pendant: bool,
    /// The firmware's name, in grblHAL's full reports.
    pub(super) firmware: Option<&'a str>,
}

impl<'a> Report<'a> {
    /// Takes a line apart; `None` when it is no report.
    pub(super) fn parse(line: &'a str) -> Option<Self> {
        let inner = line.trim().strip_prefix('<')?.strip_suffix('>')?;
        if inner.contains(['<', '>']) {
            return None;
        }
        let mut fields = inner.split('|');
        let mut report = Self { word: fields.next()?.trim(), ..Self::default() };
        for field in fields {
            let (kind, value) = field.split_once(':').unwrap_or((field, ""));
            match kind {
                "MPos" => report.machine = Some(value),
                "WPos" => report.work = Some(value),
                "WCO" => report.offset = Some(value),
                "Ov" => report.overrides = Some(value),
                "A" => report.accessories = Some(value),
                "F" | "FS" => report.feed = Some(value),
                "Pn" => report.pins = Some(value),
                "MPG" => report.pendant = value == "1",
                "FW" => report.firmware = Some(value),
                _ => {}
            }
        }
        Some(report)
    }

    /// The state without its substate.
    pub(super) fn state(&self) -> &'a str {
        self.word.split(':').next().unwrap_or_default()
    }

    /// The substate's number.
    pub(super) fn substate(&self) -> Option<u32> {
        self.word.split_once(':')?.1.parse().ok()
    }

    /// Whether the input of this letter is active.
    pub(super) fn pin(&self, letter: char) -> bool {
        self.pins.is_some_and(|pins| pins.contains(letter))
    }

    /// Whether nothing moves any more and nothing will by itself, as far as the state says.
    pub(super) fn stands(&self) -> bool {
        match self.state() {
            "Idle" | "Alarm" | "Check" | "Sleep" | "Tool" => true,
            // 1 is still slowing down.
            "Hold" => self.substate() != Some(1),
            // 2 and up are still parking or already starting again.
            "Door" => self.substate().is_none_or(|substate| substate <= 1),
            _ => false,
        }
    }
}

/// Numbers between commas; each that is none is `None` for itself.
pub(super) fn numbers(values: &str) -> impl Iterator<Item = Option<f64>> {
    values.split(',').map(|value| value.trim().parse().ok().filter(|n: &f64| n.is_finite()))
}

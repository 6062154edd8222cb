//! What the three firmwares of the GRBL family call things: how each gives itself away, and what
//! its alarm and error numbers mean. The same number is an emergency stop in one and a spindle in
//! another, so no text is given before the flavour is known, but for the numbers that all share.
//!
//! Tables only; nothing here remembers anything. From the GRBL 1.1 interface description and its
//! lists of codes, grblHAL's `alarms.h` and `errors.h`, FluidNC's `Alarm.h` and `Error.h`.

/// A firmware of the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// GRBL 1.1 itself, and what is built from it unchanged.
    Grbl,
    /// grblHAL.
    GrblHal,
    /// FluidNC.
    FluidNc,
}

impl Flavour {
    /// The flavour of this word of a configuration.
    pub fn named(word: &str) -> Option<Self> {
        match word {
            "grbl" => Some(Self::Grbl),
            "grblhal" => Some(Self::GrblHal),
            "fluidnc" => Some(Self::FluidNc),
            _ => None,
        }
    }

    /// The flavour that a banner or a line of the build report proves. `Grbl 1.1` in a banner
    /// proves nothing, because grblHAL can be built to say that too; nor does `[VER:1.1`.
    pub fn proved_by(line: &str) -> Option<Self> {
        let announces = line.starts_with("Grbl") || line.starts_with('[');
        if announces && line.contains("FluidNC") {
            Some(Self::FluidNc)
        } else if line.starts_with("GrblHAL") || line.starts_with("[FIRMWARE:grblHAL") {
            Some(Self::GrblHal)
        } else {
            None
        }
    }

    /// Whether this alarm means an emergency stop rather than a fault.
    pub fn is_emergency(self, alarm: u32) -> bool {
        matches!((self, alarm), (Self::GrblHal, 10) | (Self::FluidNc, 13))
    }

    /// Whether this alarm only means that the machine waits to be homed.
    pub fn is_unhomed(self, alarm: u32) -> bool {
        matches!((self, alarm), (Self::GrblHal, 11) | (Self::FluidNc, 14))
    }
}

/// Alarms after which GRBL answers nothing, not even `?`, until it is reset: limit switches.
pub fn is_critical(alarm: u32) -> bool {
    matches!(alarm, 1 | 2)
}

/// What an alarm means; `None` when the flavour is unknown and it matters, or has no such alarm.
pub fn alarm_text(flavour: Option<Flavour>, alarm: u32) -> Option<&'static str> {
    let shared = match alarm {
        1 => "hard limit: a limit switch was hit, the position is lost",
        2 => "soft limit: the target is beyond the travel",
        3 => "reset while moving, the position is lost",
        4 => "probe: not in its initial state",
        5 => "probe: no contact within its travel",
        6 => "homing: reset",
        7 => "homing: the door was opened",
        8 => "homing: the switch did not clear on pull-off",
        9 => "homing: no switch found",
        _ => "",
    };
    if !shared.is_empty() {
        return Some(shared);
    }
    Some(match (flavour?, alarm) {
        (Flavour::Grbl, 10) => "homing: second switch of a dual axis not found",
        (Flavour::GrblHal, 10) => "emergency stop",
        (Flavour::GrblHal, 11) => "homing required",
        (Flavour::GrblHal, 12) => "a limit switch is engaged",
        (Flavour::GrblHal, 13) => "probe protection",
        (Flavour::GrblHal, 14) => "spindle",
        (Flavour::GrblHal, 15) => "homing: auto-squaring switch not found",
        (Flavour::GrblHal, 16) => "power-on self-test failed",
        (Flavour::GrblHal, 17) => "motor fault",
        (Flavour::GrblHal, 18) => "homing failed",
        (Flavour::FluidNc, 10) => "spindle control",
        (Flavour::FluidNc, 11) => "an input was active at start",
        (Flavour::FluidNc, 12) => "homing: ambiguous switch",
        (Flavour::FluidNc, 13) => "hard stop",
        (Flavour::FluidNc, 14) => "not homed",
        (Flavour::FluidNc, 15) => "start-up failed",
        (Flavour::FluidNc, 16) => "an expander was reset",
        (Flavour::FluidNc, 17) => "error in a file's G-code",
        (Flavour::FluidNc, 18) => "probe: hard limit",
        _ => return None,
    })
}

/// Errors 1 to 38, which all share but for 7, 11, 14, 18, 19 and 38; empty ones are not shared.
const ERRORS: [&str; 39] = [
    "",
    "a command letter was expected",
    "bad number",
    "unknown $ command",
    "negative value",
    "homing is off in the settings",
    "step pulse too short",
    "settings could not be read",
    "only possible when idle",
    "locked by an alarm or a jog",
    "soft limits need homing",
    "line too long",
    "step rate too high",
    "the door is open",
    "line too long to store",
    "jog beyond the travel",
    "bad jog command",
    "laser mode needs a PWM spindle",
    "",
    "",
    "unsupported G-code",
    "two commands of one modal group",
    "no feed rate",
    "a whole number was expected",
    "two commands want the axis words",
    "a word twice",
    "no axis words",
    "bad line number",
    "a value is missing",
    "unsupported work coordinate system",
    "G53 needs G0 or G1",
    "axis words without a command",
    "no axis words in the plane",
    "bad target",
    "arc radius wrong",
    "no offsets in the plane",
    "unused words",
    "tool length offset on the wrong axis",
    "",
];

/// What an error means; `None` when the flavour is unknown and it matters, or is beyond the table.
pub fn error_text(flavour: Option<Flavour>, error: u32) -> Option<&'static str> {
    let shared = usize::try_from(error).ok().and_then(|at| ERRORS.get(at)).copied();
    if let Some(shared) = shared.filter(|text| !text.is_empty()) {
        return Some(shared);
    }
    Some(match (flavour?, error) {
        (Flavour::Grbl | Flavour::GrblHal, 38) => "bad tool number",
        (Flavour::FluidNc, 38) => "value too large",
        (Flavour::GrblHal, 18) => "reset",
        (Flavour::GrblHal, 19) => "a positive value was expected",
        (Flavour::GrblHal, 40) => "a tool change is pending",
        (Flavour::GrblHal, 41) => "the spindle is not running",
        (Flavour::GrblHal, 44) => "spindle speed out of range",
        (Flavour::GrblHal, 45) => "a limit switch is engaged",
        (Flavour::GrblHal, 46) => "homing required",
        (Flavour::GrblHal, 49) => "power-on self-test failed",
        (Flavour::GrblHal, 50) => "emergency stop",
        (Flavour::GrblHal, 51) => "motor fault",
        (Flavour::GrblHal, 60 | 64) => "no SD card",
        (Flavour::GrblHal, 79) => "not allowed during a critical event",
        (Flavour::FluidNc, 18) => "no homing cycle is defined",
        (Flavour::FluidNc, 19) => "single-axis homing is not allowed",
        (Flavour::FluidNc, 40) => "a control input is active",
        (Flavour::FluidNc, 60) => "no SD card",
        (Flavour::FluidNc, 65) => "file not found",
        (Flavour::FluidNc, 110) => "authentication failed",
        (Flavour::FluidNc, 120) => "another interface is busy",
        (Flavour::FluidNc, 152) => "the configuration is invalid",
        _ => return None,
    })
}

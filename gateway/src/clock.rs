//! The only place that reads a clock.
//!
//! Moments are nanoseconds of `CLOCK_BOOTTIME`, which nobody can step and which goes on during
//! suspend. Wall time is a label: it comes from the anchors of a boot ([`Anchors`]), written as
//! events whenever [`ClockWatch`] says that one is due. No timer and no duration uses it.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use andon_engine::event::Event;
use andon_engine::time::BootTime;
use serde::{Deserialize, Serialize};

use crate::journal::BootId;

/// A wall clock before this moment (2026-01-01, Unix milliseconds) has not been set: a Pi without
/// a battery starts in the past, and andon is younger than that.
const EARLIEST_WALL_MS: i64 = 1_767_225_600_000;
/// How far the wall clock may leave its anchor before a new one is due: less is jitter of reading
/// two clocks, and slow drift that ntpd is slewing; every step that matters is more.
const TOLERANCE_MS: u64 = 200;

/// The moment, in nanoseconds of `CLOCK_BOOTTIME`.
///
/// Through the C library: rustix looks for the kernel's vDSO itself, and ends the process where
/// valgrind has taken it away, so that nothing could be counted or checked there.
#[expect(unsafe_code, reason = "std has no boot time, rustix's does not run under valgrind")]
pub fn boot_now() -> BootTime {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it writes one `timespec`; this clock has existed since Linux 2.6.39.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now) };
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    BootTime(seconds * 1_000_000_000 + nanos)
}

/// The processor time that this process has used.
pub fn process_cpu() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = u64::try_from(used.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(used.tv_nsec).unwrap_or(0))
}

/// The wall clock, in Unix milliseconds, right or wrong.
pub fn wall_now_ms() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    }
}

/// The identity of this boot.
///
/// Where the kernel has none (a container without `/proc`), the moment of the boot by the wall
/// clock stands in: distinct between boots, equal within one only to the second.
pub fn boot_id() -> BootId {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().parse().unwrap_or_else(|_| {
        let booted_s = (wall_now_ms() - wall_ms_of(boot_now())) / 1000;
        let mut id = [0; 16];
        id[8..].copy_from_slice(&booted_s.to_be_bytes());
        BootId(id)
    })
}

/// The identity of a boot that never was, for a gateway whose journal does not outlive it.
///
/// # Errors
/// When the kernel gives no randomness.
pub fn fresh_boot_id() -> std::io::Result<BootId> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    text.trim().parse().map_err(std::io::Error::other)
}

/// Whether the kernel believes its clock to be disciplined, and the year is possible.
pub fn synchronised() -> bool {
    wall_now_ms() >= EARLIEST_WALL_MS && kernel_synchronised()
}

/// `STA_UNSYNC` of adjtimex(2), read without changing anything.
#[expect(unsafe_code, reason = "adjtimex has no safe binding; modes = 0 only reads")]
fn kernel_synchronised() -> bool {
    // SAFETY: `timex` is plain integers, so zeroes are valid; the kernel writes inside it only.
    let (state, status) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        let state = libc::adjtimex(&raw mut timex);
        (state, timex.status)
    };
    state >= 0 && state != libc::TIME_ERROR && status & libc::STA_UNSYNC == 0
}

/// What is believed of the clock, in the words that board and terminal share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// The time is known, and the kernel's clock is disciplined now.
    Synced,
    /// The time is known, and the configuration says to believe it without NTP.
    Trusted,
    /// The time is known from when the clock was disciplined; now it is not.
    Anchored,
    /// The time is not known: records wait for it.
    #[default]
    Unsynced,
}

impl Standing {
    /// Of a boot that is `anchored` or not, by what [`synchronised`] and the configuration say.
    pub const fn of(anchored: bool, synchronised: bool, trust_wall: bool) -> Self {
        match (anchored, synchronised, trust_wall) {
            (false, ..) => Self::Unsynced,
            (true, true, _) => Self::Synced,
            (true, false, true) => Self::Trusted,
            (true, false, false) => Self::Anchored,
        }
    }

    /// The word on the wire, as serde writes it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Synced => "synced",
            Self::Trusted => "trusted",
            Self::Anchored => "anchored",
            Self::Unsynced => "unsynced",
        }
    }

    /// The same for a person, as the board's English has it.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Synced => "clock synchronised",
            Self::Trusted => "clock trusted as configured (trust_wall)",
            Self::Anchored => "time known, but the clock is not synchronised now",
            Self::Unsynced => {
                "clock NOT synchronised: no hours are counted, nothing reaches the store"
            }
        }
    }
}

/// Whole milliseconds of a boot's moment, signed for arithmetic with wall time.
fn wall_ms_of(at: BootTime) -> i64 {
    i64::try_from(at.as_millis()).unwrap_or(i64::MAX)
}

/// One anchor: this moment of the boot was this wall time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// The moment.
    pub at: BootTime,
    /// Unix milliseconds.
    pub wall_ms: i64,
}

impl Anchor {
    /// The wall time of `at` by this anchor, in Unix milliseconds.
    pub fn wall_ms(self, at: BootTime) -> i64 {
        self.wall_ms.saturating_add(wall_ms_of(at)).saturating_sub(wall_ms_of(self.at))
    }
}

/// The wall time of every boot's moments: a pure function of the `Event::Clock` events read.
#[derive(Clone, Debug, Default)]
pub struct Anchors {
    /// Few: a boot that a stream still holds each.
    boots: BTreeMap<BootId, Vec<Anchor>>,
    /// The boot and moment of an anchor that is on its way to the disk.
    coming: Option<(BootId, BootTime)>,
}

impl Anchors {
    /// Takes note of an event of `boot`; anything but an anchor is passed over.
    pub fn note(&mut self, boot: BootId, event: &Event) {
        let Event::Clock { at, wall_ms } = *event else { return };
        let anchors = self.boots.entry(boot).or_default();
        let place = anchors.partition_point(|anchor| anchor.at <= at);
        anchors.insert(place, Anchor { at, wall_ms });
        self.coming.take_if(|(of, from)| *of == boot && *from <= at);
    }

    /// Takes note that an anchor of this moment is on its way to the disk, and will be noted once it
    /// is there; `None`: there is none any more.
    pub const fn expect(&mut self, coming: Option<(BootId, BootTime)>) {
        self.coming = coming;
    }

    /// Whether an anchor is on its way.
    pub const fn is_expecting(&self) -> bool {
        self.coming.is_some()
    }

    /// The wall time of a record's moment, in Unix milliseconds: [`Anchors::wall_ms`], but not before
    /// it can be told for ever. What comes after an anchor that is not on the disk yet would get one
    /// time by the anchor before it, and another when it is sent again.
    pub fn settled_ms(&self, boot: &BootId, at: BootTime) -> Option<i64> {
        let waits = self.coming.is_some_and(|(of, from)| of == *boot && at >= from);
        if waits { None } else { self.wall_ms(boot, at) }
    }

    /// Unix milliseconds of a moment, by the last anchor not later than it, or by the first one
    /// when all are later; `None` while the boot has no anchor. A later anchor never changes what
    /// an earlier moment was called, so that a record sent again carries the same time.
    pub fn wall_ms(&self, boot: &BootId, at: BootTime) -> Option<i64> {
        let anchors = self.boots.get(boot)?;
        let place = anchors.partition_point(|anchor| anchor.at <= at).saturating_sub(1);
        anchors.get(place).map(|anchor| anchor.wall_ms(at))
    }

    /// The anchors of a boot, by their moment.
    pub fn of(&self, boot: &BootId) -> &[Anchor] {
        self.boots.get(boot).map_or(&[], Vec::as_slice)
    }
}

/// Says when an anchor is due.
#[derive(Clone, Debug, Default)]
pub struct ClockWatch {
    anchor: Option<Anchor>,
}

impl ClockWatch {
    /// A watch for a boot whose last anchor, if any, is already in the journal.
    pub const fn new(anchor: Option<Anchor>) -> Self {
        Self { anchor }
    }

    /// Whether this boot has an anchor.
    pub const fn is_anchored(&self) -> bool {
        self.anchor.is_some()
    }

    /// Takes a reading of all clocks (best about once a second) and returns the anchor to write:
    /// at the first synchronisation, after a step, and when slow drift has become more than
    /// 200 ms. `trust_wall` believes the wall clock without NTP; a clock before andon's own time
    /// is believed by nobody.
    pub fn step(
        &mut self,
        boot_now: BootTime,
        wall_now_ms: i64,
        synchronised: bool,
        trust_wall: bool,
    ) -> Option<Event> {
        if wall_now_ms < EARLIEST_WALL_MS || !(synchronised || trust_wall) {
            return None;
        }
        let due = self
            .anchor
            .is_none_or(|anchor| wall_now_ms.abs_diff(anchor.wall_ms(boot_now)) > TOLERANCE_MS);
        if !due {
            return None;
        }
        self.anchor = Some(Anchor { at: boot_now, wall_ms: wall_now_ms });
        Some(Event::Clock { at: boot_now, wall_ms: wall_now_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: BootId = BootId([7; 16]);
    const NOON: i64 = 1_790_000_000_000;

    const fn s(seconds: u64) -> BootTime {
        BootTime::from_millis(seconds * 1000)
    }

    fn clock(at: BootTime, wall_ms: i64) -> Event {
        Event::Clock { at, wall_ms }
    }

    #[test]
    fn a_clock_is_told_in_one_set_of_words_on_board_and_terminal() {
        let english = include_str!("../../dashboards/web/src/words/en.ftl");
        for (flags, standing) in [
            ((true, true, true), Standing::Synced),
            ((true, false, true), Standing::Trusted),
            ((true, false, false), Standing::Anchored),
            ((false, true, true), Standing::Unsynced),
        ] {
            assert_eq!(Standing::of(flags.0, flags.1, flags.2), standing);
            let line = format!("clock-{} = {}", standing.word(), standing.words());
            assert!(english.lines().any(|known| known == line), "{line}");
        }
    }

    #[test]
    fn an_anchor_is_due_once_synchronised() {
        let mut watch = ClockWatch::default();
        assert_eq!(watch.step(s(1), NOON, false, false), None);
        assert!(!watch.is_anchored());
        assert_eq!(watch.step(s(2), NOON, true, false), Some(clock(s(2), NOON)));
        assert_eq!(watch.step(s(3), NOON + 1000, true, false), None);
    }

    #[test]
    fn islands_may_trust_the_wall_clock_but_not_1970() {
        let mut watch = ClockWatch::default();
        assert_eq!(watch.step(s(1), 5000, true, true), None);
        assert_eq!(watch.step(s(2), NOON, false, true), Some(clock(s(2), NOON)));
    }

    #[test]
    fn steps_and_drift_beyond_tolerance_anchor_anew_and_jitter_does_not() {
        let mut watch = ClockWatch::new(Some(Anchor { at: s(0), wall_ms: NOON }));
        for second in 1..1000 {
            let jitter = i64::try_from(second % 7).unwrap() * 25;
            let wall = NOON + i64::try_from(second).unwrap() * 1000 + jitter;
            assert_eq!(watch.step(s(second), wall, true, false), None);
        }
        let stepped = NOON + 1_000_000 - 7_200_000;
        assert_eq!(watch.step(s(1000), stepped, true, false), Some(clock(s(1000), stepped)));
        assert_eq!(watch.step(s(1001), stepped + 1000, true, false), None);
        // 50 ppm of drift: one anchor each 4000 s and a bit.
        let anchors = (0..40_000u64).filter(|tick| {
            let wall = stepped + i64::try_from(tick * 1000 + tick / 20).unwrap();
            watch.step(s(1000 + tick), wall, true, false).is_some()
        });
        assert_eq!(anchors.count(), 9);
    }

    #[test]
    fn lost_synchronisation_keeps_the_anchor() {
        let mut watch = ClockWatch::new(Some(Anchor { at: s(0), wall_ms: NOON }));
        assert_eq!(watch.step(s(10), NOON + 99_000, false, false), None);
    }

    #[test]
    fn wall_time_of_a_moment_never_changes_once_it_is_anchored() {
        let mut anchors = Anchors::default();
        assert_eq!(anchors.wall_ms(&BOOT, s(5)), None);
        anchors.note(BOOT, &clock(s(10), NOON));
        assert_eq!(anchors.wall_ms(&BOOT, s(5)), Some(NOON - 5000));
        assert_eq!(anchors.wall_ms(&BOOT, s(15)), Some(NOON + 5000));
        anchors.note(BOOT, &clock(s(20), NOON + 7_210_000));
        assert_eq!(anchors.wall_ms(&BOOT, s(5)), Some(NOON - 5000));
        assert_eq!(anchors.wall_ms(&BOOT, s(15)), Some(NOON + 5000));
        assert_eq!(anchors.wall_ms(&BOOT, s(20)), Some(NOON + 7_210_000));
        assert_eq!(anchors.wall_ms(&BootId([8; 16]), s(20)), None);
    }

    #[test]
    fn a_record_has_no_time_while_the_anchor_that_decides_it_is_not_written() {
        let mut anchors = Anchors::default();
        anchors.note(BOOT, &clock(s(10), NOON));
        anchors.expect(Some((BOOT, s(20))));
        assert_eq!(anchors.settled_ms(&BOOT, s(19)), Some(NOON + 9000), "decided already");
        assert_eq!(anchors.settled_ms(&BOOT, s(20)), None);
        assert_eq!(anchors.settled_ms(&BOOT, s(25)), None);
        assert_eq!(anchors.wall_ms(&BOOT, s(25)), Some(NOON + 15_000), "a board shows a time");
        // An older one that is read meanwhile is not the one that is awaited.
        anchors.note(BOOT, &clock(s(12), NOON + 2000));
        assert_eq!(anchors.settled_ms(&BOOT, s(25)), None);
        anchors.note(BOOT, &clock(s(20), NOON + 7_210_000));
        assert_eq!(anchors.settled_ms(&BOOT, s(25)), Some(NOON + 7_215_000));
        assert!(!anchors.is_expecting());
    }

    #[test]
    fn this_computer_has_clocks() {
        let earlier = boot_now();
        assert!(boot_now() >= earlier);
        assert_eq!(boot_id(), boot_id());
        assert!(wall_now_ms() > 0);
    }
}

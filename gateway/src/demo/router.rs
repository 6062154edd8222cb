//! The demo's router as a model: programs one after the other, a door that is opened in the midst of
//! one, and a limit switch that is hit. No clock, no socket; what it does when is one table.

use super::world::Happening;
use crate::simulate::ControllerShows;

/// One line of the script.
struct Scene {
    /// The controller's word.
    state: &'static str,
    /// Seconds.
    lasts: f64,
    /// What a spectator is told when it begins.
    begins: Option<Happening>,
}

const fn scene(state: &'static str, lasts: f64, begins: Option<Happening>) -> Scene {
    Scene { state, lasts, begins }
}

/// Over and over. A door first lets the machine slow down (2), stands open (1), is closed (0), and
/// the spindle comes up again (3).
const SCRIPT: [Scene; 12] = [
    scene("Run", 17.0, None),
    scene("Door:2", 0.5, Some(Happening::DoorOpens)),
    scene("Door:1", 8.0, None),
    scene("Door:0", 2.0, Some(Happening::DoorCloses)),
    scene("Door:3", 1.5, None),
    scene("Run", 50.0, None),
    scene("Idle", 18.0, Some(Happening::ProgramEnds)),
    scene("Run", 30.0, Some(Happening::ProgramBegins)),
    scene(CRITICAL, 15.0, Some(Happening::LimitHit)),
    scene("Alarm", 6.0, Some(Happening::RouterReset)),
    scene("Idle", 10.0, Some(Happening::RouterUnlocked)),
    // It goes on with the first scene: the next door that is opened is in the midst of it.
    scene("Run", 40.0, Some(Happening::ProgramBegins)),
];
/// An alarm after which it answers nothing until the reset.
const CRITICAL: &str = "Alarm:1";
/// mm per minute and revolutions per minute of a program.
const FEED: f64 = 2400.0;
const SPINDLE: f64 = 18_000.0;
/// The program goes to and fro over as many mm, and as many further each time, back at the end.
const STROKE: f64 = 380.0;
const PASS: f64 = 6.0;
const DEPTH: f64 = -3.0;
const BREADTH: f64 = 240.0;
/// Watts: at rest, with the spindle coming up, cutting.
const AT_REST: f64 = 64.0;
const SPINS_UP: f64 = 900.0;
const CUTS: f64 = 1480.0;

/// The router at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Router {
    scene: usize,
    /// Seconds in this scene, and seconds cut.
    since: f64,
    cut: f64,
}

impl Router {
    /// Goes on by `seconds`.
    pub(super) fn step(&mut self, seconds: f64) -> Option<Happening> {
        self.since += seconds;
        if SCRIPT[self.scene].state == "Run" {
            self.cut += seconds;
        }
        if self.since < SCRIPT[self.scene].lasts {
            return None;
        }
        (self.scene, self.since) = ((self.scene + 1) % SCRIPT.len(), 0.0);
        SCRIPT[self.scene].begins
    }

    /// What it draws, in watts.
    pub(super) fn power(&self) -> f64 {
        match SCRIPT[self.scene].state {
            "Run" => CUTS * (1.0 + 0.02 * (self.cut * 2.3).sin()),
            "Door:3" => SPINS_UP,
            _ => AT_REST,
        }
    }

    /// What its controller tells.
    pub(super) fn shows(&self) -> ControllerShows {
        let state = SCRIPT[self.scene].state;
        let cuts = state == "Run";
        let way = self.cut * FEED / 60.0;
        let (passes, into) = ((way / STROKE).floor(), way % STROKE);
        let x = if passes % 2.0 < 1.0 { into } else { STROKE - into };
        ControllerShows {
            state: if state == CRITICAL { "Alarm" } else { state },
            position: [x, passes * PASS % BREADTH, DEPTH],
            feed: if cuts { FEED } else { 0.0 },
            spindle: if cuts || state == "Door:3" { SPINDLE } else { 0.0 },
            pins: match state {
                "Door:2" | "Door:1" => "D",
                CRITICAL => "X",
                _ => "",
            },
            silent: state == CRITICAL,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spindle_stands_while_the_door_is_open_and_the_position_stays() {
        let mut router = Router::default();
        let (mut opened, mut before) = (0, router.shows());
        for _ in 0..3_000 {
            opened += u32::from(router.step(0.1) == Some(Happening::DoorOpens));
            let shows = router.shows();
            if shows.pins == "D" {
                assert!(shows.state.starts_with("Door"), "{shows:?}");
                assert!(shows.spindle == 0.0 && router.power() < 100.0, "{shows:?}");
                let stays = before.pins != "D" || shows.position == before.position;
                assert!(stays, "{before:?} became {shows:?}");
            }
            let [x, y, _] = shows.position;
            assert!((0.0..=STROKE).contains(&x) && (0.0..=BREADTH).contains(&y));
            before = shows;
        }
        assert!(opened > 0);
    }

    #[test]
    fn after_a_limit_it_is_silent_until_it_is_reset() {
        let mut router = Router::default();
        let mut seen = Vec::new();
        for _ in 0..3_000 {
            let happening = router.step(0.1);
            if router.shows().silent || happening == Some(Happening::RouterReset) {
                seen.extend(happening);
            }
        }
        assert_eq!(seen.first_chunk(), Some(&[Happening::LimitHit, Happening::RouterReset]));
    }
}

//! The demo's workshop as a model: what each machine draws, how warm the laser's water is, and
//! what goes wrong when. No clock, no socket: the shell steps it and shows its values to the
//! simulated devices, which the gateway reads like any others. Machines with a controller are models
//! of their own ([`Printer`], [`Router`]).

use std::time::Duration;

use super::printer::Printer;
use super::router::Router;

/// The air, to which all that is warm cools down, in °C.
pub(super) const AMBIENT: f64 = 24.0;

/// What the tube adds to its water without a pump, °C per second while it is firing.
const HEATING: f64 = 3.2;

/// What the water loses once the tube is off or the pump runs, °C per second.
const COOLING: f64 = 1.1;

/// When the pump fails, after the start or after the last repair.
pub(super) const PUMP_FAILS_AFTER: Duration = Duration::from_secs(5);

/// How long a repaired pump lasts.
const PUMP_LASTS: Duration = Duration::from_secs(600);

/// When the drill press's meter falls silent, and for how long; again every [`METER_EVERY`].
pub(super) const METER_DIES_AT: Duration = Duration::from_secs(11);
const METER_AWAY: Duration = Duration::from_secs(8);
const METER_EVERY: Duration = Duration::from_secs(300);

/// A machine that works in a rhythm, or as its own model says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// The machine's id in the demo's configuration.
    pub(super) machine: &'static str,
    off: f64,
    idle: f64,
    run: f64,
    /// Seconds of run, idle and off in one round; all zero where a model says what it draws.
    rhythm: (f64, f64, f64),
    /// Where in the round it is at the start, in seconds.
    offset: f64,
}

/// The loads, in the order of the demo's configuration. Powers in watts.
pub(super) const LOADS: &[Load] = &[
    load("laser", 0.0, 38.0, 1150.0, (3600.0, 0.0, 0.0), 0.0),
    load("kiln", 0.0, 6.0, 3400.0, (95.0, 25.0, 0.0), 30.0),
    load("router", 0.0, 64.0, 1480.0, MODELLED, 0.0),
    load("lathe", 0.0, 41.0, 830.0, (33.0, 21.0, 26.0), 60.0),
    load("printer-a", 0.0, 9.0, 124.0, MODELLED, 0.0),
    load("printer-b", 1.5, 8.0, 117.0, (700.0, 45.0, 20.0), 690.0),
    load("table-saw", 0.0, 0.0, 2250.0, (14.0, 0.0, 22.0), 2.0),
    load("band-saw", 0.0, 0.0, 890.0, (19.0, 0.0, 31.0), 30.0),
    load("drill-press", 0.0, 12.0, 540.0, (16.0, 30.0, 0.0), 0.0),
    load("extractor", 0.0, 0.0, 1620.0, (240.0, 0.0, 40.0), 0.0),
    load("grinder", 0.0, 0.0, 840.0, (9.0, 0.0, 27.0), 33.0),
];

/// The rhythm of a machine that has none.
const MODELLED: (f64, f64, f64) = (0.0, 0.0, 0.0);

const fn load(
    machine: &'static str,
    off: f64,
    idle: f64,
    run: f64,
    rhythm: (f64, f64, f64),
    offset: f64,
) -> Load {
    Load { machine, off, idle, run, rhythm, offset }
}

impl Load {
    /// What it draws `at` seconds into the demo, in watts, with a ripple of about one percent.
    fn power(&self, at: f64) -> f64 {
        let (run, idle, off) = self.rhythm;
        // No number is below a run of nothing: a modelled machine is off here.
        let phase = (at + self.offset).rem_euclid(run + idle + off);
        let level = if phase < run {
            self.run
        } else if phase < run + idle {
            self.idle
        } else {
            self.off
        };
        let ripple = (at * 1.7 + self.offset).sin() * 0.6 + (at * 0.31 + self.run).sin() * 0.4;
        (level * (1.0 + 0.01 * ripple) * 10.0).round() / 10.0
    }
}

/// Something that a spectator is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Happening {
    /// The laser's pump stands still; its water is getting warm.
    PumpFails,
    /// Somebody repaired the pump and reset the stop.
    PumpRepaired,
    /// The drill press's meter stopped answering.
    MeterDies,
    /// It answers again.
    MeterReturns,
    /// The printer heats up for another job.
    PrintBegins,
    /// Somebody paused it for another filament.
    PrintPaused,
    /// The filament is there.
    PrintGoesOn,
    /// The job is through; the print is on the bed.
    PrintDone,
    /// Somebody took it off.
    PrintCleared,
    /// The router runs a program.
    ProgramBegins,
    /// Its door was opened in the midst of it.
    DoorOpens,
    /// The door is closed again.
    DoorCloses,
    /// The program is through.
    ProgramEnds,
    /// It ran into a limit switch.
    LimitHit,
    /// Somebody pressed its reset button.
    RouterReset,
    /// Somebody unlocked it.
    RouterUnlocked,
}

/// The workshop at one moment.
#[derive(Clone, Debug)]
pub(super) struct World {
    now: f64,
    water: f64,
    pump_fails_at: f64,
    pump_failed: bool,
    /// Whether the laser's contactor has been opened since the pump failed.
    was_cut: bool,
    meter_silent: bool,
    printer: Printer,
    router: Router,
    powers: Vec<f64>,
    energies: Vec<f64>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            now: 0.0,
            water: AMBIENT,
            pump_fails_at: PUMP_FAILS_AFTER.as_secs_f64(),
            pump_failed: false,
            was_cut: false,
            meter_silent: false,
            printer: Printer::default(),
            router: Router::default(),
            powers: LOADS.iter().map(|load| load.power(0.0)).collect(),
            // Meters come with a past.
            energies: LOADS.iter().map(|load| (load.run * 713.0).round()).collect(),
        }
    }
}

impl World {
    /// Goes on by `elapsed`; `contactor_closed` is what the laser's relay does.
    pub(super) fn step(&mut self, elapsed: Duration, contactor_closed: bool) -> Vec<Happening> {
        let seconds = elapsed.as_secs_f64();
        self.now += seconds;
        let mut happenings = Vec::new();
        happenings.extend(self.printer.step(seconds));
        happenings.extend(self.router.step(seconds));
        for (index, load) in LOADS.iter().enumerate() {
            self.powers[index] = match load.machine {
                "laser" if !contactor_closed => 0.0,
                "printer-a" => self.printer.power(),
                "router" => self.router.power(),
                _ => load.power(self.now),
            };
            self.energies[index] += self.powers[index] * seconds / 3600.0;
        }
        self.heat_water(seconds, contactor_closed, &mut happenings);
        let into_round =
            (self.now - METER_DIES_AT.as_secs_f64()).rem_euclid(METER_EVERY.as_secs_f64());
        let silent =
            self.now >= METER_DIES_AT.as_secs_f64() && into_round < METER_AWAY.as_secs_f64();
        if silent != self.meter_silent {
            self.meter_silent = silent;
            happenings.push(if silent { Happening::MeterDies } else { Happening::MeterReturns });
        }
        happenings
    }

    fn heat_water(
        &mut self,
        seconds: f64,
        contactor_closed: bool,
        happenings: &mut Vec<Happening>,
    ) {
        if !self.pump_failed && self.now >= self.pump_fails_at {
            self.pump_failed = true;
            happenings.push(Happening::PumpFails);
        }
        self.was_cut |= self.pump_failed && !contactor_closed;
        if self.was_cut && contactor_closed {
            (self.pump_failed, self.was_cut) = (false, false);
            self.pump_fails_at = self.now + PUMP_LASTS.as_secs_f64();
            happenings.push(Happening::PumpRepaired);
        }
        let heats = self.pump_failed && contactor_closed;
        let change = if heats { HEATING } else { -COOLING };
        self.water = (self.water + change * seconds).clamp(AMBIENT, 95.0);
    }

    /// The printer with a controller.
    pub(super) fn printer(&self) -> &Printer {
        &self.printer
    }

    /// The router.
    pub(super) fn router(&self) -> &Router {
        &self.router
    }

    /// What the load at `index` of [`LOADS`] draws, in watts.
    pub(super) fn power(&self, index: usize) -> f64 {
        self.powers[index]
    }

    /// What its meter counts, in watt-hours, in whole ones.
    pub(super) fn energy(&self, index: usize) -> f64 {
        self.energies[index].floor()
    }

    /// The laser's water, in °C, to a tenth.
    pub(super) fn water(&self) -> f64 {
        (self.water * 10.0).round() / 10.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(100);

    fn run(world: &mut World, seconds: u64, closed: bool) -> Vec<Happening> {
        (0..seconds * 10).flat_map(|_| world.step(STEP, closed)).collect()
    }

    #[test]
    fn the_water_overheats_until_the_contactor_opens() {
        let mut world = World::default();
        assert!(run(&mut world, 10, true).contains(&Happening::PumpFails));
        assert!(world.water() > 38.0, "{}", world.water());
        run(&mut world, 60, false);
        assert!((world.water() - AMBIENT).abs() < 0.1);
        assert!(world.power(0).abs() < f64::EPSILON);
        assert!(run(&mut world, 1, true).contains(&Happening::PumpRepaired));
        assert!(run(&mut world, 60, true).iter().all(|h| *h != Happening::PumpFails));
    }

    #[test]
    fn the_meter_dies_and_comes_back_within_half_a_minute() {
        let mut world = World::default();
        let seen = run(&mut world, 25, true);
        let of_the_meter = [Happening::MeterDies, Happening::MeterReturns];
        let meter: Vec<_> = seen.into_iter().filter(|h| of_the_meter.contains(h)).collect();
        assert_eq!(meter, of_the_meter);
    }

    #[test]
    fn energy_only_grows() {
        let mut world = World::default();
        for index in 0..LOADS.len() {
            let before = world.energy(index);
            run(&mut world, 5, true);
            assert!(world.energy(index) >= before);
        }
    }
}

//! The simulated devices of the demo: which device shows which part of the world, on which line.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use andon_adapters::profile::{Library, Profile};
use anyhow::Context as _;
use tokio::time::{Instant, MissedTickBehavior};

use super::narrator::Stage;
use super::world::{Happening, World};
use crate::simulate::{BANNER, Bench, Device, Fault, Grbl, PlugShows, PrusaLink, Tasmota};

/// How often the world goes on.
const STEP: Duration = Duration::from_millis(100);
/// The loads whose meters are at the panel, by position in [`LOADS`]; the others' are on the line.
const AT_THE_PANEL: usize = 6;
/// The grinder has no meter there: it hangs on a plug.
const GRINDER: usize = 10;
/// The kiln has three phases.
const KILN: usize = 1;
/// The relay board and the water's thermometer at the panel.
const RELAYS: u8 = 10;
const WATER: u8 = 11;
/// The drill press's meter on the line.
const DRILL_PRESS: u8 = 3;
/// The laser's contactor: the board's first coil.
const CONTACTOR: u16 = 0;
/// The line's speed; its bytes are paced to it.
const BAUD: u32 = 19_200;
/// What printer A's web interface wants to be shown.
pub(super) const PRINTER_KEY: &str = "demo-key-of-printer-a";
/// Mains.
const VOLTS: f64 = 231.0;
const HERTZ: f64 = 50.0;

/// Two lines of devices, and three that speak for themselves.
pub(super) struct Shop {
    panel: Bench,
    wood: Bench,
    address: SocketAddr,
    line: PathBuf,
    printer: PrusaLink,
    router: Grbl,
    grinder: Tasmota,
}

impl Shop {
    /// Serves all devices: the panel and the printer on loopback ports, the wood shop and the router
    /// on pseudo-terminals, the plug at `broker`.
    pub(super) fn open(broker: SocketAddr) -> anyhow::Result<Self> {
        let (library, _) = Library::load(None);
        let profile = |id: &str| -> anyhow::Result<Arc<Profile>> {
            library.get(id).with_context(|| format!("there is no profile {id}"))
        };
        let (single, triple) = (profile("eastron/sdm120")?, profile("eastron/sdm630")?);
        let mut panel = Vec::new();
        let mut wood = Vec::new();
        for index in 0..GRINDER {
            let profile = if index == KILN { &triple } else { &single };
            let line = if index < AT_THE_PANEL { &mut panel } else { &mut wood };
            line.push(Device::new(place(index).1, profile.clone()));
        }
        panel.push(Device::new(RELAYS, profile("waveshare/relay-8ch")?));
        panel.push(Device::new(WATER, profile("xy/md02")?));
        let (panel, wood) = (Bench::new(panel), Bench::new(wood));
        // Somebody has pressed the laser's start button.
        panel.set_coil(RELAYS, CONTACTOR, true);
        panel.set_turnaround(Duration::from_millis(8));
        let address = panel.start_tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let line = wood.start_rtu(BAUD, None)?;
        let world = World::default();
        let printer = PrusaLink::start(PRINTER_KEY, world.printer().shows())?;
        let router = Grbl::start(world.router().shows())?;
        let grinder = Tasmota::start(broker, "grinder", plug(&world));
        let shop = Self { panel, wood, address, line, printer, router, grinder };
        shop.show(&world);
        Ok(shop)
    }

    /// Where the panel's Modbus TCP gateway listens.
    pub(super) fn panel(&self) -> SocketAddr {
        self.address
    }

    /// The wood shop's serial line.
    pub(super) fn line(&self) -> &Path {
        &self.line
    }

    /// Where the printer's web interface listens.
    pub(super) fn printer(&self) -> SocketAddr {
        self.printer.address()
    }

    /// The router's serial port.
    pub(super) fn router(&self) -> &Path {
        self.router.path()
    }

    /// Lets the world go on for ever and shows it on the devices.
    pub(super) async fn live(&self, stage: &Stage) {
        let mut world = World::default();
        let mut tick = tokio::time::interval(STEP);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = Instant::now();
        loop {
            let now = tick.tick().await;
            let closed = self.panel.coil(RELAYS, CONTACTOR).unwrap_or(false);
            let happenings = world.step(now.duration_since(last), closed);
            // What a controller says by itself it says of what it already shows.
            self.show(&world);
            for happening in happenings {
                stage.tell(happening);
                self.happen(happening);
            }
            last = now;
        }
    }

    /// What a happening is on the wire, beyond values.
    fn happen(&self, happening: Happening) {
        match happening {
            // The unit is there: this bench was built with it.
            Happening::MeterDies => drop(self.wood.fault(DRILL_PRESS, &Fault::Silence)),
            Happening::MeterReturns => self.wood.clear(DRILL_PRESS),
            Happening::ProgramEnds => self.router.say("[MSG:Pgm End]"),
            Happening::LimitHit => {
                self.router.say("ALARM:1");
                self.router.say("[MSG:Reset to continue]");
            }
            Happening::RouterReset => {
                self.router.say(BANNER);
                self.router.say("[MSG:'$H'|'$X' to unlock]");
            }
            Happening::RouterUnlocked => self.router.say("[MSG:Caution: Unlocked]"),
            _ => {}
        }
    }

    fn show(&self, world: &World) {
        self.printer.show(world.printer().shows());
        self.router.show(world.router().shows());
        self.grinder.show(plug(world));
        for index in 0..GRINDER {
            let (at_the_panel, unit) = place(index);
            let line = if at_the_panel { &self.panel } else { &self.wood };
            let (watts, volts) = (world.power(index), VOLTS);
            let phases: &[&str] = if index == KILN { &[".l1", ".l2", ".l3"] } else { &[""] };
            let share = watts / phases.len() as f64;
            let set = |item: &str, value: f64| {
                // Every profile here has these items; one that lacks some shows the rest.
                line.set(unit, item, value).ok();
            };
            for phase in phases {
                set(&format!("voltage{phase}"), volts);
                set(&format!("power.active{phase}"), share);
                set(&format!("power.factor{phase}"), if watts > 0.0 { 0.97 } else { 1.0 });
            }
            set("frequency", HERTZ);
            set("energy.import", world.energy(index));
        }
        self.panel.set(WATER, "temperature", world.water()).ok();
    }
}

/// What the grinder's plug measures.
fn plug(world: &World) -> PlugShows {
    PlugShows { volts: VOLTS, watts: world.power(GRINDER), watt_hours: world.energy(GRINDER) }
}

/// Whether a load's meter is at the panel, and its unit there or on the line.
fn place(index: usize) -> (bool, u8) {
    let at_the_panel = index < AT_THE_PANEL;
    let position = if at_the_panel { index } else { index - AT_THE_PANEL };
    (at_the_panel, u8::try_from(position + 1).unwrap_or(u8::MAX))
}

//! The devices of a line, what is wrong with them, and the handle by which both are changed while
//! the line is served.
//!
//! A request is answered whole under one lock, log lines included, so that what the log says is
//! the order in which things happened. Nothing here waits.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use andon_adapters::dlt645;
use andon_adapters::modbus::Table;
use tokio::sync::watch;

use super::device::{Absence, Device};
use super::fault::Fault;
use super::frame::{Framing, Request, wrap};
use super::witness::Witness;

/// What a device on a serial line needs before it answers, unless told otherwise.
const TURNAROUND_SERIAL: Duration = Duration::from_millis(5);
/// What a gateway answers for a unit that is not there (exception 0x0B of the application
/// protocol): TCP has somebody to answer where a serial line is silent.
const TARGET_SILENT: u8 = 0x0B;
/// Most faults of one unit; the oldest go.
const FAULTS_MAX: usize = 64;

/// Where a line is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A listening socket.
    Tcp(SocketAddr),
    /// A pseudo-terminal, by its name or its link.
    Terminal(PathBuf),
}

impl fmt::Display for Address {
    /// `tcp://127.0.0.1:502` or `/dev/pts/3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Terminal(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A unit, item or coil that no device has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotThere {
    /// No device with this unit id.
    #[error("there is no unit {0}")]
    Unit(u8),
    /// The profile has no such item.
    #[error("unit {0} has no item \"{1}\"")]
    Item(u8, String),
    /// None of the profiles has such an item.
    #[error("no unit has an item \"{0}\"")]
    Anywhere(String),
}

/// Devices on one line, and the handle to them: clones are handles to the same devices. The line
/// ends when the last handle goes.
#[derive(Clone, Debug)]
pub struct Bench {
    pub(super) shared: Arc<Shared>,
    /// Whether the line is plugged in.
    pub(super) plug: Arc<watch::Sender<bool>>,
}

/// What handles and the line have in common.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Where the line is served at the moment.
    pub(super) address: watch::Sender<Option<Address>>,
}

#[derive(Debug)]
struct State {
    devices: BTreeMap<u8, Device>,
    /// Devices that answer beside one of the same unit id.
    twins: Vec<Device>,
    faults: BTreeMap<u8, Vec<Fault>>,
    turnaround: Option<Duration>,
    chance: Chance,
    witness: Witness,
}

/// A reply on its way: when it leaves after the request's last byte, and its bytes.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) delay: Duration,
    pub(super) bytes: Vec<u8>,
}

impl Bench {
    /// A bench with these devices, without faults. Of two with one unit id the later one stays.
    pub fn new(devices: impl IntoIterator<Item = Device>) -> Self {
        let devices = devices.into_iter().map(|device| (device.unit, device)).collect();
        let state = State {
            devices,
            twins: Vec::new(),
            faults: BTreeMap::new(),
            turnaround: None,
            chance: Chance::new(0),
            witness: Witness::default(),
        };
        let shared = Shared { state: Mutex::new(state), address: watch::Sender::new(None) };
        Self { shared: Arc::new(shared), plug: Arc::new(watch::Sender::new(true)) }
    }

    /// What every device needs before it answers: 5 ms on serial lines and nothing on TCP, unless
    /// this is called. On a serial line at least the silence that ends a request (t3.5) is kept.
    pub fn set_turnaround(&self, turnaround: Duration) {
        self.lock().turnaround = Some(turnaround);
    }

    /// Adds a device that answers at the same time as the one of its unit id, as two meters set to
    /// one address do: where either sends a zero, the line is zero.
    pub fn add_twin(&self, device: Device) {
        self.lock().twins.push(device);
    }

    /// Sets an item of the twins at this unit id. Returns whether there is one that has it.
    pub fn set_twin(&self, unit: u8, item: &str, value: f64) -> bool {
        let mut state = self.lock();
        let twins = state.twins.iter_mut().filter(|twin| twin.unit == unit);
        twins.map(|twin| twin.set(item, value)).fold(false, |any, set| any | set)
    }

    /// Starts chance anew: the same seed loses the same requests and makes the same noise.
    pub fn seed(&self, seed: u64) {
        self.lock().chance = Chance::new(seed);
    }

    /// Logs into a new file, one JSON line per request, reply, written coil and change from now
    /// on, each with `at` in nanoseconds of `CLOCK_BOOTTIME`. Coils switched by hand are not told.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn log_to(&self, path: &Path) -> io::Result<()> {
        let witness = Witness::create(path)?;
        self.lock().witness = witness;
        Ok(())
    }

    /// Sets an item of one unit, or of every unit that has it, in its canonical unit. NaN is the
    /// device's "no value".
    ///
    /// # Errors
    /// When there is no such unit or item; then nothing has changed.
    pub fn set(&self, unit: impl Into<Option<u8>>, item: &str, value: f64) -> Result<(), NotThere> {
        let mut state = self.lock();
        let State { devices, witness, .. } = &mut *state;
        match unit.into() {
            Some(unit) => {
                let device = devices.get_mut(&unit).ok_or(NotThere::Unit(unit))?;
                if !device.set(item, value) {
                    return Err(NotThere::Item(unit, item.to_owned()));
                }
                witness.set(unit, item, value);
            }
            None => {
                let having = devices.iter_mut().filter(|(_, device)| device.has(item));
                let mut count = 0;
                for (&unit, device) in having {
                    device.set(item, value);
                    witness.set(unit, item, value);
                    count += 1;
                }
                if count == 0 {
                    return Err(NotThere::Anywhere(item.to_owned()));
                }
            }
        }
        Ok(())
    }

    /// Whether a coil is on; `None` when there is no such unit or coil.
    pub fn coil(&self, unit: u8, coil: u16) -> Option<bool> {
        self.lock().devices.get(&unit)?.coil(coil)
    }

    /// Switches a coil by hand. Returns whether there is one.
    pub fn set_coil(&self, unit: u8, coil: u16, on: bool) -> bool {
        self.lock().devices.get_mut(&unit).is_some_and(|device| device.set_coil(coil, on))
    }

    /// Lets a fault begin, on one unit or on all. A kind of fault replaces an earlier one of its
    /// kind; holes and items without value add up.
    ///
    /// # Errors
    /// When there is no such unit, or the fault names an item that it has not.
    pub fn fault(&self, unit: impl Into<Option<u8>>, fault: &Fault) -> Result<(), NotThere> {
        let unit = unit.into();
        let mut state = self.lock();
        let State { devices, faults, witness, .. } = &mut *state;
        let lacks = |device: &&Device| fault.item().is_none_or(|item| device.has(item));
        let mut struck: Vec<u8> = devices.values().filter(lacks).map(|it| it.unit).collect();
        if let Some(unit) = unit {
            if !devices.contains_key(&unit) {
                return Err(NotThere::Unit(unit));
            }
            struck.retain(|it| *it == unit);
        }
        if let (true, Some(item)) = (struck.is_empty(), fault.item()) {
            return Err(match unit {
                Some(unit) => NotThere::Item(unit, item.to_owned()),
                None => NotThere::Anywhere(item.to_owned()),
            });
        }
        let adds = matches!(fault, Fault::Hole { .. } | Fault::Nan(_) | Fault::Sentinel(_));
        let kind = std::mem::discriminant(fault);
        for unit in struck {
            let of_unit = faults.entry(unit).or_default();
            of_unit
                .retain(|other| other != fault && (adds || std::mem::discriminant(other) != kind));
            if of_unit.len() >= FAULTS_MAX {
                of_unit.remove(0);
            }
            of_unit.push(fault.clone());
        }
        witness.fault(unit, &fault.to_string());
        Ok(())
    }

    /// Ends the faults of one unit, or of all.
    pub fn clear(&self, unit: impl Into<Option<u8>>) {
        let unit = unit.into();
        let mut state = self.lock();
        match unit {
            Some(unit) => drop(state.faults.remove(&unit)),
            None => state.faults.clear(),
        }
        state.witness.change("clear", unit);
    }

    /// Pulls the plug: the pseudo-terminal or the listener and its connections close, replies
    /// under way are lost. The devices keep their state.
    pub fn unplug(&self) {
        let pulled = self.plug.send_if_modified(|plugged| std::mem::replace(plugged, false));
        if pulled {
            self.shared.address.send_replace(None);
            self.lock().witness.change("unplug", None);
        }
    }

    /// Plugs the line in again, at the same port or link. Await [`Bench::served`] for the moment.
    pub fn replug(&self) {
        let plugged = self.plug.send_if_modified(|plugged| !std::mem::replace(plugged, true));
        if plugged {
            self.lock().witness.change("replug", None);
        }
    }

    /// Where the line is served; `None` while it is not.
    pub fn address(&self) -> Option<Address> {
        self.shared.address.borrow().clone()
    }

    /// Where the line is served, once it is.
    pub async fn served(&self) -> Address {
        self.served_elsewhere(None).await
    }

    /// Where the line is served, once it is anywhere but at `than`.
    pub async fn served_elsewhere(&self, than: Option<&Address>) -> Address {
        let mut address = self.shared.address.subscribe();
        let there = |there: &Option<Address>| there.is_some() && there.as_ref() != than;
        match address.wait_for(there).await.map(|address| address.clone()) {
            Ok(Some(address)) => address,
            // The sender lives as long as this handle.
            _ => std::future::pending().await,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }
}

impl State {
    /// What DL/T 645 meters say to a frame: all that it means at once, as on a line.
    fn answer_frame(&mut self, frame: &dlt645::Frame, speed: Option<u32>) -> Option<Answer> {
        let Self { devices, faults, turnaround, chance, .. } = self;
        let delay = turnaround.unwrap_or(TURNAROUND_SERIAL);
        let hearing = devices.values().filter(|device| !device.is_deaf(speed));
        let answers = hearing.filter_map(|device| {
            let faults = faults.get(&device.unit).map_or(&[][..], Vec::as_slice);
            let percent = chance.percent();
            let lost = faults.iter().any(|fault| fault.loses(percent));
            let mut bytes = device.answer_frame(frame).filter(|_| !lost)?;
            faults.iter().for_each(|fault| fault.garble(true, &mut bytes, || chance.byte()));
            Some(Answer { delay: delay + lateness(faults), bytes })
        });
        answers.reduce(|a, b| Answer {
            delay: a.delay.max(b.delay),
            bytes: collided(&a.bytes, &b.bytes),
        })
    }

    /// What the unit that is there says to a Modbus request, and its twin with it.
    fn answer_unit(
        &mut self,
        framing: Framing,
        request: &Request,
        speed: Option<u32>,
        delay: Duration,
    ) -> Option<Answer> {
        let Self { devices, twins, faults, chance, witness, .. } = self;
        let serial = framing == Framing::Rtu;
        let function = request.pdu.first().copied().unwrap_or_default();
        let device = devices.get_mut(&request.unit)?;
        let faults = faults.get(&request.unit).map_or(&[][..], Vec::as_slice);
        let percent = chance.percent();
        if faults.iter().any(|fault| fault.loses(percent)) {
            return None;
        }
        let mut moved = None;
        let (mut pdu, switched) = match faults.iter().find_map(|fault| fault.refuses(request)) {
            Some(exception) => (vec![function | 0x80, exception], Vec::new()),
            None => match device.setting_in(&request.pdu) {
                Some(written) => {
                    device.hold(Table::Holding, written.address, &written.words);
                    witness.setting(device.unit, written.kind, written.value);
                    moved = written.moves_to();
                    (written.reply, Vec::new())
                }
                None => reply(device, faults, &request.pdu),
            },
        };
        if !faults.iter().any(Fault::holds_coils) {
            for it in switched {
                device.set_coil(it.coil, it.on);
                witness.coil(device.unit, it);
            }
        }
        let mut unit = request.unit;
        faults.iter().for_each(|fault| fault.twist(&mut unit, &mut pdu));
        let mut bytes = wrap(framing, request.transaction, unit, &pdu);
        let mut hearing = twins.iter().filter(|twin| !twin.is_deaf(speed));
        if let Some(twin) = hearing.find(|twin| twin.unit == request.unit) {
            let beside = wrap(framing, request.transaction, twin.unit, &twin.reply(&request.pdu).0);
            bytes = collided(&bytes, &beside);
        }
        faults.iter().for_each(|fault| fault.garble(serial, &mut bytes, || chance.byte()));
        if let Some(unit) = moved
            && let Some(mut device) = devices.remove(&request.unit)
        {
            device.unit = unit;
            devices.insert(unit, device);
        }
        Some(Answer { delay: delay + lateness(faults), bytes })
    }
}

/// How much later than usual a unit with these faults answers.
fn lateness(faults: &[Fault]) -> Duration {
    let late = faults.iter().filter_map(|fault| match fault {
        Fault::Late(by) => Some(*by),
        _ => None,
    });
    late.sum()
}

/// Two answers at once: where either sends a zero, the line is zero.
fn collided(a: &[u8], b: &[u8]) -> Vec<u8> {
    let both = a.iter().zip(b).map(|(a, b)| a & b);
    let (shorter, longer) = if a.len() < b.len() { (a, b) } else { (b, a) };
    both.chain(longer.iter().skip(shorter.len()).copied()).collect()
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request has been heard to its end, at `speed` where that is known. `None` when nothing is
    /// said to it.
    pub(super) fn answer(
        &self,
        framing: Framing,
        request: &Request,
        speed: Option<u32>,
    ) -> Option<Answer> {
        let mut state = self.lock();
        state.witness.request(request);
        let serial = framing == Framing::Rtu;
        if let Some(frame) = &request.meter {
            return state.answer_frame(frame, speed);
        }
        if serial && request.unit == 0 {
            // A broadcast: everybody obeys and nobody answers.
            let State { devices, witness, .. } = &mut *state;
            for device in devices.values_mut() {
                let (_, switched) = device.reply(&request.pdu);
                for it in switched {
                    device.set_coil(it.coil, it.on);
                    witness.coil(device.unit, it);
                }
            }
            return None;
        }
        let default = if serial { TURNAROUND_SERIAL } else { Duration::ZERO };
        let delay = state.turnaround.unwrap_or(default);
        let device = state.devices.get(&request.unit).filter(|device| device.meter.is_none());
        match device {
            Some(device) if serial && device.is_deaf(speed) => None,
            Some(_) => state.answer_unit(framing, request, speed, delay),
            None => {
                let function = request.pdu.first().copied().unwrap_or_default();
                let pdu = [function | 0x80, TARGET_SILENT];
                let bytes = wrap(framing, request.transaction, request.unit, &pdu);
                (!serial).then_some(Answer { delay, bytes })
            }
        }
    }

    /// The last byte of a reply has been handed over.
    pub(super) fn told(&self, unit: u8, function: u8, bytes: usize) {
        self.lock().witness.reply(unit, function, bytes);
    }
}

/// The reply of a device some of whose items may have no value at the moment.
fn reply(device: &Device, faults: &[Fault], pdu: &[u8]) -> (Vec<u8>, Vec<super::device::Switched>) {
    let mut lacking: Option<Device> = None;
    for fault in faults {
        let (item, absence) = match fault {
            Fault::Nan(item) => (Some(item.as_str()), Absence::NotANumber),
            Fault::Sentinel(item) => (item.as_deref(), Absence::Sentinel),
            _ => continue,
        };
        lacking = Some(lacking.as_ref().unwrap_or(device).lacking(item, absence));
    }
    lacking.as_ref().unwrap_or(device).reply(pdu)
}

/// Chance that can be repeated: `SplitMix64` (Steele, Lea, Flood: Fast splittable pseudorandom
/// number generators, 2014).
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    /// A number below 100.
    fn percent(&mut self) -> u8 {
        u8::try_from(self.next() % 100).unwrap_or_default()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }
}

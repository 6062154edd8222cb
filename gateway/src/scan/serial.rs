//! Scanning a serial line: every speed and parity, every unit id, and DL/T 645 meters by a
//! question to whoever hears it.
//!
//! Presence first: two short reads, where an exception is an answer too. What is there is then
//! asked for a few registers of every profile. Answers that stay garbled are two devices at one
//! address. Bounds: [`REPEATS`] questions to an address that garbles, [`ASKED_MAX`] reads to know
//! a device. It never writes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use andon_adapters::dlt645::Address;
use andon_adapters::modbus::Protocol;
use andon_adapters::profile::{Library, Profile};
use serde::{Deserialize, Serialize};

use super::fingerprint::{self, Candidate, Evidence, PRESENCE, PRESENCE_THOROUGH};
use super::state::State;
use crate::bus::{Fault, Inquiry};
use crate::config::plan::{self, Link, Parity};

/// How often an address that garbles is asked before it is believed to be two.
const REPEATS: usize = 5;
/// Of those, so many garbled answers are a collision.
const GARBLED_MIN: usize = 3;
/// Most reads that are spent on knowing one device.
const ASKED_MAX: usize = 600;
/// How long a device is waited for once it is known to be there, or believed to be late.
const PATIENCE: Duration = Duration::from_millis(500);
/// Bits on the line per question: eight characters of eleven bits, and a silence of three and a half
/// before and after.
const QUESTION_BITS: f64 = 15.0 * 11.0;
/// The state is saved every so many steps.
const SAVE_EVERY: usize = 16;
/// The speeds of DL/T 645 meters.
const METER_BAUDS: [u32; 5] = [1200, 2400, 4800, 9600, 19_200];

/// Speed and parity of a line; eight bits and one stop bit, which a device with two understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Format {
    /// Bits per second.
    pub baud: u32,
    /// `N`, `E` or `O`.
    pub parity: char,
}

impl Format {
    /// The word for the parity in a configuration.
    pub const fn parity_word(self) -> &'static str {
        match self.parity {
            'E' => "even",
            'O' => "odd",
            _ => "none",
        }
    }

    fn link(self, port: &Path) -> Link {
        let parity = match self.parity {
            'E' => Parity::Even,
            'O' => Parity::Odd,
            _ => Parity::None,
        };
        Link::Rtu { port: port.to_owned(), baud: self.baud, parity, stop_bits: 1 }
    }
}

impl std::fmt::Display for Format {
    /// `9600 8N1`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} 8{}1", self.baud, self.parity)
    }
}

/// What is scanned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// The serial port.
    pub port: PathBuf,
    /// Speeds and parities, in the order in which they are tried.
    pub formats: Vec<Format>,
    /// The first and last unit id.
    pub units: (u8, u8),
    /// How long a unit is waited for, in milliseconds.
    pub wait_ms: u64,
    /// Whether boards that know only coils, and Huanyang drives, are looked for too.
    pub thorough: bool,
}

impl Options {
    fn wait(&self) -> Duration {
        Duration::from_millis(self.wait_ms)
    }

    /// How many steps the scan has.
    pub fn steps(&self) -> usize {
        self.formats.len() * self.steps_per_format()
    }

    /// About how long the scan of a line takes on which little answers.
    pub fn about(&self) -> Duration {
        let questions = if self.thorough { 4.0 } else { 2.0 };
        let units = f64::from(self.units.1) - f64::from(self.units.0) + 1.0;
        let of_format = |format: &Format| {
            let asked = self.wait().as_secs_f64() + QUESTION_BITS / f64::from(format.baud.max(1));
            let meters = METER_BAUDS.contains(&format.baud);
            let meters = if meters { 2.0 * PATIENCE.as_secs_f64() } else { 0.0 };
            units * asked * questions + meters
        };
        Duration::from_secs_f64(self.formats.iter().map(of_format).sum())
    }

    /// One for meters, and one per unit.
    fn steps_per_format(&self) -> usize {
        2 + usize::from(self.units.1) - usize::from(self.units.0)
    }
}

/// How something that was found is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Station {
    /// A Modbus unit id.
    Unit(u8),
    /// The twelve digits of a DL/T 645 meter.
    Meter(String),
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Where.
    pub format: Format,
    /// Who; nobody when several meters answer at once.
    pub station: Option<Station>,
    /// Answers stay garbled: two devices at one address.
    pub collision: bool,
    /// The profiles that fit, best first; none for an unknown device.
    pub candidates: Vec<Candidate>,
}

/// How far a scan is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress<'a> {
    /// Steps done.
    pub done: usize,
    /// Steps in all.
    pub steps: usize,
    /// What is being asked.
    pub format: Format,
    /// The unit being asked; none while meters are.
    pub unit: Option<u8>,
    /// What was found until now.
    pub found: &'a [Finding],
}

/// A scan under way.
pub struct Scan {
    state: State,
    profiles: Vec<Arc<Profile>>,
    file: Option<PathBuf>,
}

impl Scan {
    /// A scan, or the rest of the one whose state is in `file`.
    pub fn new(options: Options, library: &Library, file: Option<PathBuf>) -> Self {
        let before = file.as_deref().and_then(|file| State::load(file, &options));
        let profiles = library.ids().filter_map(|id| library.get(id)).collect();
        Self { state: before.unwrap_or_else(|| State::new(options)), profiles, file }
    }

    /// Steps that an earlier run has done.
    pub fn done(&self) -> usize {
        self.state.done
    }

    /// What was found until now.
    pub fn found(&self) -> &[Finding] {
        &self.state.found
    }

    /// Scans to the end and returns what was found; tells `progress` before each step. Whoever gives
    /// it up in the middle has what was found in [`Scan::found`], and saves the rest.
    ///
    /// # Errors
    /// When the port cannot be opened or is gone, or the state cannot be saved; what was done
    /// until then is in the file.
    pub async fn run(
        &mut self,
        mut progress: impl FnMut(Progress<'_>),
    ) -> anyhow::Result<Vec<Finding>> {
        let options = self.state.options.clone();
        let per_format = options.steps_per_format();
        while self.state.done < options.steps() {
            let format = options.formats[self.state.done / per_format];
            let mut line = match Inquiry::open(&format.link(&options.port)).await {
                Ok(line) => line,
                // An adapter that cannot do this speed can do others.
                Err(error) if cannot(&error) => {
                    tracing::warn!(%format, %error, "The port cannot be set so; it is left out.");
                    self.state.done = (self.state.done / per_format + 1) * per_format;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            // Whoever was silent last may be late: then the next answer is not the next unit's.
            let mut silent = None;
            while self.state.done < options.steps()
                && options.formats[self.state.done / per_format] == format
            {
                let within = self.state.done % per_format;
                let unit = (within > 0).then(|| {
                    options.units.0.saturating_add(u8::try_from(within - 1).unwrap_or(u8::MAX))
                });
                let (done, steps) = (self.state.done, options.steps());
                progress(Progress { done, steps, format, unit, found: &self.state.found });
                match unit {
                    None => self.look_for_meters(&mut line, format).await?,
                    Some(unit) => self.look_for_unit(&mut line, format, unit, &mut silent).await?,
                }
                self.state.done += 1;
                if self.state.done.is_multiple_of(SAVE_EVERY) {
                    self.save()?;
                }
            }
            self.save()?;
        }
        Ok(self.state.found.clone())
    }

    /// Saves where the scan is.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self) -> std::io::Result<()> {
        self.file.as_deref().map_or(Ok(()), |file| self.state.save(file))
    }

    fn note(&mut self, finding: Finding) -> std::io::Result<()> {
        self.state.found.push(finding);
        self.save()
    }

    /// A line has one DL/T 645 meter, or several, which then answer at once.
    async fn look_for_meters(&mut self, line: &mut Inquiry, format: Format) -> anyhow::Result<()> {
        if !METER_BAUDS.contains(&format.baud) {
            return Ok(());
        }
        for of_1997 in [false, true] {
            let mut garbled = 0;
            for _ in 0..REPEATS {
                match line.label(of_1997, PATIENCE).await {
                    Ok(label) => return self.found_meter(line, format, label, of_1997).await,
                    Err(Fault::Garbled) => garbled += 1,
                    Err(Fault::Disconnected) => anyhow::bail!("the port is gone"),
                    Err(_) if garbled == 0 => break,
                    Err(_) => {}
                }
            }
            if garbled >= GARBLED_MIN && !self.is_known(format, None) {
                let (station, candidates) = (None, Vec::new());
                self.note(Finding { format, station, collision: true, candidates })?;
                return Ok(());
            }
        }
        Ok(())
    }

    async fn found_meter(
        &mut self,
        line: &mut Inquiry,
        format: Format,
        label: Address,
        of_1997: bool,
    ) -> anyhow::Result<()> {
        let station = Some(Station::Meter(label.to_string()));
        if self.is_known(format, station.as_ref()) {
            return Ok(());
        }
        let protocol = if of_1997 { Protocol::Dlt645Of1997 } else { Protocol::Dlt645 };
        let evidence = self.ask_about(line, plan::Station::Meter(label), protocol).await?;
        let candidates = self.candidates(protocol, &evidence);
        self.note(Finding { format, station, collision: false, candidates })?;
        Ok(())
    }

    async fn look_for_unit(
        &mut self,
        line: &mut Inquiry,
        format: Format,
        unit: u8,
        silent: &mut Option<u8>,
    ) -> anyhow::Result<()> {
        if self.is_known(format, Some(&Station::Unit(unit))) {
            return Ok(());
        }
        let mut presence = self.presence(line, unit, self.state.options.wait()).await?;
        if let (Presence::Garbled(_), Some(before)) = (presence, *silent)
            && self.presence(line, before, PATIENCE).await? == Presence::Answers
        {
            self.know(line, format, before).await?;
            presence = self.presence(line, unit, PATIENCE).await?;
        }
        *silent = (presence == Presence::Silent).then_some(unit);
        match presence {
            Presence::Silent => Ok(()),
            Presence::Answers => self.know(line, format, unit).await,
            Presence::Garbled(false) => Ok(()),
            Presence::Garbled(true) => {
                let station = Some(Station::Unit(unit));
                self.note(Finding { format, station, collision: true, candidates: Vec::new() })?;
                Ok(())
            }
        }
    }

    /// Whether somebody answers.
    async fn presence(
        &self,
        line: &mut Inquiry,
        unit: u8,
        wait: Duration,
    ) -> anyhow::Result<Presence> {
        let thorough = if self.state.options.thorough { &PRESENCE_THOROUGH[..] } else { &[] };
        let mut garbled = 0;
        for &block in PRESENCE.iter().chain(thorough) {
            for _ in 0..REPEATS {
                let station = plan::Station::Unit(unit);
                match line.read(station, block, wait, Duration::ZERO).await {
                    Ok(_) | Err(Fault::Exception(_)) => return Ok(Presence::Answers),
                    Err(Fault::Garbled) => garbled += 1,
                    Err(Fault::Disconnected) => anyhow::bail!("the port is gone"),
                    Err(Fault::Timeout) if garbled == 0 => break,
                    Err(Fault::Timeout) => {}
                }
            }
            if garbled >= GARBLED_MIN {
                break;
            }
        }
        Ok(match garbled {
            0 => Presence::Silent,
            _ => Presence::Garbled(garbled >= GARBLED_MIN),
        })
    }

    /// Finds out what a unit is.
    async fn know(&mut self, line: &mut Inquiry, format: Format, unit: u8) -> anyhow::Result<()> {
        let (mut collision, mut candidates) = (false, Vec::new());
        // A drive is looked for only where no Modbus profile fits.
        for protocol in [Protocol::Modbus, Protocol::Huanyang] {
            if !collision && candidates.is_empty() {
                let evidence = self.ask_about(line, plan::Station::Unit(unit), protocol).await?;
                collision = evidence.garbled() >= GARBLED_MIN;
                candidates = self.candidates(protocol, &evidence);
            }
        }
        if collision {
            candidates.clear();
        }
        let station = Some(Station::Unit(unit));
        self.note(Finding { format, station, collision, candidates })?;
        Ok(())
    }

    async fn ask_about(
        &self,
        line: &mut Inquiry,
        station: plan::Station,
        protocol: Protocol,
    ) -> anyhow::Result<Evidence> {
        let mut evidence = Evidence::default();
        let mut asked = 0;
        for profile in self.of(protocol) {
            while let Some(block) = fingerprint::wanted(profile, &evidence) {
                asked += 1;
                if asked > ASKED_MAX || evidence.garbled() >= GARBLED_MIN {
                    return Ok(evidence);
                }
                let wait = self.state.options.wait().max(Duration::from_millis(200));
                let mut answer = line.read(station, block, wait, wait).await;
                if matches!(answer, Err(Fault::Garbled | Fault::Timeout)) {
                    answer = line.read(station, block, wait, wait).await;
                }
                anyhow::ensure!(answer != Err(Fault::Disconnected), "the port is gone");
                evidence.add(block, answer);
            }
        }
        Ok(evidence)
    }

    fn of(&self, protocol: Protocol) -> impl Iterator<Item = &Profile> {
        let profiles = self.profiles.iter().map(|profile| &**profile);
        profiles.filter(move |profile| profile.protocol() == protocol)
    }

    fn candidates(&self, protocol: Protocol, evidence: &Evidence) -> Vec<Candidate> {
        fingerprint::candidates(self.of(protocol), evidence)
    }

    /// Whether it was found at this speed already, with another parity: a device that hears both
    /// is one device.
    fn is_known(&self, format: Format, station: Option<&Station>) -> bool {
        self.state.found.iter().any(|finding| {
            finding.format.baud == format.baud && finding.station.as_ref() == station
        })
    }
}

/// Whether a port refuses its settings rather than to be opened.
fn cannot(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::InvalidInput | std::io::ErrorKind::Unsupported)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Silent,
    Answers,
    /// Garbled once or twice, or so often that it is a collision.
    Garbled(bool),
}

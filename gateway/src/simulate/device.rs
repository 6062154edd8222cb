//! A simulated device: registers and bits as its profile lays them out, and honest replies to
//! requests. No socket, no clock: those are in `line`. Faults are in `fault`, but for the values
//! that a device can lack.
//!
//! Limits of a request are those of the Modbus Application Protocol Specification V1.1b3, §6.
//! Between the first and the last item of a table it answers zero where no item is, as most
//! devices do; outside it refuses.

use std::collections::BTreeMap;
use std::sync::Arc;

use andon_adapters::dlt645::Address;
use andon_adapters::modbus::{BITS_MAX, Block, Form, REGISTERS_MAX, Table, encode};
use andon_adapters::profile::{Profile, ProfileItem, Setting, SettingKind};
use andon_engine::unit::Unit;

use super::supply;

/// Exceptions of the Modbus application protocol.
pub(super) const ILLEGAL_FUNCTION: u8 = 1;
pub(super) const ILLEGAL_ADDRESS: u8 = 2;
pub(super) const ILLEGAL_VALUE: u8 = 3;

pub(super) const WRITE_COIL: u8 = 5;
pub(super) const WRITE_COILS: u8 = 15;

/// Most coils that one request may write.
const COILS_WRITTEN_MAX: u16 = 1968;

/// The words of one table, from the first to the last address of any item.
#[derive(Clone, Debug, Default)]
struct Image {
    start: u16,
    words: Vec<u16>,
}

impl Image {
    fn word(&mut self, address: u16) -> Option<&mut u16> {
        self.words.get_mut(usize::from(address.checked_sub(self.start)?))
    }
}

/// How a device says that an item has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absence {
    /// NaN in floats, all bits set in integers.
    NotANumber,
    /// The profile's first sentinel; as above where it has none.
    Sentinel,
}

/// One device.
#[derive(Clone, Debug)]
pub struct Device {
    /// Its unit id; for a DL/T 645 meter only a handle.
    pub unit: u8,
    /// What it is called on its line, for a DL/T 645 meter.
    pub(super) meter: Option<Address>,
    /// The speed at which it listens; at any when there is none.
    pub(super) baud: Option<u32>,
    profile: Arc<Profile>,
    tables: BTreeMap<Table, Image>,
    /// Values by their key, for protocols whose addresses are keys.
    keyed: BTreeMap<(Table, u16), Vec<u16>>,
    /// What somebody has set.
    given: BTreeMap<usize, f64>,
}

/// A coil that a request switched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Switched {
    pub(super) coil: u16,
    pub(super) on: bool,
}

impl Device {
    /// A device of this profile at `unit`. Numbers start at plausible values that differ between
    /// its items and between units, voltages, currents and powers at such that fit each other; all
    /// bits are off.
    pub fn new(unit: u8, profile: Arc<Profile>) -> Self {
        let mut tables = BTreeMap::new();
        for table in Table::ALL {
            let blocks = || blocks(&profile).filter(|block| block.table == table);
            let start = blocks().map(|block| block.start).min();
            let end = blocks().map(Block::end).max();
            if let (Some(start), Some(end)) = (start, end) {
                let words = vec![0; (end - u32::from(start)) as usize];
                tables.insert(table, Image { start, words });
            }
        }
        // A meter's label, unless another is given: its number with zeros before it.
        let label = || format!("{unit:012}").parse().ok();
        let meter = if profile.protocol().is_dlt645() { label() } else { None };
        let (keyed, given) = (BTreeMap::new(), BTreeMap::new());
        let mut device = Self { unit, meter, baud: None, profile, tables, keyed, given };
        let profile = device.profile.clone();
        for (table, start, words) in &profile.identity {
            device.hold(*table, *start, words);
        }
        for setting in &profile.settings {
            let value = match setting.kind {
                SettingKind::Address => f64::from(unit),
                SettingKind::CtRatio => 1.0,
            };
            if let Some(words) = setting.encode(value) {
                device.hold(Table::Holding, setting.address, &words);
            }
        }
        for (position, item) in profile.items.iter().enumerate() {
            if !item.encoding.form.is_flag() {
                device.put(item, initial(&profile, position, unit));
            }
        }
        device.fit();
        device
    }

    /// The same device, at this speed only.
    #[must_use]
    pub fn at_baud(self, baud: u32) -> Self {
        Self { baud: Some(baud), ..self }
    }

    /// The same DL/T 645 meter with another label.
    #[must_use]
    pub fn labelled(self, address: Address) -> Self {
        Self { meter: self.meter.and(Some(address)), ..self }
    }

    pub(super) fn profile(&self) -> &Profile {
        &self.profile
    }

    /// The words of a value of a protocol whose addresses are keys.
    pub(super) fn keyed(&self, table: Table, address: u16) -> Option<&[u16]> {
        self.keyed.get(&(table, address)).map(Vec::as_slice)
    }

    /// Writes words where they lie. What lies nowhere is lost.
    pub(super) fn hold(&mut self, table: Table, start: u16, words: &[u16]) {
        let Some(image) = self.tables.get_mut(&table) else { return };
        for (address, &word) in (start..).zip(words) {
            if let Some(room) = image.word(address) {
                *room = word;
            }
        }
    }

    /// Sets an item, in its canonical unit; NaN is "no value". Returns whether the profile has it.
    /// Voltages, currents and powers that nobody has set follow.
    pub(super) fn set(&mut self, item: &str, value: f64) -> bool {
        let profile = self.profile.clone();
        let Some(position) = profile.position(item) else { return false };
        let set = self.put(&profile.items[position], value);
        // Worlds are set over and over to what they were.
        if self.given.insert(position, value) != Some(value) && supply::concerns(item) {
            self.fit();
        }
        set
    }

    fn fit(&mut self) {
        let profile = self.profile.clone();
        for (item, value) in supply::fitting(self) {
            if let Some(position) = profile.position(&item) {
                self.put(&profile.items[position], value);
            }
        }
    }

    /// Whether the profile has this item.
    pub(super) fn has(&self, item: &str) -> bool {
        self.profile.position(item).is_some()
    }

    fn put(&mut self, item: &ProfileItem, value: f64) -> bool {
        let exponent = exponent(item);
        if let Some(register) = item.scale_register {
            self.hold(item.table, register, &[exponent.cast_unsigned()]);
        }
        self.put_words(item, &encode(item, value, exponent))
    }

    fn put_words(&mut self, item: &ProfileItem, words: &[u16]) -> bool {
        let block = item.own();
        if block.table.is_keyed() {
            self.keyed.insert((block.table, block.start), words.to_vec());
            return true;
        }
        let Some(image) = self.tables.get_mut(&block.table) else { return false };
        for (address, &word) in (block.start..).zip(words) {
            let Some(room) = image.word(address) else { return false };
            // Other items may live in the other bits of the register.
            let mask = match item.encoding.form {
                Form::Bit(bit) => 1 << bit,
                _ => u16::MAX,
            };
            *room = *room & !mask | word & mask;
        }
        true
    }

    /// Itself with an item, or all of them, lacking a value.
    pub(super) fn lacking(&self, item: Option<&str>, absence: Absence) -> Self {
        let mut lacking = self.clone();
        let chosen = |it: &&ProfileItem| item.is_none_or(|wanted| &*it.item.name == wanted);
        for item in self.profile.items.iter().filter(chosen) {
            let float = matches!(item.encoding.form, Form::F32 | Form::F64);
            let words = match absence {
                Absence::Sentinel if !item.sentinels.is_empty() => encode(item, f64::NAN, 0),
                _ if item.encoding.form.is_flag() => continue,
                _ if float && item.sentinels.is_empty() => encode(item, f64::NAN, 0),
                // All bits set is a NaN too.
                _ => no_value(item),
            };
            lacking.put_words(item, &words);
        }
        lacking
    }

    /// Whether a coil is on; `None` when there is no such coil.
    pub(super) fn coil(&self, coil: u16) -> Option<bool> {
        let image = self.tables.get(&Table::Coil)?;
        let word = image.words.get(usize::from(coil.checked_sub(image.start)?))?;
        Some(*word != 0)
    }

    /// Switches a coil. Returns whether there is one.
    pub(super) fn set_coil(&mut self, coil: u16, on: bool) -> bool {
        let word = self.tables.get_mut(&Table::Coil).and_then(|image| image.word(coil));
        match word {
            Some(word) => {
                *word = u16::from(on);
                true
            }
            None => false,
        }
    }

    /// The honest reply to a request (both without unit and checksum), and the coils that it asks
    /// to switch: the caller switches them ([`Device::set_coil`]), or does not.
    pub(super) fn reply(&self, request: &[u8]) -> (Vec<u8>, Vec<Switched>) {
        if let Some(status) = self.answer_status(request) {
            return (status, Vec::new());
        }
        let Some((&function, body)) = request.split_first() else {
            return (vec![0x80, ILLEGAL_FUNCTION], Vec::new());
        };
        match self.answer(function, body) {
            Ok((mut body, switched)) => {
                body.insert(0, function);
                (body, switched)
            }
            Err(exception) => (vec![function | 0x80, exception], Vec::new()),
        }
    }

    fn answer(&self, function: u8, body: &[u8]) -> Result<(Vec<u8>, Vec<Switched>), u8> {
        let read = Table::ALL.into_iter().find(|table| table.read_function() == Some(function));
        if read.is_none() && function != WRITE_COIL && function != WRITE_COILS {
            return Err(ILLEGAL_FUNCTION);
        }
        let &[a, b, c, d, ref rest @ ..] = body else { return Err(ILLEGAL_VALUE) };
        let (address, second) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        if let Some(table) = read {
            return Ok((self.read(table, address, second)?, Vec::new()));
        }
        let wanted = if function == WRITE_COIL {
            let on = match second {
                0xFF00 => true,
                0x0000 => false,
                _ => return Err(ILLEGAL_VALUE),
            };
            vec![Switched { coil: address, on }]
        } else {
            several(address, second, rest)?
        };
        if wanted.iter().any(|it| self.coil(it.coil).is_none()) {
            return Err(ILLEGAL_ADDRESS);
        }
        Ok((vec![a, b, c, d], wanted))
    }

    /// The body of a read's reply: byte count and words or packed bits.
    fn read(&self, table: Table, address: u16, count: u16) -> Result<Vec<u8>, u8> {
        let most = if table.is_bits() { BITS_MAX } else { REGISTERS_MAX };
        if count == 0 || count > most {
            return Err(ILLEGAL_VALUE);
        }
        let image = self.tables.get(&table).ok_or(ILLEGAL_ADDRESS)?;
        let at = usize::from(address.checked_sub(image.start).ok_or(ILLEGAL_ADDRESS)?);
        let words = image.words.get(at..at + usize::from(count)).ok_or(ILLEGAL_ADDRESS)?;
        let content: Vec<u8> = if table.is_bits() {
            let byte = |bits: &[u16]| {
                bits.iter().enumerate().fold(0, |byte, (n, &bit)| byte | u8::from(bit != 0) << n)
            };
            words.chunks(8).map(byte).collect()
        } else {
            words.iter().flat_map(|word| word.to_be_bytes()).collect()
        };
        let length = u8::try_from(content.len()).map_err(|_| ILLEGAL_VALUE)?;
        Ok(std::iter::once(length).chain(content).collect())
    }
}

impl supply::Known for Device {
    fn has(&self, item: &str) -> bool {
        Self::has(self, item)
    }

    fn given(&self, item: &str) -> Option<f64> {
        self.given.get(&self.profile.position(item)?).copied()
    }

    fn initial(&self, item: &str) -> Option<f64> {
        Some(initial(&self.profile, self.profile.position(item)?, self.unit))
    }
}

/// The coils of a request that writes several; `rest` is its byte count and bits.
fn several(address: u16, count: u16, rest: &[u8]) -> Result<Vec<Switched>, u8> {
    let (&length, bits) = rest.split_first().ok_or(ILLEGAL_VALUE)?;
    let needed = usize::from(count.div_ceil(8));
    if count == 0
        || count > COILS_WRITTEN_MAX
        || usize::from(length) != needed
        || bits.len() != needed
    {
        return Err(ILLEGAL_VALUE);
    }
    (0..count)
        .map(|n| {
            let coil = address.checked_add(n).ok_or(ILLEGAL_ADDRESS)?;
            Ok(Switched { coil, on: bits[usize::from(n / 8)] >> (n % 8) & 1 == 1 })
        })
        .collect()
}

/// Every address that the profile speaks of.
fn blocks(profile: &Profile) -> impl Iterator<Item = Block> {
    let items = profile.items.iter().map(ProfileItem::block);
    let settings = profile.settings.iter().map(Setting::block);
    let identity = profile.identity.iter().map(|(table, start, words)| Block {
        table: *table,
        start: *start,
        count: u16::try_from(words.len()).unwrap_or(u16::MAX),
    });
    items.chain(settings).chain(identity)
}

/// All bits set: a NaN too, and no decimal digits.
fn no_value(item: &ProfileItem) -> Vec<u16> {
    let mut words = vec![u16::MAX; usize::from(item.own().count)];
    if let (Form::Bcd { bytes, .. }, Some(first)) = (item.encoding.form, words.first_mut())
        && bytes % 2 == 1
    {
        *first = 0x00FF;
    }
    words
}

/// What the scale register of an item holds: enough digits for what such devices measure.
pub(super) fn exponent(item: &ProfileItem) -> i16 {
    match (item.scale_register, item.item.unit) {
        (None, _) | (Some(_), Unit::Watt | Unit::VoltAmpere | Unit::Var | Unit::WattHour) => 0,
        (Some(_), Unit::Volt | Unit::Celsius) => -1,
        (Some(_), _) => -2,
    }
}

/// What a number starts as: typical of its unit of measure, higher with the unit id and with the
/// number of items of that measure before it. Steps survive the resolution of common devices.
#[expect(clippy::cast_precision_loss, reason = "a profile has at most 512 items")]
fn initial(profile: &Profile, position: usize, unit: u8) -> f64 {
    let item = &profile.items[position];
    let alike = profile.items[..position].iter();
    let ordinal = alike.filter(|other| other.item.unit == item.item.unit).count();
    let (base, per_unit, per_item) = steps(item);
    let value: f64 = base + per_unit * f64::from(unit) + per_item * ordinal as f64;
    value.min(item.item.greatest)
}

/// What [`initial`] is made of: the base, and steps per unit and per item.
pub(super) fn steps(item: &ProfileItem) -> (f64, f64, f64) {
    match item.item.unit {
        Unit::Ratio if item.item.name.starts_with("power.factor") => (0.82, 0.0005, 0.0125),
        Unit::Ampere if item.item.name.starts_with("loop.") => (0.004, 0.0001, 0.001),
        Unit::Volt if item.item.name.starts_with("analog.") => (0.5, 0.05, 1.0),
        Unit::Watt => (400.0, 7.0, 1.25),
        Unit::VoltAmpere => (450.0, 7.0, 1.25),
        Unit::Var => (60.0, 1.0, 0.25),
        Unit::Ratio => (0.4, 0.002, 0.0125),
        Unit::WattHour => (1e6, 1e3, 1.3e4),
        Unit::Volt => (220.0, 0.1, 0.75),
        Unit::Ampere => (2.0, 0.03, 0.41),
        Unit::Hertz => (49.5, 0.01, 0.1),
        Unit::Celsius => (18.0, 0.1, 3.05),
        Unit::Rpm => (3000.0, 10.0, 1.0),
        Unit::MillimetrePerMinute => (1200.0, 10.0, 1.0),
        Unit::Pascal => (5e5, 100.0, 1000.0),
        Unit::PartsPerMillion => (450.0, 1.0, 10.0),
        Unit::MicrogramPerCubicMetre => (12.0, 1.0, 5.0),
        Unit::None | Unit::Second | Unit::Gram | Unit::Millimetre | Unit::Decibel | Unit::Lux => {
            (1.0, 1.0, 1.0)
        }
    }
}

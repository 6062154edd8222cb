//! Changing a setting of one device: the only place that writes registers, and nothing of the
//! running gateway comes here. Who may, and whether somebody is sure, is the caller's business.
//!
//! What a device says to a write is not believed: some answer from their new address, some not at
//! all. Its registers are read back.

use std::io;
use std::time::Duration;

use andon_adapters::profile::Setting;

use super::inquiry::Inquiry;
use super::question::{Ask, Fault, Registers};
use crate::config::plan::{Link, Station};

/// How long a device is waited for; nobody else wants the line.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often it is asked what it holds now: some are deaf for a while after a change.
const READ_BACKS: u32 = 3;

/// One line with one device whose settings can be changed.
pub struct Setter(Inquiry);

impl Setter {
    /// Opens the line.
    ///
    /// # Errors
    /// When the port or connection cannot be opened.
    pub async fn open(link: &Link) -> io::Result<Self> {
        Inquiry::open(link).await.map(Self)
    }

    /// What the device holds; `None` when its registers hold no number.
    ///
    /// # Errors
    /// Why it does not answer. One missed question is forgiven.
    pub async fn current(&mut self, unit: u8, setting: &Setting) -> Result<Option<f64>, Fault> {
        let read = self.read(unit, setting).await;
        let words = match read {
            Err(Fault::Timeout | Fault::Garbled) => self.read(unit, setting).await?,
            other => other?,
        };
        Ok(setting.decode(&words))
    }

    /// Whether anything answers at a unit id, be it garbled or a refusal.
    ///
    /// # Errors
    /// [`Fault::Disconnected`] when the line is gone.
    pub async fn is_taken(&mut self, unit: u8, setting: &Setting) -> Result<bool, Fault> {
        for _ in 0..2 {
            match self.read(unit, setting).await {
                Err(Fault::Timeout) => {}
                Err(Fault::Disconnected) => return Err(Fault::Disconnected),
                Ok(_) | Err(Fault::Exception(_) | Fault::Garbled) => return Ok(true),
            }
        }
        Ok(false)
    }

    /// Writes a value once. `Ok` says only that nothing refused it.
    ///
    /// # Errors
    /// [`Fault::Exception`] when the device refuses, or the value is not within the setting's
    /// bounds (exception 3); [`Fault::Disconnected`] when the line is gone.
    pub async fn write(&mut self, unit: u8, setting: &Setting, value: f64) -> Result<(), Fault> {
        let words = setting.encode(value).ok_or(Fault::Exception(3))?;
        let registers = Registers::new(setting.address, &words, setting.function);
        let ask = Ask::WriteRegisters(registers.ok_or(Fault::Exception(3))?);
        match self.0.ask(Station::Unit(unit), ask, PATIENCE, PATIENCE).await {
            Ok(_) | Err(Fault::Timeout | Fault::Garbled) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    /// Whether the device, at `unit` by now, holds the value.
    ///
    /// # Errors
    /// Why it does not answer.
    pub async fn holds(&mut self, unit: u8, setting: &Setting, value: f64) -> Result<bool, Fault> {
        let mut last = Err(Fault::Timeout);
        for _ in 0..READ_BACKS {
            last = self.current(unit, setting).await;
            if last == Ok(Some(value)) {
                return Ok(true);
            }
        }
        last.map(|_| false)
    }

    async fn read(&mut self, unit: u8, setting: &Setting) -> Result<Vec<u16>, Fault> {
        self.0.read(Station::Unit(unit), setting.block(), PATIENCE, PATIENCE).await
    }
}

//! One unit, read once: what `andon read` shows. Opens its own stream, so the gateway must not
//! be running on the same serial port (it holds it exclusively, and opening fails and says so).

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use andon_adapters::modbus::{Batch, Holes, Table, Words, coalesce, decode};
use andon_engine::value::{Measured, Unavailable, Value};

use super::question::{Answer, Ask, Fault};
use super::timing::{LineTiming, TURNAROUND_MAX, reply_bytes};
use super::transaction::{Connection, Framing};
use super::transport::{self, Opener};
use crate::config::plan::{BusPlan, UnitPlan};

/// What stands in a device beside what it means.
#[derive(Clone, Debug, PartialEq)]
pub struct RawReading {
    /// The table.
    pub table: Table,
    /// The item's first address, 0-based.
    pub address: u16,
    /// Its registers, or one word 0 or 1; empty when the device gave none.
    pub words: Vec<u16>,
    /// The item's name.
    pub item: Arc<str>,
    /// The value in the item's unit, the ratio applied, or the reason for its absence.
    pub measured: Measured,
    /// What came in the place of an answer, when none did.
    pub fault: Option<Fault>,
}

/// Reads everything that the plan polls from `unit` (a position in the plan's `units`), once.
///
/// # Errors
/// When the port or connection cannot be opened, or there is no such unit.
pub async fn probe_once(plan: &BusPlan, unit: usize) -> io::Result<Vec<RawReading>> {
    probe_with(plan, unit, transport::opener(&plan.link)).await
}

pub(super) async fn probe_with(
    plan: &BusPlan,
    unit: usize,
    mut open: Opener,
) -> io::Result<Vec<RawReading>> {
    let unit = plan.units.get(unit).ok_or(io::ErrorKind::NotFound)?;
    let (framing, timing) = (Framing::of(&plan.link), LineTiming::of_bus(plan));
    let allowance = TURNAROUND_MAX.max(plan.turnaround_of(unit));
    let mut connection = Connection::new(open().await?, framing, timing);
    let items: Vec<usize> = unit.polls.iter().map(|poll| poll.profile_item).collect();
    let mut waiting: VecDeque<Batch> = coalesce(&unit.profile, &items, &Holes::default()).into();
    let mut readings = Vec::new();
    // Some devices swallow the first frame after power-up; one failure is forgiven.
    let mut forgiven = false;
    while let Some(batch) = waiting.pop_front() {
        let outcome = connection.ask(unit.station, Ask::Read(batch.block), allowance).await;
        let fault = match &outcome.result {
            Ok(answer) => {
                read_out(unit, &batch, answer, &mut readings);
                continue;
            }
            Err(fault) => *fault,
        };
        let why = match fault {
            Fault::Exception(2 | 3) => {
                if let Some((left, right)) = batch.split(&unit.profile) {
                    waiting.push_front(right);
                    waiting.push_front(left);
                    continue;
                }
                Unavailable::Refused
            }
            Fault::Exception(0x0A | 0x0B) | Fault::Timeout => Unavailable::Timeout,
            Fault::Exception(_) => Unavailable::Refused,
            Fault::Garbled => Unavailable::Garbled,
            Fault::Disconnected => Unavailable::Disconnected,
        };
        if !matches!(fault, Fault::Exception(_)) {
            let quiet = timing.wire(reply_bytes(batch.block)) + allowance;
            if connection.recover(&outcome, quiet).await.is_err() {
                connection = Connection::new(open().await?, framing, timing);
            }
            if !std::mem::replace(&mut forgiven, true) {
                waiting.push_front(batch);
                continue;
            }
        }
        for &at in &batch.items {
            readings.extend(raw(unit, at, Vec::new(), Err(why), Some(fault)));
        }
    }
    Ok(readings)
}

fn read_out(unit: &UnitPlan, batch: &Batch, answer: &Answer, readings: &mut Vec<RawReading>) {
    for (at, measured) in decode(&unit.profile, batch, answer.words()) {
        let Some(item) = unit.profile.items.get(at) else { continue };
        let block = item.block();
        let from = usize::from(block.start.saturating_sub(batch.block.start));
        let range = from..from + usize::from(block.count);
        let words = match answer.words() {
            Words::Registers(words) => words.get(range).unwrap_or_default().to_vec(),
            Words::Bits(bits) => {
                bits.get(range).unwrap_or_default().iter().map(|&bit| u16::from(bit)).collect()
            }
        };
        readings.extend(raw(unit, at, words, measured, None));
    }
}

fn raw(
    unit: &UnitPlan,
    at: usize,
    words: Vec<u16>,
    measured: Measured,
    fault: Option<Fault>,
) -> Option<RawReading> {
    let item = unit.profile.items.get(at)?;
    let ratio = unit.polls.iter().find(|poll| poll.profile_item == at).map_or(1.0, |p| p.ratio);
    let measured = match measured {
        Ok(Value::Number(number)) => Ok(Value::Number(number * ratio)),
        other => other,
    };
    Some(RawReading {
        table: item.table,
        address: item.address,
        words,
        item: item.item.name.clone(),
        measured,
        fault,
    })
}

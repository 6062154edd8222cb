//! A shop of ten machines at 1 Hz, a hundred series, the same at every run: 40 temperatures (slow
//! drift and noise of 0.15 °C in tenths), 30 powers (noise of 15 W in tenths while on, half of the
//! day), 20 states and 10 energy registers. Whatever stores are measured with begins here.

use std::sync::Arc;

use andon::journal::{BootId, Observation, Payload, Record};
use andon_engine::time::BootTime;
use andon_engine::value::Value;

/// 2026-01-01T00:00:00Z.
pub(crate) const BEGIN_MS: i64 = 1_767_225_600_000;
pub(crate) const DAY_S: u64 = 86_400;
pub(crate) const MACHINES: usize = 10;
pub(crate) const BOOT: BootId = BootId([1; 16]);
/// Begin of all randomness.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// When a record was made, in Unix milliseconds.
pub(crate) fn wall_ms(_: &BootId, at: BootTime) -> Option<i64> {
    Some(BEGIN_MS + i64::try_from(at.as_millis()).unwrap_or(0))
}

/// The shop.
pub(crate) struct Shop {
    pub(crate) machines: Vec<Arc<str>>,
    pub(crate) items: Vec<Arc<str>>,
    random: u64,
    temperatures: Vec<f64>,
    states: Vec<bool>,
    energy: Vec<f64>,
}

impl Shop {
    pub(crate) fn new() -> Self {
        let names = |kind: &str, count| (1..=count).map(|n| format!("{kind}.{n}").into()).collect();
        let items: [Vec<Arc<str>>; 4] =
            [names("temperature", 4), names("power", 3), names("state", 2), names("energy", 1)];
        Self {
            machines: (0..MACHINES).map(|n| format!("machine-{n}").into()).collect(),
            items: items.concat(),
            random: SEED,
            temperatures: vec![25.0; MACHINES * 4],
            states: vec![false; MACHINES * 2],
            energy: vec![1e6; MACHINES],
        }
    }

    /// Uniform in 0..1: splitmix64.
    fn uniform(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.random;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Normal, by Box and Muller.
    fn normal(&mut self) -> f64 {
        let (one, other) = (self.uniform().max(1e-300), self.uniform());
        (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * other).cos()
    }

    /// What its machines say at a second, counted from the begin.
    pub(crate) fn second(&mut self, second: u64, seq: &mut u64) -> Vec<Record> {
        (0..MACHINES)
            .map(|machine| {
                let tenths = |value: f64| Value::Number((value * 10.0).round() / 10.0);
                let mut values = Vec::new();
                for n in 0..4 {
                    let drift = self.normal() * 0.02;
                    let noise = self.normal() * 0.15;
                    let place = &mut self.temperatures[machine * 4 + n];
                    *place += 0.0005 * (25.0 - *place) + drift;
                    values.push(tenths(*place + noise));
                }
                // Half of the day on, each in its own rhythm of hours.
                let on = (second / 3600 + machine as u64) % 4 < 2;
                let mut watts = 0.0;
                for n in 0..3 {
                    let watt =
                        if on { 400.0 + 300.0 * f64::from(n) + self.normal() * 15.0 } else { 0.0 };
                    watts += watt;
                    values.push(tenths(watt));
                }
                for n in 0..2 {
                    let flips = self.uniform() < 1.0 / 600.0;
                    let state = &mut self.states[machine * 2 + n];
                    *state ^= flips;
                    values.push(Value::Flag(*state));
                }
                self.energy[machine] += watts / 3600.0;
                values.push(Value::Number(self.energy[machine].floor()));
                let items = self.items.iter().cloned().zip(values.into_iter().map(Ok)).collect();
                let at = BootTime::from_millis(second * 1000);
                let observation =
                    Observation { machine: self.machines[machine].clone(), at, items };
                *seq += 1;
                Record {
                    boot: BOOT,
                    seq: *seq,
                    prev: *seq - 1,
                    payload: Payload::Observation(observation),
                }
            })
            .collect()
    }
}

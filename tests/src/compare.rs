//! What a device's own log says it served, against what an export of the store holds.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// A line of the server's own log.
#[derive(Clone, Debug, Deserialize)]
struct Served {
    unit: u8,
    address: u16,
    value: f64,
}

/// The values served per (unit, address), in order.
pub type ServedValues = BTreeMap<(u8, u16), Vec<f64>>;

/// Reads the log of a pymodbus server. A torn last line (the server was killed) is left out.
///
/// # Errors
/// When the file cannot be read.
pub fn served(log: &Path) -> Result<ServedValues> {
    let mut values = ServedValues::new();
    for line in std::fs::read_to_string(log).context("the server's log")?.lines() {
        if let Ok(served) = serde_json::from_str::<Served>(line) {
            values.entry((served.unit, served.address)).or_default().push(served.value);
        }
    }
    Ok(values)
}

/// One series of an export.
#[derive(Clone, Debug, Deserialize)]
struct Exported {
    metric: BTreeMap<String, String>,
    values: Vec<Option<f64>>,
    timestamps: Vec<i64>,
}

/// The samples of each (machine, field) in the store: timestamp in ms and value.
pub type StoredValues = BTreeMap<(String, String), Vec<(i64, f64)>>;

/// Exports everything of andon's from a VictoriaMetrics store.
///
/// # Errors
/// When the store cannot be asked.
pub fn stored(store_url: &str) -> Result<StoredValues> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let text = runtime.block_on(async {
        let client = reqwest::Client::new();
        // Makes fresh samples visible to queries at once.
        client.get(format!("{store_url}/internal/force_flush")).send().await?;
        let query = [("match[]", "{__name__=~\"andon_.*\"}")];
        let reply = client.get(format!("{store_url}/api/v1/export")).query(&query).send().await?;
        anyhow::Ok(reply.error_for_status()?.text().await?)
    })?;
    let mut values = StoredValues::new();
    for line in text.lines() {
        let series: Exported = serde_json::from_str(line)?;
        let field = series.metric["__name__"].trim_start_matches("andon_").to_owned();
        let machine = series.metric.get("machine").cloned().unwrap_or_default();
        let samples = series.timestamps.iter().zip(&series.values);
        let samples = samples.filter_map(|(&at, &value)| Some((at, value?)));
        values.entry((machine, field)).or_default().extend(samples);
    }
    for samples in values.values_mut() {
        samples.sort_by_key(|sample| sample.0);
    }
    Ok(values)
}

/// What a comparison found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Expected values that are not in the store.
    pub missing: usize,
    /// Values in the store that were never served, or out of order.
    pub wrong: usize,
    /// Values in the store more often than served.
    pub doubled: usize,
    /// Values that are in both.
    pub equal: usize,
}

impl Difference {
    /// Whether nothing is missing, wrong or doubled, and something was compared.
    pub fn is_clean(&self) -> bool {
        self.missing + self.wrong + self.doubled == 0 && self.equal > 0
    }

    /// Adds up.
    pub fn add(&mut self, other: &Self) {
        self.missing += other.missing;
        self.wrong += other.wrong;
        self.doubled += other.doubled;
        self.equal += other.equal;
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { missing, wrong, doubled, equal } = self;
        write!(f, "{equal} equal, {missing} missing, {wrong} wrong, {doubled} doubled")
    }
}

/// Compares one series: the store must hold `expected`, in order, each value once. Values are
/// distinct between neighbours; `tolerance` is relative (single precision went over the wire).
pub fn compare(expected: &[f64], stored: &[f64], tolerance: f64) -> Difference {
    let near = |a: f64, b: f64| (a - b).abs() <= tolerance * a.abs().max(b.abs()).max(1e-12);
    let mut difference = Difference::default();
    let mut next = 0;
    let mut last = None;
    for &value in stored {
        let ahead = expected[next..].iter().position(|&candidate| near(candidate, value));
        match ahead {
            _ if last.is_some_and(|last| near(last, value)) && ahead != Some(0) => {
                difference.doubled += 1;
            }
            Some(skipped) => {
                difference.missing += skipped;
                difference.equal += 1;
                next += skipped + 1;
            }
            None => difference.wrong += 1,
        }
        last = Some(value);
    }
    difference.missing += expected.len() - next;
    difference
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(expected: &[f64], stored: &[f64]) -> String {
        compare(expected, stored, 1e-9).to_string()
    }

    #[test]
    fn every_kind_of_difference_is_told_apart() {
        let served = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(difference(&served, &served), "4 equal, 0 missing, 0 wrong, 0 doubled");
        assert_eq!(difference(&served, &[1.0, 3.0]), "2 equal, 2 missing, 0 wrong, 0 doubled");
        assert_eq!(
            difference(&served, &[1.0, 2.0, 2.0, 3.0, 4.0]),
            "4 equal, 0 missing, 0 wrong, 1 doubled"
        );
        assert_eq!(
            difference(&served, &[1.0, 2.0, 9.0, 3.0, 4.0]),
            "4 equal, 0 missing, 1 wrong, 0 doubled"
        );
        assert_eq!(difference(&served, &[]), "0 equal, 4 missing, 0 wrong, 0 doubled");
    }
}

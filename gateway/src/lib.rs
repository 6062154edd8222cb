//! andon: one binary that reads every machine of a workshop.
//!
//! Reading order: [`config`] (what is written) → [`run`] (what is started) → [`bus`] (bytes) →
//! `andon_engine` (decisions) → [`journal`] (what is kept) → [`mqtt`], [`recorder`], [`http`]
//! (what is told) → [`cli`] (what a person types).

pub mod bus;
pub mod cli;
pub mod clock;
pub mod config;
pub mod demo;
pub mod diagnostics;
pub mod history;
pub mod hours;
pub mod http;
pub mod journal;
pub mod kinds;
pub mod learn;
mod lock;
pub mod memory;
pub mod moment;
pub mod mqtt;
pub mod outputs;
pub mod recorder;
pub mod run;
pub mod scan;
pub mod simulate;
pub mod standing;
#[cfg(test)]
mod testing;
pub mod wire;

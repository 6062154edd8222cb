//! The sans-IO core of andon: readings in; observations, states, alarms, usage and trips out.
//!
//! Nothing here reads a clock, opens a socket, spawns a task or fails: [`Engine::step`] is told
//! the time and the input and returns what follows. So the same code runs live, in replay and in
//! simulation, and the same inputs give the same bytes of output.
//!
//! Reading order: [`time`] and [`value`] (what a value is, and what its absence is), [`item`] and
//! [`unit`] (the closed vocabulary), [`plan`] (what the engine is built from), [`engine`] (the one
//! entry point), then its parts: [`normalize`], [`follower`] ([`activity`] and controllers), [`rules`],
//! [`alarm`], [`trip`].

pub mod activity;
mod aging;
pub mod alarm;
mod controller;
pub mod engine;
pub mod event;
pub mod follower;
pub mod item;
mod lookup;
pub mod normalize;
pub mod plan;
pub mod rules;
pub mod time;
pub mod trip;
pub mod unit;
pub mod value;

pub use engine::{Engine, Input, Output};

//! What the tests are made of: real programs started on loopback, watched, and stopped by
//! process id; and the comparison of what a device served with what a store holds.
//!
//! Nothing here asks andon how it is doing: losses are counted from the device's own log and an
//! export of the store.

pub mod agreement;
pub mod andon;
pub mod bench;
pub mod compare;
pub mod controllers;
pub mod machines;
pub mod peers;
pub mod plugs;
pub mod process;
pub mod run_of_time;
pub mod simulator;
pub mod stalls;
pub mod workshop;

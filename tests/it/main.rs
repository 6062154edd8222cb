//! One integration binary: scenarios with the release build and real programs.

mod delivery;
mod devices;
mod faults;
mod shop;
mod trips;

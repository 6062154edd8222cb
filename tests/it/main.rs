//! One integration binary: scenarios with the release build and real programs.

mod delivery;
mod faults;
mod scan;
mod shop;
mod trips;

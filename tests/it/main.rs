//! One integration binary: scenarios with the release build and real programs.

mod delivery;
mod echo;
mod faults;
mod shop;
mod trips;

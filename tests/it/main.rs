//! One integration binary: scenarios with the release build and real programs.

mod clock;
mod controllers;
mod delivery;
mod devices;
mod diagnostics;
mod echo;
mod energy;
mod faults;
mod history_export;
mod history_kills;
mod instructions;
mod kills;
mod latch_kills;
mod places;
mod plugs;
mod printers;
mod scan;
mod secured;
mod shop;
mod soak;
mod trips;

//! One integration binary: scenarios with the release build and real programs.

mod delivery;
mod devices;
mod echo;
mod energy;
mod faults;
mod places;
mod plugs;
mod scan;
mod secured;
mod shop;
mod trips;

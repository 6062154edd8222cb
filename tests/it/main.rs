//! One integration binary: scenarios with the release build and real programs.

mod controllers;
mod delivery;
mod devices;
mod echo;
mod energy;
mod faults;
mod instructions;
mod places;
mod plugs;
mod printers;
mod scan;
mod secured;
mod shop;
mod trips;

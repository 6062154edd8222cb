//! What a person types: one file per command.

pub mod check;
pub mod plan;
pub mod profile;

//! What a person types.

pub mod history;

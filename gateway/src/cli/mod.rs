//! What a person types.

pub mod history;
pub mod record;
pub mod tap;

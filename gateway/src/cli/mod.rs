//! Placeholder.

pub mod record;
pub mod tap;

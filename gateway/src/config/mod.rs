//! Configuration as people write it, layered and checked into a [`plan::Plan`].

pub mod plan;

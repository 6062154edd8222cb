//! MQTT.

mod backoff;

pub use backoff::Backoff;

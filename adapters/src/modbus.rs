//! Modbus codec. Placeholder.

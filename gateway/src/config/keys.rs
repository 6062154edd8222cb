//! Every key that a configuration may have. The checker reads no key that is not here, and a
//! test holds the annotated sample `deploy/andon.toml` against these lists.

/// The sections of a configuration.
pub const SECTIONS: &[&str] = &[
    "site", "clock", "state", "journal", "history", "mqtt", "store", "http", "profiles", "bus",
    "source", "machine", "output", "rule",
];

/// `[site]`
pub const SITE: &[&str] = &["id", "name", "time_zone"];
/// `[clock]`
pub const CLOCK: &[&str] = &["trust_wall"];
/// `[state]`
pub const STATE: &[&str] = &["dir"];
/// `[journal]`
pub const JOURNAL: &[&str] = &["telemetry_size", "sync"];
/// `[history]`
pub const HISTORY: &[&str] = &["keep", "keep_minutes", "size"];
/// `[mqtt]`; `password` comes from the environment only.
pub const MQTT: &[&str] =
    &["host", "port", "client_id", "user", "password_file", "password", "ca_file", "recorder"];
/// `[store]`; `token` comes from the environment only.
pub const STORE: &[&str] = &["url", "org", "bucket", "token_file", "token"];
/// `[http]`
pub const HTTP: &[&str] = &["listen"];
/// `[profiles]`
pub const PROFILES: &[&str] = &["dir"];
/// `[bus.ID]` of type `modbus-tcp`.
pub const BUS_TCP: &[&str] = &["type", "host", "port", "baud", "turnaround", "pause", "dead_share"];
/// `[bus.ID]` of type `modbus-rtu-over-tcp`.
pub const BUS_RTU_OVER_TCP: &[&str] =
    &["type", "host", "port", "baud", "turnaround", "pause", "dead_share"];
/// `[bus.ID]` of type `modbus-rtu` or `dlt645`.
pub const BUS_RTU: &[&str] =
    &["type", "port", "baud", "parity", "stop_bits", "turnaround", "pause", "dead_share"];
/// `[bus.ID]` of type `mqtt`; `password` comes from the environment only.
pub const BUS_MQTT: &[&str] =
    &["type", "host", "port", "user", "password_file", "password", "ca_file"];
/// `[source.ID]` with a protocol of its own; its options come to these.
pub const SOURCE_PROTOCOL: &[&str] = &["protocol", "period"];
/// Such a source at a host.
pub const SOURCE_NET: &[&str] = &["host", "port"];
/// On a serial port.
pub const SOURCE_SERIAL: &[&str] =
    &["port", "baud", "parity", "data_bits", "stop_bits", "flow", "owner"];
/// At a broker of its own.
pub const SOURCE_OWN_BROKER: &[&str] = &["host", "port", "serial_number"];
/// At a broker that devices share.
pub const SOURCE_SHARED_BROKER: &[&str] = &["bus", "topic", "mapping"];
/// On lines of a GPIO chip.
pub const SOURCE_GPIO: &[&str] = &["chip", "lines"];
/// With a key; `key` comes from the environment only.
pub const SOURCE_KEY: &[&str] = &["key_file", "key"];
/// With a password; `password` comes from the environment only.
pub const SOURCE_PASSWORD: &[&str] = &["user", "password_file", "password"];
/// With either.
pub const SOURCE_KEY_OR_PASSWORD: &[&str] =
    &["key_file", "key", "user", "password_file", "password"];
/// `[source.ID]` of a Modbus device.
pub const SOURCE: &[&str] =
    &["bus", "unit_id", "address", "profile", "period", "periods", "ct_ratio", "vt_ratio"];
/// `[machine.ID]`
pub const MACHINE: &[&str] =
    &["name", "kind", "source", "items", "key_items", "activity", "max_rate"];
/// An item of a machine that a 4–20 mA loop stands for.
pub const LOOP: &[&str] = &["from", "at_4ma", "at_20ma"];
/// `activity` of a machine, told from a power.
pub const ACTIVITY_POWER: &[&str] =
    &["from", "idle_above", "run_above", "idle_below", "run_below", "enter_for", "exit_for"];
/// `activity` of a machine, told from a contact.
pub const ACTIVITY_INPUT: &[&str] = &["from", "run_when", "enter_for", "exit_for"];
/// `activity` of a machine, told by its controller.
pub const ACTIVITY_CONTROLLER: &[&str] = &["from", "exit_for"];
/// `[output.ID]`
pub const OUTPUT: &[&str] = &[
    "kind",
    "machine",
    "relay",
    "stop",
    "trip_when",
    "after_reset",
    "proof",
    "attempt_deadline",
    "attempts",
];
/// `proof` of an output.
pub const PROOF: &[&str] = &["item", "below", "within", "samples"];
/// `[rule.ID]`
pub const RULE: &[&str] = &[
    "machine",
    "when",
    "for",
    "clear",
    "on_unknown",
    "unknown_for",
    "severity",
    "trip",
    "message",
];
/// A name in several languages.
pub const NAME: &[&str] = &["en", "zh"];

/// Every list above with the section that it belongs to.
pub const ALL: &[(&str, &[&str])] = &[
    ("site", SITE),
    ("clock", CLOCK),
    ("state", STATE),
    ("journal", JOURNAL),
    ("mqtt", MQTT),
    ("store", STORE),
    ("http", HTTP),
    ("profiles", PROFILES),
    ("bus", BUS_TCP),
    ("bus", BUS_RTU_OVER_TCP),
    ("bus", BUS_RTU),
    ("bus", BUS_MQTT),
    ("source", SOURCE),
    ("source", SOURCE_PROTOCOL),
    ("source", SOURCE_NET),
    ("source", SOURCE_SERIAL),
    ("source", SOURCE_OWN_BROKER),
    ("source", SOURCE_SHARED_BROKER),
    ("source", SOURCE_GPIO),
    ("source", SOURCE_KEY_OR_PASSWORD),
    ("machine", MACHINE),
    ("machine", LOOP),
    ("machine", ACTIVITY_POWER),
    ("machine", ACTIVITY_INPUT),
    ("machine", ACTIVITY_CONTROLLER),
    ("output", OUTPUT),
    ("output", PROOF),
    ("rule", RULE),
    ("rule", NAME),
];

/// What a machine can be: picks the icon on the board.
pub const MACHINE_KINDS: &[&str] = &[
    "fdm-printer",
    "resin-printer",
    "laser",
    "router",
    "mill",
    "lathe",
    "table-saw",
    "band-saw",
    "drill-press",
    "welder",
    "plasma-cutter",
    "brake",
    "sewing-machine",
    "vacuum-former",
    "compressor",
    "extractor",
    "kiln",
    "other",
];

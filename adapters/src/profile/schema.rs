//! The profile format as JSON Schema, for editors that complete and check TOML.
//!
//! It is generated from the tables that [`super::check`] reads by, and a copy lies beside the
//! profiles (`profiles/schema.json`), kept equal by a test. It can say less than `check` does.

use andon_engine::item;
use serde_json::{Value, json};

use super::check::TYPES;
use super::{ITEMS_MAX, SettingKind};
use crate::modbus::{Order, REGISTERS_MAX};

/// The schema of a profile file (JSON Schema 2020-12).
pub fn json_schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "andon device profile",
        "type": "object",
        "additionalProperties": false,
        "required": ["title", "source", "evidence", "item", "example"],
        "properties": {
            "title": text("Maker and model."),
            "source": text("The manual or page that the map is from."),
            "evidence": {
                "enum": ["datasheet", "trial", "verified"],
                "description": "How far the map can be trusted."
            },
            "verified": text("With evidence = \"verified\": who, when, on which device."),
            "notes": text("What an installer must know."),
            "max_registers": {
                "type": "integer", "minimum": 1, "maximum": REGISTERS_MAX,
                "default": REGISTERS_MAX,
                "description": "Most registers that the device answers in one read."
            },
            "identity": registers_schema(),
            "setting": settings_schema(),
            "item": {
                "type": "array", "minItems": 1, "maxItems": ITEMS_MAX, "items": item_schema()
            },
            "example": { "type": "array", "minItems": 1, "items": example_schema() }
        }
    })
}

fn text(description: &str) -> Value {
    json!({ "type": "string", "minLength": 1, "description": description })
}

fn item_schema() -> Value {
    let types: Vec<&str> = TYPES.iter().map(|&(word, _)| word).collect();
    let orders: Vec<&str> = Order::ALL.iter().map(|&(name, _)| name).collect();
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["name", "read"],
        "properties": {
            "name": {
                "type": "string",
                "examples": item::names().collect::<Vec<_>>(),
                "description": "An item of andon's closed list; its canonical unit follows."
            },
            "read": {
                "type": "string",
                "pattern": PLACE,
                "description": "Table and 0-based address: input:0x000C (function 4), \
                    holding: (3), coil: (1), discrete: (2)."
            },
            "type": {
                "enum": types,
                "description": "How the number lies in registers; coils and discrete inputs \
                    are bool."
            },
            "order": {
                "enum": orders, "default": "ABCD",
                "description": "Order of the bytes, A most significant."
            },
            "bit": {
                "type": "integer", "minimum": 0, "maximum": 15,
                "description": "For bool in a register: which bit, 0 least significant."
            },
            "unit": text("The device's unit, when it is not the item's own: kWh."),
            "scale": {
                "type": "number", "default": 1, "description": "Factor to the unit."
            },
            "divide_by": {
                "type": "number", "exclusiveMinimum": 0, "default": 1,
                "description": "Divisor to the unit: 10 for tenths."
            },
            "scale_register": {
                "type": "string",
                "pattern": REGISTER,
                "description": "Where the device keeps a power of ten to multiply by."
            },
            "sentinel": {
                "oneOf": [
                    { "type": "integer" },
                    { "type": "array", "items": { "type": "integer" } }
                ],
                "description": "Raw values that mean \"no value\"."
            },
            "writable": {
                "type": "boolean", "default": false,
                "description": "Coils only: a trip output may be wired to it."
            }
        }
    })
}

const PLACE: &str = "^((coil|discrete|input|holding):(0x[0-9A-Fa-f]{1,4}|[0-9]{1,5})\
    |di:([0-9A-Fa-f]{4}|[0-9A-Fa-f]{8})|drive:[0-7])$";
const REGISTER: &str = "^(input|holding):(0x[0-9A-Fa-f]{1,4}|[0-9]{1,5})$";

fn settings_schema() -> Value {
    let kinds = SettingKind::ALL.iter().map(|(word, _)| ((*word).to_owned(), setting_schema()));
    json!({
        "type": "object",
        "additionalProperties": false,
        "description": "Settings that andon meter can change.",
        "properties": kinds.collect::<serde_json::Map<String, Value>>()
    })
}

fn setting_schema() -> Value {
    let numbers = TYPES.iter().filter(|(_, form)| !form.is_flag());
    let types: Vec<&str> = numbers.map(|&(word, _)| word).collect();
    let orders: Vec<&str> = Order::ALL.iter().map(|&(name, _)| name).collect();
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["write", "type"],
        "properties": {
            "write": {
                "type": "string", "pattern": REGISTER,
                "description": "The holding register that keeps it."
            },
            "type": { "enum": types },
            "order": { "enum": orders, "default": "ABCD" },
            "divide_by": { "type": "number", "exclusiveMinimum": 0, "default": 1 },
            "least": { "type": "number", "default": 1 },
            "greatest": { "type": "number", "default": 247 },
            "function": {
                "enum": [6, 16],
                "description": "6 writes one register, 16 several."
            },
            "after_restart": {
                "type": "boolean", "default": false,
                "description": "It applies only after the device was without power."
            },
            "notes": text("What else must be done.")
        }
    })
}

fn registers_schema() -> Value {
    json!({
        "type": "object",
        "description": "Places and the words that lie there.",
        "propertyNames": { "pattern": PLACE },
        "additionalProperties": {
            "type": "array", "minItems": 1,
            "items": { "type": ["integer", "boolean"] }
        }
    })
}

fn example_schema() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["registers", "expect"],
        "description": "From a cited source or an independent encoder, never from andon's own.",
        "properties": {
            "registers": registers_schema(),
            "expect": {
                "type": "object",
                "additionalProperties": { "type": ["number", "boolean", "string"] },
                "description": "Per item its value in the canonical unit, or \"sentinel\"."
            }
        }
    })
}

//! What a Klipper printer has told of its objects, merged, and how that is said in andon's words. Knows
//! nothing of questions, subscriptions or connections.

use andon_engine::event::Execution;
use andon_engine::value::Unavailable;
use serde_json::{Map, Value as Json, json};

use crate::device::{Outbox, clean};
use crate::http::{say_number, say_text};
use crate::printer::{self, Parts};

/// How Klipper words a shutdown that somebody commanded; by its API and by G-code.
const COMMANDED: [&str; 2] = ["Shutdown due to webhooks request", "Shutdown due to M112 command"];

/// A field of one of the printer's objects.
type Field = (String, &'static str);

/// The wanted fields of the printer's objects.
#[derive(Debug)]
pub(super) struct Picture {
    /// Where items come from that are passed on as they are.
    numbers: Vec<(String, Field)>,
    /// Every field that is asked for, of those objects that the printer has.
    wanted: Vec<Field>,
    fields: Map<String, Json>,
}

impl Picture {
    /// Of a printer with these parts; nothing is known yet.
    pub(super) fn new(parts: Parts) -> Self {
        Self { numbers: numbers(parts), wanted: Vec::new(), fields: Map::new() }
    }

    /// Forgets what was told.
    pub(super) fn clear(&mut self) {
        self.fields.clear();
    }

    /// Chooses what to ask for from the objects that the printer has.
    pub(super) fn choose(&mut self, objects: &[Json]) {
        let has = |(object, _): &Field| objects.iter().any(|name| name.as_str() == Some(object));
        let fixed = FIXED.iter().map(|(object, field)| ((*object).to_owned(), *field));
        let numbers = self.numbers.iter().map(|(_, field)| field.clone());
        self.wanted = fixed.chain(numbers).filter(has).collect();
    }

    /// What the printer is doing, by the table.
    pub(super) fn execution(&self) -> Option<Execution> {
        let (host, job) = (self.text("webhooks", "state"), self.text("print_stats", "state"));
        let used = self.known("print_stats", "filament_used").and_then(Json::as_f64);
        execution(host, self.text("webhooks", "state_message"), job, used)
    }

    fn text(&self, object: &str, field: &str) -> &str {
        self.known(object, field).and_then(Json::as_str).unwrap_or("")
    }

    /// The parameters of a query or subscription: each object with its fields.
    pub(super) fn parameters(&self) -> Json {
        let mut objects = Map::new();
        for (object, field) in &self.wanted {
            let fields = objects.entry(object.clone()).or_insert_with(|| json!([]));
            if let Json::Array(fields) = fields {
                fields.push(json!(field));
            }
        }
        json!({ "objects": objects })
    }

    /// Takes over the wanted fields of `changes`, each as a whole.
    pub(super) fn merge(&mut self, changes: &Map<String, Json>) {
        for (object, field) in &self.wanted {
            let Some(value) = changes.get(object).and_then(|fields| fields.get(field)) else {
                continue;
            };
            self.fields.insert(format!("{object}/{field}"), kept(value));
        }
    }

    fn known(&self, object: &str, field: &str) -> Option<&Json> {
        self.fields.get(&format!("{object}/{field}"))
    }

    /// Says the picture, or that part of it that is in `changes`.
    pub(super) fn say(&self, changes: Option<&Map<String, Json>>, out: &mut Outbox) {
        let fresh = |object: &str| changes.is_none_or(|changes| changes.contains_key(object));
        for (item, (object, field)) in &self.numbers {
            if fresh(object) && !chamber_elsewhere(&self.wanted, item, object) {
                say_number(out, item, self.known(object, field), 1.0);
            }
        }
        if fresh("print_stats") {
            say_text(out, "job.name", self.known("print_stats", "filename"));
            let info = self.known("print_stats", "info");
            let layer = |field| info.and_then(|info| info.get(field));
            say_number(out, "job.layer", layer("current_layer"), 1.0);
            say_number(out, "job.layers", layer("total_layer"), 1.0);
        }
        if fresh("print_stats") || fresh("webhooks") || fresh("display_status") {
            say_text(out, "message", self.message());
        }
        if fresh("print_stats") || fresh("webhooks") {
            self.say_execution(out);
        }
    }

    fn say_execution(&self, out: &mut Outbox) {
        let (host, job) = (self.text("webhooks", "state"), self.text("print_stats", "state"));
        let word = if host == "ready" && !job.is_empty() { job } else { host };
        if host == "startup" {
            out.text("controller.state", word);
            out.say("execution", Err(Unavailable::NotYet));
            return;
        }
        out.execution(word, self.execution());
        if host == "ready" && job.is_empty() {
            out.trouble = Some("Klipper has no [virtual_sdcard]: its jobs are not seen".to_owned());
        }
    }

    /// What Klipper has to say: why it does not run, why the job failed, or the display's text.
    fn message(&self) -> Option<&Json> {
        let host = self.known("webhooks", "state_message");
        if self.known("webhooks", "state").and_then(Json::as_str) != Some("ready") {
            return host;
        }
        let job = self.known("print_stats", "message");
        job.filter(|text| text.as_str() != Some(""))
            .or_else(|| self.known("display_status", "message"))
    }
}

/// Whether changes are of what decides the execution.
pub(super) fn tells_execution(changes: &Map<String, Json>) -> bool {
    changes.contains_key("print_stats") || changes.contains_key("webhooks")
}

/// Fields that are looked at, beyond those in [`numbers`].
const FIXED: &[(&str, &str)] = &[
    ("webhooks", "state"),
    ("webhooks", "state_message"),
    ("print_stats", "state"),
    ("print_stats", "message"),
    ("print_stats", "filename"),
    ("print_stats", "info"),
    ("display_status", "message"),
];

/// The objects that a chamber may be measured by; the first that the printer has counts.
const CHAMBERS: &[&str] =
    &["heater_generic chamber", "temperature_fan chamber", "temperature_sensor chamber"];

/// Items that are a field as it is.
fn numbers(parts: Parts) -> Vec<(String, Field)> {
    let mut numbers = Vec::new();
    let mut add =
        |item: String, object: &str, field| numbers.push((item, (object.to_owned(), field)));
    add("progress".to_owned(), "virtual_sdcard", "progress");
    add("job.elapsed".to_owned(), "print_stats", "total_duration");
    add("filament.used".to_owned(), "print_stats", "filament_used");
    add("override.feed".to_owned(), "gcode_move", "speed_factor");
    for index in 0..parts.nozzles {
        let object = if index == 0 { "extruder".to_owned() } else { format!("extruder{index}") };
        let place = printer::nozzle(index);
        add(printer::actual(&place), &object, "temperature");
        add(printer::target(&place), &object, "target");
    }
    if parts.bed {
        add(printer::actual("bed"), "heater_bed", "temperature");
        add(printer::target("bed"), "heater_bed", "target");
    }
    for object in CHAMBERS.iter().filter(|_| parts.chamber) {
        add(printer::actual("chamber"), object, "temperature");
    }
    numbers
}

/// Whether `object` is a chamber that the printer has not, or a lesser one than another it has.
fn chamber_elsewhere(wanted: &[Field], item: &str, object: &str) -> bool {
    let has = |object: &&&str| wanted.iter().any(|(wanted, _)| wanted == **object);
    let chamber = CHAMBERS.iter().find(has).unwrap_or(&CHAMBERS[0]);
    item == "temperature.chamber" && *chamber != object
}

/// The table of the protocol.
pub(super) fn execution(
    host: &str,
    message: &str,
    job: &str,
    used: Option<f64>,
) -> Option<Execution> {
    let commanded = || COMMANDED.iter().any(|words| message.starts_with(words));
    match (host, job) {
        ("shutdown", _) if commanded() => Some(Execution::Stopped),
        ("shutdown" | "error", _) | ("ready", "error") => Some(Execution::Fault),
        ("ready", "standby" | "cancelled") => Some(Execution::Ready),
        // Klipper starts its own count of printing time at the first extrusion, too.
        ("ready", "printing") if used.is_some_and(|used| used <= 0.0) => Some(Execution::Preparing),
        ("ready", "printing") => Some(Execution::Running),
        ("ready", "paused") => Some(Execution::Paused),
        ("ready", "complete") => Some(Execution::Finished),
        _ => None,
    }
}

/// A value as it is kept: numbers and short texts; of anything larger only that it was there.
fn kept(value: &Json) -> Json {
    match value {
        // Klipper's messages have several lines.
        Json::String(text) => clean(text.replace('\n', " ").trim()).into(),
        Json::Array(_) => json!([]),
        Json::Object(fields) => ["current_layer", "total_layer"]
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), fields.get(*name)?)))
            .filter(|(_, value)| !value.is_array() && !value.is_object())
            .map(|(name, value)| (name, kept(value)))
            .collect(),
        plain => plain.clone(),
    }
}

//! Home Assistant's discovery, read the other way round: what other programs have announced to it
//! becomes a source that is mapped by hand.
//!
//! An entity is taken when its value is a plain path into its message (`{{ value_json.a.b }}`,
//! rounded or not), its class is a quantity that andon knows, and its unit is one of that
//! quantity; others are named in a note. Bounds: [`DEVICES_MAX`] devices, [`ENTITIES_MAX`]
//! entities each.

use std::collections::BTreeMap;

use andon_adapters::json::place::Place;
use serde_json::Value;

use super::announced::DEVICES_MAX;
use super::proposal::Proposal;

/// Entities of one device.
const ENTITIES_MAX: usize = 64;
/// Entities that are named as left out.
const NAMED_MAX: usize = 8;

/// Class of an entity, the item that it is.
const CLASSES: &[(&str, &str)] = &[
    ("power", "power.active"),
    ("apparent_power", "power.apparent"),
    ("reactive_power", "power.reactive"),
    ("power_factor", "power.factor"),
    ("energy", "energy.total"),
    ("voltage", "voltage"),
    ("current", "current"),
    ("frequency", "frequency"),
    ("temperature", "temperature"),
    ("humidity", "humidity"),
    ("carbon_dioxide", "co2"),
    ("carbon_monoxide", "co"),
    ("pm1", "pm1"),
    ("pm25", "pm25"),
    ("pm10", "pm10"),
    ("pressure", "pressure"),
    ("atmospheric_pressure", "pressure"),
    ("illuminance", "illuminance"),
    ("sound_pressure", "noise"),
];

/// What was announced, by device.
#[derive(Debug, Default)]
pub(super) struct Entities {
    devices: BTreeMap<String, Device>,
}

#[derive(Debug, Default)]
struct Device {
    name: String,
    entities: Vec<Entity>,
    /// Names of entities that are no path or no quantity.
    left_out: Vec<String>,
}

#[derive(Debug)]
struct Entity {
    name: String,
    topic: String,
    item: &'static str,
    path: String,
    unit: String,
    availability: Option<(String, String, String)>,
}

impl Entities {
    /// Takes a configuration of one entity, or of a device with its components. Returns false
    /// when there are too many devices.
    pub(super) fn hear(&mut self, config: &Value) -> bool {
        let device = either(config, "device", "dev");
        let Some(id) = identity(device) else { return true };
        if !self.devices.contains_key(&id) && self.devices.len() == DEVICES_MAX {
            return false;
        }
        let known = self.devices.entry(id.clone()).or_default();
        known.name = either(device, "name", "name").as_str().unwrap_or(&id).to_owned();
        let components = either(config, "components", "cmps").as_object();
        let Some(components) = components else {
            known.hear(config, config);
            return true;
        };
        for component in components.values().take(ENTITIES_MAX) {
            known.hear(component, config);
        }
        true
    }

    /// A source for every device that has something to map, but for those that another protocol
    /// reads better: `known` are the beginnings of their topics.
    pub(super) fn proposals(&self, known: &[String]) -> Vec<Proposal> {
        self.devices.values().filter_map(|device| device.proposal(known)).collect()
    }
}

impl Device {
    /// Takes an entity; what it does not say is said by `whole`.
    fn hear(&mut self, config: &Value, whole: &Value) {
        let name = either(config, "name", "name").as_str();
        let name = name.or_else(|| either(config, "unique_id", "uniq_id").as_str()).unwrap_or("?");
        match entity(name, config, whole) {
            Some(entity) if self.entities.len() < ENTITIES_MAX => {
                let same =
                    |known: &&mut Entity| known.topic == entity.topic && known.path == entity.path;
                match self.entities.iter_mut().find(same) {
                    Some(known) => *known = entity,
                    None => self.entities.push(entity),
                }
            }
            _ if self.left_out.len() < NAMED_MAX
                && !self.left_out.iter().any(|known| known == name) =>
            {
                self.left_out.push(name.to_owned());
            }
            _ => {}
        }
    }

    fn proposal(&self, known: &[String]) -> Option<Proposal> {
        let ours = |entity: &&Entity| !known.iter().any(|topic| belongs(&entity.topic, topic));
        let entities: Vec<&Entity> = self.entities.iter().filter(ours).collect();
        let base = common(entities.iter().map(|entity| entity.topic.as_str()))?;
        let mut proposal = Proposal::new(self.name.clone(), "json");
        proposal.topic = Some(base.clone());
        let mut left_out: Vec<&str> = self.left_out.iter().map(String::as_str).collect();
        for entity in entities {
            let suffix = entity.topic[base.len()..].trim_start_matches('/');
            let place = if suffix.is_empty() {
                format!("{} {}", entity.path, entity.unit)
            } else {
                format!("{suffix}:{} {}", entity.path, entity.unit)
            };
            let place = place.trim_end().to_owned();
            let taken = proposal.mapping.iter().any(|(item, _)| item == entity.item);
            if taken || Place::parse(entity.item, &place).is_err() {
                left_out.push(&entity.name);
                continue;
            }
            proposal.mapping.push((entity.item.to_owned(), place));
            if let Some((topic, online, offline)) = &entity.availability
                && proposal.options.is_empty()
            {
                proposal = proposal.option("availability", topic);
                if (online.as_str(), offline.as_str()) != ("online", "offline") {
                    proposal = proposal.option("online", online).option("offline", offline);
                }
            }
        }
        left_out.truncate(NAMED_MAX);
        if !left_out.is_empty() {
            proposal = proposal.note(format!("left out: {}", left_out.join(", ")));
        }
        (!proposal.mapping.is_empty()).then_some(proposal)
    }
}

/// A field by its long or its short name.
fn either<'a>(config: &'a Value, long: &str, short: &str) -> &'a Value {
    config.get(long).unwrap_or(&config[short])
}

/// The first identifier of a device.
fn identity(device: &Value) -> Option<String> {
    let identifiers = either(device, "identifiers", "ids");
    let first = identifiers.as_str().or_else(|| identifiers[0].as_str());
    first.or_else(|| either(device, "name", "name").as_str()).map(str::to_owned)
}

fn entity(name: &str, config: &Value, whole: &Value) -> Option<Entity> {
    let base = config["~"].as_str().or_else(|| whole["~"].as_str()).unwrap_or_default();
    let topic = |value: &Value| value.as_str().map(|topic| with_base(topic, base));
    let own = topic(either(config, "state_topic", "stat_t"));
    let topic_of_all = || topic(either(whole, "state_topic", "stat_t"));
    let state_topic = own.or_else(topic_of_all)?;
    let class = either(config, "device_class", "dev_cla").as_str()?;
    let &(_, item) = CLASSES.iter().find(|(known, _)| *known == class)?;
    let path = path(either(config, "value_template", "val_tpl").as_str())?;
    let unit = either(config, "unit_of_measurement", "unit_of_meas").as_str().unwrap_or_default();
    let availability = [config, whole].into_iter().find_map(|config| availability(config, base));
    Some(Entity {
        name: name.to_owned(),
        topic: state_topic,
        item,
        path,
        unit: spelled(unit).to_owned(),
        availability,
    })
}

/// Topic and the words for there and not there.
fn availability(config: &Value, base: &str) -> Option<(String, String, String)> {
    let list = either(config, "availability", "avty");
    let entry = if list.is_array() { &list[0] } else { list };
    let topic = either(config, "availability_topic", "avty_t").as_str();
    let topic = topic.or_else(|| either(entry, "topic", "t").as_str())?;
    let word = |long, short, absent: &str| {
        let word =
            either(entry, long, short).as_str().or_else(|| either(config, long, short).as_str());
        word.unwrap_or(absent).to_owned()
    };
    let online = word("payload_available", "pl_avail", "online");
    Some((with_base(topic, base), online, word("payload_not_available", "pl_not_avail", "offline")))
}

/// `~` at either end stands for the base topic.
fn with_base(topic: &str, base: &str) -> String {
    match (topic.strip_prefix('~'), topic.strip_suffix('~')) {
        (Some(rest), _) => format!("{base}{rest}"),
        (None, Some(rest)) => format!("{rest}{base}"),
        (None, None) => topic.to_owned(),
    }
}

/// The path of a template that is nothing but a path, with at most a rounding behind it.
fn path(template: Option<&str>) -> Option<String> {
    let Some(template) = template else { return Some(".".to_owned()) };
    let inner = template.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    let mut parts = inner.split('|').map(str::trim);
    let value = parts.next()?;
    let harmless = |filter: &str| {
        let name = filter.split('(').next().unwrap_or_default();
        matches!(name, "float" | "int" | "round")
    };
    if !parts.all(harmless) {
        return None;
    }
    if value == "value" {
        return Some(".".to_owned());
    }
    let mut rest = value.strip_prefix("value_json")?;
    let mut path = String::new();
    while !rest.is_empty() {
        let (key, after) = if let Some(after) = rest.strip_prefix('.') {
            after.split_at(after.find(['.', '[']).unwrap_or(after.len()))
        } else {
            let (inside, after) = rest.strip_prefix('[')?.split_once(']')?;
            (inside.trim(), after)
        };
        rest = after;
        let plain = |key: &str| {
            !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || "_-".contains(c))
        };
        let bare = key.trim_matches(['\'', '"']);
        if key.chars().all(|c| c.is_ascii_digit()) && !key.is_empty() {
            path.push_str(&format!("[{key}]"));
        } else if plain(bare) {
            path.extend([if path.is_empty() { "" } else { "." }, bare]);
        } else {
            // Arithmetic and the like end here; keys with colons and dots do not.
            let harmless = bare.chars().all(|c| c.is_alphanumeric() || "_-:. ".contains(c));
            if bare.len() + 2 != key.len() || !harmless {
                return None;
            }
            path.push_str(&format!("{}\"{bare}\"", if path.is_empty() { "" } else { "." }));
        }
    }
    (!path.is_empty()).then_some(path)
}

/// A unit as andon spells it.
fn spelled(unit: &str) -> &str {
    match unit {
        "hPa" => "mbar",
        "μg/m³" => "µg/m³",
        "dBA" | "dB(A)" => "dB",
        unit => unit,
    }
}

/// Whether a topic is one of a known device's: below its topic, or with it as a level of its own.
fn belongs(topic: &str, known: &str) -> bool {
    let below =
        topic.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    below || (!known.contains('/') && topic.split('/').any(|level| level == known))
}

/// The levels that all topics begin with; `None` when there is none.
fn common<'a>(mut topics: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut levels: Vec<&str> = topics.next()?.split('/').collect();
    for topic in topics {
        let same = levels.iter().zip(topic.split('/')).take_while(|(a, b)| **a == *b).count();
        levels.truncate(same);
    }
    (!levels.is_empty()).then(|| levels.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_templates_that_are_paths_are_taken() {
        for (template, expected) in [
            (None, Some(".")),
            (Some("{{ value }}"), Some(".")),
            (Some("{{ value | float }}"), Some(".")),
            (Some("{{ value_json.a.b }}"), Some("a.b")),
            (Some("{{value_json['ENERGY'].Power|round(1)}}"), Some("ENERGY.Power")),
            (Some("{{ value_json.list[2].x }}"), Some("list[2].x")),
            (Some("{{ value_json['em:0'].power }}"), Some("\"em:0\".power")),
            (Some("{{ value_json.a / 10 }}"), None),
            (Some("{{ value_json.a | default('x') }}"), None),
            (Some("{% if value %}1{% endif %}"), None),
            (Some("{{ value_json }}"), None),
            (Some("{{ value_json.a if value_json.b else 0 }}"), None),
            (Some("{{ states('x') }}"), None),
        ] {
            assert_eq!(path(template).as_deref(), expected, "{template:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_template_makes_it_panic(template in "\\{\\{ ?value_json[a-z0-9.\\[\\]'\" |()/]{0,20}\\}\\}|\\PC{0,30}") {
            if let Some(path) = path(Some(&template)) {
                // What is taken over is always readable.
                let _ = Place::parse("power.active", &format!("{path} W"));
            }
        }
    }
}

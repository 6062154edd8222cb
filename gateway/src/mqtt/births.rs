//! What each machine has, as its retained birth. Made when it is to be sent, and not kept: a large
//! shop has a hundred thousand items.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::config::plan::Plan;
use crate::wire::{Birth, BirthItem, VERSION};

/// No source.
const NOWHERE: u32 = u32::MAX;

/// A source, and how it is understood.
struct Origin {
    source: Arc<str>,
    speaks: Speaks,
}

enum Speaks {
    Profile(Arc<str>),
    Protocol(Arc<str>),
}

/// The births of a plan's machines.
pub(super) struct Births {
    plan: Arc<Plan>,
    machines: BTreeMap<Arc<str>, usize>,
    /// Positions of each machine's items.
    items: Vec<Range<usize>>,
    /// The units of buses and the devices with a protocol of their own.
    origins: Vec<Origin>,
    /// Of each item, the position of its origin.
    origin: Vec<u32>,
}

impl Births {
    pub(super) fn new(plan: &Arc<Plan>) -> Self {
        let mut origins = Vec::new();
        let mut origin = vec![NOWHERE; plan.engine.items.len()];
        for unit in plan.buses.iter().flat_map(|bus| &bus.units) {
            let position = u32::try_from(origins.len()).unwrap_or(NOWHERE);
            let speaks = Speaks::Profile(super::profile_id(unit));
            origins.push(Origin { source: Arc::clone(&unit.source), speaks });
            for fed in unit.polls.iter().flat_map(|poll| poll.fed.all()) {
                origin[fed.0 as usize] = position;
            }
        }
        for device in &plan.devices {
            let position = u32::try_from(origins.len()).unwrap_or(NOWHERE);
            let speaks = Speaks::Protocol(device.protocol.name.into());
            origins.push(Origin { source: Arc::clone(&device.source), speaks });
            for fed in device.feeds.iter().flat_map(|(_, fed)| fed) {
                origin[fed.0 as usize] = position;
            }
        }
        let mut items = vec![0..0; plan.engine.machines.len()];
        for (index, item) in plan.engine.items.iter().enumerate() {
            let span: &mut Range<usize> = &mut items[usize::from(item.machine.0)];
            *span = if span.end == 0 { index..index + 1 } else { span.start..index + 1 };
        }
        let ids = plan.engine.machines.iter().map(|machine| Arc::clone(&machine.id));
        let machines = ids.zip(0..).collect();
        Self { plan: Arc::clone(plan), machines, items, origins, origin }
    }

    pub(super) fn knows(&self, machine: &str) -> bool {
        self.machines.contains_key(machine)
    }

    pub(super) fn machines(&self) -> impl Iterator<Item = &Arc<str>> {
        self.machines.keys()
    }

    /// What a machine has; nothing of one that the plan has not.
    pub(super) fn of(&self, machine: &str) -> Option<Birth> {
        let index = *self.machines.get(machine)?;
        let face = self.plan.machines.get(index)?;
        let positions = self.items.get(index)?.clone();
        let items = positions.zip(&self.plan.engine.items[self.items[index].clone()]);
        let items = items.filter(|(_, item)| usize::from(item.machine.0) == index);
        let items = items.map(|(position, item)| {
            let from = self.origin.get(position).and_then(|at| self.origins.get(*at as usize));
            let (profile, protocol) = match from.map(|from| &from.speaks) {
                Some(Speaks::Profile(profile)) => (Some(Arc::clone(profile)), None),
                Some(Speaks::Protocol(protocol)) => (None, Some(Arc::clone(protocol))),
                None => (None, None),
            };
            let born = BirthItem {
                unit: item.item.unit.symbol().to_owned(),
                period_ms: millis(item.period),
                stale_after_ms: millis(item.stale_after),
                source: from.map(|from| Arc::clone(&from.source)),
                profile,
                protocol,
            };
            (Arc::clone(&item.item.name), born)
        });
        let (name, kind) = (face.name.clone(), face.kind.clone());
        Some(Birth { v: VERSION, name, kind, items: items.collect() })
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::fake::folder;

    const SHOP: &str = r#"
site = { id = "lab", time_zone = "UTC" }
bus.panel = { type = "modbus-tcp", host = "127.0.0.1" }
[source.air]
bus = "panel"
unit_id = 5
profile = "waveshare/analog-input-8ch-current"
[machine.air]
kind = "compressor"
[machine.air.items]
"pressure" = { from = "air.loop.1", at_4ma = "0 bar", at_20ma = "10 bar" }
"loop.2" = "air.loop.2"
"#;

    #[test]
    fn a_quantity_of_a_loop_names_the_unit_that_it_is_read_from_as_any_other_item() {
        let file = folder("births").join("andon.toml");
        std::fs::write(&file, SHOP).unwrap();
        let plan = crate::config::load_with(&file, std::iter::empty()).unwrap().plan;
        let birth = Births::new(&Arc::new(plan)).of("air").unwrap();
        for (item, symbol) in [("pressure", "Pa"), ("loop.2", "A")] {
            let born = &birth.items[item];
            assert_eq!(born.unit, symbol, "{item}");
            assert_eq!(born.source.as_deref(), Some("air"), "{item}");
            assert_eq!(born.profile.as_deref(), Some("waveshare/analog-input-8ch-current"));
        }
    }

    #[test]
    fn an_item_of_a_controller_names_its_source_and_what_that_speaks() {
        let shop = format!(
            "{SHOP}[source.voron]\nprotocol = \"moonraker\"\nhost = \"voron.local\"\n\
             [machine.voron]\nkind = \"fdm-printer\"\nsource = \"voron\"\n"
        );
        let file = folder("births-protocol").join("andon.toml");
        std::fs::write(&file, shop).unwrap();
        let plan = crate::config::load_with(&file, std::iter::empty()).unwrap().plan;
        let births = Births::new(&Arc::new(plan));
        let items = births.of("voron").unwrap().items;
        assert!(items.len() > 3, "{items:?}");
        for (item, born) in items {
            assert_eq!(born.source.as_deref(), Some("voron"), "{item}");
            assert_eq!(born.protocol.as_deref(), Some("moonraker"), "{item}");
            assert_eq!(born.profile, None, "{item}");
        }
        assert_eq!(births.of("air").unwrap().items["pressure"].protocol, None);
    }
}

//! When values of a machine can have grown old, so that a tick looks at those machines alone and
//! not at every item of the shop ten times a second.
//!
//! A due moment is never late and may be early: good values push the real one away all the time,
//! and are only noted when none was known. Bounded by the plan.

use std::ops::Range;

use crate::plan::{MachineIndex, Plan};
use crate::time::BootTime;

/// No value that could grow old.
const NEVER: BootTime = BootTime(u64::MAX);

/// Of each machine.
#[derive(Debug)]
pub(crate) struct Aging(Vec<Span>);

#[derive(Clone, Debug)]
struct Span {
    /// Positions of its items in the plan.
    items: Range<usize>,
    /// No value of it is stale up to here.
    due: BootTime,
}

impl Aging {
    /// Nothing has a value yet.
    pub(crate) fn new(plan: &Plan) -> Self {
        let mut spans = vec![Span { items: 0..0, due: NEVER }; plan.machines.len()];
        for (index, item) in plan.items.iter().enumerate() {
            let items = &mut spans[usize::from(item.machine.0)].items;
            *items = if items.end == 0 { index..index + 1 } else { items.start..index + 1 };
        }
        Self(spans)
    }

    /// A value of the machine is fresh until then.
    pub(crate) fn fresh(&mut self, machine: MachineIndex, until: BootTime) {
        let due = &mut self.0[usize::from(machine.0)].due;
        *due = until.min(*due);
    }

    /// The items to look at when some may be stale at `now`. Whoever looks says with
    /// [`Aging::fresh`] how long those stay fresh that are.
    pub(crate) fn take_due(&mut self, machine: usize, now: BootTime) -> Option<Range<usize>> {
        let span = self.0.get_mut(machine).filter(|span| now > span.due)?;
        span.due = NEVER;
        Some(span.items.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::item::Item;
    use crate::plan::{ItemPlan, MachinePlan, Measurand};

    #[test]
    fn a_machine_is_looked_at_once_its_first_value_may_be_stale_and_then_not_before_the_next() {
        let item = |machine| {
            ItemPlan::new(
                MachineIndex(machine),
                Measurand::every(Item::named("voltage").unwrap(), Duration::from_secs(1)),
            )
        };
        let machine = |id: &str| MachinePlan { id: id.into(), activity: Vec::new(), energy: None };
        let plan = Plan {
            machines: vec![machine("a"), machine("b")],
            items: vec![item(0), item(1), item(1)],
            ..Plan::default()
        };
        let mut aging = Aging::new(&plan);
        assert_eq!(aging.take_due(1, BootTime(1000)), None);
        aging.fresh(MachineIndex(1), BootTime(70));
        aging.fresh(MachineIndex(1), BootTime(50));
        assert_eq!(aging.take_due(1, BootTime(50)), None);
        assert_eq!(aging.take_due(1, BootTime(51)), Some(1..3));
        assert_eq!(aging.take_due(1, BootTime(1000)), None);
        assert_eq!(aging.take_due(0, BootTime(1000)), None);
    }
}

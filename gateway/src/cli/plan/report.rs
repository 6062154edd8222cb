//! What `andon plan` prints of buses and devices: a table for a person, or JSON. Pure; what to do about
//! a bus that is asked for too much is `verdict`'s.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::asking::lasting;
use super::propose::Proposal;
use super::{Judged, Turnaround};
use crate::bus::load::{BusLoad, ItemLoad, SourceLoad};
use crate::bus::timing::TURNAROUND_MAX;
use crate::config::plan::{DevicePlan, Link};

pub(super) fn as_table(judged: &[Judged<'_>], items: bool) -> String {
    let mut text = String::new();
    for it in judged {
        let Judged { bus, load, turnarounds, learned, .. } = it;
        let measured = it.count(Turnaround::Measured);
        let of = bus.units.len();
        let _ = writeln!(
            text,
            "bus {:<20} {:>6.1} % busy   {:>7.1} reads/s   worst age {}{:.1} s   turnaround measured of \
             {measured} of {of}",
            &*bus.id,
            load.occupancy * 100.0,
            load.reads_per_second,
            about(load),
            load.worst_age.as_secs_f64()
        );
        if *learned < of {
            let _ = writeln!(
                text,
                "  registers that a device refuses are found when it runs; its reads are then parted, \
                 and more than here"
            );
        }
        let patience = TURNAROUND_MAX.max(bus.turnaround);
        if matches!(bus.link, Link::Tcp { baud: None, .. }) && it.count(Turnaround::Assumed) > 0 {
            let _ = writeln!(
                text,
                "  where a serial line is behind this address, a read takes as long as it takes there: \
                 at 9600 baud some 110 ms for 40 registers; name its speed with baud = … in [bus.{}], or \
                 andon measures it in its first minute; where it takes more than {}, turnaround must say so",
                bus.id,
                lasting(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX))
            );
        }
        let sources = load.sources.iter().zip(turnarounds);
        for (SourceLoad { source, occupancy, turnaround, items: all }, from) in sources {
            let answer = turnaround.as_secs_f64() * 1e3;
            let share = occupancy * 100.0;
            let from = match from {
                Turnaround::Measured => "",
                Turnaround::Assumed => " (assumed)",
                Turnaround::Given => " (given)",
            };
            let _ = writeln!(
                text,
                "  {source:<22} {share:>6.1} % of the bus   answers after {answer:.1} ms{from}"
            );
            for item in all.iter().filter(|_| items) {
                let (period, age) = (item.period.as_secs_f64(), item.worst_age.as_secs_f64());
                let _ = write!(
                    text,
                    "    {:<24} every {period} s   worst age {}{age:.1} s   in {}",
                    &*item.item,
                    about(load),
                    item.read
                );
                let _ = match item.shared {
                    Some(shared) => writeln!(text, ", or in {shared} with others"),
                    None => writeln!(text),
                };
            }
        }
    }
    text
}

/// What stands before an age that is no bound.
fn about(load: &BusLoad) -> &'static str {
    if load.fits() { "" } else { "about " }
}

/// The greatest age of what a device with a protocol of its own says, while it answers: it was said
/// just after it was asked for, and comes late by a period at most.
fn device_age(device: &DevicePlan) -> Duration {
    device.period * 2
}

/// Devices with a protocol of their own share no line: they have a period and no occupancy.
pub(super) fn devices(plans: &[DevicePlan]) -> String {
    let mut text = String::new();
    for device in plans {
        let (source, protocol) = (&*device.source, device.protocol.name);
        let (period, age) = (device.period.as_secs_f64(), device_age(device).as_secs_f64());
        let _ = writeln!(
            text,
            "device {source:<17} {protocol:<18} every {period:.1} s   worst age {age:.1} s"
        );
    }
    text
}

pub(super) fn as_json(judged: &[Judged<'_>], plans: &[DevicePlan]) -> String {
    let buses: Vec<Value> = judged
        .iter()
        .map(|it| {
            let Judged { bus, load, turnarounds, proposal, .. } = it;
            let sources = load.sources.iter().zip(turnarounds);
            let sources = sources.map(|(source, from)| source_json(source, *from));
            json!({
                "bus": &*bus.id,
                "occupancy": load.occupancy,
                "fits": load.fits(),
                "guaranteed": load.guaranteed,
                "reads_per_second": load.reads_per_second,
                "worst_age_s": load.worst_age.as_secs_f64(),
                "worst_age_is": if load.fits() { "bound" } else { "estimate" },
                "turnaround_measured": it.count(Turnaround::Measured),
                "sources": sources.collect::<Vec<_>>(),
                "proposal": proposal.as_ref().map(proposal_json),
            })
        })
        .collect();
    let devices: Vec<_> = plans
        .iter()
        .map(|device| {
            json!({
                "source": &*device.source,
                "protocol": device.protocol.name,
                "period_s": device.period.as_secs_f64(),
                "worst_age_s": device_age(device).as_secs_f64(),
            })
        })
        .collect();
    format!("{}\n", json!({ "buses": buses, "devices": devices }))
}

fn source_json(source: &SourceLoad, from: Turnaround) -> Value {
    let item = |item: &ItemLoad| {
        json!({
            "item": &*item.item,
            "period_s": item.period.as_secs_f64(),
            "worst_age_s": item.worst_age.as_secs_f64(),
            "read": item.read.to_string(),
            "shared_read": item.shared.map(|block| block.to_string()),
        })
    };
    json!({
        "source": &*source.source,
        "occupancy": source.occupancy,
        "turnaround_s": source.turnaround.as_secs_f64(),
        "turnaround_is": from.word(),
        "items": source.items.iter().map(item).collect::<Vec<_>>(),
    })
}

fn proposal_json(proposal: &Proposal) -> Value {
    let moves: Vec<Value> = proposal
        .moves
        .iter()
        .map(|it| {
            json!({
                "source": &*it.source,
                "items": it.items.iter().map(|item| &**item).collect::<Vec<_>>(),
                "from_s": it.from.as_secs_f64(),
                "to_s": it.to.as_secs_f64(),
            })
        })
        .collect();
    json!({ "moves": moves, "before": proposal.before, "after": proposal.after })
}

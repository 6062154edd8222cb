//! Which data items of a model are told: those of one device and, where it has several executions
//! (a lathe with two turrets, a cell under one agent), those of one of its paths.
//!
//! More than one execution is never silently the first: without a name the choice is refused, with
//! the names to choose from. What lies neither in the chosen path nor in another one (availability,
//! emergency stop, axes, the controller's conditions) belongs to all.

use std::collections::BTreeSet;

use super::document::{Component, DataItem, Document};

/// Most names that are given in words.
const NAMES_MAX: usize = 8;

/// The data items of the device `wanted` and the path of it, or words for why they are not known.
pub(super) fn of<'a>(
    document: &'a Document,
    wanted: Option<&str>,
    path: Option<&str>,
) -> Result<Vec<&'a DataItem>, String> {
    let device = device(document, wanted)?;
    let components = &*document.components;
    let items: Vec<&DataItem> =
        document.items.iter().filter(|item| item.device == device).collect();
    let executions: Vec<&DataItem> =
        items.iter().copied().filter(|item| item.kind == "EXECUTION").collect();
    let Some(chosen) = execution(components, &executions, path)? else { return Ok(items) };
    let ours = around(components, chosen.component);
    // Where another execution's way down leaves ours, something begins that is not ours.
    let foreign: BTreeSet<usize> = executions
        .iter()
        .filter_map(|other| {
            let theirs = around(components, other.component);
            theirs.into_iter().rev().find(|place| !ours.contains(place))
        })
        .collect();
    let is_ours = |item: &&DataItem| {
        let within = around(components, item.component);
        item.id == chosen.id
            || (item.kind != "EXECUTION" && !within.iter().any(|place| foreign.contains(place)))
    };
    Ok(items.into_iter().filter(is_ours).collect())
}

/// The place of the device that is meant.
fn device(document: &Document, wanted: Option<&str>) -> Result<usize, String> {
    let devices = &document.devices;
    let is_meant =
        |name: &str, uuid: &str| wanted.is_none_or(|wanted| name == wanted || uuid == wanted);
    let mut found =
        (0..devices.len()).filter(|&place| is_meant(&devices[place].name, &devices[place].uuid));
    match (found.next(), found.next()) {
        (Some(device), None) => Ok(device),
        (None, _) => Err(format!("the agent has no device \"{}\"", wanted.unwrap_or(""))),
        (Some(_), Some(_)) => {
            let names = listed(devices.iter().map(|device| &*device.name));
            Err(format!("the agent has several devices; name one: {names}"))
        }
    }
}

/// The execution that is meant, if the device has any.
fn execution<'a>(
    components: &[Component],
    executions: &[&'a DataItem],
    path: Option<&str>,
) -> Result<Option<&'a DataItem>, String> {
    let is_called = |place: usize, name: &str| {
        components.get(place).is_some_and(|it| it.name == name || it.id == name)
    };
    let is_meant = |item: &&&DataItem| {
        path.is_none_or(|name| {
            around(components, item.component).into_iter().any(|place| is_called(place, name))
        })
    };
    let mut found = executions.iter().filter(is_meant);
    let names = || {
        listed(
            executions
                .iter()
                .filter_map(|item| components.get(item.component))
                .map(|it| if it.name.is_empty() { &*it.id } else { &*it.name }),
        )
    };
    match (found.next(), found.next(), path) {
        (found, None, None) => Ok(found.copied()),
        (Some(execution), None, _) => Ok(Some(execution)),
        (Some(_), Some(_), None) => {
            Err(format!("the device has several executions; name one with path: {}", names()))
        }
        (Some(_), Some(_), Some(path)) => {
            Err(format!("there are several executions in \"{path}\"; name one: {}", names()))
        }
        (None, _, Some(path)) if executions.is_empty() => {
            Err(format!("the device has no execution at all, so none in \"{path}\""))
        }
        (None, _, path) => {
            let path = path.unwrap_or("");
            Err(format!("the device has no execution in \"{path}\", but in: {}", names()))
        }
    }
}

/// A component and all that it lies within, inmost first.
fn around(components: &[Component], place: usize) -> Vec<usize> {
    let within = |place: &usize| components.get(*place).and_then(|component| component.within);
    std::iter::successors(Some(place), within).collect()
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.take(NAMES_MAX).collect::<Vec<_>>().join(", ")
}

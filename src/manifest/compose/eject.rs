//! Taking the shim out of services.

use serde_json::Value;

use super::super::document::Document;
use super::super::edit::{Edited, Records};
use super::super::eject::kept_path;
use super::super::names::{ENTRY, ENTRY_LAST, KEPT, VARIABLE};
use super::super::path::Path;
use super::super::remove::{self, Cuts};
use super::environment::{ENTRY_BEHIND_SHELLS, ENVIRONMENT};
use super::{ASIDE, Compose, RESTORE, Refusal, Service, mount, services};
use crate::preload::LD_PRELOAD;

/// A document without the shim.
#[derive(Debug, Default)]
pub(in super::super) struct Ejected {
    pub(in super::super) edited: Option<Edited>,
    pub(in super::super) there: Vec<String>,
    pub(in super::super) chosen: usize,
    /// How many of those that were chosen held the shim.
    pub(in super::super) freed: usize,
}

/// Takes the shim out of the services of a document that are chosen.
///
/// # Errors
/// They are no services, or it cannot be taken out.
pub(in super::super) fn eject(
    document: &Document,
    value: &Value,
    options: &Compose,
) -> Result<Ejected, Refusal> {
    let mut ejected = Ejected::default();
    let mut cuts = Cuts::default();
    for service in services(value)? {
        ejected.there.push(service.name.to_owned());
        if options.chooses(service.name) {
            ejected.chosen += 1;
            ejected.freed += usize::from(cut(value, &service, &mut cuts));
        }
    }
    if !cuts.is_empty() {
        let edited = remove::remove(document, value, cuts);
        ejected.edited = Some(edited.map_err(|fault| (Path::default(), fault))?);
    }
    Ok(ejected)
}

/// Finds all that is ours in a service; gives whether there is something.
fn cut(value: &Value, service: &Service, cuts: &mut Cuts) -> bool {
    let mut records = Records::new();
    let mut is_ours = false;
    if let Some(text) = service.get(RESTORE).as_str() {
        records = serde_json::from_str(text).unwrap_or_default();
        cuts.entry(&service.path, RESTORE);
        is_ours = true;
    }
    let volumes = service.path.then("volumes");
    for (index, one) in service
        .get("volumes")
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        // What its author mounts there would not be written so.
        let is_written_so = |source| mount(source) == *one;
        if one["source"].as_str().is_some_and(is_written_so) {
            cuts.item(&volumes, index);
            is_ours = true;
        }
    }
    let network = service.path.then("network_mode");
    if records.get(&network.written(value)) == Some(&Value::Bool(false)) {
        cuts.entry(&service.path, "network_mode");
    }
    for key in service
        .value
        .as_object()
        .into_iter()
        .flat_map(|map| map.keys())
    {
        if key.starts_with(ASIDE) {
            cuts.key(&service.path, key, ASIDE);
            is_ours = true;
        }
    }
    let path = service.path.then(ENVIRONMENT);
    // Whether a variable is ours or was there, where its value does not tell.
    let recorded = |name: &str| {
        records
            .get(&kept_path(&path, name, value))
            .and_then(Value::as_bool)
    };
    match service.get(ENVIRONMENT) {
        Value::Object(map) => {
            is_ours |= map
                .get(LD_PRELOAD)
                .and_then(Value::as_str)
                .is_some_and(|one| one.contains(ENTRY));
            if is_ours {
                for (name, value) in map {
                    match what(name, value.as_str(), recorded(name)) {
                        Ours::No => {}
                        Ours::All => cuts.entry(&path, name),
                        Ours::Name => cuts.key(&path, name, KEPT),
                        Ours::End => {
                            cuts.texts.insert(path.then(name.as_str()), ENTRY_LAST);
                        }
                    }
                }
            }
        }
        Value::Array(items) => {
            let split = |item: &Value| {
                let item = item.as_str().unwrap_or_default();
                let (name, value) = item.split_once('=').unwrap_or((item, ""));
                (name.to_owned(), value.to_owned())
            };
            is_ours |= items
                .iter()
                .map(split)
                .any(|(name, value)| name == LD_PRELOAD && value.contains(ENTRY));
            if is_ours {
                for (index, item) in items.iter().enumerate() {
                    let (name, value) = split(item);
                    match what(&name, Some(&value), recorded(&name)) {
                        Ours::No => {}
                        Ours::All => cuts.item(&path, index),
                        Ours::Name => {
                            cuts.texts.insert(path.then(index), KEPT);
                        }
                        Ours::End => {
                            cuts.texts.insert(path.then(index), ENTRY_LAST);
                        }
                    }
                }
            }
        }
        _ => {}
    }
    cuts.records.append(&mut records);
    is_ours
}

/// What of a variable is ours.
enum Ours {
    No,
    All,
    /// What stands before its name.
    Name,
    /// What stands behind its value.
    End,
}

fn what(name: &str, value: Option<&str>, recorded: Option<bool>) -> Ours {
    let value = value.unwrap_or_default();
    let kept = name.strip_prefix(KEPT).unwrap_or_default();
    if kept == LD_PRELOAD || kept.starts_with(VARIABLE) {
        Ours::Name
    } else if name.starts_with(VARIABLE) && recorded != Some(true) {
        Ours::All
    } else if name != LD_PRELOAD {
        Ours::No
    } else if value == ENTRY || value == ENTRY_BEHIND_SHELLS || recorded == Some(false) {
        Ours::All
    } else if value.contains(ENTRY_LAST) {
        Ours::End
    } else {
        Ours::No
    }
}

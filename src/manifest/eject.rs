//! Taking the shim out of workloads.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::compose::{self, Compose};
use super::configmap;
use super::edit::Records;
use super::error::Error;
use super::names::{
    DIRECTORY, ENTRY, ENTRY_BEHIND_KEPT, ENTRY_FIRST, ENTRY_LAST, IMAGE, KEPT, RESTORE, SHIM,
    VARIABLE,
};
use super::ours::{self, Ours};
use super::path::{Path, Step};
use super::readable::readable;
use super::reader::Documents;
use super::record;
use super::remove::{self, Cuts};
use super::stream::Draft;
use super::workload::{self, Workload};
use super::{Source, TemplatePath, krm};
use crate::preload::LD_PRELOAD;

/// The rules that a container had, by its name.
pub(super) type Held = HashMap<String, Vec<(String, Value)>>;

/// A stream without the shim, before what nothing uses is taken out.
pub(super) struct Ejected<'s> {
    pub(super) draft: Draft<'s>,
    /// What containers held, by the number of their workload in the stream.
    pub(super) held: HashMap<usize, Held>,
    /// The ConfigMaps that workloads used, and those that some still do.
    pub(super) unused: HashSet<String>,
    pub(super) used: HashSet<String>,
    /// All workloads of the stream, as `KIND/NAME`.
    pub(super) there: Vec<String>,
    /// All services of it, by name.
    pub(super) services: Vec<String>,
    /// How many of both were chosen.
    pub(super) chosen: usize,
    /// How many services held the shim.
    pub(super) freed: usize,
}

/// Takes the shim out of the workloads that `chooses` holds for. Unless that is for
/// good, the ConfigMaps among the items of a ResourceList that carry the shim of today
/// stay there.
///
/// # Errors
/// The input is no YAML, or the shim cannot be taken out.
pub(super) fn eject<'s>(
    source: &'s Source,
    templates: &[TemplatePath],
    compose: &Compose,
    is_for_good: bool,
    chooses: impl Fn(&Workload) -> bool,
) -> Result<Ejected<'s>, Error> {
    let mut ejected = Ejected {
        draft: Draft::new(&source.name, &source.text),
        held: HashMap::new(),
        unused: HashSet::new(),
        used: HashSet::new(),
        there: Vec::new(),
        services: Vec::new(),
        chosen: 0,
        freed: 0,
    };
    let readable = readable(&source.text);
    let mut documents = Documents::new(&source.name, &source.text, &readable);
    while let Some(document) = documents.next()? {
        if compose::is_compose(&document) {
            let value = document.value(document.root);
            let one = compose::eject(&document, &value, compose).map_err(|(path, fault)| {
                Error::at(document.position(&source.name, &path), fault)
            })?;
            ejected.services.extend(one.there);
            ejected.chosen += one.chosen;
            ejected.freed += one.freed;
            ejected.draft.push(&document, one.edited);
            continue;
        }
        if !workload::may_hold(&document, templates) {
            match configmap::name_of_ours(&document) {
                Some(name) => ejected.draft.push_candidate(&document, name),
                None => ejected.draft.push(&document, None),
            }
            continue;
        }
        let value = document.value(document.root);
        let mut cuts = Cuts::default();
        for workload in workload::workloads(&value, templates) {
            let number = ejected.there.len();
            ejected.there.push(workload.title());
            let ours = Ours::of(&value, &workload);
            if !chooses(&workload) {
                ejected.used.extend(ours.configmap);
                continue;
            }
            ejected.chosen += 1;
            let held = cut(&value, &workload, &ours, &mut cuts);
            ejected.unused.extend(ours.configmap);
            if !held.is_empty() {
                ejected.held.insert(number, held);
            }
        }
        if krm::is_list(&document) {
            let items = Path::default().then(krm::ITEMS);
            for (index, name, _, architecture) in krm::configmaps(&value) {
                let is_unused = ejected.unused.contains(name) && !ejected.used.contains(name);
                if is_unused && (is_for_good || architecture.is_none()) {
                    cuts.item(&items, index);
                }
            }
        }
        let edited = if cuts.is_empty() {
            None
        } else {
            let edited = remove::remove(&document, &value, cuts).map_err(|fault| {
                Error::at(document.position(&source.name, &Path::default()), fault)
            })?;
            Some(edited)
        };
        ejected.draft.push(&document, edited);
    }
    Ok(ejected)
}

/// Whether a stream may hold the shim at all, told from its bytes.
pub(super) fn may_hold(text: &str) -> bool {
    text.contains(SHIM) || text.contains(DIRECTORY) || text.contains(RESTORE)
}

/// Finds all that is ours in a workload, and gives the rules of its containers.
fn cut(value: &Value, workload: &Workload, ours: &Ours, cuts: &mut Cuts) -> Held {
    let mut held = Held::new();
    let annotations = workload.object.keys("metadata.annotations");
    let restore = annotations.then(RESTORE);
    let mut records = Records::new();
    if let Some(text) = restore.get(value).and_then(Value::as_str) {
        records = serde_json::from_str(text).unwrap_or_default();
        cuts.entry(&annotations, RESTORE);
    }
    for path in ours.volumes.iter().chain(&ours.init) {
        if let (list, Some(Step::Index(index))) = path.split() {
            cuts.item(&list, *index);
        }
    }
    let copies = record::undo(value, &records, cuts);
    for name in ["containers", "initContainers"] {
        let containers = workload.spec.then(name);
        for (index, container) in list(value, &containers).iter().enumerate() {
            let path = containers.then(index);
            if ours.init.contains(&path) || copies.contains(&path) {
                continue;
            }
            if let Some(rules) = cut_container(value, &path, ours, &records, cuts) {
                let name = container.get("name").and_then(Value::as_str);
                held.insert(name.unwrap_or_default().to_owned(), rules);
            }
        }
    }
    cuts.records.append(&mut records);
    held
}

/// The same of one container; `None` where the shim is not in it.
fn cut_container(
    value: &Value,
    container: &Path,
    ours: &Ours,
    records: &Records,
    cuts: &mut Cuts,
) -> Option<Vec<(String, Value)>> {
    let mut is_ours = false;
    let mounts = container.then("volumeMounts");
    for index in 0..list(value, &mounts).len() {
        if ours.mounts.contains(&mounts.then(index)) {
            cuts.item(&mounts, index);
            is_ours = true;
        }
    }
    let env = container.then("env");
    let variables = list(value, &env);
    let text = |variable: &Value| {
        let text = variable.get("value").and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let own = container.get(value).unwrap_or(&Value::Null);
    is_ours |= ours::is_preloaded(own) && !ours::is_hidden(own);
    if !is_ours {
        return None;
    }
    let mut rules = Vec::new();
    for (index, variable) in variables.iter().enumerate() {
        let Some(name) = variable.get("name").and_then(Value::as_str) else {
            continue;
        };
        let path = env.then(index);
        if name == LD_PRELOAD {
            let written = text(variable);
            let joined = records
                .get(&kept_path(&env, name, value))
                .and_then(|record| record.get(IMAGE)?.as_str());
            let is_joined = joined.is_some_and(|one| written.strip_suffix(ENTRY_LAST) == Some(one));
            if written == ENTRY || written == ENTRY_BEHIND_KEPT || is_joined {
                cuts.item(&env, index);
            } else if written.contains(ENTRY_LAST) {
                cuts.texts.insert(path.then("value"), ENTRY_LAST);
            } else if written.contains(ENTRY_FIRST) {
                cuts.texts.insert(path.then("value"), ENTRY_FIRST);
            }
        } else if is_kept(name) {
            cuts.texts.insert(path.then("name"), KEPT);
        } else if name.starts_with(VARIABLE) {
            // It may have been there before.
            let is_theirs = records.get(&kept_path(&env, name, value)) == Some(&Value::Bool(true));
            if !is_theirs {
                cuts.item(&env, index);
                rules.push((name.to_owned(), Value::String(text(variable))));
            }
        }
    }
    Some(rules)
}

/// Whether a variable was given that name to be kept.
fn is_kept(name: &str) -> bool {
    name.strip_prefix(KEPT)
        .is_some_and(|name| name == LD_PRELOAD || name.starts_with(VARIABLE))
}

/// The path in records of a variable that was there before: by its name, whatever
/// stands before it, and however often.
pub(super) fn kept_path(env: &Path, name: &str, value: &Value) -> String {
    env.then(format!("name={name}").as_str()).written(value)
}

fn list<'v>(value: &'v Value, path: &Path) -> &'v [Value] {
    match path.get(value) {
        Some(Value::Array(items)) => items,
        _ => &[],
    }
}

//! What a workload loses by the additions to it, held in an annotation of its own:
//! a mapping from written paths to
//!
//! - text that stood there, or null, see [`Records`];
//! - `{"was": text, "value": value, "now": value}` where a value took the place of
//!   another, with the text of the other from behind its colon, and `"merged": true`
//!   where that came by a merge key;
//! - `{"now": value}` where an entry was added;
//! - `{"copy": true}` where an item of a list is one of the shards;
//! - `{"image": text}` where the image's own `LD_PRELOAD` was joined;
//! - true where a variable of the shim's was there before.
//!
//! What is not what it became by us any more, its author has edited: that stays.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::edit::{self, Change, Records};
use super::eject;
use super::error::{Error, Fault};
use super::inject::wrong;
use super::names::{RESTORE, VARIABLE};
use super::path::{Path, Step};
use super::place::Place;
use super::remove::Cuts;

/// The record of a value that took the place of `old`, whose text was `text`.
pub(super) fn replaced(text: &str, old: &Value, new: &Value) -> Value {
    json!({"was": text, "value": old, "now": new})
}

/// Makes it the record of a value that a merge key brings in.
pub(super) fn mark_merged(replaced: &mut Map<String, Value>) {
    replaced.insert("merged".into(), true.into());
}

/// Whether a merge key may bring in what there was before.
pub(super) fn is_merged(record: &Value) -> bool {
    record.is_null() || record.get("merged") == Some(&Value::Bool(true))
}

/// The record of an added entry.
pub(super) fn added(new: &Value) -> Value {
    json!({"now": new})
}

/// The record of an added item.
pub(super) fn copied() -> Value {
    json!({"copy": true})
}

/// Finds what `records` of `value` say how to undo; gives the items that go.
pub(super) fn undo(value: &Value, records: &Records, cuts: &mut Cuts) -> HashSet<Path> {
    let mut copies = HashSet::new();
    for (written, record) in records {
        let Some(record) = record.as_object() else {
            continue;
        };
        let Some(path) = Path::of(written, value) else {
            continue;
        };
        let (parent, last) = path.split();
        if record.get("copy") == Some(&Value::Bool(true)) {
            if let Some(Step::Index(index)) = last {
                cuts.item(&parent, *index);
                copies.insert(path);
            }
            continue;
        }
        if record.get("now").is_none() || record.get("now") != path.get(value) {
            continue;
        }
        match (
            record.get("was").and_then(Value::as_str),
            record.get("value"),
        ) {
            (Some(was), Some(old)) => {
                let was = (was.to_owned(), old.clone());
                cuts.replaced.insert(path, was);
            }
            _ => {
                if let Some(Step::Key(key)) = last {
                    cuts.entry(&parent, key);
                }
            }
        }
    }
    copies
}

impl Place<'_, '_> {
    /// Adds to `changes` of a workload the annotation that says what they lose, and
    /// what else is in `more`.
    pub(super) fn record(&self, changes: &mut Vec<Change>, more: Records) -> Result<(), Error> {
        let object = &self.workload.object;
        let error = |fault| self.error(object, fault);
        let kept = self.kept(changes);
        let mut records = edit::records(self.document, self.value, changes).map_err(error)?;
        records.extend(kept);
        records.extend(more);
        if records.is_empty() {
            return Ok(());
        }
        // The annotation itself may be put where something has to make way.
        let place = |text: String| annotation(self.value, object, text);
        let change = place(String::new()).map_err(|(path, fault)| self.error(&path, fault))?;
        let own = edit::records(self.document, self.value, &[change]).map_err(error)?;
        records.extend(own);
        let text = serde_json::to_string(&records).expect("JSON");
        changes.push(place(text).map_err(|(path, fault)| self.error(&path, fault))?);
        Ok(())
    }

    /// The variables of the shim's that were there before, and stay what they are.
    fn kept(&self, changes: &[Change]) -> Records {
        let mut records = Records::new();
        let renamed: HashSet<&Path> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Prefix { at, .. } => Some(at),
                _ => None,
            })
            .collect();
        let mut seen = HashSet::new();
        for change in changes {
            let env = match change {
                Change::Items { list, .. } if list.0.last() == Some(&"env".into()) => list.clone(),
                Change::Suffix { at, .. } => Path(at.0[..at.0.len() - 2].to_vec()),
                _ => continue,
            };
            if !seen.insert(env.clone()) {
                continue;
            }
            let variables = env.get(self.value).and_then(Value::as_array);
            for (index, variable) in variables.into_iter().flatten().enumerate() {
                let name = variable.get("name").and_then(Value::as_str);
                if let Some(name) = name.filter(|name| name.starts_with(VARIABLE))
                    && !renamed.contains(&env.then(index).then("name"))
                {
                    let path = eject::kept_path(&env, name, self.value);
                    records.insert(path, Value::Bool(true));
                }
            }
        }
        records
    }
}

/// The annotation that holds what was lost.
fn annotation(value: &Value, object: &Path, text: String) -> Result<Change, (Path, Fault)> {
    let metadata = object.then("metadata");
    let annotations = metadata.then("annotations");
    let entry = json!({RESTORE: text});
    match metadata.get(value) {
        None => Ok(Change::Entry {
            map: object.clone(),
            key: "metadata",
            value: json!({"annotations": entry}),
        }),
        Some(Value::Object(map)) if !map.is_empty() => match annotations.get(value) {
            None => Ok(Change::Entry {
                map: metadata,
                key: "annotations",
                value: entry,
            }),
            Some(Value::Object(map)) if !map.is_empty() => Ok(Change::Entry {
                map: annotations,
                key: RESTORE,
                value: text.into(),
            }),
            Some(Value::Null | Value::Object(_)) => Ok(Change::Fill {
                at: annotations,
                value: entry,
            }),
            Some(other) => Err(wrong(annotations, "mapping", other)),
        },
        Some(Value::Null | Value::Object(_)) => Ok(Change::Fill {
            at: metadata,
            value: json!({"annotations": entry}),
        }),
        Some(other) => Err(wrong(metadata, "mapping", other)),
    }
}

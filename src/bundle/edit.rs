//! What is put into the tree of `config.json`, and taken out again.

use std::ffi::OsString;
use std::path::Path;

use serde_json::{Value, json};

use super::EDITED;
use crate::image::edit::environment;
use crate::image::layer::{SHIM, SHIM_DIRECTORY};
use crate::preload::LD_PRELOAD;
use crate::rules::Assignments;

/// The annotation that holds what was there before.
const RESTORE: &str = "reuseport.dev/restore";

pub(super) fn is_at_our_place(mount: &Value) -> bool {
    let path = mount["destination"].as_str().unwrap_or_default();
    path.trim_end_matches('/') == SHIM_DIRECTORY
}

pub(super) fn is_our_mount(mount: &Value) -> bool {
    is_at_our_place(mount) && mount["type"] == "bind"
}

pub(super) fn has_shim(tree: &Value) -> bool {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let env = list(&tree["process"]["env"]);
    let preload = environment::get(&env, LD_PRELOAD).unwrap_or_default();
    list(&tree["mounts"]).iter().any(is_our_mount)
        || preload.split([' ', ':']).any(|entry| entry == SHIM)
}

/// The list `name` of `object`, made where it is missing.
fn list<'a>(object: &'a mut Value, name: &str) -> &'a mut Vec<Value> {
    let list = &mut object[name];
    if !list.is_array() {
        *list = json!([]);
    }
    match list {
        Value::Array(list) => list,
        _ => unreachable!("it was made a list"),
    }
}

/// `base` with the shim.
pub(super) fn inject(base: &Value, shim: &Path, rules: &Assignments, first: &[OsString]) -> Value {
    let mut new = base.clone();
    environment::inject(list(&mut new["process"], "env"), rules, first);
    let source = shim.parent().unwrap_or(Path::new("/"));
    list(&mut new, "mounts").push(json!({
        "destination": SHIM_DIRECTORY,
        "type": "bind",
        "source": source.to_string_lossy(),
        "options": ["bind", "ro", "nosuid", "nodev"],
    }));
    new
}

/// What was written down of a member: its text, and where it belongs.
type Before = (&'static [&'static str], String);

/// `tree` without the shim, and the texts of the members that are as they were.
pub(super) fn eject(tree: &Value) -> (Value, Vec<Before>) {
    let mut new = tree.clone();
    let restore = restore(&mut new);
    if !has_shim(&new) {
        return (tree.clone(), Vec::new());
    }
    let mut mounts: Vec<Value> = new["mounts"].as_array().cloned().unwrap_or_default();
    mounts.retain(|mount| !is_our_mount(mount));
    let with_shim = new["process"]["env"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let mut env = with_shim.clone();
    environment::eject(&mut env);
    // What was written down holds where nobody has changed anything since.
    let is_env = |old: &Value| {
        let mut again = old.as_array().cloned().unwrap_or_default();
        let rules = environment::rules(&with_shim);
        let first = environment::first(&with_shim, environment::get(&again, LD_PRELOAD));
        environment::inject(&mut again, &rules, &first);
        again == with_shim
    };
    let is_mounts = |old: &Value| old.as_array().cloned().unwrap_or_default() == mounts;
    let rest = &new["annotations"];
    let is_annotations = |old: &Value| {
        let old = old.as_object().cloned().unwrap_or_default();
        rest.as_object().cloned().unwrap_or_default() == old
    };
    let checks: [&dyn Fn(&Value) -> bool; 3] = [&is_env, &is_mounts, &is_annotations];
    let fallbacks = [
        Some(Value::from(env)),
        new.get("mounts").map(|_| mounts.clone().into()),
        new.get("annotations").cloned(),
    ];
    let mut values = Vec::new();
    let mut texts = Vec::new();
    for ((path, check), fallback) in EDITED.into_iter().zip(checks).zip(fallbacks) {
        let old = restore.as_ref().and_then(|one| written(one, path));
        values.push(match old {
            Some(Written::Absent) if check(&Value::Null) => None,
            Some(Written::Text(text, value)) if check(&value) => {
                texts.push((path, text));
                Some(value)
            }
            _ => fallback,
        });
    }
    for (path, value) in EDITED.into_iter().zip(values) {
        put(&mut new, path, value);
    }
    (new, texts)
}

/// What was written down of a member.
enum Written {
    /// That it was not there.
    Absent,
    /// Its text, and the value that this says.
    Text(String, Value),
}

fn written(restore: &Value, path: &[&str]) -> Option<Written> {
    let list = restore.get(path.last()?)?.as_array()?;
    let Some(text) = list.first() else {
        return Some(Written::Absent);
    };
    let text = text.as_str()?;
    let value = serde_json::from_str(text).ok()?;
    Some(Written::Text(text.to_owned(), value))
}

/// Gives the member at `path` this value, or takes it out where there is none.
fn put(tree: &mut Value, path: &[&str], value: Option<Value>) {
    let Some((name, above)) = path.split_last() else {
        return;
    };
    let object = above.iter().try_fold(tree, |one, name| one.get_mut(*name));
    if let Some(Value::Object(members)) = object {
        match value {
            Some(value) => members.insert((*name).to_owned(), value),
            None => members.shift_remove(*name),
        };
    }
}

/// `tree` with an annotation that holds the texts of the members [`EDITED`]: one
/// each, or none where it was not there.
pub(super) fn with_restore(mut tree: Value, texts: &[Value]) -> Value {
    let names = EDITED.iter().filter_map(|path| path.last());
    let names = names.map(|name| (*name).to_owned());
    let restore: Value = names.zip(texts.iter().cloned()).collect();
    if !tree["annotations"].is_object() {
        tree["annotations"] = json!({});
    }
    tree["annotations"][RESTORE] = restore.to_string().into();
    tree
}

/// Takes our annotation out, and gives what it holds.
fn restore(tree: &mut Value) -> Option<Value> {
    let annotations = tree.get_mut("annotations")?.as_object_mut()?;
    let text = annotations.shift_remove(RESTORE)?;
    serde_json::from_str(text.as_str()?).ok()
}

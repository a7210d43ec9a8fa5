//! OCI runtime bundles: a directory that holds `config.json`, see the OCI runtime
//! specification.
//!
//! The edit is a pure function on that file: the shim's directory is mounted
//! read-only, and `process.env` names it. `eject(inject(x))` is `x`, to the byte:
//! what taking out cannot know is written down in an annotation.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::image::edit::environment;
use crate::image::json::Document;
use crate::image::layer::{SHIM, SHIM_DIRECTORY};
use crate::preload::LD_PRELOAD;
use crate::program::{Credentials, Judge, Judgement, Lookup, Root, Shims};
use crate::rules::Assignments;

/// The name of the file.
pub const CONFIG: &str = "config.json";

/// The annotation that holds what was there before.
const RESTORE: &str = "reuseport.dev/restore";

/// More than any bundle's.
const LARGEST: u64 = 16 << 20;

/// Why a directory is no bundle that could be changed.
#[derive(Debug, Error)]
pub enum Error {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: larger than {LARGEST} bytes", .0.display())]
    TooLarge(PathBuf),
    #[error("{}: no JSON: {source}", path.display())]
    Json {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("{}: {what}", path.display())]
    Shape { path: PathBuf, what: &'static str },
    #[error("{}: the program's root {}: {source}", path.display(), root.display())]
    Root {
        path: PathBuf,
        root: PathBuf,
        source: io::Error,
    },
}

/// Whether `directory` is a bundle.
pub fn is_bundle(directory: &Path) -> bool {
    directory.join(CONFIG).is_file()
}

/// A bundle, read.
#[derive(Debug)]
pub struct Bundle {
    /// The path of `config.json`.
    pub path: PathBuf,
    document: Document,
}

impl Bundle {
    /// Reads the bundle in `directory`.
    ///
    /// # Errors
    /// There is no `config.json`, or it is not that of a Linux container.
    pub fn read(directory: &Path) -> Result<Self, Error> {
        let path = directory.join(CONFIG);
        let fail = |source| Error::Io {
            path: path.clone(),
            source,
        };
        let mut bytes = Vec::new();
        let file = File::open(&path).map_err(fail)?;
        file.take(LARGEST + 1)
            .read_to_end(&mut bytes)
            .map_err(fail)?;
        if bytes.len() as u64 > LARGEST {
            return Err(Error::TooLarge(path));
        }
        let document = match Document::parse(&bytes) {
            Ok(document) => document,
            Err(source) => return Err(Error::Json { path, source }),
        };
        let this = Self { path, document };
        this.check_shape()?;
        Ok(this)
    }

    fn check_shape(&self) -> Result<(), Error> {
        let tree = &self.document.tree;
        let fail = |what| {
            Err(Error::Shape {
                path: self.path.clone(),
                what,
            })
        };
        if !tree.is_object() {
            return fail("no JSON object");
        }
        if tree.get("windows").is_some_and(Value::is_object) {
            return fail("the bundle of a Windows container: there is no shim for Windows");
        }
        if tree.get("vm").is_some_and(Value::is_object) {
            return fail("the bundle of a virtual machine: a mount does not reach its files");
        }
        if !tree["process"].is_object() {
            return fail("it has no process: a container without a program of its own");
        }
        if !tree["root"]["path"].is_string() {
            return fail("it has no root.path");
        }
        let is_list = |value: &Value, is_right: fn(&Value) -> bool| {
            let list = value.as_array();
            value.is_null() || list.is_some_and(|list| list.iter().all(is_right))
        };
        if !is_list(&tree["process"]["env"], Value::is_string) {
            return fail("process.env is no list of strings");
        }
        if !is_list(&tree["process"]["args"], Value::is_string) {
            return fail("process.args is no list of strings");
        }
        if !is_list(&tree["mounts"], Value::is_object) {
            return fail("mounts is no list of objects");
        }
        let ids = ["uid", "gid"].map(|name| &tree["process"]["user"][name]);
        let is_id = |id: &&Value| id.as_u64().is_some_and(|id| u32::try_from(id).is_ok());
        if !ids.iter().all(|id| id.is_null() || is_id(id)) {
            return fail("process.user has a uid or gid that is no number from 0 to 4294967295");
        }
        let mut mounts = tree["mounts"].as_array().into_iter().flatten();
        if mounts.any(|mount| is_at_our_place(mount) && !is_our_mount(mount)) {
            return fail("it mounts something else at /.reuseport");
        }
        if !(tree["annotations"].is_null() || tree["annotations"].is_object()) {
            return fail("annotations is no object");
        }
        Ok(())
    }

    /// Whether the shim is in it.
    pub fn has_shim(&self) -> bool {
        has_shim(&self.document.tree)
    }

    /// `config.json` with the shim of the host's file `shim`, under `rules`;
    /// `first` must be loaded before it. One that was in it makes way.
    pub fn inject(&self, shim: &Path, rules: &Assignments, first: &[OsString]) -> Vec<u8> {
        let base = eject(&self.document.tree);
        let mut new = inject(&base, shim, rules, first);
        // What taking out would not give back is written down.
        let ejected = eject(&new);
        if ejected != base {
            // A member that is missing is another thing than one that is null.
            let old = |object: &Value, name: &str| Value::from_iter(object.get(name).cloned());
            let restore = json!({
                "env": old(&base["process"], "env"),
                "mounts": old(&base, "mounts"),
                "annotations": old(&base, "annotations"),
            });
            new["annotations"][RESTORE] = restore.to_string().into();
        }
        self.document.with(new).to_bytes()
    }

    /// `config.json` without the shim.
    pub fn eject(&self) -> Vec<u8> {
        self.document.with(eject(&self.document.tree)).to_bytes()
    }

    /// Judges the program that the bundle runs, under its root and as its user.
    ///
    /// # Errors
    /// The root file system cannot be opened.
    pub fn judge(&self, has_shim: Shims<'_>) -> Result<Judgement, Error> {
        let process = &self.document.tree["process"];
        let path = PathBuf::from(
            self.document.tree["root"]["path"]
                .as_str()
                .unwrap_or_default(),
        );
        // A relative path starts at the bundle.
        let path = self
            .path
            .parent()
            .map_or(path.clone(), |one| one.join(&path));
        let root = Root::new(&path).map_err(|source| Error::Root {
            path: self.path.clone(),
            root: path,
            source,
        })?;
        let base = eject(&self.document.tree);
        let list = base["process"]["env"].as_array().cloned();
        let list = list.unwrap_or_default();
        let variable = |name: &str| environment::get(&list, name).map(OsStr::new);
        let directory = Path::new(process["cwd"].as_str().unwrap_or("/"));
        let lookup = Lookup {
            root: &root,
            path: variable("PATH"),
            directory,
        };
        let id = |name: &str| {
            let id = process["user"][name].as_u64();
            id.and_then(|id| u32::try_from(id).ok()).unwrap_or(0)
        };
        let credentials = Credentials {
            user: id("uid"),
            group: id("gid"),
            no_new_privileges: process["noNewPrivileges"].as_bool().unwrap_or(false),
        };
        let words = process["args"].as_array().into_iter().flatten();
        let command: Vec<OsString> = words.filter_map(Value::as_str).map(Into::into).collect();
        if command.is_empty() {
            return Err(Error::Shape {
                path: self.path.clone(),
                what: "process.args is empty: there is no program",
            });
        }
        let judge = Judge::new(lookup, credentials, variable);
        Ok(judge.judge(&command, has_shim))
    }
}

fn is_at_our_place(mount: &Value) -> bool {
    let path = mount["destination"].as_str().unwrap_or_default();
    path.trim_end_matches('/') == SHIM_DIRECTORY
}

fn is_our_mount(mount: &Value) -> bool {
    is_at_our_place(mount) && mount["type"] == "bind"
}

fn has_shim(tree: &Value) -> bool {
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

fn inject(base: &Value, shim: &Path, rules: &Assignments, first: &[OsString]) -> Value {
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

fn eject(tree: &Value) -> Value {
    let mut new = tree.clone();
    let restore = restore(&mut new);
    if !has_shim(&new) {
        return tree.clone();
    }
    let mut mounts: Vec<Value> = new["mounts"].as_array().cloned().unwrap_or_default();
    mounts.retain(|mount| !is_our_mount(mount));
    let mut env: Vec<Value> = new["process"]["env"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let with_shim = env.clone();
    environment::eject(&mut env);
    // What was written down holds where nobody has changed anything since.
    let as_before = |name: &str, now: &Value| {
        let old = restore.as_ref()?.get(name)?.as_array()?.clone();
        let mut again = json!({ "list": old.first() });
        let again = list(&mut again, "list");
        let now = now.as_array()?;
        let is_same = if name == "env" {
            let rules = environment::rules(&with_shim);
            let first = environment::first(&with_shim, environment::get(again, LD_PRELOAD));
            environment::inject(again, &rules, &first);
            again == now
        } else {
            now.iter()
                .filter(|mount| !is_our_mount(mount))
                .eq(again.iter())
        };
        is_same.then_some(old)
    };
    let env = as_before("env", &new["process"]["env"]).unwrap_or_else(|| vec![env.into()]);
    let mounts = as_before("mounts", &new["mounts"]).unwrap_or_else(|| vec![mounts.into()]);
    put(&mut new["process"], "env", env);
    put(&mut new, "mounts", mounts);
    let annotations = restore
        .as_ref()
        .and_then(|one| one["annotations"].as_array());
    if let Some(annotations) = annotations
        && new["annotations"].as_object().is_none_or(Map::is_empty)
    {
        put(&mut new, "annotations", annotations.clone());
    }
    new
}

/// Gives the member `name` the one value in `value`, or takes it out where there
/// is none.
fn put(object: &mut Value, name: &str, value: Vec<Value>) {
    if let Value::Object(members) = object {
        match value.into_iter().next() {
            Some(value) => members.insert(name.to_owned(), value),
            None => members.shift_remove(name),
        };
    }
}

/// Takes our annotation out, and gives what it holds.
fn restore(tree: &mut Value) -> Option<Value> {
    let annotations = tree.get_mut("annotations")?.as_object_mut()?;
    let text = annotations.shift_remove(RESTORE)?;
    serde_json::from_str(text.as_str()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Variable;

    fn bundle(tree: &Value) -> Bundle {
        let document = Document::parse(tree.to_string().as_bytes()).expect("JSON");
        let bundle = Bundle {
            path: "config.json".into(),
            document,
        };
        bundle.check_shape().expect("a bundle");
        bundle
    }

    fn rules(port: &str) -> Assignments {
        let mut rules = Assignments::default();
        rules.set(Variable::Port, port.into());
        rules
    }

    #[test]
    fn what_is_put_in_comes_out_again() {
        let root = json!({"path": "rootfs"});
        for tree in [
            json!({"process": {"args": ["x"]}, "root": root}),
            json!({"process": {"env": null}, "root": root, "mounts": [], "annotations": {}}),
            json!({"root": root, "process": {"env": ["A=b", "LD_PRELOAD=/x.so"], "odd": 1.0},
                   "annotations": {"a": "b"}, "mounts": [{"destination": "/proc"}], "new": [{}]}),
            json!({"root": root, "process": {"env": ["LIBREUSEPORT_PORT=1", "LD_PRELOAD="]}}),
            json!({"root": root, "process": {"env": ["LD_PRELOAD=a  b", "LD_PRELOAD=c"]}}),
        ] {
            let before = bundle(&tree);
            assert!(!before.has_shim());
            let shim = Path::new("/opt/reuseport/libreuseport.so");
            let once = before.inject(shim, &rules("80"), &[]);
            let injected = bundle(&serde_json::from_slice(&once).expect("JSON"));
            assert!(injected.has_shim());
            assert_eq!(
                injected.inject(shim, &rules("80"), &[]),
                once,
                "twice is once"
            );
            let other = injected.inject(shim, &rules("81"), &[]);
            let other = bundle(&serde_json::from_slice(&other).expect("JSON"));
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
            assert_eq!(text(injected.eject()), tree.to_string());
            assert_eq!(text(other.eject()), tree.to_string());
        }
    }

    #[test]
    fn what_was_added_since_stays() {
        let tree = json!({"process": {}, "root": {"path": "rootfs"}});
        let once = bundle(&tree).inject(Path::new("/s/libreuseport.so"), &rules("80"), &[]);
        let mut edited: Value = serde_json::from_slice(&once).expect("JSON");
        edited["process"]["env"]
            .as_array_mut()
            .expect("a list")
            .push("NEW=1".into());
        let ejected = bundle(&edited).eject();
        let ejected: Value = serde_json::from_slice(&ejected).expect("JSON");
        assert_eq!(ejected["process"]["env"], json!(["NEW=1"]));
        assert!(ejected.get("mounts").is_none());
    }
}

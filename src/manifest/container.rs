//! Which containers run under the shim, by which rules, and what that adds to
//! them.

use std::ffi::OsString;

use serde_json::{Value, json};

use super::Injection;
use super::annotations;
use super::delivery::Delivery;
use super::document::{Content, Document};
use super::edit::{self, Change};
use super::eject::{self, Held};
use super::error::Fault;
use super::inject::{add_items, variable, wrong};
use super::look::Seen;
use super::names::{
    ANNOTATION, DIRECTORY, ENTRY, ENTRY_BEHIND_KEPT, ENTRY_LAST, IMAGE, KEPT, VARIABLE,
};
use super::path::Path;
use super::pods::SIDECARS;
use super::workload::Workload;
use crate::finding::{Finding, Severity};
use crate::preload::LD_PRELOAD;
use crate::rules::Assignments;

/// A container that is to run under the shim.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) name: String,
    pub(super) path: Path,
    /// The shim's variables and their values.
    rules: Vec<(String, Value)>,
}

impl Chosen {
    /// Whether the shim will let others have this port, too. `container` may bring
    /// rules of its own.
    pub(super) fn shares(&self, container: &Value, port: u64, protocol: &str) -> bool {
        let own = container["env"].as_array().into_iter().flatten();
        let own = own.filter_map(|one| Some((one["name"].as_str()?, one["value"].as_str()?)));
        let ours = self.rules.iter();
        let ours = ours.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)));
        let all = ours.chain(own);
        let all: Vec<(OsString, OsString)> = all
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        let Ok(rules) = Assignments::from_environment(&all).check() else {
            return false;
        };
        let number = match protocol {
            "UDP" => libc::IPPROTO_UDP,
            "SCTP" => libc::IPPROTO_SCTP,
            _ => libc::IPPROTO_TCP,
        };
        u16::try_from(port).is_ok_and(|port| rules.selects_port(port))
            && rules.protocols.contains(number)
    }
}

/// What a workload's containers come to.
#[derive(Debug, Default)]
pub(super) struct Choice {
    pub(super) containers: Vec<Chosen>,
    /// All names, and those that the command line names.
    pub(super) there: Vec<String>,
    pub(super) found: Vec<String>,
    pub(super) findings: Vec<Finding>,
}

type Refusal = (Path, Fault);

/// Chooses containers: those that the command line names; else those that the
/// annotation `reuseport.dev/containers` of the template names; else all but init
/// containers and sidecars. What held the shim and is not spoken of keeps it.
///
/// # Errors
/// The containers, or an annotation, are not as they must be.
pub(super) fn choose(
    value: &Value,
    workload: &Workload,
    given: &Value,
    options: &Injection,
    held: Option<&Held>,
) -> Result<Choice, Refusal> {
    let mut choice = Choice {
        findings: annotations::unknown(value, workload),
        ..Choice::default()
    };
    annotations::check(workload, given)?;
    let annotation = |name: &str| given.get(format!("{ANNOTATION}{name}"))?.as_str();
    let all = containers(value, workload)?;
    choice.there = all.iter().map(|(name, ..)| name.clone()).collect();
    if annotation("inject") == Some("disabled") {
        let finding = Finding::new(
            Severity::Note,
            "disabled",
            "left out: its template has the annotation reuseport.dev/inject: disabled",
        );
        choice.findings.push(finding);
        choice.found.clone_from(&choice.there);
        return Ok(choice);
    }
    if let Some(other) = annotation("inject").filter(|word| *word != "enabled") {
        let path = workload.template.keys("metadata.annotations");
        let fault = Fault::Annotation {
            annotation: format!("{ANNOTATION}inject"),
            why: format!("expected enabled or disabled, found {other:?}"),
        };
        return Err((path, fault));
    }
    let listed: Option<Vec<&str>> =
        annotation("containers").map(|names| names.split(',').map(str::trim).collect());
    if let Some(listed) = &listed
        && options.containers.is_empty()
    {
        for name in listed {
            if !choice.there.iter().any(|one| one == name) {
                let path = workload.template.keys("metadata.annotations");
                let fault = Fault::Annotation {
                    annotation: format!("{ANNOTATION}containers"),
                    why: format!(
                        "there is no container {name}; there are {}",
                        choice.there.join(", ")
                    ),
                };
                return Err((path, fault));
            }
        }
    }
    let rules = annotations::rules(workload, given, &options.rules)?;
    for (name, path, is_init) in all {
        let is_chosen = if !options.containers.is_empty() {
            options.containers.contains(&name)
        } else if let Some(listed) = &listed {
            listed.contains(&name.as_str())
        } else {
            !is_init && !SIDECARS.contains(&name.as_str())
        };
        // What has no name is Knative's one container, and no init container.
        let is_nameless = is_init && name.is_empty();
        let before = held.and_then(|held| held.get(&name));
        let before = before.filter(|_| !is_nameless);
        if is_chosen {
            choice.found.push(name.clone());
            let rules = rules.clone();
            choice.containers.push(Chosen { name, path, rules });
        } else if let (Some(rules), true) =
            (before, listed.is_none() || !options.containers.is_empty())
        {
            let rules = rules.clone();
            choice.containers.push(Chosen { name, path, rules });
        } else if !is_init && options.containers.is_empty() && listed.is_none() {
            let message = format!("container {name} is passed over, as a sidecar");
            let finding = Finding::new(Severity::Note, "sidecar", message)
                .hint(format!("put the shim in with --container {name}"));
            choice.findings.push(finding);
        }
    }
    Ok(choice)
}

/// The names and paths of a workload's containers, and whether they are init
/// containers.
fn containers(value: &Value, workload: &Workload) -> Result<Vec<(String, Path, bool)>, Refusal> {
    let mut found: Vec<(String, Path, bool)> = Vec::new();
    for (key, is_init) in [("initContainers", true), ("containers", false)] {
        let list = workload.spec.then(key);
        let items = match list.get(value) {
            None | Some(Value::Null) => continue,
            Some(Value::Array(items)) => items,
            Some(other) => return Err(wrong(list, "list", other)),
        };
        for (index, item) in items.iter().enumerate() {
            let path = list.then(index);
            if !item.is_object() {
                return Err(wrong(path, "mapping", item));
            }
            let name = match item.get("name") {
                Some(Value::String(name)) if !name.is_empty() => name.clone(),
                // Knative names a single container itself.
                None if workload.kind == "Service" => String::new(),
                None | Some(Value::Null) => return Err((path, Fault::NoName)),
                Some(Value::String(_)) => return Err((path, Fault::NoName)),
                Some(other) => return Err(wrong(path.then("name"), "string", other)),
            };
            if !name.is_empty() && found.iter().any(|(other, ..)| *other == name) {
                return Err((path.then("name"), Fault::DuplicateName { name }));
            }
            found.push((name, path, is_init));
        }
    }
    Ok(found)
}

/// What is said of the additions to a container.
#[derive(Debug, Default)]
pub(super) struct Added {
    pub(super) findings: Vec<Finding>,
    /// What is to be known for taking them out, with its path.
    pub(super) record: Option<(String, Value)>,
}

/// Adds what a container needs to `changes`; `seen` is what its image says, where
/// somebody looked.
///
/// # Errors
/// The container cannot have the shim.
pub(super) fn changes(
    document: &Document,
    value: &Value,
    chosen: &Chosen,
    seen: Option<&Seen>,
    changes: &mut Vec<Change>,
) -> Result<Added, Refusal> {
    let container = chosen.path.get(value).unwrap_or(&Value::Null);
    check_mounts(container, chosen)?;
    let mut added = Added::default();
    let env = chosen.path.then("env");
    let variables = match env.get(value) {
        None | Some(Value::Null) => &[][..],
        Some(Value::Array(variables)) => variables,
        Some(other) => return Err(wrong(env, "list", other)),
    };
    let mut present = Vec::new();
    for (index, variable) in variables.iter().enumerate() {
        let path = env.then(index);
        if !variable.is_object() {
            return Err(wrong(path, "mapping", variable));
        }
        let name = variable
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let kept = name.strip_prefix(KEPT).unwrap_or_default();
        if kept == LD_PRELOAD || kept.starts_with(VARIABLE) {
            let holder = format!("the environment of container {}", chosen.name);
            let name = name.to_owned();
            return Err((path, Fault::NameTaken { name, holder }));
        }
        present.push(name);
    }

    let mut last = Vec::new();
    // Of several with one name, the kubelet takes the last.
    let own = present.iter().rposition(|name| *name == LD_PRELOAD);
    if let Some(seen) = seen {
        added.findings = seen.findings(&chosen.name, own.is_some());
    }
    match own {
        None => {
            let before = seen.map(Seen::before).unwrap_or_default();
            if before.is_empty() {
                last.push(variable(LD_PRELOAD, ENTRY));
            } else {
                last.push(variable(LD_PRELOAD, &format!("{before}{ENTRY_LAST}")));
                let path = eject::kept_path(&env, LD_PRELOAD, value);
                added.record = Some((path, json!({IMAGE: before})));
            }
            if seen.is_none() {
                added.findings.push(image_unread());
            }
            added.findings.extend(env_from(container));
        }
        Some(index) => {
            let message = format!(
                "container {} sets LD_PRELOAD already: the shim is appended",
                chosen.name
            );
            let finding = Finding::new(Severity::Note, "preload-already-set", message);
            added.findings.push(finding);
            let path = env.then(index);
            if is_extendable(document, &variables[index], &path) {
                let at = path.then("value");
                changes.push(Change::Suffix {
                    at,
                    text: ENTRY_LAST,
                });
            } else {
                let at = path.then("name");
                changes.push(Change::Prefix { at, text: KEPT });
                let ours = variable(LD_PRELOAD, ENTRY_BEHIND_KEPT);
                if index + 1 == variables.len() {
                    last.push(ours);
                } else {
                    changes.push(Change::Items {
                        list: env.clone(),
                        at: index + 1,
                        items: vec![ours],
                    });
                }
            }
        }
    }
    for (name, text) in &chosen.rules {
        for (index, one) in present.iter().enumerate() {
            if one == name {
                let at = env.then(index).then("name");
                changes.push(Change::Prefix { at, text: KEPT });
            }
        }
        last.push(variable(name, text.as_str().unwrap_or_default()));
    }
    if !last.is_empty() {
        changes.push(add_items(value, &chosen.path, "env", last, false)?);
    }
    let mount = vec![Delivery::mount()];
    changes.push(add_items(
        value,
        &chosen.path,
        "volumeMounts",
        mount,
        false,
    )?);
    Ok(added)
}

/// Refuses a container in which something else is mounted where the shim goes.
fn check_mounts(container: &Value, chosen: &Chosen) -> Result<(), Refusal> {
    let mounts = container.get("volumeMounts").and_then(Value::as_array);
    for mount in mounts.into_iter().flatten() {
        let text = |key| mount.get(key).and_then(Value::as_str).unwrap_or_default();
        let at = text("mountPath").trim_end_matches('/');
        if at == DIRECTORY || at.starts_with(&format!("{DIRECTORY}/")) {
            let fault = Fault::MountTaken {
                container: chosen.name.clone(),
                mount: text("name").to_owned(),
            };
            return Err((chosen.path.then("volumeMounts"), fault));
        }
    }
    Ok(())
}

/// The image may set `LD_PRELOAD`, too.
fn image_unread() -> Finding {
    Finding::new(
        Severity::Note,
        "image-unread",
        "an LD_PRELOAD in the image's own ENV, where there is one, is replaced",
    )
    .hint("--check reads the images, and joins it")
}

/// Whether a variable has a value that more can be appended to.
fn is_extendable(document: &Document, variable: &Value, path: &Path) -> bool {
    let value = variable.get("value").and_then(Value::as_str);
    let is_written = |id| {
        let is_alias = matches!(document.node(id).content, Content::Alias(_));
        is_alias || edit::can_extend(document, id)
    };
    document.find(&path.then("value")).is_none_or(is_written)
        && value.is_some_and(|value| !value.is_empty() && !value.ends_with([' ', ':', '\n']))
        && variable.get("valueFrom").is_none()
}

/// What sets variables that cannot be seen here.
fn env_from(container: &Value) -> Option<Finding> {
    let sources = container.get("envFrom")?.as_array()?;
    let name = |source: &Value| {
        let found = ["configMapRef", "secretRef"]
            .iter()
            .find_map(|kind| source.get(kind)?.get("name")?.as_str());
        found.unwrap_or_default().to_owned()
    };
    let names: Vec<String> = sources.iter().map(name).collect();
    if names.is_empty() {
        return None;
    }
    let container = container
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let message = format!(
        "container {container} takes variables from {}: an LD_PRELOAD among them is replaced",
        names.join(", ")
    );
    Some(
        Finding::new(Severity::Warning, "env-from", message)
            .hint("if it holds one, put LD_PRELOAD into env with its value before injecting"),
    )
}

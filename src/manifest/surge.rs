//! Pods on the host's network that are replaced with overlap: the new one starts, and
//! shares the ports, before the old one stops.
//!
//! For that an update has to surge, and no port may stand in the specification: the
//! scheduler takes every one for the node's, and puts no second pod there. Whatever
//! named a port by its entry gets the number.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Value, json};

use super::container::Chosen;
use super::edit::{Change, Records};
use super::error::Fault;
use super::path::Path;
use super::ports::{self, CALLS, HOOKS, PROBES, Port};
use super::record;
use super::unfit::Unfit;
use super::workload::Workload;
use crate::finding::{Finding, Severity};

/// What makes a workload fit for overlap.
#[derive(Debug, Default)]
pub(super) struct Surge {
    pub(super) changes: Vec<Change>,
    pub(super) records: Records,
    /// What is said of it, with the container.
    pub(super) findings: Vec<(Option<String>, Finding)>,
    /// The ports that lose their names, with their numbers.
    pub(super) names: BTreeMap<String, u64>,
}

/// Why a workload has no use for it.
pub(super) fn unfit(workload: &Workload, spec: &Value) -> Option<(Path, Unfit)> {
    if strategy_key(workload).is_none() {
        let kind = workload.kind.clone();
        return Some((workload.object.then("kind"), Unfit::Kind { kind }));
    }
    let is_host = spec["hostNetwork"] == Value::Bool(true);
    (!is_host).then(|| (workload.spec.then("hostNetwork"), Unfit::OwnNetwork))
}

/// The key of the update strategy.
fn strategy_key(workload: &Workload) -> Option<&'static str> {
    match workload.kind.as_str() {
        "DaemonSet" => Some("updateStrategy"),
        "Deployment" => Some("strategy"),
        _ => None,
    }
}

/// What makes `workload` of `value` fit; the probes at `taken` are others' to change.
///
/// # Errors
/// What stands in the way, with its path.
pub(super) fn surge(
    value: &Value,
    workload: &Workload,
    chosen: &[Chosen],
    taken: &HashSet<Path>,
) -> Result<Surge, (Path, Fault)> {
    let mut surge = Surge::default();
    surge.strategy(value, workload)?;
    for list in ["containers", "initContainers"] {
        let list = workload.spec.then(list);
        let containers = list.get(value).and_then(Value::as_array);
        for (index, container) in containers.into_iter().flatten().enumerate() {
            let path = list.then(index);
            let runs = chosen.iter().find(|one| one.path == path);
            surge.container(container, &path, runs, taken);
        }
    }
    Ok(surge)
}

impl Surge {
    fn said(&mut self, container: Option<&str>, message: String) {
        let finding = Finding::new(Severity::Note, "surge-ready", message);
        self.findings
            .push((container.map(ToOwned::to_owned), finding));
    }

    /// Puts `new` where there is nothing, or something else.
    fn set(&mut self, value: &Value, map: &Path, key: &'static str, new: Value) {
        let at = map.then(key);
        let old = at.get(value);
        if old == Some(&new) {
            return;
        }
        let was = old.filter(|old| !is_nothing(old));
        let was = was.map_or_else(String::new, |old| format!(" (was {})", shown(old, "")));
        self.said(None, format!("{}: {}{was}", at.shown(), shown(&new, "")));
        let change = match old {
            None => {
                self.records.insert(at.written(value), record::added(&new));
                Change::Entry {
                    map: map.clone(),
                    key,
                    value: new,
                }
            }
            Some(old) if is_nothing(old) && new.is_object() => {
                for (key, value_of_key) in new.as_object().into_iter().flatten() {
                    let path = at.then(key.as_str());
                    let record = record::added(value_of_key);
                    self.records.insert(path.written(value), record);
                }
                Change::Fill { at, value: new }
            }
            Some(_) => Change::Replace { at, value: new },
        };
        self.changes.push(change);
    }

    fn strategy(&mut self, value: &Value, workload: &Workload) -> Result<(), (Path, Fault)> {
        let Some(key) = strategy_key(workload) else {
            return Ok(());
        };
        let both = json!({"maxSurge": 1, "maxUnavailable": 0});
        let spec = workload.object.then("spec");
        let strategy = spec.then(key);
        let rolling = strategy.then("rollingUpdate");
        let found = strategy.get(value).filter(|one| !is_nothing(one));
        let Some(found) = found else {
            let new = json!({"type": "RollingUpdate", "rollingUpdate": both});
            self.set(value, &spec, key, new);
            return Ok(());
        };
        if let Some(kind) = found["type"]
            .as_str()
            .filter(|kind| *kind != "RollingUpdate")
        {
            let found = kind.to_owned();
            let fault = Fault::Unfit {
                object: workload.title(),
                why: Box::new(Unfit::Strategy { found }),
            };
            return Err((strategy.then("type"), fault));
        }
        match rolling.get(value) {
            Some(Value::Object(present)) if !present.is_empty() => {
                self.set(value, &rolling, "maxSurge", 1.into());
                self.set(value, &rolling, "maxUnavailable", 0.into());
            }
            _ => self.set(value, &strategy, "rollingUpdate", both),
        }
        Ok(())
    }

    fn container(
        &mut self,
        container: &Value,
        path: &Path,
        chosen: Option<&Chosen>,
        taken: &HashSet<Path>,
    ) {
        let name = container["name"].as_str().unwrap_or_default();
        let ports = Port::all(container);
        if let Some(Value::Array(entries)) = container.get("ports")
            && !entries.is_empty()
        {
            self.changes.push(Change::Replace {
                at: path.then("ports"),
                value: json!([]),
            });
            let shown: Vec<String> = ports.iter().map(Port::shown).collect();
            let message = format!("container {name}: ports {} taken out", shown.join(", "));
            self.said(Some(name), message);
        }
        let number = |called: &str| {
            let found = ports.iter().find(|port| port.name == Some(called))?;
            Some(found.number)
        };
        let mut probed = Vec::new();
        let mut hooked = Vec::new();
        let callers = PROBES.map(|probe| (path.then(probe), container.get(probe)));
        let life = container.get("lifecycle");
        let hooks = HOOKS.map(|hook| {
            let path = path.then("lifecycle").then(hook);
            (path, life.and_then(|life| life.get(hook)))
        });
        for (index, (at, caller)) in callers.into_iter().chain(hooks).enumerate() {
            let Some(caller) = caller.filter(|_| !taken.contains(&at)) else {
                continue;
            };
            for call in CALLS {
                let port = match &caller[call]["port"] {
                    Value::Number(number) => number.as_u64(),
                    Value::String(text) => {
                        let port = number(text);
                        if let Some(port) = port {
                            let at = at.then(call).then("port");
                            let below = Path(at.0[path.0.len()..].to_vec()).shown();
                            let message =
                                format!("container {name}: {}: {port} (was {text})", &below[1..]);
                            self.said(Some(name), message);
                            self.changes.push(Change::Replace {
                                at,
                                value: port.into(),
                            });
                        }
                        port
                    }
                    _ => None,
                };
                if index < PROBES.len() {
                    probed.extend(port);
                } else {
                    hooked.extend(port);
                }
            }
        }
        self.judge(&probed, &hooked, container, chosen);
        for port in &ports {
            if let Some(called) = port.name {
                self.names.insert(called.to_owned(), port.number);
            }
        }
    }

    /// Says where overlap will not be what it seems.
    fn judge(
        &mut self,
        probed: &[u64],
        hooked: &[u64],
        container: &Value,
        chosen: Option<&Chosen>,
    ) {
        let name = container["name"].as_str().unwrap_or_default();
        let mut findings = Vec::new();
        let who = "while the old pod runs, the new one";
        findings.extend(ports::apart(container, chosen, who));
        let ports = Port::all(container);
        let shared = |called: &[u64]| {
            let mut shared = ports.iter().filter(|port| {
                chosen.is_some_and(|one| one.shares(container, port.number, port.protocol))
            });
            let port = shared.find(|port| called.contains(&port.number))?;
            Some(port.number)
        };
        if let Some(port) = shared(probed) {
            let message = format!(
                "the probes of container {name} call port {port}, where the old pod answers as well: \
                 the new one may count as ready before it is"
            );
            let hint = "probe it with exec, or at a port of its own, or give it time with spec.minReadySeconds";
            findings.push(Finding::new(Severity::Warning, "probe-shared", message).hint(hint));
        }
        if let Some(port) = shared(hooked) {
            let message = format!(
                "a lifecycle hook of container {name} calls port {port}, where the other pod answers as well"
            );
            let hint = "write a hook that acts within its own container";
            findings.push(Finding::new(Severity::Warning, "hook-shared", message).hint(hint));
        }
        let findings = findings.into_iter();
        self.findings
            .extend(findings.map(|finding| (Some(name.to_owned()), finding)));
    }
}

/// A value for people, as in `rollingUpdate.maxSurge 1`; `path` leads to it.
fn shown(value: &Value, path: &str) -> String {
    let text = match value {
        Value::Object(map) => {
            let dot = if path.is_empty() { "" } else { "." };
            let entries = map.iter();
            let entries = entries.map(|(key, value)| shown(value, &format!("{path}{dot}{key}")));
            return entries.collect::<Vec<_>>().join(", ");
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if path.is_empty() {
        text
    } else {
        format!("{path} {text}")
    }
}

/// Whether there is nothing in a value.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

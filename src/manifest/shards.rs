//! Shards: copies of a container in its pod, which share its port.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::container::Chosen;
use super::edit::{Change, Records};
use super::error::Fault;
use super::path::Path;
use super::ports::{self, HOOKS, PROBES};
use super::unfit::Unfit;
use super::workload::Workload;
use super::{names, quantity, record};
use crate::finding::{Finding, Severity};

/// The longest name that a container may have: a label of RFC 1123.
const LONGEST: usize = 63;

/// How containers are repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shards {
    /// How many there are then, the first among them.
    pub count: usize,
    /// Whether each gets its part of the resources, and not all of them.
    pub split_resources: bool,
    /// What becomes of probes that call a port; they stand in the way otherwise.
    pub probes: Option<ShardProbes>,
}

/// What becomes of probes that call a port, which any of the copies may answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShardProbes {
    /// The first container keeps them, and the copies have none.
    First,
    /// All run this command instead, each in its own container.
    Exec(Vec<String>),
}

impl ShardProbes {
    /// `first`, or `exec=COMMAND` with words between spaces.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            None if text == "first" => Ok(Self::First),
            Some(("exec", command)) if !command.trim().is_empty() => {
                let words = command.split_whitespace().map(ToOwned::to_owned);
                Ok(Self::Exec(words.collect()))
            }
            _ => Err("expected first or exec=COMMAND, as in exec=/bin/healthy".into()),
        }
    }
}

/// What is to be done to a container before it is repeated.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    pub(super) changes: Vec<Change>,
    /// The probes that are changed here.
    pub(super) taken: HashSet<Path>,
    pub(super) findings: Vec<Finding>,
    /// Claims that each of the copies would write to, with the path of the mount.
    pub(super) claims: Vec<Claim>,
}

/// A PersistentVolumeClaim that is named, and refused unless it can be written by
/// many.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) name: String,
    pub(super) at: Path,
    pub(super) why: Unfit,
}

/// A container that is to be repeated, in its workload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'v> {
    pub(super) value: &'v Value,
    pub(super) workload: &'v Workload,
    pub(super) spec: &'v Value,
    pub(super) chosen: &'v Chosen,
}

/// Which of `chosen` are repeated: those that `wanted` names, or the only one.
///
/// # Errors
/// There are several, or none that can be.
pub(super) fn subjects<'c>(
    workload: &Workload,
    chosen: &'c [Chosen],
    wanted: &[String],
) -> Result<Vec<&'c Chosen>, (Path, Unfit)> {
    let list = workload.spec.then("containers");
    let named = |one: &&Chosen| wanted.is_empty() || wanted.contains(&one.name);
    let (regular, init): (Vec<_>, Vec<_>) = chosen
        .iter()
        .filter(named)
        .partition(|one| one.path.split().0 == list);
    match (regular.as_slice(), init.first()) {
        ([], Some(init)) => {
            let container = init.name.clone();
            Err((init.path.clone(), Unfit::Init { container }))
        }
        ([_, _, ..], _) if wanted.is_empty() => {
            let there = regular.iter().map(|one| one.name.clone()).collect();
            Err((list, Unfit::Several { there }))
        }
        _ => Ok(regular),
    }
}

impl Subject<'_> {
    fn container(&self) -> &Value {
        self.chosen.path.get(self.value).unwrap_or(&Value::Null)
    }

    fn refusal(&self, path: Path, why: Unfit) -> (Path, Fault) {
        let object = self.workload.title();
        (
            path,
            Fault::Unfit {
                object,
                why: Box::new(why),
            },
        )
    }

    /// What is to be done to the container before it is repeated.
    ///
    /// # Errors
    /// What stands in the way, with its path.
    pub(super) fn prepare(&self, shards: &Shards) -> Result<Prepared, (Path, Fault)> {
        let mut prepared = Prepared::default();
        self.check_names(shards)?;
        self.check_hooks()?;
        self.check_volumes(shards, &mut prepared)?;
        self.probes(shards, &mut prepared)?;
        self.resources(shards, &mut prepared)?;
        let who = "more than one of the copies";
        let apart = ports::apart(self.container(), Some(self.chosen), who);
        prepared.findings.extend(apart);
        Ok(prepared)
    }

    fn check_names(&self, shards: &Shards) -> Result<(), (Path, Fault)> {
        let container = &self.chosen.name;
        let at = self.chosen.path.then("name");
        if container.is_empty() {
            return Err(self.refusal(at, Unfit::Nameless));
        }
        let lists = ["containers", "initContainers"].map(|list| self.spec[list].as_array());
        let all = lists.into_iter().flatten().flatten();
        let others: HashSet<&str> = all.filter_map(|one| one["name"].as_str()).collect();
        for name in self.names(shards) {
            let (why, other) = if others.contains(name.as_str()) {
                ("there is a container of that name", name.clone())
            } else if name.len() > LONGEST {
                ("no name is longer than 63 characters", container.clone())
            } else {
                continue;
            };
            let container = container.clone();
            let why = Unfit::Name {
                container,
                name,
                why,
                other,
            };
            return Err(self.refusal(at, why));
        }
        Ok(())
    }

    /// The names of the copies.
    fn names(&self, shards: &Shards) -> impl Iterator<Item = String> {
        (2..=shards.count).map(|number| format!("{}-{number}", self.chosen.name))
    }

    fn check_hooks(&self) -> Result<(), (Path, Fault)> {
        let is_one = self.spec["shareProcessNamespace"] == Value::Bool(true);
        for hook in HOOKS {
            let found = &self.container()["lifecycle"][hook];
            let words = found["exec"]["command"].as_array().into_iter().flatten();
            let words: Vec<&str> = words.filter_map(Value::as_str).collect();
            let command = words.join(" ");
            let has = |all: &[&str]| {
                let is_apart = |one: char| !one.is_ascii_alphanumeric() && !"._".contains(one);
                let mut words = command.split(is_apart);
                words.any(|word| all.contains(&word))
            };
            let why = if ports::calls(found)
                || has(&["localhost", "127.0.0.1"])
                || command.contains("[::1]")
            {
                "calls a port that all copies share"
            } else if is_one && has(&["kill", "killall", "pkill", "pidof", "pgrep"]) {
                "looks for processes in the whole pod (shareProcessNamespace)"
            } else {
                continue;
            };
            let why = Unfit::Hook {
                container: self.chosen.name.clone(),
                hook: hook.to_owned(),
                why: why.to_owned(),
            };
            let at = self.chosen.path.then("lifecycle").then(hook);
            return Err(self.refusal(at, why));
        }
        Ok(())
    }

    fn check_volumes(&self, shards: &Shards, prepared: &mut Prepared) -> Result<(), (Path, Fault)> {
        let container = self.container();
        let name = &self.chosen.name;
        let mut written = Vec::new();
        for list in ["volumeMounts", "volumeDevices"] {
            let mounts = container[list].as_array();
            for (index, mount) in mounts.into_iter().flatten().enumerate() {
                let volume = mount["name"].as_str().unwrap_or_default();
                if mount["readOnly"] == Value::Bool(true) || volume == names::SHIM {
                    continue;
                }
                let at = self.chosen.path.then(list).then(index);
                let unfit = |what| Unfit::Volume {
                    container: name.clone(),
                    volume: volume.to_owned(),
                    count: shards.count,
                    what,
                };
                match self.storage(volume) {
                    Storage::Claim(claim) => prepared.claims.push(Claim {
                        name: claim,
                        at,
                        why: unfit("a PersistentVolumeClaim"),
                    }),
                    Storage::One(what) => return Err(self.refusal(at, unfit(what))),
                    Storage::Common => written.push(volume),
                    Storage::None => {}
                }
            }
        }
        if !written.is_empty() {
            let message = format!(
                "the copies of container {name} write to {} together",
                written.join(", ")
            );
            let finding = Finding::new(Severity::Warning, "shards-volume", message);
            prepared.findings.push(finding.hint(
                "see that they agree on it: sockets and files with process ids are taken by the first",
            ));
        }
        Ok(())
    }

    fn storage(&self, name: &str) -> Storage {
        let templates = &self.workload.object.then("spec");
        let templates = templates.then("volumeClaimTemplates").get(self.value);
        let templates = templates.and_then(Value::as_array).into_iter().flatten();
        let mut templates = templates.filter(|one| one["metadata"]["name"] == name);
        if let Some(template) = templates.next() {
            return if is_for_many(&template["spec"]) {
                Storage::Common
            } else {
                Storage::One("a volumeClaimTemplate")
            };
        }
        let volumes = self.spec["volumes"].as_array().into_iter().flatten();
        let mut volumes = volumes.filter(|one| one["name"] == name);
        let Some(volume) = volumes.next().and_then(Value::as_object) else {
            return Storage::None;
        };
        let kind = volume.keys().find(|key| *key != "name");
        let source = kind
            .and_then(|kind| volume.get(kind))
            .unwrap_or(&Value::Null);
        if source["readOnly"] == Value::Bool(true) {
            return Storage::None;
        }
        match kind.map(String::as_str) {
            Some("persistentVolumeClaim") => {
                Storage::Claim(source["claimName"].as_str().unwrap_or_default().to_owned())
            }
            Some("ephemeral") if is_for_many(&source["volumeClaimTemplate"]["spec"]) => {
                Storage::Common
            }
            Some("ephemeral") => Storage::One("a claim of the pod's own"),
            Some(
                "awsElasticBlockStore"
                | "azureDisk"
                | "cinder"
                | "fc"
                | "gcePersistentDisk"
                | "iscsi"
                | "rbd"
                | "vsphereVolume"
                | "portworxVolume"
                | "scaleIO"
                | "photonPersistentDisk",
            ) => Storage::One("a disk"),
            Some("configMap" | "secret" | "downwardAPI" | "projected" | "image" | "gitRepo")
            | None => Storage::None,
            Some(_) => Storage::Common,
        }
    }

    fn probes(&self, shards: &Shards, prepared: &mut Prepared) -> Result<(), (Path, Fault)> {
        let name = &self.chosen.name;
        let mut left = false;
        for probe in PROBES {
            let at = self.chosen.path.then(probe);
            let Some(Value::Object(found)) = at.get(self.value) else {
                continue;
            };
            if !ports::calls(&self.container()[probe]) {
                continue;
            }
            match &shards.probes {
                None => {
                    let why = Unfit::Probe {
                        container: name.clone(),
                        probe: probe.to_owned(),
                    };
                    return Err(self.refusal(at, why));
                }
                Some(ShardProbes::First) => left = true,
                Some(ShardProbes::Exec(command)) => {
                    let mut new = Map::new();
                    new.insert("exec".into(), json!({"command": command}));
                    for (key, value) in found {
                        if !ports::CALLS.contains(&key.as_str()) {
                            new.insert(key.clone(), value.clone());
                        }
                    }
                    let message = format!(
                        "container {name}: {probe} runs {} in each copy",
                        command.join(" ")
                    );
                    prepared.findings.push(said(message));
                    prepared.taken.insert(at.clone());
                    let value = Value::Object(new);
                    prepared.changes.push(Change::Replace { at, value });
                }
            }
        }
        if left {
            let message = format!(
                "container {name}: probes that call a port are left to the first copy, and any copy may answer them"
            );
            prepared.findings.push(said(message));
        }
        Ok(())
    }

    fn resources(&self, shards: &Shards, prepared: &mut Prepared) -> Result<(), (Path, Fault)> {
        let name = &self.chosen.name;
        let count = shards.count;
        let mut asked = Vec::new();
        for list in ["requests", "limits"] {
            let path = self.chosen.path.keys("resources").then(list);
            let Some(Value::Object(quantities)) = path.get(self.value) else {
                continue;
            };
            for (resource, quantity) in quantities {
                let quantity = match quantity {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                if !shards.split_resources {
                    asked.push(format!("{list} {resource} {quantity}"));
                    continue;
                }
                let at = path.then(resource.as_str());
                let part = quantity::part(resource, &quantity, count).map_err(|why| {
                    let (resource, quantity) = (resource.clone(), quantity.clone());
                    let why = Unfit::Quantity {
                        resource,
                        quantity,
                        count,
                        why,
                    };
                    self.refusal(at.clone(), why)
                })?;
                asked.push(format!("{list} {resource} {part} of {quantity}"));
                let value = Value::String(part);
                prepared.changes.push(Change::Replace { at, value });
            }
        }
        if asked.is_empty() {
            return Ok(());
        }
        let asked = asked.join(", ");
        let finding = if shards.split_resources {
            said(format!("container {name}: each of {count} has {asked}"))
        } else {
            said(format!(
                "container {name}: each of {count} has {asked}: {count} times as much"
            ))
            .hint("--split-resources gives each its part")
        };
        prepared.findings.push(finding);
        Ok(())
    }

    /// The copies of the container, which is `container` by now, and their records.
    pub(super) fn copies(&self, container: &Value, shards: &Shards) -> (Vec<Value>, Records) {
        let mut copies = Vec::new();
        let mut records = Records::new();
        let list = self.workload.spec.then("containers");
        for name in self.names(shards) {
            let path = list.then(format!("name={name}").as_str());
            records.insert(path.written(self.value), record::copied());
            let mut copy = container.clone();
            copy["name"] = name.into();
            if let Some(copy) = copy.as_object_mut() {
                copy.shift_remove("ports");
                copy.retain(|key, value| !PROBES.contains(&key.as_str()) || !ports::calls(value));
            }
            copies.push(copy);
        }
        (copies, records)
    }
}

/// What a volume is to those who write to it.
enum Storage {
    /// Nothing is kept there.
    None,
    /// Several may write to it.
    Common,
    Claim(String),
    /// One is to write to it.
    One(&'static str),
}

/// Whether the specification of a claim asks for what many may write to.
pub(super) fn is_for_many(claim: &Value) -> bool {
    let modes = claim["accessModes"].as_array().into_iter().flatten();
    let mut modes = modes.filter_map(Value::as_str);
    modes.any(|mode| mode == "ReadWriteMany")
}

fn said(message: String) -> Finding {
    Finding::new(Severity::Note, "shards", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_left_to_the_first_or_run_a_command() {
        assert_eq!(ShardProbes::parse("first"), Ok(ShardProbes::First));
        let words = ["/bin/x", "-a"].map(ToOwned::to_owned).to_vec();
        assert_eq!(
            ShardProbes::parse("exec=/bin/x  -a"),
            Ok(ShardProbes::Exec(words))
        );
        for text in ["", "exec", "exec= ", "last", "first=1"] {
            assert!(ShardProbes::parse(text).is_err(), "{text}");
        }
    }
}

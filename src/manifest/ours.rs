//! Which parts of a workload are ours. Their names alone do not tell: a volume of its
//! author's may be called the same, and is neither replaced nor taken out.

use std::collections::HashSet;

use serde_json::Value;

use super::configmap;
use super::error::Fault;
use super::names::{DIRECTORY, ENTRY, SHIM};
use super::path::Path;
use super::workload::Workload;
use crate::preload::LD_PRELOAD;

/// What of a workload is ours, by paths.
#[derive(Debug, Default)]
pub(super) struct Ours {
    pub(super) volumes: Vec<Path>,
    /// The init containers that fill them.
    pub(super) init: Vec<Path>,
    pub(super) mounts: HashSet<Path>,
    /// The ConfigMap that such a volume comes from.
    pub(super) configmap: Option<String>,
}

/// The keys that a volume's source may have, which the API server adds some of.
const SOURCES: [(&str, &[&str]); 4] = [
    ("configMap", &["name", "defaultMode", "optional"]),
    ("image", &["reference", "pullPolicy"]),
    ("hostPath", &["path", "type"]),
    ("emptyDir", &[]),
];

impl Ours {
    /// Finds what is ours: a volume of one of our kinds that containers under the shim
    /// mount where it goes, or whose name says that no one else made its source.
    pub(super) fn of(value: &Value, workload: &Workload) -> Self {
        let mut ours = Self::default();
        let volumes = named(value, &workload.spec.then("volumes"));
        let init = named(value, &workload.spec.then("initContainers"));
        let init: Vec<Path> = init
            .into_iter()
            .filter(|(_, one)| is_installer(one))
            .map(|(path, _)| path)
            .collect();
        let is_of_our_kind = |volume: &Value| is_volume(volume, !init.is_empty());
        if !volumes.iter().all(|(_, one)| is_of_our_kind(one))
            || !named(value, &claims(workload)).is_empty()
        {
            return ours;
        }
        let configmap = volumes
            .iter()
            .find_map(|(_, one)| one.get("configMap")?.get("name")?.as_str());
        let mut mounts = HashSet::new();
        let mut is_used = !init.is_empty() || configmap.is_some_and(configmap::is_name_of_ours);
        let mut is_shared = false;
        for (path, container) in containers(value, workload) {
            for (path, mount) in named(value, &path.then("volumeMounts")) {
                if is_mount(mount) {
                    is_used |= is_preloaded(container);
                    mounts.insert(path);
                } else {
                    is_shared = true;
                }
            }
        }
        if !is_used {
            return ours;
        }
        ours.mounts = mounts;
        // What its author mounts elsewhere as well stays.
        if !is_shared {
            ours.configmap = configmap.map(ToOwned::to_owned);
            ours.volumes = volumes.into_iter().map(|(path, _)| path).collect();
            ours.init = init;
        }
        ours
    }
}

/// Refuses a workload that holds none of ours, in which the names of ours are taken.
///
/// # Errors
/// Where, and by what.
pub(super) fn check(
    value: &Value,
    workload: &Workload,
    has_init: bool,
) -> Result<(), (Path, Fault)> {
    let taken = |path: Path, holder: String| {
        let name = SHIM.to_owned();
        Err((path, Fault::NameTaken { name, holder }))
    };
    for (list, holder) in [
        (workload.spec.then("volumes"), "volumes of these pods"),
        (claims(workload), "volumeClaimTemplates"),
    ] {
        if let Some((path, _)) = named(value, &list).into_iter().next() {
            return taken(path, format!("the {holder}"));
        }
    }
    for (path, container) in containers(value, workload) {
        if has_init && is_called(container, SHIM) {
            return taken(path, "the containers of these pods".into());
        }
        if let Some((path, mount)) = named(value, &path.then("volumeMounts")).into_iter().next()
            && !is_mount(mount)
        {
            let name = container.get("name").and_then(Value::as_str);
            let holder = format!("the mounts of container {}", name.unwrap_or_default());
            return taken(path, holder);
        }
    }
    Ok(())
}

/// Where a StatefulSet has volumes of its own.
fn claims(workload: &Workload) -> Path {
    workload.object.keys("spec.volumeClaimTemplates")
}

fn containers<'v>(value: &'v Value, workload: &Workload) -> Vec<(Path, &'v Value)> {
    let lists = ["initContainers", "containers"].map(|key| workload.spec.then(key));
    let items = lists.into_iter().flat_map(|list| items(value, &list));
    items.collect()
}

fn items<'v>(value: &'v Value, list: &Path) -> Vec<(Path, &'v Value)> {
    let items = list.get(value).and_then(Value::as_array);
    let items = items.into_iter().flatten().enumerate();
    items.map(|(at, one)| (list.then(at), one)).collect()
}

/// The items of a list that are called as ours are; those of volumeClaimTemplates are
/// objects.
fn named<'v>(value: &'v Value, list: &Path) -> Vec<(Path, &'v Value)> {
    let mut found = items(value, list);
    found.retain(|(_, one)| {
        is_called(one, SHIM) || one.pointer("/metadata/name") == Some(&SHIM.into())
    });
    found
}

fn is_called(value: &Value, name: &str) -> bool {
    value.get("name").and_then(Value::as_str) == Some(name)
}

/// Whether a volume has a source as one of the deliveries gives it.
fn is_volume(volume: &Value, has_init: bool) -> bool {
    let Some(volume) = volume.as_object().filter(|one| one.len() == 2) else {
        return false;
    };
    SOURCES.iter().any(|(kind, keys)| {
        let Some(Value::Object(source)) = volume.get(*kind) else {
            return false;
        };
        let is_plain = source.keys().all(|key| keys.contains(&key.as_str()));
        is_plain && (*kind != "emptyDir" || has_init)
    })
}

/// Whether an init container puts the shim into the volume.
fn is_installer(container: &Value) -> bool {
    let command = container.get("command").and_then(Value::as_array);
    let mounts = container.get("volumeMounts").and_then(Value::as_array);
    command.is_some_and(|words| words.starts_with(&["reuseport".into(), "install".into()]))
        && mounts.is_some_and(|mounts| mounts.iter().any(is_mount))
}

/// Whether a mount brings the volume to where the shim goes.
fn is_mount(mount: &Value) -> bool {
    let at = mount.get("mountPath").and_then(Value::as_str);
    is_called(mount, SHIM)
        && at.is_some_and(|at| at.trim_end_matches('/') == DIRECTORY)
        && mount.get("subPath").is_none()
        && mount.get("subPathExpr").is_none()
}

/// Whether a container's `LD_PRELOAD` names the shim.
pub(super) fn is_preloaded(container: &Value) -> bool {
    let variables = container.get("env").and_then(Value::as_array);
    variables.into_iter().flatten().any(|one| {
        let text = one.get("value").and_then(Value::as_str);
        is_called(one, LD_PRELOAD) && text.is_some_and(|text| text.contains(ENTRY))
    })
}

/// Whether something else than ours is mounted in a container where the shim goes.
pub(super) fn is_hidden(container: &Value) -> bool {
    let mounts = container.get("volumeMounts").and_then(Value::as_array);
    mounts.into_iter().flatten().any(|mount| {
        let at = mount.get("mountPath").and_then(Value::as_str);
        at.is_some_and(|at| at.trim_end_matches('/') == DIRECTORY)
    })
}

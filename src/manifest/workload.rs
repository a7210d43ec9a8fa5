//! Workloads: objects that hold a pod template, or are a Pod.

use serde_json::Value;

use super::document::{Document, Id};
use super::path::Path;

/// Where a kind of object holds its pod template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplatePath {
    pub kind: String,
    /// Keys, separated by dots; empty where the object itself is the pod.
    pub path: String,
}

impl TemplatePath {
    /// `KIND=.spec.path`, as it is given on the command line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (kind, path) = text
            .split_once('=')
            .ok_or("expected KIND=.spec.path, as in GameServer=.spec.template")?;
        let keys = path.strip_prefix('.').ok_or("the path begins with a dot")?;
        if kind.is_empty() || keys.split('.').any(str::is_empty) {
            return Err("expected KIND=.spec.path, as in GameServer=.spec.template".into());
        }
        Ok(Self {
            kind: kind.to_owned(),
            path: keys.to_owned(),
        })
    }
}

/// The kinds that are known, and where they hold their template. Those of others
/// (Argo's Rollout, Knative's Service, OpenShift's DeploymentConfig, OpenKruise's
/// CloneSet) are known by the template that they must have there.
const KINDS: [(&str, &str); 13] = [
    ("Pod", ""),
    ("PodTemplate", "template"),
    ("Deployment", TEMPLATE),
    ("ReplicaSet", TEMPLATE),
    ("ReplicationController", TEMPLATE),
    ("StatefulSet", TEMPLATE),
    ("DaemonSet", TEMPLATE),
    ("Job", TEMPLATE),
    ("CronJob", "spec.jobTemplate.spec.template"),
    ("Rollout", TEMPLATE),
    ("Service", TEMPLATE),
    ("DeploymentConfig", TEMPLATE),
    ("CloneSet", TEMPLATE),
];

const TEMPLATE: &str = "spec.template";

/// A workload of a document.
#[derive(Clone, Debug)]
pub(super) struct Workload {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) namespace: Option<String>,
    /// The object, its template, and the template's pod specification.
    pub(super) object: Path,
    pub(super) template: Path,
    pub(super) spec: Path,
}

impl Workload {
    /// `KIND/NAME`.
    pub(super) fn title(&self) -> String {
        format!("{}/{}", self.kind, self.name)
    }

    /// Whether `wanted` names it: `KIND/NAME`, the kind in any case.
    pub(super) fn is(&self, wanted: &str) -> bool {
        wanted
            .split_once('/')
            .is_some_and(|(kind, name)| kind.eq_ignore_ascii_case(&self.kind) && name == self.name)
    }
}

/// Whether a document can hold a workload, told from its nodes alone.
pub(super) fn may_hold(document: &Document, more: &[TemplatePath]) -> bool {
    let kind = |id: Id| {
        let (_, kind) = document.entry(document.resolve(id), "kind")?;
        document.scalar(kind)
    };
    let Some(kind) = kind(document.root) else {
        return false;
    };
    kind.ends_with("List") || template(kind, more).is_some()
}

/// The workloads of a document, whose value is `value`.
pub(super) fn workloads(value: &Value, more: &[TemplatePath]) -> Vec<Workload> {
    let mut found = Vec::new();
    let kind = value.get("kind").and_then(Value::as_str);
    match (kind, value.get("items")) {
        (Some(kind), Some(Value::Array(items))) if kind.ends_with("List") => {
            // The items of a DeploymentList need not say that they are Deployments.
            let implied = kind.strip_suffix("List").unwrap_or_default();
            let items = items.iter().enumerate().filter_map(|(index, item)| {
                let path = Path::default().then("items").then(index);
                workload(item, path, implied, more)
            });
            found.extend(items);
        }
        _ => found.extend(workload(value, Path::default(), "", more)),
    }
    found
}

fn workload(object: &Value, path: Path, implied: &str, more: &[TemplatePath]) -> Option<Workload> {
    let text = |key: &str| object.get(key).and_then(Value::as_str);
    let kind = text("kind").unwrap_or(implied);
    if kind == "Service" && !text("apiVersion")?.starts_with("serving.knative.dev/") {
        return None;
    }
    let template = path.keys(template(kind, more)?);
    let spec = template.then("spec");
    let below = Path(spec.0[path.0.len()..].to_vec());
    // Without containers there is nothing to do: a Rollout refers to a Deployment.
    below.get(object)?.get("containers")?;
    let metadata = |key: &str| object.get("metadata")?.get(key)?.as_str();
    let name = metadata("name").or_else(|| metadata("generateName"));
    Some(Workload {
        kind: kind.to_owned(),
        name: name.unwrap_or_default().to_owned(),
        namespace: metadata("namespace").map(ToOwned::to_owned),
        object: path,
        template,
        spec,
    })
}

fn template<'k>(kind: &str, more: &'k [TemplatePath]) -> Option<&'k str> {
    let given = more.iter().find(|one| one.kind == kind);
    if let Some(given) = given {
        return Some(&given.path);
    }
    let known = KINDS.iter().find(|(one, _)| *one == kind);
    known.map(|(_, path)| *path)
}

//! Policies for a whole cluster: a MutatingAdmissionPolicy that does to pods what
//! [`inject`](super::inject) does to their text, with no server to run, and a
//! ValidatingAdmissionPolicy that warns of pods that will not overlap.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/mutating-admission-policy/>

mod cel;
mod mutation;
mod requirements;

use std::collections::HashSet;

use serde_json::{Map, Value, json};
use thiserror::Error;

use super::names::{ANNOTATION, SHIM};
use super::write::Indent;
use super::{Delivery, configmap, pods};
use crate::rules::Assignments;
use crate::shim::{self, ARCHITECTURES, Architecture, NoShim};
use cel::{all, list, quoted};
use mutation::Definition;

/// The namespace of the cluster's own pods, which are never touched.
const SYSTEM: &str = "kube-system";

/// The label by which a namespace is chosen by its name.
const NAMESPACE: &str = "kubernetes.io/metadata.name";

/// The name of the policy and of its binding; the other's has a word more.
const NAME: &str = "reuseport";

/// A version of the API that has mutating policies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// Since Kubernetes 1.36.
    #[default]
    V1,
    /// Since 1.34, where it is switched on.
    V1Beta1,
}

impl Version {
    /// Its name in `apiVersion`.
    pub fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V1Beta1 => "v1beta1",
        }
    }
}

/// What a policy does, and where.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The rules of pods whose annotations say nothing of them.
    pub rules: Assignments,
    /// By image, or by ConfigMaps that are printed for each namespace.
    pub delivery: Delivery,
    /// Pods without an annotation, too.
    pub all: bool,
    /// Labels that a namespace must have.
    pub labels: Vec<(String, String)>,
    /// The namespaces; empty for all.
    pub namespaces: Vec<String>,
    pub version: Version,
    /// Whether another policy warns.
    pub warn: bool,
    /// That of nodes that pods are not pinned to one of.
    pub architecture: Option<&'static Architecture>,
}

/// There can be no such policy.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refused {
    #[error(
        "a ConfigMap lies in one namespace: name each with --namespace, or use --delivery image=REF"
    )]
    NoNamespace,
    #[error(
        "{SYSTEM} holds the cluster's own pods, which no policy of ours touches; name another namespace"
    )]
    System,
    #[error(
        "a policy delivers the shim by configmap or image=REF; for init=REF and host=PATH use reuseport inject -f"
    )]
    Delivery,
    #[error("{0}")]
    NoShim(#[from] NoShim),
}

/// A policy as YAML, ready to be applied: ConfigMaps, the policy and its binding,
/// and those that warn.
///
/// # Errors
/// There can be no such policy.
pub fn policy(options: &Policy) -> Result<String, Refused> {
    let mut known = HashSet::new();
    let mut options = options.clone();
    options.namespaces.retain(|one| known.insert(one.clone()));
    let options = &options;
    if options.namespaces.iter().any(|one| one == SYSTEM) {
        return Err(Refused::System);
    }
    let carriers = carriers(options)?;
    let mut objects = Vec::new();
    for namespace in &options.namespaces {
        let maps = carriers
            .iter()
            .map(|one| configmap::object(one.shim, &one.configmap, Some(namespace)));
        objects.extend(maps);
    }
    let mutating = mutating(options, &carriers);
    let binding = json!({"policyName": NAME});
    objects.extend(pair(options.version, "Mutating", NAME, [mutating, binding]));
    if options.warn {
        let name = format!("{NAME}-warn");
        let validating = validating(options, &carriers);
        let binding = json!({"policyName": name, "validationActions": ["Warn"]});
        objects.extend(pair(
            Version::V1,
            "Validating",
            &name,
            [validating, binding],
        ));
    }
    let indent = Indent { step: 2, dash: 0 };
    let text = |object: &Value| {
        let lines = indent.map(object.as_object().unwrap_or(&Map::new()), 0);
        lines.join("\n") + "\n"
    };
    Ok(objects.iter().map(text).collect::<Vec<_>>().join("---\n"))
}

/// A ConfigMap that carries the shim for an architecture.
struct Carrier {
    architecture: &'static Architecture,
    shim: &'static [u8],
    configmap: String,
}

/// The carriers, that of pods which are pinned to no architecture first; none where
/// an image holds them all.
fn carriers(options: &Policy) -> Result<Vec<Carrier>, Refused> {
    match &options.delivery {
        Delivery::Image(_) => return Ok(Vec::new()),
        Delivery::ConfigMap(None) if options.namespaces.is_empty() => {
            return Err(Refused::NoNamespace);
        }
        Delivery::ConfigMap(None) => {}
        _ => return Err(Refused::Delivery),
    }
    let first = match options.architecture {
        Some(architecture) => architecture,
        None => pods::assumed()?,
    };
    // Not every build of the program has them all.
    shim::embedded(first)?;
    let others = ARCHITECTURES.iter().filter(|one| *one != first);
    let carriers = [first]
        .into_iter()
        .chain(others)
        .filter_map(|architecture| {
            let shim = shim::embedded(architecture).ok()?;
            Some(Carrier {
                architecture,
                shim,
                configmap: configmap::name(shim, &["MutatingAdmissionPolicy", NAME]),
            })
        });
    Ok(carriers.collect())
}

/// A policy and its binding, with the specifications of both.
fn pair(version: Version, kind: &str, name: &str, specs: [Value; 2]) -> [Value; 2] {
    let kinds = [
        format!("{kind}AdmissionPolicy"),
        format!("{kind}AdmissionPolicyBinding"),
    ];
    let mut kinds = kinds.into_iter();
    specs.map(|spec| {
        json!({
            "apiVersion": format!("admissionregistration.k8s.io/{}", version.name()),
            "kind": kinds.next(),
            "metadata": {"name": name},
            "spec": spec,
        })
    })
}

fn mutating(options: &Policy, carriers: &[Carrier]) -> Value {
    let pod = "object";
    let mut variables = mutation::definitions(pod);
    let mut requirements = requirements::requirements(pod);
    let source = match &options.delivery {
        Delivery::Image(reference) => {
            ("image", format!("{{\"reference\": {}}}", quoted(reference)))
        }
        _ => {
            variables.push(("arch", cel::label(pod, "arch")));
            requirements.push(architecture(carriers));
            (
                "configMap",
                format!("{{\"name\": {}}}", configmap_of(carriers)),
            )
        }
    };
    variables.push(("rules", mutation::rules(&options.rules)));
    variables.extend(mutation::preloads());
    let tests = requirements.into_iter().map(|one| one.test);
    variables.push(("fits", all(tests)));
    json!({
        "failurePolicy": "Ignore",
        "reinvocationPolicy": "IfNeeded",
        "matchConstraints": {
            "namespaceSelector": namespaces(options),
            "resourceRules": [resources("", &["pods"], &["CREATE"])],
        },
        "matchConditions": [
            condition("asked-for", &asked_for(options, pod)),
            // What a node tells of its own pods is no order to run them.
            condition("no-mirror", &format!("!(\"kubernetes.io/config.mirror\" in {})", cel::annotations(pod))),
            condition("not-done", &format!("!{}", has_shim(pod))),
        ],
        "variables": named(variables),
        "mutations": [{
            "patchType": "JSONPatch",
            "jsonPatch": {"expression": mutation::patch(&source)},
        }],
    })
}

fn validating(options: &Policy, carriers: &[Carrier]) -> Value {
    let pod = "variables.pod";
    // Conditions come before variables. Of what is dyn nobody is told that pods have
    // no template.
    let template = "(has(dyn(object).spec.template) ? dyn(object).spec.template : dyn(object))";
    let mut variables = vec![("pod", template.to_owned())];
    variables.extend(mutation::definitions(pod));
    let mut requirements = requirements::requirements(pod);
    if !carriers.is_empty() {
        variables.push(("arch", cel::label(pod, "arch")));
        requirements.push(architecture(carriers));
    }
    let ports = format!(
        "{pod}.spec.?hostNetwork.orValue(false)\n  \
         ? {pod}.spec.containers.filter(c, c.?ports.orValue([]).size() > 0).map(c, string(c.name)) : []"
    );
    variables.push(("ports", ports));
    let host_port = "its pods use the host's network, and the scheduler puts no two of them with one port on a node: \
         take ports out of the containers, the server listens all the same";
    let mut validations = vec![json!({
        "expression": "variables.ports.size() == 0",
        "message": format!("reuseport: {host_port}"),
        "messageExpression":
            format!("{} + variables.ports.join(\", \")", quoted(&format!("reuseport: {host_port}: "))),
    })];
    // Done already, by text: what the policy requires is nothing to that.
    let done = has_shim(pod);
    validations.extend(requirements.into_iter().map(|one| {
        json!({
            "expression": format!("{done} ||\n({})", one.test),
            "message": format!("reuseport: left as it is: {}", one.message),
        })
    }));
    let asked_for = asked_for(options, template);
    json!({
        "failurePolicy": "Ignore",
        "matchConstraints": {
            "namespaceSelector": namespaces(options),
            "resourceRules": [
                resources("", &["pods"], &["CREATE"]),
                resources("apps", &["daemonsets", "deployments", "statefulsets"], &["CREATE", "UPDATE"]),
            ],
        },
        "matchConditions": [
            condition("asked-for", &format!("{asked_for} ||\n{}", has_shim(template))),
        ],
        "variables": named(variables),
        "validations": validations,
    })
}

fn architecture(carriers: &[Carrier]) -> requirements::Requirement {
    let names = carriers
        .iter()
        .flat_map(|one| pods::names(one.architecture));
    requirements::architecture(&names.collect::<Vec<_>>())
}

/// The name of the ConfigMap for a pod, by its architecture.
fn configmap_of(carriers: &[Carrier]) -> String {
    let (first, others) = carriers.split_first().expect("one at least");
    let others = others.iter().map(|one| {
        let names = list(pods::names(one.architecture));
        format!("variables.arch in {names} ? {} : ", quoted(&one.configmap))
    });
    others.collect::<String>() + &quoted(&first.configmap)
}

fn asked_for(options: &Policy, pod: &str) -> String {
    let word = format!(
        "{pod}.?metadata.?annotations[?{}].orValue(\"\")",
        quoted(&format!("{ANNOTATION}inject"))
    );
    if options.all {
        format!("{word} in [\"\", \"enabled\"]")
    } else {
        format!("{word} == \"enabled\"")
    }
}

/// Whether the shim is in a pod.
fn has_shim(pod: &str) -> String {
    format!(
        "{pod}.spec.?volumes.orValue([]).exists(v, v.name == {})",
        quoted(SHIM)
    )
}

fn namespaces(options: &Policy) -> Value {
    let mut expressions = vec![json!({"key": NAMESPACE, "operator": "NotIn", "values": [SYSTEM]})];
    if !options.namespaces.is_empty() {
        expressions.push(json!({"key": NAMESPACE, "operator": "In", "values": options.namespaces}));
    }
    let mut selector = json!({"matchExpressions": expressions});
    if !options.labels.is_empty() {
        let labels = options.labels.iter();
        selector["matchLabels"] = labels
            .map(|(key, value)| (key.clone(), Value::from(value.as_str())))
            .collect::<Map<_, _>>()
            .into();
    }
    selector
}

fn resources(group: &str, resources: &[&str], operations: &[&str]) -> Value {
    json!({"apiGroups": [group], "apiVersions": ["v1"], "operations": operations, "resources": resources})
}

fn condition(name: &str, expression: &str) -> Value {
    json!({"name": name, "expression": expression})
}

fn named(variables: Vec<Definition>) -> Value {
    let variable = |(name, expression)| json!({"name": name, "expression": expression});
    variables.into_iter().map(variable).collect()
}

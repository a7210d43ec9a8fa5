//! Who refers to the ports of pods by their names: Services, NetworkPolicies,
//! PodMonitors.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::document::Document;
use super::error::{Error, Fault, Position};
use super::path::Path;
use super::unfit::Unfit;
use super::workload::Workload;

/// What refers to ports by name, and the pods that lose such names.
#[derive(Debug, Default)]
pub(super) struct NamedPorts {
    references: Vec<Reference>,
    lost: Vec<Lost>,
}

/// An object that names a port of the pods that it selects.
#[derive(Debug)]
struct Reference {
    at: Position,
    object: String,
    /// Where the pods are; `None` for anywhere.
    namespace: Option<String>,
    /// A LabelSelector.
    selector: Value,
    port: String,
}

#[derive(Debug)]
struct Lost {
    workload: String,
    namespace: Option<String>,
    labels: Value,
    ports: BTreeMap<String, u64>,
}

impl NamedPorts {
    /// Takes note of the objects of a document, whose value is `value`.
    pub(super) fn note(&mut self, file: &str, document: &Document, value: &Value) {
        let is_list = value["kind"]
            .as_str()
            .is_some_and(|kind| kind.ends_with("List"));
        match value["items"].as_array().filter(|_| is_list) {
            Some(items) => {
                for (index, item) in items.iter().enumerate() {
                    let path = Path::default().then("items").then(index);
                    self.object(file, document, item, &path);
                }
            }
            None => self.object(file, document, value, &Path::default()),
        }
    }

    fn object(&mut self, file: &str, document: &Document, object: &Value, path: &Path) {
        let spec = &object["spec"];
        let own = object["metadata"]["namespace"].as_str();
        let mut add = |at: &str, index: [usize; 2], name: &str, namespace, selector: Value| {
            let Some(port) = name_of(at, index, name, spec) else {
                return;
            };
            self.references.push(Reference {
                at: document.position(file, &place(path, at, index, name)),
                object: format!(
                    "{}/{}",
                    object["kind"].as_str().unwrap_or_default(),
                    object["metadata"]["name"].as_str().unwrap_or_default()
                ),
                namespace,
                selector,
                port,
            });
        };
        let own = own.map(ToOwned::to_owned);
        let count = |list: &Value| list.as_array().map_or(0, Vec::len);
        match object["kind"].as_str() {
            // A Service without a selector has endpoints that somebody else writes.
            Some("Service") if spec["selector"].is_object() => {
                for index in 0..count(&spec["ports"]) {
                    let selector = json!({"matchLabels": spec["selector"]});
                    add("ports", [index, 0], "targetPort", own.clone(), selector);
                }
            }
            Some("PodMonitor") => {
                let namespace = own.filter(|_| spec.get("namespaceSelector").is_none());
                for index in 0..count(&spec["podMetricsEndpoints"]) {
                    let selector = spec["selector"].clone();
                    add(
                        "podMetricsEndpoints",
                        [index, 0],
                        "port",
                        namespace.clone(),
                        selector,
                    );
                }
            }
            Some("NetworkPolicy") => {
                for rule in 0..count(&spec["ingress"]) {
                    for port in 0..count(&spec["ingress"][rule]["ports"]) {
                        let selector = spec["podSelector"].clone();
                        add("ingress", [rule, port], "port", own.clone(), selector);
                    }
                }
                for rule in 0..count(&spec["egress"]) {
                    let peers = spec["egress"][rule]["to"].as_array();
                    let anybody = vec![json!({"podSelector": {}, "namespaceSelector": {}})];
                    for peer in peers.filter(|all| !all.is_empty()).unwrap_or(&anybody) {
                        if peer.get("ipBlock").is_some() {
                            continue;
                        }
                        let is_near = peer.get("namespaceSelector").is_none();
                        for port in 0..count(&spec["egress"][rule]["ports"]) {
                            let namespace = own.clone().filter(|_| is_near);
                            let selector = peer["podSelector"].clone();
                            add("egress", [rule, port], "port", namespace, selector);
                        }
                    }
                }
            }
            _ => {}
        }
    }

    /// Takes note of a workload of `value` whose `ports` lose their names.
    pub(super) fn lose(
        &mut self,
        value: &Value,
        workload: &Workload,
        ports: BTreeMap<String, u64>,
    ) {
        let labels = workload.template.keys("metadata.labels").get(value);
        self.lost.push(Lost {
            workload: workload.title(),
            namespace: workload.namespace.clone(),
            labels: labels.cloned().unwrap_or_default(),
            ports,
        });
    }

    /// Refuses references to names that are lost.
    ///
    /// # Errors
    /// The first of them.
    pub(super) fn check(&self) -> Result<(), Error> {
        for reference in &self.references {
            for lost in &self.lost {
                // What names no namespace goes wherever it is applied to.
                let is_near = match (&reference.namespace, &lost.namespace) {
                    (Some(one), Some(other)) => one == other,
                    _ => true,
                };
                let number = lost.ports.get(&reference.port);
                if let Some(number) = number.filter(|_| is_near)
                    && selects(&reference.selector, &lost.labels)
                {
                    let why = Unfit::NamedPort {
                        port: reference.port.clone(),
                        number: *number,
                        workload: lost.workload.clone(),
                    };
                    let object = reference.object.clone();
                    let fault = Fault::Unfit {
                        object,
                        why: Box::new(why),
                    };
                    return Err(Error::at(reference.at.clone(), fault));
                }
            }
        }
        Ok(())
    }
}

/// The path of a port in `spec`: `spec.LIST[i].KEY`, or `spec.LIST[i].ports[j].KEY`
/// in a rule of a NetworkPolicy.
fn place(object: &Path, list: &str, [first, second]: [usize; 2], key: &str) -> Path {
    let item = object.then("spec").then(list).then(first);
    match list {
        "ingress" | "egress" => item.then("ports").then(second).then(key),
        _ => item.then(key),
    }
}

/// The name that stands there; `None` for a number.
fn name_of(list: &str, index: [usize; 2], key: &str, spec: &Value) -> Option<String> {
    let path = place(&Path::default(), list, index, key);
    let name = Path(path.0[1..].to_vec()).get(spec)?.as_str()?;
    let is_number = name.bytes().all(|one| one.is_ascii_digit());
    (!is_number).then(|| name.to_owned())
}

/// Whether a LabelSelector holds for `labels`:
/// <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/>.
fn selects(selector: &Value, labels: &Value) -> bool {
    let wanted = selector["matchLabels"].as_object().into_iter().flatten();
    let mut wanted = wanted.map(|(key, value)| labels.get(key) == Some(value));
    let expressions = selector["matchExpressions"].as_array();
    let mut expressions = expressions.into_iter().flatten().map(|one| {
        let label = one["key"].as_str().and_then(|key| labels.get(key));
        let values = one["values"].as_array();
        let is_in = || label.is_some_and(|label| values.is_some_and(|all| all.contains(label)));
        match one["operator"].as_str() {
            Some("In") => is_in(),
            Some("NotIn") => !is_in(),
            Some("Exists") => label.is_some(),
            Some("DoesNotExist") => label.is_none(),
            // It may.
            _ => true,
        }
    });
    wanted.all(|holds| holds) && expressions.all(|holds| holds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_read_as_kubernetes_does() {
        let labels = json!({"app": "dns", "tier": "infra"});
        for (selector, holds) in [
            (json!({}), true),
            (json!({"matchLabels": {"app": "dns"}}), true),
            (json!({"matchLabels": {"app": "web"}}), false),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["dns"]}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["dns"]}]}),
                false,
            ),
            (
                json!({"matchExpressions": [{"key": "none", "operator": "NotIn", "values": ["dns"]}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "none", "operator": "Exists"}]}),
                false,
            ),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}),
                false,
            ),
        ] {
            assert_eq!(selects(&selector, &labels), holds, "{selector}");
        }
    }
}

//! What a pod's specification says that matters to the shim: its nodes'
//! architecture and system, and which of its containers are servers.

use serde_json::Value;

use crate::shim::{self, Architecture, NoShim};

/// Containers that stand beside the one that does the work, and are passed over
/// unless they are named: proxies of service meshes, agents, shippers of logs.
pub const SIDECARS: [&str; 14] = [
    "istio-proxy",
    "istio-init",
    "linkerd-proxy",
    "linkerd-init",
    "envoy-sidecar",
    "consul-dataplane",
    "kuma-sidecar",
    "daprd",
    "queue-proxy",
    "cloud-sql-proxy",
    "vault-agent",
    "datadog-agent",
    "fluent-bit",
    "config-reloader",
];

/// The architecture that a pod is pinned to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pin {
    None,
    To(&'static Architecture),
}

/// The architecture that `spec` is pinned to, by its nodeSelector or by a node
/// affinity that is required.
///
/// # Errors
/// There is no shim for it.
pub(super) fn pin(spec: &Value) -> Result<Pin, NoShim> {
    let mut labels = labels(spec, "arch");
    labels.dedup();
    match labels.as_slice() {
        [name] => Ok(Pin::To(shim::architecture(name)?)),
        _ => Ok(Pin::None),
    }
}

/// What nodes of an architecture may call it: Go's name for it is not the kernel's.
pub(super) fn names(architecture: &Architecture) -> [&'static str; 2] {
    [architecture.go_name, architecture.name]
}

/// The architecture of nodes that nothing is known of.
pub(super) fn assumed() -> Result<&'static Architecture, NoShim> {
    shim::architecture("x86_64")
}

/// Whether the pod runs on Windows.
pub(super) fn is_windows(spec: &Value) -> bool {
    let os = spec.pointer("/os/name").and_then(Value::as_str);
    let labels = labels(spec, "os");
    os == Some("windows") || (!labels.is_empty() && labels.iter().all(|one| *one == "windows"))
}

/// The values that nodes may have for the well-known label `name`; none where any
/// will do.
fn labels<'v>(spec: &'v Value, name: &str) -> Vec<&'v str> {
    let keys = [
        format!("kubernetes.io/{name}"),
        format!("beta.kubernetes.io/{name}"),
    ];
    let selector = spec.get("nodeSelector");
    let selected = keys.iter().find_map(|key| selector?.get(key)?.as_str());
    if let Some(selected) = selected {
        return vec![selected];
    }
    let terms = spec
        .pointer("/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms")
        .and_then(Value::as_array);
    let mut values = Vec::new();
    // A node has to satisfy one of the terms, and all expressions of it.
    for term in terms.into_iter().flatten() {
        let expressions = term.get("matchExpressions").and_then(Value::as_array);
        let mut expressions = expressions.into_iter().flatten();
        let one = expressions.find(|one| {
            let key = one.get("key").and_then(Value::as_str);
            let operator = one.get("operator").and_then(Value::as_str);
            operator == Some("In") && key.is_some_and(|key| keys.iter().any(|one| one == key))
        });
        let Some(allowed) = one.and_then(|one| one.get("values")?.as_array()) else {
            return Vec::new();
        };
        values.extend(allowed.iter().filter_map(Value::as_str));
    }
    values.sort_unstable();
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn affinity(terms: &[&[&str]]) -> Value {
        let terms = terms.iter().map(|values| {
            json!({"matchExpressions": [
                {"key": "zone", "operator": "Exists"},
                {"key": "kubernetes.io/arch", "operator": "In", "values": values},
            ]})
        });
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms": terms.collect::<Value>()}}}})
    }

    #[test]
    fn a_pod_is_pinned_where_all_its_nodes_have_one_architecture() {
        let arm = Ok(Pin::To(shim::architecture("aarch64").expect("known")));
        assert_eq!(
            pin(&json!({"nodeSelector": {"kubernetes.io/arch": "arm64"}})),
            arm
        );
        assert_eq!(pin(&affinity(&[&["arm64"], &["arm64"]])), arm);
        assert_eq!(pin(&affinity(&[&["arm64"], &["amd64"]])), Ok(Pin::None));
        assert_eq!(pin(&affinity(&[&["arm64", "amd64"]])), Ok(Pin::None));
        assert_eq!(pin(&json!({})), Ok(Pin::None));
        assert!(pin(&affinity(&[&["s390x"]])).is_err());
    }

    #[test]
    fn windows_is_told_by_label_and_by_field() {
        assert!(is_windows(&json!({"os": {"name": "windows"}})));
        assert!(is_windows(
            &json!({"nodeSelector": {"kubernetes.io/os": "windows"}})
        ));
        assert!(!is_windows(
            &json!({"nodeSelector": {"kubernetes.io/os": "linux"}})
        ));
        assert!(!is_windows(&json!({})));
    }
}

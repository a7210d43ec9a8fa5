//! The ports that containers name, what calls them, and which of them are shared.

use serde_json::Value;

use super::container::Chosen;
use crate::finding::{Finding, Severity};

/// The probes that a container may have.
pub(super) const PROBES: [&str; 3] = ["livenessProbe", "readinessProbe", "startupProbe"];

/// The hooks of its life.
pub(super) const HOOKS: [&str; 2] = ["postStart", "preStop"];

/// The fields of either that call a port.
pub(super) const CALLS: [&str; 3] = ["httpGet", "tcpSocket", "grpc"];

/// Whether a probe or a hook calls a port.
pub(super) fn calls(caller: &Value) -> bool {
    CALLS.iter().any(|call| caller.get(*call).is_some())
}

/// An entry of `ports`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Port<'v> {
    pub(super) name: Option<&'v str>,
    pub(super) number: u64,
    pub(super) protocol: &'v str,
}

impl<'v> Port<'v> {
    /// Those of a container.
    pub(super) fn all(container: &'v Value) -> Vec<Self> {
        let entries = container["ports"].as_array().into_iter().flatten();
        entries.filter_map(Self::of).collect()
    }

    fn of(entry: &'v Value) -> Option<Self> {
        let number = |key: &str| entry[key].as_u64();
        Some(Self {
            name: entry["name"].as_str(),
            number: number("hostPort").or_else(|| number("containerPort"))?,
            protocol: entry["protocol"].as_str().unwrap_or("TCP"),
        })
    }

    pub(super) fn shown(&self) -> String {
        let Self {
            name,
            number,
            protocol,
        } = self;
        match name {
            Some(name) => format!("{number}/{protocol} ({name})"),
            None => format!("{number}/{protocol}"),
        }
    }
}

/// The ports of a container that are not shared, if it has any, as a finding:
/// `who` cannot bind them.
pub(super) fn apart(container: &Value, chosen: Option<&Chosen>, who: &str) -> Option<Finding> {
    let ports = Port::all(container);
    let is_apart =
        |port: &&Port| chosen.is_none_or(|one| !one.shares(container, port.number, port.protocol));
    let apart: Vec<String> = ports.iter().filter(is_apart).map(Port::shown).collect();
    if apart.is_empty() {
        return None;
    }
    let message = format!(
        "container {} does not share port {}: {who} cannot bind it",
        container["name"].as_str().unwrap_or_default(),
        apart.join(", ")
    );
    let hint = match chosen {
        Some(_) => "let the rules select it, as --port does",
        None => "put the shim into it as well, with --container",
    };
    Some(Finding::new(Severity::Warning, "port-not-shared", message).hint(hint))
}

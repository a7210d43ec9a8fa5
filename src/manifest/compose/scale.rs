//! Services whose containers share a port: on the host's network, with nothing that
//! only one container can have.

use serde_json::Value;

use super::super::document::{Content, Document};
use super::super::edit::{self, Change, Records};
use super::super::error::Fault;
use super::super::path::Path;
use super::{ASIDE, Refusal, Service};
use crate::finding::{Finding, Severity};

/// What must make way, and why.
const ONCE: [(&str, &str); 2] = [
    ("ports", "the host's network needs no ports published"),
    ("container_name", "only one container can have a name"),
];

/// What the host's network excludes.
const EXCLUDED: [&str; 3] = ["networks", "links", "mac_address"];

pub(super) const NETWORK: &str = "network_mode";

/// Puts a service on the host's network; what only one container can have makes way.
///
/// # Errors
/// Something else than that would change, or Compose would refuse the result.
pub(super) fn changes(
    document: &Document,
    value: &Value,
    service: &Service,
    changes: &mut Vec<Change>,
    records: &mut Records,
) -> Result<Vec<Finding>, Refusal> {
    let refuse = |key: &str, why: String| {
        let name = service.name.to_owned();
        Err((service.path.then(key), Fault::NotScalable { name, why }))
    };
    for key in EXCLUDED {
        if is_there(service.get(key)) {
            return refuse(
                key,
                format!(
                    "{key} and the host's network exclude each other; take it out, if nothing needs it"
                ),
            );
        }
    }
    if let Value::Object(settings) = service.get("sysctls")
        && let Some(name) = settings.keys().find(|one| one.starts_with("net."))
    {
        return refuse(
            "sysctls",
            format!(
                "{name} cannot be set on the host's network; set it on the host, and take it out"
            ),
        );
    }
    for (index, port) in service
        .get("ports")
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        if let Err(why) = same(port) {
            return refuse("ports", format!("item {index}: {why}"));
        }
    }
    let mut findings = Vec::new();
    let mut say = |message: String| {
        findings.push(Finding::new(Severity::Note, "scale-ready", message));
    };
    for (key, why) in ONCE {
        if !service.get(key).is_null() {
            changes.push(aside(document, &service.path, key, ASIDE, false)?);
            say(format!("{key} is set aside: {why}"));
        }
    }
    let mode = service.get(NETWORK);
    if mode != "host" {
        if !mode.is_null() {
            changes.push(aside(document, &service.path, NETWORK, ASIDE, true)?);
            say(format!("network_mode {mode} is set aside"));
        }
        let map = service.path.clone();
        changes.push(Change::Entry {
            map,
            key: NETWORK,
            value: "host".into(),
        });
        // Ours, to be told from one that was there.
        records.insert(
            service.path.then(NETWORK).written(value),
            Value::Bool(false),
        );
        say(
            "it is on the host's network: other services reach it there, and no longer by its name"
                .into(),
        );
    }
    Ok(findings)
}

/// Gives the entry `key` of `map` a name under which it has no effect. `is_replaced`
/// where another takes its place.
///
/// # Errors
/// It is not written in that mapping, or a merge key brings it in as well.
pub(super) fn aside(
    document: &Document,
    map: &Path,
    key: &str,
    text: &'static str,
    is_replaced: bool,
) -> Result<Change, Refusal> {
    let written = document.find(map).and_then(|id| {
        // What an alias brings in is written out.
        let is_alias = matches!(document.node(id).content, Content::Alias(_));
        let id = document.resolve(id);
        let entry = document.entry(id, key)?;
        if !is_replaced && document.merged(id).contains_key(key) {
            return None;
        }
        (is_alias || edit::can_extend(document, entry.0)).then_some(())
    });
    if written.is_none() {
        let key = key.to_owned();
        return Err((map.then(key.as_str()), Fault::NotWritten { key }));
    }
    Ok(Change::Rename {
        map: map.clone(),
        key: key.to_owned(),
        text,
    })
}

fn is_there(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    }
}

/// Whether a published port is the container's own, for everybody.
fn same(port: &Value) -> Result<(), String> {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let (address, published, target) = match port {
        Value::Object(map) => {
            let field = |key: &str| map.get(key).map(text).unwrap_or_default();
            (field("host_ip"), field("published"), field("target"))
        }
        other => {
            let other = text(other);
            if other.contains("${") {
                return Err(format!(
                    "{other} is known only when it runs; write the numbers out"
                ));
            }
            let plain = other.split('/').next().unwrap_or_default().to_owned();
            let mut parts: Vec<&str> = plain.rsplitn(3, ':').collect();
            parts.reverse();
            match parts.as_slice() {
                [address, published, target] => (
                    (*address).to_owned(),
                    (*published).to_owned(),
                    (*target).to_owned(),
                ),
                [published, target] => {
                    (String::new(), (*published).to_owned(), (*target).to_owned())
                }
                _ => (String::new(), String::new(), plain),
            }
        }
    };
    let address = address.trim_matches(['[', ']']);
    if !matches!(address, "" | "0.0.0.0" | "::") {
        return Err(format!(
            "{target} is published on {address} alone, and the server would be reached at every address of the host; \
             have it listen there, and take the item out"
        ));
    }
    if !published.is_empty() && published != target {
        return Err(format!(
            "{published} is published for {target}, and the host's network gives no other port; \
             have the server listen on {published}, and publish that"
        ));
    }
    Ok(())
}

/// What keeps the containers of a service from sharing a port.
pub(super) fn advice(service: &Service) -> Vec<Finding> {
    let is_host = service.get(NETWORK) == "host";
    let number = |value: &Value| value.as_u64().unwrap_or(1);
    let copies = number(service.get("scale")).max(number(&service.get("deploy")["replicas"]));
    let mut found = Vec::new();
    let mut warn = |severity, code, message: String| {
        found.push(Finding::new(severity, code, message).hint("--scale-ready changes that"));
    };
    if copies > 1 && !is_host {
        let message = format!("its {copies} containers have a network each, and share no port");
        warn(Severity::Note, "nothing-shared", message);
    }
    if is_host && is_there(service.get("ports")) {
        let message = "it is on the host's network and has ports, which exclude each other";
        warn(Severity::Warning, "host-port", message.into());
    }
    if is_host && !service.get("container_name").is_null() {
        let message = "container_name keeps it from having several containers";
        warn(Severity::Note, "container-name", message.into());
    }
    found
}

//! The environment of a service: a mapping, or a list of `NAME=VALUE`, as it is
//! there. A name without a value takes the one that the shell has which runs Compose.

use serde_json::{Map, Value};

use super::super::Injection;
use super::super::document::{Content, Document};
use super::super::edit::{self, Change, Records};
use super::super::eject::kept_path;
use super::super::error::Fault;
use super::super::inject::add_items;
use super::super::names::{ENTRY, ENTRY_LAST, KEPT, VARIABLE};
use super::super::path::Path;
use super::tags::{self, Tag};
use super::{Refusal, Service, entries, wrong};
use crate::finding::{Finding, Severity};
use crate::preload::LD_PRELOAD;

/// `LD_PRELOAD` behind the one of the shell that runs Compose, if that has one.
pub(super) const ENTRY_BEHIND_SHELLS: &str = "${LD_PRELOAD:-}:/.reuseport/libreuseport.so";

/// The key of a service for it.
pub(super) const ENVIRONMENT: &str = "environment";

/// What a service takes over from others.
#[derive(Debug)]
pub(super) enum Inherited {
    Nothing,
    /// An `LD_PRELOAD` of this value.
    Value(String),
    /// That of a service in another file.
    Unknown(String),
}

/// A variable that is there.
struct Variable {
    name: String,
    /// Its value, unless it is the shell's.
    value: Option<String>,
    /// Where its name and its value stand: an entry of a mapping, or an item.
    at: Path,
}

/// The variables of a service.
fn variables(service: &Service) -> Result<Vec<Variable>, Refusal> {
    let path = service.path.then(ENVIRONMENT);
    let text = |value: &Value| match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    match service.get(ENVIRONMENT) {
        Value::Null => Ok(Vec::new()),
        Value::Object(map) => Ok(map
            .iter()
            .map(|(name, value)| Variable {
                name: name.clone(),
                value: text(value),
                at: path.then(name.as_str()),
            })
            .collect()),
        Value::Array(items) => {
            let variable = |(index, item): (usize, &Value)| {
                let at = path.then(index);
                let item = match item {
                    Value::Object(_) | Value::Array(_) => return Err(wrong(at, "string", item)),
                    // `Y` is a boolean to Kubernetes and a name to Compose: none of ours.
                    other => other.as_str().unwrap_or_default(),
                };
                let (name, value) = match item.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (item, None),
                };
                let name = name.to_owned();
                Ok(Variable { name, value, at })
            };
            items.iter().enumerate().map(variable).collect()
        }
        other => Err(wrong(path, "mapping or a list", other)),
    }
}

/// The `LD_PRELOAD` that a service sets itself, without ours.
pub(super) fn preload(service: &Service) -> Option<String> {
    let variables = variables(service).ok()?;
    let found = variables.into_iter().rfind(|one| one.name == LD_PRELOAD)?;
    let value = found.value?.replace(ENTRY_LAST, "");
    (!value.is_empty() && value != ENTRY).then_some(value)
}

/// Adds what the environment of a service needs to `changes`, and what of ours was
/// there before to `records`.
#[expect(clippy::too_many_arguments, reason = "all of it is the service's")]
pub(super) fn changes(
    document: &Document,
    value: &Value,
    service: &Service,
    options: &Injection,
    is_override: bool,
    inherited: Inherited,
    changes: &mut Vec<Change>,
    records: &mut Records,
) -> Result<Vec<Finding>, Refusal> {
    let present = variables(service)?;
    let path = service.path.then(ENVIRONMENT);
    for one in &present {
        let kept = one.name.strip_prefix(KEPT).unwrap_or_default();
        if kept == LD_PRELOAD || kept.starts_with(VARIABLE) {
            let holder = format!("the environment of service {}", service.name);
            let name = one.name.clone();
            return Err((one.at.clone(), Fault::NameTaken { name, holder }));
        }
    }
    let mut findings = Vec::new();
    let mut new: Vec<(&'static str, String)> = Vec::new();
    match present.iter().rfind(|one| one.name == LD_PRELOAD) {
        None if is_override => {}
        None => {
            if let Inherited::Value(_) = inherited {
                // All of it is ours, though it says more.
                records.insert(kept_path(&path, LD_PRELOAD, value), Value::Bool(false));
            }
            new.push((LD_PRELOAD, joined(service, inherited, &mut findings)));
        }
        Some(one) => {
            if tags::at(document, &one.at) == Some(Tag::Reset) {
                let key = LD_PRELOAD.to_owned();
                return Err((one.at.clone(), Fault::Reset { key }));
            }
            findings.push(Finding::new(
                Severity::Note,
                "preload-already-set",
                "it sets LD_PRELOAD already: the shim is appended",
            ));
            let found = one.at.get(value).unwrap_or(&Value::Null);
            if !matches!(found, Value::Null | Value::String(_)) {
                return Err(wrong(one.at.clone(), "string", found));
            }
            match &one.value {
                Some(text) if !text.is_empty() && !text.ends_with([' ', ':', '\n']) => {
                    if !is_extendable(document, &one.at) {
                        return Err((one.at.clone(), Fault::Unwritable));
                    }
                    let at = one.at.clone();
                    changes.push(Change::Suffix {
                        at,
                        text: ENTRY_LAST,
                    });
                }
                text => {
                    changes.push(keep(document, &path, one, true)?);
                    let shells = if text.is_none() {
                        ENTRY_BEHIND_SHELLS
                    } else {
                        ENTRY
                    };
                    new.push((LD_PRELOAD, shells.to_owned()));
                }
            }
        }
    }
    for (variable, wanted) in options.rules.iter() {
        let name = variable.name();
        for one in present.iter().filter(|one| one.name == name) {
            changes.push(keep(document, &path, one, !is_override)?);
        }
        if !is_override {
            new.push((name, wanted.to_string_lossy().replace('$', "$$")));
        }
    }
    let is_wanted = |name: &str| options.rules.iter().any(|(one, _)| one.name() == name);
    for one in &present {
        if one.name.starts_with(VARIABLE) && !is_wanted(&one.name) {
            records.insert(kept_path(&path, &one.name, value), Value::Bool(true));
        }
    }
    if !new.is_empty() {
        changes.extend(add(value, service, new)?);
    }
    Ok(findings)
}

/// The value of a new `LD_PRELOAD`.
fn joined(service: &Service, inherited: Inherited, findings: &mut Vec<Finding>) -> String {
    if !service.get("env_file").is_null() {
        findings.push(
            Finding::new(
                Severity::Warning,
                "env-from",
                "it takes variables from env_file: an LD_PRELOAD among them is replaced",
            )
            .hint(
                "if it holds one, put LD_PRELOAD into environment with its value before injecting",
            ),
        );
    }
    match inherited {
        Inherited::Nothing => {}
        Inherited::Value(value) => return format!("{value}{ENTRY_LAST}"),
        Inherited::Unknown(base) => findings.push(
            Finding::new(
                Severity::Warning,
                "extends",
                format!(
                    "it extends {base} of another file: an LD_PRELOAD that this sets is replaced"
                ),
            )
            .hint(
                "if it sets one, put LD_PRELOAD into environment with its value before injecting",
            ),
        ),
    }
    ENTRY.into()
}

/// Gives a variable another name, under which it has no effect.
fn keep(
    document: &Document,
    environment: &Path,
    variable: &Variable,
    is_replaced: bool,
) -> Result<Change, Refusal> {
    let is_item = !matches!(variable.at.0.last(), Some(super::super::path::Step::Key(_)));
    if is_item {
        if !is_extendable(document, &variable.at) {
            return Err((variable.at.clone(), Fault::Unwritable));
        }
        return Ok(Change::Prefix {
            at: variable.at.clone(),
            text: KEPT,
        });
    }
    super::scale::aside(document, environment, &variable.name, KEPT, is_replaced)
}

/// Whether text can be put before and behind a scalar, or stands in one that an
/// alias brings in.
fn is_extendable(document: &Document, path: &Path) -> bool {
    document.find(path).is_none_or(|id| {
        let is_alias = matches!(document.node(id).content, Content::Alias(_));
        is_alias || edit::can_extend(document, id)
    })
}

/// New variables, in the style of those that are there.
fn add(
    value: &Value,
    service: &Service,
    new: Vec<(&'static str, String)>,
) -> Result<Vec<Change>, Refusal> {
    let path = service.path.then(ENVIRONMENT);
    match service.value.get(ENVIRONMENT) {
        Some(Value::Array(_)) => {
            let items = new
                .iter()
                .map(|(name, value)| format!("{name}={value}").into());
            Ok(vec![add_items(
                value,
                &service.path,
                ENVIRONMENT,
                items.collect(),
                false,
            )?])
        }
        Some(Value::Object(map)) if !map.is_empty() => {
            let entry = |(key, value): (_, String)| Change::Entry {
                map: path.clone(),
                key,
                value: value.into(),
            };
            Ok(new.into_iter().map(entry).collect())
        }
        present => {
            let map = new
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.into()));
            let map = map.collect::<Map<_, _>>();
            Ok(vec![entries(
                &service.path,
                ENVIRONMENT,
                present,
                map.into(),
            )])
        }
    }
}

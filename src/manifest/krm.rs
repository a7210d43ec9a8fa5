//! The KRM function: a ResourceList in, a ResourceList out, edited where it stands as
//! any other document is.
//!
//! <https://github.com/kubernetes-sigs/kustomize/blob/master/cmd/config/docs/api-conventions/functions-spec.md>

use serde_json::{Map, Value, json};

use super::advice::Advice;
use super::document::Document;
use super::edit::{self, Change};
use super::error::{Error, Fault};
use super::inject::add_items;
use super::path::Path;
use super::readable::readable;
use super::reader::Documents;
use super::stream::Draft;
use super::write::Indent;
use super::{Injection, Source, configmap, inject, kind_of};
use crate::finding::Severity;

/// The kind of what functions take and give.
pub(super) const KIND: &str = "ResourceList";

/// The list of a ResourceList that functions work on.
pub(super) const ITEMS: &str = "items";

/// The options that messages speak of.
const FIELDS: [&str; 10] = [
    "arch",
    "configmap",
    "container",
    "delivery",
    "shard-probes",
    "shards",
    "split-resources",
    "surge-ready",
    "template-path",
    "workload",
];

/// What a function gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The ResourceList, with what there is to say among its `results`.
    pub text: String,
    /// Why nothing was done.
    pub error: Option<String>,
}

/// What a ResourceList configures its function with: each option, and its values.
///
/// # Errors
/// The input is no ResourceList.
pub fn configuration(source: &Source) -> Result<Vec<(String, Vec<String>)>, Error> {
    let readable = readable(&source.text);
    let mut documents = Documents::new(&source.name, &source.text, &readable);
    let Some(document) = documents.next()? else {
        return Err(Fault::NoResourceList.into());
    };
    let value = document.value(document.root);
    if value.get("kind").is_none_or(|kind| kind != KIND) || documents.next()?.is_some() {
        return Err(Fault::NoResourceList.into());
    }
    let config = value.get("functionConfig").unwrap_or(&Value::Null);
    let key = if config["kind"] == "ConfigMap" {
        "data"
    } else {
        "spec"
    };
    let options = match config.get(key) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Object(options)) => options,
        Some(other) => {
            let path = Path::default().then("functionConfig").then(key);
            let (expected, found) = ("mapping", kind_of(other));
            let at = document.position(&source.name, &path);
            return Err(Error::at(at, Fault::WrongType { expected, found }));
        }
    };
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let option = |(name, value): (&String, &Value)| {
        let values = match value {
            Value::Array(items) => items.iter().map(text).collect(),
            Value::Null => Vec::new(),
            one => vec![text(one)],
        };
        (name.clone(), values)
    };
    Ok(options.iter().map(option).collect())
}

/// Puts the shim into the items of a ResourceList.
///
/// # Errors
/// The input is no ResourceList. That the shim cannot be put in is a result of it.
pub fn function(source: &Source, options: &Result<Injection, String>) -> Result<Answer, Error> {
    let before = only(source)?;
    let outcome = match options {
        Ok(options) => inject(std::slice::from_ref(source), options),
        Err(why) => Err(Fault::Configuration { why: why.clone() }.into()),
    };
    let (text, results, error) = match outcome {
        Ok(outcome) => {
            let results = outcome.advice.iter().map(|one| of_advice(one, &before));
            (outcome.texts.concat(), results.collect(), None)
        }
        Err(error) => {
            let result = of_error(&error, &before);
            let error = for_functions(&error.to_string());
            (source.text.clone(), vec![result], Some(error))
        }
    };
    let name = source.name.clone();
    let text = with_results(&Source { name, text }, results)?;
    Ok(Answer { text, error })
}

/// The value of a ResourceList.
fn only(source: &Source) -> Result<Value, Error> {
    let readable = readable(&source.text);
    let document = Documents::new(&source.name, &source.text, &readable).next()?;
    let document = document.ok_or(Fault::NoResourceList)?;
    Ok(document.value(document.root))
}

/// Adds results to a ResourceList.
fn with_results(source: &Source, results: Vec<Value>) -> Result<String, Error> {
    if results.is_empty() {
        return Ok(source.text.clone());
    }
    let readable = readable(&source.text);
    let mut documents = Documents::new(&source.name, &source.text, &readable);
    let document = documents.next()?.ok_or(Fault::NoResourceList)?;
    let value = document.value(document.root);
    let root = Path::default();
    let error = |path: &Path, fault| Error::at(document.position(&source.name, path), fault);
    let change = add_items(&value, &root, "results", results, false)
        .map_err(|(path, fault)| error(&path, fault))?;
    let indent = Indent { step: 2, dash: 0 };
    let edited = edit::edit(&document, value, &[change], indent)
        .map_err(|(path, fault)| error(&path, fault))?;
    let mut draft = Draft::new(&source.name, &source.text);
    draft.push(&document, Some(edited));
    draft.finish(|_| true)
}

/// The place of the item that a path leads through, and what comes behind that.
fn split(path: &str) -> Option<(usize, &str)> {
    let rest = path.strip_prefix(".items[")?;
    let (index, rest) = rest.split_once(']')?;
    Some((index.parse().ok()?, rest.strip_prefix('.').unwrap_or(rest)))
}

/// What is said of flags, of the fields that functions have in their place.
fn for_functions(text: &str) -> String {
    let is_of_it = text.starts_with("functionConfig: ");
    let place = if is_of_it { "" } else { "functionConfig's " };
    let mut words = text.split(' ').map(|word| {
        // A comma or the like may come behind it, and an argument of its own.
        let rest = word.strip_prefix("--").unwrap_or_default();
        let is_end = |c: char| !(c.is_ascii_alphanumeric() || c == '-');
        let name = rest.split(is_end).next().unwrap_or_default();
        if name == "check" {
            format!("reuseport inject -f {word}")
        } else if FIELDS.contains(&name) {
            format!("{place}{rest}")
        } else {
            word.to_owned()
        }
    });
    let mut said = words.next().unwrap_or_default();
    for word in words {
        said.push(' ');
        said.push_str(&word);
    }
    said
}

fn of_advice(advice: &Advice, list: &Value) -> Value {
    let severity = match advice.finding.severity {
        Severity::Note => "info",
        Severity::Warning => "warning",
        Severity::Error => "error",
    };
    let hint = advice.finding.hint.as_ref().map(|hint| format!("; {hint}"));
    let message = format!("{}{}", advice.finding.message, hint.unwrap_or_default());
    let message = for_functions(&message);
    let mut result = json!({"message": message, "severity": severity});
    // Places are those after what an older shim brought was taken out.
    let items = list[ITEMS].as_array().map_or(&[][..], Vec::as_slice);
    let is_it = |item: &&Value| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let title = format!(
            "{}/{}",
            text(&item["kind"]),
            text(&item["metadata"]["name"])
        );
        title == advice.workload
    };
    let place = split(&advice.at.path).and_then(|(index, _)| items.get(index));
    if let Some(item) = place.filter(is_it).or_else(|| items.iter().find(is_it)) {
        refer(&mut result, item, "");
    }
    result["tags"] = json!({"code": advice.finding.code});
    if let Some(container) = &advice.container {
        result["tags"]["container"] = container.as_str().into();
    }
    result
}

fn of_error(error: &Error, list: &Value) -> Value {
    let message = for_functions(&error.fault.to_string());
    let mut result = json!({"message": message, "severity": "error"});
    let path = error.at.as_ref().map_or("", |at| at.path.as_str());
    if let Some((index, field)) = split(path)
        && let Some(item) = list[ITEMS].get(index)
    {
        refer(&mut result, item, field);
    } else if !path.is_empty() {
        result["field"] = json!({"path": path.trim_start_matches('.')});
    }
    result
}

/// Says of a result which item it is about, and where that came from.
fn refer(result: &mut Value, item: &Value, field: &str) {
    let mut reference = Map::new();
    for (key, value) in [
        ("apiVersion", item.get("apiVersion")),
        ("kind", item.get("kind")),
        ("name", item.pointer("/metadata/name")),
        ("namespace", item.pointer("/metadata/namespace")),
    ] {
        if let Some(Value::String(text)) = value {
            reference.insert(key.into(), text.as_str().into());
        }
    }
    result["resourceRef"] = reference.into();
    if !field.is_empty() {
        result["field"] = json!({"path": field});
    }
    let annotation = |name: &str| {
        let annotations = item.pointer("/metadata/annotations")?;
        let prefixes = ["internal.config.kubernetes.io/", "config.kubernetes.io/"];
        let found = prefixes
            .iter()
            .find_map(|prefix| annotations.get(format!("{prefix}{name}")));
        found?.as_str()
    };
    if let Some(path) = annotation("path") {
        result["file"] = json!({"path": path});
        if let Some(index) = annotation("index").and_then(|one| one.parse::<u64>().ok()) {
            result["file"]["index"] = index.into();
        }
    }
}

/// Whether a document is a ResourceList.
pub(super) fn is_list(document: &Document) -> bool {
    let kind = document.entry(document.root, "kind");
    kind.and_then(|(_, kind)| document.scalar(kind)) == Some(KIND)
}

/// The ConfigMaps of ours among the items of `list`: the place, the name, the
/// namespace, and the architecture whose shim of today it carries.
pub(super) fn configmaps(
    list: &Value,
) -> impl Iterator<Item = (usize, &str, Option<&str>, Option<&'static str>)> {
    let items = list.get(ITEMS).and_then(Value::as_array);
    items
        .into_iter()
        .flatten()
        .enumerate()
        .filter_map(|(index, item)| {
            let name = configmap::name_of(item)?;
            let namespace = item.pointer("/metadata/namespace").and_then(Value::as_str);
            let architecture = configmap::architecture(item).map(|one| one.name);
            Some((index, name, namespace, architecture))
        })
}

/// A ConfigMap before the item that a path leads through.
pub(super) fn insert(object: Value, before: &Path) -> Option<Change> {
    match before.0.as_slice() {
        [
            super::path::Step::Key(key),
            super::path::Step::Index(at),
            ..,
        ] if key == ITEMS => Some(Change::Items {
            list: Path::default().then(ITEMS),
            at: *at,
            items: vec![object],
        }),
        _ => None,
    }
}

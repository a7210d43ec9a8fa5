//! Compose files: putting the shim into services, by a bind mount of the host's file.
//!
//! <https://github.com/compose-spec/compose-spec/blob/main/spec.md>
//!
//! What must make way has its key turned into an extension (`x-reuseport-…`), which
//! Compose passes over, so that its text stays where it is.

mod eject;
mod environment;
mod scale;
mod tags;
mod volumes;

use serde_json::{Value, json};

pub(super) use eject::eject;
use tags::Tag;

use super::delivery::Delivery;
use super::document::{Content, Document};
use super::edit::{self, Change, Records};
use super::error::{Error, Fault};
use super::path::Path;
use super::write::Indent;
use super::{Injection, kind_of};
use crate::finding::{Finding, Severity};

/// What Compose files need beside the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compose {
    /// The services by name; empty for all.
    pub services: Vec<String>,
    /// Whether services are made fit to share ports among their containers.
    pub scale_ready: bool,
}

impl Compose {
    fn chooses(&self, service: &str) -> bool {
        self.services.is_empty() || self.services.iter().any(|one| one == service)
    }
}

/// What stands before a key that makes way.
const ASIDE: &str = "x-reuseport-";

/// The key of a service that holds what its text had to lose.
const RESTORE: &str = "x-reuseport";

/// The mapping of services.
const SERVICES: &str = "services";

/// The directory of the host where `reuseport install` puts the shim by convention.
const HOST: &str = "/opt/reuseport";

type Refusal = (Path, Fault);

/// Whether a document is a Compose file: it has services, and is no Kubernetes
/// object.
pub(super) fn is_compose(document: &Document) -> bool {
    let has = |key| document.entry(document.root, key).is_some();
    has(SERVICES) && !has("kind") && !has("apiVersion")
}

/// A service of a document.
#[derive(Debug)]
struct Service<'v> {
    name: &'v str,
    path: Path,
    value: &'v Value,
}

impl Service<'_> {
    /// What an entry of the service holds.
    fn get(&self, key: &str) -> &Value {
        self.value.get(key).unwrap_or(&Value::Null)
    }
}

/// The services of a document, whose value is `value`.
///
/// # Errors
/// They are no mapping.
fn services(value: &Value) -> Result<Vec<Service<'_>>, Refusal> {
    let path = Path::default().then(SERVICES);
    match path.get(value) {
        Some(Value::Object(services)) => {
            let services = services.iter().map(|(name, value)| Service {
                name,
                path: path.then(name.as_str()),
                value,
            });
            Ok(services.collect())
        }
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(other) => Err(wrong(path, "mapping", other)),
    }
}

/// What is done to a document.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) changes: Vec<Change>,
    /// The names of all services, of those that were chosen, and how many of these
    /// get the shim.
    pub(super) there: Vec<String>,
    pub(super) chosen: Vec<String>,
    pub(super) injected: usize,
    /// Findings and the services that they are of.
    pub(super) findings: Vec<(String, Path, Finding)>,
}

/// What the services of a document get, which holds none of ours in those that are
/// chosen. `before` are the services of the files before it, which it overrides.
///
/// # Errors
/// A service cannot have the shim.
pub(super) fn plan(
    document: &Document,
    value: &Value,
    options: &Injection,
    before: &[String],
) -> Result<Plan, Refusal> {
    let source = source(options)?;
    let left = tags::without_reset(document, value);
    let all = services(&left)?;
    let mut plan = Plan {
        there: all.iter().map(|one| one.name.to_owned()).collect(),
        ..Plan::default()
    };
    if value.get("include").is_some() {
        let finding = Finding::new(
            Severity::Note,
            "include",
            "the files that it includes are not read: give them with -f, too",
        );
        plan.findings
            .push((SERVICES.into(), Path::default(), finding));
    }
    for service in all.iter().filter(|one| options.compose.chooses(one.name)) {
        plan.chosen.push(service.name.to_owned());
        match service.value {
            Value::Null => {}
            Value::Object(_) => {}
            other => return Err(wrong(service.path.clone(), "mapping", other)),
        }
        let is_override = before.iter().any(|one| one == service.name)
            && !tags::is_whole(document, &service.path);
        let has_image = ["image", "build", "extends"]
            .iter()
            .any(|key| !service.get(key).is_null());
        if !is_override && !has_image {
            let finding = Finding::new(
                Severity::Warning,
                "fragment",
                "left as it is: it has neither image nor build, as where a file overrides another",
            )
            .hint("give the other file first: -f compose.yaml -f compose.override.yaml --in-place");
            plan.findings
                .push((service.name.to_owned(), service.path.clone(), finding));
            continue;
        }
        if is_windows(service) {
            return Err((service.path.then("platform"), Fault::WindowsService));
        }
        tags::check(document, service, &[environment::ENVIRONMENT, "volumes"])?;
        if options.compose.scale_ready {
            tags::check(document, service, &[scale::NETWORK])?;
        }
        // What takes the place of that of the files before has to hold the shim itself.
        let joins = |key: &str| {
            is_override && tags::at(document, &service.path.then(key)) != Some(Tag::Override)
        };
        let mut changes = Vec::new();
        let mut records = Records::new();
        let inherited = inherited(&all, service);
        let mut found = environment::changes(
            document,
            value,
            service,
            options,
            joins(environment::ENVIRONMENT),
            inherited,
            &mut changes,
            &mut records,
        )?;
        volumes::check(service)?;
        if !joins("volumes") {
            changes.push(volumes::add(value, service, &source)?);
        }
        if options.compose.scale_ready {
            found.extend(scale::changes(
                document,
                value,
                service,
                &mut changes,
                &mut records,
            )?);
        } else {
            found.extend(scale::advice(service));
        }
        if changes.is_empty() {
            continue;
        }
        plan.injected += 1;
        records.extend(
            edit::records(document, value, &changes)
                .map_err(|fault| (service.path.clone(), fault))?,
        );
        if !records.is_empty() {
            changes.push(Change::Entry {
                map: service.path.clone(),
                key: RESTORE,
                value: serde_json::to_string(&records).expect("JSON").into(),
            });
        }
        plan.changes.extend(changes);
        let found = found
            .into_iter()
            .map(|one| (service.name.to_owned(), service.path.clone(), one));
        plan.findings.extend(found);
    }
    Ok(plan)
}

/// The directory of the host that is mounted.
fn source(options: &Injection) -> Result<String, Refusal> {
    let root = Path::default();
    if !options.containers.is_empty() {
        return Err((root, Fault::NoContainers));
    }
    match &options.delivery {
        Delivery::ConfigMap(None) => Ok(HOST.into()),
        Delivery::Host(directory) => Ok(directory.replace('$', "$$")),
        _ => Err((root, Fault::HostOnly)),
    }
}

fn is_windows(service: &Service) -> bool {
    let platform = service.get("platform").as_str();
    platform.is_some_and(|one| one.starts_with("windows"))
}

/// The `LD_PRELOAD` that a service takes over from those that it extends: its value,
/// or that it cannot be seen.
fn inherited(all: &[Service], service: &Service) -> environment::Inherited {
    let mut seen = vec![service.name];
    let mut at = service;
    loop {
        let base = match at.get("extends") {
            Value::Null => return environment::Inherited::Nothing,
            Value::String(base) => base,
            other => match (
                other.get("file"),
                other.get("service").and_then(Value::as_str),
            ) {
                (None, Some(base)) => base,
                (_, base) => {
                    let base = base.unwrap_or_default();
                    return environment::Inherited::Unknown(base.to_owned());
                }
            },
        };
        let Some(next) = all.iter().find(|one| one.name == base) else {
            return environment::Inherited::Unknown(base.to_owned());
        };
        if let Some(value) = environment::preload(next) {
            return environment::Inherited::Value(value);
        }
        if seen.contains(&next.name) {
            return environment::Inherited::Nothing;
        }
        seen.push(next.name);
        at = next;
    }
}

/// Why no service is chosen by a name.
pub(super) fn unknown(wanted: &[String], there: &[String]) -> Result<(), Error> {
    let missing = wanted.iter().find(|one| !there.contains(one));
    missing.map_or(Ok(()), |wanted| {
        let mut there = there.to_vec();
        there.sort();
        there.dedup();
        let wanted = wanted.clone();
        Err(Fault::NoService { wanted, there }.into())
    })
}

/// How the document indents, as seen around its services.
pub(super) fn indentation(document: &Document) -> Indent {
    let mut indent = Indent { step: 2, dash: 2 };
    let column = |id| document.column(document.node(id).start);
    let Some((key, services)) = document.entry(document.root, SERVICES) else {
        return indent;
    };
    let services = document.resolve(services);
    if let (Some((first, _)), false) = (
        document.entries(services).first(),
        document.is_flow(services),
    ) && let step @ 1..=8 = column(*first).saturating_sub(column(key))
    {
        indent.step = step;
    }
    // The dashes of any list of a service will do.
    let entries = document.entries(services).iter();
    let mut lists = entries.flat_map(|(_, service)| document.entries(document.resolve(*service)));
    let dash = lists.find_map(|(key, list)| match &document.node(*list).content {
        Content::List {
            items,
            is_flow: false,
        } => {
            let dash = document.dash(*items.first()?)?;
            Some(document.column(dash).saturating_sub(column(*key)))
        }
        _ => None,
    });
    indent.dash = dash.unwrap_or(indent.dash);
    indent
}

fn wrong(path: Path, expected: &'static str, found: &Value) -> Refusal {
    let found = kind_of(found);
    (path, Fault::WrongType { expected, found })
}

/// An entry of a mapping that is not there, or is empty.
fn entries(map: &Path, key: &'static str, present: Option<&Value>, value: Value) -> Change {
    match present {
        None => Change::Entry {
            map: map.clone(),
            key,
            value,
        },
        Some(_) => Change::Fill {
            at: map.then(key),
            value,
        },
    }
}

/// The mount of the shim's directory.
fn mount(source: &str) -> Value {
    json!({
        "type": "bind",
        "source": source,
        "target": super::names::DIRECTORY,
        "read_only": true,
        // A missing source would become an empty directory.
        "bind": {"create_host_path": false},
    })
}

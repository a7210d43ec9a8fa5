//! Putting the shim into workloads.
//!
//! What a stream holds of ours is taken out first, so that doing it twice is doing
//! it once, and other rules or a newer shim take the place of the old ones.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Map, Value};

use super::advice::Adviser;
use super::document::Document;
use super::edit::{self, Change, Edited};
use super::eject::{self, Ejected, Held};
use super::error::{Error, Fault};
use super::fit::Claims;
use super::look::Images;
use super::named_ports::NamedPorts;
use super::names::SHIM;
use super::origin::Origin;
use super::path::Path;
use super::place::Place;
use super::readable::readable;
use super::reader::Documents;
use super::stream::Draft;
use super::workload::{self, Workload};
use super::write::Indent;
use super::{Injection, Outcome, Source, compose, configmap, kind_of, krm};

/// Puts the shim into the workloads of `sources`, which are one input: a namespace
/// gets one ConfigMap.
///
/// # Errors
/// The input is no YAML that Kubernetes would take, a workload cannot have the
/// shim, or what was asked for is not there. Nothing comes out then.
pub fn inject(sources: &[Source], options: &Injection) -> Result<Outcome, Error> {
    inject_with(sources, options, None)
}

/// The same, with the containers' images looked into: what they say of their
/// programs is advice, and an `LD_PRELOAD` that they set themselves is joined. Where
/// the advice holds an error, the shim would not act.
///
/// # Errors
/// Those of [`inject`], and an image that cannot be read.
pub fn inject_looking(
    sources: &[Source],
    options: &Injection,
    images: &dyn Images,
) -> Result<Outcome, Error> {
    inject_with(sources, options, Some(images))
}

fn inject_with(
    sources: &[Source],
    options: &Injection,
    images: Option<&dyn Images>,
) -> Result<Outcome, Error> {
    let mut call = Call {
        options,
        images,
        configmaps: BTreeMap::new(),
        adviser: Adviser::default(),
        named_ports: NamedPorts::default(),
        claims: Claims::default(),
        surging: 0,
        there: Vec::new(),
        containers_there: Vec::new(),
        containers_found: HashSet::new(),
        services: Vec::new(),
        items: Vec::new(),
        chosen: 0,
        pods: 0,
        injected: 0,
    };
    let mut texts = Vec::new();
    for source in sources {
        texts.push(call.source(source)?);
    }
    call.finish()?;
    Ok(Outcome {
        texts,
        workloads: call.chosen,
        changed: call.injected,
        has_compose: !call.services.is_empty(),
        has_pods: call.pods > 0,
        advice: call.adviser.finish(),
    })
}

/// What one call keeps between documents.
pub(super) struct Call<'o> {
    pub(super) options: &'o Injection,
    pub(super) images: Option<&'o dyn Images>,
    /// The names of the ConfigMaps that the result holds, by namespace and by the
    /// architecture of the shim in them.
    pub(super) configmaps: BTreeMap<(Option<String>, &'static str), String>,
    pub(super) adviser: Adviser,
    pub(super) named_ports: NamedPorts,
    pub(super) claims: Claims,
    /// How many workloads were made fit for overlap.
    pub(super) surging: usize,
    /// What is there, where the command line names some of it.
    there: Vec<String>,
    pub(super) containers_there: Vec<String>,
    pub(super) containers_found: HashSet<String>,
    services: Vec<String>,
    /// ConfigMaps that go among the items of the document.
    pub(super) items: Vec<Change>,
    /// How many workloads and services were chosen, and how many of them are no
    /// services.
    chosen: usize,
    pods: usize,
    injected: usize,
}

impl Call<'_> {
    fn chooses(&self, workload: &Workload) -> bool {
        let wanted = &self.options.workloads;
        wanted.is_empty() || wanted.iter().any(|one| workload.is(one))
    }

    fn source(&mut self, source: &Source) -> Result<String, Error> {
        if self.options.apart {
            self.configmaps.clear();
        }
        if !eject::may_hold(&source.text) {
            return self.place(source, &HashMap::new(), None);
        }
        let Ejected {
            draft,
            held,
            unused,
            used,
            ..
        } = eject::eject(
            source,
            &self.options.templates,
            &self.options.compose,
            false,
            |one| self.chooses(one),
        )?;
        // ConfigMaps that were brought here by others' hands stay.
        let (text, origin) =
            draft.finish_with_origin(|name| used.contains(name) || !unused.contains(name))?;
        let bare = Source {
            name: source.name.clone(),
            text,
        };
        self.place(&bare, &held, Some(&origin.indexed()))
    }

    /// Puts the shim into a stream that holds none in the workloads that are
    /// chosen.
    fn place(
        &mut self,
        source: &Source,
        held: &HashMap<usize, Held>,
        origin: Option<&Origin>,
    ) -> Result<String, Error> {
        let mut draft = Draft::new(&source.name, &source.text);
        let readable = readable(&source.text);
        let mut documents = Documents::new(&source.name, &source.text, &readable).of(origin);
        let mut number = 0;
        while let Some(document) = documents.next()? {
            if compose::is_compose(&document) {
                let edited = self.compose(source, &document)?;
                draft.push(&document, edited);
                continue;
            }
            self.note(&source.name, &document);
            if !workload::may_hold(&document, &self.options.templates) {
                self.pass(&document);
                draft.push(&document, None);
                continue;
            }
            let value = document.value(document.root);
            let mut changes = Vec::new();
            let mut indent = None;
            if krm::is_list(&document) {
                self.configmaps_of(&value);
            }
            for workload in workload::workloads(&value, &self.options.templates) {
                if !self.options.workloads.is_empty() {
                    self.there.push(workload.title());
                }
                let held = held.get(&number);
                number += 1;
                if !self.chooses(&workload) {
                    continue;
                }
                self.chosen += 1;
                self.pods += 1;
                let place = Place {
                    source,
                    document: &document,
                    value: &value,
                    workload: &workload,
                };
                let (mut own, records) = self.workload(&place, held, &mut draft)?;
                let items = std::mem::take(&mut self.items);
                if own.is_empty() {
                    continue;
                }
                self.injected += 1;
                indent.get_or_insert_with(|| document.indent(&workload.spec));
                place.record(&mut own, records)?;
                changes.extend(own);
                changes.extend(items);
            }
            let edited = if changes.is_empty() {
                None
            } else {
                let indent = indent.unwrap_or(Indent { step: 2, dash: 0 });
                Some(edit(source, &document, value, &changes, indent)?)
            };
            draft.push(&document, edited);
        }
        draft.finish(|_| true)
    }

    /// Puts the shim into the services of a Compose file.
    fn compose(&mut self, source: &Source, document: &Document) -> Result<Option<Edited>, Error> {
        let value = document.value(document.root);
        let plan = compose::plan(document, &value, self.options, &self.services)
            .map_err(|(path, fault)| Error::at(document.position(&source.name, &path), fault))?;
        self.chosen += plan.chosen.len();
        self.injected += plan.injected;
        for (service, path, finding) in plan.findings {
            let at = document.position(&source.name, &path);
            self.adviser.add(&at, service, None, finding);
        }
        self.services.extend(plan.there);
        if plan.changes.is_empty() {
            return Ok(None);
        }
        let indent = compose::indentation(document);
        edit(source, document, value, &plan.changes, indent).map(Some)
    }

    /// Takes note of the ConfigMaps among the items of a ResourceList.
    fn configmaps_of(&mut self, list: &Value) {
        for (_, name, namespace, architecture) in krm::configmaps(list) {
            if let Some(architecture) = architecture {
                let key = (namespace.map(ToOwned::to_owned), architecture);
                self.configmaps.insert(key, name.to_owned());
            }
        }
    }

    /// Takes note of what may stand in the way of what is asked for beside the shim.
    fn note(&mut self, file: &str, document: &Document) {
        let has_shards = self.options.shards.is_some();
        if !self.options.surge_ready && !has_shards {
            return;
        }
        let Some((_, kind)) = document.entry(document.root, "kind") else {
            return;
        };
        let kind = document.scalar(kind).unwrap_or_default();
        let is_known = [
            "Service",
            "NetworkPolicy",
            "PodMonitor",
            "PersistentVolumeClaim",
        ]
        .contains(&kind);
        if !is_known && !kind.ends_with("List") {
            return;
        }
        let value = document.value(document.root);
        self.named_ports.note(file, document, &value);
        self.claims.note(&value);
        for item in value["items"].as_array().into_iter().flatten() {
            self.claims.note(item);
        }
    }

    /// Takes note of what is no workload and matters all the same.
    fn pass(&mut self, document: &Document) {
        if let Some(name) = configmap::name_of_ours(document) {
            let value = document.value(document.root);
            let namespace = value.pointer("/metadata/namespace").and_then(Value::as_str);
            if let Some(architecture) = configmap::architecture(&value) {
                let key = (namespace.map(ToOwned::to_owned), architecture.name);
                self.configmaps.insert(key, name);
            }
        } else if document
            .entry(document.root, "kind")
            .and_then(|(_, kind)| document.scalar(kind))
            == Some("Namespace")
        {
            self.adviser.namespace(&document.value(document.root));
        }
    }

    /// Refuses what is for pods alone, of which there are none.
    fn for_pods(&self) -> Result<(), Error> {
        let given = [
            ("--arch", self.options.architecture.is_some()),
            ("--shards", self.options.shards.is_some()),
        ];
        match given.iter().find(|(_, is_given)| *is_given) {
            Some((flag, _)) => Err(Fault::NoPods { flag }.into()),
            None => Ok(()),
        }
    }

    fn finish(&mut self) -> Result<(), Error> {
        for wanted in &self.options.workloads {
            let is_there = self
                .there
                .iter()
                .any(|one| one.eq_ignore_ascii_case(wanted));
            if !is_there {
                let mut there = self.there.clone();
                there.sort();
                there.dedup();
                return Err(Fault::NoWorkload {
                    wanted: wanted.clone(),
                    there,
                }
                .into());
            }
        }
        compose::unknown(&self.options.compose.services, &self.services)?;
        self.named_ports.check()?;
        self.claims.check()?;
        if self.chosen == 0 {
            return Ok(());
        }
        if self.pods == 0 {
            self.for_pods()?;
        }
        if self.options.compose.scale_ready && self.services.is_empty() {
            return Err(Fault::NothingToScale.into());
        }
        if self.options.surge_ready && self.injected > 0 && self.surging == 0 {
            return Err(Fault::NothingToSurge.into());
        }
        for wanted in &self.options.containers {
            if !self.containers_found.contains(wanted) {
                let mut there = std::mem::take(&mut self.containers_there);
                there.sort();
                there.dedup();
                return Err(Fault::NoContainer {
                    wanted: wanted.clone(),
                    there,
                }
                .into());
            }
        }
        Ok(())
    }
}

fn edit(
    source: &Source,
    document: &Document,
    value: Value,
    changes: &[Change],
    indent: Indent,
) -> Result<Edited, Error> {
    edit::edit(document, value, changes, indent)
        .map_err(|(path, fault)| Error::at(document.position(&source.name, &path), fault))
}

/// Items for the list `key` of the mapping `map`, at its end or its beginning.
pub(super) fn add_items(
    value: &Value,
    map: &Path,
    key: &'static str,
    items: Vec<Value>,
    is_first: bool,
) -> Result<Change, (Path, Fault)> {
    let list = map.then(key);
    match list.get(value) {
        None => Ok(Change::Entry {
            map: map.clone(),
            key,
            value: items.into(),
        }),
        Some(Value::Null) => Ok(Change::Fill {
            at: list,
            value: items.into(),
        }),
        Some(Value::Array(present)) if present.is_empty() => Ok(Change::Fill {
            at: list,
            value: items.into(),
        }),
        Some(Value::Array(present)) => Ok(Change::Items {
            list,
            at: if is_first { 0 } else { present.len() },
            items,
        }),
        Some(other) => Err(wrong(list, "list", other)),
    }
}

pub(super) fn wrong(path: Path, expected: &'static str, found: &Value) -> (Path, Fault) {
    let found = kind_of(found);
    (path, Fault::WrongType { expected, found })
}

/// A mapping of one entry.
pub(super) fn variable(name: &str, value: &str) -> Value {
    let mut map = Map::new();
    map.insert("name".into(), name.into());
    map.insert("value".into(), value.into());
    debug_assert_ne!(name, SHIM);
    Value::Object(map)
}

//! Kubernetes manifests: putting the shim into the workloads of a text, and taking
//! it out again, with everything else left byte for byte as its author wrote it.
//!
//! Pure: text in, text out. A text is edited at the spans that a YAML parser gives,
//! read again, and compared with the value that was meant, before anybody gets it.
//! What [`eject`] gives for a text that [`inject`] made is the text that went in.

mod advice;
mod annotations;
mod compose;
mod configmap;
mod container;
mod delivery;
mod document;
mod edit;
mod eject;
mod error;
mod fit;
mod inject;
mod join;
pub mod krm;
mod layout;
mod look;
mod named_ports;
mod names;
mod origin;
mod ours;
mod path;
mod place;
mod pods;
pub mod policy;
mod ports;
mod quantity;
mod readable;
mod reader;
mod record;
mod remove;
mod scalar;
mod shards;
mod splice;
mod stream;
mod surge;
mod text;
mod unfit;
mod value;
mod workload;
mod write;

use serde_json::Value;

pub use advice::Advice;
pub use compose::Compose;
pub use delivery::Delivery;
pub use error::{Error, Fault, Position};
pub use inject::{inject, inject_looking};
pub use join::join;
pub use look::{Asked, Images, Seen};
pub use names::{is_label, is_subdomain};
pub use pods::SIDECARS;
pub use shards::{ShardProbes, Shards};
pub use unfit::Unfit;
pub use workload::TemplatePath;

use crate::rules::Assignments;
use crate::shim::Architecture;
use eject::Ejected;

/// A file of manifests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its name, for messages.
    pub name: String,
    pub text: String,
}

/// How the shim is put in.
#[derive(Clone, Debug)]
pub struct Injection {
    /// The rules; the annotations of a template speak where these do not.
    pub rules: Assignments,
    pub delivery: Delivery,
    /// The containers by name, init containers too; empty for all but sidecars.
    pub containers: Vec<String>,
    /// The workloads as `KIND/NAME`; empty for all.
    pub workloads: Vec<String>,
    pub templates: Vec<TemplatePath>,
    /// That of nodes that the pods are not pinned to one of.
    pub architecture: Option<&'static Architecture>,
    /// Whether each source has ConfigMaps of its own, as files that are applied one
    /// by one need.
    pub apart: bool,
    /// What is for Compose files alone.
    pub compose: Compose,
    /// Whether DaemonSets and Deployments on the host's network are made fit for
    /// updates with overlap.
    pub surge_ready: bool,
    /// Containers are repeated in their pods.
    pub shards: Option<Shards>,
}

impl Default for Injection {
    /// All of it by ConfigMaps of ours, with no rules and nothing more.
    fn default() -> Self {
        Self {
            rules: Assignments::default(),
            delivery: Delivery::ConfigMap(None),
            containers: Vec::new(),
            workloads: Vec::new(),
            templates: Vec::new(),
            architecture: None,
            apart: false,
            surge_ready: false,
            shards: None,
            compose: Compose::default(),
        }
    }
}

/// What became of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The text of each source.
    pub texts: Vec<String>,
    /// How many workloads were chosen, and how many of them have the shim, or had.
    pub workloads: usize,
    pub changed: usize,
    /// Whether there are Compose files among them, which make no stream.
    pub has_compose: bool,
    /// Whether there are workloads of Kubernetes that were chosen.
    pub has_pods: bool,
    pub advice: Vec<Advice>,
}

/// Takes the shim out of the workloads of `sources`: those that `workloads` names,
/// or all; and out of services, likewise. The ConfigMaps that carried it go where nothing in the input uses them.
///
/// # Errors
/// The input is no YAML, or a workload that is named is not there.
pub fn eject(
    sources: &[Source],
    workloads: &[String],
    templates: &[TemplatePath],
    compose: &Compose,
) -> Result<Outcome, Error> {
    let chooses = |workload: &workload::Workload| {
        workloads.is_empty() || workloads.iter().any(|wanted| workload.is(wanted))
    };
    let ejected = sources
        .iter()
        .map(|one| eject::eject(one, templates, compose, true, chooses));
    let ejected: Vec<Ejected> = ejected.collect::<Result<_, _>>()?;
    for wanted in workloads {
        let mut there = ejected.iter().flat_map(|one| &one.there);
        if !there.any(|one| one.eq_ignore_ascii_case(wanted)) {
            let there = ejected.iter().flat_map(|one| one.there.clone()).collect();
            let wanted = wanted.clone();
            return Err(Fault::NoWorkload { wanted, there }.into());
        }
    }
    let services: Vec<String> = ejected
        .iter()
        .flat_map(|one| one.services.clone())
        .collect();
    compose::unknown(&compose.services, &services)?;
    let is_used: std::collections::HashSet<String> =
        ejected.iter().flat_map(|one| one.used.clone()).collect();
    let mut outcome = Outcome {
        texts: Vec::new(),
        workloads: 0,
        changed: 0,
        has_compose: !services.is_empty(),
        has_pods: ejected.iter().any(|one| !one.there.is_empty()),
        advice: Vec::new(),
    };
    for one in ejected {
        outcome.workloads += one.chosen;
        outcome.changed += one.held.len() + one.freed;
        outcome
            .texts
            .push(one.draft.finish(|name| is_used.contains(name))?);
    }
    Ok(outcome)
}

/// What a value is, for people.
fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

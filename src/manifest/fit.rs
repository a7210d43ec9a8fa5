//! What else than the shim a workload gets, where that is asked for: what overlap
//! takes ([`super::surge`]), and copies of its containers ([`super::shards`]).

use std::collections::HashSet;

use serde_json::Value;

use super::container::Chosen;
use super::edit::{self, Change, Records};
use super::error::{Error, Fault};
use super::inject::Call;
use super::path::Path;
use super::place::Place;
use super::shards::{self, Shards, Subject};
use super::surge::{self, Surge};
use super::unfit::Unfit;
use crate::finding::{Finding, Severity};

/// Claims that many may write to, and those that copies of containers would.
#[derive(Debug, Default)]
pub(super) struct Claims {
    for_many: HashSet<(Option<String>, String)>,
    written: Vec<((Option<String>, String), Error)>,
}

impl Claims {
    /// Takes note of a PersistentVolumeClaim.
    pub(super) fn note(&mut self, object: &Value) {
        let text = |key: &str| object["metadata"][key].as_str().map(ToOwned::to_owned);
        if object["kind"] == "PersistentVolumeClaim" && shards::is_for_many(&object["spec"]) {
            let name = text("name").unwrap_or_default();
            self.for_many.insert((text("namespace"), name));
        }
    }

    /// Refuses claims that one writes to.
    ///
    /// # Errors
    /// The first of them.
    pub(super) fn check(&self) -> Result<(), Error> {
        let mut refused = self.written.iter();
        match refused.find(|(claim, _)| !self.for_many.contains(claim)) {
            Some((_, error)) => Err(error.clone()),
            None => Ok(()),
        }
    }
}

/// What was added to a workload so far.
#[derive(Debug, Default)]
pub(super) struct Additions {
    pub(super) changes: Vec<Change>,
    pub(super) records: Records,
}

/// What a workload was made.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fitness {
    pub(super) surges: bool,
    pub(super) is_repeated: bool,
}

impl Call<'_> {
    /// Adds what is asked for beside the shim.
    pub(super) fn fit(
        &mut self,
        place: &Place,
        spec: &Value,
        chosen: &[Chosen],
        additions: &mut Additions,
    ) -> Result<Fitness, Error> {
        let mut fitness = Fitness::default();
        let options = self.options;
        let mut repeated = Vec::new();
        let mut taken = HashSet::new();
        if let Some(shards) = &options.shards {
            repeated = self.prepare(place, spec, chosen, shards, additions, &mut taken)?;
            fitness.is_repeated = !repeated.is_empty();
        }
        if options.surge_ready {
            fitness.surges = self.surge(place, spec, chosen, additions, &taken)?;
        }
        if let Some(shards) = &options.shards {
            Self::repeat(place, &repeated, shards, additions)?;
        }
        Ok(fitness)
    }

    fn surge(
        &mut self,
        place: &Place,
        spec: &Value,
        chosen: &[Chosen],
        additions: &mut Additions,
        taken: &HashSet<Path>,
    ) -> Result<bool, Error> {
        let Place {
            value, workload, ..
        } = *place;
        if let Some((path, why)) = surge::unfit(workload, spec) {
            if !self.options.workloads.is_empty() {
                return Err(refusal(place, &path, why));
            }
            let message = format!("left as it is but for the shim: {why}");
            let finding = Finding::new(Severity::Note, "no-surge", message);
            place.advise(&mut self.adviser, None, finding);
            return Ok(false);
        }
        let Surge {
            changes,
            records,
            findings,
            names,
        } = surge::surge(value, workload, chosen, taken)
            .map_err(|(path, fault)| place.error(&path, fault))?;
        additions.changes.extend(changes);
        additions.records.extend(records);
        for (container, finding) in findings {
            place.advise(&mut self.adviser, container.as_deref(), finding);
        }
        self.named_ports.lose(value, workload, names);
        self.surging += 1;
        Ok(true)
    }

    /// What is to be done to containers before they are repeated; gives those.
    fn prepare<'c>(
        &mut self,
        place: &Place,
        spec: &Value,
        chosen: &'c [Chosen],
        shards: &Shards,
        additions: &mut Additions,
        taken: &mut HashSet<Path>,
    ) -> Result<Vec<&'c Chosen>, Error> {
        let Place {
            value, workload, ..
        } = *place;
        let subjects = shards::subjects(workload, chosen, &self.options.containers)
            .map_err(|(path, why)| refusal(place, &path, why))?;
        for one in &subjects {
            let subject = Subject {
                value,
                workload,
                spec,
                chosen: one,
            };
            let prepared = subject
                .prepare(shards)
                .map_err(|(path, fault)| place.error(&path, fault))?;
            additions.changes.extend(prepared.changes);
            taken.extend(prepared.taken);
            for finding in prepared.findings {
                place.advise(&mut self.adviser, Some(&one.name), finding);
            }
            for claim in prepared.claims {
                let key = (workload.namespace.clone(), claim.name);
                let error = refusal(place, &claim.at, claim.why);
                self.claims.written.push((key, error));
            }
        }
        Ok(subjects)
    }

    /// Adds the copies of containers, which are as all other additions leave them.
    fn repeat(
        place: &Place,
        repeated: &[&Chosen],
        shards: &Shards,
        additions: &mut Additions,
    ) -> Result<(), Error> {
        let Place {
            value, workload, ..
        } = *place;
        if repeated.is_empty() {
            return Ok(());
        }
        let list = workload.spec.then("containers");
        let unwritable = || place.error(&list, Fault::Unwritable);
        let applied = edit::applied(value, &additions.changes).ok_or_else(unwritable)?;
        let mut items = Vec::new();
        for one in repeated {
            let subject = Subject {
                value,
                workload,
                spec: &Value::Null,
                chosen: one,
            };
            let container = one.path.get(&applied).ok_or_else(unwritable)?;
            let (copies, records) = subject.copies(container, shards);
            items.extend(copies);
            additions.records.extend(records);
        }
        let at = list
            .get(value)
            .and_then(Value::as_array)
            .map_or(0, Vec::len);
        additions.changes.push(Change::Items { list, at, items });
        Ok(())
    }
}

fn refusal(place: &Place, path: &Path, why: Unfit) -> Error {
    let object = place.workload.title();
    place.error(
        path,
        Fault::Unfit {
            object,
            why: Box::new(why),
        },
    )
}

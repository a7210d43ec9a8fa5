//! One workload where it stands: what the shim adds to it.

use serde_json::Value;

use super::advice::{self, Adviser};
use super::container::{self, Chosen};
use super::delivery::Delivery;
use super::document::Document;
use super::edit::{Change, Records};
use super::eject::Held;
use super::error::{Error, Fault};
use super::fit::Additions;
use super::inject::{Call, add_items};
use super::look::{self, Asked, Seen};
use super::path::Path;
use super::pods::{self, Pin};
use super::readable::has_halves;
use super::stream::Draft;
use super::workload::Workload;
use super::{Source, configmap, krm, ours};
use crate::finding::{Finding, Severity};
use crate::image::Platform;
use crate::shim;

/// A workload of the document that is being edited.
pub(super) struct Place<'d, 't> {
    pub(super) source: &'d Source,
    pub(super) document: &'d Document<'t>,
    pub(super) value: &'d Value,
    pub(super) workload: &'d Workload,
}

impl Place<'_, '_> {
    pub(super) fn error(&self, path: &Path, fault: Fault) -> Error {
        Error::at(self.document.position(&self.source.name, path), fault)
    }

    pub(super) fn advise(&self, adviser: &mut Adviser, container: Option<&str>, finding: Finding) {
        let object = &self.workload.object;
        let at = self.document.position(&self.source.name, object);
        adviser.add(&at, self.workload.title(), container, finding);
    }
}

impl Call<'_> {
    /// What is to be added to one workload, and what is to be known for taking it
    /// out; nothing where none of its containers is chosen.
    pub(super) fn workload(
        &mut self,
        place: &Place,
        held: Option<&Held>,
        draft: &mut Draft,
    ) -> Result<(Vec<Change>, Records), Error> {
        let Place {
            document,
            value,
            workload,
            ..
        } = *place;
        let annotations = workload.template.keys("metadata.annotations");
        let annotations = annotations.get(value).cloned().unwrap_or_default();
        let error = |path: &Path, fault| place.error(path, fault);
        let chosen = container::choose(value, workload, &annotations, self.options, held)
            .map_err(|(path, fault)| error(&path, fault))?;
        if !self.options.containers.is_empty() {
            self.containers_there.extend(chosen.there);
            self.containers_found.extend(chosen.found);
        }
        for finding in chosen.findings {
            place.advise(&mut self.adviser, None, finding);
        }
        if chosen.containers.is_empty() {
            return Ok((Vec::new(), Records::new()));
        }
        let spec = workload.spec.get(value).unwrap_or(&Value::Null);
        if pods::is_windows(spec) {
            return Err(error(&workload.spec, Fault::Windows));
        }
        let has_init = matches!(self.options.delivery, Delivery::Init(_));
        ours::check(value, workload, has_init).map_err(|(path, fault)| error(&path, fault))?;
        let writes_anew = self.options.shards.is_some() || self.options.surge_ready;
        if writes_anew && has_halves(&place.source.text) {
            return Err(error(&workload.spec, Fault::HalfCharactersAnew));
        }
        let mut additions = Additions::default();
        for one in &chosen.containers {
            let seen = self.look(place, spec, one)?;
            let changes = &mut additions.changes;
            let added = container::changes(document, value, one, seen.as_ref(), changes)
                .map_err(|(path, fault)| error(&path, fault))?;
            for finding in added.findings {
                place.advise(&mut self.adviser, Some(&one.name), finding);
            }
            additions.records.extend(added.record);
        }
        let fitness = self.fit(place, spec, &chosen.containers, &mut additions)?;
        let Additions {
            mut changes,
            records,
        } = additions;
        let configmap = match self.options.delivery {
            Delivery::ConfigMap(None) => self.configmap(place, spec, draft)?,
            _ => String::new(),
        };
        let delivery = &self.options.delivery;
        let volume = delivery.volume(&configmap);
        let volumes = [volume].to_vec();
        let has_user = spec.pointer("/securityContext/runAsUser").is_some();
        if let Some(init) = delivery.init(has_user) {
            let change = add_items(value, &workload.spec, "initContainers", vec![init], true);
            changes.push(change.map_err(|(path, fault)| error(&path, fault))?);
        }
        let change = add_items(value, &workload.spec, "volumes", volumes, false);
        changes.push(change.map_err(|(path, fault)| error(&path, fault))?);
        let names: Vec<&Chosen> = chosen.containers.iter().collect();
        let workload = advice::Subject {
            workload,
            object: workload.object.get(value).unwrap_or(&Value::Null),
            spec,
            chosen: &names,
            delivery,
            fitness,
        };
        let at = document.position(&place.source.name, &place.workload.object);
        self.adviser.workload(&workload, &at);
        Ok((changes, records))
    }

    /// What the image of a container says, where images are looked into.
    fn look(&self, place: &Place, spec: &Value, chosen: &Chosen) -> Result<Option<Seen>, Error> {
        let Some(images) = self.images else {
            return Ok(None);
        };
        let container = chosen.path.get(place.value).unwrap_or(&Value::Null);
        let Some(image) = container["image"].as_str().filter(|one| !one.is_empty()) else {
            let message = format!(
                "container {} names no image: what it runs is not known",
                chosen.name
            );
            let finding = Finding::new(Severity::Warning, "no-image", message);
            return Ok(Some(Seen {
                findings: vec![finding],
                ..Seen::default()
            }));
        };
        let pin = pods::pin(spec).map_err(|why| place.error(&place.workload.spec, why.into()))?;
        let architecture = match (pin, self.options.architecture) {
            (Pin::To(architecture), _) | (Pin::None, Some(architecture)) => Some(architecture),
            (Pin::None, None) => match self.options.delivery {
                Delivery::ConfigMap(_) => pods::assumed().ok(),
                _ => None,
            },
        };
        let asked = Asked {
            image: image.to_owned(),
            platform: architecture.map(|one| Platform::new("linux", one.name, None)),
            run: look::run(container, spec),
        };
        let seen = images.look(&asked).map_err(|why| {
            let container = chosen.name.clone();
            place.error(&chosen.path.then("image"), Fault::Image { container, why })
        })?;
        Ok(Some(seen))
    }

    /// The name of the ConfigMap for a workload, which is put before its document
    /// if the result has none for it yet.
    fn configmap(
        &mut self,
        place: &Place,
        spec: &Value,
        draft: &mut Draft,
    ) -> Result<String, Error> {
        let workload = place.workload;
        let error = |fault| place.error(&workload.spec, fault);
        let architecture = match pods::pin(spec).map_err(|why| error(why.into()))? {
            Pin::To(architecture) => architecture,
            Pin::None => match self.options.architecture {
                Some(architecture) => architecture,
                None if workload.kind == "DaemonSet" => {
                    return Err(error(Fault::AnyArchitecture));
                }
                None => {
                    let finding = advice::architecture_assumed();
                    place.advise(&mut self.adviser, None, finding);
                    pods::assumed().map_err(|why| error(why.into()))?
                }
            },
        };
        let shim = shim::embedded(architecture).map_err(|why| error(why.into()))?;
        let key = (workload.namespace.clone(), architecture.name);
        if let Some(name) = self.configmaps.get(&key) {
            return Ok(name.clone());
        }
        if has_halves(&place.source.text) {
            return Err(error(Fault::HalfCharacters));
        }
        let object = configmap::new(shim, workload);
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let name = name.to_owned();
        if krm::is_list(place.document) {
            self.items.extend(krm::insert(object, &workload.object));
        } else {
            draft.insert(&object, place.document);
        }
        self.configmaps.insert(key, name.clone());
        Ok(name)
    }
}

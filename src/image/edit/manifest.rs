//! The edit of a manifest: the config's descriptor, the layers, and where it is
//! an OCI manifest, the annotations that name what it was made from.

use serde_json::{Map, Value};

use super::super::descriptor::{Descriptor, media_type};
use super::super::digest::Digest;
use super::config::{object, remove};
use super::{Change, Malformed, Recorded};

/// The annotations of the OCI image specification for the image that another one
/// was made from.
pub(in crate::image) const BASE_NAME: &str = "org.opencontainers.image.base.name";
pub(in crate::image) const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";

/// The annotation that holds the annotations of before, where ours took the
/// place of others: JSON.
const RESTORE: &str = "reuseport.dev/restore";

/// Gives `tree` (a manifest or an index) the annotations that name its base.
pub(in crate::image) fn annotate(tree: &mut Value, base: &Digest, name: Option<&str>) {
    let before = tree.get("annotations").cloned();
    let is_plain = match &before {
        None => true,
        Some(Value::Object(all)) => {
            !all.is_empty() && !all.contains_key(BASE_NAME) && !all.contains_key(BASE_DIGEST)
        }
        Some(_) => false,
    };
    let annotations = object(tree, "annotations");
    match name {
        Some(name) => drop(annotations.insert(BASE_NAME.into(), name.into())),
        // That of another base would be wrong.
        None => drop(annotations.shift_remove(BASE_NAME)),
    }
    annotations.insert(BASE_DIGEST.into(), base.to_string().into());
    if !is_plain {
        let before = before.unwrap_or_default().to_string();
        annotations.insert(RESTORE.into(), before.into());
    }
}

/// Takes the annotations out again, or gives those of before back. What they said
/// of the base is returned: its digest and its name.
pub(in crate::image) fn disannotate(tree: &mut Value) -> (Option<Digest>, Option<String>) {
    let Some(annotations) = tree.get_mut("annotations").and_then(Value::as_object_mut) else {
        return (None, None);
    };
    let text = |all: &Map<String, Value>, name| all.get(name)?.as_str().map(str::to_owned);
    let digest = text(annotations, BASE_DIGEST).and_then(|digest| digest.parse().ok());
    let name = text(annotations, BASE_NAME);
    let before = text(annotations, RESTORE);
    if let Some(before) = before.and_then(|before| serde_json::from_str(&before).ok()) {
        tree["annotations"] = before;
    } else {
        annotations.shift_remove(BASE_DIGEST);
        annotations.shift_remove(BASE_NAME);
        let is_empty = annotations.is_empty();
        if let Some(members) = tree.as_object_mut().filter(|_| is_empty) {
            members.shift_remove("annotations");
        }
    }
    (digest, name)
}

/// Whether annotations belong there: Docker's manifests know none.
pub(in crate::image) fn is_oci(manifest: &Value) -> bool {
    match manifest.get("mediaType").and_then(Value::as_str) {
        Some(own) => own == media_type::OCI_MANIFEST || own == media_type::OCI_INDEX,
        // Docker's must name their type, OCI's need not.
        None => true,
    }
}

pub(super) fn inject(
    manifest: &Value,
    config: &[u8],
    change: &Change<'_>,
) -> Result<Value, Malformed> {
    let mut new = manifest.clone();
    let descriptor = Descriptor::parse(&new["config"])?;
    new["config"] = descriptor.with_content(config).to_value();
    let layers = new["layers"].as_array_mut().ok_or(Malformed::NoLayers)?;
    layers.push(change.layer.descriptor.to_value());
    if is_oci(&new) {
        annotate(&mut new, change.base, change.base_name);
    }
    Ok(new)
}

pub(super) fn eject(
    manifest: &Value,
    config: &[u8],
    ours: &[usize],
    is_direct: bool,
    recorded: &mut Recorded,
) -> Result<Value, Malformed> {
    let mut new = manifest.clone();
    let descriptor = Descriptor::parse(&new["config"])?;
    new["config"] = descriptor.with_content(config).to_value();
    let layers = new["layers"].as_array_mut().ok_or(Malformed::NoLayers)?;
    remove(layers, ours);
    // Who built on top of it wrote a manifest of their own.
    if is_direct && is_oci(&new) {
        let named = new["annotations"][BASE_DIGEST].as_str();
        let written = recorded.base.as_ref().map(Digest::to_string);
        if written.is_none() || written.as_deref() == named {
            let (base, name) = disannotate(&mut new);
            recorded.base = recorded.base.take().or(base);
            recorded.base_name = name;
        }
    }
    Ok(new)
}

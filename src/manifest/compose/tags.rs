//! The tags by which a later file takes back what those before it say.
//!
//! <https://github.com/compose-spec/compose-spec/blob/main/13-merge.md>

use serde_json::Value;

use super::super::document::Document;
use super::super::error::Fault;
use super::super::path::Path;
use super::{Refusal, SERVICES, Service};

/// What Compose does with a value beside merging it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    /// It is left out, and what files before say of it.
    Reset,
    /// It takes the place of what files before say.
    Override,
}

/// The tag of what stands at `path`.
pub(super) fn at(document: &Document, path: &Path) -> Option<Tag> {
    let node = document.node(document.resolve(document.find(path)?));
    let tag = node.tag.as_ref().filter(|tag| tag.handle == "!")?;
    match tag.suffix.as_str() {
        "reset" => Some(Tag::Reset),
        "override" => Some(Tag::Override),
        _ => None,
    }
}

/// `value`, the document's, without what is left out of its services.
pub(super) fn without_reset(document: &Document, value: &Value) -> Value {
    let root = Path::default().then(SERVICES);
    let is_left_out = |path: &Path| at(document, path) == Some(Tag::Reset);
    let mut left = value.clone();
    // A path is found from the top each time: most files have no tag.
    if document.nodes.iter().all(|node| node.tag.is_none()) {
        return left;
    }
    if is_left_out(&root) {
        left[SERVICES] = Value::Null;
    } else if let Some(Value::Object(services)) = left.get_mut(SERVICES) {
        services.retain(|name, service| {
            let path = root.then(name.as_str());
            if let Value::Object(entries) = service {
                entries.retain(|key, _| !is_left_out(&path.then(key.as_str())));
            }
            !is_left_out(&path)
        });
    }
    left
}

/// Whether a service takes the place of one that files before may have.
pub(super) fn is_whole(document: &Document, service: &Path) -> bool {
    let (services, _) = service.split();
    [&services, service]
        .iter()
        .any(|path| at(document, path) == Some(Tag::Override))
}

/// Refuses a tag at one of the `keys` of a service: what is put there, or takes its
/// place, would not be what Compose sees.
///
/// # Errors
/// The first of them that is left out.
pub(super) fn check(document: &Document, service: &Service, keys: &[&str]) -> Result<(), Refusal> {
    for key in keys {
        let path = service.path.then(*key);
        if at(document, &path) == Some(Tag::Reset) {
            let key = (*key).to_owned();
            return Err((path, Fault::Reset { key }));
        }
    }
    Ok(())
}

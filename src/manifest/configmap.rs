//! The ConfigMap that carries the shim.

use std::fmt::Write;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::document::Document;
use super::names::CONFIGMAP;
use super::workload::Workload;
use crate::shim::{self, ARCHITECTURES, Architecture, FILE_NAME};

/// The ConfigMap with `shim` for a namespace, of whose workloads `first` is the
/// first that uses it. Its name depends on both, so that no two releases own one
/// object.
pub(super) fn new(shim: &[u8], first: &Workload) -> Value {
    let namespace = first.namespace.as_deref();
    let name = name(
        shim,
        &[&first.kind, namespace.unwrap_or_default(), &first.name],
    );
    object(shim, &name, namespace)
}

/// The name of a ConfigMap with `shim` of the owner that `parts` name. A newer shim
/// is another object, which makes the pods roll.
pub(super) fn name(shim: &[u8], parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    hasher.update(shim);
    for part in parts {
        hasher.update([0]);
        hasher.update(part);
    }
    let mut name = CONFIGMAP.to_owned();
    for byte in hasher.finalize().iter().take(5) {
        let _ = write!(name, "{byte:02x}");
    }
    name
}

/// The ConfigMap `name` with `shim`.
pub(super) fn object(shim: &[u8], name: &str, namespace: Option<&str>) -> Value {
    let mut metadata = json!({"name": name});
    if let Some(namespace) = namespace {
        metadata["namespace"] = namespace.into();
    }
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata,
        "immutable": true,
        "binaryData": {FILE_NAME: base64(shim)},
    })
}

/// The architecture whose shim of today such a ConfigMap carries.
pub(super) fn architecture(object: &Value) -> Option<&'static Architecture> {
    let data = object.get("binaryData")?.get(FILE_NAME)?.as_str()?;
    ARCHITECTURES
        .iter()
        .find(|one| shim::embedded(one).is_ok_and(|shim| base64(shim) == data))
}

/// Whether a ConfigMap has a name that [`name`] gave: others may bring the shim, too.
pub(super) fn is_name_of_ours(name: &str) -> bool {
    let hash = name.strip_prefix(CONFIGMAP).unwrap_or_default();
    hash.bytes().take_while(u8::is_ascii_hexdigit).count() >= 10
}

/// The name of a document that is such a ConfigMap.
pub(super) fn name_of_ours(document: &Document) -> Option<String> {
    let text = |map, key| document.scalar(document.entry(map, key)?.1);
    let root = document.root;
    if text(root, "kind") != Some("ConfigMap") {
        return None;
    }
    let (_, metadata) = document.entry(root, "metadata")?;
    let name = text(metadata, "name").filter(|name| is_name_of_ours(name))?;
    let (_, data) = document.entry(root, "binaryData")?;
    match document.entries(data) {
        [(key, _)] if document.scalar(*key) == Some(FILE_NAME) => Some(name.to_owned()),
        _ => None,
    }
}

/// The name of an object that is such a ConfigMap.
pub(super) fn name_of(object: &Value) -> Option<&str> {
    let data = object.get("binaryData")?.as_object()?;
    let is_ours = object.get("kind")? == "ConfigMap" && data.len() == 1;
    let name = object.pointer("/metadata/name")?.as_str()?;
    let is_named = is_name_of_ours(name) && data.contains_key(FILE_NAME);
    (is_ours && is_named).then_some(name)
}

/// Base64 with padding, see RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk
            .iter()
            .fold(0u32, |word, byte| word << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for place in 0..4 {
            if place > chunk.len() {
                text.push('=');
            } else {
                let digit = word >> (18 - 6 * place) & 63;
                text.push(char::from(DIGITS[digit as usize]));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        // RFC 4648, section 10.
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    }
}

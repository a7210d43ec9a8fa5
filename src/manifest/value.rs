//! A document as the value that Kubernetes sees: aliases and merge keys resolved,
//! scalars read by YAML 1.1.

use std::hash::{DefaultHasher, Hash, Hasher};

use saphyr_parser::ScalarStyle;
use serde_json::{Map, Value};

use super::document::{Content, Document, Id};
use super::scalar;

/// The key whose value is merged into its mapping, see
/// <https://yaml.org/type/merge.html>.
pub(super) const MERGE: &str = "<<";

impl Document<'_> {
    /// The value of a node.
    pub(super) fn value(&self, id: Id) -> Value {
        let node = self.node(id);
        match &node.content {
            Content::Alias(target) => self.value(*target),
            Content::List { items, .. } => items.iter().map(|item| self.value(*item)).collect(),
            Content::Map { entries, .. } => {
                let mut map = Map::new();
                for (key, value) in entries {
                    if !self.is_merge(*key) {
                        let name = self.scalar(*key).unwrap_or_default();
                        map.insert(name.to_owned(), self.value(*value));
                    }
                }
                for (key, value) in self.merged(id) {
                    map.entry(key).or_insert(value);
                }
                Value::Object(map)
            }
            Content::Scalar(text, style) => {
                let suffix = node.tag.as_ref().map(|tag| tag.suffix.as_str());
                match (suffix, style) {
                    (None, ScalarStyle::Plain) => scalar::plain(text),
                    (Some("int" | "float" | "bool" | "null"), _) => scalar::plain(text),
                    _ => Value::String(text.to_string()),
                }
            }
        }
    }

    /// Whether a key is a merge key.
    pub(super) fn is_merge(&self, key: Id) -> bool {
        let content = &self.node(key).content;
        matches!(content, Content::Scalar(text, ScalarStyle::Plain) if text == MERGE)
    }

    /// What merge keys bring into the mapping `id`: its own keys come before these,
    /// and of several sources the first.
    pub(super) fn merged(&self, id: Id) -> Map<String, Value> {
        let mut map = Map::new();
        let entries = self.entries(id).iter();
        for (_, source) in entries.filter(|(key, _)| self.is_merge(*key)) {
            let source = self.resolve(*source);
            let sources = match &self.node(source).content {
                Content::List { items, .. } => items.clone(),
                _ => vec![source],
            };
            for source in sources {
                if let Value::Object(more) = self.value(source) {
                    for (key, value) in more {
                        map.entry(key).or_insert(value);
                    }
                }
            }
        }
        map
    }
}

/// A hash of a value that does not depend on the order of keys.
pub(super) fn hash(value: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    match value {
        Value::Null => 0u8.hash(&mut hasher),
        Value::Bool(value) => (1u8, value).hash(&mut hasher),
        Value::Number(value) => (2u8, value.to_string()).hash(&mut hasher),
        Value::String(value) => (3u8, value).hash(&mut hasher),
        Value::Array(items) => {
            (4u8, items.len()).hash(&mut hasher);
            for item in items {
                self::hash(item).hash(&mut hasher);
            }
        }
        Value::Object(map) => {
            let mut sum = 0u64;
            for (key, value) in map {
                let mut entry = DefaultHasher::new();
                (key, self::hash(value)).hash(&mut entry);
                sum = sum.wrapping_add(entry.finish());
            }
            (5u8, map.len(), sum).hash(&mut hasher);
        }
    }
    hasher.finish()
}

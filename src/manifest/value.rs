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
            Content::Scalar(text, _) => self
                .meaning(id)
                .unwrap_or_else(|| Value::String(text.to_string())),
        }
    }

    /// The value of a scalar that is no string.
    fn meaning(&self, id: Id) -> Option<Value> {
        let node = self.node(id);
        let Content::Scalar(text, style) = &node.content else {
            return None;
        };
        let suffix = node.tag.as_ref().map(|tag| tag.suffix.as_str());
        match (suffix, style) {
            (None, ScalarStyle::Plain) => scalar::meaning(text),
            (Some("int" | "float" | "bool" | "null"), _) => scalar::meaning(text),
            _ => None,
        }
    }

    /// The [`hash`] of the value of a node, which is not made for it.
    pub(super) fn hash(&self, id: Id) -> u64 {
        match &self.node(id).content {
            Content::Alias(target) => self.hash(*target),
            Content::List { items, .. } => list(items.iter().map(|item| self.hash(*item))),
            Content::Map { entries, .. } => {
                if entries.iter().any(|(key, _)| self.is_merge(*key)) {
                    return hash(&self.value(id));
                }
                let entries = entries.iter();
                map(entries
                    .map(|(key, value)| (self.scalar(*key).unwrap_or_default(), self.hash(*value))))
            }
            Content::Scalar(text, _) => match self.meaning(id) {
                Some(value) => hash(&value),
                None => string(text),
            },
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
    match value {
        Value::Null => of(&0u8),
        Value::Bool(value) => of(&(1u8, value)),
        Value::Number(value) => of(&(2u8, value.to_string())),
        Value::String(text) => string(text),
        Value::Array(items) => list(items.iter().map(hash)),
        Value::Object(entries) => map(entries
            .iter()
            .map(|(key, value)| (key.as_str(), hash(value)))),
    }
}

fn of(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

fn string(text: &str) -> u64 {
    of(&(3u8, text))
}

fn list(items: impl ExactSizeIterator<Item = u64>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (4u8, items.len()).hash(&mut hasher);
    for item in items {
        item.hash(&mut hasher);
    }
    hasher.finish()
}

fn map<'k>(entries: impl ExactSizeIterator<Item = (&'k str, u64)>) -> u64 {
    let count = entries.len();
    let sum = entries.fold(0u64, |sum, entry| sum.wrapping_add(of(&entry)));
    of(&(5u8, count, sum))
}

#[cfg(test)]
mod tests {
    use super::super::reader::Documents;
    use super::*;

    #[test]
    fn a_node_has_the_hash_of_its_value() {
        let text = "a: &x {b: [1, 0x10, yes, ~, \"1\"], c: !!int \"7\"}\nd: *x\n<<: {a: 1, e: 2}\nf: {<<: *x, b: 1.5}\n";
        let mut documents = Documents::new("x", text, text);
        let document = documents.next().expect("YAML").expect("a document");
        for id in 0..document.nodes.len() {
            assert_eq!(document.hash(id), hash(&document.value(id)), "{id}");
        }
        let other: Value = serde_json::json!({"b": 1, "a": [2]});
        let same: Value = serde_json::json!({"a": [2], "b": 1});
        assert_eq!(hash(&other), hash(&same));
        assert_ne!(hash(&other), hash(&serde_json::json!({"a": 1, "b": [2]})));
    }
}

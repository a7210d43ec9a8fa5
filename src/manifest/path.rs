//! Paths in documents: as values have them, and as the annotation
//! `reuseport.dev/restore` writes them.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use serde_json::Value;

use super::document::{Content, Document, Id};
use super::value::MERGE;

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

impl From<&str> for Step {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

/// A path from the root of a document to a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Path(pub(super) Vec<Step>);

impl Path {
    /// The path one step further.
    pub(super) fn then(&self, step: impl Into<Step>) -> Self {
        let mut path = self.clone();
        path.0.push(step.into());
        path
    }

    /// The path several keys further, as in `spec.template`.
    pub(super) fn keys(&self, keys: &str) -> Self {
        let keys = keys.split('.').filter(|key| !key.is_empty());
        keys.fold(self.clone(), |path, key| path.then(key))
    }

    /// What the path leads to in `value`.
    pub(super) fn get<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        self.0.iter().try_fold(value, |value, step| match step {
            Step::Key(key) => value.get(key),
            Step::Index(index) => value.get(index),
        })
    }

    /// The same, to be changed.
    pub(super) fn get_mut<'v>(&self, value: &'v mut Value) -> Option<&'v mut Value> {
        self.0.iter().try_fold(value, |value, step| match step {
            Step::Key(key) => value.get_mut(key),
            Step::Index(index) => value.get_mut(index),
        })
    }

    /// The path as records have it, see [`Document::written`].
    pub(super) fn written(&self, value: &Value) -> String {
        let mut text = String::new();
        let mut at = Some(value);
        for step in &self.0 {
            let name = |one: &Value| one.get("name").and_then(Value::as_str).map(escaped);
            let _ = match step {
                Step::Key(key) => write!(text, "/{}", escaped(key)),
                Step::Index(index) => {
                    let items = at.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                    match items.get(*index).and_then(name) {
                        Some(one)
                            if items
                                .iter()
                                .filter_map(name)
                                .filter(|two| *two == one)
                                .count()
                                == 1 =>
                        {
                            write!(text, "/name={one}")
                        }
                        _ => write!(text, "/{index}"),
                    }
                }
            };
            at = Path(vec![step.clone()]).get(at.unwrap_or(&Value::Null));
        }
        text
    }

    /// The path that is written as `written` in `value`; `None` where it leads to
    /// nothing there, or through a merge key.
    pub(super) fn of(written: &str, value: &Value) -> Option<Self> {
        let mut path = Self::default();
        for step in written.split('/').skip(1) {
            let step = unescaped(step);
            if step == MERGE {
                return None;
            }
            path = match path.get(value)? {
                Value::Array(items) => match step.strip_prefix("name=") {
                    Some(name) => {
                        let named = |one: &Value| one.get("name") == Some(&name.into());
                        path.then(items.iter().position(named)?)
                    }
                    None => path.then(step.parse::<usize>().ok()?),
                },
                _ => path.then(step.as_str()),
            };
        }
        Some(path)
    }

    /// A path's parent and its last step.
    pub(super) fn split(&self) -> (Self, Option<&Step>) {
        match self.0.split_last() {
            Some((last, rest)) => (Self(rest.to_vec()), Some(last)),
            None => (self.clone(), None),
        }
    }

    /// The path for people, as in `.spec.containers[0]`.
    pub(super) fn shown(&self) -> String {
        let mut text = String::new();
        for step in &self.0 {
            let _ = match step {
                Step::Key(key) => write!(text, ".{key}"),
                Step::Index(index) => write!(text, "[{index}]"),
            };
        }
        text
    }
}

fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// The key or name that a step of a written path stands for.
pub(super) fn unescaped(step: &str) -> String {
    step.replace("~1", "/").replace("~0", "~")
}

impl Document<'_> {
    /// The node that a path of values leads to, through aliases; `None` where a
    /// merge key brings it in.
    pub(super) fn find(&self, path: &Path) -> Option<Id> {
        path.0.iter().try_fold(self.root, |id, step| {
            let id = self.resolve(id);
            match step {
                Step::Key(key) => self.entry(id, key).map(|(_, value)| value),
                Step::Index(index) => self.items(id).get(*index).copied(),
            }
        })
    }

    /// The written path of each of `wanted`: keys and items by `/`, items by their
    /// name (`name=web`) where it is theirs alone, else by their number. `~1` is
    /// a slash in a key and `~0` a tilde, as in RFC 6901.
    pub(super) fn written(&self, wanted: &HashSet<Id>) -> HashMap<Id, String> {
        let mut found = HashMap::new();
        if wanted.is_empty() {
            return found;
        }
        let mut open = vec![(self.root, String::new())];
        while let Some((id, path)) = open.pop() {
            match &self.node(id).content {
                Content::Map { entries, .. } => {
                    for (key, value) in entries {
                        let key = self.scalar(*key).unwrap_or_default();
                        open.push((*value, format!("{path}/{}", escaped(key))));
                    }
                }
                Content::List { items, .. } => {
                    for (index, item) in items.iter().enumerate() {
                        let step = self.step(items, index);
                        open.push((*item, format!("{path}/{step}")));
                    }
                }
                _ => {}
            }
            if wanted.contains(&id) {
                found.insert(id, path);
            }
        }
        found
    }

    fn step(&self, items: &[Id], index: usize) -> String {
        match self.name(items[index]) {
            Some(name)
                if items
                    .iter()
                    .filter(|one| self.name(**one) == Some(name))
                    .count()
                    == 1 =>
            {
                format!("name={}", escaped(name))
            }
            _ => index.to_string(),
        }
    }

    /// The name of an item, as it is written in it.
    fn name(&self, item: Id) -> Option<&str> {
        // An alias has the name of what it refers to, and loses it when that is
        // not there any more.
        match &self.node(item).content {
            Content::Alias(_) => None,
            _ => self
                .entry(item, "name")
                .and_then(|(_, name)| self.scalar(name)),
        }
    }

    /// The node that a written path leads to, and the key of its entry.
    pub(super) fn at(&self, written: &str) -> Option<(Id, Option<Id>)> {
        let mut place = (self.root, None);
        for step in written.split('/').skip(1) {
            let step = unescaped(step);
            let id = self.resolve(place.0);
            place = match &self.node(id).content {
                Content::Map { .. } => {
                    let (key, value) = self.entry(id, &step)?;
                    (value, Some(key))
                }
                Content::List { items, .. } => {
                    let item = match step.strip_prefix("name=") {
                        Some(name) => items.iter().find(|one| self.name(**one) == Some(name)),
                        None => items.get(step.parse::<usize>().ok()?),
                    };
                    (*item?, None)
                }
                _ => return None,
            };
        }
        Some(place)
    }
}

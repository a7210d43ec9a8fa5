//! Taking additions out of a document again: from its value, and from its text so
//! that what was there before them comes back byte for byte.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;

use serde_json::Value;

use super::document::{Content, Document, Id};
use super::edit::{Edited, Records};
use super::error::Fault;
use super::path::{Path, Step, unescaped};
use super::record;
use super::splice::Splice;

/// What goes. Paths and places in lists are those before anything goes.
#[derive(Debug, Default)]
pub(super) struct Cuts {
    /// Items, by the path of their list.
    pub(super) items: BTreeMap<Path, BTreeSet<usize>>,
    /// Entries, by the path of their mapping.
    pub(super) entries: BTreeMap<Path, BTreeSet<String>>,
    /// A text in a scalar, at its beginning or its last occurrence, by the path of the
    /// scalar.
    pub(super) texts: BTreeMap<Path, &'static str>,
    /// A text at the beginning of keys, by the path of their mapping.
    pub(super) keys: BTreeMap<Path, BTreeMap<String, &'static str>>,
    /// Values that took the place of others: the text and the value of those.
    pub(super) replaced: BTreeMap<Path, (String, Value)>,
    /// What the additions had to replace.
    pub(super) records: Records,
}

impl Cuts {
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
            && self.entries.is_empty()
            && self.texts.is_empty()
            && self.keys.is_empty()
            && self.replaced.is_empty()
    }

    pub(super) fn item(&mut self, list: &Path, index: usize) {
        self.items.entry(list.clone()).or_default().insert(index);
    }

    pub(super) fn entry(&mut self, map: &Path, key: &str) {
        let keys = self.entries.entry(map.clone()).or_default();
        keys.insert(key.to_owned());
    }

    pub(super) fn key(&mut self, map: &Path, key: &str, text: &'static str) {
        let keys = self.keys.entry(map.clone()).or_default();
        keys.insert(key.to_owned(), text);
    }
}

/// Where a text stands in a scalar that has it.
fn place(scalar: &str, is_first: bool, text: &str) -> Option<usize> {
    if is_first {
        scalar.find(text)
    } else {
        scalar.rfind(text)
    }
}

/// Takes `cuts` out of `document`, whose value is `value`.
///
/// # Errors
/// That cannot be done.
pub(super) fn remove(document: &Document, value: &Value, cuts: Cuts) -> Result<Edited, Fault> {
    let mut removal = Removal {
        document,
        value,
        raws: HashMap::new(),
        emptied: BTreeMap::new(),
        aliased: BTreeMap::new(),
        cuts,
    };
    removal.find_records();
    removal.settle();
    let meant = removal.meant().ok_or(Fault::Unwritable)?;
    let mut splices = removal.restored(&meant);
    let gone: Vec<Range<usize>> = splices.iter().map(|one| one.range.clone()).collect();
    for splice in removal.cut()? {
        if !is_within(&splice.range, &gone) {
            splices.push(splice);
        }
    }
    Ok(Edited { splices, meant })
}

/// Whether `range` lies in one of `others`.
fn is_within(range: &Range<usize>, others: &[Range<usize>]) -> bool {
    let holds = |other: &Range<usize>| other.start <= range.start && range.end <= other.end;
    others.iter().any(holds)
}

struct Removal<'d, 't> {
    document: &'d Document<'t>,
    value: &'d Value,
    cuts: Cuts,
    /// The texts that records hold, by the nodes that stand in their place.
    raws: HashMap<Id, String>,
    /// Collections that were null or empty before, and their text then.
    emptied: BTreeMap<Path, String>,
    /// Those that were an alias of nothing, or of an empty one, and what that is.
    aliased: BTreeMap<Path, Value>,
}

impl Removal<'_, '_> {
    fn find_records(&mut self) {
        for (written, record) in &self.cuts.records {
            if let Some((id, _)) = self.document.at(written) {
                // What a merge key brings in may be empty too.
                let raw = match record {
                    Value::String(raw) => raw.clone(),
                    _ => match self.merged(written) {
                        Some(merged) => merged.to_string(),
                        None => continue,
                    },
                };
                self.raws.insert(id, raw);
            }
        }
    }

    /// Where all of a collection goes, so does its entry, unless it was there
    /// before.
    fn settle(&mut self) {
        let count = |path: &Path| match path.get(self.value) {
            Some(Value::Array(items)) => items.len(),
            Some(Value::Object(map)) => map.len(),
            _ => usize::MAX,
        };
        loop {
            let items = self.cuts.items.iter();
            let items = items.filter(|(path, cut)| cut.len() == count(path));
            let entries = self.cuts.entries.iter();
            let entries = entries.filter(|(path, cut)| cut.len() == count(path));
            let whole: Vec<Path> = items
                .map(|(path, _)| path.clone())
                .chain(entries.map(|(path, _)| path.clone()))
                .filter(|path| !path.0.is_empty())
                .collect();
            if whole.is_empty() {
                return;
            }
            let (aliases, others): (Vec<Path>, Vec<Path>) = whole
                .into_iter()
                .partition(|path| self.raw(path).is_some_and(|raw| raw.starts_with('*')));
            // What aliases refer to is known before them.
            for path in others.into_iter().chain(aliases) {
                self.cuts.items.remove(&path);
                self.cuts.entries.remove(&path);
                let raw = self.raw(&path).cloned();
                let empty = raw
                    .as_ref()
                    .and_then(|raw| self.alias_of_nothing(&path, raw));
                if let Some(empty) = empty {
                    self.aliased.insert(path, empty);
                } else if let Some(raw) = raw.filter(|raw| !raw.starts_with('*')) {
                    self.emptied.insert(path, raw);
                } else if let (parent, Some(Step::Key(key))) = path.split() {
                    self.cuts.entry(&parent, key);
                }
            }
        }
    }

    /// The text that a record has of what stood at `path`.
    fn raw(&self, path: &Path) -> Option<&String> {
        self.raws.get(&self.document.find(path)?)
    }

    /// What the alias `raw`, which stood at `path`, refers to, if there is nothing in
    /// it and the alias can be put back.
    fn alias_of_nothing(&self, path: &Path, raw: &str) -> Option<Value> {
        let document = self.document;
        let id = document.find(path).filter(|id| document.is_flow(*id))?;
        let target = self.anchored(raw.strip_prefix('*')?, document.node(id).start)?;
        let written = document.written(&HashSet::from([target]));
        let path = written
            .get(&target)
            .and_then(|written| Path::of(written, self.value));
        if let Some(raw) = path.and_then(|path| self.emptied.get(&path)) {
            return Some(empty(raw));
        }
        let is_empty = |value: &Value| match value {
            Value::Null => true,
            Value::Array(items) => items.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => false,
        };
        Some(document.value(target)).filter(is_empty)
    }

    /// The value without what goes.
    fn meant(&self) -> Option<Value> {
        let mut meant = self.value.clone();
        for (path, text) in &self.cuts.texts {
            let scalar = path.get_mut(&mut meant)?;
            let old = scalar.as_str()?;
            let at = place(old, old.starts_with(text), text)?;
            *scalar = format!("{}{}", &old[..at], &old[at + text.len()..]).into();
        }
        for (path, (_, old)) in &self.cuts.replaced {
            *path.get_mut(&mut meant)? = old.clone();
        }
        for (path, raw) in &self.emptied {
            *path.get_mut(&mut meant)? = empty(raw);
        }
        for (path, value) in &self.aliased {
            *path.get_mut(&mut meant)? = value.clone();
        }
        for (path, keys) in &self.cuts.entries {
            if let Some(map) = path.get_mut(&mut meant).and_then(Value::as_object_mut) {
                map.retain(|key, _| !keys.contains(key));
            }
        }
        for (path, keys) in &self.cuts.keys {
            let map = path.get_mut(&mut meant)?.as_object_mut()?;
            for (key, text) in keys {
                let value = map.shift_remove(key)?;
                map.insert(key.strip_prefix(text)?.to_owned(), value);
            }
        }
        // Last, and the last first: what goes from a list moves those behind it, and
        // all that is in them.
        for (path, indices) in self.cuts.items.iter().rev() {
            let list = path.get_mut(&mut meant)?.as_array_mut()?;
            for index in indices.iter().rev() {
                list.remove(*index);
            }
        }
        Some(meant)
    }

    /// Aliases and merged entries that come back, and collections that were empty.
    fn restored(&self, meant: &Value) -> Vec<Splice> {
        let document = self.document;
        let mut splices: Vec<Splice> = Vec::new();
        let mut shadows: BTreeMap<Id, Vec<Id>> = BTreeMap::new();
        for (written, record) in &self.cuts.records {
            let Some((id, key)) = document.at(written) else {
                continue;
            };
            let node = document.node(id);
            let now = self.value_after(written, id, meant);
            match record {
                Value::String(raw) if raw.starts_with('*') => {
                    let is_alias = matches!(node.content, Content::Alias(_));
                    if !is_alias && self.target(&raw[1..], node.start, meant) == now {
                        splices.push(Splice {
                            range: node.start..node.end,
                            text: raw.clone(),
                        });
                    }
                }
                record if record::is_merged(record) => {
                    if let (Some(key), Some(map)) = (key, self.parent(written))
                        && now.is_some()
                        && now == self.merged(written)
                    {
                        shadows.entry(document.resolve(map)).or_default().push(key);
                    }
                }
                _ => {}
            }
        }
        for (map, keys) in &shadows {
            splices.extend(self.entries(*map, keys).unwrap_or_default());
        }
        // Two paths may lead to one node.
        splices.sort_by_key(|one| (one.range.start, one.range.end));
        splices.dedup();
        let gone: Vec<Range<usize>> = splices.iter().map(|one| one.range.clone()).collect();
        for (path, raw) in &self.emptied {
            let more = self.emptied(path, raw).unwrap_or_default();
            splices.extend(more.into_iter().filter(|one| !is_within(&one.range, &gone)));
        }
        splices
    }

    /// The text that puts `raw` back in the place of a collection, all of which
    /// goes.
    fn emptied(&self, path: &Path, raw: &str) -> Option<Vec<Splice>> {
        let document = self.document;
        let id = document.find(path)?;
        let node = document.node(id);
        let key = match path.split() {
            (parent, Some(Step::Key(name))) => {
                let map = document.resolve(document.find(&parent)?);
                document.entry(map, name)?.0
            }
            _ => return None,
        };
        if document.is_flow(id) {
            // Nothing at all stood there: the space before ours goes too.
            let start = if raw.is_empty() {
                document.colon(key)
            } else {
                node.start
            };
            return Some(vec![Splice {
                range: start..node.end,
                text: raw.to_owned(),
            }]);
        }
        let first = match &node.content {
            Content::List { items, .. } => document.dash(*items.first()?)?,
            Content::Map { entries, .. } => document.node(entries.first()?.0).start,
            _ => return None,
        };
        let lines = document.lines(first, document.content_end(id))?;
        let mut splices = vec![Splice::delete(lines)];
        if !raw.is_empty() {
            let colon = document.colon(key);
            splices.push(Splice::insert(colon, format!(" {raw}")));
        }
        Some(splices)
    }

    /// The mapping that holds the entry at a written path.
    fn parent(&self, written: &str) -> Option<Id> {
        let (map, _) = written.rsplit_once('/')?;
        Some(self.document.at(map)?.0)
    }

    /// What a merge key would bring in there.
    fn merged(&self, written: &str) -> Option<Value> {
        let (_, name) = written.rsplit_once('/')?;
        let mut merged = self.document.merged(self.parent(written)?);
        merged.remove(&unescaped(name))
    }

    /// The value of a node after the cuts.
    fn value_after(&self, written: &str, id: Id, meant: &Value) -> Option<Value> {
        match Path::of(written, meant) {
            Some(path) => path.get(meant).cloned(),
            None => Some(self.document.value(id)),
        }
    }

    /// What the last anchor `name` before `before` holds after the cuts.
    fn target(&self, name: &str, before: usize, meant: &Value) -> Option<Value> {
        let id = self.anchored(name, before)?;
        let written = self.document.written(&HashSet::from([id]));
        self.value_after(written.get(&id)?, id, meant)
    }

    /// The node of that anchor.
    fn anchored(&self, name: &str, before: usize) -> Option<Id> {
        let document = self.document;
        let is_named = |id: &Id| {
            let node = document.node(*id);
            let rest = &document.text[node.start..];
            node.is_anchored
                && node.start < before
                && rest
                    .split_whitespace()
                    .take(2)
                    .any(|word| word.strip_prefix('&') == Some(name))
        };
        (0..document.nodes.len()).rev().find(is_named)
    }

    /// The text of all that goes.
    fn cut(&self) -> Result<Vec<Splice>, Fault> {
        let document = self.document;
        let mut splices = Vec::new();
        let mut seen = HashSet::new();
        for (path, text) in &self.cuts.texts {
            if let Some(id) = document.find(path).map(|id| document.resolve(id))
                && seen.insert(id)
            {
                let raw = document.raw(id);
                let is_first = document.scalar(id).is_some_and(|one| one.starts_with(text));
                let at = place(raw, is_first, text).ok_or(Fault::Unwritable)?;
                let start = document.node(id).start + at;
                splices.push(Splice::delete(start..start + text.len()));
            }
        }
        let mut renamed = HashSet::new();
        for (path, keys) in &self.cuts.keys {
            if let Some(id) = document.find(path).map(|id| document.resolve(id))
                && renamed.insert(id)
            {
                for (name, text) in keys {
                    let (key, _) = document.entry(id, name).ok_or(Fault::Unwritable)?;
                    let at = document.raw(key).find(text).ok_or(Fault::Unwritable)?;
                    let start = document.node(key).start + at;
                    splices.push(Splice::delete(start..start + text.len()));
                }
            }
        }
        for (path, (text, _)) in &self.cuts.replaced {
            let (parent, last) = path.split();
            let map = document.find(&parent).map(|id| document.resolve(id));
            if let (Some(map), Some(Step::Key(name))) = (map, last)
                && let Some((key, id)) = document.entry(map, name)
                && seen.insert(id)
            {
                let range = document.value_range(id, key);
                let text = text.clone();
                splices.push(Splice { range, text });
            }
        }
        for (path, indices) in &self.cuts.items {
            if let Some(id) = document.find(path).map(|id| document.resolve(id))
                && seen.insert(id)
            {
                splices.extend(self.items(id, indices)?);
            }
        }
        for (path, names) in &self.cuts.entries {
            if let Some(id) = document.find(path).map(|id| document.resolve(id))
                && seen.insert(id)
            {
                let keys = names.iter().filter_map(|name| document.entry(id, name));
                let keys: Vec<Id> = keys.map(|(key, _)| key).collect();
                splices.extend(self.entries(id, &keys)?);
            }
        }
        Ok(splices)
    }

    fn items(&self, list: Id, indices: &BTreeSet<usize>) -> Result<Vec<Splice>, Fault> {
        let document = self.document;
        let items = document.items(list);
        if document.is_flow(list) {
            let spans: Vec<Range<usize>> = items.iter().map(|one| self.span(*one, *one)).collect();
            return Ok(runs(&spans, |index| indices.contains(&index)));
        }
        let mut splices = Vec::new();
        for index in indices {
            let item = *items.get(*index).ok_or(Fault::Unwritable)?;
            let dash = document.dash(item).ok_or(Fault::Unwritable)?;
            let lines = document.lines(dash, document.content_end(item));
            splices.push(Splice::delete(lines.ok_or(Fault::Unwritable)?));
        }
        Ok(splices)
    }

    fn entries(&self, map: Id, keys: &[Id]) -> Result<Vec<Splice>, Fault> {
        let document = self.document;
        let entries = document.entries(map);
        if document.is_flow(map) {
            let spans = entries.iter().map(|(key, value)| self.span(*key, *value));
            let spans: Vec<Range<usize>> = spans.collect();
            return Ok(runs(&spans, |index| keys.contains(&entries[index].0)));
        }
        let mut splices = Vec::new();
        for (index, (key, value)) in entries.iter().enumerate() {
            if !keys.contains(key) {
                continue;
            }
            let start = document.node(*key).start;
            let end = document.content_end(*value).max(document.node(*key).end);
            let range = match document.lines(start, end) {
                Some(lines) => lines,
                // It stands behind a dash: the next one takes its place.
                None => {
                    let rest = entries[index..].iter();
                    let mut kept = rest.filter(|(key, _)| !keys.contains(key));
                    let (next, _) = kept.next().ok_or(Fault::Unwritable)?;
                    start..document.node(*next).start
                }
            };
            splices.push(Splice::delete(range));
        }
        // One that goes up to the next kept one covers those between.
        let mut end = 0;
        splices.retain(|splice| {
            let is_covered = splice.range.end <= end;
            end = end.max(splice.range.end);
            !is_covered
        });
        Ok(splices)
    }

    /// The bytes of an entry in flow style.
    fn span(&self, key: Id, value: Id) -> Range<usize> {
        let [key, value] = [key, value].map(|id| self.document.node(id));
        key.start..value.end.max(key.end)
    }
}

/// What a text of nothing, or of an empty collection, stands for.
fn empty(raw: &str) -> Value {
    if raw.contains('[') {
        Value::Array(Vec::new())
    } else if raw.contains('{') {
        Value::Object(serde_json::Map::new())
    } else {
        Value::Null
    }
}

/// Deletions of entries in flow style, with the comma that belongs to each run
/// of them: the one before it, or the one behind it where it comes first.
fn runs(spans: &[Range<usize>], goes: impl Fn(usize) -> bool) -> Vec<Splice> {
    let mut splices = Vec::new();
    let mut index = 0;
    while index < spans.len() {
        if !goes(index) {
            index += 1;
            continue;
        }
        let first = index;
        while index < spans.len() && goes(index) {
            index += 1;
        }
        let end = spans[index - 1].end;
        let range = if first > 0 {
            spans[first - 1].end..end
        } else if index < spans.len() {
            spans[first].start..spans[index].start
        } else {
            spans[first].start..end
        };
        splices.push(Splice::delete(range));
    }
    splices
}

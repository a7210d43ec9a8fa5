//! Additions to a document: made to its value, and to its text at the spans of
//! its nodes. The two are compared when the text is read again.
//!
//! What an alias or a merge key brings in cannot be changed where it is written.
//! An alias on the way to an addition is replaced by what it stands for; one that
//! refers to something added to, by what that was. Either is recorded, with all
//! else that taking the additions out could not bring back.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

use saphyr_parser::ScalarStyle;
use serde_json::Value;

use super::document::{Content, Document, Id};
use super::error::Fault;
use super::path::{Path, Step};
use super::record;
use super::splice::Splice;
use super::text::Text;
use super::write::{self, Indent};

/// One addition. Paths and places in lists are those before any addition.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    /// A new entry of a mapping.
    Entry {
        map: Path,
        key: &'static str,
        value: Value,
    },
    /// New items of a list that has some, before the one in place `at`.
    Items {
        list: Path,
        at: usize,
        items: Vec<Value>,
    },
    /// A value where there is none: null, or an empty collection.
    Fill { at: Path, value: Value },
    /// A value in place of another, of an entry.
    Replace { at: Path, value: Value },
    /// Text before that of a scalar.
    Prefix { at: Path, text: &'static str },
    /// Text behind that of a scalar.
    Suffix { at: Path, text: &'static str },
    /// Text before a key of a mapping.
    Rename {
        map: Path,
        key: String,
        text: &'static str,
    },
}

impl Change {
    fn path(&self) -> &Path {
        match self {
            Self::Entry { map, .. } | Self::Rename { map, .. } => map,
            Self::Items { list, .. } => list,
            Self::Fill { at, .. }
            | Self::Replace { at, .. }
            | Self::Prefix { at, .. }
            | Self::Suffix { at, .. } => at,
        }
    }

    /// Makes the addition to a value.
    fn make(&self, root: &mut Value) -> Option<()> {
        let value = self.path().get_mut(root)?;
        match self {
            Self::Entry {
                key, value: new, ..
            } => {
                value
                    .as_object_mut()?
                    .insert((*key).to_owned(), new.clone());
            }
            Self::Items { at, items, .. } => {
                let list = value.as_array_mut()?;
                list.splice(*at..*at, items.iter().cloned());
            }
            Self::Fill { value: new, .. } | Self::Replace { value: new, .. } => {
                *value = new.clone();
            }
            Self::Prefix { text, .. } => *value = format!("{text}{}", value.as_str()?).into(),
            Self::Suffix { text, .. } => *value = format!("{}{text}", value.as_str()?).into(),
            Self::Rename { key, text, .. } => {
                let map = value.as_object_mut()?;
                let old = map.shift_remove(key)?;
                map.insert(format!("{text}{key}"), old);
            }
        }
        Some(())
    }
}

/// What the additions come to.
#[derive(Debug)]
pub(super) struct Edited {
    pub(super) splices: Vec<Splice>,
    /// The document's value after them.
    pub(super) meant: Value,
}

/// What would be lost, by written paths: the text of what was replaced, or null
/// where an entry was added in front of one that a merge key brings in. What else
/// is needed to undo an addition is a mapping, see [`super::record`].
pub(super) type Records = BTreeMap<String, Value>;

/// How far the path of a change goes before an alias or a merge key.
enum Reached {
    Node { id: Id, key: Option<Id> },
    Alias { id: Id, depth: usize },
    Merged { map: Id, depth: usize },
}

/// Which text has to change.
#[derive(Debug, Default)]
struct Reach {
    /// A change and the node that it is made at, with the key of its entry.
    local: Vec<(usize, Id, Option<Id>)>,
    /// An alias, and the path of what stands in its place after the changes;
    /// `None` where that is what it stood for.
    aliases: BTreeMap<Id, Option<Path>>,
    /// Entries that a merge key brings in, to be written out: the mapping, and the
    /// path of the entry.
    shadows: BTreeMap<(Id, String), Path>,
}

/// The changes in an order in which none moves what another speaks of, and in
/// which text that goes to one place comes innermost first.
fn ordered(changes: &[Change]) -> Vec<Change> {
    let mut changes = changes.to_vec();
    changes.sort_by_key(|change| {
        let at = match change {
            Change::Items { at, .. } => *at,
            _ => 0,
        };
        (Reverse(change.path().0.len()), Reverse(at))
    });
    changes
}

/// What `changes` would lose.
///
/// # Errors
/// They cannot be made.
pub(super) fn records(
    document: &Document,
    value: &Value,
    changes: &[Change],
) -> Result<Records, Fault> {
    let changes = ordered(changes);
    let reach = reach(document, &changes)?;
    let mut lost: Vec<(Id, Value)> = Vec::new();
    let mut texts: HashMap<&Path, &str> = HashMap::new();
    for (change, id, key) in &reach.local {
        match (&changes[*change], key) {
            (Change::Fill { .. }, _) => lost.push((*id, document.raw(*id).into())),
            (Change::Replace { at, .. }, Some(key)) => {
                texts.insert(at, &document.text[document.value_range(*id, *key)]);
            }
            _ => {}
        }
    }
    for id in reach.aliases.keys() {
        lost.push((*id, document.raw(*id).into()));
    }
    let maps = reach.shadows.keys().map(|(map, _)| *map);
    let wanted: HashSet<Id> = lost.iter().map(|(id, _)| *id).chain(maps).collect();
    let written = document.written(&wanted);
    let mut records = Records::new();
    // Where an alias stood, too: what stands there now is told by its value alone.
    for change in &changes {
        match change {
            Change::Fill { at, .. } => {
                if let Some(empty) = at.get(value) {
                    records.insert(at.written(value), empty.to_string().into());
                }
            }
            Change::Replace { at, value: new } => {
                let old = at.get(value).ok_or(Fault::Unwritable)?;
                let text = texts.get(at).map(|text| (*text).to_owned());
                let text = text.unwrap_or_else(|| format!(" {}", write::flow(old, true)));
                let record = record::replaced(&text, old, new);
                records.insert(at.written(value), record);
            }
            _ => {}
        }
    }
    for (id, raw) in lost {
        let path = written.get(&id).ok_or(Fault::Unwritable)?;
        records.insert(path.clone(), raw);
    }
    for (map, key) in reach.shadows.keys() {
        let path = format!("{}/{key}", written.get(map).ok_or(Fault::Unwritable)?);
        let record = records.get_mut(&path).and_then(Value::as_object_mut);
        match record {
            Some(record) => record::mark_merged(record),
            None => {
                records.insert(path, Value::Null);
            }
        }
    }
    Ok(records)
}

/// What `value` becomes by `changes`; `None` where one cannot be made.
pub(super) fn applied(value: &Value, changes: &[Change]) -> Option<Value> {
    let mut applied = value.clone();
    for change in ordered(changes) {
        change.make(&mut applied)?;
    }
    Some(applied)
}

/// Makes `changes` to `document`, whose value is `value`.
///
/// # Errors
/// One of them cannot be made, with its path.
pub(super) fn edit(
    document: &Document,
    value: Value,
    changes: &[Change],
    indent: Indent,
) -> Result<Edited, (Path, Fault)> {
    let changes = ordered(changes);
    let unwritable = |path: &Path| (path.clone(), Fault::Unwritable);
    let root = |fault| (Path::default(), fault);
    let reach = reach(document, &changes).map_err(root)?;
    // What is written out is as the changes within leave it: those behind them may
    // move it.
    let mut wanted: Vec<&Path> = reach.aliases.values().flatten().collect();
    wanted.extend(reach.shadows.values());
    wanted.sort_by_key(|path| path.0.len());
    let mut written: HashMap<&Path, Value> = HashMap::new();
    let mut meant = value;
    for change in &changes {
        while let Some(path) = wanted.pop_if(|path| path.0.len() > change.path().0.len()) {
            let value = path.get(&meant).ok_or_else(|| unwritable(path))?;
            written.insert(path, value.clone());
        }
        let made = change.make(&mut meant);
        made.ok_or_else(|| unwritable(change.path()))?;
    }
    for path in wanted {
        let value = path.get(&meant).ok_or_else(|| unwritable(path))?;
        written.insert(path, value.clone());
    }
    let text = Text { document, indent };
    // Of those that go to one place the innermost comes first.
    let mut nested: Vec<(usize, Splice)> = Vec::new();
    for (change, id, key) in &reach.local {
        let change = &changes[*change];
        let splice = text.change(change, *id, *key);
        let splice = splice.map_err(|fault| (change.path().clone(), fault))?;
        nested.push((change.path().0.len(), splice));
    }
    for ((map, key), path) in &reach.shadows {
        let entry = text.entry(*map, key, &written[path]);
        let entry = entry.map_err(|fault| (path.clone(), fault))?;
        nested.push((path.0.len() - 1, entry));
    }
    nested.sort_by_key(|(depth, _)| Reverse(*depth));
    let mut splices: Vec<Splice> = nested.into_iter().map(|(_, splice)| splice).collect();
    for (alias, path) in &reach.aliases {
        let node = document.node(*alias);
        let value = match path {
            Some(path) => &written[path],
            None => &document.value(*alias),
        };
        splices.push(Splice {
            range: node.start..node.end,
            text: write::flow(value, true),
        });
    }
    Ok(Edited { splices, meant })
}

fn reach(document: &Document, changes: &[Change]) -> Result<Reach, Fault> {
    let mut reach = Reach::default();
    let mut touched = HashSet::new();
    for (index, change) in changes.iter().enumerate() {
        let path = change.path();
        let takes_alias = matches!(change, Change::Replace { .. });
        let reached = walk(document, path, takes_alias, &mut touched);
        match reached.ok_or(Fault::Unwritable)? {
            Reached::Node { id, key } => reach.local.push((index, id, key)),
            Reached::Alias { id, depth } => {
                let path = Path(path.0[..depth].to_vec());
                reach.aliases.insert(id, Some(path));
            }
            Reached::Merged { map, depth } => {
                let Step::Key(key) = &path.0[depth] else {
                    return Err(Fault::Unwritable);
                };
                let path = Path(path.0[..=depth].to_vec());
                reach.shadows.insert((map, key.clone()), path);
            }
        }
    }
    // Whoever refers to what is changed keeps what it had.
    for (id, node) in document.nodes.iter().enumerate() {
        if let Content::Alias(target) = node.content
            && touched.contains(&target)
        {
            reach.aliases.entry(id).or_insert(None);
        }
    }
    Ok(reach)
}

/// Follows `path` as far as the document's own text goes; the nodes on the way
/// that aliases can refer to are `touched`. An alias at the very end is the node
/// where `takes_alias`: something else takes its place, and not that of its target.
fn walk(
    document: &Document,
    path: &Path,
    takes_alias: bool,
    touched: &mut HashSet<Id>,
) -> Option<Reached> {
    let mut place = (document.root, None);
    for depth in 0..=path.0.len() {
        let (id, key) = place;
        let node = document.node(id);
        let is_last = depth == path.0.len();
        if matches!(node.content, Content::Alias(_)) && !(takes_alias && is_last) {
            return Some(Reached::Alias { id, depth });
        }
        if node.is_anchored {
            touched.insert(id);
        }
        place = match path.0.get(depth) {
            None => return Some(Reached::Node { id, key }),
            Some(Step::Key(name)) => match document.entry(id, name) {
                Some((key, value)) => (value, Some(key)),
                None if document.merged(id).contains_key(name) => {
                    return Some(Reached::Merged { map: id, depth });
                }
                None => return None,
            },
            Some(Step::Index(index)) => (*document.items(id).get(*index)?, None),
        };
    }
    None
}

/// Whether text can be put before and behind that of a scalar without another
/// reading of the rest.
pub(super) fn can_extend(document: &Document, id: Id) -> bool {
    let node = document.node(id);
    let is_one_line = !document.raw(id).contains('\n');
    let is_bare = !node.is_anchored && node.tag.is_none();
    match &node.content {
        Content::Scalar(text, style) => {
            let is_block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
            is_one_line && is_bare && !is_block && !text.is_empty()
        }
        _ => false,
    }
}

//! Additions to a document: made to its value, and to its text at the spans of
//! its nodes. The two are compared when the text is read again.
//!
//! What an alias or a merge key brings in cannot be changed where it is written.
//! An alias on the way to an addition is replaced by what it stands for; one that
//! refers to something added to, by what that was. Either is recorded, with all
//! else that taking the additions out could not bring back.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};

use saphyr_parser::ScalarStyle;
use serde_json::{Map, Value};

use super::document::{Content, Document, Id};
use super::error::Fault;
use super::path::{Path, Step};
use super::splice::Splice;
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
    /// Text before that of a scalar.
    Prefix { at: Path, text: &'static str },
    /// Text behind that of a scalar.
    Suffix { at: Path, text: &'static str },
}

impl Change {
    fn path(&self) -> &Path {
        match self {
            Self::Entry { map, .. } => map,
            Self::Items { list, .. } => list,
            Self::Fill { at, .. } | Self::Prefix { at, .. } | Self::Suffix { at, .. } => at,
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
            Self::Fill { value: new, .. } => *value = new.clone(),
            Self::Prefix { text, .. } => *value = format!("{text}{}", value.as_str()?).into(),
            Self::Suffix { text, .. } => *value = format!("{}{text}", value.as_str()?).into(),
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
/// where an entry was added in front of one that a merge key brings in.
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
    for (change, id, _) in &reach.local {
        if matches!(changes[*change], Change::Fill { .. }) {
            lost.push((*id, document.raw(*id).into()));
        }
    }
    for id in reach.aliases.keys() {
        lost.push((*id, document.raw(*id).into()));
    }
    let maps = reach.shadows.keys().map(|(map, _)| *map);
    let wanted = lost.iter().map(|(id, _)| *id).chain(maps).collect();
    let written = document.written(&wanted);
    let mut records = Records::new();
    // Where an alias stood, too: what stands there now is told by its value alone.
    for change in &changes {
        if let Change::Fill { at, .. } = change
            && let Some(empty) = at.get(value)
        {
            records.insert(at.written(value), empty.to_string().into());
        }
    }
    for (id, raw) in lost {
        let path = written.get(&id).ok_or(Fault::Unwritable)?;
        records.insert(path.clone(), raw);
    }
    for (map, key) in reach.shadows.keys() {
        let path = written.get(map).ok_or(Fault::Unwritable)?;
        records.insert(format!("{path}/{key}"), Value::Null);
    }
    Ok(records)
}

/// Makes `changes` to `document`, whose value is `value`.
///
/// # Errors
/// They cannot be made.
pub(super) fn edit(
    document: &Document,
    value: &Value,
    changes: &[Change],
    indent: Indent,
) -> Result<Edited, Fault> {
    let changes = ordered(changes);
    let mut meant = value.clone();
    for change in &changes {
        change.make(&mut meant).ok_or(Fault::Unwritable)?;
    }
    let reach = reach(document, &changes)?;
    let text = Text { document, indent };
    let mut splices = Vec::new();
    for (change, id, key) in &reach.local {
        splices.push(text.change(&changes[*change], *id, *key)?);
    }
    for ((map, key), path) in &reach.shadows {
        let value = path.get(&meant).ok_or(Fault::Unwritable)?;
        splices.push(text.entry(*map, key, value)?);
    }
    for (alias, path) in &reach.aliases {
        let node = document.node(*alias);
        let value = match path {
            Some(path) => path.get(&meant).ok_or(Fault::Unwritable)?.clone(),
            None => document.value(*alias),
        };
        splices.push(Splice {
            range: node.start..node.end,
            text: write::flow(&value, true),
        });
    }
    Ok(Edited { splices, meant })
}

fn reach(document: &Document, changes: &[Change]) -> Result<Reach, Fault> {
    let mut reach = Reach::default();
    let mut touched = HashSet::new();
    for (index, change) in changes.iter().enumerate() {
        let path = change.path();
        match walk(document, path, &mut touched).ok_or(Fault::Unwritable)? {
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
/// that aliases can refer to are `touched`.
fn walk(document: &Document, path: &Path, touched: &mut HashSet<Id>) -> Option<Reached> {
    let mut place = (document.root, None);
    for depth in 0..=path.0.len() {
        let (id, key) = place;
        let node = document.node(id);
        if let Content::Alias(_) = node.content {
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

/// Writes additions in the style of what they are added to.
struct Text<'d, 't> {
    document: &'d Document<'t>,
    indent: Indent,
}

impl Text<'_, '_> {
    fn change(&self, change: &Change, id: Id, key: Option<Id>) -> Result<Splice, Fault> {
        match change {
            Change::Entry { key, value, .. } => self.entry(id, key, value),
            Change::Items { at, items, .. } => self.items(id, *at, items),
            Change::Fill { value, .. } => self.fill(id, key, value),
            Change::Prefix { text, .. } => Ok(Splice::insert(self.inside(id)?.0, *text)),
            Change::Suffix { text, .. } => Ok(Splice::insert(self.inside(id)?.1, *text)),
        }
    }

    /// A new entry behind the last one of the mapping `id`.
    fn entry(&self, id: Id, key: &str, value: &Value) -> Result<Splice, Fault> {
        let document = self.document;
        let Content::Map { entries, is_flow } = &document.node(id).content else {
            return Err(Fault::Unwritable);
        };
        let (Some((first, _)), Some((last, value_of_last))) = (entries.first(), entries.last())
        else {
            return Err(Fault::Unwritable);
        };
        if !is_flow {
            let column = document.column(document.node(*first).start);
            return Ok(self.lines(
                document.content_end(id),
                &self.indent.entry(key, value, column),
            ));
        }
        let map = Map::from_iter([(key.to_owned(), value.clone())]);
        let text = write::pairs(&map, self.is_json(id, None));
        let end = document.node(*value_of_last);
        if end.start == end.end {
            let start = document.node(*first).start;
            return Ok(Splice::insert(start, format!("{text}, ")));
        }
        let separator = self.separator(id, *last);
        Ok(Splice::insert(end.end, format!(",{separator}{text}")))
    }

    /// New items of the list `id`.
    fn items(&self, id: Id, at: usize, items: &[Value]) -> Result<Splice, Fault> {
        let document = self.document;
        let Content::List {
            items: present,
            is_flow,
        } = &document.node(id).content
        else {
            return Err(Fault::Unwritable);
        };
        let (first, last) = match (present.first(), present.last()) {
            (Some(first), Some(last)) => (*first, *last),
            _ => return Err(Fault::Unwritable),
        };
        if *is_flow {
            let is_json = self.is_json(id, None);
            let texts: Vec<String> = items.iter().map(|one| write::flow(one, is_json)).collect();
            let separator = self.separator(id, last);
            if at == 0 {
                let text = texts.join(", ") + ", ";
                return Ok(Splice::insert(document.node(first).start, text));
            }
            let texts = texts.iter().map(|text| format!(",{separator}{text}"));
            let end = document.node(present[at - 1]).end;
            return Ok(Splice::insert(end, texts.collect::<String>()));
        }
        let dash = document.dash(first).ok_or(Fault::Unwritable)?;
        let column = document.column(dash);
        let lines = items.iter().flat_map(|one| self.indent.item(one, column));
        let lines: Vec<String> = lines.collect();
        if at > 0 {
            return Ok(self.lines(document.content_end(present[at - 1]), &lines));
        }
        let above = document.lines(dash, dash).ok_or(Fault::Unwritable)?.start;
        if above >= document.line_start(dash) {
            return Err(Fault::Unwritable);
        }
        Ok(self.lines(above, &lines))
    }

    /// A value in place of nothing.
    fn fill(&self, id: Id, key: Option<Id>, value: &Value) -> Result<Splice, Fault> {
        let document = self.document;
        let node = document.node(id);
        let is_json = self.is_json(id, key);
        let flow = write::flow(value, is_json);
        if document.is_flow(id) {
            let bracket = document.raw(id).find(['[', '{']).ok_or(Fault::Unwritable)?;
            // Without its brackets: those are there.
            return Ok(Splice::insert(
                node.start + bracket + 1,
                &flow[1..flow.len() - 1],
            ));
        }
        if node.is_anchored {
            return Err(Fault::Unwritable);
        }
        if node.start < node.end {
            return Ok(Splice {
                range: node.start..node.end,
                text: flow,
            });
        }
        let key = key.ok_or(Fault::Unwritable)?;
        let end = document.node(key).end;
        let gap = document.text[end..].trim_start_matches([' ', '\t']);
        if !gap.starts_with(':') {
            return Err(Fault::Unwritable);
        }
        if self.is_in_flow(key) {
            return Ok(Splice::insert(document.colon(key), format!(" {flow}")));
        }
        let column = document.column(document.node(key).start);
        let lines = match value {
            Value::Array(items) => {
                let column = column + self.indent.dash;
                let lines = items.iter().flat_map(|one| self.indent.item(one, column));
                lines.collect()
            }
            Value::Object(map) => self.indent.map(map, column + self.indent.step),
            _ => return Err(Fault::Unwritable),
        };
        Ok(self.lines(end, &lines))
    }

    /// Lines below the one that ends behind `end`.
    fn lines(&self, end: usize, lines: &[String]) -> Splice {
        let newline = self.document.newline();
        let text = lines.iter().map(|line| format!("{newline}{line}"));
        Splice::insert(self.document.line_end(end), text.collect::<String>())
    }

    /// Where the text of a scalar begins and ends, quotes left out.
    fn inside(&self, id: Id) -> Result<(usize, usize), Fault> {
        let node = self.document.node(id);
        match node.content {
            Content::Scalar(_, style) if can_extend(self.document, id) => match style {
                ScalarStyle::Plain => Ok((node.start, node.end)),
                _ => Ok((node.start + 1, node.end - 1)),
            },
            _ => Err(Fault::Unwritable),
        }
    }

    /// What stands between the entries of `id`, which is in flow style, behind the
    /// comma: the last of them tells.
    fn separator(&self, id: Id, last: Id) -> String {
        let document = self.document;
        let [start, last] = [id, last].map(|id| document.node(id).start);
        let line = document.line_start(last);
        let before = &document.text[line..last];
        if start < line && before.bytes().all(|one| b" \t".contains(&one)) {
            format!("{}{before}", document.newline())
        } else {
            " ".into()
        }
    }

    /// Whether the neighbours of what is put into `id` are JSON.
    fn is_json(&self, id: Id, key: Option<Id>) -> bool {
        let document = self.document;
        let is_quoted = |key: Id| {
            matches!(
                document.node(key).content,
                Content::Scalar(_, ScalarStyle::DoubleQuoted)
            )
        };
        let first = match &document.node(id).content {
            Content::Map { entries, .. } => entries.first().map(|(key, _)| *key),
            Content::List { items, .. } => items
                .first()
                .and_then(|item| document.entries(*item).first())
                .map(|(key, _)| *key),
            _ => None,
        };
        first.or(key).is_some_and(is_quoted)
    }

    /// Whether a key stands in a mapping in flow style.
    fn is_in_flow(&self, key: Id) -> bool {
        let nodes = &self.document.nodes;
        let holds = |node: &Content| match node {
            Content::Map { entries, is_flow } => {
                *is_flow && entries.iter().any(|(one, _)| *one == key)
            }
            _ => false,
        };
        nodes.iter().any(|node| holds(&node.content))
    }
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

//! The text of additions, in the style of what they are added to.

use saphyr_parser::ScalarStyle;
use serde_json::{Map, Value};

use super::document::{Content, Document, Id};
use super::edit::{Change, can_extend};
use super::error::Fault;
use super::splice::Splice;
use super::write::{self, Indent};

/// Writes additions in the style of what they are added to.
pub(super) struct Text<'d, 't> {
    pub(super) document: &'d Document<'t>,
    pub(super) indent: Indent,
}

impl Text<'_, '_> {
    /// The splice that makes `change` at the node `id`, the value of `key`.
    pub(super) fn change(&self, change: &Change, id: Id, key: Option<Id>) -> Result<Splice, Fault> {
        match change {
            Change::Entry { key, value, .. } => self.entry(id, key, value),
            Change::Items { at, items, .. } => self.items(id, *at, items),
            Change::Fill { value, .. } => self.fill(id, key, value),
            Change::Replace { value, .. } => self.replace(id, key, value),
            Change::Prefix { text, .. } => Ok(Splice::insert(self.inside(id)?.0, *text)),
            Change::Suffix { text, .. } => Ok(Splice::insert(self.inside(id)?.1, *text)),
            Change::Rename { key, text, .. } => {
                let (key, _) = self.document.entry(id, key).ok_or(Fault::Unwritable)?;
                Ok(Splice::insert(self.inside(key)?.0, *text))
            }
        }
    }

    /// A new entry behind the last one of the mapping `id`.
    pub(super) fn entry(&self, id: Id, key: &str, value: &Value) -> Result<Splice, Fault> {
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

    /// A value in place of another, whose anchor stays.
    fn replace(&self, id: Id, key: Option<Id>, value: &Value) -> Result<Splice, Fault> {
        let document = self.document;
        let key = key.ok_or(Fault::Unwritable)?;
        let range = document.value_range(id, key);
        if document.is_entangled(id, &range) {
            return Err(Fault::Unwritable);
        }
        let mut text = String::new();
        if let Some(anchor) = document.anchor(id) {
            text.push_str(" &");
            text.push_str(anchor);
        }
        let is_block = !document.is_flow(id) && !self.is_in_flow(key);
        match value {
            Value::Object(map) if is_block && !map.is_empty() => {
                let column = document.column(document.node(key).start);
                for line in self.indent.map(map, column + self.indent.step) {
                    text.push_str(document.newline());
                    text.push_str(&line);
                }
            }
            _ => {
                text.push(' ');
                text.push_str(&if is_block {
                    write::inline(value)
                } else {
                    write::flow(value, self.is_json(id, Some(key)))
                });
            }
        }
        Ok(Splice { range, text })
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

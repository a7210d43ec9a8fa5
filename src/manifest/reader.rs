//! Reading a stream of YAML documents.
//!
//! One document at a time is held: what a stream costs in memory is its text and
//! its largest document. JSON is read as the YAML that it is.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashSet;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use super::document::{Content, Document, Id, Node};
use super::error::{Error, Fault, Position};
use super::origin::Origin;
use super::readable::{self, INDENTATION, Offsets};

/// How deep collections may lie in one another. Kubernetes' own objects stay
/// below 60.
const DEEPEST: usize = 200;

/// What aliases may expand to, in nodes, where it is more than a few times what
/// is written.
const MOST_EXPANDED: u64 = 500_000;

/// A collection that is being read.
#[derive(Debug)]
struct Open {
    id: Id,
    key: Option<Id>,
    /// The keys of a mapping that has many.
    seen: HashSet<String>,
    expanded: u64,
}

/// Reads the documents of a stream one by one.
pub(super) struct Documents<'t> {
    file: &'t str,
    text: &'t str,
    parser: Parser<'t, StrInput<'t>>,
    offsets: Offsets<'t>,
    next: usize,
    /// A byte whose line is known, and that line: the parser's own are those of what
    /// is readable.
    line: (usize, usize),
    /// Where the document before this one ended.
    end: usize,
    origin: Option<&'t Origin<'t>>,
}

/// What is known of a document while it is read.
struct Builder<'t> {
    nodes: Vec<Node<'t>>,
    /// The nodes of anchors, by the parser's numbers for them.
    anchors: Vec<(usize, Id)>,
    /// How many nodes each anchored node is, aliases expanded.
    sizes: Vec<(Id, u64)>,
    open: Vec<Open>,
    root: Option<Id>,
    expanded: u64,
    hasher: DefaultHasher,
    first_anchor: usize,
}

impl<'t> Documents<'t> {
    /// The documents of `text`, which came from `file` and is [`readable`](readable::readable) so.
    pub(super) fn new(file: &'t str, text: &'t str, readable: &'t str) -> Self {
        Self {
            file,
            text,
            parser: Parser::new_from_str(readable),
            offsets: Offsets::new(readable),
            next: 0,
            line: (0, 1),
            end: usize::from(text.starts_with('\u{feff}')) * '\u{feff}'.len_utf8(),
            origin: None,
        }
    }

    /// The same, of a text that was made of another.
    pub(super) fn of(self, origin: Option<&'t Origin<'t>>) -> Self {
        Self { origin, ..self }
    }

    /// The next document.
    ///
    /// # Errors
    /// It is no YAML, or none that Kubernetes would take.
    pub(super) fn next(&mut self) -> Result<Option<Document<'t>>, Error> {
        let (marker, implicit, known_line) = loop {
            match self.parser.next_event() {
                None => return Ok(None),
                Some(Err(error)) => return Err(self.syntax(&error, String::new())),
                Some(Ok((Event::DocumentStart(is_explicit), span))) => {
                    let bytes = self.bytes(span);
                    let start = bytes.start;
                    let line = self.line(start);
                    break (is_explicit.then_some(bytes), start, (start, line));
                }
                Some(Ok(_)) => {}
            }
        };
        let start = match &marker {
            Some(marker) => self.directives(marker.start),
            None if self.next == 0 => self.end,
            None => self.text[..implicit].rfind('\n').map_or(0, |at| at + 1),
        };
        let mut builder = Builder {
            nodes: Vec::new(),
            anchors: Vec::new(),
            sizes: Vec::new(),
            open: Vec::new(),
            root: None,
            expanded: 0,
            hasher: DefaultHasher::new(),
            first_anchor: 0,
        };
        loop {
            match self.parser.next_event() {
                Some(Ok((Event::DocumentEnd, span))) => {
                    self.end = self.bytes(span).start;
                    break;
                }
                Some(Ok((event, span))) => {
                    let span = self.bytes(span);
                    let start = span.start;
                    if let Err(fault) = builder.take(self.text, event, span) {
                        let hint = matches!(fault, Fault::ComplexKey { .. });
                        let templates = hint && self.text.contains("{{");
                        let fault = if templates { Fault::Template } else { fault };
                        return Err(Error::at(self.position(start, builder.path()), fault));
                    }
                }
                Some(Err(error)) => return Err(self.syntax(&error, builder.path())),
                None => break,
            }
        }
        let index = self.next;
        self.next += 1;
        Ok(builder.root.map(|root| Document {
            text: self.text,
            nodes: builder.nodes,
            root,
            index,
            start,
            marker,
            fingerprint: builder.hasher.finish(),
            known_line: Cell::new(known_line),
            origin: self.origin,
        }))
    }

    fn bytes(&self, span: Span) -> Range<usize> {
        self.offsets.byte(span.start.index())..self.offsets.byte(span.end.index())
    }

    /// Where the directives before the `---` at `marker` begin.
    fn directives(&self, marker: usize) -> usize {
        let mut start = marker;
        while let Some(line) = self.text[self.end.min(start)..start].strip_suffix('\n') {
            let line = line.rsplit('\n').next().unwrap_or_default();
            if !line.starts_with('%') {
                break;
            }
            start -= line.len() + 1;
        }
        start
    }

    /// The line of a byte, which is none before those that were asked for.
    fn line(&mut self, at: usize) -> usize {
        let (known, line) = self.line;
        let more = self.text.get(known..at).unwrap_or_default();
        let line = line + more.bytes().filter(|byte| *byte == b'\n').count();
        self.line = (at.max(known), line);
        line
    }

    fn position(&mut self, at: usize, path: String) -> Position {
        let before = self.text.get(..at).unwrap_or(self.text);
        let start = before.rfind('\n').map_or(0, |end| end + 1);
        Position {
            file: self.file.to_owned(),
            document: self.next + 1,
            line: self.line(at),
            column: before[start..].chars().count() + 1,
            path,
        }
    }

    fn syntax(&mut self, error: &ScanError, path: String) -> Error {
        let at = self.offsets.byte(error.marker().index());
        let position = self.position(at, path);
        // What is seen first of a template may be far from where it is.
        let is_template = self.text.contains("{{");
        let is_json = self.text.trim_start().starts_with('{');
        let rest = self.text.get(at..).unwrap_or_default();
        let fault = if is_json && position.path.is_empty() && rest.starts_with('{') {
            Fault::JsonStream
        } else if is_template {
            Fault::Template
        } else if error.info().starts_with(INDENTATION) {
            Fault::Indentation
        } else {
            Fault::Syntax {
                why: error.info().to_owned(),
            }
        };
        Error::at(position, fault)
    }
}

/// The length of a quoted scalar that `text` begins with, after its properties:
/// the parser counts what follows the quote in with it.
fn closing_quote(text: &str, style: ScalarStyle) -> Option<usize> {
    let quote = match style {
        ScalarStyle::SingleQuoted => '\'',
        ScalarStyle::DoubleQuoted => '"',
        _ => return None,
    };
    let start = text.find(quote)?;
    Some(start + readable::closing_quote(&text.as_bytes()[start..])?)
}

impl<'t> Builder<'t> {
    fn take(&mut self, text: &str, event: Event<'t>, span: Range<usize>) -> Result<(), Fault> {
        let Range { start, end } = span;
        match event {
            Event::Scalar(value, style, anchor, tag) => {
                (1u8, &value, style, anchor != 0, &tag).hash(&mut self.hasher);
                // The parser gives what is not there the span of what follows.
                let is_nothing =
                    value.is_empty() && style == ScalarStyle::Plain && anchor == 0 && tag.is_none();
                let end = if is_nothing {
                    start
                } else {
                    closing_quote(&text[start..end], style).map_or(end, |length| start + length)
                };
                let content = Content::Scalar(value, style);
                let id = self.push(content, start, end, anchor, tag);
                self.place(id, 1)
            }
            Event::Alias(anchor) => {
                (2u8, anchor - self.first_anchor.min(anchor)).hash(&mut self.hasher);
                let known = self.anchors.iter().rev().find(|(one, _)| *one == anchor);
                let target = known.map_or(0, |(_, id)| *id);
                if self.open.iter().any(|open| open.id == target) {
                    return Err(Fault::Cycle);
                }
                let size = self.sizes.iter().rev().find(|(one, _)| *one == target);
                let size = size.map_or(1, |(_, size)| *size);
                let id = self.push(Content::Alias(target), start, end, 0, None);
                self.place(id, size)
            }
            Event::SequenceStart(anchor, tag) => {
                (3u8, anchor != 0, &tag).hash(&mut self.hasher);
                let content = Content::List {
                    items: Vec::new(),
                    is_flow: text[start..end].ends_with('[') || text[start..end].contains('['),
                };
                self.open(content, start, end, anchor, tag)
            }
            Event::MappingStart(anchor, tag) => {
                (4u8, anchor != 0, &tag).hash(&mut self.hasher);
                let content = Content::Map {
                    entries: Vec::new(),
                    is_flow: text[start..end].contains('{'),
                };
                self.open(content, start, end, anchor, tag)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                5u8.hash(&mut self.hasher);
                let Some(closed) = self.open.pop() else {
                    return Ok(());
                };
                // The parser counts what follows a bracket in with it.
                let is_bracket = text[start..].starts_with([']', '}']);
                self.nodes[closed.id].end = if is_bracket { start + 1 } else { end };
                if self.nodes[closed.id].is_anchored {
                    self.sizes.push((closed.id, closed.expanded));
                }
                self.place(closed.id, closed.expanded)
            }
            _ => Ok(()),
        }
    }

    fn push(
        &mut self,
        content: Content<'t>,
        start: usize,
        end: usize,
        anchor: usize,
        tag: Option<Cow<'t, Tag>>,
    ) -> Id {
        let id = self.nodes.len();
        if anchor != 0 {
            if self.first_anchor == 0 {
                self.first_anchor = anchor;
            }
            self.anchors.push((anchor, id));
        }
        self.nodes.push(Node {
            content,
            start,
            end,
            is_anchored: anchor != 0,
            tag,
        });
        id
    }

    fn open(
        &mut self,
        content: Content<'t>,
        start: usize,
        end: usize,
        anchor: usize,
        tag: Option<Cow<'t, Tag>>,
    ) -> Result<(), Fault> {
        if self.open.len() == DEEPEST {
            return Err(Fault::TooDeep { deepest: DEEPEST });
        }
        let id = self.push(content, start, end, anchor, tag);
        self.open.push(Open {
            id,
            key: None,
            seen: HashSet::new(),
            expanded: 1,
        });
        Ok(())
    }

    /// Puts a node that is complete into the collection that is open.
    fn place(&mut self, id: Id, size: u64) -> Result<(), Fault> {
        self.expanded = self.expanded.max(size);
        let written = self.nodes.len() as u64;
        let Some(open) = self.open.last_mut() else {
            self.root = Some(id);
            return Ok(());
        };
        open.expanded = open.expanded.saturating_add(size);
        if open.expanded > MOST_EXPANDED && open.expanded / 10 > written {
            return Err(Fault::Bomb {
                nodes: open.expanded,
            });
        }
        let (parent, key) = (open.id, open.key.take());
        match (&mut self.nodes[parent].content, key) {
            (Content::List { items, .. }, _) => items.push(id),
            (Content::Map { entries, .. }, Some(key)) => entries.push((key, id)),
            (Content::Map { .. }, None) => {
                open.key = Some(id);
                return self.check_key(parent, id);
            }
            _ => {}
        }
        Ok(())
    }

    /// Refuses a key that the mapping `map`, which is open, has already.
    fn check_key(&mut self, map: Id, key: Id) -> Result<(), Fault> {
        /// So many are compared faster than they are hashed.
        const FEW: usize = 16;
        let nodes = &self.nodes;
        let text = |id: Id| match &nodes[id].content {
            Content::Scalar(text, _) => Ok(&**text),
            Content::Alias(target) => match &nodes[*target].content {
                Content::Scalar(text, _) => Ok(&**text),
                _ => Err(Fault::ComplexKey { is_map: true }),
            },
            Content::Map { .. } => Err(Fault::ComplexKey { is_map: true }),
            Content::List { .. } => Err(Fault::ComplexKey { is_map: false }),
        };
        let name = text(key)?;
        let Content::Map { entries, .. } = &nodes[map].content else {
            return Ok(());
        };
        let mut others = entries.iter().filter_map(|(key, _)| text(*key).ok());
        let open = self.open.last_mut().expect("the mapping is open");
        let is_new = if entries.len() < FEW {
            others.all(|other| other != name)
        } else {
            if open.seen.is_empty() {
                open.seen.extend(others.map(ToOwned::to_owned));
            }
            open.seen.insert(name.to_owned())
        };
        if is_new {
            Ok(())
        } else {
            Err(Fault::DuplicateKey {
                key: name.to_owned(),
            })
        }
    }

    /// The path of what is being read, as in `.spec.containers[0]`.
    fn path(&self) -> String {
        let mut path = String::new();
        for open in &self.open {
            match &self.nodes[open.id].content {
                Content::List { items, .. } => {
                    let _ = write!(path, "[{}]", items.len());
                }
                Content::Map { .. } => {
                    if let Some(Content::Scalar(key, _)) =
                        open.key.map(|key| &self.nodes[key].content)
                    {
                        path.push('.');
                        path += key;
                    }
                }
                _ => {}
            }
        }
        path
    }
}

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

/// How deep collections may lie in one another. Kubernetes' own objects stay
/// below 60.
const DEEPEST: usize = 200;

/// What aliases may expand to, in nodes, where it is more than a few times what
/// is written.
const MOST_EXPANDED: u64 = 500_000;

/// `text` as the parser takes it, which is of the same length.
///
/// JSON writes what lies beyond 16 bits as two escapes (`\ud83d\ude00`), neither of
/// which is a character to YAML: each becomes that of another, which nobody sees, as
/// a string of JSON is never written anew.
pub(super) fn readable(text: &str) -> Cow<'_, str> {
    let is_json = text
        .trim_start_matches('\u{feff}')
        .trim_start()
        .starts_with('{');
    let bytes = text.as_bytes();
    let is_half = |at: &usize| {
        let before = text[..*at].len() - text[..*at].trim_end_matches('\\').len();
        before.is_multiple_of(2)
            && matches!(bytes.get(at + 2), Some(b'd' | b'D'))
            && matches!(
                bytes.get(at + 3),
                Some(b'8'..=b'9' | b'a'..=b'f' | b'A'..=b'F')
            )
    };
    let escapes = text.match_indices("\\u").map(|(at, _)| at);
    let halves: Vec<usize> = if is_json {
        escapes.filter(is_half).collect()
    } else {
        Vec::new()
    };
    let mut readable = Cow::Borrowed(text);
    for at in halves {
        // \ud800 to \udfff become \ue800 to \uefff, which are for private use.
        readable.to_mut().replace_range(at + 2..at + 3, "e");
    }
    readable
}

/// Turns the parser's positions, which count characters, into bytes.
#[derive(Debug)]
struct Offsets<'t> {
    text: &'t str,
    /// The byte of every 64th character, unless each is one byte.
    marks: Vec<usize>,
}

impl<'t> Offsets<'t> {
    const STEP: usize = 64;

    fn new(text: &'t str) -> Self {
        let marks = if text.is_ascii() {
            Vec::new()
        } else {
            let bytes = text.char_indices().map(|(byte, _)| byte);
            bytes.step_by(Self::STEP).collect()
        };
        Self { text, marks }
    }

    fn byte(&self, character: usize) -> usize {
        if self.marks.is_empty() {
            return character.min(self.text.len());
        }
        let Some(&mark) = self.marks.get(character / Self::STEP) else {
            return self.text.len();
        };
        let mut rest = self.text[mark..].char_indices();
        let found = rest.nth(character % Self::STEP);
        found.map_or(self.text.len(), |(byte, _)| mark + byte)
    }
}

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
    /// Where the document before this one ended.
    end: usize,
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
    /// The documents of `text`, which came from `file` and is [`readable`] so.
    pub(super) fn new(file: &'t str, text: &'t str, readable: &'t str) -> Self {
        Self {
            file,
            text,
            parser: Parser::new_from_str(readable),
            offsets: Offsets::new(text),
            next: 0,
            end: usize::from(text.starts_with('\u{feff}')) * '\u{feff}'.len_utf8(),
        }
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
                    let (start, line) = (bytes.start, span.start.line());
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
                    let line = span.start.line();
                    let column = span.start.col() + 1;
                    let span = self.bytes(span);
                    builder.take(self.text, event, span).map_err(|fault| {
                        let hint = matches!(fault, Fault::ComplexKey { .. });
                        let templates = hint && self.text.contains("{{");
                        let fault = if templates { Fault::Template } else { fault };
                        Error::at(self.position(line, column, builder.path()), fault)
                    })?;
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

    fn position(&self, line: usize, column: usize, path: String) -> Position {
        Position {
            file: self.file.to_owned(),
            document: self.next + 1,
            line,
            column,
            path,
        }
    }

    fn syntax(&self, error: &ScanError, path: String) -> Error {
        let (line, column) = (error.marker().line(), error.marker().col() + 1);
        let position = self.position(line, column, path);
        // What is seen first of a template may be far from where it is.
        let is_template = self.text.contains("{{");
        let is_json = self.text.trim_start().starts_with('{');
        let at = self.offsets.byte(error.marker().index());
        let rest = self.text.get(at..).unwrap_or_default();
        let fault = if is_json && position.path.is_empty() && rest.starts_with('{') {
            Fault::JsonStream
        } else if is_template {
            Fault::Template
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
        ScalarStyle::SingleQuoted => b'\'',
        ScalarStyle::DoubleQuoted => b'"',
        _ => return None,
    };
    let bytes = text.as_bytes();
    let mut at = text.find(char::from(quote))? + 1;
    while let Some(&byte) = bytes.get(at) {
        let next = bytes.get(at + 1);
        at += match byte {
            b'\\' if quote == b'"' => 2,
            b'\'' if quote == b'\'' && next == Some(&b'\'') => 2,
            _ if byte == quote => return Some(at + 1),
            _ => 1,
        };
    }
    None
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

//! A stream with changes to its documents: the text that it becomes, read again
//! and held against what was meant before anybody gets it.

use std::ops::Range;

use serde_json::Value;

use super::document::Document;
use super::edit::Edited;
use super::error::{Error, Fault, Position};
use super::origin::Origin;
use super::readable::readable;
use super::reader::Documents;
use super::splice::Splice;
use super::value;
use super::write::Indent;

/// What a document of the result must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// The one that it was, to every style and anchor.
    Same(u64),
    /// A value, by its hash.
    Value(u64),
}

/// A document of the result, or what is put before one.
#[derive(Clone, Copy, Debug)]
struct Part {
    expected: Expected,
    /// Which document of the input it comes from or stands before, and where that
    /// begins.
    document: usize,
    start: usize,
}

impl Part {
    fn origin(&self) -> (usize, usize) {
        (self.document, self.start)
    }
}

/// A document that goes if nothing uses it. Its places are those in the result.
#[derive(Debug)]
struct Candidate {
    name: String,
    start: usize,
    has_marker: bool,
    /// Where the next document begins, and where its marker's line ends.
    end: usize,
    end_with_marker: usize,
    place: usize,
}

/// A stream that is being changed.
#[derive(Debug)]
pub(super) struct Draft<'s> {
    file: &'s str,
    text: &'s str,
    /// The result so far, and how much of the text went into it.
    result: String,
    done: usize,
    /// Whether two changes overlap.
    is_broken: bool,
    parts: Vec<Part>,
    /// What was copied: its places in the result and in the text.
    copied: Vec<(usize, usize)>,
    /// What was taken out of the result then.
    deleted: Vec<Range<usize>>,
    candidates: Vec<Candidate>,
    /// The candidate before the next document, whose end that document tells.
    is_open: bool,
}

impl<'s> Draft<'s> {
    pub(super) fn new(file: &'s str, text: &'s str) -> Self {
        Self {
            file,
            text,
            // What is added is a part of what is there.
            result: String::with_capacity(text.len() + text.len() / 8),
            done: 0,
            is_broken: false,
            parts: Vec::new(),
            copied: Vec::new(),
            deleted: Vec::new(),
            candidates: Vec::new(),
            is_open: false,
        }
    }

    /// Puts a document of its own before the next one, `before`.
    pub(super) fn insert(&mut self, object: &Value, before: &Document) {
        let newline = before.newline();
        let indent = Indent { step: 2, dash: 0 };
        let lines = indent.map(object.as_object().expect("an object"), 0);
        let mut body = lines.join(newline);
        body.push_str(newline);
        let text = match &before.marker {
            None => format!("{body}---{newline}"),
            // Directives may follow only where a document was ended.
            Some(marker) if before.start < marker.start => {
                format!("---{newline}{body}...{newline}")
            }
            Some(_) => format!("---{newline}{body}"),
        };
        self.apply(vec![Splice::insert(before.start, text)]);
        self.part(before, Expected::Value(value::hash(object)));
    }

    /// Takes the next document, changed or as it is.
    pub(super) fn push(&mut self, document: &Document, edited: Option<Edited>) {
        self.close(document);
        match edited {
            Some(Edited { splices, meant }) => {
                self.apply(splices);
                self.part(document, Expected::Value(value::hash(&meant)));
            }
            None => self.part(document, Expected::Same(document.fingerprint)),
        }
    }

    fn part(&mut self, document: &Document, expected: Expected) {
        self.parts.push(Part {
            expected,
            document: document.index,
            start: document.start,
        });
    }

    /// Takes the next document, which is to go if nothing uses `name`.
    pub(super) fn push_candidate(&mut self, document: &Document, name: String) {
        self.close(document);
        let start = self.copy(document.start);
        self.candidates.push(Candidate {
            name,
            start,
            has_marker: document.marker.is_some(),
            end: usize::MAX,
            end_with_marker: usize::MAX,
            place: self.parts.len(),
        });
        self.is_open = true;
        self.part(document, Expected::Same(document.fingerprint));
    }

    /// Tells the candidate before `next`, if it is one, where it ends.
    fn close(&mut self, next: &Document) {
        if !std::mem::take(&mut self.is_open) {
            return;
        }
        let end = self.copy(next.start);
        let mut end_with_marker = end;
        if let Some(marker) = &next.marker {
            let rest = &self.text[marker.end..];
            let line = rest.trim_start_matches([' ', '\t']);
            let line = line.strip_prefix('\r').unwrap_or(line);
            if let Some(line) = line.strip_prefix('\n') {
                end_with_marker += self.text.len() - line.len() - next.start;
            }
        }
        if let Some(candidate) = self.candidates.last_mut() {
            candidate.end = end;
            candidate.end_with_marker = end_with_marker;
        }
    }

    /// Copies the text up to `end`, and gives where that is in the result.
    fn copy(&mut self, end: usize) -> usize {
        match self.text.get(self.done..end) {
            Some(text) => {
                self.copied.push((self.result.len(), self.done));
                self.result += text;
            }
            None => self.is_broken = true,
        }
        self.done = end;
        self.result.len()
    }

    /// Makes changes behind those that were made.
    fn apply(&mut self, mut splices: Vec<Splice>) {
        splices.sort_by_key(|splice| (splice.range.start, splice.range.end));
        for Splice { range, text } in &splices {
            self.copy(range.start);
            self.result += text;
            self.done = range.end;
        }
    }

    /// The text of the candidates that go. A run of them that begins at the start
    /// of the stream, without a marker, takes that of the next document along.
    fn delete_unused(&mut self, is_used: impl Fn(&str) -> bool) {
        let mut runs: Vec<(&Candidate, &Candidate)> = Vec::new();
        let gone = self.candidates.iter().filter(|one| !is_used(&one.name));
        for candidate in gone {
            match runs.last_mut() {
                Some((_, last)) if last.place + 1 == candidate.place => *last = candidate,
                _ => runs.push((candidate, candidate)),
            }
        }
        if runs.is_empty() {
            return;
        }
        let mut kept = String::with_capacity(self.result.len());
        let mut done = 0;
        let mut gone = Vec::new();
        for (first, last) in &runs {
            kept += self.result.get(done..first.start).unwrap_or_default();
            let start = first.start;
            done = if first.has_marker {
                last.end
            } else {
                last.end_with_marker
            };
            gone.push(start..done);
        }
        kept += self.result.get(done..).unwrap_or_default();
        for (first, last) in runs.iter().rev() {
            self.parts.drain(first.place..=last.place);
        }
        self.result = kept;
        self.deleted = gone;
    }

    /// The text of the result, without the candidates that nothing uses.
    ///
    /// # Errors
    /// It does not read as what was meant.
    pub(super) fn finish(self, is_used: impl Fn(&str) -> bool) -> Result<String, Error> {
        self.finish_with_origin(is_used).map(|(text, _)| text)
    }

    /// The same, with where it comes from.
    ///
    /// # Errors
    /// Those of [`Self::finish`].
    pub(super) fn finish_with_origin(
        mut self,
        is_used: impl Fn(&str) -> bool,
    ) -> Result<(String, Origin<'s>), Error> {
        self.copy(self.text.len());
        self.delete_unused(is_used);
        let mut documents: Vec<(usize, usize)> = self.parts.iter().map(Part::origin).collect();
        documents.dedup();
        let origin = Origin::new(self.text, documents, self.copied, self.deleted);
        if self.result == self.text {
            return Ok((self.result, origin));
        }
        let mismatch = |part: Option<&Part>, why: &'static str| {
            let (document, start) = part.or(self.parts.last()).map_or((0, 0), Part::origin);
            let before = &self.text[..start.min(self.text.len())];
            let position = Position {
                file: self.file.to_owned(),
                document: document + 1,
                line: before.matches('\n').count() + 1,
                column: 1,
                path: String::new(),
            };
            Error::at(position, Fault::Mismatch { why })
        };
        if self.is_broken {
            return Err(mismatch(self.parts.first(), "two changes overlap"));
        }
        let text = self.result;
        let readable = readable(&text);
        let mut documents = Documents::new(self.file, &text, &readable);
        let mut parts = self.parts.iter();
        loop {
            let part = parts.next();
            let document = documents
                .next()
                .map_err(|_| mismatch(part, "it is no YAML any more"))?;
            let is_right = match (part, &document) {
                (None, None) => break,
                (None, Some(_)) => false,
                (Some(_), None) => return Err(mismatch(part, "a document is missing")),
                (Some(part), Some(document)) => match part.expected {
                    Expected::Same(fingerprint) => fingerprint == document.fingerprint,
                    Expected::Value(hash) => hash == document.hash(document.root),
                },
            };
            if !is_right {
                return Err(mismatch(part, "a document differs"));
            }
        }
        drop(documents);
        drop(readable);
        Ok((text, origin))
    }
}

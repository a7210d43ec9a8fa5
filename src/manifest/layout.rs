//! Where things stand in a document's text: ends, columns and lines, from which
//! follows where text can be put in and taken out.

use std::ops::Range;

use saphyr_parser::ScalarStyle;

use super::document::{Content, Document, Id};
use super::error::Position;
use super::path::Path;
use super::write::Indent;

impl Document<'_> {
    /// Where the text of a node ends, which for a collection in block style is
    /// where its last entry does.
    pub(super) fn content_end(&self, id: Id) -> usize {
        let node = self.node(id);
        match &node.content {
            Content::List {
                items,
                is_flow: false,
            } => items
                .last()
                .map_or(node.end, |last| self.content_end(*last)),
            Content::Map {
                entries,
                is_flow: false,
            } => match entries.last() {
                Some((key, value)) => self.content_end(*value).max(self.node(*key).end),
                None => node.end,
            },
            Content::Scalar(value, ScalarStyle::Literal | ScalarStyle::Folded) => {
                let text = &self.text[..node.end];
                let trimmed = text.trim_end_matches([' ', '\t', '\r', '\n']);
                let is_blank = value.bytes().all(|one| one == b'\n');
                let keeps = value.ends_with("\n\n") || (is_blank && !value.is_empty());
                if keeps {
                    // Its blank lines are part of it: up to the last line's end.
                    let blank = text.trim_end_matches([' ', '\t']);
                    let blank = blank.strip_suffix('\n').unwrap_or(blank);
                    let blank = blank.strip_suffix('\r').unwrap_or(blank);
                    return blank.len().max(trimmed.len());
                }
                trimmed.len()
            }
            _ => node.end,
        }
    }

    /// The end of the line that `at` is in, before what ends it: carriage returns of no
    /// line are not made part of one.
    pub(super) fn line_end(&self, at: usize) -> usize {
        let rest = &self.text[at..];
        let line = &rest[..rest.find('\n').unwrap_or(rest.len())];
        at + line.trim_end_matches('\r').len()
    }

    /// Where the line that `at` is in begins.
    pub(super) fn line_start(&self, at: usize) -> usize {
        let start = self.text[..at].rfind('\n').map_or(0, |at| at + 1);
        let has_mark = start == 0 && self.text.starts_with('\u{feff}');
        if has_mark {
            '\u{feff}'.len_utf8().min(at)
        } else {
            start
        }
    }

    /// The column of `at`, in characters from 0.
    pub(super) fn column(&self, at: usize) -> usize {
        self.text[self.line_start(at)..at].chars().count()
    }

    /// The line of `at`, from 1. Cheap where it is asked for from top to bottom.
    pub(super) fn line(&self, at: usize) -> usize {
        let newlines = |text: &str| text.bytes().filter(|one| *one == b'\n').count();
        let (known, line) = self.known_line.get();
        let line = if at < known {
            line - newlines(&self.text[at..known])
        } else {
            line + newlines(&self.text[known..at])
        };
        self.known_line.set((at, line));
        line
    }

    /// Where `path` is in the input, or how much of it is there.
    pub(super) fn position(&self, file: &str, path: &Path) -> Position {
        let mut rest = path.clone();
        let id = loop {
            match self.find(&rest) {
                Some(id) => break id,
                None => rest.0.pop(),
            };
        };
        let start = self.node(id).start;
        let (document, line, column) = match self.origin {
            Some(origin) => origin.place(start),
            None => (self.index, self.line(start), self.column(start) + 1),
        };
        Position {
            file: file.to_owned(),
            document: document + 1,
            line,
            column,
            path: path.shown(),
        }
    }

    /// Where the dash of an item of a list in block style stands.
    pub(super) fn dash(&self, item: Id) -> Option<usize> {
        let mut before = &self.text[..self.node(item).start];
        loop {
            before = before.trim_end_matches([' ', '\t', '\r', '\n']);
            if before.ends_with('-') {
                return Some(before.len() - 1);
            }
            // Between the dash and the item there can be comments alone.
            let line = before.rfind('\n').map_or(0, |at| at + 1);
            let comment = before[line..].find('#')?;
            before = &before[..line + comment];
        }
    }

    /// The byte behind the colon of an entry of a mapping.
    pub(super) fn colon(&self, key: Id) -> usize {
        let end = self.node(key).end;
        let rest = self.text[end..].find(':');
        end + rest.map_or(0, |at| at + 1)
    }

    /// The bytes of the value `id` of an entry, from behind its colon: anchor, tag
    /// and comments among them.
    pub(super) fn value_range(&self, id: Id, key: Id) -> Range<usize> {
        let start = self.colon(key);
        start..self.content_end(id).max(start)
    }

    /// Whether what stands in `range`, the value `id`, has anchors inside to which
    /// something outside refers.
    pub(super) fn is_entangled(&self, id: Id, range: &Range<usize>) -> bool {
        self.nodes.iter().any(|node| match node.content {
            Content::Alias(target) => {
                target != id
                    && range.contains(&self.node(target).start)
                    && !range.contains(&node.start)
            }
            _ => false,
        })
    }

    /// The name of a node's anchor.
    pub(super) fn anchor(&self, id: Id) -> Option<&str> {
        let node = self.node(id);
        let mut words = self.text[node.start..].split_whitespace().take(2);
        let anchor = words.find_map(|word| word.strip_prefix('&'));
        anchor.filter(|_| node.is_anchored)
    }

    /// The bytes from where the line before the one that `start` is in ends, to
    /// the end of the line that `end` is in: whole lines, if nothing stands
    /// before `start` in its line.
    pub(super) fn lines(&self, start: usize, end: usize) -> Option<Range<usize>> {
        let begin = self.line_start(start);
        let before = &self.text[begin..start];
        if !before.bytes().all(|one| one == b' ') {
            return None;
        }
        let end = self.line_end(end);
        let above = &self.text[..begin];
        let Some(above) = above.strip_suffix('\n') else {
            // The first line: its own end goes instead.
            let rest = &self.text[end..];
            let newline = rest.len() - rest.trim_start_matches(['\r', '\n']).len();
            return Some(begin..end + newline.min(2));
        };
        Some(above.strip_suffix('\r').unwrap_or(above).len()..end)
    }

    /// What ends lines in this stream.
    pub(super) fn newline(&self) -> &'static str {
        match self.text.find('\n') {
            Some(at) if self.text[..at].ends_with('\r') => "\r\n",
            _ => "\n",
        }
    }

    /// How the document indents, as seen around the containers of the pod
    /// specification at `pod`.
    pub(super) fn indent(&self, pod: &Path) -> Indent {
        let mut indent = Indent { step: 2, dash: 0 };
        let column = |id| self.column(self.node(id).start);
        let Some(spec) = self.find(pod).map(|id| self.resolve(id)) else {
            return indent;
        };
        let parent = Path(pod.0[..pod.0.len() - 1].to_vec());
        let key = self
            .find(&parent)
            .and_then(|parent| self.entry(self.resolve(parent), "spec"));
        if let (Some((key, _)), Some((first, _)), false) =
            (key, self.entries(spec).first(), self.is_flow(spec))
            && let step @ 1..=8 = column(*first).saturating_sub(column(key))
        {
            indent.step = step;
        }
        // The dashes of any list will do, those of the containers first.
        for key in ["containers", "volumes", "initContainers", "tolerations"] {
            if let Some((key, list)) = self.entry(spec, key)
                && let Content::List {
                    items,
                    is_flow: false,
                } = &self.node(list).content
                && let Some(dash) = items.first().and_then(|item| self.dash(*item))
            {
                indent.dash = self.column(dash).saturating_sub(column(key));
                break;
            }
        }
        indent
    }
}

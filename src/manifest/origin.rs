//! Where the text of a result comes from: what is said of it names places of the input.

use std::ops::Range;

/// The places of an input, by those of what was made of it.
#[derive(Debug)]
pub(super) struct Origin<'t> {
    text: &'t str,
    /// Where each line of the input begins.
    lines: Vec<usize>,
    /// The numbers of its documents, from 0, and where each begins.
    documents: Vec<(usize, usize)>,
    /// What was copied: the places in the result, and in the input.
    copied: Vec<(usize, usize)>,
    /// What was taken out of the result after that.
    deleted: Vec<Range<usize>>,
}

impl<'t> Origin<'t> {
    pub(super) fn new(
        text: &'t str,
        documents: Vec<(usize, usize)>,
        copied: Vec<(usize, usize)>,
        deleted: Vec<Range<usize>>,
    ) -> Self {
        Self {
            text,
            lines: Vec::new(),
            documents,
            copied,
            deleted,
        }
    }

    /// The same, ready to be asked.
    pub(super) fn indexed(mut self) -> Self {
        let ends = self.text.match_indices('\n').map(|(at, _)| at + 1);
        self.lines = [0].into_iter().chain(ends).collect();
        self
    }

    /// The document of the input, from 0, and the line and column there, from 1, of a
    /// byte of the result: that from which it was copied, or the last before it that
    /// was.
    pub(super) fn place(&self, at: usize) -> (usize, usize, usize) {
        let at = self.byte(at).min(self.text.len());
        let document = self.documents.partition_point(|(_, start)| *start <= at);
        let document = self.documents.get(document.saturating_sub(1));
        let line = self.lines.partition_point(|start| *start <= at);
        let start = line.checked_sub(1).map_or(0, |line| self.lines[line]);
        let before = self.text.get(start..at).unwrap_or_default();
        let document = document.map_or(0, |(number, _)| *number);
        (document, line, before.chars().count() + 1)
    }

    fn byte(&self, at: usize) -> usize {
        let gone =
            |at: usize, gone: &Range<usize>| at + if gone.start <= at { gone.len() } else { 0 };
        let at = self.deleted.iter().fold(at, gone);
        let next = self.copied.partition_point(|(to, _)| *to <= at);
        let (to, from) = next.checked_sub(1).map_or((0, 0), |one| self.copied[one]);
        let end = self.copied.get(next).map_or(usize::MAX, |(_, end)| *end);
        (from + (at - to)).min(end)
    }
}

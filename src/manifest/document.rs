//! A YAML document as a tree whose nodes know where they stand.

use std::borrow::Cow;
use std::cell::Cell;
use std::ops::Range;

use saphyr_parser::{ScalarStyle, Tag};

use super::origin::Origin;

/// The place of a node in its document.
pub(super) type Id = usize;

/// A node of a document.
#[derive(Debug)]
pub(super) struct Node<'t> {
    pub(super) content: Content<'t>,
    /// Its bytes in the text, its anchor and its tag among them. Of a collection
    /// in block style the end says nothing.
    pub(super) start: usize,
    pub(super) end: usize,
    /// Whether aliases can refer to it.
    pub(super) is_anchored: bool,
    pub(super) tag: Option<Cow<'t, Tag>>,
}

/// What a node is.
#[derive(Debug)]
pub(super) enum Content<'t> {
    Scalar(Cow<'t, str>, ScalarStyle),
    List {
        items: Vec<Id>,
        is_flow: bool,
    },
    Map {
        entries: Vec<(Id, Id)>,
        is_flow: bool,
    },
    Alias(Id),
}

/// One document of a stream.
#[derive(Debug)]
pub(super) struct Document<'t> {
    /// The text of the whole stream.
    pub(super) text: &'t str,
    pub(super) nodes: Vec<Node<'t>>,
    pub(super) root: Id,
    /// Counted from 0.
    pub(super) index: usize,
    /// Where it begins: at its first directive, its `---`, or where the stream or
    /// the document itself does if it has none.
    pub(super) start: usize,
    /// Its `---`.
    pub(super) marker: Option<Range<usize>>,
    /// A hash of all that its parser said of it, styles included.
    pub(super) fingerprint: u64,
    /// A byte whose line is known, and that line.
    pub(super) known_line: Cell<(usize, usize)>,
    /// Where the text comes from, if that is not the input itself.
    pub(super) origin: Option<&'t Origin<'t>>,
}

impl<'t> Document<'t> {
    pub(super) fn node(&self, id: Id) -> &Node<'t> {
        &self.nodes[id]
    }

    /// The node that an alias refers to, or the node itself.
    pub(super) fn resolve(&self, id: Id) -> Id {
        match self.nodes[id].content {
            Content::Alias(target) => target,
            _ => id,
        }
    }

    /// The text of a scalar.
    pub(super) fn scalar(&self, id: Id) -> Option<&str> {
        match &self.nodes[self.resolve(id)].content {
            Content::Scalar(text, _) => Some(text),
            _ => None,
        }
    }

    /// The entries of a mapping, or none where it is something else.
    pub(super) fn entries(&self, id: Id) -> &[(Id, Id)] {
        match &self.nodes[id].content {
            Content::Map { entries, .. } => entries,
            _ => &[],
        }
    }

    /// The items of a list, or none where it is something else.
    pub(super) fn items(&self, id: Id) -> &[Id] {
        match &self.nodes[id].content {
            Content::List { items, .. } => items,
            _ => &[],
        }
    }

    /// The key and the value of the entry `key` that stands in the mapping `id`
    /// itself.
    pub(super) fn entry(&self, id: Id, key: &str) -> Option<(Id, Id)> {
        let mut entries = self.entries(id).iter();
        entries
            .find(|(one, _)| self.scalar(*one) == Some(key))
            .copied()
    }

    /// The bytes of a node.
    pub(super) fn raw(&self, id: Id) -> &'t str {
        &self.text[self.nodes[id].start..self.nodes[id].end]
    }

    /// Whether a node is written in flow style.
    pub(super) fn is_flow(&self, id: Id) -> bool {
        matches!(
            self.nodes[id].content,
            Content::List { is_flow: true, .. } | Content::Map { is_flow: true, .. }
        )
    }
}

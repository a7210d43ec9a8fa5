//! Comma-separated lists of bounded length.

use super::error::{Flaw, Invalid};
use super::variable::Variable;

/// A list of at most `N` plain values, held in place.
#[derive(Clone, Copy, Debug)]
pub struct List<T, const N: usize> {
    items: [T; N],
    length: usize,
}

/// What a [`List`] can be made of.
pub trait Item: Copy {
    /// Parses one item, without the spaces around it.
    fn parse(item: &[u8]) -> Result<Self, Flaw>;
}

impl<T: Copy, const N: usize> List<T, N> {
    /// An empty list; `filler` stands where no item is yet.
    pub const fn new(filler: T) -> Self {
        Self {
            items: [filler; N],
            length: 0,
        }
    }

    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The items, in their order.
    #[inline(always)]
    pub fn as_slice(&self) -> &[T] {
        self.items.get(..self.length).unwrap_or_default()
    }

    /// Whether `test` holds for one of the items.
    #[inline(always)]
    pub fn any(&self, test: impl Fn(T) -> bool) -> bool {
        self.as_slice().iter().any(|&item| test(item))
    }
}

impl<T: Item, const N: usize> List<T, N> {
    /// Parses `value`, the value of `variable`, into this list, which is
    /// empty.
    pub(super) fn fill(&mut self, variable: Variable, value: &[u8]) -> Result<(), Invalid> {
        for part in Parts::of(value) {
            let item = T::parse(part.checked(variable)?);
            let item = item.map_err(|flaw| part.invalid(variable, flaw))?;
            let slot = self.items.get_mut(self.length);
            *slot.ok_or_else(|| part.invalid(variable, Flaw::TooMany))? = item;
            self.length += 1;
        }
        Ok(())
    }
}

/// One part of a list's text: what stands between two commas, without the
/// spaces around it.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    pub text: &'a [u8],
    index: u8,
}

impl<'a> Part<'a> {
    /// The text, which may not be empty.
    pub fn checked(self, variable: Variable) -> Result<&'a [u8], Invalid> {
        if self.text.is_empty() {
            return Err(self.invalid(variable, Flaw::EmptyItem));
        }
        Ok(self.text)
    }

    /// The error that this part has `flaw`.
    pub fn invalid(self, variable: Variable, flaw: Flaw) -> Invalid {
        Invalid {
            variable,
            flaw,
            item: self.index,
        }
    }
}

/// The parts of a comma-separated list.
pub struct Parts<'a> {
    rest: Option<&'a [u8]>,
    index: u8,
}

impl<'a> Parts<'a> {
    pub fn of(value: &'a [u8]) -> Self {
        Self {
            rest: Some(value),
            index: 0,
        }
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = Part<'a>;

    fn next(&mut self) -> Option<Part<'a>> {
        let rest = self.rest?;
        let (text, after) = match split_at_byte(rest, b',') {
            Some((text, after)) => (text, Some(after)),
            None => (rest, None),
        };
        let part = Part {
            text: text.trim_ascii(),
            index: self.index,
        };
        self.index = self.index.saturating_add(1);
        self.rest = after;
        Some(part)
    }
}

/// What stands before and after the first `byte`.
pub fn split_at_byte(text: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let position = text.iter().position(|&b| b == byte)?;
    let (before, rest) = text.split_at_checked(position)?;
    Some((before, rest.split_first()?.1))
}

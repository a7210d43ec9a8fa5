//! What can be wrong with a value.

use core::fmt;

use super::list::Parts;
use super::variable::Variable;
use super::{MAX_GLOBS, MAX_PORT_RANGES, MAX_PREFIXES};

/// A value that does not parse: which variable, where, and what is wrong. Small
/// enough for a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The variable whose value it is.
    pub variable: Variable,
    /// What is wrong with it.
    pub flaw: Flaw,
    /// Which item of the list is wrong, counted from 0; of a value that is no
    /// list, 0. No list is longer than [`MAX_PREFIXES`] before it is refused.
    pub item: u8,
}

impl Invalid {
    /// The text that is wrong: an item of `value`, which is the value that was
    /// parsed, or the whole of it where it is no list.
    pub fn text(self, value: &[u8]) -> &[u8] {
        if !self.variable.is_list() {
            return value;
        }
        let part = Parts::of(value).nth(self.item.into());
        part.map_or(b"", |part| part.text)
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.flaw.text())
    }
}

/// What is wrong with an item of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    EmptyItem,
    TooMany,
    NotAnAddress,
    NotAPrefixLength,
    NotAPort,
    RangeBackwards,
    NotAnOp,
    NotAProtocol,
    NotAnInterfaceName,
    NotASetting,
    SlashInGlob,
    UnclosedBracket,
    LoneBackslash,
}

impl Flaw {
    /// The flaw in words, fit to follow the item and a colon.
    pub const fn text(self) -> &'static str {
        const _: () = assert!(MAX_PREFIXES == 64 && MAX_PORT_RANGES == 64 && MAX_GLOBS == 16);
        match self {
            Self::EmptyItem => "an item of the list is empty",
            Self::TooMany => "more than 64 addresses or ports, or 16 programs",
            Self::NotAnAddress => "not an IPv4 or IPv6 address",
            Self::NotAPrefixLength => "the length of a prefix is 0 to 32 (IPv4) or 0 to 128 (IPv6)",
            Self::NotAPort => "not a port from 0 to 65535",
            Self::RangeBackwards => "the range ends before it begins",
            Self::NotAnOp => "not 1, 2 or 3",
            Self::NotAProtocol => "neither tcp nor udp",
            Self::NotAnInterfaceName => "not the name of an interface",
            Self::NotASetting => "not -1, 0 or 1",
            Self::SlashInGlob => "a file name holds no slash",
            Self::UnclosedBracket => "a bracket is not closed",
            Self::LoneBackslash => "a backslash at the end quotes nothing",
        }
    }
}

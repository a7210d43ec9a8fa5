//! Globs on the program's file name.

use super::error::{Flaw, Invalid};
use super::list::Parts;
use super::variable::{Values, Variable};
use super::{MAX_GLOBS, list};

/// The value of `LIBREUSEPORT_PROGRAM`, checked: comma-separated patterns as
/// in glob(7), with `*`, `?`, `[a-z]`, `[!a-z]` and `\` to quote one byte.
/// They are held against bytes, whatever the encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Globs<'a>(&'a [u8]);

impl<'a> Globs<'a> {
    /// The globs of `values`; `None` where any program is acted on.
    ///
    /// # Errors
    /// The value of `LIBREUSEPORT_PROGRAM` does not parse.
    pub fn of(values: &Values<'a>) -> Result<Option<Self>, Invalid> {
        values.get(Variable::Program).map(Self::parse).transpose()
    }

    fn parse(value: &'a [u8]) -> Result<Self, Invalid> {
        for (count, part) in Parts::of(value).enumerate() {
            let glob = part.checked(Variable::Program)?;
            let flaw = if count >= MAX_GLOBS {
                Err(Flaw::TooMany)
            } else if list::split_at_byte(glob, b'/').is_some() {
                Err(Flaw::SlashInGlob)
            } else {
                check(glob)
            };
            flaw.map_err(|flaw| part.invalid(Variable::Program, flaw))?;
        }
        Ok(Self(value))
    }

    /// Whether one of the patterns matches the whole of `name`.
    pub fn matches(self, name: &[u8]) -> bool {
        Parts::of(self.0).any(|part| matches(part.text, name))
    }
}

/// One element of a pattern.
enum Element<'a> {
    /// `*`
    Any,
    /// `?`
    One,
    /// A byte that stands for itself.
    Byte(u8),
    /// What stands between brackets, and whether a leading `!` negates it.
    Set { members: &'a [u8], negated: bool },
}

/// Takes the first element off `pattern`; `None` at its end.
fn next_element(pattern: &[u8]) -> Result<Option<(Element<'_>, &[u8])>, Flaw> {
    let Some((&first, rest)) = pattern.split_first() else {
        return Ok(None);
    };
    Ok(Some(match first {
        b'*' => (Element::Any, rest),
        b'?' => (Element::One, rest),
        b'\\' => {
            let (&quoted, rest) = rest.split_first().ok_or(Flaw::LoneBackslash)?;
            (Element::Byte(quoted), rest)
        }
        b'[' => {
            let (negated, set) = match rest.strip_prefix(b"!") {
                Some(set) => (true, set),
                None => (false, rest),
            };
            // A bracket that comes first is a member: glob(7).
            let close = set.iter().skip(1).position(|&byte| byte == b']');
            let close = close.ok_or(Flaw::UnclosedBracket)? + 1;
            let (members, rest) = set.split_at_checked(close).unwrap_or((set, b""));
            let rest = rest.strip_prefix(b"]").unwrap_or(rest);
            (Element::Set { members, negated }, rest)
        }
        byte => (Element::Byte(byte), rest),
    }))
}

/// Whether `pattern` is well-formed.
fn check(mut pattern: &[u8]) -> Result<(), Flaw> {
    while let Some((_, rest)) = next_element(pattern)? {
        pattern = rest;
    }
    Ok(())
}

/// Whether `pattern`, which is well-formed, matches the whole of `name`. The
/// last `*` alone is ever tried again, so that the time is at most the product
/// of the lengths.
fn matches(mut pattern: &[u8], mut name: &[u8]) -> bool {
    // Where to go on after a mismatch: behind the last star, one byte further.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        let matched = match (next_element(pattern), name.split_first()) {
            (Ok(Some((Element::Any, rest))), _) => {
                pattern = rest;
                retry = Some((rest, name));
                continue;
            }
            (Ok(Some((element, rest))), Some((&byte, name))) => {
                element.matches(byte).then_some((rest, name))
            }
            (Ok(None), None) => return true,
            _ => None,
        };
        if let Some(after) = matched {
            (pattern, name) = after;
            continue;
        }
        let Some((star, Some((_, further)))) = retry.map(|(star, at)| (star, at.split_first()))
        else {
            return false;
        };
        retry = Some((star, further));
        (pattern, name) = (star, further);
    }
}

impl Element<'_> {
    fn matches(&self, byte: u8) -> bool {
        match *self {
            Self::Any | Self::One => true,
            Self::Byte(own) => own == byte,
            Self::Set { members, negated } => set_contains(members, byte) != negated,
        }
    }
}

/// Whether the members of a bracket expression (`a-z_`) hold `byte`. A hyphen
/// that comes first or last is a member.
fn set_contains(mut members: &[u8], byte: u8) -> bool {
    loop {
        members = match *members {
            [first, b'-', last, ..] => {
                if first <= byte && byte <= last {
                    return true;
                }
                members.get(3..).unwrap_or_default()
            }
            [only, ..] => {
                if only == byte {
                    return true;
                }
                members.get(1..).unwrap_or_default()
            }
            [] => return false,
        };
    }
}

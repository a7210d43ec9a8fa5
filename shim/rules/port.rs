//! Ports and ranges of ports.

use core::fmt;

use super::error::Flaw;
use super::list::{Item, split_at_byte};
use super::number;

/// A range of ports, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    /// The distance from the first port to the last.
    span: u16,
}

impl PortRange {
    /// Port 0 alone.
    pub const ZERO: Self = Self { first: 0, span: 0 };

    #[inline(always)]
    pub fn contains(self, port: u16) -> bool {
        port.wrapping_sub(self.first) <= self.span
    }
}

impl Item for PortRange {
    fn parse(item: &[u8]) -> Result<Self, Flaw> {
        let port = |text| {
            let number = number::parse(text, u16::MAX.into());
            number
                .and_then(|number| u16::try_from(number).ok())
                .ok_or(Flaw::NotAPort)
        };
        let (first, last) = match split_at_byte(item, b'-') {
            Some((first, last)) => (port(first)?, port(last)?),
            None => {
                let port = port(item)?;
                (port, port)
            }
        };
        let span = last.checked_sub(first).ok_or(Flaw::RangeBackwards)?;
        Ok(Self { first, span })
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        if self.span == 0 {
            return Ok(());
        }
        write!(f, "-{}", u32::from(self.first) + u32::from(self.span))
    }
}

//! The values that are no open lists: settings, protocols, an interface.

use core::fmt;

use super::error::{Flaw, Invalid};
use super::list::Parts;
use super::variable::Variable;

/// The error that the whole value of `variable` has `flaw`.
fn invalid(variable: Variable, flaw: Flaw) -> Invalid {
    Invalid {
        variable,
        flaw,
        item: 0,
    }
}

/// What happens to a socket option. Where something does, the number is the
/// option's value, as setsockopt(2) takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Setting {
    Leave = -1,
    Clear = 0,
    Set = 1,
}

impl Setting {
    /// `-1`, `0` or `1`: the value of `SO_REUSEPORT` or `SO_REUSEADDR`.
    pub(super) fn parse(variable: Variable, value: &[u8]) -> Result<Self, Invalid> {
        match value {
            b"-1" => Ok(Self::Leave),
            b"0" => Ok(Self::Clear),
            b"1" => Ok(Self::Set),
            _ => Err(invalid(variable, Flaw::NotASetting)),
        }
    }

    /// `LIBREUSEPORT_OP`: what becomes of SO_REUSEPORT and of SO_REUSEADDR.
    pub(super) fn parse_op(value: &[u8]) -> Result<(Self, Self), Invalid> {
        match value {
            b"1" => Ok((Self::Set, Self::Leave)),
            b"2" => Ok((Self::Leave, Self::Set)),
            b"3" => Ok((Self::Set, Self::Set)),
            _ => Err(invalid(Variable::Op, Flaw::NotAnOp)),
        }
    }
}

/// A set of transport protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocols {
    tcp: bool,
    udp: bool,
}

impl Protocols {
    /// Any protocol: raw sockets, SCTP and the rest too, as where
    /// `LIBREUSEPORT_PROTO` is not set.
    pub const ANY: Self = Self {
        tcp: false,
        udp: false,
    };

    /// Whether every socket matches, so that its protocol need not be known.
    #[inline(always)]
    pub fn is_any(self) -> bool {
        !self.tcp && !self.udp
    }

    /// Whether a socket of the protocol `number`, as in `IPPROTO_*`, matches.
    #[inline(always)]
    pub fn contains(self, number: i32) -> bool {
        const TCP: i32 = 6;
        const UDP: i32 = 17;
        const MPTCP: i32 = 262;
        match number {
            TCP | MPTCP => self.tcp || self.is_any(),
            UDP => self.udp || self.is_any(),
            _ => self.is_any(),
        }
    }

    pub(super) fn parse(value: &[u8]) -> Result<Self, Invalid> {
        let mut protocols = Self::ANY;
        for part in Parts::of(value) {
            match part.checked(Variable::Proto)? {
                b"tcp" => protocols.tcp = true,
                b"udp" => protocols.udp = true,
                _ => return Err(part.invalid(Variable::Proto, Flaw::NotAProtocol)),
            }
        }
        Ok(protocols)
    }
}

impl fmt::Display for Protocols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.tcp, self.udp) {
            (true, true) => "tcp,udp",
            (true, false) => "tcp",
            (false, true) => "udp",
            (false, false) => "",
        })
    }
}

/// The interface that matching sockets are bound to.
///
/// The layout is fixed to make `Any` the zero that costs the shim's file no
/// room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Interface {
    /// Any interface.
    Any,
    /// The one of this name.
    Named(InterfaceName),
    /// What was asked for is no interface name.
    Invalid(Invalid),
}

/// The name of a network interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceName {
    bytes: [u8; Self::MAX],
    length: u8,
}

impl Interface {
    pub(super) fn parse(variable: Variable, value: &[u8]) -> Self {
        match InterfaceName::parse(variable, value) {
            Ok(name) => Self::Named(name),
            Err(invalid) => Self::Invalid(invalid),
        }
    }
}

impl InterfaceName {
    /// `IFNAMSIZ` less the terminator.
    const MAX: usize = 15;

    /// Parses by the kernel's own rule (`dev_valid_name`): 1 to 15 bytes, not
    /// `.` or `..`, no slash, colon or white space.
    fn parse(variable: Variable, value: &[u8]) -> Result<Self, Invalid> {
        let flaw = || invalid(variable, Flaw::NotAnInterfaceName);
        let mut bytes = [0; Self::MAX];
        let name = bytes.get_mut(..value.len()).ok_or_else(flaw)?;
        let forbidden = |&byte: &u8| matches!(byte, b'/' | b':' | b' ' | b'\t'..=b'\r');
        if matches!(value, b"" | b"." | b"..") || value.iter().any(forbidden) {
            return Err(flaw());
        }
        for (to, from) in name.iter_mut().zip(value) {
            *to = *from;
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most MAX")]
        Ok(Self {
            bytes,
            length: value.len() as u8,
        })
    }

    /// The name, without a terminator.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length.into()).unwrap_or_default()
    }
}

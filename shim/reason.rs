//! Why the shim left a bind alone: the words that its debug line, the tests
//! and the documentation share.

use crate::errno::Errno;

/// Why nothing was set on a socket. None of these is an error of the program.
///
/// Counted from 1, which makes `None` the zero that costs the shim's file no
/// room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// The address is null or lies in the first page, where nothing is mapped.
    NoAddress = 1,
    /// The address is shorter than its family's.
    ShortAddress,
    /// The address is neither IPv4 nor IPv6.
    NotInet,
    /// Port 0, an ephemeral port, is not listed in `LIBREUSEPORT_PORT`.
    EphemeralPort,
    /// The port is not in `LIBREUSEPORT_PORT`.
    PortNotListed,
    /// The address is not in `LIBREUSEPORT_ADDR`.
    AddressNotListed,
    /// The socket's protocol is not in `LIBREUSEPORT_PROTO`.
    ProtocolNotListed,
    /// The socket's protocol could not be read.
    ProtocolUnknown(Errno),
    /// The program's file name is not in `LIBREUSEPORT_PROGRAM`.
    ProgramNotListed,
    /// The variables ask for nothing to be set (`SO_REUSEPORT=-1`).
    NothingAsked,
    /// A variable does not parse.
    RulesDoNotParse,
}

impl Reason {
    /// The reason's stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoAddress => "no-address",
            Self::ShortAddress => "short-address",
            Self::NotInet => "not-inet",
            Self::EphemeralPort => "ephemeral-port",
            Self::PortNotListed => "port-not-listed",
            Self::AddressNotListed => "address-not-listed",
            Self::ProtocolNotListed => "protocol-not-listed",
            Self::ProtocolUnknown(_) => "protocol-unknown",
            Self::ProgramNotListed => "program-not-listed",
            Self::NothingAsked => "nothing-asked",
            Self::RulesDoNotParse => "rules-do-not-parse",
        }
    }
}

//! The rules: which binds the shim acts on, and what it sets there.
//!
//! These modules are compiled twice, into the shim and into the program, so
//! that what the command line accepts and what the shim obeys cannot differ.
//! Hence: no allocation, plain values, and no path that could panic.

mod address;
mod error;
mod glob;
mod list;
mod number;
mod port;
mod scalar;
mod variable;

pub use address::{Address, Prefix};
pub use error::{Flaw, Invalid};
pub use glob::Globs;
pub use list::List;
pub use port::PortRange;
pub use scalar::{Interface, InterfaceName, Protocols, Setting};
pub use variable::{Values, Variable};

/// The most prefixes that `LIBREUSEPORT_ADDR` may list.
pub const MAX_PREFIXES: usize = 64;
/// The most ports and ranges that `LIBREUSEPORT_PORT` may list.
pub const MAX_PORT_RANGES: usize = 64;
/// The most globs that `LIBREUSEPORT_PROGRAM` may list.
pub const MAX_GLOBS: usize = 16;

/// What a socket is about to be bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub address: Address,
    pub port: u16,
}

/// Which binds are acted on, and what is set there: the `LIBREUSEPORT_*`
/// variables, parsed, but for `LIBREUSEPORT_PROGRAM` ([`Globs::of`]).
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// What happens to SO_REUSEPORT.
    pub reuseport: Setting,
    /// What happens to SO_REUSEADDR.
    pub reuseaddr: Setting,
    /// The addresses acted on; an empty list is any.
    pub addresses: List<Prefix, MAX_PREFIXES>,
    /// The ports acted on; an empty list is any but 0.
    pub ports: List<PortRange, MAX_PORT_RANGES>,
    /// The protocols acted on.
    pub protocols: Protocols,
    /// The interface that matching sockets are bound to.
    pub interface: Interface,
    /// Whether to say on standard error what was done.
    pub debug: bool,
}

impl Rules {
    /// Rules before an environment has been read: nothing but zeros, so that
    /// the shim's take no room in its file.
    pub const EMPTY: Self = Self {
        reuseport: Setting::Clear,
        reuseaddr: Setting::Clear,
        addresses: List::new(Prefix::EMPTY),
        ports: List::new(PortRange::ZERO),
        protocols: Protocols::ANY,
        interface: Interface::Any,
        debug: false,
    };

    /// Parses `values` into `self`, which is [`Rules::EMPTY`]: in place,
    /// since the shim has no heap and rules are some kilobytes.
    ///
    /// An interface that does not parse is no error here: what is to become of
    /// it is the caller's affair ([`Rules::check_interface`]).
    ///
    /// # Errors
    /// The first variable that does not parse. `self` is half-filled then, and
    /// of no use.
    pub fn fill(&mut self, values: &Values<'_>) -> Result<(), Invalid> {
        self.debug = values
            .get(Variable::Debug)
            .is_some_and(|value| value != b"0");
        if let Some(value) = values.get(Variable::Addr) {
            self.addresses.fill(Variable::Addr, value)?;
        }
        if let Some(value) = values.get(Variable::Port) {
            self.ports.fill(Variable::Port, value)?;
        }
        if let Some(value) = values.get(Variable::Proto) {
            self.protocols = Protocols::parse(value)?;
        }
        self.fill_settings(values)?;
        for variable in [Variable::SoBindtodevice, Variable::Interface] {
            if let Some(value) = values.get(variable) {
                self.interface = Interface::parse(variable, value);
            }
        }
        Ok(())
    }

    /// `LIBREUSEPORT_OP`, or in its absence the C library's later spellings.
    fn fill_settings(&mut self, values: &Values<'_>) -> Result<(), Invalid> {
        if let Some(value) = values.get(Variable::Op) {
            (self.reuseport, self.reuseaddr) = Setting::parse_op(value)?;
            return Ok(());
        }
        let setting = |variable, default| match values.get(variable) {
            Some(value) => Setting::parse(variable, value),
            None => Ok(default),
        };
        self.reuseport = setting(Variable::SoReuseport, Setting::Set)?;
        self.reuseaddr = setting(Variable::SoReuseaddr, Setting::Leave)?;
        Ok(())
    }

    /// An interface that does not parse, as an error.
    ///
    /// # Errors
    /// The value of `LIBREUSEPORT_INTERFACE` or `SO_BINDTODEVICE` is no
    /// interface name.
    pub fn check_interface(&self) -> Result<(), Invalid> {
        match self.interface {
            Interface::Invalid(invalid) => Err(invalid),
            _ => Ok(()),
        }
    }

    /// Whether there is nothing to set on any socket.
    pub fn asks_for_nothing(&self) -> bool {
        let left = Setting::Leave;
        self.reuseport == left && self.reuseaddr == left && self.interface == Interface::Any
    }

    /// Whether every bind to a port but 0 is selected.
    pub fn select_any(&self) -> bool {
        self.ports.is_empty() && self.addresses.is_empty() && self.protocols.is_any()
    }

    /// Whether a bind to `port` may be selected.
    #[inline(always)]
    pub fn selects_port(&self, port: u16) -> bool {
        if self.ports.is_empty() {
            return port != 0;
        }
        self.ports.any(|range| range.contains(port))
    }

    /// Whether a bind to `address` may be selected.
    #[inline(always)]
    pub fn selects_address(&self, address: impl FnOnce() -> Address) -> bool {
        self.addresses.is_empty() || self.lists_address(address())
    }

    /// Not inlined, for the sake of the binds that need not come here.
    #[inline(never)]
    fn lists_address(&self, address: Address) -> bool {
        self.addresses.any(|prefix| prefix.contains(address))
    }
}

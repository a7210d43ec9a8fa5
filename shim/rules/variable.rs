//! The variables, by name.

/// A variable of the shim's environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variable {
    Addr,
    Port,
    Op,
    Proto,
    Interface,
    Program,
    Debug,
    SoReuseport,
    SoReuseaddr,
    SoBindtodevice,
}

impl Variable {
    /// Every variable, in the order of the reference.
    pub const ALL: &'static [Self; 10] = &[
        Self::Addr,
        Self::Port,
        Self::Op,
        Self::Proto,
        Self::Interface,
        Self::Program,
        Self::Debug,
        Self::SoReuseport,
        Self::SoReuseaddr,
        Self::SoBindtodevice,
    ];

    /// The name in the environment.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Addr => "LIBREUSEPORT_ADDR",
            Self::Port => "LIBREUSEPORT_PORT",
            Self::Op => "LIBREUSEPORT_OP",
            Self::Proto => "LIBREUSEPORT_PROTO",
            Self::Interface => "LIBREUSEPORT_INTERFACE",
            Self::Program => "LIBREUSEPORT_PROGRAM",
            Self::Debug => "LIBREUSEPORT_DEBUG",
            Self::SoReuseport => "SO_REUSEPORT",
            Self::SoReuseaddr => "SO_REUSEADDR",
            Self::SoBindtodevice => "SO_BINDTODEVICE",
        }
    }

    /// Whether it is one of the C library's later spellings, which begin with
    /// `SO_`; the others begin with `LIBREUSEPORT_`.
    pub const fn is_later_spelling(self) -> bool {
        matches!(
            self,
            Self::SoReuseport | Self::SoReuseaddr | Self::SoBindtodevice
        )
    }

    /// Whether a value names an interface, and so obeys its own rule: where it
    /// is wrong, binds fail.
    pub const fn is_interface(self) -> bool {
        matches!(self, Self::Interface | Self::SoBindtodevice)
    }

    /// Whether a value is a comma-separated list.
    pub const fn is_list(self) -> bool {
        matches!(self, Self::Addr | Self::Port | Self::Proto | Self::Program)
    }
}

/// The values that an environment gives to our variables. A variable whose
/// value is empty is as if it were not set.
#[derive(Clone, Copy, Debug, Default)]
pub struct Values<'a>([Option<&'a [u8]>; Variable::ALL.len()]);

impl<'a> Values<'a> {
    /// The value of `variable`; never empty.
    pub fn get(&self, variable: Variable) -> Option<&'a [u8]> {
        let value = self.0.get(variable as usize).copied().flatten();
        value.filter(|value| !value.is_empty())
    }

    /// Gives `variable` a value, unless it has one: of two entries of one
    /// name the first counts, as with getenv(3).
    pub fn set_first(&mut self, variable: Variable, value: &'a [u8]) {
        if let Some(slot) = self.0.get_mut(variable as usize) {
            slot.get_or_insert(value);
        }
    }
}

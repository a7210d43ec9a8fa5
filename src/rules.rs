//! The rules as the command line has them: values of variables, checked by the
//! parser that the shim uses, on their way into an environment.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use thiserror::Error;

#[path = "../shim/rules/mod.rs"]
mod shared;

pub use shared::{
    Address, Endpoint, Flaw, Globs, Interface, InterfaceName, Invalid, List, MAX_GLOBS,
    MAX_PORT_RANGES, MAX_PREFIXES, PortRange, Prefix, Protocols, Rules, Setting, Values, Variable,
};

/// A value that the shim would not take.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("'{}': {}; give {}", .text.escape_debug(), .invalid.flaw.text(), allowed(.invalid.variable))]
pub struct InvalidValue {
    /// What is wrong.
    pub invalid: Invalid,
    /// The item of the value that is wrong, as text, cut off where it is long.
    pub text: String,
}

/// The most characters of a wrong item that a message shows.
const LONGEST_ITEM: usize = 80;

impl InvalidValue {
    fn new(invalid: Invalid, value: &[u8]) -> Self {
        let item = String::from_utf8_lossy(invalid.text(value));
        let mut text: String = item.chars().take(LONGEST_ITEM).collect();
        if text.len() < item.len() {
            text.push('…');
        }
        Self { invalid, text }
    }
}

/// What a value may be, for people.
pub(crate) const fn allowed(variable: Variable) -> &'static str {
    match variable {
        Variable::Addr => {
            "up to 64 IPv4 or IPv6 addresses or prefixes, separated by commas \
             (127.0.0.1, 10.0.0.0/8, ::1)"
        }
        Variable::Port => "up to 64 ports or ranges, separated by commas (80, 443, 8000-8099)",
        Variable::Op => "1 (SO_REUSEPORT), 2 (SO_REUSEADDR) or 3 (both)",
        Variable::Proto => "tcp, udp or tcp,udp",
        Variable::Interface | Variable::SoBindtodevice => {
            "the name of a network interface, at most 15 bytes (eth0)"
        }
        Variable::Program => {
            "up to 16 globs on a program's file name, separated by commas (nginx, python3*)"
        }
        Variable::Debug => "anything; empty or 0 is off",
        Variable::SoReuseport | Variable::SoReuseaddr => "-1 (leave), 0 (clear) or 1 (set)",
    }
}

/// Values given to the shim's variables, none of them checked yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignments(Vec<(Variable, OsString)>);

impl Assignments {
    /// The variables that an environment sets.
    pub fn from_environment<'a>(
        variables: impl IntoIterator<Item = &'a (OsString, OsString)>,
    ) -> Self {
        let mut this = Self::default();
        for (name, value) in variables {
            let variable = Variable::ALL.iter().copied().find(|one| name == one.name());
            if let Some(variable) = variable
                && this.get(variable).is_none()
            {
                this.set(variable, value.clone());
            }
        }
        this
    }

    /// Gives `variable` a value, in the place of the one that it has.
    pub fn set(&mut self, variable: Variable, value: OsString) {
        match self.0.iter_mut().find(|(one, _)| *one == variable) {
            Some((_, old)) => *old = value,
            None => self.0.push((variable, value)),
        }
    }

    /// The value of `variable`.
    pub fn get(&self, variable: Variable) -> Option<&OsStr> {
        let found = self.0.iter().find(|(one, _)| *one == variable);
        found.map(|(_, value)| value.as_os_str())
    }

    /// The variables that are set, each with its value, in the order of setting.
    pub fn iter(&self) -> impl Iterator<Item = (Variable, &OsStr)> {
        self.0
            .iter()
            .map(|(variable, value)| (*variable, value.as_os_str()))
    }

    /// These values, and those of `others` where these have none.
    #[must_use]
    pub fn or(mut self, others: Self) -> Self {
        for (variable, value) in others.0 {
            if self.get(variable).is_none() {
                self.0.push((variable, value));
            }
        }
        self
    }

    /// What the shim makes of these values.
    ///
    /// # Errors
    /// The first value that it would not take.
    pub fn check(&self) -> Result<Rules, InvalidValue> {
        let mut values = Values::default();
        for (variable, value) in self.iter() {
            values.set_first(variable, value.as_bytes());
        }
        let mut rules = Rules::EMPTY;
        Globs::of(&values)
            .and_then(|_| rules.fill(&values))
            .and_then(|()| rules.check_interface())
            .map_err(|invalid| {
                InvalidValue::new(invalid, values.get(invalid.variable).unwrap_or_default())
            })?;
        Ok(rules)
    }
}

/// Checks one value of one variable.
///
/// # Errors
/// The shim would not take it.
pub fn check(variable: Variable, value: &OsStr) -> Result<(), InvalidValue> {
    let mut assignments = Assignments::default();
    assignments.set(variable, value.to_owned());
    assignments.check().map(drop)
}

//! RULES: one flag a variable of the shim, the same wherever they are taken.

use std::ffi::OsString;

use clap::{Args, ValueHint};

use crate::rules::{self, Assignments, Variable};

/// Which binds are acted on, and what is set there.
#[derive(Args, Debug)]
#[command(next_help_heading = "Rules")]
pub(super) struct RuleFlags {
    /// Only sockets bound to these addresses or prefixes [LIBREUSEPORT_ADDR]
    #[arg(long, value_name = "ADDR[/LEN],...", value_parser = addr)]
    addr: Option<OsString>,
    /// Only sockets bound to these ports or ranges; port 0 only where 0 is listed [LIBREUSEPORT_PORT]
    #[arg(long, value_name = "PORT[-PORT],...", value_parser = port)]
    port: Option<OsString>,
    /// What is set: reuseport (1), reuseaddr (2) or both (3) [LIBREUSEPORT_OP]
    #[arg(long, value_name = "OP", value_parser = op, value_hint = ValueHint::Other)]
    op: Option<OsString>,
    /// Only sockets of these protocols: tcp, udp [LIBREUSEPORT_PROTO]
    #[arg(long, value_name = "PROTO,...", value_parser = proto, value_hint = ValueHint::Other)]
    proto: Option<OsString>,
    /// Bind matching sockets to this network interface [LIBREUSEPORT_INTERFACE]
    #[arg(long, value_name = "NAME", value_parser = interface)]
    interface: Option<OsString>,
    /// Only programs whose file name matches one of these globs [LIBREUSEPORT_PROGRAM]
    #[arg(long, value_name = "GLOB,...", value_parser = program)]
    program: Option<OsString>,
    /// Say on standard error what is done at each bind [LIBREUSEPORT_DEBUG]
    #[arg(long)]
    debug: bool,
}

impl RuleFlags {
    /// The variables that the flags give a value.
    pub(super) fn assignments(self) -> Assignments {
        let mut assignments = Assignments::default();
        for (variable, value) in [
            (Variable::Addr, self.addr),
            (Variable::Port, self.port),
            (Variable::Op, self.op),
            (Variable::Proto, self.proto),
            (Variable::Interface, self.interface),
            (Variable::Program, self.program),
            (Variable::Debug, self.debug.then(|| "1".into())),
        ] {
            if let Some(value) = value {
                assignments.set(variable, value);
            }
        }
        assignments
    }
}

/// A value for a flag. An empty one, which an environment may hold, is more
/// likely a variable of the caller's that is not set.
fn checked(variable: Variable, value: &str) -> Result<OsString, String> {
    if value.is_empty() {
        return Err("an empty value would select everything; leave the flag out".into());
    }
    let value = OsString::from(value);
    match rules::check(variable, &value) {
        Ok(()) => Ok(value),
        Err(error) => Err(error.to_string()),
    }
}

fn addr(value: &str) -> Result<OsString, String> {
    checked(Variable::Addr, value)
}

fn port(value: &str) -> Result<OsString, String> {
    checked(Variable::Port, value)
}

fn op(value: &str) -> Result<OsString, String> {
    let number = match value {
        "reuseport" => "1",
        "reuseaddr" => "2",
        "both" => "3",
        other => other,
    };
    checked(Variable::Op, number)
}

fn proto(value: &str) -> Result<OsString, String> {
    checked(Variable::Proto, value)
}

fn interface(value: &str) -> Result<OsString, String> {
    checked(Variable::Interface, value)
}

fn program(value: &str) -> Result<OsString, String> {
    checked(Variable::Program, value)
}

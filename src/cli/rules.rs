//! RULES: one flag a variable of the shim, the same wherever they are taken.

use std::ffi::OsString;

use clap::Args;

use crate::rules::{self, Assignments, InvalidValue, Variable};

/// Which binds are acted on, and what is set there.
#[derive(Args, Debug)]
#[command(next_help_heading = "Rules")]
pub(super) struct RuleFlags {
    /// Only sockets bound to these addresses or prefixes
    #[arg(long, value_name = "ADDR[/LEN],...", value_parser = addr)]
    addr: Option<OsString>,
    /// Only sockets bound to these ports or ranges; port 0 only where 0 is listed
    #[arg(long, value_name = "PORT[-PORT],...", value_parser = port)]
    port: Option<OsString>,
    /// What is set: reuseport (1), reuseaddr (2) or both (3)
    #[arg(long, value_name = "OP", value_parser = op)]
    op: Option<OsString>,
    /// Only sockets of these protocols: tcp, udp
    #[arg(long, value_name = "PROTO,...", value_parser = proto)]
    proto: Option<OsString>,
    /// Bind matching sockets to this network interface
    #[arg(long, value_name = "NAME", value_parser = interface)]
    interface: Option<OsString>,
    /// Only programs whose file name matches one of these globs
    #[arg(long, value_name = "GLOB,...", value_parser = program)]
    program: Option<OsString>,
    /// Say on standard error what is done at each bind
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

fn checked(variable: Variable, value: &str) -> Result<OsString, InvalidValue> {
    let value = OsString::from(value);
    rules::check(variable, &value).map(|()| value)
}

fn addr(value: &str) -> Result<OsString, InvalidValue> {
    checked(Variable::Addr, value)
}

fn port(value: &str) -> Result<OsString, InvalidValue> {
    checked(Variable::Port, value)
}

fn op(value: &str) -> Result<OsString, InvalidValue> {
    let number = match value {
        "reuseport" => "1",
        "reuseaddr" => "2",
        "both" => "3",
        other => other,
    };
    checked(Variable::Op, number)
}

fn proto(value: &str) -> Result<OsString, InvalidValue> {
    checked(Variable::Proto, value)
}

fn interface(value: &str) -> Result<OsString, InvalidValue> {
    checked(Variable::Interface, value)
}

fn program(value: &str) -> Result<OsString, InvalidValue> {
    checked(Variable::Program, value)
}

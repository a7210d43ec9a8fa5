//! What the option on a socket, or its absence, means.

use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;

use super::socket::{Hidden, Socket};
use super::{Process, Protocol};
use crate::rules::{Address, Assignments, Globs, InvalidValue, Rules, Setting, Values, Variable};

/// How a socket stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It has the option.
    Has,
    /// It should have the option, and does not.
    Lacks,
    /// It does not have it, as the rules ask; which, in words.
    LeftOut(String),
    /// It is bound to a port that the kernel may have chosen, which nobody else
    /// wants to share.
    Ephemeral,
    /// It does not have the option, and is a TCP socket that does not listen: of
    /// a client, or of a server that has not come to that yet.
    Silent,
    /// The option could not be read.
    Hidden(Hidden),
}

impl Standing {
    pub(super) fn reason(&self) -> Option<&str> {
        match self {
            Self::LeftOut(reason) => Some(reason),
            _ => None,
        }
    }
}

/// Each socket of `process`, and how it stands under the rules that the process
/// was started with.
pub(super) fn of(process: &Process) -> Vec<(&Socket, Standing)> {
    let assignments = (!process.started.is_overwritten)
        .then(|| Assignments::from_environment(&process.started.environment));
    standings(process, assignments.as_ref())
}

/// Each socket of `process`, and how it stands under the rules `assignments`.
pub(crate) fn under<'a>(
    process: &'a Process,
    assignments: &Assignments,
) -> Vec<(&'a Socket, Standing)> {
    standings(process, Some(assignments))
}

fn standings<'a>(
    process: &'a Process,
    assignments: Option<&Assignments>,
) -> Vec<(&'a Socket, Standing)> {
    let is_mapped = !process.shims.mapped.is_empty();
    let rules = assignments
        .filter(|_| is_mapped)
        .and_then(|assignments| Some((assignments, assignments.check().ok()?)));
    let standing = |socket: &Socket| {
        let is_ephemeral = process.ephemeral.contains(&socket.address.port());
        // A server may well listen on a TCP port of that range: only under the
        // shim is the missing option a sign of the kernel's choice.
        let is_listener = socket.protocol == Protocol::Tcp && socket.is_listening;
        match socket.reuseport {
            Ok(true) => Standing::Has,
            Err(_) if is_ephemeral && !is_listener => Standing::Ephemeral,
            Err(why) => Standing::Hidden(why),
            Ok(false) => {
                let reason = rules
                    .as_ref()
                    .and_then(|(assignments, rules)| left_out(assignments, rules, process, socket));
                match reason {
                    Some(reason) => Standing::LeftOut(reason),
                    None if is_ephemeral && (is_mapped || !is_listener) => Standing::Ephemeral,
                    None if !socket.is_listening => Standing::Silent,
                    None => Standing::Lacks,
                }
            }
        }
    };
    let sockets = process.sockets.iter();
    sockets.map(|socket| (socket, standing(socket))).collect()
}

/// The rules that `process` was started with, as the shim reads them; `None`
/// where that cannot be known.
pub(super) fn rules(process: &Process) -> Option<Result<Rules, InvalidValue>> {
    let started = &process.started;
    if started.is_overwritten {
        return None;
    }
    Some(Assignments::from_environment(&started.environment).check())
}

/// Why `rules` leave `socket` alone, if they do.
fn left_out(
    assignments: &Assignments,
    rules: &Rules,
    process: &Process,
    socket: &Socket,
) -> Option<String> {
    let because = |variable: Variable| {
        let value = assignments.get(variable).unwrap_or_default().display();
        Some(format!("{}={value} leaves it out", variable.name()))
    };
    if rules.reuseport != Setting::Set {
        let variable = match assignments.get(Variable::Op) {
            Some(value) if !value.is_empty() => Variable::Op,
            _ => Variable::SoReuseport,
        };
        return because(variable);
    }
    if !rules.selects_port(socket.address.port()) {
        return because(Variable::Port);
    }
    let address = match socket.address.ip() {
        IpAddr::V4(address) => Address::from_ipv4(address.to_bits()),
        IpAddr::V6(address) => Address::from_ipv6(address.to_bits()),
    };
    if !rules.selects_address(|| address) {
        return because(Variable::Addr);
    }
    let protocol = i32::try_from(socket.protocol.number()).unwrap_or_default();
    if !rules.protocols.contains(protocol) {
        return because(Variable::Proto);
    }
    // The name by which the program was executed counts as well, and that is not
    // known here: a script's name, an applet's.
    let mut values = Values::default();
    let list = assignments.get(Variable::Program).unwrap_or_default();
    values.set_first(Variable::Program, list.as_bytes());
    let globs = Globs::of(&values).ok().flatten()?;
    let name = process.executable.path.file_name().unwrap_or_default();
    if globs.matches(name.as_bytes()) {
        return None;
    }
    because(Variable::Program)
}

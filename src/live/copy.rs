//! A copy: the server, and the process that keeps together whatever it starts.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{WaitOptions, getpid, set_child_subreaper, setsid, wait};
use serde::{Deserialize, Serialize};

use super::output::Output;
use super::{Refusal, bytes, isolation, pairs, stage};

/// The program of a copy, and what it is given.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) program: PathBuf,
    #[serde(with = "bytes")]
    pub(super) arguments: Vec<OsString>,
    /// The variables that it does not share with us. Others could read here what
    /// the environment keeps from them.
    #[serde(with = "pairs")]
    pub(super) environment: Vec<(OsString, OsString)>,
    /// Whether rights must be given up that only the trial has.
    pub(super) is_user: bool,
    pub(super) with_shim_output: bool,
}

/// A copy that was started.
#[derive(Debug)]
pub(super) struct Running {
    keeper: Child,
    output: Output,
    exit: Option<u8>,
}

impl Running {
    /// Starts a copy.
    ///
    /// # Errors
    /// There are no processes or descriptors left.
    pub(super) fn start(order: &Order) -> Result<Self, Refusal> {
        let failed = |error: io::Error| Refusal::new("a copy could not be started", &error);
        let text = serde_json::to_string(order).map_err(|error| failed(error.into()))?;
        let (reader, writer) = io::pipe().map_err(failed)?;
        let keeper = stage("copy", &text)
            .stdin(Stdio::null())
            .stdout(writer.try_clone().map_err(failed)?)
            .stderr(writer)
            .spawn()
            .map_err(failed)?;
        Ok(Self {
            keeper,
            output: Output::follow(reader, order.with_shim_output),
            exit: None,
        })
    }

    /// The process above all of the copy's.
    pub(super) fn keeper(&self) -> u32 {
        self.keeper.id()
    }

    pub(super) fn output(&self) -> &Output {
        &self.output
    }

    /// The exit status, once all processes of the copy have ended.
    pub(super) fn exit(&mut self) -> Option<u8> {
        if self.exit.is_none()
            && let Ok(Some(status)) = self.keeper.try_wait()
        {
            self.exit = Some(shell_status(status));
        }
        self.exit
    }
}

/// The exit status as a shell has it.
fn shell_status(status: ExitStatus) -> u8 {
    let signal = status.signal().map(|signal| 128 + signal);
    let code = status.code().or(signal).unwrap_or(255);
    u8::try_from(code).unwrap_or(255)
}

/// Starts the server of `order` and waits until it and whatever it started have
/// ended. Gives the server's exit status.
pub(super) fn keep(order: &str) -> u8 {
    match try_to_keep(order) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("{error}");
            127
        }
    }
}

fn try_to_keep(order: &str) -> io::Result<u8> {
    let order: Order = serde_json::from_str(order)?;
    // Servers that put themselves into the background come back to here.
    set_child_subreaper(Some(getpid()))?;
    // Away from the caller's terminal.
    setsid()?;
    if order.is_user {
        isolation::drop_capabilities()?;
    }
    let mut arguments = order.arguments.iter();
    let mut command = Command::new(&order.program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    let child = command
        .args(arguments)
        .envs(order.environment.iter().map(|(name, value)| (name, value)))
        .spawn()
        .map_err(|error| {
            let text = format!("{}: {error}", order.program.display());
            io::Error::new(error.kind(), text)
        })?;
    let server = child.id();
    let mut status = 0;
    while let Ok(found) = wait(WaitOptions::empty()) {
        let Some((pid, ended)) = found else {
            continue;
        };
        if u32::try_from(pid.as_raw_nonzero().get()) == Ok(server) {
            status = shell_status(ExitStatus::from_raw(ended.as_raw()));
        }
    }
    Ok(status)
}

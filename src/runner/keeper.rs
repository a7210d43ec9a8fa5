//! The keeper of a copy: the process above all that the copy starts.
//!
//! What loses its parent comes back to the keeper, whatever session it has made,
//! and when the runner ends, by any means, the other end of the keeper's standard
//! input closes and it kills them all. Through that socket it is told what to do, a
//! line each, and says what happens.

#![allow(unsafe_code, reason = "prctl(2) between fork and exec")]

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper,
    set_parent_process_death_signal, wait,
};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::{Deserialize, Serialize};

use crate::live::{bytes, pairs};
use crate::process;

const PROC: &str = "/proc";

/// The name that this program goes by as a keeper.
pub(super) const NAME: &str = "reuseport: keeper";
pub(super) const STEP: &str = "keep";

/// The program of a copy, and what it is given.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) program: PathBuf,
    #[serde(with = "bytes")]
    pub(super) arguments: Vec<OsString>,
    /// The variables that it does not share with us.
    #[serde(with = "pairs")]
    pub(super) environment: Vec<(OsString, OsString)>,
    /// Those of ours that it is not to have.
    pub(super) removed: Vec<String>,
    /// The only CPU that it is to run on.
    pub(super) cpu: Option<usize>,
}

/// Acts as a keeper where `arguments` say so, and gives the exit status.
pub fn enter(arguments: &[OsString]) -> Option<u8> {
    match arguments {
        [name, step] if name == NAME && step == STEP => Some(match keep() {
            Ok(()) => 0,
            Err(_) => 1,
        }),
        _ => None,
    }
}

/// How long to wait until those who were killed are looked for again.
const AGAIN: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 20_000_000,
};

struct Keeper {
    runner: UnixStream,
    /// What the runner has said, up to the end of a line.
    heard: Vec<u8>,
    server: Pid,
    /// How the server has ended, once it has.
    status: Option<ExitStatus>,
    /// Whether it has left others, which is to be said.
    is_left: bool,
    /// The signal by which the copy is to end, and who has had it.
    stop: Option<(Signal, BTreeSet<u32>)>,
    is_killing: bool,
}

fn keep() -> io::Result<()> {
    set_child_subreaper(Some(getpid()))?;
    let (children, on_child) = UnixStream::pair()?;
    children.set_nonblocking(true)?;
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGCHLD, on_child)?;
    let mut runner = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut heard = Vec::new();
    let order = loop {
        if let Some(line) = line(&mut heard) {
            break line;
        }
        if hear(&mut runner, &mut heard)? == 0 {
            return Ok(());
        }
    };
    let order: Order = serde_json::from_slice(&order)?;
    let server = match start(&order) {
        Ok(server) => server,
        Err(error) => {
            let _ = writeln!(runner, "failed {}: {error}", order.program.display());
            return Ok(());
        }
    };
    writeln!(runner, "started {}", server.as_raw_nonzero())?;
    let mut keeper = Keeper {
        runner,
        heard,
        server,
        status: None,
        is_left: false,
        stop: None,
        is_killing: false,
    };
    keeper.run(children)
}

fn start(order: &Order) -> io::Result<Pid> {
    if let Some(cpu) = order.cpu {
        let mut set = CpuSet::new();
        set.set(cpu);
        sched_setaffinity(None, &set)?;
    }
    let mut arguments = order.arguments.iter();
    let mut command = Command::new(&order.program);
    command
        .arg0(arguments.next().map_or(OsStr::new(""), OsString::as_os_str))
        .args(arguments)
        .stdin(Stdio::null())
        .process_group(0);
    for name in &order.removed {
        command.env_remove(name);
    }
    let environment = order.environment.iter();
    command.envs(environment.map(|(name, value)| (name, value)));
    // Where this process is killed at the same moment as the runner; it does not
    // reach who the server starts.
    let die_with_keeper = || Ok(set_parent_process_death_signal(Some(Signal::KILL))?);
    // SAFETY: prctl(2) alone is called between fork and exec.
    unsafe { command.pre_exec(die_with_keeper) };
    let child = command.spawn()?;
    Ok(Pid::from_child(&child))
}

/// Takes a line out of what was heard.
fn line(heard: &mut Vec<u8>) -> Option<Vec<u8>> {
    let end = heard.iter().position(|byte| *byte == b'\n')?;
    let mut line: Vec<u8> = heard.drain(..=end).collect();
    line.pop();
    Some(line)
}

fn hear(from: &mut UnixStream, heard: &mut Vec<u8>) -> io::Result<usize> {
    let mut buffer = [0; 4096];
    let length = from.read(&mut buffer)?;
    heard.extend(&buffer[..length]);
    Ok(length)
}

impl Keeper {
    fn run(&mut self, mut children: UnixStream) -> io::Result<()> {
        loop {
            let mut fds = [
                PollFd::new(&self.runner, PollFlags::IN),
                PollFd::new(&children, PollFlags::IN),
            ];
            // Once it is to kill there is nothing more to hear.
            let (used, limit) = if self.is_killing {
                (&mut fds[1..], Some(AGAIN))
            } else {
                (&mut fds[..], None)
            };
            match poll(used, limit.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let [runner, child] = fds.map(|one| !one.revents().is_empty());
            if runner
                && !self.is_killing
                && hear(&mut self.runner, &mut self.heard).unwrap_or(0) == 0
            {
                // Nobody is there who could want the copy.
                self.is_killing = true;
            }
            while let Some(line) = line(&mut self.heard) {
                self.obey(&line);
            }
            if child {
                let _ = children.read(&mut [0; 64]);
            }
            if self.reap() {
                let status = self.status.unwrap_or_default();
                let signal = status.signal().unwrap_or(0);
                let _ = writeln!(self.runner, "gone {} {signal}", shell_status(status));
                return Ok(());
            }
            if self.is_killing {
                for one in process::below(Path::new(PROC), own_id())? {
                    signal(one.pid, Signal::KILL);
                }
            } else {
                self.pass_on();
            }
        }
    }

    fn obey(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        match line.split_once(' ') {
            Some(("stop", number)) => {
                let signal = number.parse().ok().and_then(Signal::from_named_raw);
                self.stop = Some((signal.unwrap_or(Signal::TERM), BTreeSet::new()));
            }
            _ => self.is_killing = true,
        }
    }

    /// Collects who has ended; whether that was the last one.
    fn reap(&mut self) -> bool {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.server => {
                    let status = ExitStatus::from_raw(status.as_raw());
                    self.status = Some(status);
                    // A server that goes into the background leaves with 0; when it
                    // dies otherwise, what is left of it is of no use.
                    self.is_left = status.success() && self.stop.is_none();
                    self.is_killing |= !status.success() && self.stop.is_none();
                }
                Ok(Some(_)) => {}
                Ok(None) => {
                    if std::mem::take(&mut self.is_left) {
                        let _ = writeln!(self.runner, "background");
                    }
                    return false;
                }
                Err(_) => return true,
            }
        }
    }

    /// Tells the copy to end: the server, and in its absence those it has left.
    fn pass_on(&mut self) {
        let Some((number, told)) = &mut self.stop else {
            return;
        };
        let all = process::below(Path::new(PROC), own_id()).unwrap_or_default();
        for one in all.iter().filter(|one| one.parent == own_id()) {
            if told.insert(one.pid) {
                signal(one.pid, *number);
            }
        }
    }
}

fn own_id() -> u32 {
    std::process::id()
}

/// One that has ended meanwhile needs no signal.
fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let _ = pid.map(|pid| kill_process(pid, signal));
}

/// The exit status as a shell has it.
fn shell_status(status: ExitStatus) -> u8 {
    let signal = status.signal().map(|signal| 128 + signal);
    let code = status.code().or(signal).unwrap_or(255);
    u8::try_from(code).unwrap_or(255)
}

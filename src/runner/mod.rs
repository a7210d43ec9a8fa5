//! The runner: several copies of a server on one port, started again when they end,
//! and replaced one after another without a connection being refused or reset.
//!
//! Each copy has a keeper ([`keeper`]), this program again, under which all its
//! processes stay together. The copy's listening sockets are handed to the runner by
//! the shim ([`handoff`]), or fetched from its processes. Through them the runner
//! steers new connections: a program on the group ([`program`]) chooses among
//! members by their number, which is why the group's order is followed exactly
//! ([`group`]). Everything happens in one thread, between two calls of poll(2).

mod accepts;
mod attach;
mod client;
mod control;
mod copy;
mod drain;
mod endpoint;
mod ends;
mod event;
mod group;
mod handoff;
mod keeper;
mod metrics;
mod notify;
mod orphans;
mod output;
mod peer;
mod pid_file;
mod probe;
mod program;
mod roll;
mod scale;
mod signals;
mod slots;
mod state;
mod steering;
mod supervisor;
mod taken;
mod terminal;
mod witness;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use rustix::thread::CpuSet;
use thiserror::Error;

use crate::rules::Rules;

pub use client::{Answer, Request, Runner, ask, find, processes, runners};
pub use endpoint::Address as MetricsAddress;
pub use event::Event;
pub use keeper::enter;
pub use program::Steer;
pub use supervisor::run;
pub use taken::{Taken, taken};

/// The most copies of a runner.
pub const MOST_COPIES: usize = 1024;

/// What is to be run, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The file that is executed.
    pub program: PathBuf,
    /// Its arguments, the first of which is its own name.
    pub arguments: Vec<OsString>,
    /// Variables that are set for it, beside those of this process.
    pub environment: Vec<(OsString, OsString)>,
    /// How many copies there are to be.
    pub copies: usize,
    /// The name by which the runner is spoken to.
    pub name: String,
    pub ready: Ready,
    /// How long a copy may take until it is ready.
    pub ready_timeout: Duration,
    /// The signal by which a copy is asked to end.
    pub stop_signal: Signal,
    /// How long a copy may take to end then.
    pub kill_after: Duration,
    /// How long a copy's connections are waited for, once it gets no new ones.
    pub drain_timeout: Duration,
    /// How many restarts, in what time, are too many.
    pub max_restarts: Option<(u32, Duration)>,
    /// Whether a copy is stopped before its replacement is started.
    pub stop_first: bool,
    pub steer: Steer,
    /// The CPUs that copies are kept on, one each by the number of the slot; none
    /// where the kernel chooses.
    pub cpus: Vec<usize>,
    /// Which of the copies' sockets get the option, by their own environment.
    pub rules: Rules,
    /// Whether each line of the copies' output gets its slot's number.
    pub prefix: bool,
    /// A file that is to hold this process's id.
    pub pid_file: Option<PathBuf>,
    /// Where metrics are served.
    pub metrics: Option<MetricsAddress>,
}

impl Plan {
    /// The CPU of the copies of the slot `number`, where they have one.
    fn cpu(&self, number: usize) -> Option<usize> {
        self.cpus.get(number).copied()
    }

    /// The most copies that there may be.
    pub fn most(&self) -> usize {
        match self.cpus.len() {
            0 => MOST_COPIES,
            count => count,
        }
    }
}

/// The CPUs that this process may use, in ascending order.
///
/// # Errors
/// The kernel does not say: there are more than 1,024.
pub fn cpus() -> io::Result<Vec<usize>> {
    let set = rustix::thread::sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|cpu| set.is_set(*cpu))
        .collect())
}

/// When a copy is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ready {
    /// When it listens.
    Listen,
    /// When it answers this path with a status below 400.
    Http(String),
    /// When it says so, see sd_notify(3).
    Notify,
}

/// Why nothing was started, or could not go on.
#[derive(Debug, Error)]
pub enum Error {
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    #[error("a runner of the name {0} is there; give another one: --name")]
    NameTaken(String),
    #[error("{0}: no place for a control socket that belongs to this user alone")]
    NoDirectory(PathBuf),
}

impl Error {
    fn io(what: &str, source: impl Into<io::Error>) -> Self {
        Self::Io {
            what: what.to_owned(),
            source: source.into(),
        }
    }
}

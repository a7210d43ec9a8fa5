//! A trial: a server started twice under the shim, cut off from the machine, and
//! watched.
//!
//! It takes three kinds of processes beside the caller, all of them this program
//! again ([`enter`]): one that leaves the caller's namespaces, one that is the
//! first process (process 1) of the new ones and conducts the trial, and one for
//! each copy, to which whatever the copy starts comes back. When the caller ends,
//! by whatever signal, the first two follow it, and with process 1 the kernel ends
//! everything that was started and unmounts everything that was mounted.

mod conduct;
mod copy;
mod files;
mod isolation;
mod judge;
mod netlink;
mod output;
mod stage;
mod traffic;
mod watch;

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use judge::judge;
pub use stage::enter;

/// What is to be tried.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The file that is executed.
    pub program: PathBuf,
    /// Its arguments, the first of which is its own name.
    #[serde(with = "bytes")]
    pub arguments: Vec<OsString>,
    /// Variables that are set for it, beside those of this process.
    #[serde(with = "pairs")]
    pub environment: Vec<(OsString, OsString)>,
    /// Libraries that must be loaded before the shim.
    #[serde(with = "bytes")]
    pub first: Vec<OsString>,
    pub shim: ShimSource,
    /// How long both copies may take until they listen.
    pub timeout: Duration,
}

/// Where the copies find the shim.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ShimSource {
    /// The shim of this architecture, written where only the copies see it: they
    /// run over an overlay of the machine's files.
    Isolated(String),
    /// A file of the machine. The copies run on the machine's own files.
    Host(PathBuf),
}

impl Plan {
    fn is_isolated(&self) -> bool {
        matches!(self.shim, ShimSource::Isolated(_))
    }
}

/// What a trial has shown.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// The first copy and, where that came so far that it could be started, the
    /// second.
    pub copies: Vec<Copy>,
    /// What came to the addresses that both copies have.
    pub traffic: Vec<Traffic>,
    /// To how many such addresses nothing was sent: there were too many, or the
    /// time was over.
    pub unreached: usize,
    /// What could not be made as on the machine.
    pub notes: Vec<String>,
}

/// One of the two.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Copy {
    /// The exit status where it ended by itself, as a shell has it: 128 and the
    /// signal's number where it was a signal.
    pub exit: Option<u8>,
    pub sockets: Vec<Socket>,
    /// The binds that failed, as the shim tells of them.
    pub failures: Vec<Failure>,
    /// The last lines of its output, without the shim's own.
    pub output: Vec<String>,
}

/// A bind(2) that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The address, as the shim writes it.
    pub address: String,
    /// The error's name.
    pub error: String,
}

/// A socket of a copy that takes what comes to an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Socket {
    pub protocol: String,
    pub address: SocketAddr,
    pub state: State,
}

/// What became of a socket's bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The option is set, and the shim is there.
    Hooked,
    /// The option is set, and no shim is there: the program does it itself.
    SetsItself,
    /// The rules ask for the option, and it is not set.
    Bypassed,
    /// The rules leave the socket out.
    OutsideRules,
    /// The option could not be read.
    Unknown,
}

/// The connections or datagrams that were sent to one address, and who got them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    pub protocol: String,
    pub address: SocketAddr,
    /// By copy.
    pub counts: [u32; 2],
    /// What neither got.
    pub lost: u32,
    /// Whether each copy took what had come, by copy.
    pub taken: [bool; 2],
}

/// Why there was no trial.
#[derive(Clone, Debug, Error, Serialize, Deserialize)]
#[error("{what}: {error}")]
pub struct Refusal {
    /// What could not be done.
    pub what: String,
    /// Why.
    pub error: String,
    /// What to do about it.
    pub hint: String,
}

impl Refusal {
    fn new(what: &str, error: &dyn fmt::Display) -> Self {
        Self {
            what: what.to_owned(),
            error: error.to_string(),
            hint: String::new(),
        }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }
}

/// What the processes of a trial say at their end.
type Outcome = Result<Report, Refusal>;

/// The name that this program goes by in the processes of a trial.
const STAGE_NAME: &str = "reuseport: check --live";

/// A process of this program that is to do `step` of `order`. It reads that from
/// its standard input: the kernel limits the length of an argument, and others
/// could read it there.
fn stage(step: &str, order: &impl Serialize) -> io::Result<Command> {
    let create = |more| memfd_create("order", MemfdFlags::CLOEXEC | more);
    // Before Linux 6.3 there is no such flag, later it may be demanded.
    let file = create(MemfdFlags::NOEXEC_SEAL).or_else(|_| create(MemfdFlags::empty()));
    let mut file = File::from(file?);
    file.write_all(&serde_json::to_vec(order)?)?;
    file.rewind()?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0(STAGE_NAME).arg(step).stdin(file);
    Ok(command)
}

/// How long the trial may take beyond its own limit: for mounting, for traffic
/// and for ending the copies.
const SLACK: Duration = Duration::from_secs(30);

/// Longer than any report.
const LONGEST: u64 = 16 << 20;

/// Tries `plan`.
///
/// # Errors
/// The copies could not be started apart from the machine.
pub fn run(plan: &Plan) -> Result<Report, Refusal> {
    let failed = |error: &dyn fmt::Display| Refusal::new("the trial could not be started", error);
    // As long as this end of its standard output is open, the trial may go on.
    let mut child = stage("leave", plan)
        .map_err(|error| failed(&error))?
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(&error).hint("/proc must be mounted"))?;
    let outcome = outcome(&mut child, plan.timeout.saturating_add(SLACK));
    // Where it is still there, it has nothing more to say; its end is the end
    // of all.
    let _ = child.kill();
    let _ = child.wait();
    outcome
}

fn outcome(child: &mut Child, limit: Duration) -> Outcome {
    let (sender, receiver) = mpsc::channel();
    let stdout = child.stdout.take();
    thread::spawn(move || {
        let mut text = Vec::new();
        let read = stdout.map(|stdout| stdout.take(LONGEST).read_to_end(&mut text));
        let _ = sender.send(read.unwrap_or(Ok(0)).map(|_| text));
    });
    let what = "the trial gave no result";
    match receiver.recv_timeout(limit) {
        Ok(Ok(text)) => {
            serde_json::from_slice(&text).unwrap_or_else(|error| Err(Refusal::new(what, &error)))
        }
        Ok(Err(error)) => Err(Refusal::new(what, &error)),
        Err(RecvTimeoutError::Timeout) => Err(Refusal::new(
            what,
            &io::Error::from(io::ErrorKind::TimedOut),
        )),
        Err(RecvTimeoutError::Disconnected) => Err(Refusal::new(what, &"it ended")),
    }
}

/// Strings of the system as JSON: any bytes are allowed in them.
pub(crate) mod bytes {
    use super::{OsString, OsStringExt};
    use serde::{Deserialize, Deserializer, Serializer};
    use std::os::unix::ffi::OsStrExt;

    pub(crate) fn serialize<S: Serializer>(list: &[OsString], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(list.iter().map(|one| one.as_bytes()))
    }

    pub(crate) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Vec<OsString>, D::Error> {
        let list = Vec::<Vec<u8>>::deserialize(from)?;
        Ok(list.into_iter().map(OsString::from_vec).collect())
    }
}

/// Pairs of such strings.
pub(crate) mod pairs {
    use super::OsString;
    use serde::{Deserializer, Serializer};

    type Pairs = Vec<(OsString, OsString)>;

    pub(crate) fn serialize<S: Serializer>(
        list: &[(OsString, OsString)],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        let flat: Vec<OsString> = list
            .iter()
            .flat_map(|(name, value)| [name.clone(), value.clone()])
            .collect();
        super::bytes::serialize(&flat, to)
    }

    pub(crate) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Pairs, D::Error> {
        let mut flat = super::bytes::deserialize(from)?.into_iter();
        Ok(std::iter::from_fn(|| Some((flat.next()?, flat.next()?))).collect())
    }
}

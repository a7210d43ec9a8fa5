//! A copy, as the runner sees it.

use std::fmt;
use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::accepts::{Counter, Pages};
use super::drain::Drain;
use super::group::Key;
use super::handoff::{self, Door};
use super::probe::Probe;
use super::{Plan, Ready, keeper, notify, output};

/// How long a keeper may take to kill all that is below it.
const KEEPER: Duration = Duration::from_secs(3);

/// A listening TCP socket of a copy.
#[derive(Debug)]
pub(super) struct Held {
    /// Until it is let go, so that it goes when the copy closes it.
    pub(super) fd: Option<OwnedFd>,
    pub(super) inode: u64,
    pub(super) key: Key,
    /// Where what it gives is counted, if that is known.
    pub(super) accepts: Option<Counter>,
}

impl Held {
    /// How many connections it gave, where that is counted.
    pub(super) fn accepted(&self) -> Option<u64> {
        self.accepts.as_ref()?.read()
    }
}

/// What a copy is about.
#[derive(Debug)]
pub(super) enum Phase {
    /// It is to be ready by then.
    Starting(Instant),
    Serving,
    /// It gets no new connections, and finishes those that it has.
    Leaving(Drain),
    /// It was told to end, and is killed then.
    Stopping(Instant),
    /// Its keeper was told to kill it, and is killed itself then.
    Killed(Instant),
}

impl Phase {
    pub(super) const NAMES: [&str; 5] = ["starting", "serving", "draining", "stopping", "killed"];

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Starting(_) => "starting",
            Self::Serving => "serving",
            Self::Leaving(_) => "draining",
            Self::Stopping(_) => "stopping",
            Self::Killed(_) => "killed",
        }
    }
}

/// What a keeper says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Word {
    Started(u32),
    Failed(String),
    Background,
    Gone(End),
    /// The keeper has ended, and has not said why.
    Lost,
}

/// How a server has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// Its exit status, as a shell has it.
    pub(super) status: u8,
    /// The signal that ended it, if one did.
    pub(super) signal: Option<i32>,
}

impl End {
    pub(super) fn of_status(status: u8) -> Self {
        Self {
            status,
            signal: None,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.signal {
            None => write!(f, "ended with status {}", self.status),
            Some(signal) => match signal_hook::low_level::signal_name(signal) {
                Some(name) => write!(f, "was ended by {name}"),
                None => write!(f, "was ended by signal {signal}"),
            },
        }
    }
}

#[derive(Debug)]
pub(super) struct Copy {
    /// Which of all copies that the runner has started.
    pub(super) generation: u64,
    pub(super) slot: usize,
    /// The process above all of the copy's.
    pub(super) keeper: u32,
    control: UnixStream,
    heard: Vec<u8>,
    pub(super) server: Option<u32>,
    pub(super) door: Door,
    pub(super) notify: Option<UnixDatagram>,
    pub(super) phase: Phase,
    pub(super) started: Instant,
    pub(super) held: Vec<Held>,
    pub(super) pages: Pages,
    /// Its datagram sockets, which are not held, by inode.
    pub(super) datagrams: Vec<(u64, Key)>,
    /// When the first of its sockets came, and the last.
    pub(super) came: Option<(Instant, Instant)>,
    /// Whether it has said that it is ready.
    pub(super) has_notified: bool,
    /// A port that it listens on without SO_REUSEPORT.
    pub(super) alone: Option<std::net::SocketAddr>,
    /// A request to it that is under way.
    pub(super) probe: Option<Probe>,
    /// Why it is to end, where it failed.
    pub(super) failure: Option<String>,
}

impl Copy {
    /// Starts a copy that fills the slot `slot`.
    pub(super) fn start(plan: &Plan, generation: u64, slot: usize) -> io::Result<Self> {
        let door = Door::open()?;
        let mut environment = plan.environment.clone();
        environment.push(("REUSEPORT_SLOT".into(), slot.to_string().into()));
        environment.push((handoff::VARIABLE.into(), door.value().into()));
        let notify = match plan.ready {
            Ready::Notify => {
                let (socket, value) = notify::door()?;
                environment.push((notify::VARIABLE.into(), value.into()));
                Some(socket)
            }
            _ => None,
        };
        let order = keeper::Order {
            program: plan.program.clone(),
            arguments: plan.arguments.clone(),
            environment,
            removed: notify::OWN.map(str::to_owned).to_vec(),
            cpu: plan.cpu(slot),
        };
        let (mut control, theirs) = UnixStream::pair()?;
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0(keeper::NAME)
            .arg(keeper::STEP)
            .stdin(OwnedFd::from(theirs))
            .process_group(0);
        if plan.prefix {
            let (reader, writer) = io::pipe()?;
            command.stdout(writer);
            output::pass_on(reader, slot, io::stdout());
            let (reader, writer) = io::pipe()?;
            command.stderr(writer);
            output::pass_on(reader, slot, io::stderr());
        } else {
            command.stdout(Stdio::inherit()).stderr(Stdio::inherit());
        }
        let child = command.spawn()?;
        drop(command);
        let mut text = serde_json::to_vec(&order)?;
        text.push(b'\n');
        control.write_all(&text)?;
        control.set_nonblocking(true)?;
        Ok(Self {
            generation,
            slot,
            keeper: child.id(),
            control,
            heard: Vec::new(),
            server: None,
            door,
            notify,
            phase: Phase::Starting(Instant::now() + plan.ready_timeout),
            started: Instant::now(),
            held: Vec::new(),
            pages: Pages::default(),
            datagrams: Vec::new(),
            came: None,
            has_notified: false,
            alone: None,
            probe: None,
            failure: None,
        })
    }

    pub(super) fn control(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    /// All sockets that it is known to have.
    pub(super) fn inodes(&self) -> impl Iterator<Item = u64> {
        let held = self.held.iter().map(|one| one.inode);
        held.chain(self.datagrams.iter().map(|(inode, _)| *inode))
    }

    /// How many connections its socket `inode` gave, where that is counted.
    pub(super) fn accepted(&self, inode: u64) -> Option<u64> {
        self.held.iter().find(|one| one.inode == inode)?.accepted()
    }

    /// The addresses of all its sockets.
    pub(super) fn keys(&self) -> Vec<Key> {
        let held = self.held.iter().map(|one| one.key);
        held.chain(self.datagrams.iter().map(|(_, key)| *key))
            .collect()
    }

    pub(super) fn is_serving(&self) -> bool {
        matches!(self.phase, Phase::Serving)
    }

    pub(super) fn is_starting(&self) -> bool {
        matches!(self.phase, Phase::Starting(_))
    }

    /// What its keeper has said since.
    pub(super) fn words(&mut self) -> Vec<Word> {
        let mut words = Vec::new();
        let mut is_over = false;
        let mut buffer = [0; 4096];
        loop {
            match self.control.read(&mut buffer) {
                Ok(0) => is_over = true,
                Ok(length) => {
                    self.heard.extend(&buffer[..length]);
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => is_over |= error.kind() != io::ErrorKind::WouldBlock,
            }
            break;
        }
        while let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.heard.drain(..=end).collect();
            words.extend(word(String::from_utf8_lossy(&line).trim_end()));
        }
        if is_over && !words.iter().any(|one| matches!(one, Word::Gone(_))) {
            words.push(Word::Lost);
        }
        words
    }

    /// Tells the copy to end, and kills it where it does not within `patience`.
    pub(super) fn stop(&mut self, signal: i32, patience: Duration) {
        self.say(&format!("stop {signal}"));
        self.phase = Phase::Stopping(Instant::now() + patience);
    }

    pub(super) fn kill(&mut self) {
        self.say("kill");
        self.phase = Phase::Killed(Instant::now() + KEEPER);
    }

    /// Kills the keeper, which is stopped, or cannot kill who waits for a device: what it
    /// leaves comes to us.
    pub(super) fn kill_keeper(&mut self) {
        let pid = i32::try_from(self.keeper).ok().and_then(Pid::from_raw);
        let _ = pid.map(|pid| kill_process(pid, Signal::KILL));
        self.phase = Phase::Killed(Instant::now() + KEEPER);
    }

    /// A keeper that does not hear any more has ended, or soon will.
    fn say(&mut self, text: &str) {
        let line = format!("{text}\n");
        let _ = self
            .control
            .write_vectored(&[IoSlice::new(line.as_bytes())]);
    }
}

fn word(line: &str) -> Option<Word> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    match word {
        "started" => Some(Word::Started(rest.parse().ok()?)),
        "failed" => Some(Word::Failed(rest.to_owned())),
        "background" => Some(Word::Background),
        "gone" => {
            let (status, signal) = rest.split_once(' ')?;
            Some(Word::Gone(End {
                status: status.parse().ok()?,
                signal: signal.parse().ok().filter(|signal| *signal != 0),
            }))
        }
        _ => None,
    }
}

/// Whether the kernel gives waiting connections of a socket that goes to others.
pub(super) fn migrates() -> bool {
    let mut text = String::new();
    let file = File::open("/proc/sys/net/ipv4/tcp_migrate_req");
    let read = file.and_then(|mut file| file.read_to_string(&mut text));
    read.is_ok() && text.trim() == "1"
}

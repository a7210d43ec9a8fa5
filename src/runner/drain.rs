//! When a copy that gets no new connections has finished those that it has.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::process::{self, Protocol};
use crate::sockets::{self, Connection, State};

const PROC: &str = "/proc";

/// How often a copy that is to finish is looked at.
pub(super) const PAUSE: Duration = Duration::from_millis(20);

/// How often in a row nothing may be found: between two looks a connection that was
/// accepted comes into the hands of a process.
const QUIET: u8 = 2;

/// How many looks more a thread that wants a processor is waited for: between two of
/// its instructions, a connection is neither in the queue nor in the process's hands.
/// Half a second: some servers have threads that never rest.
const RESTLESS: u8 = 25;

/// A copy that finishes its connections.
#[derive(Debug)]
pub(super) struct Drain {
    /// When it is waited for no longer.
    deadline: Instant,
    next: Instant,
    /// What was under way when new connections were steered away.
    before: Option<Before>,
    quiet: u8,
    restless: u8,
}

/// Connections to the copy's ports, of any copy, by their ends.
#[derive(Debug)]
struct Before {
    /// Those that are still under way.
    handshakes: BTreeSet<(SocketAddr, SocketAddr)>,
    /// All of them, and what was open.
    all: BTreeSet<(SocketAddr, SocketAddr)>,
}

/// What a look has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Look again then.
    Wait(Instant),
    /// It has finished.
    Quiet,
    /// The time is over: so many connections are left, or at most so many.
    Late { left: usize, is_exact: bool },
}

impl Drain {
    /// Begins when new connections are steered away.
    pub(super) fn new(limit: Duration) -> Self {
        let now = Instant::now();
        Self {
            deadline: now + limit,
            // What was being chosen by the program before has been chosen then.
            next: now + PAUSE / 2,
            before: None,
            quiet: 0,
            restless: 0,
        }
    }

    /// Looks at the copy below `keeper` that has the listeners `inodes` at `ports`, and
    /// may get new connections.
    pub(super) fn look(
        &mut self,
        keeper: u32,
        ports: &[u16],
        inodes: &[u64],
        gets_new: bool,
    ) -> Look {
        let now = Instant::now();
        if now < self.next {
            return Look::Wait(self.next);
        }
        self.next = now + PAUSE;
        // Before all else: whoever takes a connection out of the queue after this is
        // seen to have it, or is seen again.
        let pids = pids(keeper);
        let is_restless = self.restless < RESTLESS
            && pids
                .iter()
                .any(|pid| process::is_running(PROC.as_ref(), *pid));
        // What cannot be known is not waited for, but until the deadline.
        let own = sockets_of(&pids);
        let left = self.left(&own, ports, inodes, gets_new).unwrap_or(1);
        self.restless += u8::from(left == 0 && is_restless);
        self.quiet = if left == 0 && !is_restless {
            self.quiet + 1
        } else {
            0
        };
        if self.quiet >= QUIET {
            return Look::Quiet;
        }
        if now >= self.deadline {
            let is_exact = own.is_complete;
            return Look::Late { left, is_exact };
        }
        Look::Wait(self.next)
    }

    /// How many connections the copy has or may get yet.
    fn left(
        &mut self,
        own: &Own,
        ports: &[u16],
        inodes: &[u64],
        gets_new: bool,
    ) -> io::Result<usize> {
        let mut handshakes = BTreeSet::new();
        let mut open = Vec::new();
        for port in ports {
            let found = sockets::connections(*port, &[State::SynReceived])?;
            handshakes.extend(found.iter().map(ends));
            open.extend(sockets::connections(
                *port,
                &[State::Established, State::CloseWait],
            )?);
        }
        let before = self.before.get_or_insert_with(|| Before {
            handshakes: handshakes.clone(),
            all: open.iter().map(ends).chain(handshakes.clone()).collect(),
        });
        before.handshakes.retain(|one| handshakes.contains(one));
        let waiting: usize = sockets::listeners(Protocol::Tcp)?
            .iter()
            .filter(|one| inodes.contains(&one.inode))
            .map(|one| one.queue as usize)
            .sum();
        let is_held = |one: &&Connection| {
            own.inodes.contains(&one.inode)
                // Whose these are is not seen; where no new ones come, none that came
                // since is the copy's.
                || (!own.is_complete && (gets_new || before.all.contains(&ends(one))))
        };
        let held = open.iter().filter(is_held).count();
        Ok(before.handshakes.len() + waiting + held)
    }
}

fn ends(connection: &Connection) -> (SocketAddr, SocketAddr) {
    (connection.local, connection.remote)
}

/// The sockets that processes have.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) inodes: HashSet<u64>,
    /// Whether all processes have shown theirs: those of another user, or that are not
    /// dumpable, need CAP_SYS_PTRACE, see proc(5).
    pub(super) is_complete: bool,
}

/// The sockets that the processes below `keeper` have.
pub(super) fn own_sockets(keeper: u32) -> Own {
    sockets_of(&pids(keeper))
}

fn sockets_of(pids: &[u32]) -> Own {
    let mut own = Own {
        inodes: HashSet::new(),
        // Where there seems to be none, it is hidden, see hidepid in proc(5).
        is_complete: !pids.is_empty(),
    };
    for pid in pids {
        match process::socket_descriptors(PROC.as_ref(), *pid) {
            Ok(found) => own.inodes.extend(found.into_keys()),
            Err(error) => own.is_complete &= has_ended(&error),
        }
    }
    own
}

/// Whether the process is gone of which nothing could be read.
fn has_ended(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}

/// The processes below `keeper`.
fn pids(keeper: u32) -> Vec<u32> {
    let all = process::below(PROC.as_ref(), keeper).unwrap_or_default();
    all.iter().map(|one| one.pid).collect()
}

//! When a copy that gets no new connections has finished those that it has.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::process::{self, Protocol};
use crate::sockets::{self, State};

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
    /// The handshakes that were under way when new connections were steered away.
    handshakes: Option<BTreeSet<(SocketAddr, SocketAddr)>>,
    quiet: u8,
    restless: u8,
}

/// What a look has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Look again then.
    Wait(Instant),
    /// It has finished.
    Quiet,
    /// The time is over: so many connections are left.
    Late(usize),
}

impl Drain {
    /// Begins when new connections are steered away.
    pub(super) fn new(limit: Duration) -> Self {
        let now = Instant::now();
        Self {
            deadline: now + limit,
            // What was being chosen by the program before has been chosen then.
            next: now + PAUSE / 2,
            handshakes: None,
            quiet: 0,
            restless: 0,
        }
    }

    /// Looks at the copy below `keeper` that has the listeners `inodes` at `ports`.
    pub(super) fn look(&mut self, keeper: u32, ports: &[u16], inodes: &[u64]) -> Look {
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
        let left = self.left(&pids, ports, inodes).unwrap_or(1);
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
            return Look::Late(left);
        }
        Look::Wait(self.next)
    }

    /// How many connections the copy has or may get yet.
    fn left(&mut self, pids: &[u32], ports: &[u16], inodes: &[u64]) -> io::Result<usize> {
        let mut under_way = BTreeSet::new();
        for port in ports {
            let found = sockets::connections(*port, &[State::SynReceived])?;
            under_way.extend(found.iter().map(|one| (one.local, one.remote)));
        }
        let handshakes = self.handshakes.get_or_insert_with(|| under_way.clone());
        handshakes.retain(|one| under_way.contains(one));
        let handshakes = handshakes.len();
        let waiting: usize = sockets::listeners(Protocol::Tcp)?
            .iter()
            .filter(|one| inodes.contains(&one.inode))
            .map(|one| one.queue as usize)
            .sum();
        let own = sockets_of(pids);
        let mut held = 0;
        for port in ports {
            const OPEN: [State; 2] = [State::Established, State::CloseWait];
            let all = sockets::connections(*port, &OPEN)?;
            held += all.iter().filter(|one| own.contains(&one.inode)).count();
        }
        Ok(handshakes + waiting + held)
    }
}

/// The inodes of the sockets that the processes below `keeper` have.
pub(super) fn own_sockets(keeper: u32) -> HashSet<u64> {
    sockets_of(&pids(keeper))
}

fn sockets_of(pids: &[u32]) -> HashSet<u64> {
    let all = pids.iter();
    all.filter_map(|pid| process::socket_descriptors(PROC.as_ref(), *pid).ok())
        .flat_map(std::collections::BTreeMap::into_keys)
        .collect()
}

/// The processes below `keeper`.
fn pids(keeper: u32) -> Vec<u32> {
    let all = process::below(PROC.as_ref(), keeper).unwrap_or_default();
    all.iter().map(|one| one.pid).collect()
}

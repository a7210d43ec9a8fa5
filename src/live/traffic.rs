//! Connections and datagrams, and which copy gets them.
//!
//! The copies are stopped while these come, so that what each got waits in its
//! queues and can be counted, whatever the server does with it; then they go on,
//! and must take it.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::watch;
use super::{Socket, State, Traffic};
use crate::process::Protocol;

/// How many connections or datagrams are sent to each address.
const COUNT: u32 = 200;

/// To how many addresses.
const MOST_ADDRESSES: usize = 16;

/// How long one connection may take: it is made by the kernel alone, at once,
/// unless the queue is full.
const CONNECT: Duration = Duration::from_millis(200);

/// How long the copies may take for what waits.
const TAKE: Duration = Duration::from_millis(500);

/// What is sent: the header of a DNS message with no question, which is no
/// sensible message in any protocol that we know.
const DATAGRAM: [u8; 12] = [0; 12];

/// Sends traffic to the addresses that both copies have under the option, until
/// `deadline`. `keepers` are the processes above the copies'.
pub(super) fn send(
    keepers: [u32; 2],
    sockets: [&[Socket]; 2],
    deadline: Instant,
) -> io::Result<Vec<Traffic>> {
    let mut found = Vec::new();
    for address in shared(sockets).into_iter().take(MOST_ADDRESSES) {
        let mut trial = Trial {
            keepers,
            address,
            target: target(address.1),
            traffic: Traffic {
                protocol: address.0.to_string(),
                address: address.1,
                counts: [0; 2],
                lost: 0,
                taken: [true; 2],
            },
        };
        trial.run(deadline)?;
        found.push(trial.traffic);
    }
    Ok(found)
}

type Address = (Protocol, SocketAddr);

/// The addresses that both copies have.
fn shared(sockets: [&[Socket]; 2]) -> Vec<Address> {
    let has = |one: &&Socket| matches!(one.state, State::Hooked | State::SetsItself);
    let mut found: Vec<Address> = Vec::new();
    for first in sockets[0].iter().filter(has) {
        let protocol = match first.protocol.as_str() {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => continue,
        };
        let is_same = |second: &Socket| {
            (&second.protocol, second.address) == (&first.protocol, first.address)
        };
        let address = (protocol, first.address);
        if sockets[1].iter().filter(has).any(is_same) && !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

/// Where to send what is meant for `address`.
fn target(address: SocketAddr) -> SocketAddr {
    let mut target = address;
    if target.ip().is_unspecified() {
        target.set_ip(match target.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    target
}

struct Trial {
    keepers: [u32; 2],
    address: Address,
    target: SocketAddr,
    traffic: Traffic,
}

impl Trial {
    fn run(&mut self, deadline: Instant) -> io::Result<()> {
        let mut batch = COUNT;
        let mut left = COUNT;
        while left > 0 && Instant::now() < deadline {
            self.signal(Signal::STOP)?;
            let outcome = self.batch(batch.min(left));
            self.signal(Signal::CONT)?;
            let (sent, is_full) = outcome?;
            self.await_taking()?;
            if sent == 0 || self.traffic.taken != [true; 2] {
                break;
            }
            left = left.saturating_sub(sent);
            if is_full {
                // As many as the smaller queue surely holds.
                batch = (sent / 2).max(1);
            }
        }
        Ok(())
    }

    /// Sends up to `count` while the copies are stopped. Gives how many were
    /// sent, and whether there was no room for more.
    fn batch(&mut self, count: u32) -> io::Result<(u32, bool)> {
        let before = self.queues()?;
        match self.address.0 {
            Protocol::Tcp => {
                let mut open = Vec::new();
                let mut is_full = false;
                while open.len() < count as usize && !is_full {
                    match TcpStream::connect_timeout(&self.target, CONNECT) {
                        Ok(stream) => open.push(stream),
                        Err(_) => is_full = true,
                    }
                }
                let after = self.queues()?;
                let sent = u32::try_from(open.len()).unwrap_or(u32::MAX);
                let mut got = 0;
                for copy in [0, 1] {
                    let more: u64 = sum(&after[copy]).saturating_sub(sum(&before[copy]));
                    let more = u32::try_from(more).unwrap_or(u32::MAX);
                    self.traffic.counts[copy] += more;
                    got += more;
                }
                self.traffic.lost += sent.saturating_sub(got);
                if open.is_empty() {
                    self.traffic.lost += 1;
                }
                Ok((sent, is_full))
            }
            _ => {
                let mut known = before;
                let mut open = Vec::new();
                for _ in 0..count {
                    let from: IpAddr = match self.target {
                        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
                    };
                    let socket = UdpSocket::bind((from, 0))?;
                    let sent = socket.send_to(&DATAGRAM, self.target);
                    open.push(socket);
                    let now = self.queues()?;
                    let has_grown = |copy: usize| sum(&now[copy]) > sum(&known[copy]);
                    match (has_grown(0), has_grown(1)) {
                        (false, false) => self.traffic.lost += 1,
                        (first, second) => {
                            self.traffic.counts[0] += u32::from(first);
                            self.traffic.counts[1] += u32::from(second);
                        }
                    }
                    known = now;
                    sent?;
                }
                Ok((count, false))
            }
        }
    }

    /// What waits in the sockets of this address, by copy and inode.
    fn queues(&self) -> io::Result<[HashMap<u64, u64>; 2]> {
        let of = |keeper| {
            let open = watch::open(keeper)?.into_iter();
            let own = open.filter(|one| (one.protocol, one.address) == self.address);
            io::Result::Ok(own.map(|one| (one.inode, one.queue)).collect())
        };
        Ok([of(self.keepers[0])?, of(self.keepers[1])?])
    }

    /// Stops all processes of the copies, or lets them go on.
    fn signal(&self, signal: Signal) -> io::Result<()> {
        for keeper in self.keepers {
            for pid in watch::processes(keeper)? {
                let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
                // One that has just ended needs no signal.
                let _ = pid.map(|pid| kill_process(pid, signal));
            }
        }
        let limit = Instant::now() + TAKE;
        while signal == Signal::STOP && Instant::now() < limit {
            if watch::are_stopped(self.keepers[0])? && watch::are_stopped(self.keepers[1])? {
                break;
            }
            sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Waits until nothing waits any more, and notes who does not take it.
    fn await_taking(&mut self) -> io::Result<()> {
        let limit = Instant::now() + TAKE;
        loop {
            let queues = self.queues()?;
            let taken = [0, 1].map(|copy| sum(&queues[copy]) == 0);
            if taken == [true; 2] || Instant::now() >= limit {
                self.traffic.taken = taken;
                return Ok(());
            }
            sleep(Duration::from_millis(2));
        }
    }
}

fn sum(queues: &HashMap<u64, u64>) -> u64 {
    queues.values().sum()
}

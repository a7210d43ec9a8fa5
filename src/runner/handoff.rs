//! Where the shim of a copy brings its sockets: `shim/runner.rs` is the other half.

use std::fs::File;
use std::io::{self, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix,
    SocketFlags, SocketType, accept_with, bind, listen, recvmsg, socket_with,
};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, geteuid, pidfd_getfd, pidfd_open};

use super::drain::own_sockets;
use super::peer::{Peer, peer};
use crate::process::{self, Stat};

const PROC: &str = "/proc";

/// The variable that tells a copy of the door.
pub(super) const VARIABLE: &str = "LIBREUSEPORT_RUNNER";

/// How long a message may take whose sender has connected.
const MESSAGE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// A Unix address that only one copy knows.
#[derive(Debug)]
pub(super) struct Door {
    fd: OwnedFd,
    name: String,
}

/// What a shim brings.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) socket: OwnedFd,
    /// The number of that descriptor in the process `pid`.
    pub(super) number: i32,
    pub(super) pid: u32,
    /// The page on which the process counts, where it is new.
    pub(super) page: Option<OwnedFd>,
}

/// A name that nobody guesses.
pub(super) fn secret() -> io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

impl Door {
    pub(super) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        let name = secret()?;
        bind(&fd, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
        listen(&fd, 128)?;
        Ok(Self { fd, name })
    }

    /// The value of [`VARIABLE`].
    pub(super) fn value(&self) -> String {
        format!("{}/{}", geteuid().as_raw(), self.name)
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// What a process below `keeper` brings next.
    pub(super) fn take(&self, keeper: u32) -> Option<Handed> {
        loop {
            let connection = accept_with(&self.fd, SocketFlags::CLOEXEC).ok()?;
            let own = geteuid().as_raw();
            if let Ok(Peer {
                pid: Some(pid),
                user,
            }) = peer(&connection)
                && let Some(sender) = sender(pid, keeper)
                && let Some(handed) = receive(&connection, pid)
                && (sender == Sender::Below || (user == own && is_had(&handed.socket, keeper)))
            {
                return Some(handed);
            }
        }
    }
}

/// Who brings a socket.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sender {
    /// A process below the keeper.
    Below,
    /// One that has ended since then, as one does that puts itself into the background.
    Ended,
}

/// Who `pid` is; `None` for a process that is not below `top`.
fn sender(pid: u32, top: u32) -> Option<Sender> {
    let stat = |pid| process::stat(Path::new(PROC), pid);
    let mut next = pid;
    // No tree is so high.
    for _ in 0..1000 {
        match stat(next) {
            Some(Stat { parent, .. }) if parent == top => return Some(Sender::Below),
            Some(Stat { parent: 0 | 1, .. }) => return None,
            Some(Stat { parent, .. }) => next = parent,
            None if next == pid => return Some(Sender::Ended),
            // What was above it has ended, and it has another parent now.
            None => next = pid,
        }
    }
    None
}

/// Whether a process below `keeper` has `socket`.
fn is_had(socket: &OwnedFd, keeper: u32) -> bool {
    let inode = rustix::fs::fstat(socket).map(|stat| stat.st_ino);
    inode.is_ok_and(|inode| own_sockets(keeper).inodes.contains(&inode))
}

fn receive(connection: &OwnedFd, pid: u32) -> Option<Handed> {
    let mut ready = [PollFd::new(connection, PollFlags::IN)];
    poll(&mut ready, Some(&MESSAGE)).ok()?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut number = [0; 4];
    let mut parts = [IoSliceMut::new(&mut number)];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    recvmsg(connection, &mut parts, &mut control, flags).ok()?;
    control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => Some(Handed {
            socket: fds.next()?,
            number: i32::from_ne_bytes(number),
            pid,
            page: fds.next(),
        }),
        _ => None,
    })
}

/// Fetches the sockets of the processes below `keeper` whose inodes are among
/// `wanted`, each once, from where the shim does not reach.
pub(super) fn fetch(keeper: u32, wanted: &[u64]) -> Vec<OwnedFd> {
    let mut left = wanted.to_vec();
    let mut found = Vec::new();
    for one in process::below(Path::new(PROC), keeper).unwrap_or_default() {
        let Ok(descriptors) = process::socket_descriptors(Path::new(PROC), one.pid) else {
            continue;
        };
        let raw = i32::try_from(one.pid).ok().and_then(Pid::from_raw);
        let Some(Ok(process)) = raw.map(|pid| pidfd_open(pid, PidfdFlags::empty())) else {
            continue;
        };
        left.retain(|inode| {
            let Some(descriptor) = descriptors.get(inode) else {
                return true;
            };
            let descriptor = i32::try_from(*descriptor).unwrap_or(-1);
            match pidfd_getfd(&process, descriptor, PidfdGetfdFlags::empty()) {
                Ok(fd) => {
                    found.push(fd);
                    false
                }
                Err(_) => true,
            }
        });
    }
    found
}

//! Sockets that are handed to a runner.

use std::ffi::c_int;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix,
    SocketFlags, SocketType, accept, bind, listen, recvmsg, socket_with,
};
use rustix::process::geteuid;

use crate::hooks;
use crate::runner::Runner;

fn runner(value: &str) -> Runner {
    let mut runner = Runner::NONE;
    runner.fill(value.as_bytes());
    runner
}

fn door(name: &str) -> OwnedFd {
    let flags = SocketFlags::NONBLOCK;
    let fd = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
    let fd = fd.expect("a socket");
    let address = SocketAddrUnix::new_abstract_name(name.as_bytes());
    bind(&fd, &address.expect("an address")).expect("free");
    listen(&fd, 8).expect("listens");
    fd
}

/// The socket that was brought next, if one was.
fn taken(door: &OwnedFd) -> Option<OwnedFd> {
    let connection = accept(door).ok()?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    recvmsg(&connection, &mut parts, &mut control, RecvFlags::empty()).expect("a message");
    control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    })
}

#[test]
fn what_is_no_runner_is_none() {
    let long = format!("0/{}", "x".repeat(41));
    for value in ["", "0", "0/", "name", &long] {
        assert!(!runner(value).is_some(), "{value}");
    }
    assert!(runner("0/x").is_some());
    assert!(runner(&format!("0/{}", "x".repeat(40))).is_some());
}

#[test]
fn a_socket_comes_to_the_runner_and_to_nobody_else() {
    let user = geteuid().as_raw();
    let name = format!("reuseport-test-{}", std::process::id());
    let door = door(&name);
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    runner(&format!("{}/{name}", user + 1)).hand(socket.as_raw_fd());
    // It has connected, seen who is there, and said nothing.
    assert!(taken(&door).is_none());
    runner(&format!("{user}/{name}")).hand(socket.as_raw_fd());
    let taken = taken(&door).expect("the socket");
    let inode =
        |fd: c_int| std::fs::read_link(format!("/proc/self/fd/{fd}")).expect("a descriptor");
    assert_eq!(inode(taken.as_raw_fd()), inode(socket.as_raw_fd()));
    // Where nobody is, nothing happens.
    runner(&format!("{user}/{name}-gone")).hand(socket.as_raw_fd());
}

#[test]
fn listen_gives_the_results_and_the_errno_of_the_real_one() {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    // SAFETY: listen(2) checks what it is given.
    unsafe {
        assert_eq!(hooks::listen(socket.as_raw_fd(), 5), 0);
        assert_eq!(hooks::listen(-1, 5), -1);
    }
    let error = std::io::Error::last_os_error();
    assert_eq!(error.raw_os_error(), Some(libc::EBADF));
}

#[test]
fn accept_gives_the_results_and_the_errno_of_the_real_one() {
    use std::os::fd::FromRawFd;
    use std::ptr::null_mut;

    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("it can be");
    let fd = listener.as_raw_fd();
    let address = listener.local_addr().expect("it has one");
    for is_first in [true, false] {
        let take = || {
            // SAFETY: accept(2) may be given no place for the address; what it
            // answers is nobody else's.
            let answer = unsafe {
                if is_first {
                    hooks::accept(fd, null_mut(), null_mut())
                } else {
                    hooks::accept4(fd, null_mut(), null_mut(), libc::SOCK_CLOEXEC)
                }
            };
            let error = std::io::Error::last_os_error();
            // SAFETY: as above.
            let stream = (answer >= 0).then(|| unsafe { TcpStream::from_raw_fd(answer) });
            stream.ok_or(error.raw_os_error())
        };
        assert_eq!(take().err(), Some(Some(libc::EAGAIN)));
        let client = TcpStream::connect(address).expect("it listens");
        let server = take().expect("a connection");
        assert_eq!(server.peer_addr().ok(), client.local_addr().ok());
    }
}

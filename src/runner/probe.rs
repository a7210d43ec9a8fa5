//! A request to one copy through the port that all share: the steering program
//! knows it by the port that it comes from.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::Duration;

use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, connect, getsockname, socket_with,
};

/// How long an answer may take; then it is asked for again.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Probe {
    /// The port that the request comes from.
    pub(super) port: u16,
    /// How often the members' numbers had changed when it began.
    pub(super) removals: u64,
    to: SocketAddr,
    socket: Option<OwnedFd>,
    /// Keeps the port from others as long as the program leads it to the copy.
    _port: OwnedFd,
    outcome: Option<Receiver<bool>>,
}

impl Probe {
    /// Prepares a request to the listener at `listener`.
    pub(super) fn new(listener: SocketAddr) -> io::Result<Self> {
        let (family, any) = match listener {
            SocketAddr::V4(_) => (AddressFamily::INET, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            SocketAddr::V6(_) => (AddressFamily::INET6, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        };
        let to = reached(listener);
        let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        bind(&socket, &SocketAddr::new(any, 0))?;
        let own = SocketAddr::try_from(getsockname(&socket)?)?;
        Ok(Self {
            _port: socket.try_clone()?,
            port: own.port(),
            removals: 0,
            to,
            socket: Some(socket),
            outcome: None,
        })
    }

    pub(super) fn has_begun(&self) -> bool {
        self.outcome.is_some()
    }

    /// Asks for `path`.
    pub(super) fn begin(&mut self, path: &str) {
        let Some(socket) = self.socket.take() else {
            return;
        };
        let (sender, receiver) = mpsc::channel();
        self.outcome = Some(receiver);
        let (to, path) = (self.to, path.to_owned());
        thread::spawn(move || {
            // Nobody may be interested any more.
            let _ = sender.send(ask(socket, to, &path).unwrap_or(false));
        });
    }

    /// Whether the answer was good; `None` as long as there is none.
    pub(super) fn answer(&self) -> Option<bool> {
        match self.outcome.as_ref()?.try_recv() {
            Ok(is_well) => Some(is_well),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(false),
        }
    }
}

/// An address at which the listener at `listener` is reached.
pub(super) fn reached(listener: SocketAddr) -> SocketAddr {
    let mut to = listener;
    if to.ip().is_unspecified() {
        to.set_ip(match listener {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    to
}

fn ask(socket: OwnedFd, to: SocketAddr, path: &str) -> io::Result<bool> {
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    connect(&stream, &to)?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {to}\r\nUser-Agent: reuseport\r\nConnection: close\r\n\r\n"
    )?;
    // `HTTP/1.1 200`
    let mut start = [0; 12];
    stream.read_exact(&mut start)?;
    let is_well = start.starts_with(b"HTTP/1.") && matches!(start[9], b'1'..=b'3');
    // To the end, so that the server sees no reset.
    io::copy(&mut stream.take(1 << 20), &mut io::sink())?;
    Ok(is_well)
}

//! Where metrics are served: HTTP on a TCP port or a Unix socket, between two calls
//! of poll(2), to a few clients at once and to none for long.

use std::fmt;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};

use super::Error;

/// The most who are served at once.
const MOST: usize = 16;

/// How long a client may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest request.
const LONGEST: usize = 8192;

/// Where metrics are to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

impl FromStr for Address {
    type Err = &'static str;

    /// `unix:PATH` or `ADDR:PORT`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "give unix:PATH or ADDR:PORT, as 127.0.0.1:9100 or [::1]:9100";
        match text.strip_prefix("unix:") {
            Some("") => Err(WRONG),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Tcp).map_err(|_| WRONG),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "http://{address}/metrics"),
        }
    }
}

#[derive(Debug)]
struct Client {
    stream: OwnedFd,
    heard: Vec<u8>,
    answer: Option<Vec<u8>>,
    deadline: Instant,
    is_over: bool,
}

/// A place where metrics are served, which goes with this value.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// Where that is, with the port that the kernel has chosen.
    pub(super) address: Address,
    listener: OwnedFd,
    clients: Vec<Client>,
}

impl Endpoint {
    /// Opens the place, for this user alone where it is a Unix socket.
    ///
    /// # Errors
    /// It is taken.
    pub(super) fn open(address: &Address) -> Result<Self, Error> {
        let failed = |error| Error::io(&format!("metrics: {address}"), error);
        let (address, listener) = match address {
            Address::Tcp(tcp) => {
                let listener = TcpListener::bind(tcp).map_err(failed)?;
                listener.set_nonblocking(true).map_err(failed)?;
                let own = listener.local_addr().map_err(failed)?;
                (Address::Tcp(own), OwnedFd::from(listener))
            }
            Address::Unix(path) => {
                remove_stale(path);
                let listener = UnixListener::bind(path).map_err(failed)?;
                fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
                listener.set_nonblocking(true).map_err(failed)?;
                (address.clone(), OwnedFd::from(listener))
            }
        };
        Ok(Self {
            address,
            listener,
            clients: Vec::new(),
        })
    }

    /// Whether others than the users of this machine may reach it.
    pub(super) fn is_open_to_others(&self) -> bool {
        matches!(&self.address, Address::Tcp(address) if !address.ip().to_canonical().is_loopback())
    }

    /// What to wait for.
    pub(super) fn fds(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let clients = self.clients.iter().map(|one| {
            let flags = match one.answer {
                Some(_) => PollFlags::OUT,
                None => PollFlags::IN,
            };
            (one.stream.as_fd(), flags)
        });
        let has_room = self.clients.len() < MOST;
        let listener = has_room.then(|| (self.listener.as_fd(), PollFlags::IN));
        listener.into_iter().chain(clients)
    }

    /// When a client is waited for no longer.
    pub(super) fn next(&self) -> Option<Instant> {
        self.clients.iter().map(|one| one.deadline).min()
    }

    /// Takes what has come, answers with what `text` gives, and forgets who is done.
    pub(super) fn serve(&mut self, text: impl Fn() -> String) {
        let now = Instant::now();
        while self.clients.len() < MOST {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let Ok(stream) = accept_with(&self.listener, flags) else {
                break;
            };
            self.clients.push(Client {
                stream,
                heard: Vec::new(),
                answer: None,
                deadline: now + PATIENCE,
                is_over: false,
            });
        }
        for client in &mut self.clients {
            client.is_over |= client.deadline <= now;
            if client.answer.is_none() && client.hear() {
                client.answer = Some(answer(&client.heard, &text));
            }
            client.send();
        }
        self.clients.retain(|client| !client.is_over);
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if let Address::Unix(path) = &self.address {
            let _ = fs::remove_file(path);
        }
    }
}

/// Removes a socket that nobody listens on; a file of another kind stays.
fn remove_stale(path: &Path) {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|one| one.file_type().is_socket());
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    if is_socket && UnixStream::connect(path).is_err_and(refused) {
        let _ = fs::remove_file(path);
    }
}

impl Client {
    /// Whether the head of its request is there.
    fn hear(&mut self) -> bool {
        let mut buffer = [0; 1024];
        loop {
            match recv(&self.stream, &mut buffer[..], RecvFlags::empty()) {
                Ok((1.., length)) if self.heard.len() + length <= LONGEST => {
                    self.heard.extend(&buffer[..length]);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                _ => {
                    self.is_over = true;
                    return false;
                }
            }
        }
        self.heard.windows(4).any(|four| four == b"\r\n\r\n")
    }

    fn send(&mut self) {
        while let Some(answer) = &mut self.answer {
            match send(&self.stream, answer, SendFlags::NOSIGNAL) {
                Ok(length) => {
                    answer.drain(..length);
                    if answer.is_empty() {
                        self.is_over = true;
                        return;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => {
                    self.is_over = true;
                    return;
                }
            }
        }
    }
}

/// The answer to `request`.
fn answer(request: &[u8], text: impl Fn() -> String) -> Vec<u8> {
    const PLAIN: &str = "text/plain; charset=utf-8";
    let line = request.split(|byte| *byte == b'\r').next();
    let line = String::from_utf8_lossy(line.unwrap_or_default());
    let mut words = line.split(' ');
    let (method, target) = (words.next(), words.next().unwrap_or_default());
    let path = target.split('?').next();
    let (status, kind, body) = match (method, path) {
        (Some("GET" | "HEAD"), Some("/metrics" | "/")) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ("200 OK", kind, text())
        }
        (Some("GET" | "HEAD"), _) => ("404 Not Found", PLAIN, "see /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", PLAIN, "GET\n".to_owned()),
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n"
    );
    let body = if method == Some("HEAD") { "" } else { &body };
    [head.as_bytes(), body.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_path_or_an_address_with_a_port() {
        let unix = Address::Unix("/run/x".into());
        assert_eq!("unix:/run/x".parse(), Ok(unix));
        for text in ["127.0.0.1:9100", "[::1]:0"] {
            let address = Address::Tcp(text.parse().expect("an address"));
            assert_eq!(text.parse(), Ok(address));
        }
        for text in ["", "9100", "unix:", "localhost:80", "127.0.0.1", "/run/x"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_what_is_served_is_answered() {
        let text = || "x".to_owned();
        for (request, start, end) in [
            ("GET /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 200", "\r\n\r\nx"),
            ("GET /?a=b HTTP/1.0\r\n\r\n", "HTTP/1.1 200", "\r\n\r\nx"),
            ("HEAD / HTTP/1.1\r\n\r\n", "HTTP/1.1 200", "\r\n\r\n"),
            ("GET /x HTTP/1.1\r\n\r\n", "HTTP/1.1 404", "/metrics\n"),
            ("POST / HTTP/1.1\r\n\r\n", "HTTP/1.1 405", "GET\n"),
            ("\r\n\r\n", "HTTP/1.1 405", "GET\n"),
        ] {
            let answer = answer(request.as_bytes(), text);
            let answer = String::from_utf8_lossy(&answer);
            assert!(
                answer.starts_with(start) && answer.ends_with(end),
                "{answer}"
            );
        }
    }
}

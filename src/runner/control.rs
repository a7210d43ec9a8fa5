//! The control socket: who of the same user, or root, connects says one line of
//! JSON, and gets one back when what it asks for is done.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Error;
use super::handoff::secret;
use super::peer::peer;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    Status,
    Restart,
    Stop,
    Scale(usize),
}

/// What someone waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Restart,
    Scale,
    Stop,
}

/// Longer than any request.
const LONGEST: usize = 4096;

/// The most who are served at once.
const MOST: usize = 64;

#[derive(Debug)]
struct Client {
    stream: UnixStream,
    heard: Vec<u8>,
    wants: Option<Wanted>,
    is_over: bool,
}

/// The socket, which goes with this value.
#[derive(Debug)]
pub(super) struct Control {
    listener: UnixListener,
    path: PathBuf,
    clients: Vec<Client>,
}

/// The directory of the control sockets of this user.
pub(super) fn directory() -> PathBuf {
    let user = geteuid();
    if user.is_root() {
        return "/run/reuseport".into();
    }
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(path) if Path::new(&path).is_absolute() => Path::new(&path).join("reuseport"),
        _ => format!("/tmp/reuseport-{}", user.as_raw()).into(),
    }
}

/// Removes what runners that were killed have left behind.
fn remove_stale(directory: &Path) {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        let is_socket = path.extension().is_some_and(|end| end == "sock");
        let refuses = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
        if is_socket && UnixStream::connect(&path).is_err_and(refuses) {
            let _ = fs::remove_file(path);
        }
    }
}

impl Control {
    /// Opens the socket of the runner `name` in `directory`.
    pub(super) fn open(directory: &Path, name: &str) -> Result<Self, Error> {
        let failed = |error| Error::io(&directory.display().to_string(), error);
        let made = fs::DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(directory);
        made.map_err(failed)?;
        let metadata = fs::symlink_metadata(directory).map_err(failed)?;
        let is_own = metadata.is_dir()
            && metadata.uid() == geteuid().as_raw()
            && metadata.mode() & 0o022 == 0;
        if !is_own {
            return Err(Error::NoDirectory(directory.to_owned()));
        }
        let path = directory.join(format!("{name}.sock"));
        // Until this one has its name: another one may begin just as a stale socket
        // of that name is about to be removed.
        let lock = File::open(directory).map_err(failed)?;
        // Where files cannot be locked it is as it was.
        let _ = lock.lock();
        if UnixStream::connect(&path).is_ok() {
            return Err(Error::NameTaken(name.to_owned()));
        }
        remove_stale(directory);
        let failed = |error| Error::io(&path.display().to_string(), error);
        // It gets its name when it listens: others take one that does not for stale.
        let new = secret().map_err(failed)?;
        let new = directory.join(&new[..16]);
        let listener = UnixListener::bind(&new).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let named = fs::set_permissions(&new, fs::Permissions::from_mode(0o600))
            .and_then(|()| fs::hard_link(&new, &path));
        let _ = fs::remove_file(&new);
        match named {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Error::NameTaken(name.to_owned()));
            }
            named => named.map_err(failed)?,
        }
        Ok(Self {
            listener,
            path,
            clients: Vec::new(),
        })
    }

    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let clients = self.clients.iter().map(|one| one.stream.as_fd());
        // Who cannot be taken would keep poll(2) from waiting.
        let has_room = self.clients.len() < MOST || self.idle().is_some();
        let listener = has_room.then(|| self.listener.as_fd());
        listener.into_iter().chain(clients)
    }

    /// The first who has not asked for anything yet.
    fn idle(&self) -> Option<usize> {
        self.clients.iter().position(|one| one.wants.is_none())
    }

    /// The requests that have come, each with the number by which it is answered.
    pub(super) fn take(&mut self) -> Vec<(usize, Request)> {
        while (self.clients.len() < MOST || self.idle().is_some())
            && let Ok((stream, _)) = self.listener.accept()
        {
            if self.clients.len() >= MOST
                && let Some(idle) = self.idle()
            {
                // Who only holds a place makes way.
                self.clients.remove(idle);
            }
            let own = geteuid().as_raw();
            let may = peer(&stream).is_ok_and(|peer| peer.user == 0 || peer.user == own);
            if may && stream.set_nonblocking(true).is_ok() {
                self.clients.push(Client {
                    stream,
                    heard: Vec::new(),
                    wants: None,
                    is_over: false,
                });
            }
        }
        let mut found = Vec::new();
        for (index, client) in self.clients.iter_mut().enumerate() {
            if let Some(line) = client.line() {
                match serde_json::from_slice(&line) {
                    Ok(request) => found.push((index, request)),
                    Err(error) => client.answer(2, &error.to_string()),
                }
            }
        }
        found
    }

    /// Forgets those who have been answered, or have gone.
    pub(super) fn tidy(&mut self) {
        self.clients.retain(|client| !client.is_over);
    }

    pub(super) fn answer(&mut self, index: usize, status: u8, text: &str) {
        if let Some(client) = self.clients.get_mut(index) {
            client.answer(status, text);
        }
    }

    pub(super) fn answer_state(&mut self, index: usize, state: &serde_json::Value) {
        if let Some(client) = self.clients.get_mut(index) {
            client.send(&json!({"status": 0, "state": state}));
        }
    }

    /// Lets the client wait for `wanted`.
    pub(super) fn wait(&mut self, index: usize, wanted: Wanted) {
        if let Some(client) = self.clients.get_mut(index) {
            client.wants = Some(wanted);
        }
    }

    /// Answers all who wait for `wanted`.
    pub(super) fn answer_all(&mut self, wanted: Wanted, status: u8, text: &str) {
        for client in &mut self.clients {
            if client.wants == Some(wanted) {
                client.answer(status, text);
            }
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Client {
    /// The line that it says, once it is there.
    fn line(&mut self) -> Option<Vec<u8>> {
        let mut buffer = [0; 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.is_over = true,
                Ok(length) if self.heard.len() < LONGEST => {
                    self.heard.extend(&buffer[..length]);
                    continue;
                }
                Ok(_) => self.is_over = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => self.is_over |= error.kind() != io::ErrorKind::WouldBlock,
            }
            break;
        }
        let end = self.heard.iter().position(|byte| *byte == b'\n')?;
        Some(self.heard.drain(..=end).collect())
    }

    fn answer(&mut self, status: u8, text: &str) {
        self.send(&json!({"status": status, "message": text}));
    }

    fn send(&mut self, value: &serde_json::Value) {
        self.is_over = true;
        // One that does not read is not waited for.
        let _ = self.stream.set_nonblocking(false);
        let limit = Some(std::time::Duration::from_millis(200));
        let _ = self.stream.set_write_timeout(limit);
        let _ = self.stream.write_all(format!("{value}\n").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_begin_at_once_do_not_take_each_other_for_stale() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).expect("a mode");
        let path = directory.path();
        std::thread::scope(|scope| {
            let others = scope.spawn(move || (0..2000).for_each(|_| remove_stale(path)));
            while !others.is_finished() {
                let own = Control::open(path, "one").expect("nobody has that name");
                assert!(matches!(
                    Control::open(path, "one"),
                    Err(Error::NameTaken(_))
                ));
                assert!(UnixStream::connect(path.join("one.sock")).is_ok());
                drop(own);
            }
        });
        assert_eq!(fs::read_dir(path).expect("it").count(), 0);
    }
}

//! The signals that a runner obeys, as something that poll(2) can wait for.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM, SIGUSR1};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Stop,
    Restart,
    State,
    Reap,
}

#[derive(Debug)]
pub(super) struct Signals(Vec<(Request, UnixStream)>);

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        let all = [
            (SIGTERM, Request::Stop),
            (SIGINT, Request::Stop),
            // What the images of nginx and PHP have engines send: their STOPSIGNAL.
            (SIGQUIT, Request::Stop),
            (SIGHUP, Request::Restart),
            (SIGUSR1, Request::State),
            (SIGCHLD, Request::Reap),
        ];
        let all = all.into_iter().map(|(signal, request)| {
            let (reader, writer) = UnixStream::pair()?;
            reader.set_nonblocking(true)?;
            signal_hook::low_level::pipe::register(signal, writer)?;
            Ok((request, reader))
        });
        let all = Self(all.collect::<io::Result<_>>()?);
        // Whoever read our output may go. A handler, since what is ignored would be
        // so for the copies as well.
        signal_hook::flag::register(SIGPIPE, Arc::default())?;
        Ok(all)
    }

    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(|(_, reader)| reader.as_fd())
    }

    /// What has come since. A second signal to stop says more than the first; of others
    /// that have not been obeyed yet one is enough.
    pub(super) fn take(&mut self) -> Vec<Request> {
        let mut found = Vec::new();
        for (request, reader) in &mut self.0 {
            let mut buffer = [0; 64];
            let count = reader.read(&mut buffer).unwrap_or(0);
            let count = if *request == Request::Stop {
                count
            } else {
                count.min(1)
            };
            found.extend(std::iter::repeat_n(*request, count));
        }
        found
    }
}

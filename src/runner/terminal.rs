//! The terminal that the runner was started from: when it is closed, the HUP that
//! comes from that means the end, as for any job of a shell, and no restart.

use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// For how long a HUP after that is taken for the terminal's: the kernel sends one at
/// once, and the shell passes it on.
const ECHO: Duration = Duration::from_secs(5);

/// What a HUP means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hup {
    Restart,
    /// The terminal was closed.
    Closed,
    /// The same, and whoever has started us let HUP be ignored: nohup(1).
    Ignored,
}

#[derive(Debug)]
pub(super) struct Terminal {
    /// The controlling terminal, as long as it is open.
    file: Option<File>,
    closed: Option<Instant>,
    is_ignored: bool,
}

impl Terminal {
    /// Before signals have handlers.
    pub(super) fn of_this_process() -> Self {
        // Where there is none, that fails.
        let file = OpenOptions::new().read(true).open("/dev/tty").ok();
        Self {
            file,
            closed: None,
            is_ignored: is_hup_ignored().unwrap_or(false),
        }
    }

    /// What becomes ready when it is closed.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// Takes note of whether it has been closed.
    pub(super) fn look(&mut self) {
        let Some(file) = &self.file else {
            return;
        };
        let mut fds = [PollFd::new(file, PollFlags::empty())];
        let is_there = poll(&mut fds, Some(&Timespec::default())) == Ok(0);
        if !is_there {
            self.file = None;
            self.closed = Some(Instant::now());
        }
    }

    /// What a HUP means that has come now.
    pub(super) fn hup(&mut self) -> Hup {
        self.look();
        match self.closed {
            Some(at) if at.elapsed() < ECHO && self.is_ignored => Hup::Ignored,
            Some(at) if at.elapsed() < ECHO => Hup::Closed,
            _ => Hup::Restart,
        }
    }
}

/// Whether this process ignores HUP, by its mask of ignored signals.
fn is_hup_ignored() -> Option<bool> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let mask = text.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    let mask = u64::from_str_radix(mask.trim(), 16).ok()?;
    // HUP is signal 1, the lowest bit.
    Some(mask & 1 == 1)
}

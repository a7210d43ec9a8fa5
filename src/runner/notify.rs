//! The protocol of sd_notify(3), on both sides: what copies say to the runner, and
//! what the runner says to who has started it.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::handoff;

pub(super) const VARIABLE: &str = "NOTIFY_SOCKET";

/// Variables of our own that copies are not to have.
pub(super) const OWN: [&str; 3] = [VARIABLE, "WATCHDOG_USEC", "WATCHDOG_PID"];

/// A socket to which a copy may speak, and the value of [`VARIABLE`] for it.
pub(super) fn door() -> io::Result<(UnixDatagram, String)> {
    let name = handoff::secret()?;
    let address = SocketAddr::from_abstract_name(&name)?;
    let socket = UnixDatagram::bind_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok((socket, format!("@{name}")))
}

/// Whether one of the messages that have come says `READY=1`.
pub(super) fn says_ready(socket: &UnixDatagram) -> bool {
    let mut buffer = [0; 4096];
    let mut is_ready = false;
    while let Ok(length) = socket.recv(&mut buffer) {
        is_ready |= buffer[..length]
            .split(|byte| *byte == b'\n')
            .any(|line| line == b"READY=1");
    }
    is_ready
}

/// Who has started the runner, where it wants to know.
#[derive(Debug)]
pub(super) struct Manager {
    to: Option<(UnixDatagram, SocketAddr)>,
    /// How often it wants to hear of us.
    pub(super) watchdog: Option<Duration>,
}

impl Manager {
    pub(super) fn from_environment() -> Self {
        let to = env::var_os(VARIABLE).and_then(|value| address(&value));
        let to = to.and_then(|address| Some((UnixDatagram::unbound().ok()?, address)));
        let own = std::process::id().to_string();
        let is_meant = env::var("WATCHDOG_PID").map_or(true, |pid| pid == own);
        let time = env::var("WATCHDOG_USEC").ok().filter(|_| is_meant);
        let time = time.and_then(|time| time.parse().ok());
        Self {
            watchdog: time
                .filter(|time| *time > 0 && to.is_some())
                .map(|time| Duration::from_micros(time) / 2),
            to,
        }
    }

    /// Says that it begins to replace its copies, see sd_notify(3); `READY=1` ends
    /// that.
    pub(super) fn say_reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let now = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={now}"));
    }

    /// Says `text`; nobody who does not hear it is waited for.
    pub(super) fn say(&self, text: &str) {
        if let Some((socket, address)) = &self.to {
            let _ = socket.send_to_addr(text.as_bytes(), address);
        }
    }
}

fn address(value: &OsStr) -> Option<SocketAddr> {
    match value.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok(),
        [b'/', ..] => SocketAddr::from_pathname(value).ok(),
        _ => None,
    }
}

//! Ports for servers to listen on.

use std::ops::Range;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::sockets;

/// Below the ports that the kernel gives to clients. With port 0 it would choose
/// among those, and one of our own connections could take the port before the
/// server binds it.
const RANGE: Range<u16> = 20_000..32_000;

/// A port that nobody uses, and that no other test is given until this is
/// dropped.
pub struct Port {
    pub number: u16,
    /// An abstract name belongs to one socket in a network namespace, as a port
    /// does, and is free again when the process ends, however it ends.
    _claim: UnixListener,
}

impl Port {
    pub fn free() -> Self {
        static TRIED: AtomicU16 = AtomicU16::new(0);
        let length = RANGE.end - RANGE.start;
        // Processes that run at once look in different places first.
        let first = process::id() % u32::from(length);
        let first = u16::try_from(first).expect("less than the range's length");
        for _ in RANGE {
            let offset = first.wrapping_add(TRIED.fetch_add(1, Ordering::Relaxed)) % length;
            if let Some(port) = Self::claim(RANGE.start + offset) {
                return port;
            }
        }
        panic!("no free port in {RANGE:?}");
    }

    fn claim(number: u16) -> Option<Self> {
        let name = format!("reuseport/tests/port/{number}");
        let name = SocketAddr::from_abstract_name(name).expect("a short name without a null byte");
        let claim = UnixListener::bind_addr(&name).ok()?;
        (!sockets::is_used(number)).then_some(Self {
            number,
            _claim: claim,
        })
    }
}

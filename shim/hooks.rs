//! The functions that the shim puts in front of the C library's: what it
//! exports, and nothing else is exported.
#![allow(unsafe_code, reason = "the C ABI")]

use core::ffi::{c_int, c_long, c_void};
use core::mem::MaybeUninit;
use core::ptr::null;

#[cfg(any(accepts, test))]
use crate::accepts;
use crate::debug::{self, Report};
use crate::environ::Environment;
use crate::errno::Errno;
use crate::next;
use crate::reason::Reason;
use crate::rules::{Interface, Rules};
use crate::sockaddr::Sockaddr;
use crate::sockopt::{self, Outcome};
use crate::state::{self, Path};

/// Runs as the library is loaded. musl runs no `DT_INIT` on some
/// architectures, but `DT_INIT_ARRAY` on all.
#[used]
#[cfg_attr(not(test), unsafe(link_section = ".init_array"))]
static CONSTRUCTOR: extern "C" fn(c_int, *const c_void, Environment) = constructor;

extern "C" fn constructor(_count: c_int, _arguments: *const c_void, environment: Environment) {
    next::resolve();
    if state::published().is_none() {
        let mut own = MaybeUninit::uninit();
        state::establish(&mut own, environment);
    }
    if state::published().is_some_and(|state| state.runner.is_some()) {
        next::resolve_listen();
    }
}

/// The hook of bind(2).
///
/// # Safety
/// As for bind(2).
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn bind(fd: c_int, address: *const c_void, length: u32) -> c_int {
    // SAFETY: passed on to the caller.
    unsafe {
        match state::path() {
            Path::Short(rules) => any(rules, fd, address, length),
            Path::Listed(rules) => listed(rules, fd, address, length),
            Path::Long => slowly(fd, address, length, next::bind),
        }
    }
}

/// A bind in a process whose rules select any address, port and protocol.
///
/// # Safety
/// As for bind(2).
#[inline(never)]
unsafe fn any(rules: &Rules, fd: c_int, address: *const c_void, length: u32) -> c_int {
    // SAFETY: passed on to the caller.
    unsafe {
        if let Ok(sockaddr) = Sockaddr::new(address, length)
            && sockaddr.port() != 0
        {
            reuse(rules, fd);
        }
        next::bind(fd, address, length)
    }
}

/// A bind in a process whose rules list what they select.
///
/// # Safety
/// As for bind(2).
#[inline(never)]
unsafe fn listed(rules: &Rules, fd: c_int, address: *const c_void, length: u32) -> c_int {
    // SAFETY: passed on to the caller.
    unsafe {
        if select(rules, fd, address, length).is_ok() {
            reuse(rules, fd);
        }
        next::bind(fd, address, length)
    }
}

/// The hook of listen(2): hands the socket to the runner where there is one.
///
/// # Safety
/// As for listen(2).
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn listen(fd: c_int, backlog: c_int) -> c_int {
    // SAFETY: passed on to the caller.
    let answer = unsafe { next::listen(fd, backlog) };
    if answer == 0
        && let Some(state) = state::published()
        && state.runner.is_some()
    {
        state.runner.hand(fd);
    }
    answer
}

/// The hook of accept(2): counts what it gives.
///
/// # Safety
/// As for accept(2).
#[cfg(any(accepts, test))]
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn accept(fd: c_int, address: *mut c_void, length: *mut u32) -> c_int {
    // SAFETY: passed on to the caller.
    let answer = unsafe { next::accept(fd, address, length) };
    accepts::count(fd, answer);
    answer
}

/// The hook of accept4(2): counts what it gives.
///
/// # Safety
/// As for accept4(2).
#[cfg(any(accepts, test))]
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn accept4(
    fd: c_int,
    address: *mut c_void,
    length: *mut u32,
    flags: c_int,
) -> c_int {
    // SAFETY: passed on to the caller.
    let answer = unsafe { next::accept4(fd, address, length, flags) };
    accepts::count(fd, answer);
    answer
}

/// The hook of libc's `syscall()` for `SYS_bind`; `arch::syscall` jumps here.
///
/// # Safety
/// As for bind(2).
pub unsafe extern "C" fn syscall_bind(
    _number: c_long,
    fd: c_long,
    address: *const c_void,
    length: c_long,
) -> c_long {
    let length = length.cast_unsigned() as u32;
    // SAFETY: passed on to the caller.
    unsafe { slowly(fd as c_int, address, length, next::syscall_bind) }.into()
}

/// A bind in all generality: with an interface to set, lines to write, or
/// before the state is there.
///
/// # Safety
/// As for bind(2), which `next` is.
#[cold]
#[inline(never)]
unsafe fn slowly(
    fd: c_int,
    address: *const c_void,
    length: u32,
    next: unsafe fn(c_int, *const c_void, u32) -> c_int,
) -> c_int {
    // SAFETY: passed on to the caller.
    let next = || unsafe { next(fd, address, length) };
    let mut own = MaybeUninit::uninit();
    let Some(state) = state::published().or_else(|| state::establish(&mut own, null())) else {
        return next();
    };
    let rules = &state.rules;
    let selected = match state.idle {
        Some(reason) => Err(reason),
        // SAFETY: passed on to the caller.
        None => unsafe { select(rules, fd, address, length) },
    };
    let done = selected.map(|()| Done::on(rules, fd));
    let answer = match done {
        Ok(Done {
            device: Some(Err(errno)),
            ..
        }) => {
            next::set_errno(errno);
            -1
        }
        _ => next(),
    };
    // A stream socket is handed over once it listens.
    if state.runner.is_some() && answer == 0 && selected.is_ok() {
        state.runner.hand_datagrams(fd);
    }
    if rules.debug {
        let report = Report {
            fd,
            // SAFETY: passed on to the caller.
            endpoint: unsafe { Sockaddr::new(address, length) }
                .ok()
                .map(Sockaddr::endpoint),
            rules,
            done,
            failure: (answer == -1).then(next::errno),
        };
        debug::bind(&state.name, &report);
    }
    answer
}

/// Whether the rules select this bind.
///
/// # Errors
/// Why they do not.
///
/// # Safety
/// As for bind(2).
#[inline(always)]
unsafe fn select(
    rules: &Rules,
    fd: c_int,
    address: *const c_void,
    length: u32,
) -> Result<(), Reason> {
    // SAFETY: passed on to the caller.
    let sockaddr = unsafe { Sockaddr::new(address, length) }?;
    if !rules.selects_port(sockaddr.port()) {
        return Err(match sockaddr.port() {
            0 => Reason::EphemeralPort,
            _ => Reason::PortNotListed,
        });
    }
    if !rules.selects_address(|| sockaddr.address()) {
        return Err(Reason::AddressNotListed);
    }
    if !rules.protocols.is_any() {
        let protocol = sockopt::protocol(fd).map_err(Reason::ProtocolUnknown)?;
        if !rules.protocols.contains(protocol) {
            return Err(Reason::ProtocolNotListed);
        }
    }
    Ok(())
}

/// Sets SO_REUSEPORT and SO_REUSEADDR as the rules ask.
#[inline(always)]
fn reuse(rules: &Rules, fd: c_int) -> (Outcome, Outcome) {
    (
        sockopt::set_reuseport(fd, &rules.reuseport),
        sockopt::set_reuseaddr(fd, &rules.reuseaddr),
    )
}

/// What was done to a socket.
#[derive(Clone, Copy)]
pub struct Done {
    pub device: Outcome,
    pub reuseport: Outcome,
    pub reuseaddr: Outcome,
}

impl Done {
    /// Sets on `fd` what the rules ask for. Where the interface cannot be set,
    /// bind is to fail, since the server would listen more widely than asked;
    /// nothing else is set then.
    fn on(rules: &Rules, fd: c_int) -> Self {
        let device = match &rules.interface {
            Interface::Any => None,
            Interface::Named(name) => Some(sockopt::bind_to_device(fd, name)),
            Interface::Invalid(_) => Some(Err(Errno::EINVAL)),
        };
        let (reuseport, reuseaddr) = match device {
            Some(Err(_)) => (None, None),
            _ => reuse(rules, fd),
        };
        Self {
            device,
            reuseport,
            reuseaddr,
        }
    }
}

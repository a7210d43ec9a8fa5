//! The functions that the shim stands in front of, and the process's `errno`:
//! the only way from here into the C library.
//!
//! Each is looked up once, by the constructor, without a lock: two threads
//! that look it up at the same time store the same value.
#![allow(unsafe_code, reason = "calls what the loader says is there")]

use core::ffi::{c_char, c_int, c_long, c_void};
use core::mem::transmute;
use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use crate::arch;
use crate::errno::Errno;

type Bind = unsafe extern "C" fn(c_int, *const c_void, u32) -> c_int;
type Listen = unsafe extern "C" fn(c_int, c_int) -> c_int;
#[cfg(any(accepts, test))]
type Accept = unsafe extern "C" fn(c_int, *mut c_void, *mut u32) -> c_int;
#[cfg(any(accepts, test))]
type Accept4 = unsafe extern "C" fn(c_int, *mut c_void, *mut u32, c_int) -> c_int;
type Dlsym = unsafe extern "C" fn(*mut c_void, *const c_char) -> *mut c_void;
type ErrnoLocation = unsafe extern "C" fn() -> *mut c_int;

arch::weak_symbols! {
    /// dlsym(3); in libdl before glibc 2.34, so not in every process.
    dlsym = "dlsym";
    /// The address of `errno`, under the name that glibc and musl share.
    errno_location = "__errno_location";
}

/// The pseudo-handle of dlsym(3) for "the next one after the caller".
const RTLD_NEXT: *mut c_void = usize::MAX as *mut c_void;

/// The next `bind`, once it has been looked up.
static BIND: AtomicPtr<c_void> = AtomicPtr::new(first_bind as Bind as *mut c_void);

/// The next `listen`, once it has been looked up: at the first call, so that a
/// process that never listens pays nothing for it.
static LISTEN: AtomicPtr<c_void> = AtomicPtr::new(first_listen as Listen as *mut c_void);

/// The next `accept` and `accept4`, once they have been looked up.
#[cfg(any(accepts, test))]
static ACCEPT: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());
#[cfg(any(accepts, test))]
static ACCEPT4: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());

/// The next `syscall()`; `arch::syscall` jumps through it.
pub static SYSCALL: AtomicPtr<c_void> =
    AtomicPtr::new(arch::raw_syscall as unsafe extern "C" fn() as *mut c_void);

/// Looks up the functions that this module calls.
pub fn resolve() {
    resolve_bind();
    if let Some(next) = next_symbol(c"syscall") {
        SYSCALL.store(next, Relaxed);
    }
}

fn resolve_bind() {
    let next = next_symbol(c"bind").unwrap_or(raw_bind as Bind as *mut c_void);
    BIND.store(next, Relaxed);
}

/// The definition of `name` that the loader would have taken without us.
fn next_symbol(name: &core::ffi::CStr) -> Option<*mut c_void> {
    let address = dlsym();
    if address == 0 {
        return None;
    }
    // SAFETY: a symbol of this name is dlsym(3), by the C library's contract.
    let next = unsafe {
        let dlsym = transmute::<usize, Dlsym>(address);
        dlsym(RTLD_NEXT, name.as_ptr())
    };
    (!next.is_null()).then_some(next)
}

/// Calls the next `bind`.
///
/// # Safety
/// As for bind(2), which checks its arguments itself.
#[inline(always)]
pub unsafe fn bind(fd: c_int, address: *const c_void, length: u32) -> c_int {
    // SAFETY: BIND holds a function of this type from the start.
    unsafe {
        let bind = transmute::<*mut c_void, Bind>(BIND.load(Relaxed));
        bind(fd, address, length)
    }
}

/// Stands in for the next `bind` where a bind comes before our constructor, or
/// where that never runs.
unsafe extern "C" fn first_bind(fd: c_int, address: *const c_void, length: u32) -> c_int {
    resolve_bind();
    // SAFETY: passed on to the caller.
    unsafe { bind(fd, address, length) }
}

/// The system call, where no `bind` comes after us.
unsafe extern "C" fn raw_bind(fd: c_int, address: *const c_void, length: u32) -> c_int {
    let arguments = [fd.cast_unsigned() as usize, address.addr(), length as usize];
    // SAFETY: the kernel checks what bind(2) is given.
    outcome(unsafe { arch::syscall3(arch::number::BIND, arguments) })
}

/// Looks up the next `listen`.
pub fn resolve_listen() {
    let next = next_symbol(c"listen").unwrap_or(raw_listen as Listen as *mut c_void);
    LISTEN.store(next, Relaxed);
}

/// Calls the next `listen`.
///
/// # Safety
/// As for listen(2), which checks its arguments itself.
#[inline(always)]
pub unsafe fn listen(fd: c_int, backlog: c_int) -> c_int {
    // SAFETY: LISTEN holds a function of this type from the start.
    unsafe {
        let listen = transmute::<*mut c_void, Listen>(LISTEN.load(Relaxed));
        listen(fd, backlog)
    }
}

/// Stands in for the next `listen` until it is looked up.
unsafe extern "C" fn first_listen(fd: c_int, backlog: c_int) -> c_int {
    resolve_listen();
    // SAFETY: passed on to the caller.
    unsafe { listen(fd, backlog) }
}

/// The system call, where no `listen` comes after us.
unsafe extern "C" fn raw_listen(fd: c_int, backlog: c_int) -> c_int {
    let arguments = [fd, backlog, 0].map(|number| number.cast_unsigned() as usize);
    // SAFETY: the kernel checks what listen(2) is given.
    outcome(unsafe { arch::syscall3(arch::number::LISTEN, arguments) })
}

/// Calls the next `accept`, or the system call where there is none.
///
/// # Safety
/// As for accept(2), which checks its arguments itself.
#[cfg(any(accepts, test))]
pub unsafe fn accept(fd: c_int, address: *mut c_void, length: *mut u32) -> c_int {
    // SAFETY: passed on to the caller; a symbol of this name is accept(2).
    unsafe {
        match looked_up(&ACCEPT, c"accept") {
            Some(next) => transmute::<*mut c_void, Accept>(next)(fd, address, length),
            None => raw_accept(fd, address, length, 0),
        }
    }
}

/// Calls the next `accept4`, or the system call where there is none.
///
/// # Safety
/// As for accept4(2), which checks its arguments itself.
#[cfg(any(accepts, test))]
pub unsafe fn accept4(fd: c_int, address: *mut c_void, length: *mut u32, flags: c_int) -> c_int {
    // SAFETY: passed on to the caller; a symbol of this name is accept4(2).
    unsafe {
        match looked_up(&ACCEPT4, c"accept4") {
            Some(next) => transmute::<*mut c_void, Accept4>(next)(fd, address, length, flags),
            None => raw_accept(fd, address, length, flags),
        }
    }
}

#[cfg(any(accepts, test))]
fn looked_up(place: &AtomicPtr<c_void>, name: &core::ffi::CStr) -> Option<*mut c_void> {
    let known = place.load(Relaxed);
    if !known.is_null() {
        return Some(known);
    }
    let next = next_symbol(name)?;
    place.store(next, Relaxed);
    Some(next)
}

#[cfg(any(accepts, test))]
unsafe fn raw_accept(fd: c_int, address: *mut c_void, length: *mut u32, flags: c_int) -> c_int {
    let arguments = [
        fd.cast_unsigned() as usize,
        address.addr(),
        length.addr(),
        flags.cast_unsigned() as usize,
        0,
    ];
    // SAFETY: the kernel checks what accept4(2) is given.
    match unsafe { arch::syscall5(arch::number::ACCEPT4, arguments) } {
        Ok(fd) => fd as c_int,
        Err(errno) => {
            set_errno(errno);
            -1
        }
    }
}

/// A system call's outcome as the C library's function returns it.
fn outcome(answer: Result<usize, Errno>) -> c_int {
    match answer {
        Ok(_) => 0,
        Err(errno) => {
            set_errno(errno);
            -1
        }
    }
}

/// Makes the same call through the next `syscall()`.
///
/// # Safety
/// As for bind(2), which checks its arguments itself.
pub unsafe fn syscall_bind(fd: c_int, address: *const c_void, length: u32) -> c_int {
    type SyscallBind = unsafe extern "C" fn(c_long, c_long, *const c_void, c_long) -> c_long;
    // SAFETY: SYSCALL holds a function from the start that takes the number
    // and arguments of a system call in the registers of the C ABI.
    let answer = unsafe {
        let next = transmute::<*mut c_void, SyscallBind>(SYSCALL.load(Relaxed));
        next(
            arch::number::BIND as c_long,
            fd.into(),
            address,
            length.into(),
        )
    };
    answer as c_int
}

/// Ends a raw `syscall()` that failed: `answer` is the negated error number.
pub extern "C" fn fail(answer: c_long) -> c_long {
    set_errno(Errno(-answer as i32));
    -1
}

/// Sets the process's `errno`, where it has one.
pub fn set_errno(Errno(value): Errno) {
    let address = errno_location();
    if address != 0 {
        // SAFETY: the C library's own accessor gives this thread's errno.
        unsafe { *transmute::<usize, ErrnoLocation>(address)() = value };
    }
}

/// The process's `errno`; 0 where it has none.
pub fn errno() -> Errno {
    let address = errno_location();
    if address == 0 {
        return Errno(0);
    }
    // SAFETY: the C library's own accessor gives this thread's errno.
    Errno(unsafe { *transmute::<usize, ErrnoLocation>(address)() })
}

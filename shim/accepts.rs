//! Counting the connections that a copy of a runner accepts: one page of counters
//! a process, one counter a descriptor, shared with the runner. Only in the shim
//! that runners give to their copies (`--cfg accepts`); that one has unwind tables,
//! since threads are cancelled while they wait in accept(2).
#![allow(unsafe_code, reason = "memory that is shared with another process")]

use core::ffi::c_int;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU64, Ordering};

use crate::arch::{self, number};

/// How many descriptors have a counter: those from 0.
const COUNTERS: usize = 512;
const BYTES: usize = COUNTERS * size_of::<u64>();

static PAGE: AtomicPtr<AtomicU64> = AtomicPtr::new(null_mut());
static CLAIMED: AtomicU8 = AtomicU8::new(0);

/// Begins to count anew what comes from the listener `fd`. Gives the descriptor of the
/// page where that is new, which is the caller's to close.
pub fn begin(fd: c_int) -> Option<usize> {
    let page = page();
    if let Some(counter) = counter(fd) {
        counter.store(0, Ordering::Relaxed);
    }
    page
}

/// Gives this process its page, and the descriptor of that. `None` where it has one, of
/// its own or of the process that forked it.
fn page() -> Option<usize> {
    const RLIMIT_FSIZE: usize = 1;
    const MFD_CLOEXEC: usize = 1;
    const PROT_READ_WRITE: usize = 3;
    const MAP_SHARED: usize = 1;
    if arch::swap(&CLAIMED, 1) != 0 {
        return None;
    }
    // Where files may not be so long, making one so kills: see setrlimit(2).
    let mut limit = [0_u64; 2];
    let place = limit.as_mut_ptr().expose_provenance();
    // SAFETY: prlimit(2) writes both numbers.
    let asked = unsafe { arch::syscall5(number::PRLIMIT64, [0, RLIMIT_FSIZE, 0, place, 0]) };
    if asked.is_err() || limit[0] < BYTES as u64 {
        return None;
    }
    let name = c"reuseport".as_ptr().expose_provenance();
    // SAFETY: memfd_create(2) reads a C string, the others take numbers; nothing
    // is mapped over what is there.
    unsafe {
        let fd = arch::syscall3(number::MEMFD_CREATE, [name, MFD_CLOEXEC, 0]).ok()?;
        let mapping = [0, BYTES, PROT_READ_WRITE, MAP_SHARED, fd, 0];
        let page = arch::syscall3(number::FTRUNCATE, [fd, BYTES, 0])
            .and_then(|_| arch::syscall6(number::MMAP, mapping));
        match page {
            Ok(page) => PAGE.store(page as *mut AtomicU64, Ordering::Release),
            Err(_) => {
                let _ = arch::syscall3(number::CLOSE, [fd, 0, 0]);
                return None;
            }
        }
        Some(fd)
    }
}

/// Counts what accept(2) on `fd` has answered.
#[inline(always)]
pub fn count(fd: c_int, answer: c_int) {
    if answer >= 0
        && let Some(counter) = counter(fd)
    {
        arch::increment(counter);
    }
}

#[inline(always)]
fn counter(fd: c_int) -> Option<&'static AtomicU64> {
    let page = PAGE.load(Ordering::Acquire);
    let index = fd.cast_unsigned() as usize;
    // SAFETY: the page is mapped as long as the process lives, and holds as many
    // counters; its file is shortened by nobody but the process itself, or its runner.
    (index < COUNTERS && !page.is_null()).then(|| unsafe { &*page.add(index) })
}

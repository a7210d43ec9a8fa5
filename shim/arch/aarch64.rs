//! AArch64, by the AAPCS64 and syscall(2).

use core::arch::{asm, naked_asm};
use core::sync::atomic::AtomicU8;
#[cfg(any(accepts, test))]
use core::sync::atomic::AtomicU64;

use crate::{hooks, next};

/// System call numbers, from the kernel's `include/uapi/asm-generic/unistd.h`.
pub mod number {
    #[cfg(any(accepts, test))]
    pub const FTRUNCATE: usize = 46;
    pub const OPENAT: usize = 56;
    pub const CLOSE: usize = 57;
    pub const READ: usize = 63;
    pub const WRITE: usize = 64;
    pub const READLINKAT: usize = 78;
    pub const PRCTL: usize = 167;
    pub const GETPID: usize = 172;
    pub const SOCKET: usize = 198;
    pub const BIND: usize = 200;
    pub const LISTEN: usize = 201;
    pub const CONNECT: usize = 203;
    pub const SETSOCKOPT: usize = 208;
    pub const GETSOCKOPT: usize = 209;
    pub const SENDMSG: usize = 211;
    #[cfg(any(accepts, test))]
    pub const MMAP: usize = 222;
    #[cfg(any(accepts, test))]
    pub const ACCEPT4: usize = 242;
    #[cfg(any(accepts, test))]
    pub const PRLIMIT64: usize = 261;
    #[cfg(any(accepts, test))]
    pub const MEMFD_CREATE: usize = 279;
}

/// # Safety
/// As for [`super::syscall3`].
#[inline(always)]
pub unsafe fn syscall3(number: usize, arguments: [usize; 3]) -> isize {
    let answer;
    // SAFETY: the arguments are the caller's affair; the kernel changes x0
    // only.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") arguments[0] => answer, in("x1") arguments[1], in("x2") arguments[2],
            options(nostack),
        );
    }
    answer
}

/// # Safety
/// As for [`super::syscall5`].
#[inline(always)]
pub unsafe fn syscall5(number: usize, arguments: [usize; 5]) -> isize {
    let answer;
    // SAFETY: as for syscall3.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") arguments[0] => answer, in("x1") arguments[1], in("x2") arguments[2], in("x3") arguments[3], in("x4") arguments[4],
            options(nostack),
        );
    }
    answer
}

/// # Safety
/// As for [`super::syscall6`].
#[cfg(any(accepts, test))]
#[inline(always)]
pub unsafe fn syscall6(number: usize, arguments: [usize; 6]) -> isize {
    let answer;
    // SAFETY: as for syscall3.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") arguments[0] => answer, in("x1") arguments[1], in("x2") arguments[2],
            in("x3") arguments[3], in("x4") arguments[4], in("x5") arguments[5],
            options(nostack),
        );
    }
    answer
}

/// Adds one, as one step. Written out for the same reason as [`swap`].
#[cfg(any(accepts, test))]
#[inline(always)]
pub fn increment(place: &AtomicU64) {
    // SAFETY: writes to the atomic alone.
    unsafe {
        asm!(
            "2:",
            "ldxr {sum}, [{place}]",
            "add {sum}, {sum}, 1",
            "stxr {failed:w}, {sum}, [{place}]",
            "cbnz {failed:w}, 2b",
            place = in(reg) place.as_ptr(),
            sum = out(reg) _,
            failed = out(reg) _,
            options(nostack),
        );
    }
}

/// Stores `value` and gives what was there before, as one step. Written out
/// because the compiler's own calls a helper with a constructor, which needs
/// symbols that a process may not have.
pub fn swap(place: &AtomicU8, value: u8) -> u8 {
    let before;
    // SAFETY: writes to the atomic alone.
    unsafe {
        asm!(
            "2:",
            "ldaxrb {before:w}, [{place}]",
            "stlxrb {failed:w}, {value:w}, [{place}]",
            "cbnz {failed:w}, 2b",
            place = in(reg) place.as_ptr(),
            value = in(reg) value,
            before = out(reg) before,
            failed = out(reg) _,
            options(nostack, preserves_flags),
        );
    }
    before
}

/// Loads the address of a symbol from the global offset table.
macro_rules! load_address {
    ($symbol:literal, $address:ident) => {
        core::arch::asm!(
            concat!(".weak ", $symbol),
            concat!("adrp {0}, :got:", $symbol),
            concat!("ldr {0}, [{0}, :got_lo12:", $symbol, "]"),
            out(reg) $address,
            options(pure, readonly, nostack, preserves_flags),
        )
    };
}
pub(crate) use load_address;

/// The hook of libc's `syscall()`: SYS_bind goes to [`hooks::syscall_bind`],
/// any other number to the next `syscall()` with every argument and the stack
/// as the caller left them. There is no frame, so that clone, which returns
/// twice, survives.
#[unsafe(naked)]
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn syscall() {
    naked_asm!(
        "cmp x0, {bind}",
        "b.eq {hook}",
        "adrp x16, {next}",
        "ldr x16, [x16, :lo12:{next}]",
        "br x16",
        bind = const number::BIND,
        hook = sym hooks::syscall_bind,
        next = sym next::SYSCALL,
    )
}

/// What libc's `syscall()` does, for where there is none to call.
#[unsafe(naked)]
pub unsafe extern "C" fn raw_syscall() {
    naked_asm!(
        "mov x8, x0",
        "mov x0, x1",
        "mov x1, x2",
        "mov x2, x3",
        "mov x3, x4",
        "mov x4, x5",
        "mov x5, x6",
        "svc 0",
        "cmn x0, 4095",
        "b.cs {fail}",
        "ret",
        fail = sym next::fail,
    )
}

// The compiler may call these for copies and comparisons of its own. Hidden:
// they are ours alone, and no undefined symbol is left. Each has a section, so
// that the linker drops those that are not called.
#[cfg(not(test))]
core::arch::global_asm!(
    ".section .text.memcpy, \"ax\", %progbits",
    ".hidden memcpy",
    ".globl memcpy",
    "memcpy:",
    "mov x3, x0",
    "cbz x2, 3f",
    "2:",
    "ldrb w4, [x1], 1",
    "strb w4, [x3], 1",
    "subs x2, x2, 1",
    "b.ne 2b",
    "3:",
    "ret",
    ".section .text.memset, \"ax\", %progbits",
    ".hidden memset",
    ".globl memset",
    "memset:",
    "mov x3, x0",
    "cbz x2, 3f",
    "2:",
    "strb w1, [x3], 1",
    "subs x2, x2, 1",
    "b.ne 2b",
    "3:",
    "ret",
    ".section .text.bcmp, \"ax\", %progbits",
    ".hidden bcmp",
    ".globl bcmp",
    "bcmp:",
    "mov w5, wzr",
    "cbz x2, 3f",
    "2:",
    "ldrb w3, [x0], 1",
    "ldrb w4, [x1], 1",
    "subs w5, w3, w4",
    "b.ne 3f",
    "subs x2, x2, 1",
    "b.ne 2b",
    "3:",
    "mov w0, w5",
    "ret",
);

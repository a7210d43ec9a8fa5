//! x86-64, by the System V ABI and syscall(2).

use core::arch::{asm, naked_asm};
use core::sync::atomic::AtomicU8;
#[cfg(any(accepts, test))]
use core::sync::atomic::AtomicU64;

use crate::{hooks, next};

/// System call numbers, from the kernel's `arch/x86/entry/syscalls/syscall_64.tbl`.
pub mod number {
    pub const READ: usize = 0;
    pub const WRITE: usize = 1;
    pub const CLOSE: usize = 3;
    #[cfg(any(accepts, test))]
    pub const MMAP: usize = 9;
    pub const GETPID: usize = 39;
    pub const SOCKET: usize = 41;
    pub const CONNECT: usize = 42;
    pub const SENDMSG: usize = 46;
    pub const BIND: usize = 49;
    pub const LISTEN: usize = 50;
    pub const SETSOCKOPT: usize = 54;
    pub const GETSOCKOPT: usize = 55;
    #[cfg(any(accepts, test))]
    pub const FTRUNCATE: usize = 77;
    pub const PRCTL: usize = 157;
    pub const OPENAT: usize = 257;
    pub const READLINKAT: usize = 267;
    #[cfg(any(accepts, test))]
    pub const ACCEPT4: usize = 288;
    #[cfg(any(accepts, test))]
    pub const PRLIMIT64: usize = 302;
    #[cfg(any(accepts, test))]
    pub const MEMFD_CREATE: usize = 319;
}

/// # Safety
/// As for [`super::syscall3`].
#[inline(always)]
pub unsafe fn syscall3(number: usize, arguments: [usize; 3]) -> isize {
    let answer;
    // SAFETY: the arguments are the caller's affair; the kernel changes rcx,
    // r11 and rax only, and leaves the red zone alone.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => answer,
            in("rdi") arguments[0], in("rsi") arguments[1], in("rdx") arguments[2],
            lateout("rcx") _, lateout("r11") _,
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
            "syscall",
            inlateout("rax") number => answer,
            in("rdi") arguments[0], in("rsi") arguments[1], in("rdx") arguments[2], in("r10") arguments[3], in("r8") arguments[4],
            lateout("rcx") _, lateout("r11") _,
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
            "syscall",
            inlateout("rax") number => answer,
            in("rdi") arguments[0], in("rsi") arguments[1], in("rdx") arguments[2],
            in("r10") arguments[3], in("r8") arguments[4], in("r9") arguments[5],
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    answer
}

/// Adds one, as one step.
#[cfg(any(accepts, test))]
#[inline(always)]
pub fn increment(place: &AtomicU64) {
    // SAFETY: writes to the atomic alone.
    unsafe { asm!("lock inc qword ptr [{}]", in(reg) place.as_ptr(), options(nostack)) };
}

/// Stores `value` and gives what was there before, as one step.
pub fn swap(place: &AtomicU8, value: u8) -> u8 {
    let before;
    // SAFETY: writes to the atomic alone; xchg with memory is always locked.
    unsafe {
        asm!(
            "xchg {before}, [{place}]",
            place = in(reg) place.as_ptr(),
            before = inout(reg_byte) value => before,
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
            concat!("mov {}, qword ptr [rip + ", $symbol, "@GOTPCREL]"),
            out(reg) $address,
            options(pure, readonly, nostack, preserves_flags),
        )
    };
}
pub(crate) use load_address;

/// The hook of libc's `syscall()`: SYS_bind goes to [`hooks::syscall_bind`],
/// any other number to the next `syscall()` with every register and the stack
/// as the caller left them. There is no frame, so that vfork and clone, which
/// return twice, survive.
#[unsafe(naked)]
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn syscall() {
    naked_asm!(
        "cmp rdi, {bind}",
        "je {hook}",
        "jmp qword ptr [rip + {next}]",
        bind = const number::BIND,
        hook = sym hooks::syscall_bind,
        next = sym next::SYSCALL,
    )
}

/// What libc's `syscall()` does, for where there is none to call.
#[unsafe(naked)]
pub unsafe extern "C" fn raw_syscall() {
    naked_asm!(
        "mov rax, rdi",
        "mov rdi, rsi",
        "mov rsi, rdx",
        "mov rdx, rcx",
        "mov r10, r8",
        "mov r8, r9",
        "mov r9, [rsp + 8]",
        "syscall",
        "cmp rax, -4095",
        "jae 2f",
        "ret",
        "2:",
        "mov rdi, rax",
        "jmp {fail}",
        fail = sym next::fail,
    )
}

// The compiler may call these for copies and comparisons of its own. Hidden:
// they are ours alone, and no undefined symbol is left. Each has a section, so
// that the linker drops those that are not called.
#[cfg(not(test))]
core::arch::global_asm!(
    ".section .text.memcpy, \"ax\", @progbits",
    ".hidden memcpy",
    ".globl memcpy",
    "memcpy:",
    "mov rax, rdi",
    "mov rcx, rdx",
    "rep movsb",
    "ret",
    ".section .text.memset, \"ax\", @progbits",
    ".hidden memset",
    ".globl memset",
    "memset:",
    "mov r8, rdi",
    "mov eax, esi",
    "mov rcx, rdx",
    "rep stosb",
    "mov rax, r8",
    "ret",
    ".section .text.bcmp, \"ax\", @progbits",
    ".hidden bcmp",
    ".globl bcmp",
    "bcmp:",
    "xor eax, eax",
    "mov rcx, rdx",
    "cmp rcx, rcx",
    "repe cmpsb",
    "setne al",
    "ret",
);

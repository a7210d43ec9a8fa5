//! The file names of the program that runs in this process.
#![allow(unsafe_code, reason = "system calls")]

use core::ffi::{CStr, c_char};

use crate::arch::{self, number};
use crate::environ;
use crate::rules::Globs;

const AT_FDCWD: usize = (-100_isize).cast_unsigned();

/// Whether `globs` match one of the program's file names: that of its
/// executable, and that which it was executed by (a link to busybox, a
/// script). A name that cannot be learned matches nothing.
pub fn is_listed(globs: Globs<'_>) -> bool {
    let mut path = [0; 4096];
    let executable = executable(&mut path);
    // A program that has been replaced by a newer one still has its name.
    let executable = executable.strip_suffix(b" (deleted)").unwrap_or(executable);
    globs.matches(file_name(executable)) || globs.matches(file_name(executed_by()))
}

fn file_name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

/// Where `/proc/self/exe` points, or nothing where that cannot be read.
fn executable(path: &mut [u8; 4096]) -> &[u8] {
    let arguments = [
        AT_FDCWD,
        c"/proc/self/exe".as_ptr().expose_provenance(),
        path.as_mut_ptr().expose_provenance(),
        path.len(),
        0,
    ];
    // SAFETY: readlinkat(2) takes four arguments, reads a C string and writes
    // at most as many bytes as `path` has.
    let length = unsafe { arch::syscall5(number::READLINKAT, arguments) };
    path.get(..length.unwrap_or(0)).unwrap_or_default()
}

/// The path that the program was executed by, `AT_EXECFN` of getauxval(3), or
/// nothing where that is not known. Read from the file, since not every process
/// has a getauxval.
fn executed_by<'a>() -> &'a [u8] {
    const AT_EXECFN: usize = 31;
    let mut vector = [[0_usize; 2]; 64];
    read(c"/proc/self/auxv", &mut vector);
    let Some([_, address]) = vector.iter().find(|[key, _]| *key == AT_EXECFN) else {
        return b"";
    };
    // SAFETY: AT_EXECFN is the address of a C string at the end of the stack,
    // where the kernel put it and nobody frees it.
    unsafe { environ::bytes(*address as *const c_char) }
}

/// Reads the beginning of a file into `buffer`; what cannot be read is left as
/// it was.
fn read<const N: usize>(path: &CStr, buffer: &mut [[usize; 2]; N]) {
    const O_RDONLY_CLOEXEC: usize = 0o2_000_000;
    let open = [
        AT_FDCWD,
        path.as_ptr().expose_provenance(),
        O_RDONLY_CLOEXEC,
    ];
    // SAFETY: openat(2) without O_CREAT takes three arguments; read(2) writes
    // at most as many bytes as the buffer has; the descriptor is ours.
    unsafe {
        if let Ok(fd) = arch::syscall3(number::OPENAT, open) {
            let to = buffer.as_mut_ptr().expose_provenance();
            let _ = arch::syscall3(number::READ, [fd, to, size_of_val(buffer)]);
            let _ = arch::syscall3(number::CLOSE, [fd, 0, 0]);
        }
    }
}

//! What a program is: which file a command names, what the kernel and the dynamic
//! loader make of that file, and whether the shim will act in it.

mod cache;
mod code;
mod elf;
mod files;
mod follow;
mod judge;
mod libraries;
mod lookup;
mod root;
pub mod script;
mod walk;
pub mod wrapper;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

pub use code::Code;
pub use elf::{Elf, Error as ElfError, Linkage};
pub use files::{FileCapabilities, Files, Head, Status};
pub use follow::{Broken, Chain, Link, follow};
pub use judge::{Credentials, Judge, Judgement, Shims};
pub use libraries::Libc;
pub use lookup::{Lookup, NotFound};
pub use root::{Pinned, Root};
pub use script::Interpreter;
pub use walk::{Step, walk};

/// Reads as many bytes as there are at `offset`, and as `buffer` takes.
fn read_at_most(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read_at(&mut buffer[length..], offset + length as u64) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

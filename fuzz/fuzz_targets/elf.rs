//! The ELF reader on any file: it answers, in bounded time and memory.

#![no_main]

use std::fs::File;
use std::io::Write;

use libfuzzer_sys::fuzz_target;
use reuseport::program::Elf;
use rustix::fs::{MemfdFlags, memfd_create};

fuzz_target!(|data: &[u8]| {
    let file = memfd_create("program", MemfdFlags::CLOEXEC).expect("a file in memory");
    let mut file = File::from(file);
    file.write_all(data).expect("written");
    if let Ok(elf) = Elf::read(&file) {
        let _ = elf.has_system_calls(&file);
        assert!(elf.sanitizers().len() <= elf.needed.len());
    }
});

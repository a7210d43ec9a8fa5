//! First lines, last commands and wrappers' command lines, made of any text: what
//! comes out is made of what went in.

#![no_main]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use reuseport::program::{script, wrapper};

fuzz_target!(|data: &[u8]| {
    if let Some(interpreter) = script::interpreter(&data[..data.len().min(254)]) {
        assert!(!interpreter.path.as_os_str().is_empty());
    }
    let words: Vec<OsString> = data
        .split(|&byte| byte == b' ' || byte == 0)
        .map(|word| OsString::from_vec(word.to_vec()))
        .collect();
    if let Some(command) = script::last_exec(data, &words) {
        assert!(!command.is_empty());
    }
    let [program, arguments @ ..] = &words[..] else {
        return;
    };
    if let Some(wrapped) = wrapper::unwrap(Path::new(program), arguments) {
        assert!(!wrapped.command.is_empty());
    }
});

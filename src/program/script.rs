//! The first line of a script, see execve(2), "Interpreter scripts".

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The interpreter that `line` names, which is what follows `#!` in the first
/// 256 bytes of a file; `None` where it names none.
pub fn interpreter(line: &[u8]) -> Option<PathBuf> {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let line = line.split(|&byte| byte == b'\n').next()?;
    let line = &line[line.iter().position(|byte| !blank(byte))?..];
    let end = line
        .iter()
        .position(|byte| blank(byte) || *byte == 0)
        .unwrap_or(line.len());
    (end > 0).then(|| OsStr::from_bytes(&line[..end]).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interpreter_is_the_first_word() {
        let of = |line: &str| interpreter(line.as_bytes());
        assert_eq!(of("/bin/sh\n"), Some("/bin/sh".into()));
        assert_eq!(
            of(" \t/usr/bin/env -S python3 -u\nrest"),
            Some("/usr/bin/env".into())
        );
        assert_eq!(of("/bin/sh"), Some("/bin/sh".into()));
        for line in ["", "\n", "  \n/bin/sh", "\0"] {
            assert_eq!(of(line), None, "{line:?}");
        }
    }
}

//! What a program is: which file a command names, and what the kernel and the
//! dynamic loader make of that file.

mod elf;
mod lookup;
mod script;
mod verdict;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

pub use elf::{Elf, Linkage};
pub use lookup::{NotFound, find};
pub use verdict::{Credentials, Finding, judge};

/// An executable file, read.
#[derive(Debug)]
pub enum Program {
    Elf(Elf),
    /// A script; the path of its interpreter.
    Script(PathBuf),
}

/// Why a file could not be read as a program.
#[derive(Debug, Error)]
pub enum Unreadable {
    #[error("{}: {source}", .path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: neither an ELF program nor a script that begins with #!", .0.display())]
    Unknown(PathBuf),
    #[error("{}: the ELF file is damaged: {what}", .path.display())]
    Elf { path: PathBuf, what: &'static str },
    #[error("{}: its first line names no interpreter", .0.display())]
    NoInterpreter(PathBuf),
    #[error("{}: its interpreter {} is not there", .script.display(), .interpreter.display())]
    MissingInterpreter {
        script: PathBuf,
        interpreter: PathBuf,
    },
    #[error("{}: more than {limit} scripts interpret one another", .0.display(), limit = MOST_SCRIPTS)]
    TooManyScripts(PathBuf),
}

/// How many scripts in a row the kernel follows, see `BINPRM_MAX_RECURSION`.
const MOST_SCRIPTS: usize = 5;

impl Program {
    /// Reads the file at `path`. Of its content only what is needed is read, and
    /// no more than some kilobytes, whatever it claims to be.
    ///
    /// # Errors
    /// It cannot be read, or is no program.
    pub fn read(path: &Path) -> Result<Self, Unreadable> {
        let fail = |source| Unreadable::Io {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(fail)?;
        let mut head = [0; 256];
        let length = read_at_most(&file, &mut head, 0).map_err(fail)?;
        let head = &head[..length];
        if head.starts_with(b"\x7fELF") {
            let elf = Elf::read(&file);
            return elf.map(Self::Elf).map_err(|error| match error {
                elf::Error::Io(source) => fail(source),
                elf::Error::Damaged(what) => Unreadable::Elf {
                    path: path.to_owned(),
                    what,
                },
            });
        }
        if let Some(line) = head.strip_prefix(b"#!") {
            let interpreter = script::interpreter(line);
            return interpreter
                .map(Self::Script)
                .ok_or_else(|| Unreadable::NoInterpreter(path.to_owned()));
        }
        Err(Unreadable::Unknown(path.to_owned()))
    }
}

/// A program and the scripts through which it was reached.
#[derive(Debug)]
pub struct Chain {
    /// The files in the order in which the kernel opens them; the last one is
    /// the program's.
    pub paths: Vec<PathBuf>,
    /// The program that the kernel runs in the end.
    pub program: Elf,
}

/// Reads the program that running the file at `path` would run, through the
/// interpreters of scripts.
///
/// # Errors
/// One of the files cannot be read, or is no program.
pub fn follow(path: &Path) -> Result<Chain, Unreadable> {
    let mut paths = vec![path.to_owned()];
    while let Some(last) = paths.last() {
        match Program::read(last) {
            Ok(Program::Elf(program)) => return Ok(Chain { paths, program }),
            Ok(Program::Script(interpreter)) => paths.push(interpreter),
            Err(Unreadable::Io { source, .. })
                if paths.len() > 1 && source.kind() == io::ErrorKind::NotFound =>
            {
                let interpreter = paths.pop().unwrap_or_default();
                let script = paths.pop().unwrap_or_default();
                return Err(Unreadable::MissingInterpreter {
                    script,
                    interpreter,
                });
            }
            Err(error) => return Err(error),
        }
        if paths.len() > MOST_SCRIPTS {
            break;
        }
    }
    Err(Unreadable::TooManyScripts(path.to_owned()))
}

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

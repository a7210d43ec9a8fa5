//! From a command to the program that runs in the end: through the interpreters
//! of scripts, through wrappers, and through a shell script's last command.

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::elf::{self, Elf};
use super::files::Head;
use super::lookup::{Lookup, NotFound};
use super::script::{self, Interpreter};
use super::wrapper::{self, Wrapped};
use crate::preload::LD_PRELOAD;

/// A file on the way, and what it led to.
#[derive(Debug)]
pub enum Link {
    /// A script; its interpreter comes next.
    Script(Interpreter),
    /// A shell that runs a script whose last command comes next, or a wrapper.
    Wrapper(Elf),
    /// The program that is judged.
    Program(Elf),
}

/// The files from a command to its program.
#[derive(Debug, Default)]
pub struct Chain {
    /// Each file with what it is, in the order in which they are run.
    pub links: Vec<(PathBuf, Link)>,
    /// The wrapper or script that changes LD_PRELOAD on the way, if one does.
    pub scrubbed_by: Option<PathBuf>,
    /// The shell script, or the shell with a command, whose last command is not
    /// plain: what it starts is judged apart.
    pub open_script: Option<PathBuf>,
    /// Whether a script or wrapper may look for what it starts elsewhere than was
    /// done here: it may have changed the directory or PATH.
    pub is_guessed: bool,
    /// Why the chain ends before a program.
    pub broken: Option<Broken>,
}

/// Why there is no program at the end.
#[derive(Debug, Error)]
pub enum Broken {
    #[error("{0}")]
    NotFound(#[from] NotFound),
    #[error("{}: {source}", .path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: neither an ELF program nor a script that begins with #!", .0.display())]
    NotElf(PathBuf),
    #[error("{}: the ELF file is damaged: {what}", .path.display())]
    Damaged { path: PathBuf, what: &'static str },
    #[error("{}: its first line names no interpreter", .0.display())]
    NoInterpreter(PathBuf),
    #[error(
        "{}: its interpreter '{}' is not there",
        .script.display(), .interpreter.to_string_lossy().escape_debug(),
    )]
    MissingInterpreter {
        script: PathBuf,
        interpreter: PathBuf,
    },
    #[error("{}: more than {MOST_SCRIPTS} scripts interpret one another", .0.display())]
    TooManyScripts(PathBuf),
    #[error("{}: it leads through more than {MOST_LINKS} programs", .0.display())]
    TooLong(PathBuf),
}

impl Broken {
    /// Whether there is no program to speak of, rather than one that cannot run.
    pub fn is_no_program(&self) -> bool {
        match self {
            Self::NotFound(NotFound::NotExecutable(_)) => false,
            Self::NotFound(_) | Self::Io { .. } | Self::NotElf(_) | Self::Damaged { .. } => true,
            _ => false,
        }
    }
}

/// How many scripts in a row the kernel follows, see `BINPRM_MAX_RECURSION`.
const MOST_SCRIPTS: usize = 5;

/// How many files are followed in all.
const MOST_LINKS: usize = 32;

/// Shell scripts are read up to here to find their last command.
const LONGEST_SCRIPT: u64 = 1 << 20;

impl Chain {
    /// The program that is judged, with its path.
    pub fn program(&self) -> Option<(&Path, &Elf)> {
        match self.links.last()? {
            (path, Link::Program(elf)) => Some((path, elf)),
            _ => None,
        }
    }
}

/// What a file is, by its first bytes.
enum Content {
    Elf(Elf),
    Script(Interpreter),
}

/// Follows `command`, a program and its arguments, to the program that runs in the
/// end. What keeps it from getting there is in the chain, behind what was found.
pub fn follow(command: &[OsString], lookup: &Lookup<'_>) -> Chain {
    let mut chain = Chain::default();
    if let Err(broken) = extend(&mut chain, command.to_vec(), lookup) {
        chain.broken = Some(broken);
    }
    chain
}

fn extend(
    chain: &mut Chain,
    mut command: Vec<OsString>,
    lookup: &Lookup<'_>,
) -> Result<(), Broken> {
    // Scripts in a row, and the shell script that an interpreter was given.
    let mut scripts = 0;
    let mut running: Option<(PathBuf, Vec<OsString>)> = None;
    loop {
        let (first, arguments) = command
            .split_first()
            .map_or((OsString::new(), &[][..]), |(first, rest)| {
                (first.clone(), rest)
            });
        let path = find(chain, &first, scripts > 0, lookup)?;
        if chain.links.len() >= MOST_LINKS {
            return Err(Broken::TooLong(path));
        }
        match read(&path, lookup)? {
            Content::Script(interpreter) => {
                scripts += 1;
                if scripts > MOST_SCRIPTS {
                    return Err(Broken::TooManyScripts(path));
                }
                running = Some((path.clone(), arguments.to_vec()));
                let head = std::iter::once(interpreter.path.clone().into_os_string());
                let next = head
                    .chain(interpreter.argument.clone())
                    .chain([path.clone().into()]);
                let next: Vec<OsString> = next.chain(arguments.iter().cloned()).collect();
                chain.links.push((path, Link::Script(interpreter)));
                command = next;
            }
            Content::Elf(elf) => {
                scripts = 0;
                let beyond = beyond(&path, arguments, running.take(), lookup);
                chain.is_guessed |= beyond.is_guessed;
                let Some(Wrapped {
                    command: next,
                    scrubs,
                }) = beyond.wrapped
                else {
                    chain.open_script = beyond.open;
                    chain.links.push((path, Link::Program(elf)));
                    return Ok(());
                };
                if scrubs {
                    let by = beyond.script.unwrap_or_else(|| path.clone());
                    chain.scrubbed_by.get_or_insert(by);
                }
                chain.links.push((path, Link::Wrapper(elf)));
                command = next;
            }
        }
    }
}

/// The file that `first` names. That of a missing interpreter is an error of the
/// script's.
fn find(
    chain: &mut Chain,
    first: &std::ffi::OsStr,
    is_interpreter: bool,
    lookup: &Lookup<'_>,
) -> Result<PathBuf, Broken> {
    lookup
        .find(first)
        .map_err(|error| match (error, chain.links.last()) {
            (NotFound::Missing(interpreter), Some((script, _))) if is_interpreter => {
                Broken::MissingInterpreter {
                    script: script.clone(),
                    interpreter,
                }
            }
            (error, _) => error.into(),
        })
}

/// What a program becomes.
#[derive(Default)]
struct Beyond {
    wrapped: Option<Wrapped>,
    /// The shell script that it runs.
    script: Option<PathBuf>,
    /// What it runs, where it cannot be told what that becomes.
    open: Option<PathBuf>,
    /// As in [`Chain`].
    is_guessed: bool,
}

/// What the program at `path` becomes.
fn beyond(
    path: &Path,
    arguments: &[OsString],
    running: Option<(PathBuf, Vec<OsString>)>,
    lookup: &Lookup<'_>,
) -> Beyond {
    let (shell, arguments) = match arguments.split_first() {
        Some((applet, rest)) if path.file_name().is_some_and(|name| name == "busybox") => {
            (Path::new(applet), rest)
        }
        _ => (path, arguments),
    };
    if !script::is_shell(shell) {
        return Beyond {
            wrapped: wrapper::unwrap(shell, arguments),
            is_guessed: wrapper::looks_elsewhere(shell, arguments),
            ..Beyond::default()
        };
    }
    // sh -c 'exec server': the rest are $0 and the arguments.
    if let [flag, text, rest @ ..] = arguments
        && flag == "-c"
    {
        let rest = rest.get(1..).unwrap_or_default();
        return of_text(text.as_encoded_bytes(), rest, path);
    }
    // A script by its first line, or as the argument: sh script.
    let script = running.or_else(|| {
        let (script, rest) = arguments.split_first()?;
        let path = lookup.find(script).or_else(|error| match error {
            NotFound::NotExecutable(path) => Ok(path),
            error => Err(error),
        });
        Some((path.ok()?, rest.to_vec()))
    });
    let Some((script, rest)) = script else {
        return Beyond::default();
    };
    let mut text = Vec::new();
    let read = lookup
        .root
        .open(&script)
        .and_then(|file| file.take(LONGEST_SCRIPT).read_to_end(&mut text));
    match read {
        // The last command of a longer one is not known.
        Ok(length) if (length as u64) < LONGEST_SCRIPT => of_text(&text, &rest, &script),
        _ => Beyond {
            open: Some(script),
            ..Beyond::default()
        },
    }
}

/// What a shell becomes that runs `text`, which `script` holds.
fn of_text(text: &[u8], arguments: &[OsString], script: &Path) -> Beyond {
    let wrapped = script::last_exec(text, arguments).map(|command| Wrapped {
        command,
        scrubs: script::mentions(text, LD_PRELOAD.as_bytes()),
    });
    Beyond {
        open: wrapped.is_none().then(|| script.to_owned()),
        script: Some(script.to_owned()),
        wrapped,
        is_guessed: true,
    }
}

fn read(path: &Path, lookup: &Lookup<'_>) -> Result<Content, Broken> {
    let fail = |source| Broken::Io {
        path: path.to_owned(),
        source,
    };
    let head = match lookup.root.head(path).map_err(fail)? {
        Head::Elf(elf) => {
            return elf.map(Content::Elf).map_err(|error| match error {
                elf::Error::Io(source) => fail(source),
                elf::Error::Damaged(what) => Broken::Damaged {
                    path: path.to_owned(),
                    what,
                },
            });
        }
        Head::Text(head) => head,
    };
    let Some(line) = head.strip_prefix(b"#!") else {
        return Err(Broken::NotElf(path.to_owned()));
    };
    let interpreter = script::interpreter(line);
    interpreter
        .map(Content::Script)
        .ok_or_else(|| Broken::NoInterpreter(path.to_owned()))
}

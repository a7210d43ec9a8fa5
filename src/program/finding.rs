//! What is found of a program, in stable words.

use std::fmt;

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// The shim may not act: the verdict is uncertain.
    Warning,
    /// The shim cannot act: the verdict is that it fails.
    Error,
}

impl Severity {
    pub fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// The kinds of findings. Their names are part of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    Static,
    RawSyscalls,
    Setuid,
    Setgid,
    FileCapabilities,
    NoBind,
    LibraryBinds,
    RuntimeLibraries,
    MissingLibrary,
    WrongArch,
    NoShimForArch,
    MissingInterpreter,
    ScriptInterpreter,
    ScrubbedEnvironment,
    Wrapper,
    NotExecutable,
    NotAFile,
    NotElf,
    NotFound,
    Unreadable,
    Damaged,
    PreloadAlreadySet,
    IoUring,
    Sanitizer,
}

impl Code {
    pub fn name(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::RawSyscalls => "raw-syscalls",
            Self::Setuid => "setuid",
            Self::Setgid => "setgid",
            Self::FileCapabilities => "file-capabilities",
            Self::NoBind => "no-bind",
            Self::LibraryBinds => "library-binds",
            Self::RuntimeLibraries => "runtime-libraries",
            Self::MissingLibrary => "missing-library",
            Self::WrongArch => "wrong-arch",
            Self::NoShimForArch => "no-shim-for-arch",
            Self::MissingInterpreter => "missing-interpreter",
            Self::ScriptInterpreter => "script-interpreter",
            Self::ScrubbedEnvironment => "scrubbed-environment",
            Self::Wrapper => "wrapper",
            Self::NotExecutable => "not-executable",
            Self::NotAFile => "not-a-file",
            Self::NotElf => "not-elf",
            Self::NotFound => "not-found",
            Self::Unreadable => "unreadable",
            Self::Damaged => "damaged",
            Self::PreloadAlreadySet => "preload-already-set",
            Self::IoUring => "io-uring",
            Self::Sanitizer => "sanitizer",
        }
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub code: Code,
    pub severity: Severity,
    /// What was found, as a clause that names the file where it is not the
    /// program itself.
    pub message: String,
    /// What to do about it; empty where there is nothing.
    pub hint: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.name(), self.message)
    }
}

/// Whether the shim will act in a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Works,
    Uncertain,
    Fails,
}

impl Verdict {
    /// What `findings` amount to.
    pub fn of(findings: &[Finding]) -> Self {
        match findings.iter().map(|finding| finding.severity).max() {
            Some(Severity::Error) => Self::Fails,
            Some(Severity::Warning) => Self::Uncertain,
            Some(Severity::Note) | None => Self::Works,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Works => "works",
            Self::Uncertain => "uncertain",
            Self::Fails => "fails",
        }
    }
}

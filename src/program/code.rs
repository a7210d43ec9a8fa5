//! What may be found of a program, in stable words.

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

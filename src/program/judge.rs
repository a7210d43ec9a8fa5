//! Whether the shim will act in a program, and why.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::code::Code;
use super::elf::{Elf, Linkage};
use super::follow::{Broken, Chain, Link, follow};
use super::libraries::{Closure, Libc, Libraries};
use super::lookup::{Lookup, NotFound};
use crate::finding::{Finding, Severity, Verdict};
use crate::preload::LD_PRELOAD;
use crate::shim::{self, Architecture};

/// Who runs the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The real user and group ids.
    pub user: u32,
    pub group: u32,
    /// Whether no_new_privs is set, see prctl(2).
    pub no_new_privileges: bool,
}

impl Credentials {
    /// Those of this process.
    pub fn of_this_process() -> Self {
        Self {
            user: rustix::process::getuid().as_raw(),
            group: rustix::process::getgid().as_raw(),
            no_new_privileges: rustix::thread::no_new_privs().unwrap_or(false),
        }
    }
}

/// Which shims are at hand, by architecture.
pub type Shims<'a> = &'a dyn Fn(&Architecture) -> bool;

/// What there is to know for judging programs of one root.
#[derive(Debug)]
pub struct Judge<'a> {
    lookup: Lookup<'a>,
    libraries: Libraries<'a>,
    credentials: Credentials,
    /// LD_PRELOAD, as the program will find it.
    preload: Option<&'a OsStr>,
}

/// What is found of a command.
#[derive(Debug)]
pub struct Judgement {
    pub chain: Chain,
    /// The architecture of the program, where there is a shim for it.
    pub architecture: Option<&'static Architecture>,
    pub findings: Vec<Finding>,
}

impl Judgement {
    /// What the findings amount to: an error decides, a warning leaves it open.
    pub fn verdict(&self) -> Verdict {
        match self.findings.iter().map(|finding| finding.severity).max() {
            Some(Severity::Error) => Verdict::Fails,
            Some(Severity::Warning) => Verdict::Uncertain,
            Some(Severity::Note) | None => Verdict::Works,
        }
    }

    fn add(
        &mut self,
        severity: Severity,
        code: Code,
        message: impl Into<String>,
        hint: &'static str,
    ) {
        let finding = Finding::new(severity, code.name(), message);
        self.findings.push(if hint.is_empty() {
            finding
        } else {
            finding.hint(hint)
        });
    }

    fn error(&mut self, code: Code, message: impl Into<String>, hint: &'static str) {
        self.add(Severity::Error, code, message, hint);
    }

    fn warn(&mut self, code: Code, message: impl Into<String>, hint: &'static str) {
        self.add(Severity::Warning, code, message, hint);
    }

    fn note(&mut self, code: Code, message: impl Into<String>, hint: &'static str) {
        self.add(Severity::Note, code, message, hint);
    }
}

impl<'a> Judge<'a> {
    /// `variable` gives the environment in which the programs will run.
    pub fn new(
        lookup: Lookup<'a>,
        credentials: Credentials,
        variable: impl Fn(&str) -> Option<&'a OsStr>,
    ) -> Self {
        let libraries = Libraries::new(lookup.root, variable("LD_LIBRARY_PATH"));
        Self {
            lookup,
            libraries,
            credentials,
            preload: variable(LD_PRELOAD),
        }
    }

    /// Judges `command`, a program and its arguments.
    pub fn judge(&self, command: &[OsString], has_shim: Shims<'_>) -> Judgement {
        let mut chain = follow(command, &self.lookup);
        let broken = chain.broken.take();
        let mut judgement = Judgement {
            chain,
            architecture: None,
            findings: Vec::new(),
        };
        if let Some(broken) = &broken {
            let (code, hint) = describe(broken);
            let severity = if code == Code::NotFound && judgement.chain.is_guessed {
                Severity::Warning
            } else {
                Severity::Error
            };
            judgement.add(severity, code, broken.to_string(), hint);
        }
        judgement.chain.broken = broken;
        Self::judge_way(&mut judgement);
        if let Some((path, elf)) = judgement.chain.program() {
            let (path, elf) = (path.to_owned(), elf.clone());
            self.judge_program(&path, &elf, has_shim, &mut judgement);
        }
        if self.preload.is_some_and(|list| !list.is_empty()) {
            judgement.note(
                Code::PreloadAlreadySet,
                "LD_PRELOAD is set already",
                "its entries are kept, and the shim comes after them",
            );
        }
        judgement
    }

    /// What the files before the program do.
    fn judge_way(judgement: &mut Judgement) {
        let mut notes = Vec::new();
        for (path, link) in &judgement.chain.links {
            let path = path.display();
            match link {
                Link::Script(interpreter) => {
                    let interpreter = interpreter.path.display();
                    notes.push((
                        Code::ScriptInterpreter,
                        format!("{path} is a script: {interpreter} runs it"),
                    ));
                }
                Link::Wrapper(_) => notes.push((
                    Code::Wrapper,
                    format!("{path} becomes what its arguments name"),
                )),
                Link::Program(_) => {}
            }
        }
        if let Some(script) = judgement.chain.open_script.clone() {
            let message = format!("what {} starts is not known", script.display());
            let hint = "check the server that it starts, or try it: check --live";
            judgement.warn(Code::ScriptInterpreter, message, hint);
        }
        for (code, message) in notes {
            judgement.note(code, message, "");
        }
        if let Some(wrapper) = &judgement.chain.scrubbed_by {
            let message = format!(
                "{} takes LD_PRELOAD out of the environment, or sets it anew",
                wrapper.display()
            );
            judgement.warn(
                Code::ScrubbedEnvironment,
                message,
                "run reuseport behind it: WRAPPER reuseport -- CMD",
            );
        }
    }

    fn judge_program(
        &self,
        path: &Path,
        elf: &Elf,
        has_shim: Shims<'_>,
        judgement: &mut Judgement,
    ) {
        if elf.is_go {
            judgement.error(
                Code::RawSyscalls,
                "built by Go: it makes system calls itself, and calls no bind that could be stood in front of",
                "many Go servers have an option of their own for SO_REUSEPORT",
            );
        }
        match &elf.linkage {
            Linkage::Dynamic(interpreter) => {
                if self.lookup.root.status(interpreter).is_err() {
                    let message =
                        format!("its dynamic loader {} is not there", interpreter.display());
                    let hint = "install the C library that it was built for (musl or glibc, of its architecture)";
                    judgement.error(Code::MissingInterpreter, message, hint);
                }
            }
            Linkage::Static | Linkage::StaticPie => {
                judgement.error(
                    Code::Static,
                    "statically linked: no dynamic loader reads LD_PRELOAD",
                    "use a dynamically linked build of it",
                );
                return;
            }
            Linkage::Library => {
                return judgement.error(Code::NotExecutable, "a shared library, not a program", "");
            }
            Linkage::Other => {
                return judgement.error(Code::NotExecutable, "an ELF file, but not a program", "");
            }
        }
        self.judge_architecture(elf, has_shim, judgement);
        if let Err(error) = self.judge_mode(path, judgement) {
            judgement.error(Code::Unreadable, error.to_string(), "");
        }
        if !elf.is_go {
            self.judge_imports(path, elf, judgement);
        }
    }

    fn judge_architecture(&self, elf: &Elf, has_shim: Shims<'_>, judgement: &mut Judgement) {
        let same = |one: &&Architecture| {
            elf.is_64_bit && elf.is_little_endian && one.elf_machine == elf.machine
        };
        let Some(architecture) = shim::ARCHITECTURES.iter().find(same) else {
            let class = if elf.is_64_bit { 64 } else { 32 };
            let message = format!(
                "there is no shim for its architecture ({class}-bit, ELF machine {}): only for {}",
                elf.machine,
                shim::names()
            );
            return judgement.error(Code::NoShimForArch, message, "");
        };
        if !has_shim(architecture) {
            let message = format!(
                "the shim for {} is not in this build of reuseport",
                architecture.name
            );
            let hint = "rustup target add its target, and build reuseport again";
            judgement.error(Code::NoShimForArch, message, hint);
        }
        judgement.architecture = Some(architecture);
        let here = std::env::consts::ARCH;
        if self.lookup.root.is_host() && architecture.name != here {
            let message = format!(
                "it is for {}, and this machine is {here}",
                architecture.name
            );
            judgement.note(
                Code::WrongArch,
                message,
                "it runs under emulation alone, with the shim of its own architecture",
            );
        }
    }

    /// Whether the loader would be in secure mode, see ld.so(8).
    fn judge_mode(&self, path: &Path, judgement: &mut Judgement) -> io::Result<()> {
        const SET_USER: u32 = 0o4000;
        const SET_GROUP: u32 = 0o2000;
        const GROUP_EXECUTE: u32 = 0o0010;

        let root = self.lookup.root;
        let status = root.status(path)?;
        let mode = status.mode;
        let set_user = mode & SET_USER != 0;
        // Without the right to execute, the bit has another meaning.
        let set_group = mode & SET_GROUP != 0 && mode & GROUP_EXECUTE != 0;
        let capabilities = root.has_capabilities(path)?;
        if !(set_user || set_group || capabilities) {
            return Ok(());
        }
        let is_void = root.is_nosuid(path)?;
        let who = self.credentials;
        let changes = !is_void && !who.no_new_privileges;
        let mut found = |is_set, code, is_secure, what: &str, hint| {
            if is_set && is_secure {
                judgement.error(code, format!("{what}: the loader ignores LD_PRELOAD"), hint);
            } else if is_set {
                let message = format!("{what}, which changes nothing for who runs it here");
                judgement.note(code, message, "");
            }
        };
        let hint = "run it as the user that it is to become, from a copy without the bit";
        found(
            set_user,
            Code::Setuid,
            changes && status.user != who.user,
            "setuid",
            hint,
        );
        found(
            set_group,
            Code::Setgid,
            changes && status.group != who.group,
            "setgid",
            hint,
        );
        let is_secure = !is_void && who.user != 0;
        let hint = "take them away (setcap -r) and give what it needs another way: ambient capabilities, \
                    a port above 1023, or net.ipv4.ip_unprivileged_port_start";
        found(
            capabilities,
            Code::FileCapabilities,
            is_secure,
            "has file capabilities",
            hint,
        );
        Ok(())
    }

    /// Whether it binds, and by a path that is stood in front of.
    fn judge_imports(&self, path: &Path, elf: &Elf, judgement: &mut Judgement) {
        let closure = self.libraries.closure(path, elf);
        let Closure {
            imports,
            binder,
            missing,
            names,
        } = &closure;
        if !missing.is_empty() {
            let missing: BTreeSet<_> = missing.iter().map(|name| name.to_string_lossy()).collect();
            let missing: Vec<_> = missing.iter().take(8).map(AsRef::as_ref).collect();
            let message = format!(
                "libraries that it needs were not found: {}",
                missing.join(", ")
            );
            judgement.warn(
                Code::MissingLibrary,
                message,
                "install them, or set LD_LIBRARY_PATH as for the server",
            );
        }
        if let (false, Some(library)) = (elf.imports.bind, binder) {
            let message = format!(
                "it does not call bind itself, but its library {} does",
                library.display()
            );
            judgement.note(Code::LibraryBinds, message, "");
        }
        if !imports.bind {
            if imports.dlopen {
                judgement.warn(
                    Code::RuntimeLibraries,
                    "neither it nor its libraries call bind, but it loads others at run time, which cannot be known",
                    "check --live tries it; check --pid looks at the running server",
                );
            } else if elf.imports.dlsym {
                judgement.warn(
                    Code::RuntimeLibraries,
                    "neither it nor its libraries take bind, but it looks functions up at run time, which cannot be known",
                    "check --live tries it; check --pid looks at the running server",
                );
            } else if imports.syscall {
                judgement.warn(
                    Code::NoBind,
                    "neither it nor its libraries call bind; it calls syscall, through which it may bind",
                    "the shim stands in front of syscall, too",
                );
            } else if Libc::of(elf).is_none() && self.has_system_calls(path, elf) {
                judgement.warn(
                    Code::RawSyscalls,
                    "it uses no C library, and system call instructions stand in its code",
                    "check --live tries it; check --pid looks at the running server",
                );
            } else {
                judgement.warn(
                    Code::NoBind,
                    "neither it nor its libraries call bind: what it starts may do so",
                    "check the server that it starts, or try it: check --live",
                );
            }
        }
        if names
            .iter()
            .any(|name| name.as_bytes().starts_with(b"liburing.so"))
        {
            judgement.note(
                Code::IoUring,
                "it uses io_uring, by which it could bind past the shim",
                "check --live tries it; check --pid looks at the running server",
            );
        }
        if !elf.sanitizers().is_empty() {
            judgement.note(
                Code::Sanitizer,
                "built with a sanitizer",
                "its runtime is put before the shim",
            );
        }
    }

    fn has_system_calls(&self, path: &Path, elf: &Elf) -> bool {
        let file = self.lookup.root.open(path);
        file.is_ok_and(|file| elf.has_system_calls(&file).unwrap_or(false))
    }
}

/// The finding that a broken chain is.
fn describe(broken: &Broken) -> (Code, &'static str) {
    match broken {
        Broken::NotFound(NotFound::Missing(_) | NotFound::NotInPath(_)) => (Code::NotFound, ""),
        Broken::NotFound(NotFound::Denied(_)) => {
            (Code::Unreadable, "ask as a user who may, or as root")
        }
        Broken::NotFound(NotFound::NotExecutable(_)) => (Code::NotExecutable, ""),
        Broken::NotFound(NotFound::Directory(_) | NotFound::Special(_)) => {
            (Code::NotAFile, "name a program")
        }
        Broken::Io { source, .. } => match source.kind() {
            io::ErrorKind::NotFound => (Code::NotFound, ""),
            io::ErrorKind::IsADirectory | io::ErrorKind::InvalidInput => {
                (Code::NotAFile, "name a program")
            }
            _ => (Code::Unreadable, "ask as a user who may, or as root"),
        },
        Broken::NotElf(_) => (Code::NotElf, ""),
        Broken::Damaged { .. } => (Code::Damaged, "copy or install it again"),
        Broken::NoInterpreter(_) | Broken::MissingInterpreter { .. } => (
            Code::MissingInterpreter,
            "install it, or correct the first line",
        ),
        Broken::TooManyScripts(_) | Broken::TooLong(_) => (Code::NotExecutable, ""),
    }
}

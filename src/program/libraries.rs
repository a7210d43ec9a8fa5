//! The libraries that the dynamic loader loads with a program, found as the
//! loader finds them: ld.so(8), "Library search", and musl's manual.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::cache::Cache;
use super::elf::{Elf, Imports, Linkage};
use super::files::Head;
use super::root::Root;

/// The C library that a program is linked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Libc {
    Glibc,
    Musl,
}

impl Libc {
    /// The C library that the program `elf` says to want: by its loader, or else
    /// by the libraries that it names.
    pub fn of(elf: &Elf) -> Option<Self> {
        if let Linkage::Dynamic(interpreter) = &elf.linkage {
            let name = interpreter.file_name().unwrap_or_default().as_bytes();
            if name.starts_with(b"ld-musl-") {
                return Some(Self::Musl);
            }
            if name.starts_with(b"ld-linux") || name.starts_with(b"ld64.so") {
                return Some(Self::Glibc);
            }
        }
        let needs = |start: &[u8]| {
            elf.needed
                .iter()
                .any(|name| name.as_bytes().starts_with(start))
        };
        if needs(b"libc.so.6") {
            Some(Self::Glibc)
        } else if needs(b"libc.musl-") {
            Some(Self::Musl)
        } else {
            None
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Glibc => "glibc",
            Self::Musl => "musl",
        }
    }
}

/// The libraries that are loaded with a program.
#[derive(Debug, Default)]
pub struct Closure {
    /// What any of them, or the program, takes from others.
    pub imports: Imports,
    /// The first library that takes `bind` from others.
    pub binder: Option<OsString>,
    /// Those that were not found.
    pub missing: Vec<OsString>,
    /// The names of all, found or not.
    pub names: HashSet<OsString>,
}

/// The most libraries that are followed for one program.
const MOST_LIBRARIES: usize = 2048;

/// The libraries of a root, each read once, however many programs need it.
#[derive(Debug)]
pub struct Libraries<'a> {
    root: &'a Root,
    /// LD_LIBRARY_PATH.
    path: Option<OsString>,
    cache: RefCell<Option<Rc<Cache>>>,
    musl: RefCell<Option<Rc<Vec<PathBuf>>>>,
    read: RefCell<HashMap<PathBuf, Option<Rc<Elf>>>>,
}

/// A file whose libraries are still to be found.
struct Pending {
    elf: Rc<Elf>,
    /// The directory that `$ORIGIN` stands for.
    origin: PathBuf,
    /// The search paths (`DT_RPATH`) of those that caused it to be loaded.
    inherited: Vec<PathBuf>,
}

impl<'a> Libraries<'a> {
    /// The libraries of `root`, where LD_LIBRARY_PATH is `path`.
    pub fn new(root: &'a Root, path: Option<&OsStr>) -> Self {
        Self {
            root,
            path: path.map(OsStr::to_owned),
            cache: RefCell::default(),
            musl: RefCell::default(),
            read: RefCell::default(),
        }
    }

    /// All that is loaded with `program`, which lies at `path`.
    pub fn closure(&self, path: &Path, program: &Elf) -> Closure {
        let mut closure = Closure {
            imports: program.imports,
            ..Closure::default()
        };
        let libc = Libc::of(program);
        let loader = match &program.linkage {
            Linkage::Dynamic(interpreter) => interpreter.file_name(),
            _ => None,
        };
        let mut pending = VecDeque::from([Pending {
            elf: Rc::new(program.clone()),
            // The loader takes the program's own directory, links resolved.
            origin: directory(
                &self
                    .root
                    .canonical(path)
                    .unwrap_or_else(|_| path.to_owned()),
            ),
            inherited: Vec::new(),
        }]);
        while let Some(one) = pending.pop_front() {
            let (rpath, runpath) = (one.rpath(), one.runpath());
            for name in &one.elf.needed {
                if closure.names.len() >= MOST_LIBRARIES || !closure.names.insert(name.clone()) {
                    continue;
                }
                // The loader is loaded already, and musl's own names are all its.
                if Some(name.as_os_str()) == loader || libc == Some(Libc::Musl) && is_musl(name) {
                    continue;
                }
                let found = self.find(name, program, libc, &rpath, &runpath);
                let Some((path, elf)) = found else {
                    closure.missing.push(name.clone());
                    continue;
                };
                if elf.imports.bind && closure.binder.is_none() {
                    closure.binder = Some(name.clone());
                }
                closure.imports.bind |= elf.imports.bind;
                closure.imports.syscall |= elf.imports.syscall;
                closure.imports.dlopen |= elf.imports.dlopen;
                pending.push_back(Pending {
                    elf,
                    origin: directory(&path),
                    inherited: rpath.clone(),
                });
            }
        }
        closure
    }

    /// The library `name`. Of an image only as many layers are read as it takes to
    /// find one: another that they hid would say the same of itself.
    fn find(
        &self,
        name: &OsStr,
        program: &Elf,
        libc: Option<Libc>,
        rpath: &[PathBuf],
        runpath: &[PathBuf],
    ) -> Option<(PathBuf, Rc<Elf>)> {
        loop {
            let found = self.find_known(name, program, libc, rpath, runpath);
            if found.is_some() || !self.root.deepen() {
                return found;
            }
            // What was not there may be now.
            self.read.borrow_mut().retain(|_, elf| elf.is_some());
            self.cache.take();
            self.musl.take();
        }
    }

    fn find_known(
        &self,
        name: &OsStr,
        program: &Elf,
        libc: Option<Libc>,
        rpath: &[PathBuf],
        runpath: &[PathBuf],
    ) -> Option<(PathBuf, Rc<Elf>)> {
        let fits = |path: PathBuf| {
            let elf = self.load(&path)?;
            let same = elf.machine == program.machine && elf.is_64_bit == program.is_64_bit;
            same.then_some((path, elf))
        };
        if name.as_bytes().contains(&b'/') {
            return fits(name.into());
        }
        let variable = self.path.iter().flat_map(|path| split(path));
        let listed = rpath
            .iter()
            .cloned()
            .chain(variable)
            .chain(runpath.iter().cloned());
        if let Some(found) = listed.map(|directory| directory.join(name)).find_map(fits) {
            return Some(found);
        }
        if libc == Some(Libc::Musl) {
            let mut known = self.musl.borrow_mut();
            let known = known.get_or_insert_with(|| musl_directories(self.root, program).into());
            let directories = Rc::clone(known);
            return directories
                .iter()
                .map(|directory| directory.join(name))
                .find_map(fits);
        }
        let cache = {
            let mut known = self.cache.borrow_mut();
            Rc::clone(known.get_or_insert_with(|| Cache::of(self.root).into()))
        };
        let cached = cache.get(name).iter().cloned();
        let defaults = default_directories(program)
            .into_iter()
            .map(|one| one.join(name));
        cached.chain(defaults).find_map(fits)
    }

    /// The library at `path`, if it is one.
    fn load(&self, path: &Path) -> Option<Rc<Elf>> {
        if let Some(known) = self.read.borrow().get(path) {
            return known.clone();
        }
        let elf = match self.root.known_head(path) {
            Ok(Head::Elf(Ok(elf))) => Some(Rc::new(elf)),
            _ => None,
        };
        self.read.borrow_mut().insert(path.to_owned(), elf.clone());
        elf
    }
}

impl Pending {
    /// The directories of `DT_RPATH`, its own and inherited, which count only
    /// where there is no `DT_RUNPATH`.
    fn rpath(&self) -> Vec<PathBuf> {
        if self.elf.runpath.is_some() {
            return Vec::new();
        }
        let own = self.elf.rpath.iter().flat_map(|path| self.expand(path));
        own.chain(self.inherited.iter().cloned()).collect()
    }

    fn runpath(&self) -> Vec<PathBuf> {
        self.elf
            .runpath
            .iter()
            .flat_map(|path| self.expand(path))
            .collect()
    }

    /// The directories that `path` lists, with the loader's tokens replaced.
    fn expand(&self, path: &OsStr) -> Vec<PathBuf> {
        let lib: &[u8] = if self.elf.is_64_bit { b"lib64" } else { b"lib" };
        let multiarch = [b"lib/".as_slice(), triplet(&self.elf).as_bytes()].concat();
        let directories = split(path).flat_map(|one| {
            let origin = replace(
                one.as_os_str().as_bytes(),
                "ORIGIN",
                self.origin.as_os_str().as_bytes(),
            );
            // What $LIB stands for is a matter of how glibc was built.
            let libs = [lib, &multiarch].map(|lib| replace(&origin, "LIB", lib));
            libs.map(|one| PathBuf::from(OsString::from_vec(one)))
        });
        let mut directories: Vec<PathBuf> = directories.collect();
        directories.dedup();
        directories
    }
}

/// Replaces `$TOKEN` and `${TOKEN}` in `text`.
fn replace(text: &[u8], token: &str, value: &[u8]) -> Vec<u8> {
    let forms = [format!("${{{token}}}"), format!("${token}")];
    let mut replaced = Vec::with_capacity(text.len());
    let mut rest = text;
    'text: while let Some((&byte, after)) = rest.split_first() {
        for form in &forms {
            if let Some(after) = rest.strip_prefix(form.as_bytes()) {
                replaced.extend(value);
                rest = after;
                continue 'text;
            }
        }
        replaced.push(byte);
        rest = after;
    }
    replaced
}

/// The directories of a list like LD_LIBRARY_PATH.
fn split(list: &OsStr) -> impl Iterator<Item = PathBuf> {
    let parts = list.as_bytes().split(|byte| matches!(byte, b':' | b';'));
    parts
        .filter(|part| !part.is_empty())
        .map(|part| OsStr::from_bytes(part).into())
}

fn directory(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("/")).to_owned()
}

/// The name that a machine's libraries go by in Debian's directories.
fn triplet(elf: &Elf) -> String {
    let machine = match (elf.machine, elf.is_64_bit) {
        (62, true) => "x86_64",
        (183, _) => "aarch64",
        (3, _) => "i386",
        (40, _) => return "arm-linux-gnueabihf".into(),
        (243, true) => "riscv64",
        (21, true) => "powerpc64le",
        (22, true) => "s390x",
        _ => "unknown",
    };
    format!("{machine}-linux-gnu")
}

/// Where glibc looks last: its own directories, as distributions build it.
fn default_directories(elf: &Elf) -> Vec<PathBuf> {
    let triplet = triplet(elf);
    let mut directories: Vec<PathBuf> = vec![
        format!("/lib/{triplet}").into(),
        format!("/usr/lib/{triplet}").into(),
    ];
    let plain: &[&str] = if elf.is_64_bit {
        &["/lib64", "/usr/lib64", "/lib", "/usr/lib"]
    } else {
        &["/lib", "/usr/lib"]
    };
    directories.extend(plain.iter().map(PathBuf::from));
    directories
}

/// Where musl looks: the directories of its path file, or its own.
fn musl_directories(root: &Root, program: &Elf) -> Vec<PathBuf> {
    use std::io::Read;

    const LARGEST: u64 = 64 * 1024;
    let Linkage::Dynamic(interpreter) = &program.linkage else {
        return Vec::new();
    };
    // /lib/ld-musl-ARCH.so.1 reads /etc/ld-musl-ARCH.path, in its own prefix.
    let name = interpreter
        .file_stem()
        .map(Path::new)
        .and_then(Path::file_stem);
    let name = name.unwrap_or_default().to_owned();
    let file = Path::new("/etc").join(name).with_extension("path");
    let mut text = Vec::new();
    let read = root
        .open_known(&file)
        .and_then(|file| file.take(LARGEST).read_to_end(&mut text));
    if read.is_err() {
        return ["/lib", "/usr/local/lib", "/usr/lib"]
            .map(PathBuf::from)
            .to_vec();
    }
    let parts = text.split(|byte| matches!(byte, b':' | b'\n'));
    parts
        .filter(|part| !part.is_empty())
        .map(|part| OsStr::from_bytes(part).into())
        .collect()
}

/// Whether musl takes `name` for itself, see `load_library` in its ldso.
fn is_musl(name: &OsStr) -> bool {
    const RESERVED: [&[u8]; 7] = [b"c", b"pthread", b"rt", b"m", b"dl", b"util", b"xnet"];
    let Some(rest) = name.as_bytes().strip_prefix(b"lib") else {
        return false;
    };
    let stem = rest.split(|&byte| byte == b'.').next().unwrap_or_default();
    RESERVED.contains(&stem)
}

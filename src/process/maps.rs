//! The shims that a process has mapped.
//!
//! `/proc/N/maps` names files by a path that may by now lead to another file, to
//! none, or into a root file system that is not ours. So what the mapping holds
//! is looked at first, through `/proc/N/mem`; and the file, below `/proc/N/root`,
//! where that is not permitted.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::directory::Directory;
use crate::shim;

/// A file that a process has mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappedFile {
    /// The path, as the process sees it.
    pub path: PathBuf,
    /// Whether the file is no longer at that path: it was deleted, or another
    /// one was put in its place.
    pub is_deleted: bool,
}

/// What is known of the shims in a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shims {
    pub mapped: Vec<MappedFile>,
    /// Mapped files that have the name of a shim, and that could not be read.
    pub unread: Vec<MappedFile>,
}

/// A mapped file, and what of it lies where.
#[derive(Debug, PartialEq, Eq)]
struct Candidate {
    file: MappedFile,
    /// The addresses where its beginning is mapped.
    head: Option<(u64, u64)>,
    is_executable: bool,
    /// The bytes that are mapped in all.
    size: u64,
}

/// More than any process has: by default the kernel allows 65,530 mappings.
const LONGEST: u64 = 1 << 30;

impl Shims {
    /// Looks for shims in `process`.
    ///
    /// # Errors
    /// The mappings cannot be read.
    pub(super) fn read(process: &Directory) -> io::Result<Self> {
        let memory = process.file("mem").ok();
        let root = process.below("root").ok();
        let mut shims = Self::default();
        for candidate in candidates(process.file("maps")?)? {
            let in_memory = memory
                .as_ref()
                .and_then(|memory| is_shim_in_memory(memory, candidate.head?));
            let on_disk = || is_shim_on_disk(root.as_ref()?, &candidate.file);
            match in_memory.or_else(on_disk) {
                Some(true) => shims.mapped.push(candidate.file),
                None if has_name_of_shim(&candidate.file.path) => {
                    shims.unread.push(candidate.file);
                }
                _ => {}
            }
        }
        Ok(shims)
    }
}

/// The mapped files that may be shims: small, and with code.
fn candidates(maps: impl Read) -> io::Result<Vec<Candidate>> {
    let mut files: BTreeMap<(Vec<u8>, Vec<u8>), Candidate> = BTreeMap::new();
    let mut lines = BufReader::with_capacity(1 << 16, maps.take(LONGEST));
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        if let Some(mapping) = Mapping::parse(line.trim_ascii_end()) {
            let key = (mapping.device.to_vec(), mapping.inode.to_vec());
            let candidate = files.entry(key).or_insert_with(|| Candidate {
                file: mapping.file(),
                head: None,
                is_executable: false,
                size: 0,
            });
            if mapping.offset == 0 {
                candidate.head = Some((mapping.start, mapping.end));
            }
            candidate.is_executable |= mapping.is_executable;
            candidate.size += mapping.end.saturating_sub(mapping.start);
        }
        line.clear();
    }
    // Mappings are whole pages, of up to 64 KiB, and a shim has a handful.
    let largest = shim::LARGEST + (1 << 19);
    let may_be = |one: &Candidate| one.is_executable && one.size <= largest;
    Ok(files.into_values().filter(may_be).collect())
}

/// A line of `/proc/N/maps`, see proc_pid_maps(5), that is of a file.
struct Mapping<'a> {
    start: u64,
    end: u64,
    is_executable: bool,
    offset: u64,
    device: &'a [u8],
    inode: &'a [u8],
    path: &'a [u8],
}

impl<'a> Mapping<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.splitn(6, |&byte| byte == b' ');
        let hexadecimal = |text: &[u8]| u64::from_str_radix(str::from_utf8(text).ok()?, 16).ok();
        let range = fields.next()?;
        let dash = range.iter().position(|&byte| byte == b'-')?;
        let permissions = fields.next()?;
        let mapping = Self {
            start: hexadecimal(&range[..dash])?,
            end: hexadecimal(&range[dash + 1..])?,
            is_executable: permissions.get(2) == Some(&b'x'),
            offset: hexadecimal(fields.next()?)?,
            device: fields.next()?,
            inode: fields.next()?,
            path: fields.next()?.trim_ascii_start(),
        };
        (mapping.inode != b"0" && mapping.path.starts_with(b"/")).then_some(mapping)
    }

    fn file(&self) -> MappedFile {
        let path = self.path.strip_suffix(b" (deleted)");
        MappedFile {
            path: OsString::from_vec(unescape(path.unwrap_or(self.path))).into(),
            is_deleted: path.is_some(),
        }
    }
}

/// The kernel writes a line's end within a path as `\012`, and nothing else so.
fn unescape(path: &[u8]) -> Vec<u8> {
    const ESCAPED: &[u8] = b"\\012";
    let mut text = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&first, others)) = rest.split_first() {
        let after = rest.strip_prefix(ESCAPED);
        text.push(if after.is_some() { b'\n' } else { first });
        rest = after.unwrap_or(others);
    }
    text
}

/// Whether the mapping that lies at `from..to` in `memory` is the beginning of a
/// shim, whose note the loader always maps; `None` where it cannot be read.
fn is_shim_in_memory(memory: &File, (from, to): (u64, u64)) -> Option<bool> {
    let length = to.saturating_sub(from).min(shim::LARGEST);
    let mut data = vec![0; usize::try_from(length).ok()?];
    memory.read_exact_at(&mut data, from).ok()?;
    Some(shim::is_shim(&data))
}

/// Whether the file at the path of `file` is a shim; `None` where it cannot be
/// read, or is another file.
fn is_shim_on_disk(root: &Directory, file: &MappedFile) -> Option<bool> {
    if file.is_deleted {
        return None;
    }
    Some(shim::is_open_shim(&open_below(root, &file.path)?))
}

/// Opens the regular file at `path` in a process's root file system. Links lead
/// where they lead for that process, and never out.
fn open_below(root: &Directory, path: &Path) -> Option<File> {
    let resolve = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let found: OwnedFd = rustix::fs::openat2(root, path, flags, Mode::empty(), resolve).ok()?;
    // Only now: opening a device does something, whatever it is.
    let file = File::from(found);
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()
}

/// Whether nothing is at `path` in a process's root file system, for certain.
pub(super) fn is_missing_below(root: &Directory, path: &Path) -> bool {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let found = rustix::fs::openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT);
    found.is_err_and(|error| error == Errno::NOENT)
}

fn has_name_of_shim(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    name.as_bytes().starts_with(b"libreuseport")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &[u8] = b"\
55d0-55e0 r-xp 00000000 fe:00 7                          /usr/bin/a b
7f00-7f04 r-xp 00000000 fe:00 9                          /x/lib\\012y.so (deleted)
7f04-7f06 rw-p 00003000 fe:00 9                          /x/lib\\012y.so (deleted)
8000-9000 r--p 00000000 fe:00 10                         /data
a000-a00001000 r-xp 00000000 fe:00 11                    /large
b000-c000 r-xp 00000000 00:00 0                          [vdso]
c000-d000 rwxp 00000000 00:00 0
";

    #[test]
    fn small_files_with_code_are_candidates() {
        let found = candidates(MAPS).expect("readable");
        let shown: Vec<_> = found
            .iter()
            .map(|one| (one.file.path.as_os_str(), one.file.is_deleted, one.head))
            .collect();
        assert_eq!(
            shown,
            [
                ("/usr/bin/a b".as_ref(), false, Some((0x55d0, 0x55e0))),
                ("/x/lib\ny.so".as_ref(), true, Some((0x7f00, 0x7f04))),
            ]
        );
        for length in 0..MAPS.len() {
            candidates(&MAPS[..length]).expect("readable");
        }
    }

    #[test]
    fn this_process_has_no_shim() {
        let own = Directory::open("/proc/self".into()).expect("proc");
        assert_eq!(Shims::read(&own).expect("readable"), Shims::default());
    }
}

//! The mounts of this namespace, see proc_pid_mountinfo(5), and what becomes of
//! each in a trial.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) id: u64,
    pub(super) path: PathBuf,
    pub(super) treatment: Treatment,
}

/// What the copies see of a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Treatment {
    /// Its files; what is written goes to memory.
    Cover,
    /// Itself.
    Bind,
    BindReadOnly,
    /// A new one of this type.
    Fresh(String),
    /// Nothing.
    Skip,
}

/// All mounts, in the order in which they were made.
///
/// # Errors
/// /proc is not mounted.
pub(super) fn read() -> io::Result<Vec<Mount>> {
    let text = fs::read("/proc/self/mountinfo")?;
    let is_root = rustix::process::geteuid().is_root();
    let lines = text.split(|byte| *byte == b'\n');
    Ok(lines.filter_map(|line| parse(line, is_root)).collect())
}

/// The mount that `file` lies on.
pub(super) fn mount_id(file: &File) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    line?.trim().parse().ok()
}

fn parse(line: &[u8], is_root: bool) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let path = unescaped(fields.nth(3)?);
    let is_read_only = fields
        .next()?
        .split(|byte| *byte == b',')
        .any(|one| one == b"ro");
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    let path = PathBuf::from(OsString::from_vec(path));
    let treatment = treatment(&path, kind, is_read_only, is_root);
    Some(Mount {
        id,
        path,
        treatment,
    })
}

fn treatment(path: &Path, kind: &[u8], is_read_only: bool, is_root: bool) -> Treatment {
    let fresh = |kind: &str| Treatment::Fresh(kind.to_owned());
    let is_below = |directory: &str| path.starts_with(directory) && path != Path::new(directory);
    match kind {
        b"proc" if path == Path::new("/proc") => fresh("proc"),
        b"sysfs" if path == Path::new("/sys") && is_root => fresh("sysfs"),
        _ if is_below("/proc") => Treatment::Skip,
        // These lead to other namespaces, or start what mounts on first use.
        b"nsfs" | b"autofs" | b"binfmt_misc" => Treatment::Skip,
        b"mqueue" => fresh("mqueue"),
        b"tmpfs" if path == Path::new("/dev/shm") => fresh("tmpfs"),
        // A user may not open devices but through the mount that is there, which
        // comes with all that is mounted below.
        _ if !is_root && (path == Path::new("/dev") || path == Path::new("/sys")) => {
            Treatment::Bind
        }
        _ if !is_root && (is_below("/dev") || is_below("/sys")) => Treatment::Skip,
        b"devpts" => Treatment::Bind,
        _ if is_below("/sys") || !path.is_dir() => Treatment::BindReadOnly,
        _ if is_read_only && path != Path::new("/") => Treatment::BindReadOnly,
        _ => Treatment::Cover,
    }
}

/// Undoes the escapes of blanks and backslashes, `\040`.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let code = rest.get(1..4).filter(|_| *first == b'\\');
        let code = code.and_then(|code| u8::from_str_radix(str::from_utf8(code).ok()?, 8).ok());
        plain.push(code.unwrap_or(*first));
        rest = if code.is_some() { &rest[4..] } else { after };
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_with_their_escapes() {
        let line = b"36 35 98:0 /mnt1 /mnt\\040two rw,noatime master:1 - ext3 /dev/root rw";
        let mount = parse(line, true).expect("a mount");
        assert_eq!(
            (mount.id, mount.path.as_path()),
            (36, Path::new("/mnt two"))
        );
        for length in 0..line.len() - 22 {
            assert_eq!(parse(&line[..length], true), None);
        }
    }
}

//! `LD_PRELOAD`: a list that others write to as well, see ld.so(8).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// The variable's name.
pub const LD_PRELOAD: &str = "LD_PRELOAD";

/// Whether an entry of the list can be `path`: spaces and colons separate
/// entries, and glibc expands what follows a dollar sign.
pub fn can_name(path: &Path) -> bool {
    let special = |byte: &u8| matches!(byte, b' ' | b':' | b'$') || byte.is_ascii_control();
    !path.as_os_str().as_bytes().iter().any(special)
}

/// Adds `shim` to the end of `list`, and to its front each of `first`, the
/// libraries that the program's loader must see before any other (sanitizer
/// runtimes). Entries for which `is_shim` holds are shims already: all but the
/// same path are taken out, so that the list never names two.
///
/// What else is there stays as it is, in its order.
pub fn merge(
    list: Option<&OsStr>,
    first: &[OsString],
    shim: &Path,
    is_shim: impl Fn(&Path) -> bool,
) -> OsString {
    let list = list.map(OsStr::as_bytes).unwrap_or_default();
    let mut entries: Vec<&OsStr> = list
        .split(|byte| matches!(byte, b' ' | b':'))
        .filter(|entry| !entry.is_empty())
        .map(OsStr::from_bytes)
        .filter(|entry| *entry == shim || !is_shim(Path::new(entry)))
        .collect();
    if !entries.contains(&shim.as_os_str()) {
        entries.push(shim.as_os_str());
    }
    let missing = first.iter().filter(|runtime| {
        let named = |entry: &&OsStr| Path::new(entry).file_name() == Some(runtime.as_os_str());
        !entries.iter().any(named)
    });
    let all: Vec<&[u8]> = missing
        .map(OsString::as_os_str)
        .chain(entries.iter().copied())
        .map(OsStr::as_bytes)
        .collect();
    OsString::from_vec(all.join(&b':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(list: &str, first: &[&str]) -> String {
        let first: Vec<OsString> = first.iter().map(OsString::from).collect();
        let is_shim = |path: &Path| path.ends_with("old/libreuseport.so");
        let list = Some(list.as_ref());
        merge(list, &first, Path::new("/new.so"), is_shim)
            .into_string()
            .expect("UTF-8")
    }

    #[test]
    fn what_is_there_stays_and_ours_comes_last() {
        assert_eq!(merged("", &[]), "/new.so");
        assert_eq!(merged("/a.so /b.so:c.so", &[]), "/a.so:/b.so:c.so:/new.so");
    }

    #[test]
    fn ours_is_never_there_twice() {
        assert_eq!(merged("/a.so:/new.so", &[]), "/a.so:/new.so");
        assert_eq!(merged("/new.so:/a.so", &[]), "/new.so:/a.so");
        assert_eq!(merged("/old/libreuseport.so:/a.so", &[]), "/a.so:/new.so");
    }

    #[test]
    fn a_sanitizer_runtime_comes_first_once() {
        assert_eq!(merged("", &["libasan.so.8"]), "libasan.so.8:/new.so");
        assert_eq!(
            merged("/a.so", &["libasan.so.8"]),
            "libasan.so.8:/a.so:/new.so"
        );
        assert_eq!(
            merged("/usr/lib/libasan.so.8:/a.so", &["libasan.so.8"]),
            "/usr/lib/libasan.so.8:/a.so:/new.so"
        );
    }

    #[test]
    fn separators_and_dollar_signs_cannot_stand_in_an_entry() {
        assert!(can_name(Path::new("/var/lib/reuseport/x.so")));
        for path in ["/a b/x.so", "/a:b/x.so", "/$LIB/x.so", "/a\n/x.so"] {
            assert!(!can_name(Path::new(path)), "{path}");
        }
    }
}

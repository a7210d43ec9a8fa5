//! /etc/ld.so.cache, the loader's index of libraries: glibc's
//! `sysdeps/generic/dl-cache.h`, the format that glibc has written since 2.32 and
//! read since 2.2.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::root::Root;

const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const HEADER: usize = 48;
const ENTRY: usize = 24;
/// Larger than any that was seen by a factor of a hundred.
const LARGEST: u64 = 32 << 20;

/// The paths under which each library is found, best first.
#[derive(Debug, Default)]
pub struct Cache(HashMap<OsString, Vec<PathBuf>>);

impl Cache {
    /// The cache of `root`; an empty one where there is none that can be read.
    pub fn of(root: &Root) -> Self {
        let mut bytes = Vec::new();
        let path = Path::new("/etc/ld.so.cache");
        let read = root
            .open_known(path)
            .and_then(|file| file.take(LARGEST).read_to_end(&mut bytes));
        match read {
            Ok(_) => Self::parse(&bytes).unwrap_or_default(),
            Err(_) => Self::default(),
        }
    }

    /// The paths of the library `name`. Those of other architectures are among
    /// them.
    pub fn get(&self, name: &OsStr) -> &[PathBuf] {
        self.0.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        // An older format may come first, for older loaders.
        let start = bytes
            .windows(MAGIC.len())
            .position(|window| window == MAGIC)?;
        let bytes = &bytes[start..];
        let word = |place: usize| {
            let word = bytes.get(place..place.checked_add(4)?)?;
            Some(u32::from_ne_bytes(word.try_into().ok()?) as usize)
        };
        let string = |place: usize| {
            let rest = bytes.get(place..)?;
            let end = rest.iter().position(|&byte| byte == 0)?;
            Some(OsString::from_vec(rest[..end].to_vec()))
        };
        let entries = bytes.get(HEADER..)?.chunks_exact(ENTRY).len();
        let count = word(MAGIC.len())?.min(entries);
        let mut libraries: HashMap<OsString, Vec<PathBuf>> = HashMap::with_capacity(count);
        for entry in (0..count).map(|index| HEADER + index * ENTRY) {
            let (key, value) = (string(word(entry + 4)?)?, string(word(entry + 8)?)?);
            libraries.entry(key).or_default().push(value.into());
        }
        Some(Self(libraries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machines_cache_names_its_c_library() {
        let cache = Cache::of(&Root::host());
        let paths = cache.get("libc.so.6".as_ref());
        assert!(paths.iter().any(|path| path.exists()), "{paths:?}");
        assert!(cache.get("no-such-library.so".as_ref()).is_empty());
    }

    /// A cache of these libraries, as `ldconfig` writes one.
    fn made(libraries: &[(&str, &str)]) -> Vec<u8> {
        let mut strings = Vec::new();
        let mut entries = Vec::new();
        let first = HEADER + libraries.len() * ENTRY;
        let mut place = |text: &str| {
            let place = u32::try_from(first + strings.len()).expect("a small cache");
            strings.extend(text.bytes().chain([0]));
            place.to_ne_bytes()
        };
        for (name, path) in libraries {
            let flags_name_path = [[3, 0, 0, 0], place(name), place(path)];
            entries.extend(flags_name_path.concat());
            entries.resize(entries.len().next_multiple_of(ENTRY), 0);
        }
        let count = u32::try_from(libraries.len()).expect("a small cache");
        let mut bytes = MAGIC.to_vec();
        bytes.extend(count.to_ne_bytes());
        bytes.resize(HEADER, 0);
        [bytes, entries, strings].concat()
    }

    #[test]
    fn a_cache_gives_the_paths_of_a_name_in_its_order() {
        let bytes = made(&[
            ("libc.so.6", "/lib/fast/libc.so.6"),
            ("libm.so.6", "/lib/libm.so.6"),
            ("libc.so.6", "/lib/libc.so.6"),
        ]);
        for older in [&b""[..], b"ld.so-1.7.0"] {
            let cache = Cache::parse(&[older, &bytes].concat()).expect("a cache");
            assert_eq!(
                cache.get("libc.so.6".as_ref()),
                [
                    Path::new("/lib/fast/libc.so.6"),
                    Path::new("/lib/libc.so.6")
                ]
            );
            assert!(cache.get("no-such-library.so".as_ref()).is_empty());
        }
    }

    #[test]
    fn a_damaged_cache_is_read_as_far_as_it_goes_or_not_at_all() {
        let bytes = made(&[("libc.so.6", "/lib/libc.so.6"), ("a.so", "/lib/a.so")]);
        for length in 0..bytes.len() {
            let _ = Cache::parse(&bytes[..length]);
        }
        for place in 0..bytes.len() {
            let mut other = bytes.clone();
            other[place] = 0xff;
            let _ = Cache::parse(&other);
        }
        let mut huge = bytes;
        huge[MAGIC.len()..MAGIC.len() + 4].copy_from_slice(&[0xff; 4]);
        let _ = Cache::parse(&huge);
    }
}

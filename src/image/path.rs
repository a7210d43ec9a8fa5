//! Paths in layers, as bytes.

/// A path as it is looked up: no `./`, no slash at the ends. `None` where it
/// leads out of the root: such an entry is never unpacked.
pub(super) fn normal(path: &[u8]) -> Option<Vec<u8>> {
    let parts: Vec<&[u8]> = path
        .split(|&byte| byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .collect();
    (!parts.contains(&b"..".as_slice())).then(|| parts.join(&b'/'))
}

/// The folder of `path` and its name there.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

/// `name` in `folder`.
pub(super) fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() {
        name.to_vec()
    } else {
        [folder, name].join(&b'/')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_the_same_however_they_are_written() {
        for path in ["a/b", "./a/b", "/a//b/", "a/./b"] {
            assert_eq!(
                normal(path.as_bytes()).as_deref(),
                Some(&b"a/b"[..]),
                "{path}"
            );
        }
        assert_eq!(normal(b"a/../b"), None);
        assert_eq!(normal(b"./").as_deref(), Some(&b""[..]));
        assert_eq!(split(b"a/b/c"), (&b"a/b"[..], &b"c"[..]));
        assert_eq!(join(b"", b"a"), b"a");
    }
}

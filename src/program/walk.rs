//! Following a path one name after the other, inside a root, where no kernel does it:
//! see path_resolution(7).

use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

use rustix::io::Errno;

/// The most links that a path may lead through, as in the kernel.
pub(super) const MOST_LINKS: usize = 40;

/// The most bytes of what a link holds: PATH_MAX, see limits.h(0p).
const LONGEST_LINK: usize = 4096;

/// What lies at a path.
#[derive(Debug)]
pub enum Step<T> {
    /// A symbolic link, with what it holds.
    Link(PathBuf),
    /// A directory, or what may be one.
    Directory(T),
    Other(T),
}

/// Where `path` leads, links resolved, and what lies there: `look` tells of a path
/// whose parents hold no links, and `root` is what lies at `/`, above which nothing
/// leads.
///
/// # Errors
/// Those of `look`; links that are too many or too long, or something below what is
/// no directory.
pub fn walk<T>(
    path: &Path,
    root: T,
    mut look: impl FnMut(&Path) -> io::Result<Step<T>>,
) -> io::Result<(PathBuf, T)> {
    let mut here = PathBuf::from("/");
    let mut passed = Vec::new();
    let mut rest = names(path);
    let mut links = 0;
    let mut is_directory = true;
    while let Some(name) = rest.pop() {
        if !is_directory {
            return Err(Errno::NOTDIR.into());
        }
        if name == ".." {
            here.pop();
            passed.pop();
            continue;
        }
        here.push(&name);
        match look(&here)? {
            Step::Link(target) => {
                links += 1;
                if links > MOST_LINKS {
                    return Err(Errno::LOOP.into());
                }
                if target.as_os_str().len() >= LONGEST_LINK {
                    return Err(Errno::NAMETOOLONG.into());
                }
                here.pop();
                if target.is_absolute() {
                    here = "/".into();
                    passed.clear();
                }
                rest.extend(names(&target));
            }
            Step::Directory(found) => passed.push(found),
            Step::Other(found) => {
                is_directory = false;
                passed.push(found);
            }
        }
    }
    Ok((here, passed.pop().unwrap_or(root)))
}

/// The names that are to be walked, the first one last.
pub(super) fn names(path: &Path) -> Vec<OsString> {
    let walked = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    let mut names: Vec<OsString> = walked.collect();
    names.reverse();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks a tree of directories named `d` and `e` at any depth, files named
    /// `file`, and links.
    fn walked(path: &str) -> Result<(String, String), Option<i32>> {
        let found = walk(Path::new(path), "/".to_owned(), |path| {
            let shown = path.display().to_string();
            let name = path.file_name().expect("a name").to_string_lossy();
            Ok(match name.as_ref() {
                "d" | "e" => Step::Directory(shown),
                "file" => Step::Other(shown),
                "up" => Step::Link("../e".into()),
                "top" => Step::Link("/d/../../e/./d".into()),
                "loop" => Step::Link("loop".into()),
                "long" => Step::Link("d/".repeat(2048).into()),
                _ => return Err(io::ErrorKind::NotFound.into()),
            })
        });
        let (path, found) = found.map_err(|error| error.raw_os_error())?;
        Ok((path.display().to_string(), found))
    }

    #[test]
    fn paths_lead_where_the_kernel_leads() {
        for (path, expected) in [
            ("/", "/"),
            ("d/e/file", "/d/e/file"),
            ("/d/./e/../file", "/d/file"),
            ("/../../d", "/d"),
            ("/d/e/up", "/d/e"),
            ("/d/up/file", "/e/file"),
            ("/d/d/top/file", "/e/d/file"),
            ("/d/top/..", "/e"),
            ("/d/..", "/"),
        ] {
            let expected = (expected.to_owned(), expected.to_owned());
            assert_eq!(walked(path), Ok(expected), "{path}");
        }
        assert_eq!(walked("/none"), Err(None));
        for (path, error) in [
            ("/file/d", Errno::NOTDIR),
            ("/file/..", Errno::NOTDIR),
            ("/loop", Errno::LOOP),
            ("/d/long", Errno::NAMETOOLONG),
        ] {
            assert_eq!(walked(path), Err(Some(error.raw_os_error())), "{path}");
        }
    }
}

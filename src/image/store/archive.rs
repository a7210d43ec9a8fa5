//! Tar archives of images, read by the offsets of their entries.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use thiserror::Error as ThisError;

use super::super::descriptor::Compression;
use super::super::error::Error;
use super::super::packing::unpack;
use super::super::tar::{Kind, Reader};
use super::StoreId;
use super::directory::{Files, Opened};

/// The most entries, and the most bytes of a name. An image has some hundred
/// files at most.
const MOST_ENTRIES: usize = 16 * 1024;
const LONGEST_NAME: usize = 1024;

/// The most links that lead from one name to another.
const MOST_LINKS: usize = 8;

/// What an archive of images has no business to hold.
#[derive(Clone, Debug, ThisError, PartialEq, Eq)]
enum Hostile {
    #[error("the entry '{}' leads out of the archive", .0.escape_debug())]
    Outside(String),
    #[error("more than {MOST_ENTRIES} entries: no archive of images")]
    Entries,
    #[error("a name of more than {LONGEST_NAME} bytes: no archive of images")]
    Name,
}

impl From<Hostile> for io::Error {
    fn from(hostile: Hostile) -> Self {
        Self::new(io::ErrorKind::InvalidData, hostile)
    }
}

/// Where an entry lies.
#[derive(Clone, Debug)]
enum Place {
    /// From the byte `start` on, `size` bytes.
    File { start: u64, size: u64 },
    /// Under another name.
    Link(String),
}

/// An archive, with the places of its files.
#[derive(Debug)]
pub(in crate::image) struct Archive {
    path: PathBuf,
    /// The archive, or where it is packed as a whole, what it unpacks to.
    file: File,
    entries: HashMap<String, Place>,
}

impl Archive {
    /// Opens the archive at `path`. One that is packed as a whole is unpacked
    /// into a file without a name: entries are then read in any order.
    pub(in crate::image) fn open(path: &Path) -> Result<Self, Error> {
        let fail = |source| Error::File {
            path: path.to_owned(),
            source,
        };
        if path.is_dir() {
            return Err(Error::NoStore {
                path: path.to_owned(),
                what: "a directory, not an archive; oci: is for directories",
            });
        }
        if path.metadata().map_err(fail)?.len() == 0 {
            return Err(Error::NoStore {
                path: path.to_owned(),
                what: "an empty file, not an archive",
            });
        }
        let file = File::open(path).map_err(fail)?;
        let (compression, mut unpacked) = unpack(&file).map_err(fail)?;
        let file = if compression == Compression::Plain {
            drop(unpacked);
            File::open(path).map_err(fail)?
        } else {
            let mut whole = tempfile::tempfile().map_err(fail)?;
            io::copy(&mut unpacked, &mut whole).map_err(fail)?;
            io::Seek::rewind(&mut whole).map_err(fail)?;
            whole
        };
        let entries = entries(&file).map_err(fail)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            entries,
        })
    }

    /// The name under which the content of `name` lies, links followed.
    pub(in crate::image) fn resolve<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        let mut name = name;
        for _ in 0..MOST_LINKS {
            match self.entries.get(name)? {
                Place::File { .. } => return Some(name),
                Place::Link(target) => name = target,
            }
        }
        None
    }

    /// Where the file `name` lies: its first byte and its size.
    fn place(&self, name: &str) -> Option<(u64, u64)> {
        match self.entries.get(self.resolve(name)?)? {
            Place::File { start, size } => Some((*start, *size)),
            Place::Link(_) => None,
        }
    }

    /// The size of the file `name`, in bytes.
    pub(in crate::image) fn size(&self, name: &str) -> Option<u64> {
        self.place(name).map(|(_, size)| size)
    }
}

fn entries(file: &File) -> io::Result<HashMap<String, Place>> {
    let mut entries = HashMap::new();
    let mut reader = Reader::new(file);
    while let Some(entry) = reader.next()? {
        if entry.path.len() > LONGEST_NAME || entry.link.len() > LONGEST_NAME {
            return Err(Hostile::Name.into());
        }
        let name = String::from_utf8_lossy(&entry.path).into_owned();
        let outside = || Hostile::Outside(name.clone());
        let inside = normal("", &name).ok_or_else(outside)?;
        let place = match entry.kind {
            Kind::File => Place::File {
                start: entry.data,
                size: entry.size,
            },
            Kind::SymbolicLink => {
                let folder = inside.rsplit_once('/').map_or("", |(folder, _)| folder);
                let target = String::from_utf8_lossy(&entry.link);
                Place::Link(normal(folder, &target).ok_or_else(outside)?)
            }
            Kind::HardLink => {
                let target = String::from_utf8_lossy(&entry.link);
                Place::Link(normal("", &target).ok_or_else(outside)?)
            }
            Kind::Directory | Kind::Other => continue,
        };
        entries.insert(inside, place);
        if entries.len() > MOST_ENTRIES {
            return Err(Hostile::Entries.into());
        }
    }
    Ok(entries)
}

/// `name` as seen from `folder`, without `.` and `..`; `None` where it leads out.
pub(in crate::image) fn normal(folder: &str, name: &str) -> Option<String> {
    if name.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(name.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// A part of a file.
struct Part<'a> {
    file: &'a File,
    start: u64,
    left: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        let length = buffer.len().min(most);
        let count = self.file.read_at(&mut buffer[..length], self.start)?;
        self.start += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

impl Files for Archive {
    fn open(&self, name: &str) -> Result<Option<Opened<'_>>, Error> {
        let part = |(start, size)| {
            let part = Part {
                file: &self.file,
                start,
                left: size,
            };
            (Box::new(part) as Box<dyn Read + '_>, size)
        };
        Ok(self.place(name).map(part))
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn id(&self) -> StoreId {
        StoreId::Archive(fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(normal("", "./a//b/."), some("a/b"));
        assert_eq!(normal("a", "../b/layer.tar"), some("b/layer.tar"));
        assert_eq!(normal("a", "../../b"), None);
        assert_eq!(normal("", ".."), None);
        assert_eq!(normal("", "/etc/passwd"), None);
    }
}

//! The files of a layout that is a directory.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::super::error::Error;
use super::{StoreId, abandoned};

/// A file's content, and its size in bytes.
pub(in crate::image) type Opened<'a> = (Box<dyn Read + 'a>, u64);

/// A place that holds files by name: a directory, or an archive.
pub(in crate::image) trait Files {
    /// The file `name`, relative and with no `..`, and its size in bytes; `None`
    /// where there is none.
    fn open(&self, name: &str) -> Result<Option<Opened<'_>>, Error>;

    /// What messages call the place.
    fn path(&self) -> &Path;

    fn id(&self) -> StoreId;

    /// The whole file `name`, which has at most `most` bytes.
    fn read(&self, name: &str, most: u64) -> Result<Option<Vec<u8>>, Error> {
        let Some((reader, size)) = self.open(name)? else {
            return Ok(None);
        };
        let fail = |source| Error::File {
            path: self.path().join(name),
            source,
        };
        if size > most {
            let text = format!("it has {size} bytes, and no such file has more than {most}");
            return Err(fail(io::Error::new(io::ErrorKind::InvalidData, text)));
        }
        let mut bytes = Vec::new();
        reader.take(most).read_to_end(&mut bytes).map_err(fail)?;
        Ok(Some(bytes))
    }
}

/// A directory.
#[derive(Debug)]
pub(in crate::image) struct Directory(pub(in crate::image) PathBuf);

impl Files for Directory {
    fn open(&self, name: &str) -> Result<Option<Opened<'_>>, Error> {
        let path = self.0.join(name);
        let fail = |source| Error::File {
            path: path.clone(),
            source,
        };
        // A FIFO would be opened to no end.
        let metadata = match path.metadata() {
            Ok(metadata) if metadata.is_file() => metadata,
            Ok(_) => return Err(fail(io::ErrorKind::InvalidInput.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fail(error)),
        };
        let file = File::open(&path).map_err(fail)?;
        Ok(Some((Box::new(file), metadata.len())))
    }

    fn path(&self) -> &Path {
        &self.0
    }

    fn id(&self) -> StoreId {
        StoreId::Layout(fs::canonicalize(&self.0).unwrap_or_else(|_| self.0.clone()))
    }
}

/// Files that were written under other names, and are to get their own together:
/// whoever looks sees the old file or the new one, whole.
#[derive(Debug, Default)]
pub(in crate::image) struct Pending(Vec<(NamedTempFile, PathBuf)>);

impl Pending {
    /// The most files that are open at a time.
    const MOST: usize = 32;

    /// Writes `content` into `directory`, to become `path` on the same file system.
    pub(in crate::image) fn write(
        &mut self,
        directory: &Path,
        path: PathBuf,
        content: &mut dyn Read,
    ) -> io::Result<()> {
        let mut file = abandoned::file(directory)?;
        io::copy(content, file.as_file_mut())?;
        self.0.push((file, path));
        if self.0.len() < Self::MOST {
            return Ok(());
        }
        self.finish(&[])
    }

    /// The size of the file that is to become `path`.
    pub(in crate::image) fn size(&self, path: &Path) -> Option<u64> {
        let found = self.0.iter().find(|(_, one)| one == path);
        found.and_then(|(file, _)| Some(file.as_file().metadata().ok()?.len()))
    }

    /// Brings the files, and the names in `directories`, to the disk, all at once:
    /// a file system writes its journal once for all that wait for it. Then gives
    /// each file its name.
    pub(in crate::image) fn finish(&mut self, directories: &[PathBuf]) -> io::Result<()> {
        let files = std::mem::take(&mut self.0);
        std::thread::scope(|scope| {
            let of_files = files
                .iter()
                .map(|(file, _)| scope.spawn(move || file.as_file().sync_all()));
            let of_directories = directories
                .iter()
                .map(|one| scope.spawn(move || File::open(one)?.sync_all()));
            let all: Vec<_> = of_files.chain(of_directories).collect();
            all.into_iter().try_for_each(|one| {
                let panicked = |_| io::Error::other("a thread ended early");
                one.join().map_err(panicked)?
            })
        })?;
        for (file, path) in files {
            file.persist(path)?;
        }
        Ok(())
    }
}

/// Makes what was renamed in `directory` last.
pub(in crate::image) fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

//! Recognising a shim of ours, of any version, by its ELF note: `shim/note.rs`
//! is its other half. The C library that we owe the idea to has a file of the
//! same name, so that a name proves nothing.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use object::Endianness;
use object::elf::{FileHeader64, NoteType, PT_NOTE};
use object::read::elf::{FileHeader, ProgramHeader};

/// Larger than any shim, and small enough to be read whole.
pub(crate) const LARGEST: u64 = 256 * 1024;

const NAME: &[u8] = b"reuseport";
const KIND: NoteType = NoteType(1);

/// Whether `data`, the bytes of a file, is a shim.
pub fn is_shim(data: &[u8]) -> bool {
    has_note(data).unwrap_or(false)
}

/// Whether the file at `path` is a shim. One that cannot be read is none.
pub fn is_shim_file(path: &Path) -> bool {
    // A FIFO or a device would be opened to no end; the loader takes neither.
    path.metadata().is_ok_and(|metadata| metadata.is_file())
        && File::open(path).is_ok_and(|file| is_open_shim(&file))
}

/// Whether `file`, opened at its beginning, is a shim. One that cannot be read
/// is none.
pub fn is_open_shim(file: &File) -> bool {
    if !file
        .metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.len() <= LARGEST)
    {
        return false;
    }
    let mut data = Vec::new();
    let read = file.take(LARGEST).read_to_end(&mut data);
    read.is_ok() && is_shim(&data)
}

fn has_note(data: &[u8]) -> object::Result<bool> {
    let header = FileHeader64::<Endianness>::parse(data)?;
    let endian = header.endian()?;
    for segment in header.program_headers(endian, data)? {
        if segment.p_type(endian) != PT_NOTE {
            continue;
        }
        let Some(mut notes) = segment.notes(endian, data)? else {
            continue;
        };
        while let Some(note) = notes.next()? {
            if note.name() == NAME && note.n_type(endian) == KIND {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shim::{embedded, native};

    #[test]
    fn our_own_shim_is_recognised_and_nothing_else_is() {
        let shim = embedded(native().expect("a known architecture")).expect("built");
        assert!(is_shim(shim));
        for length in 0..shim.len() {
            // Cut off anywhere: no panic, whatever the answer.
            is_shim(&shim[..length]);
        }
        let own = std::fs::read(std::env::current_exe().expect("a path")).expect("readable");
        assert!(!is_shim(&own));
    }
}

//! The parts of an ELF file that decide whether a preloaded library reaches the
//! program: see elf(5) and the System V ABI, chapter 5.
//!
//! Files are hostile: each part is read by its own bounded call, and a number
//! from the file is never trusted as a size.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use object::elf::{
    DF_1_PIE, DT_FLAGS_1, DT_NEEDED, DT_NULL, DT_STRTAB, ELFCLASS64, FileHeader32, FileHeader64,
    PT_DYNAMIC, PT_INTERP, PT_LOAD,
};
use object::read::elf::{Dyn as _, FileHeader, ProgramHeader as _};
use object::{Endianness, Pod, pod};

use super::read_at_most;

/// How a program is linked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Linkage {
    /// By the dynamic loader at this path: the one kind that LD_PRELOAD reaches.
    Dynamic(PathBuf),
    /// Not at all: it is loaded where it was linked to.
    Static,
    /// By itself. It has a dynamic section, but no loader.
    StaticPie,
    /// It is no program: a shared library.
    Library,
}

/// What an ELF file says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elf {
    /// `e_machine`.
    pub machine: u16,
    /// Whether it is of class 64.
    pub is_64_bit: bool,
    pub linkage: Linkage,
    /// The libraries that it names (`DT_NEEDED`).
    pub needed: Vec<OsString>,
}

/// Why a file could not be read as ELF.
#[derive(Debug)]
pub enum Error {
    Io(io::Error),
    Damaged(&'static str),
}

/// The most program headers, entries of the dynamic section, needed libraries
/// and bytes of a name that are looked at. Real files have a tenth of that.
const MOST_HEADERS: usize = 256;
const MOST_ENTRIES: usize = 4096;
const MOST_NEEDED: usize = 1024;
const LONGEST_NAME: usize = 4096;

impl Elf {
    pub(super) fn read(file: &File) -> Result<Self, Error> {
        let mut identification = [0; 16];
        if read_at_most(file, &mut identification, 0).map_err(Error::Io)? < 16 {
            return Err(Error::Damaged("it ends within its header"));
        }
        if identification[4] == ELFCLASS64.0 {
            read::<FileHeader64<Endianness>>(file)
        } else {
            read::<FileHeader32<Endianness>>(file)
        }
    }
}

fn read<H: FileHeader<Endian = Endianness>>(file: &File) -> Result<Elf, Error> {
    let headers: Vec<H> = table(file, 0, 1)?;
    let header = headers
        .first()
        .ok_or(Error::Damaged("it ends within its header"))?;
    let endian = header
        .endian()
        .map_err(|_| Error::Damaged("its byte order is unknown"))?;
    let count = usize::from(header.e_phnum(endian)).min(MOST_HEADERS);
    if count > 0 && usize::from(header.e_phentsize(endian)) != size_of::<H::ProgramHeader>() {
        return Err(Error::Damaged("its program headers have a wrong size"));
    }
    let segments: Vec<H::ProgramHeader> = table(file, header.e_phoff(endian).into(), count)?;
    if segments.len() < count {
        return Err(Error::Damaged("it ends within its program headers"));
    }
    let find = |kind| {
        segments
            .iter()
            .find(|segment| segment.p_type(endian) == kind)
    };
    let dynamic: Vec<H::Dyn> = match find(PT_DYNAMIC) {
        Some(segment) => {
            let size: u64 = segment.p_filesz(endian).into();
            let count = usize::try_from(size).unwrap_or(usize::MAX) / size_of::<H::Dyn>();
            table(
                file,
                segment.p_offset(endian).into(),
                count.min(MOST_ENTRIES),
            )?
        }
        None => Vec::new(),
    };
    let entries = || {
        dynamic
            .iter()
            .map(|entry| (entry.d_tag(endian), entry.d_val(endian).into()))
    };
    let entries = || entries().take_while(|&(tag, _)| tag != DT_NULL);
    let value = |tag| entries().find_map(|(one, value): (_, u64)| (one == tag).then_some(value));
    let linkage = if let Some(segment) = find(PT_INTERP) {
        let path = name(file, segment.p_offset(endian).into())?;
        Linkage::Dynamic(
            path.ok_or(Error::Damaged("it ends within its interpreter"))?
                .into(),
        )
    } else if find(PT_DYNAMIC).is_none() {
        Linkage::Static
    } else if value(DT_FLAGS_1).is_some_and(|flags| flags & DF_1_PIE.0 != 0) {
        Linkage::StaticPie
    } else {
        Linkage::Library
    };
    // The string table is given by its address in memory.
    let strings = value(DT_STRTAB).and_then(|address| {
        segments
            .iter()
            .filter(|segment| segment.p_type(endian) == PT_LOAD)
            .find_map(|segment| {
                let start: u64 = segment.p_vaddr(endian).into();
                let within = address.checked_sub(start)?;
                let offset: u64 = segment.p_offset(endian).into();
                (within < segment.p_filesz(endian).into()).then(|| offset.checked_add(within))?
            })
    });
    let mut needed = Vec::new();
    for (_, offset) in entries()
        .filter(|&(tag, _)| tag == DT_NEEDED)
        .take(MOST_NEEDED)
    {
        let place = strings.and_then(|strings| strings.checked_add(offset));
        let place = place.ok_or(Error::Damaged("its dynamic section has no strings"))?;
        needed.extend(name(file, place)?);
    }
    Ok(Elf {
        machine: header.e_machine(endian).0,
        is_64_bit: header.is_class_64(),
        linkage,
        needed,
    })
}

/// Up to `count` records at `offset`; fewer where the file ends.
fn table<T: Pod>(file: &File, offset: u64, count: usize) -> Result<Vec<T>, Error> {
    let mut bytes = vec![0; count * size_of::<T>()];
    let length = read_at_most(file, &mut bytes, offset).map_err(Error::Io)?;
    let whole = length / size_of::<T>();
    let records = pod::slice_from_bytes::<T>(&bytes, whole);
    records
        .map(|(records, _)| records.to_vec())
        .map_err(|()| Error::Damaged("it is misaligned"))
}

/// The C string at `offset`; `None` where it does not end.
fn name(file: &File, offset: u64) -> Result<Option<OsString>, Error> {
    let mut bytes = vec![0; LONGEST_NAME];
    let length = read_at_most(file, &mut bytes, offset).map_err(Error::Io)?;
    let end = bytes[..length].iter().position(|&byte| byte == 0);
    Ok(end.map(|end| OsString::from_vec(bytes[..end].to_vec())))
}

impl Elf {
    /// The sanitizer runtimes that it needs, which abort unless they are the
    /// first library to be loaded.
    pub fn sanitizers(&self) -> Vec<OsString> {
        const RUNTIMES: [&str; 9] = [
            "libasan.so",
            "liblsan.so",
            "libtsan.so",
            "libhwasan.so",
            "libclang_rt.asan",
            "libclang_rt.lsan",
            "libclang_rt.tsan",
            "libclang_rt.hwasan",
            "libclang_rt.msan",
        ];
        let is_runtime = |name: &&OsString| {
            RUNTIMES
                .iter()
                .any(|runtime| OsStr::as_bytes(name).starts_with(runtime.as_bytes()))
        };
        self.needed.iter().filter(is_runtime).cloned().collect()
    }
}

//! The parts of an ELF file that decide whether a preloaded library reaches the
//! program: see elf(5) and the System V ABI, chapters 4 and 5.
//!
//! Files are hostile: each part is read by its own bounded call, and a number
//! from the file is never trusted as a size.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use object::elf::{
    DF_1_PIE, DT_FLAGS_1, DT_GNU_HASH, DT_HASH, DT_NEEDED, DT_NULL, DT_RPATH, DT_RUNPATH,
    DT_STRTAB, DT_SYMTAB, DynamicTag, ELFCLASS64, ET_DYN, ET_EXEC, FileHeader32, FileHeader64,
    PF_X, PT_DYNAMIC, PT_INTERP, PT_LOAD, PT_NOTE, SHN_UNDEF,
};
use object::read::elf::{Dyn as _, FileHeader, ProgramHeader as _, SectionHeader as _, Sym as _};
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
    /// It is no program: an object file, a core dump or the like.
    Other,
}

/// What an ELF file says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elf {
    /// `e_machine`.
    pub machine: u16,
    /// Whether it is of class 64.
    pub is_64_bit: bool,
    pub is_little_endian: bool,
    pub linkage: Linkage,
    /// The libraries that it names (`DT_NEEDED`), in their order.
    pub needed: Vec<OsString>,
    /// Where the loader looks for them, before (`DT_RPATH`) and after
    /// (`DT_RUNPATH`) LD_LIBRARY_PATH.
    pub rpath: Option<OsString>,
    pub runpath: Option<OsString>,
    pub imports: Imports,
    /// Whether the Go toolchain linked it.
    pub is_go: bool,
}

/// The functions of interest that a file takes from others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Imports {
    pub bind: bool,
    /// `syscall`, through which it may bind; the shim is there too.
    pub syscall: bool,
    /// `dlopen` or `dlmopen`: it loads libraries that cannot be known.
    pub dlopen: bool,
    /// `dlsym`: it looks up functions that cannot be known.
    pub dlsym: bool,
}

/// Why a file could not be read as ELF.
#[derive(Debug)]
pub enum Error {
    Io(io::Error),
    Damaged(&'static str),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The most that is looked at. Real files have a tenth of that.
mod most {
    pub(super) const PROGRAM_HEADERS: usize = 1024;
    pub(super) const SECTION_HEADERS: usize = 16 * 1024;
    pub(super) const DYNAMIC_ENTRIES: usize = 4096;
    pub(super) const NEEDED: usize = 1024;
    pub(super) const SYMBOLS: usize = 1 << 18;
    /// Bytes of a name, of all names, of a note, of code.
    pub(super) const NAME: usize = 4096;
    pub(super) const NAMES: usize = 8 << 20;
    pub(super) const NOTE: usize = 64 * 1024;
    pub(super) const CODE: usize = 16 << 20;
}

impl Elf {
    /// How many bytes the names in it have.
    pub(crate) fn named(&self) -> u64 {
        let paths = self.rpath.iter().chain(&self.runpath);
        self.needed
            .iter()
            .chain(paths)
            .map(|name| name.len() as u64)
            .sum()
    }

    /// Reads what `file` says of itself. Of its content only some kilobytes are
    /// read, and a few megabytes of names at most, whatever it claims.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub fn read(file: &File) -> Result<Self, Error> {
        let mut identification = [0; 16];
        if read_at_most(file, &mut identification, 0)? < 16 {
            return Err(Error::Damaged("it ends within its header"));
        }
        if identification[4] == ELFCLASS64.0 {
            Reader::<FileHeader64<Endianness>>::new(file)?.read()
        } else {
            Reader::<FileHeader32<Endianness>>::new(file)?.read()
        }
    }

    /// Whether a system call instruction of its machine stands in its code. That
    /// it is ever executed is not said.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn has_system_calls(&self, file: &File) -> Result<bool, Error> {
        if self.is_64_bit {
            Reader::<FileHeader64<Endianness>>::new(file)?.has_system_calls()
        } else {
            Reader::<FileHeader32<Endianness>>::new(file)?.has_system_calls()
        }
    }

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

/// A file whose headers have been read.
struct Reader<'a, H: FileHeader<Endian = Endianness>> {
    file: &'a File,
    header: H,
    endian: Endianness,
    segments: Vec<H::ProgramHeader>,
    dynamic: Vec<(DynamicTag, u64)>,
}

impl<'a, H: FileHeader<Endian = Endianness>> Reader<'a, H> {
    fn new(file: &'a File) -> Result<Self, Error> {
        let headers: Vec<H> = table(file, 0, 1)?;
        let header = *headers
            .first()
            .ok_or(Error::Damaged("it ends within its header"))?;
        let unknown = || Error::Damaged("its class or byte order is unknown");
        let endian = header.endian().map_err(|_| unknown())?;
        if !header.is_supported() {
            return Err(unknown());
        }
        let count = usize::from(header.e_phnum(endian)).min(most::PROGRAM_HEADERS);
        if count > 0 && usize::from(header.e_phentsize(endian)) != size_of::<H::ProgramHeader>() {
            return Err(Error::Damaged("its program headers have a wrong size"));
        }
        let segments: Vec<H::ProgramHeader> = table(file, header.e_phoff(endian).into(), count)?;
        if segments.len() < count {
            return Err(Error::Damaged("it ends within its program headers"));
        }
        let mut this = Self {
            file,
            header,
            endian,
            segments,
            dynamic: Vec::new(),
        };
        if let Some(segment) = this.segment(PT_DYNAMIC) {
            let size: u64 = segment.p_filesz(endian).into();
            let count = usize::try_from(size).unwrap_or(usize::MAX) / size_of::<H::Dyn>();
            let offset = segment.p_offset(endian).into();
            let entries: Vec<H::Dyn> = table(file, offset, count.min(most::DYNAMIC_ENTRIES))?;
            let entries = entries
                .iter()
                .map(|one| (one.d_tag(endian), one.d_val(endian).into()));
            this.dynamic = entries.take_while(|&(tag, _)| tag != DT_NULL).collect();
        }
        Ok(this)
    }

    fn segment(&self, kind: object::elf::ProgramType) -> Option<&H::ProgramHeader> {
        self.segments
            .iter()
            .find(|segment| segment.p_type(self.endian) == kind)
    }

    /// The value of the dynamic section's entry `tag`.
    fn value(&self, tag: DynamicTag) -> Option<u64> {
        let mut entries = self.dynamic.iter();
        entries.find_map(|&(one, value)| (one == tag).then_some(value))
    }

    /// Where in the file the byte lies that is loaded at `address`.
    fn offset(&self, address: u64) -> Option<u64> {
        let loaded = self
            .segments
            .iter()
            .filter(|one| one.p_type(self.endian) == PT_LOAD);
        loaded.into_iter().find_map(|segment| {
            let within = address.checked_sub(segment.p_vaddr(self.endian).into())?;
            let offset: u64 = segment.p_offset(self.endian).into();
            (within < segment.p_filesz(self.endian).into()).then(|| offset.checked_add(within))?
        })
    }

    fn read(&self) -> Result<Elf, Error> {
        let endian = self.endian;
        let strings = self
            .value(DT_STRTAB)
            .and_then(|address| self.offset(address));
        let string = |offset: u64| -> Result<OsString, Error> {
            let place = strings.and_then(|strings| strings.checked_add(offset));
            let place = place.ok_or(Error::Damaged("its dynamic section has no strings"))?;
            name(self.file, place)?
                .ok_or(Error::Damaged("a name in its dynamic section has no end"))
        };
        let needed = self.dynamic.iter().filter(|&&(tag, _)| tag == DT_NEEDED);
        let needed = needed.take(most::NEEDED).map(|&(_, offset)| string(offset));
        let path = |tag| self.value(tag).map(string).transpose();
        Ok(Elf {
            machine: self.header.e_machine(endian).0,
            is_64_bit: self.header.is_class_64(),
            is_little_endian: endian == Endianness::Little,
            linkage: self.linkage()?,
            needed: needed.collect::<Result<_, _>>()?,
            rpath: path(DT_RPATH)?,
            runpath: path(DT_RUNPATH)?,
            imports: self.imports(strings)?,
            is_go: self.has_go_note()? || self.has_go_section()?,
        })
    }

    fn linkage(&self) -> Result<Linkage, Error> {
        if !matches!(self.header.e_type(self.endian), ET_EXEC | ET_DYN) {
            return Ok(Linkage::Other);
        }
        // The kernel executes no file whose segment is shorter; the files that
        // debuggers read have an empty one.
        let size = |segment: &&H::ProgramHeader| segment.p_filesz(self.endian).into();
        if let Some(segment) = self.segment(PT_INTERP).filter(|one| size(one) >= 2) {
            let path = name(self.file, segment.p_offset(self.endian).into())?;
            let path = path.ok_or(Error::Damaged("it ends within its interpreter"))?;
            return Ok(Linkage::Dynamic(path.into()));
        }
        let is_pie = self
            .value(DT_FLAGS_1)
            .is_some_and(|flags| flags & DF_1_PIE.0 != 0);
        Ok(if self.header.e_type(self.endian) == ET_EXEC {
            Linkage::Static
        } else if is_pie {
            Linkage::StaticPie
        } else {
            Linkage::Library
        })
    }

    /// The undefined symbols' names lie together: none is looked up by itself.
    fn imports(&self, strings: Option<u64>) -> Result<Imports, Error> {
        let mut imports = Imports::default();
        let place = |tag| self.value(tag).and_then(|address| self.offset(address));
        let (Some(symbols), Some(strings)) = (place(DT_SYMTAB), strings) else {
            return Ok(imports);
        };
        let count = self.undefined_symbols_end(symbols, strings)?;
        let symbols: Vec<H::Sym> = table(self.file, symbols, count.min(most::SYMBOLS))?;
        let undefined = symbols
            .iter()
            .filter(|one| one.st_shndx(self.endian) == SHN_UNDEF);
        let places = undefined.map(|one| u64::from(one.st_name(self.endian)));
        let places: Vec<u64> = places.filter(|&place| place != 0).collect();
        let (Some(&first), Some(&last)) = (places.iter().min(), places.iter().max()) else {
            return Ok(imports);
        };
        let length = usize::try_from(last - first)
            .unwrap_or(usize::MAX)
            .saturating_add(64);
        let start = strings
            .checked_add(first)
            .ok_or(Error::Damaged("its names lie nowhere"))?;
        let names = bytes(self.file, start, length.min(most::NAMES))?;
        for place in places {
            let name = usize::try_from(place - first)
                .ok()
                .and_then(|place| names.get(place..));
            let is = |one: &[u8]| name.is_some_and(|name| name.starts_with(one));
            imports.bind |= is(b"bind\0");
            imports.syscall |= is(b"syscall\0");
            imports.dlopen |= is(b"dlopen\0") || is(b"dlmopen\0");
            imports.dlsym |= is(b"dlsym\0");
        }
        Ok(imports)
    }

    /// The index behind the last undefined symbol. A GNU hash table says where
    /// the defined ones begin, the older kind how many there are.
    fn undefined_symbols_end(&self, symbols: u64, strings: u64) -> Result<usize, Error> {
        let place = |tag| self.value(tag).and_then(|address| self.offset(address));
        let word = |place: u64, index: u64| -> Result<u64, Error> {
            let bytes = bytes(self.file, place.saturating_add(4 * index), 4)?;
            let word = <[u8; 4]>::try_from(bytes.as_slice());
            let word =
                word.map_err(|_| Error::Damaged("it ends within its symbols' hash table"))?;
            Ok(u64::from(match self.endian {
                Endianness::Little => u32::from_le_bytes(word),
                Endianness::Big => u32::from_be_bytes(word),
            }))
        };
        let end = match (place(DT_GNU_HASH), place(DT_HASH)) {
            (Some(gnu), old) => {
                let [buckets, first, filters] = [word(gnu, 0)?, word(gnu, 1)?, word(gnu, 2)?];
                let word_size = if self.header.is_class_64() { 2 } else { 1 };
                let is_empty = buckets == 1 && word(gnu, 4 + filters * word_size)? == 0;
                match old {
                    _ if !is_empty => first,
                    Some(old) => word(old, 1)?,
                    // GNU ld writes 1 where none is defined. The names lie behind
                    // the symbols.
                    None => strings.saturating_sub(symbols) / size_of::<H::Sym>() as u64,
                }
            }
            (None, Some(old)) => word(old, 1)?,
            (None, None) => 0,
        };
        Ok(usize::try_from(end).unwrap_or(usize::MAX))
    }

    /// Whether a note holds a Go build id. Stripping leaves it.
    fn has_go_note(&self) -> Result<bool, Error> {
        for segment in self
            .segments
            .iter()
            .filter(|one| one.p_type(self.endian) == PT_NOTE)
        {
            let size = usize::try_from(segment.p_filesz(self.endian).into()).unwrap_or(usize::MAX);
            let notes = bytes(
                self.file,
                segment.p_offset(self.endian).into(),
                size.min(most::NOTE),
            )?;
            // The name follows the sizes and the type, and is padded with zeros.
            if notes.windows(8).any(|window| window == b"\x04\0\0\0Go\0\0") {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn has_go_section(&self) -> Result<bool, Error> {
        let endian = self.endian;
        let count = usize::from(self.header.e_shnum(endian)).min(most::SECTION_HEADERS);
        if usize::from(self.header.e_shentsize(endian)) != size_of::<H::SectionHeader>() {
            return Ok(false);
        }
        let sections: Vec<H::SectionHeader> =
            table(self.file, self.header.e_shoff(endian).into(), count)?;
        let Some(names) = sections.get(usize::from(self.header.e_shstrndx(endian).0)) else {
            return Ok(false);
        };
        let size = usize::try_from(names.sh_size(endian).into()).unwrap_or(usize::MAX);
        let names = bytes(
            self.file,
            names.sh_offset(endian).into(),
            size.min(most::NAMES),
        )?;
        Ok(sections.iter().any(|section| {
            let name = names
                .get(section.sh_name(endian) as usize..)
                .unwrap_or_default();
            name.starts_with(b".go.buildinfo\0") || name.starts_with(b".note.go.buildid\0")
        }))
    }

    fn has_system_calls(&self) -> Result<bool, Error> {
        const X86_64: &[u8] = &[0x0f, 0x05];
        const AARCH64: &[u8] = &[0x01, 0x00, 0x00, 0xd4];
        let instruction = match self.header.e_machine(self.endian) {
            object::elf::EM_X86_64 => X86_64,
            object::elf::EM_AARCH64 => AARCH64,
            _ => return Ok(false),
        };
        let is_code = |segment: &&H::ProgramHeader| {
            segment.p_type(self.endian) == PT_LOAD && segment.p_flags(self.endian).0 & PF_X.0 != 0
        };
        for segment in self.segments.iter().filter(is_code) {
            let size = usize::try_from(segment.p_filesz(self.endian).into()).unwrap_or(usize::MAX);
            let code = bytes(
                self.file,
                segment.p_offset(self.endian).into(),
                size.min(most::CODE),
            )?;
            if code
                .windows(instruction.len())
                .any(|window| window == instruction)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Up to `count` records at `offset`; fewer where the file ends.
fn table<T: Pod>(file: &File, offset: u64, count: usize) -> Result<Vec<T>, Error> {
    let bytes = bytes(file, offset, count * size_of::<T>())?;
    let whole = bytes.len() / size_of::<T>();
    let records = pod::slice_from_bytes::<T>(&bytes, whole);
    records
        .map(|(records, _)| records.to_vec())
        .map_err(|()| Error::Damaged("it is misaligned"))
}

/// Up to `length` bytes at `offset`; fewer where the file ends. No more memory is
/// taken than the file can fill.
fn bytes(file: &File, offset: u64, length: usize) -> Result<Vec<u8>, Error> {
    const LARGE: usize = 64 * 1024;
    let mut length = length;
    if length > LARGE {
        let left = file.metadata()?.len().saturating_sub(offset);
        length = length.min(usize::try_from(left).unwrap_or(usize::MAX));
    }
    let mut bytes = vec![0; length];
    let read = read_at_most(file, &mut bytes, offset)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// The C string at `offset`; `None` where it does not end.
fn name(file: &File, offset: u64) -> Result<Option<OsString>, Error> {
    // Most are short; the first read rarely is followed by another.
    for length in [256, most::NAME] {
        let bytes = bytes(file, offset, length)?;
        if let Some(end) = bytes.iter().position(|&byte| byte == 0) {
            return Ok(Some(OsString::from_vec(bytes[..end].to_vec())));
        }
    }
    Ok(None)
}

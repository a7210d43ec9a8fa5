//! Tar archives: pax(1), "ustar Interchange Format", with the extensions of pax
//! and GNU.
//!
//! A reader of our own, since archives are hostile: the usual ones read a name
//! of any claimed length into memory. Here each header is bounded, sizes are
//! compared before they are believed, and the data of an entry is streamed.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use thiserror::Error;

/// The unit of an archive, in bytes.
pub const BLOCK: u64 = 512;

/// The most bytes of an extended header: names, and extended attributes.
const LARGEST_EXTENSION: u64 = 1 << 20;

/// What is wrong with an archive.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Flaw {
    #[error("no tar archive: the header at byte {0} has a wrong checksum")]
    Checksum(u64),
    #[error(
        "damaged tar archive: the header at byte {0} has a size that is no number, or is absurd"
    )]
    Size(u64),
    #[error("damaged tar archive: it ends within the entry at byte {0}")]
    Short(u64),
    #[error("damaged tar archive: a name or an attribute at byte {0} has more than a megabyte")]
    Extension(u64),
    #[error("damaged tar archive: the extended header at byte {0} cannot be read")]
    Pax(u64),
}

impl From<Flaw> for io::Error {
    fn from(flaw: Flaw) -> Self {
        Self::new(io::ErrorKind::InvalidData, flaw)
    }
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    /// A second name of the file that the link names, as a path in the archive.
    HardLink,
    SymbolicLink,
    Directory,
    /// A device, a FIFO, or something unheard of.
    Other,
}

/// One entry of an archive.
#[derive(Clone, Debug)]
pub struct Entry {
    /// As it stands there: it may begin with `./` or `/`, and hold `..`.
    pub path: Vec<u8>,
    pub kind: Kind,
    /// Permissions and set-id bits.
    pub mode: u32,
    pub user: u64,
    pub group: u64,
    /// The data's size in bytes.
    pub size: u64,
    /// What a link names.
    pub link: Vec<u8>,
    /// Whether it has the extended attribute `security.capability`.
    pub has_capabilities: bool,
    /// Where its first header begins, and its data, in bytes from the start.
    pub start: u64,
    pub data: u64,
}

impl Entry {
    /// Where the next entry begins.
    pub fn end(&self) -> u64 {
        self.data + padded(self.size)
    }
}

/// `size` rounded up to whole blocks. No size is larger than 2⁶².
fn padded(size: u64) -> u64 {
    size.div_ceil(BLOCK) * BLOCK
}

/// Bytes that come in order, and parts of which may be passed over.
pub trait Input: Read + Sized {
    /// Passes over `count` bytes.
    ///
    /// # Errors
    /// They cannot be read, or there are fewer.
    fn skip(&mut self, count: u64) -> io::Result<()> {
        let passed = io::copy(&mut self.by_ref().take(count), &mut io::sink())?;
        if passed < count {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

/// A stream, each byte of which is read.
#[derive(Debug)]
pub struct Stream<R>(pub R);

impl<R: Read> Read for Stream<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: Read> Input for Stream<R> {}

impl Input for &File {
    fn skip(&mut self, count: u64) -> io::Result<()> {
        let here = self.stream_position()?;
        let there = here.checked_add(count);
        let there = there.filter(|there| self.metadata().is_ok_and(|file| *there <= file.len()));
        let there = there.ok_or(io::ErrorKind::UnexpectedEof)?;
        self.seek(SeekFrom::Start(there)).map(drop)
    }
}

/// Reads the entries of an archive, one after the other.
#[derive(Debug)]
pub struct Reader<I> {
    input: I,
    /// Where the input stands, in bytes from the start of the archive.
    position: u64,
    /// How much of the last entry is left, its padding included, and its data.
    rest: u64,
    data: u64,
    /// Where the last entry began, for messages.
    start: u64,
    is_done: bool,
}

/// The extensions before an entry.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    user: Option<u64>,
    group: Option<u64>,
    has_capabilities: bool,
}

impl<I: Input> Reader<I> {
    /// An archive whose first byte is the next one of `input`.
    pub fn new(input: I) -> Self {
        Self {
            input,
            position: 0,
            rest: 0,
            data: 0,
            start: 0,
            is_done: false,
        }
    }

    /// The next entry; `None` at the end. What was not read of the one before is
    /// passed over.
    ///
    /// # Errors
    /// The input cannot be read, or there is a [`Flaw`] in it.
    #[expect(clippy::should_implement_trait, reason = "it lends the data")]
    pub fn next(&mut self) -> io::Result<Option<Entry>> {
        if self.is_done {
            return Ok(None);
        }
        self.pass_rest()?;
        let start = self.position;
        let mut extensions = Extensions::default();
        loop {
            let at = self.position;
            self.start = at;
            let Some(header) = self.header()? else {
                self.is_done = true;
                return Ok(None);
            };
            let size = number(&header[124..136]).ok_or(Flaw::Size(at))?;
            match header[156] {
                b'x' => {
                    let text = self.extension(size)?;
                    extensions.parse(&text).ok_or(Flaw::Pax(at))?;
                }
                // For all entries to come; no writer of images puts paths there.
                b'g' => drop(self.extension(size)?),
                b'L' => extensions.path = Some(until_zero(&self.extension(size)?)),
                b'K' => extensions.link = Some(until_zero(&self.extension(size)?)),
                kind => {
                    let entry = self.entry(kind, &header, start, size, extensions)?;
                    self.data = entry.size;
                    self.rest = padded(entry.size);
                    return Ok(Some(entry));
                }
            }
        }
    }

    fn entry(
        &mut self,
        kind: u8,
        header: &[u8; 512],
        start: u64,
        size: u64,
        extensions: Extensions,
    ) -> io::Result<Entry> {
        if kind == b'S' && header[482] != 0 {
            // GNU's old sparse files go on with blocks of their map.
            let mut block = [0; 512];
            loop {
                self.fill(&mut block)?;
                if block[504] == 0 {
                    break;
                }
            }
        }
        let path = extensions.path.unwrap_or_else(|| {
            let name = until_zero(&header[..100]);
            let prefix = until_zero(&header[345..500]);
            // GNU's older format has other things in the prefix's place.
            if &header[257..263] == b"ustar\0" && !prefix.is_empty() {
                [prefix, name].join(&b'/')
            } else {
                name
            }
        });
        let is_directory = path.ends_with(b"/");
        let kind = match kind {
            b'0' | 0 | b'7' if is_directory => Kind::Directory,
            b'0' | 0 | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::SymbolicLink,
            b'5' => Kind::Directory,
            _ => Kind::Other,
        };
        let size = match kind {
            // Some writers give a hard link the size of its file, and no data.
            Kind::HardLink | Kind::SymbolicLink | Kind::Directory => 0,
            Kind::File | Kind::Other => extensions.size.unwrap_or(size),
        };
        let end = self.position.checked_add(size);
        if end.is_none_or(|end| end > 1 << 62) {
            return Err(Flaw::Size(self.start).into());
        }
        let id = |own: Option<u64>, field: &[u8]| own.or_else(|| number(field)).unwrap_or(0);
        Ok(Entry {
            path,
            kind,
            mode: u32::try_from(number(&header[100..108]).unwrap_or(0) & 0o7777).unwrap_or(0),
            user: id(extensions.user, &header[108..116]),
            group: id(extensions.group, &header[116..124]),
            size,
            link: extensions
                .link
                .unwrap_or_else(|| until_zero(&header[157..257])),
            has_capabilities: extensions.has_capabilities,
            start,
            data: self.position,
        })
    }

    /// The next header; `None` for the two blocks of zeros at the end, and where
    /// the input ends without them.
    fn header(&mut self) -> io::Result<Option<[u8; 512]>> {
        let at = self.position;
        let mut block = [0; 512];
        if !self.fill_or_end(&mut block)? {
            return Ok(None);
        }
        if block.iter().all(|&byte| byte == 0) {
            let more = self.fill_or_end(&mut block)?;
            if more && block.iter().any(|&byte| byte != 0) {
                return Err(Flaw::Checksum(at).into());
            }
            return Ok(None);
        }
        let sum: u64 = block
            .iter()
            .enumerate()
            .map(|(index, &byte)| match index {
                148..156 => u64::from(b' '),
                _ => u64::from(byte),
            })
            .sum();
        if number(&block[148..156]) != Some(sum) {
            return Err(Flaw::Checksum(at).into());
        }
        Ok(Some(block))
    }

    fn extension(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > LARGEST_EXTENSION {
            return Err(Flaw::Extension(self.start).into());
        }
        let mut text = vec![0; usize::try_from(padded(size)).unwrap_or(0)];
        self.fill(&mut text)?;
        text.truncate(usize::try_from(size).unwrap_or(0));
        Ok(text)
    }

    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        if self.fill_or_end(buffer)? || buffer.is_empty() {
            return Ok(());
        }
        Err(Flaw::Short(self.start).into())
    }

    /// Fills `buffer`, or finds that the input ends before it.
    fn fill_or_end(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.input.read(&mut buffer[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(Flaw::Short(self.start).into()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.position += filled as u64;
        Ok(filled > 0)
    }

    fn pass_rest(&mut self) -> io::Result<()> {
        let rest = std::mem::take(&mut self.rest);
        self.data = 0;
        self.position += rest;
        self.input.skip(rest).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Flaw::Short(self.start).into(),
            _ => error,
        })
    }

    /// Reads what is left after the archive's end, to the end of the input: a
    /// reader below may hold its content against a digest there.
    ///
    /// # Errors
    /// The input cannot be read, or is not what it should be.
    pub fn drain(mut self) -> io::Result<()> {
        io::copy(&mut self.input, &mut io::sink()).map(drop)
    }
}

/// The data of the last entry.
impl<I: Input> Read for Reader<I> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.data).unwrap_or(usize::MAX);
        let length = buffer.len().min(most);
        if length == 0 {
            return Ok(0);
        }
        let count = self.input.read(&mut buffer[..length])?;
        if count == 0 {
            return Err(Flaw::Short(self.start).into());
        }
        self.data -= count as u64;
        self.rest -= count as u64;
        self.position += count as u64;
        Ok(count)
    }
}

impl Extensions {
    /// Takes the records of a pax header: `LENGTH NAME=VALUE\n`, where the length
    /// counts the whole record.
    fn parse(&mut self, text: &[u8]) -> Option<()> {
        let mut rest = text;
        while !rest.is_empty() && rest[0] != 0 {
            let space = rest.iter().position(|&byte| byte == b' ')?;
            let length: usize = str::from_utf8(&rest[..space]).ok()?.parse().ok()?;
            let record = rest.get(space + 1..length)?.strip_suffix(b"\n")?;
            rest = &rest[length..];
            let equals = record.iter().position(|&byte| byte == b'=')?;
            let (name, value) = (&record[..equals], &record[equals + 1..]);
            let count = || str::from_utf8(value).ok()?.parse::<u64>().ok();
            match name {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.size = Some(count()?),
                b"uid" => self.user = count(),
                b"gid" => self.group = count(),
                b"SCHILY.xattr.security.capability" => self.has_capabilities = !value.is_empty(),
                _ => {}
            }
        }
        Some(())
    }
}

fn until_zero(field: &[u8]) -> Vec<u8> {
    let end = field.iter().position(|&byte| byte == 0);
    field[..end.unwrap_or(field.len())].to_vec()
}

/// A number of a header: octal digits, or GNU's base 256. `None` for what is
/// none, or is negative or larger than 2⁶².
fn number(field: &[u8]) -> Option<u64> {
    let value = if field[0] & 0x80 != 0 {
        let mut value = u128::from(field[0] & 0x7f);
        for &byte in &field[1..] {
            value = value.checked_mul(256)?.checked_add(byte.into())?;
        }
        value
    } else {
        let text = until_zero(field);
        let text = text.trim_ascii();
        if text.is_empty() {
            return Some(0);
        }
        u128::from_str_radix(str::from_utf8(text).ok()?, 8).ok()?
    };
    u64::try_from(value).ok().filter(|value| *value <= 1 << 62)
}

/// The header of an entry of root's with a short name (at most 99 bytes).
pub fn header(path: &str, kind: Kind, mode: u32, size: u64, time: u64) -> [u8; 512] {
    debug_assert!(path.len() < 100, "a short name");
    let mut header = [0; 512];
    header[..path.len()].copy_from_slice(path.as_bytes());
    let mut octal = |start: usize, length: usize, value: u64| {
        let digits = length - 1;
        if value >> (3 * digits).min(63) == 0 {
            let text = format!("{value:0digits$o}");
            header[start..start + digits].copy_from_slice(text.as_bytes());
        } else {
            // GNU's form for what octal digits do not hold.
            header[start + length - 8..start + length].copy_from_slice(&value.to_be_bytes());
            header[start] = 0x80;
        }
    };
    octal(100, 8, mode.into());
    octal(108, 8, 0);
    octal(116, 8, 0);
    octal(124, 12, size);
    octal(136, 12, time);
    header[156] = match kind {
        Kind::Directory => b'5',
        _ => b'0',
    };
    header[257..265].copy_from_slice(b"ustar\x0000");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

/// The zeros that fill the last block of data of `size` bytes.
pub fn padding(size: u64) -> &'static [u8] {
    let length = usize::try_from(padded(size) - size).unwrap_or(0);
    &[0; 512][..length]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut archive = header("a/", Kind::Directory, 0o755, 0, 0).to_vec();
        archive.extend(header("a/b", Kind::File, 0o644, 3, 1));
        archive.extend(b"abc");
        archive.extend(padding(3));
        archive.extend([0; 1024]);
        let mut reader = Reader::new(Stream(archive.as_slice()));
        let first = reader.next().expect("read").expect("an entry");
        assert_eq!((first.kind, first.mode), (Kind::Directory, 0o755));
        let second = reader.next().expect("read").expect("an entry");
        assert_eq!((second.path.as_slice(), second.size), (&b"a/b"[..], 3));
        assert_eq!((second.start, second.data, second.end()), (512, 1024, 1536));
        let text = io::read_to_string(&mut reader).expect("data");
        assert_eq!(text, "abc");
        assert!(reader.next().expect("read").is_none());
        for length in 0..archive.len() - 1024 {
            let mut reader = Reader::new(Stream(&archive[..length]));
            while let Ok(Some(_)) = reader.next() {}
        }
    }

    #[test]
    fn an_absurd_size_is_not_believed() {
        let mut block = header("a", Kind::File, 0o644, 0, 0);
        block[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0]);
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let error = Reader::new(Stream(block.as_slice()))
            .next()
            .expect_err("8 EiB");
        assert!(error.to_string().contains("absurd"), "{error}");
        let mut long = header("a", Kind::File, 0o644, 1 << 40, 0);
        long[156] = b'L';
        long[148..156].fill(b' ');
        let sum: u32 = long.iter().map(|&byte| u32::from(byte)).sum();
        long[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let error = Reader::new(Stream(long.as_slice()))
            .next()
            .expect_err("a long name");
        assert!(error.to_string().contains("megabyte"), "{error}");
    }
}

//! Packing and unpacking of layers and archives: gzip (RFC 1952), zstd (RFC 8878).

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use thiserror::Error;

use super::descriptor::Compression;

/// Content that unpacks to so much more than it has that it is meant to.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "it unpacks to more than {MOST_RATIO} times its size, as bombs do; an archive can be unpacked by hand, a layer left unread (--no-check)"
)]
pub struct Bomb;

/// Content that is packed as some old archives are, by hand.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("it is packed by xz, which is not read here: unpack it first (xz --decompress)")]
struct Xz;

/// How far content may unpack before its ratio counts, in bytes.
const HARMLESS: u64 = if cfg!(test) { 2 << 20 } else { 256 << 20 };

/// Layers of programs come to 2 to 10; gzip's limit is some 1030.
const MOST_RATIO: u64 = 50;

/// `input`, unpacked: how it is packed is told by its first bytes.
///
/// # Errors
/// They cannot be read, or are no beginning of their kind. Reading fails with
/// [`Bomb`] where it unpacks to absurdly much.
pub fn unpack<'a>(input: impl Read + 'a) -> io::Result<(Compression, Box<dyn Read + 'a>)> {
    let packed = Rc::new(Cell::new(0));
    let counted = Counted {
        inner: input,
        count: Rc::clone(&packed),
    };
    let mut input = BufReader::with_capacity(64 * 1024, counted);
    let start = first(&mut input)?;
    let (compression, inner): (_, Box<dyn Read + 'a>) = match start {
        [0x1f, 0x8b, ..] => (Compression::Gzip, Box::new(MultiGzDecoder::new(input))),
        [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => {
            (Compression::Zstd, Box::new(Frames::new(input)))
        }
        [0xfd, b'7', b'z', b'X'] => return Err(io::Error::new(io::ErrorKind::InvalidData, Xz)),
        _ => return Ok((Compression::Plain, Box::new(input))),
    };
    let unpacked = Guard {
        inner,
        packed,
        unpacked: 0,
    };
    Ok((compression, Box::new(unpacked)))
}

/// The first four bytes, which stay there to be read.
fn first(input: &mut impl BufRead) -> io::Result<[u8; 4]> {
    let mut start = [0; 4];
    let there = input.fill_buf()?;
    let length = there.len().min(4);
    start[..length].copy_from_slice(&there[..length]);
    Ok(start)
}

/// What is to be packed.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// At most 65,535 bytes.
    pub head: &'a [u8],
    pub rest: &'a [u8],
    /// The rest as a deflate stream (RFC 1951).
    pub deflated: &'a [u8],
}

/// `parts`, packed one after the other. The result is the same on any machine: the
/// fast ways of other libraries differ with the instructions that a processor has.
///
/// # Panics
/// The head is longer than a stored block.
pub fn pack(parts: Parts, compression: Compression) -> Vec<u8> {
    let Parts {
        head,
        rest,
        deflated,
    } = parts;
    match compression {
        Compression::Plain => [head, rest].concat(),
        Compression::Gzip => {
            let mut sum = flate2::Crc::new();
            sum.update(head);
            sum.update(rest);
            // No name, no time, no system, see RFC 1952, 2.3.
            let mut packed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
            // The head as a stored block, which is not the last one, see RFC 1951, 3.2.4.
            let length = u16::try_from(head.len()).expect("a head is short");
            packed.push(0);
            packed.extend(length.to_le_bytes());
            packed.extend((!length).to_le_bytes());
            packed.extend(head);
            packed.extend(deflated);
            packed.extend(sum.sum().to_le_bytes());
            packed.extend(sum.amount().to_le_bytes());
            packed
        }
        Compression::Zstd => {
            compress_to_vec([head, rest].concat().as_slice(), CompressionLevel::Fastest)
        }
    }
}

#[derive(Debug)]
struct Counted<R> {
    inner: R,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count.set(self.count.get() + count as u64);
        Ok(count)
    }
}

/// Fails where the unpacked content is absurdly more than the packed.
struct Guard<R> {
    inner: R,
    packed: Rc<Cell<u64>>,
    unpacked: u64,
}

impl<R: Read> Read for Guard<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.unpacked += count as u64;
        if self.unpacked > HARMLESS && self.unpacked / MOST_RATIO > self.packed.get() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, Bomb));
        }
        Ok(count)
    }
}

/// The frames of a zstd file, one after the other, as one stream. Those that hold
/// no data (zstd:chunked has its table of contents there) are passed over.
struct Frames<R> {
    input: R,
    decoder: FrameDecoder,
    is_within: bool,
}

impl<R: BufRead> Frames<R> {
    fn new(input: R) -> Self {
        Self {
            input,
            decoder: FrameDecoder::new(),
            is_within: false,
        }
    }

    /// Begins the next frame that holds data; `false` at the end.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.input.fill_buf()?.is_empty() {
            let length = match self.decoder.init(&mut self.input) {
                Ok(()) => {
                    self.is_within = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => u64::from(length),
                Err(error) => return Err(io::Error::other(error)),
            };
            let passed = io::copy(&mut self.input.by_ref().take(length), &mut io::sink())?;
            if passed < length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while self.is_within || self.begin()? {
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                self.decoder
                    .decode_blocks(&mut self.input, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(io::Error::other)?;
            }
            match self.decoder.read(buffer)? {
                0 => self.is_within = false,
                count => return Ok(count),
            }
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::write::{DeflateEncoder, GzEncoder};

    use super::*;

    #[test]
    fn what_is_packed_is_unpacked() {
        let content: Vec<u8> = (0..40_000_u32)
            .flat_map(|n| (n / 7).to_le_bytes())
            .collect();
        let (head, rest) = content.split_at(5000);
        let mut deflated = DeflateEncoder::new(Vec::new(), flate2::Compression::default());
        deflated.write_all(rest).expect("packed");
        let parts = Parts {
            head,
            rest,
            deflated: &deflated.finish().expect("packed"),
        };
        for compression in [Compression::Plain, Compression::Gzip, Compression::Zstd] {
            let packed = pack(parts, compression);
            // Twice over: several members or frames are one stream.
            let twice = [packed.as_slice(), &packed].concat();
            let (found, mut reader) = unpack(twice.as_slice()).expect("readable");
            let mut unpacked = Vec::new();
            reader.read_to_end(&mut unpacked).expect("whole");
            assert_eq!(found, compression);
            assert!(unpacked == content.repeat(2), "{compression:?}");
            for cut in [5, packed.len() / 2, packed.len() - 1] {
                let cut = unpack(&packed[..cut]);
                let whole =
                    cut.is_ok_and(|(_, mut one)| io::copy(&mut one, &mut io::sink()).is_ok());
                assert_eq!(whole, compression == Compression::Plain, "{compression:?}");
            }
        }
    }

    #[test]
    fn what_is_packed_otherwise_is_named() {
        let error = unpack(b"\xfd7zXZ\0".as_slice()).map(drop);
        let error = error.expect_err("not read").to_string();
        assert!(error.contains("xz --decompress"), "{error}");
    }

    #[test]
    fn a_bomb_is_refused() {
        let mut zeros = GzEncoder::new(Vec::new(), flate2::Compression::default());
        zeros.write_all(&vec![0; 1 << 20]).expect("packed");
        let zeros = zeros.finish().expect("packed");
        let many = zeros.repeat(4);
        let (_, mut reader) = unpack(many.as_slice()).expect("gzip");
        let error = io::copy(&mut reader, &mut io::sink()).expect_err("a bomb");
        assert!(error.to_string().contains("50 times"), "{error}");
    }
}

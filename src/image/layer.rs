//! The layer that carries the shim, and how it is known again.

use std::io::{self, Read};

use super::descriptor::{Compression, Descriptor, Family, layer_type};
use super::digest::Digest;
use super::packing::{Parts, pack, unpack};
use super::tar;
use crate::shim::{self, Packed};

/// Where the shim lies in every container. A folder of its own at the top: no
/// parent is altered, and no link is followed.
pub const SHIM: &str = "/.reuseport/libreuseport.so";

/// That folder.
pub const SHIM_DIRECTORY: &str = "/.reuseport";

/// The folder and the file as the layer names them.
const DIRECTORY: &str = ".reuseport/";
const FILE: &str = ".reuseport/libreuseport.so";

/// The most bytes of a layer that may be ours, packed and unpacked.
pub const LARGEST: u64 = shim::LARGEST + 16 * 1024;

/// A layer that is to be added to an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    pub descriptor: Descriptor,
    /// The digest of the archive before it was packed.
    pub diff_id: Digest,
    /// The packed archive.
    pub content: Vec<u8>,
}

/// The layer with the shim `packed`, as others of `family` and `compression` are: the folder
/// and the file, root's, of the time `time` (seconds since 1970). The same
/// arguments give the same bytes on any machine.
pub fn build(packed: Packed, family: Family, compression: Compression, time: u64) -> Layer {
    let Packed { shim, deflated } = packed;
    let size = shim.len() as u64;
    let mut head = tar::header(DIRECTORY, tar::Kind::Directory, 0o755, 0, time).to_vec();
    head.extend(tar::header(FILE, tar::Kind::File, 0o755, size, time));
    let rest = [shim, tar::padding(size), &[0; 1024]].concat();
    let parts = Parts {
        head: &head,
        rest: &rest,
        deflated,
    };
    let content = pack(parts, compression);
    Layer {
        descriptor: Descriptor::of(&layer_type(family, compression), &content),
        diff_id: Digest::of(&pack(parts, Compression::Plain)),
        content,
    }
}

/// Whether a layer holds a shim of ours and nothing else: what we may take out.
/// One that cannot be unpacked is another's.
///
/// # Errors
/// `packed`, the layer's content, cannot be read to its end: a reader that holds it
/// against its digest has its say about every layer.
pub fn is_ours(mut packed: impl Read) -> io::Result<bool> {
    let mut failure = None;
    let found = holds_shim(Noting {
        inner: &mut packed,
        failure: &mut failure,
    });
    if let Some(error) = failure {
        return Err(error);
    }
    io::copy(&mut packed, &mut io::sink())?;
    Ok(found.unwrap_or(false))
}

/// Keeps the error of `inner`, to tell it from one of what is packed in it.
struct Noting<'a, R> {
    inner: R,
    failure: &'a mut Option<io::Error>,
}

impl<R: Read> Read for Noting<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|error| {
            let kind = error.kind();
            if kind != io::ErrorKind::Interrupted {
                *self.failure = Some(error);
            }
            kind.into()
        })
    }
}

fn holds_shim(packed: impl Read) -> io::Result<bool> {
    let (_, unpacked) = unpack(packed)?;
    let mut reader = tar::Reader::new(tar::Stream(unpacked.take(LARGEST)));
    let mut has_shim = false;
    while let Some(entry) = reader.next()? {
        let path = entry.path.as_slice();
        let path = path.strip_prefix(b"./").unwrap_or(path);
        match (path.trim_ascii_end(), entry.kind) {
            (b"" | b".reuseport" | b".reuseport/", tar::Kind::Directory) => {}
            (path, tar::Kind::File) if path == FILE.as_bytes() => {
                let mut data = Vec::new();
                reader.by_ref().take(LARGEST).read_to_end(&mut data)?;
                has_shim = shim::is_shim(&data);
                if !has_shim {
                    return Ok(false);
                }
            }
            _ => return Ok(false),
        }
    }
    Ok(has_shim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_layer_is_known_again_and_no_other() {
        let all = shim::ARCHITECTURES.iter();
        // Those whose target is there.
        let mut all: Vec<Packed> = all.filter_map(|one| shim::packed(one).ok()).collect();
        for (shim, family) in all
            .iter()
            .flat_map(|shim| [(*shim, Family::Oci), (*shim, Family::Docker)])
        {
            for compression in [Compression::Plain, Compression::Gzip, Compression::Zstd] {
                let layer = build(shim, family, compression, 0);
                assert!(
                    layer == build(shim, family, compression, 0),
                    "the same again"
                );
                assert!(layer.descriptor.digest().is_of(&layer.content));
                assert!(is_ours(layer.content.as_slice()).expect("read"));
                let mut archive = Vec::new();
                let (_, mut unpacked) = unpack(layer.content.as_slice()).expect("packed");
                unpacked.read_to_end(&mut archive).expect("whole");
                assert!(layer.diff_id.is_of(&archive), "{compression:?}");
            }
        }
        let other = Packed {
            shim: b"the C library's",
            deflated: b"",
        };
        let other = build(other, Family::Oci, Compression::Plain, 0);
        assert!(!is_ours(other.content.as_slice()).expect("read"));
        assert!(!is_ours(b"".as_slice()).expect("read"));
        let shim = all.pop().expect("one at least");
        let mut more = tar::header("a", tar::Kind::File, 0o644, 0, 0).to_vec();
        more.extend(build(shim, Family::Oci, Compression::Plain, 0).content);
        assert!(!is_ours(more.as_slice()).expect("read"));
    }

    #[test]
    fn a_layer_that_cannot_be_unpacked_is_not_ours() {
        let gzip = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 0xff, 0xff];
        let zstd = [0x28, 0xb5, 0x2f, 0xfd, 0xff, 0xff];
        for damaged in [gzip.as_slice(), &gzip[..7], &zstd, b"no archive"] {
            assert!(!is_ours(damaged).expect("read"), "{damaged:?}");
        }
        let shim = shim::packed(shim::native().expect("known")).expect("built");
        let ours = build(shim, Family::Oci, Compression::Gzip, 0).content;
        assert!(!is_ours(&ours[..ours.len() / 2]).expect("read"));
        // What is not what its digest says is no answer.
        let digest = Digest::of(b"other");
        let size = gzip.len() as u64;
        let wrong = super::super::digest::Verifier::new(gzip.as_slice(), &digest, size);
        assert!(is_ours(wrong).is_err());
    }
}

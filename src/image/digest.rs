//! Digests: the names of content, see the OCI image specification, "Digests".

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use sha2::{Digest as _, Sha256, Sha512};
use thiserror::Error;

/// The hash of a content, with the algorithm that made it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    /// Lower case, as many digits as the algorithm gives.
    hex: String,
}

/// The algorithms that the specification registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    Sha256,
    Sha512,
}

impl Algorithm {
    /// The algorithm's name, as it stands before the colon.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// How many hexadecimal digits its hashes have.
    fn digits(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// Text that is no digest.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("'{}' is no digest: give sha256: and 64 hexadecimal digits, or sha512: and 128", .0.escape_debug())]
pub struct InvalidDigest(pub String);

impl Digest {
    /// The SHA-256 digest of `content`.
    pub fn of(content: &[u8]) -> Self {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(content);
        hasher.finish()
    }

    /// Whether this is the digest of `content`.
    pub fn is_of(&self, content: &[u8]) -> bool {
        let mut hasher = Hasher::new(self.algorithm);
        hasher.update(content);
        hasher.finish() == *self
    }

    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The digits behind the colon: the name of the blob's file in a layout.
    pub fn hex(&self) -> &str {
        &self.hex
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex)
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let parsed = text.split_once(':').and_then(|(name, hex)| {
            let algorithm = [Algorithm::Sha256, Algorithm::Sha512]
                .into_iter()
                .find(|one| one.name() == name)?;
            let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            let fits = hex.len() == algorithm.digits() && hex.bytes().all(is_digit);
            fits.then(|| Self {
                algorithm,
                hex: hex.to_owned(),
            })
        });
        parsed.ok_or_else(|| InvalidDigest(text.chars().take(160).collect()))
    }
}

/// Makes a digest of content that comes in pieces.
#[derive(Clone, Debug)]
pub struct Hasher(State);

#[derive(Clone, Debug)]
enum State {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Sha512::new()),
        })
    }

    pub fn update(&mut self, piece: &[u8]) {
        match &mut self.0 {
            State::Sha256(state) => state.update(piece),
            State::Sha512(state) => state.update(piece),
        }
    }

    /// The digest of all pieces.
    pub fn finish(self) -> Digest {
        use std::fmt::Write;

        let (algorithm, bytes) = match self.0 {
            State::Sha256(state) => (Algorithm::Sha256, state.finalize().to_vec()),
            State::Sha512(state) => (Algorithm::Sha512, state.finalize().to_vec()),
        };
        let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        Digest { algorithm, hex }
    }
}

/// Content that is not what its descriptor says. Readers give it inside an
/// [`io::Error`] of the kind `InvalidData`.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Mismatch {
    #[error("{expected} has the digest {found}: the store is damaged, or lies")]
    Digest { expected: Digest, found: Digest },
    #[error("{digest} ends after {found} of {expected} bytes")]
    Short {
        digest: Digest,
        expected: u64,
        found: u64,
    },
    #[error("{digest} has more than its {expected} bytes")]
    Long { digest: Digest, expected: u64 },
}

/// A reader that passes content on and, at its end, fails where it was not the
/// content that was asked for. It passes on not one byte more than expected.
#[derive(Debug)]
pub struct Verifier<R> {
    inner: R,
    /// `None` once the digest has been held against the expected one.
    hasher: Option<Hasher>,
    digest: Digest,
    size: u64,
    passed: u64,
}

impl<R: Read> Verifier<R> {
    /// `inner`, which should hold `size` bytes with the digest `digest`.
    pub fn new(inner: R, digest: &Digest, size: u64) -> Self {
        Self {
            inner,
            hasher: Some(Hasher::new(digest.algorithm())),
            digest: digest.clone(),
            size,
            passed: 0,
        }
    }

    /// How many bytes came through so far.
    pub fn passed(&self) -> u64 {
        self.passed
    }

    fn end(&mut self) -> Result<(), Mismatch> {
        if self.passed < self.size {
            return Err(Mismatch::Short {
                digest: self.digest.clone(),
                expected: self.size,
                found: self.passed,
            });
        }
        match self.hasher.take().map(Hasher::finish) {
            Some(found) if found != self.digest => Err(Mismatch::Digest {
                expected: self.digest.clone(),
                found,
            }),
            _ => Ok(()),
        }
    }
}

impl<R: Read> Read for Verifier<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wrong = |mismatch| io::Error::new(io::ErrorKind::InvalidData, mismatch);
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = self.inner.read(buffer)?;
        if count == 0 {
            self.end().map_err(wrong)?;
            return Ok(0);
        }
        self.passed += count as u64;
        if self.passed > self.size {
            return Err(wrong(Mismatch::Long {
                digest: self.digest.clone(),
                expected: self.size,
            }));
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..count]);
        }
        // A consumer that knows the size may not read to the end: the last byte
        // is not passed on unless all is right.
        if self.passed == self.size
            && let Some(found) = self.hasher.take().map(Hasher::finish)
            && found != self.digest
        {
            return Err(wrong(Mismatch::Digest {
                expected: self.digest.clone(),
                found,
            }));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn digests_are_parsed_whole_or_not_at_all() {
        let empty = Digest::of(b"");
        assert_eq!(empty.to_string(), EMPTY);
        assert_eq!(EMPTY.parse(), Ok(empty));
        for text in [
            "",
            "sha256:",
            "sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
            "sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709",
            "sha256:../../../../../../../../../../../../../../../../../../../etc/passwd",
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
        let long = format!("sha512:{}", "a".repeat(128));
        assert_eq!(long.parse::<Digest>().expect("sha512").to_string(), long);
    }

    #[test]
    fn wrong_content_never_ends_well() {
        let digest = Digest::of(b"content");
        let read = |content: &[u8], size| {
            let mut out = Vec::new();
            let read = Verifier::new(content, &digest, size).read_to_end(&mut out);
            (read.is_ok(), out)
        };
        assert_eq!(read(b"content", 7), (true, b"content".to_vec()));
        assert!(!read(b"contenT", 7).0);
        assert!(!read(b"conten", 7).0);
        assert!(!read(b"content!", 7).0);
        assert!(!read(b"content", 6).0);
        assert!(!read(b"content", 8).0);
        let mut buffer = [0; 7];
        let mut wrong = Verifier::new(b"contenT".as_slice(), &digest, 7);
        assert!(wrong.read_exact(&mut buffer).is_err(), "read to its size");
    }
}

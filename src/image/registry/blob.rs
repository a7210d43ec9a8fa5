//! Configs and layers out of a registry (distribution specification, "Pulling
//! blobs").

use std::fmt;
use std::io::{self, Read};

use ureq::BodyReader;
use ureq::http::{Method, StatusCode, header};

use super::answer::Answer;
use super::client::Repository;
use super::error::{Error, Fault};
use super::retry::Retries;
use super::transport::of_io;
use crate::image::Digest;

const ACTION: &str = "a request for a blob";

/// The bytes of a blob as they come. One that breaks off is taken up again where
/// it did. Nothing is held against the digest here: see
/// [`Verifier`](crate::image::digest::Verifier).
pub struct Blob {
    repository: Repository,
    digest: Digest,
    size: u64,
    passed: u64,
    reader: Option<BodyReader<'static>>,
    retries: Retries,
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blob")
            .field("digest", &self.digest)
            .field("size", &self.size)
            .field("passed", &self.passed)
            .finish_non_exhaustive()
    }
}

impl Repository {
    /// Whether the blob is there.
    ///
    /// # Errors
    /// The registry does not tell.
    pub fn has_blob(&self, digest: &Digest) -> Result<bool, Error> {
        let head = || {
            let ask = self.ask(ACTION, Method::HEAD, &format!("blobs/{digest}"), false)?;
            let answer = self.send(&ask)?;
            match answer.status() {
                StatusCode::OK => Ok(true),
                StatusCode::NOT_FOUND => Ok(false),
                _ => Err(answer.into_fault()),
            }
        };
        head().map_err(|fault| self.error(&digest.to_string(), fault))
    }

    /// The blob with this digest and size.
    ///
    /// # Errors
    /// It is not there, of another size, or the registry does not give it.
    pub fn blob(&self, digest: &Digest, size: u64) -> Result<Blob, Error> {
        let open = || {
            let answer = self.get_blob(digest, 0)?;
            let got = answer.response.body().content_length();
            match got {
                Some(got) if got != size => Err(Fault::WrongSize {
                    digest: digest.to_string(),
                    wanted: size,
                    got,
                }),
                _ => Ok(answer),
            }
        };
        let answer = open().map_err(|fault| self.error(&digest.to_string(), fault))?;
        Ok(Blob {
            repository: self.clone(),
            digest: digest.clone(),
            size,
            passed: 0,
            reader: Some(reader(answer, size)),
            retries: Retries::new(self.patience()),
        })
    }

    fn get_blob(&self, digest: &Digest, from: u64) -> Result<Answer, Fault> {
        let mut ask = self.ask(ACTION, Method::GET, &format!("blobs/{digest}"), false)?;
        if from > 0 {
            ask = ask.header(header::RANGE, &format!("bytes={from}-"));
        }
        let answer = self.send(&ask)?;
        match answer.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(answer),
            StatusCode::NOT_FOUND => Err(Fault::NoBlob(digest.to_string())),
            _ => Err(answer.into_fault()),
        }
    }
}

/// One byte more than expected is let through, for the caller to see.
fn reader(answer: Answer, size: u64) -> BodyReader<'static> {
    let body = answer.response.into_body().into_with_config();
    body.limit(size.saturating_add(1)).reader()
}

impl Blob {
    /// The rest from where it broke off.
    fn resume(&mut self) -> Result<(), Fault> {
        let from = self.passed;
        let answer = self.repository.get_blob(&self.digest, from)?;
        let whole = answer.status() == StatusCode::OK;
        let begins = answer.header(header::CONTENT_RANGE).and_then(|range| {
            let range = range.trim().strip_prefix("bytes ")?;
            range.split('-').next()?.parse().ok()
        });
        if !whole && begins != Some(from) {
            return Err(Fault::Nonsense {
                action: ACTION,
                what: "it is another part than the one that was asked for",
            });
        }
        let left = if whole { self.size } else { self.size - from };
        let mut reader = reader(answer, left);
        if whole {
            // A server that knows no ranges begins anew.
            let skipped = io::copy(&mut (&mut reader).take(from), &mut io::sink());
            if !skipped.is_ok_and(|skipped| skipped == from) {
                return Err(self.cut_off());
            }
        }
        self.reader = Some(reader);
        Ok(())
    }

    fn failed(&self, fault: Fault) -> io::Error {
        let reference = self.digest.to_string();
        io::Error::other(self.repository.error(&reference, fault))
    }

    fn cut_off(&self) -> Fault {
        Fault::CutOff {
            digest: self.digest.to_string(),
            wanted: self.size,
            got: self.passed,
        }
    }
}

impl Read for Blob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let Some(reader) = &mut self.reader else {
                return Ok(0);
            };
            let failed = match reader.read(buffer) {
                Ok(0) if self.passed >= self.size => {
                    self.reader = None;
                    return Ok(0);
                }
                Ok(0) => None,
                Ok(count) => {
                    self.passed += count as u64;
                    if self.passed < self.size {
                        return Ok(count);
                    }
                    // The end is read as well: the connection is free then,
                    // also where the caller knows the size and stops.
                    let more = reader.read(&mut [0]);
                    self.reader = None;
                    return match more {
                        Ok(1) => Err(self.failed(Fault::WrongSize {
                            digest: self.digest.to_string(),
                            wanted: self.size,
                            got: self.passed + 1,
                        })),
                        _ if self.passed > self.size => Err(self.failed(Fault::WrongSize {
                            digest: self.digest.to_string(),
                            wanted: self.size,
                            got: self.passed,
                        })),
                        _ => Ok(count),
                    };
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Some(of_io(error)),
            };
            let fault = match failed {
                Some(why) if !why.is_passing() => Some(Fault::Interrupted {
                    digest: self.digest.to_string(),
                    why,
                }),
                _ if !self.retries.pause(None) => Some(self.cut_off()),
                _ => match self.resume() {
                    Err(Fault::CutOff { .. }) => None,
                    resumed => resumed.err(),
                },
            };
            if let Some(fault) = fault {
                self.reader = None;
                return Err(self.failed(fault));
            }
        }
    }
}

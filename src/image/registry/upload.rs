//! Configs and layers into a registry: mounted from another repository, or sent
//! (distribution specification, "Pushing blobs" and "Mounting a blob from another
//! repository").

use std::io::{self, Read};

use ureq::http::{Method, StatusCode, Uri, header};

use super::answer::Answer;
use super::auth::Access;
use super::client::Repository;
use super::error::{Error, Fault};
use super::location::{encode, with_query};
use super::transport::{Content, Stream};
use crate::image::{Descriptor, Digest};

/// What is no larger is read first, so that it can be sent again.
const SMALL: u64 = 1 << 20;
const MOUNT: &str = "a mount";
const START: &str = "the start of an upload";
const PUSH: &str = "a blob";

/// An upload that a registry has begun.
#[derive(Clone, Debug)]
pub struct Session {
    uri: Uri,
}

/// What came of a mount.
#[derive(Debug)]
pub enum Mount {
    Done,
    /// The blob must be sent; into this session, where the registry began one.
    Refused(Option<Session>),
}

impl Repository {
    /// Takes a blob over from a repository of the same registry: another one, or
    /// this one, where one request tells whether it is there, and begins the upload
    /// where it is not. `from` is always said, since Quay refuses otherwise; the
    /// token, where there is one, is for both.
    ///
    /// # Errors
    /// The registry gives no answer. That it refuses is none.
    pub fn mount(&self, digest: &Digest, from: &Self) -> Result<Mount, Error> {
        if !self.is_beside(from) {
            return Ok(Mount::Refused(None));
        }
        let mount = || {
            let source = encode(from.name());
            let digest = encode(&digest.to_string());
            let path = format!("blobs/uploads/?mount={digest}&from={source}");
            let mut ask = self.ask(MOUNT, Method::POST, &path, true)?;
            if from.name() != self.name() {
                ask.access.push(Access {
                    repository: from.name().to_owned(),
                    push: false,
                });
            }
            let answer = match self.send(&ask) {
                // With the rights to this one alone it is sent.
                Err(Fault::Unauthorized { .. } | Fault::Denied { .. }) => {
                    return Ok(Mount::Refused(None));
                }
                answer => answer?,
            };
            match answer.status() {
                StatusCode::CREATED => {
                    answer.drain();
                    Ok(Mount::Done)
                }
                StatusCode::ACCEPTED => {
                    let session = self.session(&answer)?;
                    answer.drain();
                    Ok(Mount::Refused(session))
                }
                StatusCode::TOO_MANY_REQUESTS => Err(answer.into_fault()),
                status if status.is_client_error() => {
                    answer.drain();
                    Ok(Mount::Refused(None))
                }
                _ => Err(answer.into_fault()),
            }
        };
        mount().map_err(|fault| self.error(&digest.to_string(), fault))
    }

    /// Sends a blob, into `session` where a refused mount left one.
    ///
    /// # Errors
    /// `content` fails or is too short, or the registry does not take it.
    pub fn push(
        &self,
        blob: &Descriptor,
        content: &mut dyn Read,
        session: Option<Session>,
    ) -> Result<(), Error> {
        let pushed = if is_small(blob) {
            read_small(blob, content).and_then(|bytes| self.push_small(blob, &bytes, session))
        } else {
            self.push_large(blob, content, session)
        };
        pushed.map_err(|fault| self.error(&blob.digest().to_string(), fault))
    }

    /// A small blob's bytes, to be sent by [`Self::push`] whenever it suits. None
    /// where it is too large for that.
    pub(super) fn take_small(
        &self,
        blob: &Descriptor,
        content: &mut dyn Read,
    ) -> Result<Option<Vec<u8>>, Error> {
        if !is_small(blob) {
            return Ok(None);
        }
        let bytes = read_small(blob, content);
        let bytes = bytes.map_err(|fault| self.error(&blob.digest().to_string(), fault))?;
        Ok(Some(bytes))
    }

    fn push_small(
        &self,
        blob: &Descriptor,
        bytes: &[u8],
        session: Option<Session>,
    ) -> Result<(), Fault> {
        let session = session.map_or_else(|| self.start(), Ok)?;
        match self.put(blob, &session, &mut Content::Bytes(bytes))? {
            None => Ok(()),
            // A session that is gone: it failed half-way and was tried again, or
            // a mount left it too long ago.
            Some(answer) if answer.status() == StatusCode::NOT_FOUND => {
                answer.drain();
                let session = self.start()?;
                let answer = self.put(blob, &session, &mut Content::Bytes(bytes))?;
                answer.map_or(Ok(()), |answer| Err(answer.into_fault()))
            }
            Some(answer) => Err(answer.into_fault()),
        }
    }

    fn push_large(
        &self,
        blob: &Descriptor,
        content: &mut dyn Read,
        session: Option<Session>,
    ) -> Result<(), Fault> {
        let session = session.map_or_else(|| self.start(), Ok)?;
        let mut content = Content::Stream(Stream::new(content, blob.size()));
        let sent = self.put(blob, &session, &mut content);
        if let Content::Stream(stream) = &mut content
            && let Some(failure) = stream.failure.take()
        {
            return Err(Fault::Content(failure));
        }
        match sent {
            Ok(None) => Ok(()),
            Ok(Some(answer)) => Err(answer.into_fault()),
            Err(Fault::Unreached { why, .. }) if !content.is_whole() => Err(Fault::Interrupted {
                digest: blob.digest().to_string(),
                why,
            }),
            Err(fault) => Err(fault),
        }
    }

    /// "POST then PUT": the form that every registry takes.
    fn start(&self) -> Result<Session, Fault> {
        let answer = self.send(&self.ask(START, Method::POST, "blobs/uploads/", true)?)?;
        if answer.status() != StatusCode::ACCEPTED {
            return Err(answer.into_fault());
        }
        let session = self.session(&answer)?;
        answer.drain();
        session.ok_or(Fault::Nonsense {
            action: START,
            what: "it has no Location",
        })
    }

    fn session(&self, answer: &Answer) -> Result<Option<Session>, Fault> {
        let Some(uri) = answer.location() else {
            return Ok(None);
        };
        self.check_clear(&uri)?;
        Ok(Some(Session { uri }))
    }

    /// None where the registry has the blob now, else what it says instead.
    fn put(
        &self,
        blob: &Descriptor,
        session: &Session,
        content: &mut Content<'_>,
    ) -> Result<Option<Answer>, Fault> {
        let digest = blob.digest().to_string();
        let uri = with_query(&session.uri, "digest", &digest).ok_or(Fault::Nonsense {
            action: START,
            what: "its Location is too long",
        })?;
        let mut ask = self.ask_at(PUSH, Method::PUT, uri, true);
        ask = ask.header(header::CONTENT_TYPE, "application/octet-stream");
        let answer = self.send_with(&ask, content)?;
        match answer.status().as_u16() {
            200 | 201 | 204 => {
                answer.drain();
                Ok(None)
            }
            _ => Ok(Some(answer)),
        }
    }
}

pub(super) fn is_small(blob: &Descriptor) -> bool {
    blob.size() <= SMALL
}

fn read_small(blob: &Descriptor, content: &mut dyn Read) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    let read = content.take(blob.size()).read_to_end(&mut bytes);
    read.map_err(Fault::Content)?;
    if bytes.len() as u64 != blob.size() {
        return Err(Fault::Content(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(bytes)
}

//! What a registry answers, and what that means where another answer was hoped
//! for.

use std::fmt;
use std::io::{self, Read};
use std::time::SystemTime;

use serde_json::Value;
use ureq::Body;
use ureq::http::{HeaderName, Response, StatusCode, Uri, header};

use super::error::{Fault, Unreached, tame};
use super::location::{bare_host, resolve};
use super::retry::{is_passing, retry_after};

/// What is read of an answer that says what went wrong.
const MAX_DETAIL: u64 = 64 << 10;

/// What came back, from where in the end.
pub(super) struct Answer {
    pub(super) action: &'static str,
    pub(super) uri: Uri,
    pub(super) push: bool,
    /// Whether the registry itself answered, and no other host.
    pub(super) own: bool,
    pub(super) response: Response<Body>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("action", &self.action)
            .field("status", &self.response.status())
            .finish_non_exhaustive()
    }
}

impl Answer {
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(super) fn header(&self, name: HeaderName) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// The address in `Location`.
    pub(super) fn location(&self) -> Option<Uri> {
        resolve(&self.uri, self.header(header::LOCATION)?)
    }

    /// Reads what is left, so that the connection can be used again.
    pub(super) fn drain(self) {
        drain(self.response);
    }

    /// What this answer means where another one was hoped for.
    pub(super) fn into_fault(self) -> Fault {
        let (parts, body) = self.response.into_parts();
        let detail = match (self.own, detail(body)) {
            (true, detail) => detail,
            (false, detail) if detail.is_empty() => bare_host(&self.uri).to_owned(),
            (false, detail) => format!("{}: {detail}", bare_host(&self.uri)),
        };
        match parts.status {
            StatusCode::FORBIDDEN if self.own => Fault::Denied {
                push: self.push,
                detail,
            },
            StatusCode::TOO_MANY_REQUESTS => {
                let now = SystemTime::now();
                Fault::TooManyRequests(retry_after(&parts.headers, now))
            }
            StatusCode::BAD_REQUEST
                if self.uri.scheme_str() == Some("http") && detail.contains("HTTPS server") =>
            {
                Fault::Unreached {
                    host: self
                        .uri
                        .authority()
                        .map_or(String::new(), ToString::to_string),
                    why: Unreached::Tls,
                }
            }
            status => Fault::Status {
                status,
                action: self.action,
                again: is_passing(status),
                detail,
            },
        }
    }
}

/// The body of an answer, which must not be longer than `limit` bytes.
pub(super) fn read_bounded(body: Body, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut reader = body.into_reader().take(limit + 1);
    reader.read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

pub(super) fn drain(response: Response<Body>) {
    let mut rest = response.into_body().into_reader().take(MAX_DETAIL);
    // Else it is closed, which costs another one and nothing more.
    let _ = io::copy(&mut rest, &mut io::sink());
}

/// What the registry says of an error (distribution specification, "Error
/// Codes"), in one line.
pub(super) fn detail(body: Body) -> String {
    let Ok(bytes) = read_bounded(body, MAX_DETAIL) else {
        return String::new();
    };
    let tree: Value = match serde_json::from_slice(&bytes) {
        Ok(tree) => tree,
        // A page for browsers says nothing in one line.
        Err(_) if bytes.trim_ascii_start().starts_with(b"<") => return String::new(),
        Err(_) => return tame(String::from_utf8_lossy(&bytes).trim()),
    };
    let errors = tree.get("errors").and_then(Value::as_array);
    let errors = errors.map_or(&[][..], Vec::as_slice).iter();
    let texts: Vec<&str> = errors
        .filter_map(|error| {
            let text = |name| error.get(name).and_then(Value::as_str);
            let message = text("message").filter(|message| !message.is_empty());
            message.or_else(|| text("code"))
        })
        .collect();
    tame(&texts.join(", "))
}

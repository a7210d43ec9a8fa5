//! What goes wrong with a registry: where, what, and what to do next.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use ureq::http::StatusCode;

use super::credentials::Search;

/// Something that went wrong at a place in a registry.
#[derive(Debug, Error)]
#[error("{place}: {fault}")]
pub struct Error {
    pub place: Place,
    #[source]
    pub fault: Box<Fault>,
}

/// What was asked for: a registry, a repository, and a tag or a digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub registry: String,
    pub repository: String,
    /// Empty where the repository itself is meant.
    pub reference: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        match self.reference.as_str() {
            "" => Ok(()),
            digest if digest.contains(':') => write!(f, "@{digest}"),
            tag => write!(f, ":{tag}"),
        }
    }
}

/// What went wrong, with the way out where there is one.
#[derive(Debug, Error)]
pub enum Fault {
    #[error("{}", Unauthorized(.registry, .search, .detail))]
    Unauthorized {
        registry: String,
        /// The login that was turned down, if one was found.
        search: Arc<Search>,
        detail: String,
    },
    #[error("access denied{}: ask for the right to {} there", Detail(.detail), if *.push { "push" } else { "pull" })]
    Denied { push: bool, detail: String },
    #[error("the registry asks for a login of a kind that is not known here: {0}")]
    UnknownChallenge(String),
    #[error("the registry sends {realm} for a token, in the clear: it gets no password of ours")]
    ClearTokens { realm: String },
    #[error("{realm} gave no token: {why}")]
    NoToken { realm: String, why: String },

    #[error("there is no such repository")]
    NoRepository,
    #[error("there is no such tag{}", Tags(.tags, *.more))]
    NoTag { tags: Vec<String>, more: bool },
    #[error("there is no manifest with this digest")]
    NoManifest,
    #[error("the blob {0} is not there: the image in the registry is not whole; push it again")]
    NoBlob(String),

    #[error(
        "it is a manifest of schema 1, which is no longer used: push the image again with a \
         current tool"
    )]
    Schema1,
    #[error("it is no image but {0}")]
    NoImage(String),
    #[error("its manifest is larger than {limit} bytes")]
    TooLarge { limit: u64 },

    #[error("the manifest was cut off: try again")]
    ManifestCutOff,

    #[error("wrong digest: {got} came instead of {wanted}")]
    WrongDigest { wanted: String, got: String },
    #[error("wrong size of {digest}: {got} bytes instead of {wanted}")]
    WrongSize {
        digest: String,
        wanted: u64,
        got: u64,
    },
    #[error("{digest} was cut off after {got} of {wanted} bytes: try again")]
    CutOff {
        digest: String,
        wanted: u64,
        got: u64,
    },
    #[error("reading what is to be pushed: {0}")]
    Content(io::Error),
    #[error("the upload of {digest} broke off: {why}; try again")]
    Interrupted { digest: String, why: Unreached },

    #[error("{}", Limited(*.0))]
    TooManyRequests(Option<Duration>),
    #[error(
        "the registry answered {status} to {action}{}{}", Detail(.detail),
        if *.again { ": try again later" } else { "" }
    )]
    Status {
        status: StatusCode,
        action: &'static str,
        /// Whether it may be otherwise in a while.
        again: bool,
        detail: String,
    },
    #[error("the registry's answer to {action} makes no sense: {what}")]
    Nonsense {
        action: &'static str,
        what: &'static str,
    },
    #[error(
        "the registry leads from https to {0}, in the clear: set X-Forwarded-Proto in the proxy \
         before it"
    )]
    Downgrade(String),
    #[error("the registry leads on and on, to {0} at last")]
    TooManyRedirects(String),
    #[error("the registry sends {action} to {to}: name that host instead")]
    Redirected { action: &'static str, to: String },

    #[error("{host}: {why}")]
    Unreached { host: String, why: Unreached },
    #[error("{variable} names no proxy that can be used: it takes http://HOST:PORT")]
    Proxy { variable: &'static str },
    #[error("{0}: {1}")]
    CaFile(PathBuf, CaFileFault),
    #[error("{0} is no address of a registry")]
    BadHost(String),
}

/// What is wrong with the file of `--ca-file`.
#[derive(Debug, Error)]
pub enum CaFileFault {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it holds no certificate in PEM form")]
    Empty,
}

/// Why a host gave no answer.
#[derive(Debug, Error)]
pub enum Unreached {
    #[error("no answer within {}", Seconds(*.0))]
    Silent(Duration),
    #[error("there is no such host, or no name server answers")]
    NoHost,
    #[error("{0}")]
    Io(io::Error),
    #[error("it speaks plain HTTP: --plain-http")]
    PlainHttp,
    #[error("it speaks TLS: leave --plain-http away, or give --ca-file")]
    Tls,
    #[error("its certificate is signed by nobody known here: --ca-file FILE names who signs it")]
    UnknownIssuer,
    #[error("its certificate is not valid: {0}")]
    Certificate(String),
    #[error("the proxy does not lead there: {0}")]
    Proxy(String),
    #[error("{0}")]
    Protocol(String),
}

impl Unreached {
    /// Whether it may be otherwise in a while.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Silent(_) => true,
            Self::Io(error) => matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::UnexpectedEof
            ),
            _ => false,
        }
    }
}

/// Text from a registry, made fit for a terminal and for one line.
pub(super) fn tame(text: &str) -> String {
    let mut tame: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(300)
        .collect();
    tame.truncate(tame.trim_end().len());
    tame
}

struct Detail<'a>(&'a str);

impl fmt::Display for Detail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, " ({})", self.0)
    }
}

struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let plural = if seconds == 1 { "" } else { "s" };
        write!(f, "{seconds} second{plural}")
    }
}

struct Limited(Option<Duration>);

impl fmt::Display for Limited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too many requests: ")?;
        match self.0 {
            Some(after) => write!(f, "the registry asks to come back in {}", Seconds(after)),
            None => f.write_str("come back later, or log in where that raises the limit"),
        }
    }
}

struct Tags<'a>(&'a [String], bool);

impl fmt::Display for Tags<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, "; there are: {}", self.0.join(", "))?;
        if self.1 { f.write_str(", …") } else { Ok(()) }
    }
}

struct Unauthorized<'a>(&'a str, &'a Search, &'a str);

impl fmt::Display for Unauthorized<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(registry, search, detail) = self;
        match &search.credential {
            Some(found) => write!(f, "the login from {} was turned down", found.from)?,
            None => f.write_str("the registry asks for a login, and none was found")?,
        }
        Detail(detail).fmt(f)?;
        for obstacle in &search.obstacles {
            write!(f, "; {obstacle}")?;
        }
        write!(
            f,
            ": log in by podman login {registry} or docker login {registry}"
        )
    }
}

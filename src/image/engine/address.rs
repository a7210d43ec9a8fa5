//! Where an engine listens, as `DOCKER_HOST` and Docker's contexts spell it.

use std::fmt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::tls::Tls;

/// Where a container engine's API is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// A host.
    Tcp {
        /// `HOST:PORT`.
        host: String,
        /// Plain HTTP where there is none.
        tls: Option<Tls>,
    },
}

/// An address that cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BadAddress {
    /// The command-line clients start an ssh of their own for these.
    #[error(
        "reuseport does not start ssh; forward the socket, and name it: \
         ssh -nNT -L /tmp/engine.sock:/var/run/docker.sock HOST, DOCKER_HOST=unix:///tmp/engine.sock"
    )]
    Ssh,
    /// A Unix socket without an absolute path.
    #[error("a Unix socket is named by its absolute path: unix:///var/run/docker.sock")]
    NoPath,
    /// A TCP address without a host.
    #[error("a TCP address is tcp://HOST:PORT")]
    NoHost,
    /// Any other scheme.
    #[error("an engine's address starts with unix:// or tcp://")]
    UnknownScheme,
}

/// The ports that are registered for engines, without TLS and with it.
const PLAIN_PORT: u16 = 2375;
const TLS_PORT: u16 = 2376;

impl Address {
    /// Reads `unix:///PATH`, `tcp://HOST[:PORT]` or `http://HOST[:PORT]`, the last
    /// two with `tls`.
    ///
    /// # Errors
    /// It is none of these, or one that reuseport cannot reach.
    pub fn parse(text: &str, tls: Option<Tls>) -> Result<Self, BadAddress> {
        let (scheme, rest) = text.split_once("://").ok_or(BadAddress::UnknownScheme)?;
        match scheme {
            "unix" if Path::new(rest).is_absolute() => Ok(Self::Unix(rest.into())),
            "unix" => Err(BadAddress::NoPath),
            "tcp" | "http" => Self::tcp(rest, tls),
            "ssh" => Err(BadAddress::Ssh),
            _ => Err(BadAddress::UnknownScheme),
        }
    }

    fn tcp(rest: &str, tls: Option<Tls>) -> Result<Self, BadAddress> {
        let host = rest.trim_end_matches('/');
        // What stands before the @ would be a password, and has no meaning here.
        if host.is_empty() || host.starts_with(':') || host.contains(['/', '@', '?', '#', ' ']) {
            return Err(BadAddress::NoHost);
        }
        // An IPv6 address stands in brackets, a port behind the last of them.
        let after = host.rsplit_once(']').map_or(host, |(_, after)| after);
        let port = if tls.is_some() { TLS_PORT } else { PLAIN_PORT };
        let host = if after.contains(':') {
            host.to_owned()
        } else {
            format!("{host}:{port}")
        };
        Ok(Self::Tcp { host, tls })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(formatter, "{}", path.display()),
            Self::Tcp { host, .. } => write!(formatter, "tcp://{host}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_and_hosts_are_read() {
        let parse = |text| Address::parse(text, None);
        let tcp = |host: &str| {
            let host = host.to_owned();
            Ok(Address::Tcp { host, tls: None })
        };
        assert_eq!(
            parse("unix:///run/docker.sock"),
            Ok(Address::Unix("/run/docker.sock".into()))
        );
        assert_eq!(parse("tcp://build:2380"), tcp("build:2380"));
        assert_eq!(parse("tcp://build/"), tcp("build:2375"));
        assert_eq!(parse("http://[::1]"), tcp("[::1]:2375"));
        assert_eq!(parse("http://[::1]:99"), tcp("[::1]:99"));
        let tls = Tls {
            certificates: "/certificates".into(),
            verify: true,
        };
        assert_eq!(
            Address::parse("tcp://build", Some(tls)).map(|address| address.to_string()),
            Ok("tcp://build:2376".to_owned())
        );
    }

    #[test]
    fn what_cannot_be_reached_says_why() {
        let parse = |text| Address::parse(text, None);
        assert_eq!(parse("unix://docker.sock"), Err(BadAddress::NoPath));
        assert_eq!(parse("tcp://"), Err(BadAddress::NoHost));
        assert_eq!(parse("tcp://me:secret@build"), Err(BadAddress::NoHost));
        assert_eq!(parse("ssh://build"), Err(BadAddress::Ssh));
        assert_eq!(parse("https://build"), Err(BadAddress::UnknownScheme));
        assert_eq!(parse("npipe:////./pipe/x"), Err(BadAddress::UnknownScheme));
        assert_eq!(
            parse("/var/run/docker.sock"),
            Err(BadAddress::UnknownScheme)
        );
    }
}

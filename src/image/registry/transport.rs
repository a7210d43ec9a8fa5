//! Requests over HTTP: connections, TLS, proxies, time limits. No credentials
//! and no second tries here.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::{CertificateError, Error as Tls};
use ureq::http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, SendBody};

use super::error::{CaFileFault, Fault, Unreached};
use super::proxy::Proxies;

/// How long to wait for a connection.
const CONNECT: Duration = Duration::from_secs(30);
/// How long a peer may be silent.
const SILENCE: Duration = Duration::from_secs(60);
/// How long it may be silent once it has a blob: it reads it all again.
const COMMIT: Duration = Duration::from_secs(600);

/// What a connection takes and sends at once, in bytes. Each writes over its buffers
/// before it uses them, which is seen in how long a small request takes.
const BUFFER: usize = 32 * 1024;

/// What a request carries.
pub(super) enum Content<'a> {
    Nothing,
    Bytes(&'a [u8]),
    Stream(Stream<'a>),
}

/// Content that can be read once.
pub(super) struct Stream<'a> {
    reader: &'a mut dyn Read,
    /// Bytes in all, and those that are to come.
    size: u64,
    left: u64,
    /// Whether reading has begun.
    begun: bool,
    /// Why reading failed: that is not the registry's fault.
    pub(super) failure: Option<io::Error>,
}

impl<'a> Stream<'a> {
    pub(super) fn new(reader: &'a mut dyn Read, size: u64) -> Self {
        Self {
            reader,
            size,
            left: size,
            begun: false,
            failure: None,
        }
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.begun = true;
        let most = buffer
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let error = loop {
            match self.reader.read(&mut buffer[..most]) {
                Ok(0) if most > 0 => break io::ErrorKind::UnexpectedEof.into(),
                Ok(count) => {
                    self.left -= count as u64;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break error,
            }
        };
        let kind = error.kind();
        self.failure = Some(error);
        Err(kind.into())
    }
}

impl Content<'_> {
    /// Whether it can still be sent from its beginning.
    pub(super) fn is_whole(&self) -> bool {
        match self {
            Self::Nothing | Self::Bytes(_) => true,
            Self::Stream(stream) => !stream.begun,
        }
    }
}

impl fmt::Debug for Content<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("Nothing"),
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::Stream(stream) => write!(f, "Stream({})", stream.size),
        }
    }
}

/// The connections to all hosts. They are kept open and used again.
pub(super) struct Transport {
    proxies: Proxies,
    ca_file: Option<PathBuf>,
    /// One for each scheme, with a proxy and without: roots are read when the
    /// first host is met that needs them.
    agents: Mutex<HashMap<(bool, bool), Agent>>,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("proxies", &self.proxies)
            .field("ca_file", &self.ca_file)
            .finish_non_exhaustive()
    }
}

impl Transport {
    pub(super) fn new(proxies: Proxies, ca_file: Option<PathBuf>) -> Self {
        Self {
            proxies,
            ca_file,
            agents: Mutex::default(),
        }
    }

    /// Sends one request and gives its answer, whatever its status.
    ///
    /// # Errors
    /// The host did not answer, or what leads to it is at fault.
    pub(super) fn send(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        content: &mut Content<'_>,
    ) -> Result<Response<Body>, Fault> {
        let agent = self.agent(uri)?;
        let mut request = Request::builder().method(method).uri(uri);
        if let Some(all) = request.headers_mut() {
            all.clone_from(headers);
        }
        let mut silence = SILENCE;
        let sent = match content {
            // The length of what a POST or PUT does not carry must be said too.
            Content::Nothing if matches!(*method, Method::POST | Method::PUT) => {
                run(&agent, request, b"".as_slice(), silence)
            }
            Content::Nothing => run(&agent, request, (), silence),
            Content::Bytes(bytes) => run(&agent, request, *bytes, silence),
            Content::Stream(stream) => {
                silence = COMMIT;
                let size = stream.size;
                // The registry can say no before all is sent (RFC 9110, 10.1.1).
                let request = request
                    .header(header::CONTENT_LENGTH, HeaderValue::from(size))
                    .header(header::EXPECT, "100-continue");
                run(&agent, request, SendBody::from_reader(stream), silence)
            }
        };
        sent.map_err(|error| Fault::Unreached {
            host: uri.authority().map_or(String::new(), ToString::to_string),
            why: unreached(error, silence),
        })
    }

    fn agent(&self, uri: &Uri) -> Result<Agent, Fault> {
        let tls = uri.scheme_str() == Some("https");
        let proxy = self.proxies.find(uri)?;
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (tls, proxy.is_some());
        if let Some(agent) = agents.get(&key) {
            return Ok(agent.clone());
        }
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(proxy)
            .user_agent(concat!("reuseport/", env!("CARGO_PKG_VERSION")))
            .max_idle_connections_per_host(8)
            .max_response_header_size(BUFFER)
            // Headers have room in it, and more.
            .input_buffer_size(2 * BUFFER)
            .output_buffer_size(BUFFER)
            .timeout_connect(Some(CONNECT))
            .timeout_per_write(Some(SILENCE));
        if tls {
            config = config.tls_config(
                TlsConfig::builder()
                    .root_certs(RootCerts::Specific(Arc::new(self.roots()?)))
                    .unversioned_rustls_crypto_provider(Arc::new(
                        rustls::crypto::ring::default_provider(),
                    ))
                    .build(),
            );
        }
        let agent = Agent::new_with_config(config.build());
        agents.insert(key, agent.clone());
        Ok(agent)
    }

    /// Whom to trust: the machine's own roots, so that what its administrator
    /// took away or added counts; those of Mozilla where it has none, as in a
    /// bare container; and the file that was given.
    fn roots(&self) -> Result<Vec<Certificate<'static>>, Fault> {
        let native = rustls_native_certs::load_native_certs().certs;
        let native = native
            .iter()
            .map(|certificate| Certificate::from_der(certificate).to_owned());
        let mut roots = or_bundled(native.collect());
        if let Some(path) = &self.ca_file {
            let fault = |fault| Fault::CaFile(path.clone(), fault);
            let text = fs::read(path).map_err(|error| fault(error.into()))?;
            let before = roots.len();
            roots.extend(parse_pem(&text).filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            }));
            if roots.len() == before {
                return Err(fault(CaFileFault::Empty));
            }
        }
        Ok(roots)
    }
}

fn or_bundled(native: Vec<Certificate<'static>>) -> Vec<Certificate<'static>> {
    if !native.is_empty() {
        return native;
    }
    let bundled = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter();
    bundled
        .map(|certificate| Certificate::from_der(certificate).to_owned())
        .collect()
}

fn run(
    agent: &Agent,
    request: ureq::http::request::Builder,
    body: impl ureq::AsSendBody,
    silence: Duration,
) -> Result<Response<Body>, ureq::Error> {
    let request = agent
        .configure_request(request.body(body)?)
        .timeout_per_read(Some(silence))
        .build();
    agent.run(request)
}

fn unreached(error: ureq::Error, silence: Duration) -> Unreached {
    match error {
        ureq::Error::Io(error) => of_io(error),
        ureq::Error::Rustls(error) => of_tls(&error),
        ureq::Error::Timeout(ureq::Timeout::Connect) => Unreached::Silent(CONNECT),
        ureq::Error::Timeout(_) => Unreached::Silent(silence),
        ureq::Error::HostNotFound => Unreached::NoHost,
        ureq::Error::ConnectProxyFailed(why) => Unreached::Proxy(super::error::tame(&why)),
        other => Unreached::Protocol(super::error::tame(&other.to_string())),
    }
}

pub(super) fn of_io(error: io::Error) -> Unreached {
    match error.get_ref() {
        Some(inner) if inner.is::<Tls>() => {
            of_tls(inner.downcast_ref().expect("it is one: that was asked"))
        }
        Some(inner) if inner.is::<ureq::Error>() => match inner.downcast_ref() {
            Some(ureq::Error::Timeout(_)) => Unreached::Silent(SILENCE),
            _ => Unreached::Protocol(super::error::tame(&inner.to_string())),
        },
        _ if error.to_string().contains("failed to lookup address") => Unreached::NoHost,
        _ => Unreached::Io(error),
    }
}

fn of_tls(error: &Tls) -> Unreached {
    match error {
        Tls::InvalidCertificate(CertificateError::UnknownIssuer) => Unreached::UnknownIssuer,
        Tls::InvalidCertificate(why) => Unreached::Certificate(why.to_string()),
        // The first bytes of an answer in the clear are no TLS.
        Tls::InvalidMessage(_) => Unreached::PlainHttp,
        other => Unreached::Protocol(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_roots_trusts_the_bundled_ones() {
        assert!(or_bundled(Vec::new()).len() > 50);
        let own = vec![Certificate::from_der(b"x")];
        assert_eq!(or_bundled(own).len(), 1);
    }
}

//! Calls of an engine's API: a request, and what came back.

use std::io::Read;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use ureq::http::{HeaderMap, Method, Request, Response, StatusCode};
use ureq::{Agent, AsSendBody, Body, SendBody};

use super::address::Address;
use super::error::EngineError;
use super::socket::{NoResolver, UnixConnector};
use super::tls::{self, BadCertificates};

/// How long an engine may take to say who it is. Other calls may take as long as
/// they need: loading an image takes minutes.
const GREETING: Duration = Duration::from_secs(10);

/// The longest answer that is held in memory: the list of all images.
const LONGEST_ANSWER: u64 = 64 << 20;

/// The longest reason of a refusal that is read.
const LONGEST_REASON: u64 = 64 << 10;

/// Stays as it is in a path or a query.
const PLAIN: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
const PATH: AsciiSet = PLAIN.remove(b'/').remove(b':').remove(b'@');

/// A connection to one engine.
#[derive(Clone, Debug)]
pub(super) struct Client {
    agent: Agent,
    address: Address,
}

/// A request. Paths and values are given as they are meant, and encoded here.
#[derive(Debug)]
pub(super) struct Call<'a> {
    method: Method,
    /// With the API's version.
    path: String,
    query: Vec<(&'static str, &'a str)>,
}

impl<'a> Call<'a> {
    pub(super) fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            query: Vec::new(),
        }
    }

    pub(super) fn with(mut self, name: &'static str, value: &'a str) -> Self {
        self.query.push((name, value));
        self
    }

    /// The method and path, for messages.
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    fn target(&self) -> String {
        let mut target = utf8_percent_encode(&self.path, &PATH).to_string();
        for (index, (name, value)) in self.query.iter().enumerate() {
            target.push(if index == 0 { '?' } else { '&' });
            target.push_str(name);
            target.push('=');
            target.extend(utf8_percent_encode(value, &PLAIN));
        }
        target
    }
}

/// What a request carries.
pub(super) enum Content<'a> {
    None,
    Json(&'a Value),
    /// A tar archive that is at hand.
    Tar(&'a [u8]),
    /// A tar archive that is still being made.
    Stream(&'a mut dyn Read),
}

impl Client {
    pub(super) fn new(address: Address) -> Result<Self, BadCertificates> {
        let tls = match &address {
            Address::Tcp { tls, .. } => tls.as_ref(),
            Address::Unix(_) => None,
        };
        // A refusal's body says why.
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .user_agent(concat!("reuseport/", env!("CARGO_PKG_VERSION")));
        if let Some(tls) = tls {
            config = config.tls_config(tls::config(tls)?);
        }
        let config = config.build();
        let agent = match &address {
            Address::Unix(path) => {
                Agent::with_parts(config, UnixConnector(path.clone()), NoResolver)
            }
            Address::Tcp { .. } => config.into(),
        };
        Ok(Self { agent, address })
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// `GET /version`, which must be answered soon.
    pub(super) fn version(&self) -> Result<Value, EngineError> {
        let call = Call::new(Method::GET, "/version");
        json(self.run(&call, Content::None, Some(GREETING))?)
            .map_err(|reason| self.garbled(&call, reason))
    }

    /// The answer to `call`, read as JSON.
    pub(super) fn json(&self, call: &Call, content: Content) -> Result<Value, EngineError> {
        let response = self.send(call, content)?;
        json(response).map_err(|reason| self.garbled(call, reason))
    }

    /// The same, or none where the engine says that there is no such thing.
    pub(super) fn find(&self, call: &Call) -> Result<Option<Value>, EngineError> {
        match self.json(call, Content::None) {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes `call`, whose answer holds nothing of interest.
    pub(super) fn done(&self, call: &Call, content: Content) -> Result<(), EngineError> {
        let mut response = self.send(call, content)?;
        // Read to its end, so that the connection serves the next call too.
        let body = response.body_mut().with_config().limit(LONGEST_ANSWER);
        std::io::copy(&mut body.reader(), &mut std::io::sink())
            .map_err(|error| self.failed(call.name(), error.into()))?;
        Ok(())
    }

    /// Makes `call`, which must be answered soon.
    pub(super) fn done_soon(&self, call: &Call) -> Result<(), EngineError> {
        self.run(call, Content::None, Some(GREETING)).map(drop)
    }

    /// The headers of the answer to `call`.
    pub(super) fn head(&self, call: &Call) -> Result<HeaderMap, EngineError> {
        let response = self.send(call, Content::None)?;
        Ok(response.into_parts().0.headers)
    }

    /// The body of the answer to `call`, as it comes.
    pub(super) fn stream(
        &self,
        call: &Call,
        content: Content,
    ) -> Result<impl Read + use<>, EngineError> {
        Ok(self.send(call, content)?.into_body().into_reader())
    }

    fn send(&self, call: &Call, content: Content) -> Result<Response<Body>, EngineError> {
        self.run(call, content, None)
    }

    fn run(
        &self,
        call: &Call,
        content: Content,
        limit: Option<Duration>,
    ) -> Result<Response<Body>, EngineError> {
        let (scheme, host) = match &self.address {
            // Engines look at no Host on a socket, but want one.
            Address::Unix(_) => ("http", "engine"),
            Address::Tcp { host, tls: None } => ("http", host.as_str()),
            Address::Tcp { host, .. } => ("https", host.as_str()),
        };
        let request = Request::builder()
            .method(call.method.clone())
            .uri(format!("{scheme}://{host}{}", call.target()));
        let json = ("Content-Type", "application/json");
        let tar = ("Content-Type", "application/x-tar");
        let sent = match content {
            Content::None => self.ship(request.body(()), limit),
            Content::Json(value) => {
                let request = request.header(json.0, json.1);
                self.ship(request.body(value.to_string()), limit)
            }
            Content::Tar(bytes) => self.ship(request.header(tar.0, tar.1).body(bytes), limit),
            Content::Stream(reader) => {
                let body = SendBody::from_reader(reader);
                self.ship(request.header(tar.0, tar.1).body(body), limit)
            }
        };
        let mut response = sent.map_err(|error| self.failed(call.name(), error))?;
        let status = response.status();
        if status.is_success() || status == StatusCode::NOT_MODIFIED {
            return Ok(response);
        }
        let mut reason = Vec::new();
        let body = response.body_mut().with_config().limit(LONGEST_REASON);
        // What can be read of it is better than nothing.
        let _ = body.reader().read_to_end(&mut reason);
        Err(EngineError::Refused {
            address: self.address.clone(),
            call: call.name(),
            status: status.as_u16(),
            reason: reason_of(&reason),
        })
    }

    fn ship(
        &self,
        request: ureq::http::Result<Request<impl AsSendBody>>,
        limit: Option<Duration>,
    ) -> Result<Response<Body>, ureq::Error> {
        let request = self.agent.configure_request(request?);
        self.agent.run(request.timeout_global(limit).build())
    }

    /// The call of the name `call` did not reach the engine, or its answer us.
    pub(super) fn failed(&self, call: String, error: ureq::Error) -> EngineError {
        EngineError::Failed {
            address: self.address.clone(),
            call,
            error: Box::new(error),
        }
    }

    /// The answer to `call` is not what the API promises.
    pub(super) fn garbled(&self, call: &Call, reason: impl Into<String>) -> EngineError {
        EngineError::Garbled {
            address: self.address.clone(),
            call: call.name(),
            reason: reason.into(),
        }
    }
}

fn json(mut response: Response<Body>) -> Result<Value, String> {
    let body = response.body_mut().with_config().limit(LONGEST_ANSWER);
    serde_json::from_reader(body.reader()).map_err(|error| error.to_string())
}

/// What an engine says in a refusal: `{"message": …}`, or whatever else it is.
fn reason_of(body: &[u8]) -> String {
    let message = serde_json::from_slice::<Value>(body)
        .ok()
        .and_then(|body| Some(body["message"].as_str()?.trim().to_owned()));
    message.unwrap_or_else(|| String::from_utf8_lossy(body).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_values_are_encoded() {
        let call = Call::new(Method::GET, "/images/a/b:c d/json").with("path", "/ü&x");
        assert_eq!(call.target(), "/images/a/b:c%20d/json?path=%2F%C3%BC%26x");
    }

    #[test]
    fn a_refusal_gives_its_message() {
        assert_eq!(
            reason_of(br#"{"message":"no such image\n"}"#),
            "no such image"
        );
        assert_eq!(reason_of(b"404 page not found\n"), "404 page not found");
    }
}

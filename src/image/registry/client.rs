//! Asking a registry: the request, its answer, the login in between, what is
//! followed and what is tried again.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use ureq::Body;
use ureq::http::{HeaderMap, HeaderName, Method, Response, StatusCode, Uri, header};

use super::answer::{Answer, detail, drain};
use super::auth::{Access, Authenticator};
use super::credentials::Places;
use super::error::{Error, Fault, Place, tame};
use super::location::{bare_host, resolve, same_origin};
use super::proxy::{Proxies, is_local};
use super::retry::{Patience, patiently};
use super::transport::{Content, Transport};
use crate::image::progress::Progress;
use crate::image::reference::DOCKER_HUB;

/// How many redirects are followed, as by Go's programs.
const MAX_REDIRECTS: u32 = 10;

/// What a client needs to know beside the names of images.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whether every registry is asked in the clear (`--plain-http`).
    pub plain_http: bool,
    /// Certificates to trust beside the machine's own (`--ca-file`). With them,
    /// this machine's own registry is asked over TLS as well.
    pub ca_file: Option<PathBuf>,
    pub proxies: Proxies,
    /// Where logins lie.
    pub logins: Places,
    pub patience: Patience,
    /// Who is told of long copies.
    pub progress: Progress,
}

impl Options {
    /// What the environment says, with no flag given.
    pub fn from_environment() -> Self {
        let variable = |name: &str| std::env::var_os(name);
        let user = rustix::process::geteuid().as_raw();
        Self {
            proxies: Proxies::new(|name| variable(name)?.into_string().ok()),
            logins: Places::new(user, variable),
            ..Self::default()
        }
    }
}

/// A client of any number of registries. Cheap to clone; clones share their
/// connections and tokens.
#[derive(Clone, Debug)]
pub struct Client(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    transport: Transport,
    plain_http: bool,
    tls_everywhere: bool,
    logins: Arc<Places>,
    patience: Patience,
    progress: Progress,
    hosts: Mutex<HashMap<String, Arc<Host>>>,
}

#[derive(Debug)]
struct Host {
    /// Scheme and authority of the API.
    base: Uri,
    authenticator: Authenticator,
}

/// A repository of a registry.
#[derive(Clone, Debug)]
pub struct Repository {
    shared: Arc<Shared>,
    host: Arc<Host>,
    registry: String,
    name: String,
}

impl Client {
    pub fn new(options: Options) -> Self {
        Self(Arc::new(Shared {
            plain_http: options.plain_http,
            tls_everywhere: options.ca_file.is_some(),
            transport: Transport::new(options.proxies, options.ca_file),
            logins: Arc::new(options.logins),
            patience: options.patience,
            progress: options.progress,
            hosts: Mutex::default(),
        }))
    }

    /// Who is told of long copies.
    pub fn progress(&self) -> &Progress {
        &self.0.progress
    }

    /// The repository `name` of the registry `host`, both as in a reference.
    /// Nothing is asked yet.
    ///
    /// # Errors
    /// `host` is no host.
    pub fn repository(&self, host: &str, name: &str) -> Result<Repository, Error> {
        let shared = &self.0;
        let mut hosts = shared.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let known = match hosts.get(host) {
            Some(known) => known.clone(),
            None => {
                let base = shared.base(host).ok_or_else(|| Error {
                    place: Place {
                        registry: host.to_owned(),
                        repository: name.to_owned(),
                        reference: String::new(),
                    },
                    fault: Box::new(Fault::BadHost(tame(host))),
                })?;
                let authenticator = Authenticator::new(
                    host.to_owned(),
                    base.scheme_str() == Some("http"),
                    shared.logins.clone(),
                    shared.patience,
                );
                let new = Arc::new(Host {
                    base,
                    authenticator,
                });
                hosts.insert(host.to_owned(), new.clone());
                new
            }
        };
        Ok(Repository {
            shared: shared.clone(),
            host: known,
            registry: host.to_owned(),
            name: name.to_owned(),
        })
    }
}

impl Shared {
    fn base(&self, host: &str) -> Option<Uri> {
        // Docker Hub's API has another name than its references.
        let api = if host == DOCKER_HUB {
            "registry-1.docker.io"
        } else {
            host
        };
        let base: Uri = format!("https://{api}").parse().ok()?;
        let clear = self.plain_http || is_local(bare_host(&base)) && !self.tls_everywhere;
        if clear {
            return format!("http://{api}").parse().ok();
        }
        Some(base)
    }
}

/// A request to a registry.
#[derive(Debug)]
pub(super) struct Ask {
    /// What it does, for messages: "a request for …".
    pub(super) action: &'static str,
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    /// What it needs, its own repository first.
    pub(super) access: Vec<Access>,
}

impl Ask {
    #[must_use]
    pub(super) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = value.parse() {
            self.headers.insert(name, value);
        }
        self
    }
}

impl Repository {
    pub fn registry(&self) -> &str {
        &self.registry
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether both are one registry's: what lies in one can be mounted in the
    /// other.
    pub(super) fn is_beside(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.host, &other.host)
    }

    pub(super) fn patience(&self) -> Patience {
        self.shared.patience
    }

    /// What is at fault at `reference` in this repository.
    pub(super) fn error(&self, reference: &str, fault: Fault) -> Error {
        Error {
            place: Place {
                registry: self.registry.clone(),
                repository: self.name.clone(),
                reference: reference.to_owned(),
            },
            fault: Box::new(fault),
        }
    }

    /// A request below `/v2/NAME/` (distribution specification, "Endpoints").
    pub(super) fn ask(
        &self,
        action: &'static str,
        method: Method,
        path: &str,
        push: bool,
    ) -> Result<Ask, Fault> {
        let (base, name) = (&self.host.base, &self.name);
        let base = base.to_string();
        let uri = format!("{}/v2/{name}/{path}", base.trim_end_matches('/'));
        Ok(self.ask_at(
            action,
            method,
            uri.parse().map_err(|_| Fault::NoRepository)?,
            push,
        ))
    }

    /// A request to an address that the registry gave.
    pub(super) fn ask_at(&self, action: &'static str, method: Method, uri: Uri, push: bool) -> Ask {
        Ask {
            action,
            method,
            uri,
            headers: HeaderMap::new(),
            access: vec![Access {
                repository: self.name.clone(),
                push,
            }],
        }
    }

    /// Sends a request, with the login that it takes. Redirects of what only
    /// reads are followed; no other host sees a login or a token.
    pub(super) fn send(&self, ask: &Ask) -> Result<Answer, Fault> {
        self.send_with(ask, &mut Content::Nothing)
    }

    /// The same, with something to carry.
    pub(super) fn send_with(&self, ask: &Ask, content: &mut Content<'_>) -> Result<Answer, Fault> {
        let mut redirects = 0;
        let mut uri = ask.uri.clone();
        loop {
            let own = same_origin(&uri, &self.host.base);
            let response = if own {
                self.send_own(ask, &uri, content)?
            } else {
                self.send_plain(ask, &uri, &HeaderMap::new(), content)?
            };
            if !is_redirect(response.status()) {
                return Ok(Answer {
                    action: ask.action,
                    uri,
                    push: ask.access.first().is_some_and(|access| access.push),
                    own,
                    response,
                });
            }
            let to = response.headers().get(header::LOCATION);
            let to = to.and_then(|to| resolve(&uri, to.to_str().ok()?));
            let to = to.ok_or(Fault::Nonsense {
                action: ask.action,
                what: "it leads nowhere",
            })?;
            self.check_clear(&to)?;
            drain(response);
            let host = bare_host(&to).to_owned();
            if !matches!(ask.method, Method::GET | Method::HEAD) {
                let action = ask.action;
                return Err(Fault::Redirected { action, to: host });
            }
            redirects += 1;
            if redirects > MAX_REDIRECTS {
                return Err(Fault::TooManyRedirects(host));
            }
            uri = to;
        }
    }

    /// An address that a registry behind TLS gives is not asked in the clear.
    pub(super) fn check_clear(&self, uri: &Uri) -> Result<(), Fault> {
        let down = self.host.base.scheme_str() == Some("https") && uri.scheme_str() == Some("http");
        if down {
            return Err(Fault::Downgrade(bare_host(uri).to_owned()));
        }
        Ok(())
    }

    fn send_own(
        &self,
        ask: &Ask,
        uri: &Uri,
        content: &mut Content<'_>,
    ) -> Result<Response<Body>, Fault> {
        let (host, transport) = (&self.host, &self.shared.transport);
        loop {
            let authorization = host.authenticator.authorize(&ask.access, transport)?;
            let mut headers = HeaderMap::new();
            if let Some(authorization) = &authorization {
                headers.insert(header::AUTHORIZATION, authorization.header.clone());
            }
            let response = self.send_plain(ask, uri, &headers, content)?;
            if response.status() != StatusCode::UNAUTHORIZED {
                return Ok(response);
            }
            let (parts, body) = response.into_parts();
            let detail = detail(body);
            host.authenticator.learn(
                &parts.headers,
                authorization.as_ref(),
                &ask.access,
                detail,
            )?;
            if !content.is_whole() {
                return Err(Fault::Nonsense {
                    action: ask.action,
                    what: "it asks for a login in the middle of it",
                });
            }
        }
    }

    fn send_plain(
        &self,
        ask: &Ask,
        uri: &Uri,
        more: &HeaderMap,
        content: &mut Content<'_>,
    ) -> Result<Response<Body>, Fault> {
        let mut headers = ask.headers.clone();
        headers.extend(more.clone());
        let (method, content) = (&ask.method, RefCell::new(content));
        patiently(
            self.shared.patience,
            || {
                let mut content = content.borrow_mut();
                self.shared
                    .transport
                    .send(method, uri, &headers, &mut content)
            },
            // What was read from a stream is gone.
            || content.borrow().is_whole(),
        )
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

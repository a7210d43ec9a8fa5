//! Logging in to one registry: what it asks for, and what it gets (distribution
//! specification, "Authentication"; Docker's token and OAuth 2.0 protocols).

mod challenge;
mod token;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ureq::http::{HeaderMap, HeaderValue, Uri, header};

use super::credentials::{Login, Places, Search};
use super::error::{Fault, tame};
use super::retry::Patience;
use super::transport::Transport;
use challenge::Challenge;

/// What a request needs to be allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Access {
    pub(super) repository: String,
    pub(super) push: bool,
}

impl Access {
    fn scope(&self) -> String {
        let actions = if self.push { "pull,push" } else { "pull" };
        format!("repository:{}:{actions}", self.repository)
    }

    fn covers(&self, other: &Self) -> bool {
        self.repository == other.repository && (self.push || !other.push)
    }
}

/// What is sent as `Authorization`.
#[derive(Debug)]
pub(super) struct Authorization {
    /// Marked as sensitive, and so hidden under `{:?}`.
    pub(super) header: HeaderValue,
    /// Whether another one may be had where this one is turned down: a token
    /// that was kept may have expired.
    pub(super) kept: bool,
}

/// What is known of a registry's way to log in.
#[derive(Debug)]
pub(super) struct Authenticator {
    /// As in a reference, under which logins are kept.
    registry: String,
    /// Whether the registry is asked in the clear.
    clear: bool,
    places: Arc<Places>,
    patience: Patience,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    scheme: Option<Scheme>,
    tokens: Vec<Token>,
    searches: HashMap<String, Arc<Search>>,
}

#[derive(Clone, Debug)]
enum Scheme {
    Basic,
    Bearer(Service),
}

/// Who gives tokens.
#[derive(Clone, Debug)]
struct Service {
    realm: Uri,
    name: Option<String>,
    /// What the registry wants beyond the repositories.
    scopes: Vec<String>,
}

#[derive(Debug)]
struct Token {
    access: Vec<Access>,
    header: HeaderValue,
    expires: Instant,
}

impl Authenticator {
    pub(super) fn new(
        registry: String,
        clear: bool,
        places: Arc<Places>,
        patience: Patience,
    ) -> Self {
        Self {
            registry,
            clear,
            places,
            patience,
            state: Mutex::default(),
        }
    }

    /// What to send for `access`, of which the first is what the request is
    /// about. Nothing before the registry asks for something: many let in
    /// everyone, and a look at the logins may start a helper.
    pub(super) fn authorize(
        &self,
        access: &[Access],
        transport: &Transport,
    ) -> Result<Option<Authorization>, Fault> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.scheme.clone() {
            None => Ok(None),
            Some(Scheme::Basic) => {
                let search = self.search(&mut state, access);
                let Some(login) = search.credential.as_ref().map(|found| &found.login) else {
                    return Err(self.turned_down(search, String::new()));
                };
                let header = match login {
                    Login::Password { username, password } => basic(username, password.reveal())
                        .ok_or_else(|| self.turned_down(search.clone(), String::new()))?,
                    Login::RegistryToken(token) => self.bearer(token.reveal())?,
                    Login::IdentityToken(_) => {
                        let why = "the registry takes passwords, and an identity token was found";
                        return Err(self.turned_down(search.clone(), why.to_owned()));
                    }
                };
                let kept = false;
                Ok(Some(Authorization { header, kept }))
            }
            Some(Scheme::Bearer(service)) => {
                let now = Instant::now();
                state.tokens.retain(|token| token.expires > now);
                let covers = |token: &&Token| {
                    let mut wanted = access.iter();
                    wanted.all(|one| token.access.iter().any(|given| given.covers(one)))
                };
                if let Some(token) = state.tokens.iter().find(covers) {
                    return Ok(Some(Authorization {
                        header: token.header.clone(),
                        kept: true,
                    }));
                }
                let search = self.search(&mut state, access);
                let token = self.fetch(&service, access, &search, transport)?;
                let header = token.header.clone();
                state.tokens.push(token);
                let kept = false;
                Ok(Some(Authorization { header, kept }))
            }
        }
    }

    /// Learns from a 401 how to log in. `shown` is what was turned down.
    ///
    /// # Errors
    /// There is no other way in than the one that was tried.
    pub(super) fn learn(
        &self,
        headers: &HeaderMap,
        shown: Option<&Authorization>,
        access: &[Access],
        detail: String,
    ) -> Result<(), Fault> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shown) = shown {
            if !shown.kept {
                let search = self.search(&mut state, access);
                return Err(self.turned_down(search, detail));
            }
            state.tokens.retain(|token| token.header != shown.header);
        }
        let all = headers.get_all(header::WWW_AUTHENTICATE);
        let all: Vec<&str> = all.iter().filter_map(|value| value.to_str().ok()).collect();
        let scheme = match challenge::best(all.iter().copied()) {
            None => return Err(Fault::UnknownChallenge(tame(&schemes(&all)))),
            Some(Challenge::Basic) => Scheme::Basic,
            Some(Challenge::Bearer {
                realm,
                service,
                scope,
            }) => {
                let realm = self.realm(&realm)?;
                let wanted = scope.unwrap_or_default();
                let wanted = wanted.split_whitespace();
                let own = |scope: &&str| {
                    let name = scope.strip_prefix("repository:");
                    let name = name.and_then(|rest| rest.rsplit_once(':'));
                    name.is_some_and(|(name, _)| access.iter().any(|one| one.repository == name))
                };
                Scheme::Bearer(Service {
                    realm,
                    name: service,
                    scopes: wanted.filter(|one| !own(one)).map(str::to_owned).collect(),
                })
            }
        };
        state.scheme = Some(scheme);
        Ok(())
    }

    /// The address where tokens are had. A registry that is asked over TLS does
    /// not make us say the password in the clear.
    fn realm(&self, realm: &str) -> Result<Uri, Fault> {
        let uri: Option<Uri> = realm.parse().ok();
        let uri = uri.filter(|uri| {
            let user = uri.authority().is_none_or(|it| it.as_str().contains('@'));
            matches!(uri.scheme_str(), Some("http" | "https")) && !user
        });
        let uri = uri.ok_or(Fault::Nonsense {
            action: "a request without a token",
            what: "the realm is no address",
        })?;
        if uri.scheme_str() == Some("http") && !self.clear {
            return Err(Fault::ClearTokens { realm: tame(realm) });
        }
        Ok(uri)
    }

    fn search(&self, state: &mut State, access: &[Access]) -> Arc<Search> {
        let repository = access.first().map_or("", |one| one.repository.as_str());
        if let Some(search) = state.searches.get(repository) {
            return search.clone();
        }
        let search = Arc::new(self.places.find(&self.registry, repository));
        state.searches.insert(repository.to_owned(), search.clone());
        search
    }

    fn turned_down(&self, search: Arc<Search>, detail: String) -> Fault {
        Fault::Unauthorized {
            registry: self.registry.clone(),
            search,
            detail,
        }
    }

    fn bearer(&self, token: &str) -> Result<HeaderValue, Fault> {
        let header = HeaderValue::try_from(format!("Bearer {token}"));
        let mut header = header.map_err(|_| Fault::NoToken {
            realm: self.registry.clone(),
            why: "the token holds characters that none may hold".to_owned(),
        })?;
        header.set_sensitive(true);
        Ok(header)
    }
}

/// RFC 7617. None where the name holds a colon, which it cannot carry.
fn basic(username: &str, password: &str) -> Option<HeaderValue> {
    if username.contains(':') {
        return None;
    }
    let pair = STANDARD.encode(format!("{username}:{password}"));
    let mut header = HeaderValue::try_from(format!("Basic {pair}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// The names of the ways to log in, without their parameters.
fn schemes(headers: &[&str]) -> String {
    let names = headers.iter().filter_map(|header| header.split(' ').next());
    let names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
    if names.is_empty() {
        return "none is named".to_owned();
    }
    names.join(", ")
}

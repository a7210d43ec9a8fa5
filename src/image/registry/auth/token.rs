//! Tokens: asked for with a password, with an identity token, or with nothing
//! (Docker's "Token Authentication Specification" and "OAuth2 Token
//! Authentication").

use std::time::{Duration, Instant};

use serde_json::Value;
use ureq::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};

use super::{Access, Authenticator, Service, Token, basic};
use crate::image::registry::answer::read_bounded;
use crate::image::registry::credentials::{Login, Search, Secret};
use crate::image::registry::error::Fault;
use crate::image::registry::location::{encode, with_query};
use crate::image::registry::retry::{is_passing, patiently};
use crate::image::registry::transport::{Content, Transport};

/// How long a token lasts that does not say so.
const LIFE: u64 = 60;
/// Tokens are renewed this long before they end.
const MARGIN: u64 = 5;
/// No answer of a token server is longer.
const MAX_ANSWER: u64 = 1 << 20;

impl Authenticator {
    /// Asks for a token for all of `access`. Where that is refused, as by servers
    /// that grant all or nothing, for the first alone: a mount is then refused,
    /// which costs an upload and no more.
    pub(super) fn fetch(
        &self,
        service: &Service,
        access: &[Access],
        search: &std::sync::Arc<Search>,
        transport: &Transport,
    ) -> Result<Token, Fault> {
        let login = search.credential.as_ref().map(|found| &found.login);
        let mut asked = access;
        loop {
            let (status, answer) = match login {
                Some(Login::RegistryToken(token)) => {
                    return Ok(Token {
                        access: access.to_vec(),
                        header: self.bearer(token.reveal())?,
                        // It is ours as long as we run.
                        expires: Instant::now() + Duration::from_secs(1 << 20),
                    });
                }
                Some(Login::IdentityToken(token)) => self.post(service, asked, token, transport)?,
                Some(Login::Password { username, password }) => {
                    let user = (username.as_str(), password);
                    self.get(service, asked, Some(user), transport)?
                }
                None => self.get(service, asked, None, transport)?,
            };
            match status {
                StatusCode::OK => return self.read(service, access, &answer),
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if asked.len() > 1 => {
                    asked = &access[..1];
                }
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    return Err(self.turned_down(search.clone(), String::new()));
                }
                status => {
                    let passing = if is_passing(status) {
                        ": try again later"
                    } else {
                        ""
                    };
                    return Err(no_token(service, format!("{status}{passing}")));
                }
            }
        }
    }

    fn get(
        &self,
        service: &Service,
        access: &[Access],
        user: Option<(&str, &Secret)>,
        transport: &Transport,
    ) -> Result<(StatusCode, Vec<u8>), Fault> {
        let mut uri = Some(service.realm.clone());
        let mut add = |name: &str, value: &str| {
            uri = uri.take().and_then(|uri| with_query(&uri, name, value));
        };
        if let Some(name) = &service.name {
            add("service", name);
        }
        for scope in scopes(service, access) {
            add("scope", &scope);
        }
        let mut headers = HeaderMap::new();
        if let Some((username, password)) = user {
            add("account", username);
            let login = basic(username, password.reveal());
            let login = login
                .ok_or_else(|| no_token(service, "the user's name holds a colon".to_owned()))?;
            headers.insert(header::AUTHORIZATION, login);
        }
        let uri = uri.ok_or_else(|| no_token(service, "its address is too long".to_owned()))?;
        self.send(&Method::GET, &uri, &headers, None, transport)
    }

    /// The `refresh_token` grant: the token is in the body, where no log has it.
    fn post(
        &self,
        service: &Service,
        access: &[Access],
        token: &Secret,
        transport: &Transport,
    ) -> Result<(StatusCode, Vec<u8>), Fault> {
        let form = [
            ("grant_type", "refresh_token"),
            ("service", service.name.as_deref().unwrap_or_default()),
            ("client_id", "reuseport"),
            ("scope", &scopes(service, access).join(" ")),
            ("refresh_token", token.reveal()),
        ];
        let form = form.map(|(name, value)| format!("{name}={}", encode(value)));
        let form = form.join("&");
        let mut headers = HeaderMap::new();
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(header::CONTENT_TYPE, kind);
        let body = Some(form.as_bytes());
        self.send(&Method::POST, &service.realm, &headers, body, transport)
    }

    fn send(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: Option<&[u8]>,
        transport: &Transport,
    ) -> Result<(StatusCode, Vec<u8>), Fault> {
        let send = || {
            let mut content = body.map_or(Content::Nothing, Content::Bytes);
            transport.send(method, uri, headers, &mut content)
        };
        let response = patiently(self.patience, send, || true)?;
        let status = response.status();
        let body = read_bounded(response.into_body(), MAX_ANSWER);
        Ok((status, body.unwrap_or_default()))
    }

    fn read(&self, service: &Service, access: &[Access], answer: &[u8]) -> Result<Token, Fault> {
        let answer: Value = serde_json::from_slice(answer)
            .map_err(|_| no_token(service, "its answer is no JSON".to_owned()))?;
        // Both names are in use, and mean the same.
        let token = ["token", "access_token"].iter().find_map(|name| {
            let token = answer.get(name).and_then(Value::as_str);
            token.filter(|token| !token.is_empty())
        });
        let token = token.ok_or_else(|| no_token(service, "its answer holds none".to_owned()))?;
        let life = answer.get("expires_in").and_then(Value::as_u64);
        let life = life.unwrap_or(LIFE).min(86_400).saturating_sub(MARGIN);
        Ok(Token {
            access: access.to_vec(),
            header: self.bearer(token)?,
            expires: Instant::now() + Duration::from_secs(life),
        })
    }
}

fn scopes(service: &Service, access: &[Access]) -> Vec<String> {
    let own = access.iter().map(Access::scope);
    own.chain(service.scopes.iter().cloned()).collect()
}

/// Without the query, in which the user's name may stand.
fn no_token(service: &Service, why: String) -> Fault {
    let realm = &service.realm;
    let host = realm.authority().map_or("", |authority| authority.as_str());
    Fault::NoToken {
        realm: format!(
            "{}://{host}{}",
            realm.scheme_str().unwrap_or_default(),
            realm.path()
        ),
        why,
    }
}

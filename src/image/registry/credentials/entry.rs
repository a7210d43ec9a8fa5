//! The entries of a file of logins: their keys, and what they hold.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::{Login, Secret};

/// The names under which Docker's own registry is kept.
const DOCKER: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// The keys under which a login for a repository may lie, the one that says
/// most first (containers-auth.json(5), "FORMAT"); the host itself is the last.
pub(super) fn keys(host: &str, repository: &str) -> Vec<String> {
    let host = host.to_ascii_lowercase();
    let mut keys = Vec::new();
    let mut name = repository;
    while !name.is_empty() {
        keys.push(format!("{host}/{name}"));
        name = name.rsplit_once('/').map_or("", |(above, _)| above);
    }
    keys.push(host);
    keys
}

/// The entry that names most of a repository, and the key that names it.
pub(super) fn best<'a, 'k>(
    entries: &'a Map<String, Value>,
    keys: &'k [String],
) -> Option<(&'k str, &'a Value)> {
    keys.iter().find_map(|key| {
        let mut same = entries.iter().filter(|(name, _)| is_key(name, key));
        same.next().map(|(_, entry)| (key.as_str(), entry))
    })
}

/// The login in the best entry that holds one.
///
/// # Errors
/// The key of an entry that cannot be understood.
pub(super) fn login(
    entries: &Map<String, Value>,
    keys: &[String],
) -> Result<Option<Login>, String> {
    for key in keys {
        for (name, entry) in entries.iter().filter(|(name, _)| is_key(name, key)) {
            // Where a helper keeps the login, the entry is there and empty.
            if let Some(login) = parse(entry).map_err(|Malformed| name.clone())? {
                return Ok(Some(login));
            }
        }
    }
    Ok(None)
}

/// What a helper calls the registry of `key`: Docker's own by its old address.
pub(super) fn server(key: &str) -> &str {
    if DOCKER.contains(&key) {
        "https://index.docker.io/v1/"
    } else {
        key
    }
}

/// Whether the name of an entry is `key`. Docker writes some with a scheme and
/// the path of an API.
fn is_key(name: &str, key: &str) -> bool {
    let (scheme, plain) = match name.split_once("://") {
        Some((_, plain)) => (true, plain),
        None => (false, name),
    };
    let mut plain = plain.trim_end_matches('/');
    if scheme {
        for version in ["/v1", "/v2"] {
            plain = plain.strip_suffix(version).unwrap_or(plain);
        }
    }
    // A host has no case; a repository has no capitals.
    let alias = |name: &str| DOCKER.iter().any(|one| name.eq_ignore_ascii_case(one));
    plain.eq_ignore_ascii_case(key) || alias(plain) && alias(key)
}

struct Malformed;

fn parse(entry: &Value) -> Result<Option<Login>, Malformed> {
    let text = |name| {
        let value = entry.get(name).and_then(Value::as_str);
        value.filter(|value| !value.is_empty())
    };
    if let Some(token) = text("identitytoken") {
        return Ok(Some(Login::IdentityToken(Secret::new(token.to_owned()))));
    }
    if let Some(token) = text("registrytoken") {
        return Ok(Some(Login::RegistryToken(Secret::new(token.to_owned()))));
    }
    if let (Some(username), Some(password)) = (text("username"), text("password")) {
        return Ok(Some(Login::Password {
            username: username.to_owned(),
            password: Secret::new(password.to_owned()),
        }));
    }
    let Some(auth) = text("auth") else {
        return Ok(None);
    };
    let bytes = STANDARD.decode(auth.trim()).map_err(|_| Malformed)?;
    let pair = String::from_utf8(bytes).map_err(|_| Malformed)?;
    let (username, password) = pair.split_once(':').ok_or(Malformed)?;
    // Some tools pad the password with NUL.
    let password = password.trim_end_matches('\0');
    Ok(Some(Login::Password {
        username: username.to_owned(),
        password: Secret::new(password.to_owned()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(json: &str, host: &str, repository: &str) -> Option<String> {
        let value: Value = serde_json::from_str(json).expect("JSON");
        let entries = value.as_object().expect("an object");
        let login = login(entries, &keys(host, repository)).expect("entries");
        login.map(|login| match login {
            Login::Password { username, password } => format!("{username}/{}", password.reveal()),
            Login::IdentityToken(token) | Login::RegistryToken(token) => token.reveal().to_owned(),
        })
    }

    #[test]
    fn the_entry_that_names_most_is_taken() {
        // a:1, b:2, c:3
        let json = r#"{"reg.example": {"auth": "YToxCg=="}, "reg.example/team": {"auth": "Yjoy"},
            "reg.example/team/app": {"auth": "Yzoz"}}"#;
        let found = |repository| user(json, "reg.example", repository);
        assert_eq!(found("team/app/x").as_deref(), Some("c/3"));
        assert_eq!(found("team/apple").as_deref(), Some("b/2"));
        assert_eq!(found("teams").as_deref(), Some("a/1\n"));
        assert_eq!(user(json, "reg.example:5000", "team"), None);
    }

    #[test]
    fn old_forms_of_a_key_are_known() {
        let json = r#"{"https://index.docker.io/v1/": {"auth": "YTox"},
            "https://Reg.example:5000": {"username": "u", "password": "p:q"},
            "empty.example": {}, "token.example": {"auth": "eDo=", "identitytoken": "abc"}}"#;
        assert_eq!(user(json, "docker.io", "library/x").as_deref(), Some("a/1"));
        assert_eq!(
            user(json, "reg.example:5000", "x").as_deref(),
            Some("u/p:q")
        );
        assert_eq!(user(json, "token.example", "x").as_deref(), Some("abc"));
        assert_eq!(user(json, "empty.example", "x"), None);
        assert_eq!(server("docker.io"), "https://index.docker.io/v1/");
        assert_eq!(server("reg.example"), "reg.example");
    }

    #[test]
    fn what_cannot_be_understood_is_named_without_its_content() {
        for auth in ["!!!", "bm9jb2xvbg==", "/////w=="] {
            let json = format!(r#"{{"reg.example": {{"auth": "{auth}"}}}}"#);
            let value: Value = serde_json::from_str(&json).expect("JSON");
            let entries = value.as_object().expect("an object");
            let keys = keys("reg.example", "x");
            assert_eq!(login(entries, &keys), Err("reg.example".to_owned()));
        }
    }
}

//! What a registry asks for with 401: `WWW-Authenticate` (RFC 9110, section
//! 11.6.1; token authentication specification, "How to authenticate").

/// A way to log in that we know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer {
        /// Where tokens are had.
        realm: String,
        service: Option<String>,
        /// What the registry says that the request needs.
        scope: Option<String>,
    },
}

/// The best challenge of an answer's `WWW-Authenticate` headers: a token before
/// a password.
pub(super) fn best<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    let mut basic = None;
    for header in headers {
        for (scheme, parameters) in challenges(header) {
            let value = |name: &str| {
                let found = parameters.iter().find(|(key, _)| key == name);
                found.map(|(_, value)| value.clone())
            };
            if scheme.eq_ignore_ascii_case("bearer")
                && let Some(realm) = value("realm")
            {
                return Some(Challenge::Bearer {
                    realm,
                    service: value("service"),
                    scope: value("scope"),
                });
            }
            if scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Challenge::Basic);
            }
        }
    }
    basic
}

type Parameters = Vec<(String, String)>;

/// The challenges in one header, which may hold several, as their parameters
/// are separated by the same comma.
fn challenges(header: &str) -> Vec<(&str, Parameters)> {
    let mut found: Vec<(&str, Parameters)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find(|c: char| !is_token(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            return found;
        }
        match after.trim_start().strip_prefix('=') {
            Some(value) if !found.is_empty() => {
                let (value, after) = take_value(value.trim_start());
                if let Some((_, parameters)) = found.last_mut() {
                    parameters.push((word.to_ascii_lowercase(), value));
                }
                rest = after;
            }
            _ => {
                found.push((word, Vec::new()));
                rest = after;
            }
        }
    }
}

/// A token or a quoted string, and what follows it.
fn take_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            character => value.push(character),
        }
    }
    (value, "")
}

fn is_token(character: char) -> bool {
    character.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        }
    }

    #[test]
    fn a_bearer_challenge_is_read() {
        let header = "Bearer realm=\"https://auth.example/token\",service=\"reg.example\",\
                      scope=\"repository:a/b:pull,push\",error=\"invalid_token\"";
        assert_eq!(
            best([header].into_iter()),
            Some(bearer(
                "https://auth.example/token",
                Some("reg.example"),
                Some("repository:a/b:pull,push")
            ))
        );
    }

    #[test]
    fn the_best_of_several_is_taken() {
        let one = "Negotiate, Basic realm=\"a, b=\\\"c\\\"\", bearer Realm = https://x/t";
        assert_eq!(
            best([one].into_iter()),
            Some(bearer("https://x/t", None, None))
        );
        let two = ["Basic realm=\"x\"", "Bearer realm=\"https://x/t\""];
        assert_eq!(
            best(two.into_iter()),
            Some(bearer("https://x/t", None, None))
        );
        assert_eq!(best(["Basic"].into_iter()), Some(Challenge::Basic));
    }

    #[test]
    fn what_is_no_challenge_is_none() {
        for header in [
            "",
            "Negotiate abc==",
            "Bearer",
            "=,=\"",
            "\"",
            "Digest realm=\"x\"",
        ] {
            assert_eq!(best([header].into_iter()), None, "{header}");
        }
        // An end that is missing is no reason to loop.
        assert_eq!(
            best(["Bearer realm=\"x"].into_iter()),
            Some(bearer("x", None, None))
        );
    }
}

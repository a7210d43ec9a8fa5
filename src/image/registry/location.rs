//! Where a registry sends us: `Location` and `Link`, against the address that
//! was asked (RFC 3986, section 5).

use std::fmt::Write;

use ureq::http::Uri;

/// The address that `location` means in an answer from `base`. None where it is
/// no address over HTTP, or holds a user's name.
pub(super) fn resolve(base: &Uri, location: &str) -> Option<Uri> {
    let scheme = base.scheme_str()?;
    let authority = base.authority()?;
    let location = location.split('#').next().unwrap_or_default();
    let text = if has_scheme(location) {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location.starts_with('?') {
        format!("{scheme}://{authority}{}{location}", base.path())
    } else if location.is_empty() {
        return None;
    } else {
        let path = merge(base.path(), location);
        format!("{scheme}://{authority}{path}")
    };
    let uri: Uri = text.parse().ok()?;
    let known = matches!(uri.scheme_str(), Some("http" | "https"));
    let user = uri.authority().is_none_or(|it| it.as_str().contains('@'));
    (known && !user).then_some(uri)
}

/// The address that follows in a list that comes in pages: the `Link` header
/// with `rel="next"` (RFC 8288; distribution specification, "Listing Tags").
pub(super) fn next_page(base: &Uri, link: &str) -> Option<Uri> {
    let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    let next = parameters.split(';').any(|parameter| {
        let parameter = parameter.replace(['"', ' '], "");
        parameter.eq_ignore_ascii_case("rel=next")
    });
    next.then(|| resolve(base, target))?
}

/// `uri` with `name=value` added to its query. A registry's own query stays as
/// it is: it holds the upload's state.
pub(super) fn with_query(uri: &Uri, name: &str, value: &str) -> Option<Uri> {
    let joint = if uri.query().is_some() { '&' } else { '?' };
    format!("{uri}{joint}{name}={}", encode(value)).parse().ok()
}

/// A value in a query or a form (RFC 3986, section 2.1).
pub(super) fn encode(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a String does not fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// Whether two addresses are one server's: what may see the same credentials.
pub(super) fn same_origin(one: &Uri, other: &Uri) -> bool {
    let origin = |uri: &Uri| {
        let scheme = uri.scheme_str()?.to_owned();
        let port = if scheme == "https" { 443 } else { 80 };
        let host = uri.host()?.to_ascii_lowercase();
        Some((scheme, host, uri.port_u16().unwrap_or(port)))
    };
    origin(one).is_some_and(|one| Some(one) == origin(other))
}

/// The host without the brackets of an IPv6 address.
pub(super) fn bare_host(uri: &Uri) -> &str {
    let host = uri.host().unwrap_or_default();
    host.trim_start_matches('[').trim_end_matches(']')
}

fn has_scheme(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

/// Section 5.2.3 and 5.2.4: `location` in the folder of `base`, with `.` and
/// `..` taken away.
fn merge(base: &str, location: &str) -> String {
    let (path, query) = match location.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (location, None),
    };
    let folder = base.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').skip(1).chain(path.split('/')) {
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let mut merged = format!("/{}", parts.join("/"));
    if let Some(query) = query {
        merged.push('?');
        merged.push_str(query);
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().expect("an address")
    }

    #[test]
    fn locations_are_resolved_against_the_address_that_was_asked() {
        let base = uri("https://reg.example:5000/v2/a/blobs/uploads/");
        for (location, resolved) in [
            ("/v2/a/x", "https://reg.example:5000/v2/a/x"),
            (
                "1234?_state=a%2Fb",
                "https://reg.example:5000/v2/a/blobs/uploads/1234?_state=a%2Fb",
            ),
            ("../x", "https://reg.example:5000/v2/a/blobs/x"),
            ("?x=1", "https://reg.example:5000/v2/a/blobs/uploads/?x=1"),
            ("//cdn.example/x", "https://cdn.example/x"),
            (
                "http://cdn.example/x?u=https://y/z",
                "http://cdn.example/x?u=https://y/z",
            ),
            (
                "x?u=https://y/z",
                "https://reg.example:5000/v2/a/blobs/uploads/x?u=https://y/z",
            ),
        ] {
            assert_eq!(resolve(&base, location), Some(uri(resolved)), "{location}");
        }
        for refused in [
            "",
            "ftp://x/y",
            "https://user:word@reg.example/",
            "https://",
            "/a b",
        ] {
            assert_eq!(resolve(&base, refused), None, "{refused}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let same = |one, other| same_origin(&uri(one), &uri(other));
        assert!(same("https://Reg.example/a", "https://reg.example:443/b"));
        assert!(!same("https://reg.example/", "http://reg.example/"));
        assert!(!same("https://reg.example/", "https://reg.example:444/"));
        assert!(!same("https://reg.example/", "https://reg.example.evil/"));
    }

    #[test]
    fn the_next_page_is_the_one_that_is_called_so() {
        let base = uri("http://localhost:5000/v2/a/tags/list?n=2");
        assert_eq!(
            next_page(&base, "</v2/a/tags/list?last=b&n=2>; rel=\"next\""),
            Some(uri("http://localhost:5000/v2/a/tags/list?last=b&n=2"))
        );
        assert_eq!(next_page(&base, "</v2/a>; rel=\"prev\""), None);
        assert_eq!(next_page(&base, "/v2/a"), None);
    }

    #[test]
    fn a_query_that_is_there_stays() {
        assert_eq!(
            with_query(&uri("http://h/u?_state=x%3D"), "digest", "sha256:ab"),
            Some(uri("http://h/u?_state=x%3D&digest=sha256%3Aab"))
        );
        assert_eq!(
            with_query(&uri("http://h/u"), "digest", "sha256:ab"),
            Some(uri("http://h/u?digest=sha256%3Aab"))
        );
    }
}

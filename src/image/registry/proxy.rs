//! Which proxy leads to a host: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and
//! `NO_PROXY`, as curl and Go's programs read them.

use std::net::IpAddr;

use ureq::Proxy;
use ureq::http::Uri;

use super::error::Fault;
use super::location::bare_host;

/// The proxies that the environment names.
#[derive(Clone, Default)]
pub struct Proxies {
    /// With the variable that names it.
    https: Option<(&'static str, String)>,
    http: Option<(&'static str, String)>,
    except: Vec<String>,
}

/// Without the addresses, which may hold a password.
impl std::fmt::Debug for Proxies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxies")
            .field("https", &self.https.as_ref().map(|(name, _)| name))
            .field("http", &self.http.as_ref().map(|(name, _)| name))
            .field("except", &self.except)
            .finish()
    }
}

impl Proxies {
    /// The proxies that the variables name. Small letters go before large ones.
    pub fn new(variable: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: &[&'static str]| {
            let mut set = names
                .iter()
                .filter_map(|name| Some((*name, variable(name)?)));
            set.find(|(_, value)| !value.trim().is_empty())
        };
        let except = first(&["no_proxy", "NO_PROXY"]).map_or(String::new(), |(_, list)| list);
        Self {
            https: first(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
            http: first(&["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]),
            except: except
                .split([',', ' '])
                .map(|entry| entry.trim().to_ascii_lowercase())
                .filter(|entry| !entry.is_empty())
                .collect(),
        }
    }

    /// The proxy for `uri`, if there is one.
    ///
    /// # Errors
    /// The variable that names something that is no proxy.
    pub(super) fn find(&self, uri: &Uri) -> Result<Option<Proxy>, Fault> {
        let tls = uri.scheme_str() == Some("https");
        let Some((variable, address)) = (if tls { &self.https } else { &self.http }) else {
            return Ok(None);
        };
        if is_local(bare_host(uri)) || self.is_excepted(uri) {
            return Ok(None);
        }
        match Proxy::new(address) {
            Ok(proxy) => Ok(Some(proxy)),
            Err(_) => Err(Fault::Proxy { variable }),
        }
    }

    fn is_excepted(&self, uri: &Uri) -> bool {
        let host = bare_host(uri).to_ascii_lowercase();
        let port = match uri.port_u16() {
            Some(port) => port,
            None if uri.scheme_str() == Some("https") => 443,
            None => 80,
        };
        let mut entries = self.except.iter();
        entries.any(|entry| entry == "*" || matches(entry, &host, port))
    }
}

/// Whether this machine is meant, which no proxy leads to.
pub(super) fn is_local(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

/// One entry of NO_PROXY: an address, a prefix, or a domain with those below it.
fn matches(entry: &str, host: &str, port: u16) -> bool {
    if let Ok(address) = host.parse::<IpAddr>() {
        let entry = entry.trim_start_matches('[').trim_end_matches(']');
        return match entry.split_once('/') {
            Some((network, bits)) => in_network(address, network, bits).unwrap_or(false),
            None => entry.parse() == Ok(address) || entry == format!("{address}:{port}"),
        };
    }
    let domain = match entry.rsplit_once(':') {
        Some((domain, wanted)) if wanted.parse() == Ok(port) => domain,
        Some(_) => return false,
        None => entry,
    };
    let domain = domain.trim_start_matches('*');
    // With a point before it, those below it alone.
    match domain.strip_prefix('.') {
        Some(_) => host.ends_with(domain),
        None => host
            .strip_suffix(domain)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
    }
}

fn in_network(address: IpAddr, network: &str, bits: &str) -> Option<bool> {
    let bits: u32 = bits.parse().ok()?;
    Some(match (address, network.parse().ok()?) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let mask = u32::MAX.checked_shl(32_u32.checked_sub(bits)?).unwrap_or(0);
            (address.to_bits() ^ network.to_bits()) & mask == 0
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let mask = u128::MAX
                .checked_shl(128_u32.checked_sub(bits)?)
                .unwrap_or(0);
            (address.to_bits() ^ network.to_bits()) & mask == 0
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(pairs: &[(&str, &str)]) -> Proxies {
        Proxies::new(|name| {
            let pair = pairs.iter().find(|(key, _)| *key == name);
            pair.map(|(_, value)| (*value).to_owned())
        })
    }

    fn host(proxies: &Proxies, uri: &str) -> Option<String> {
        let uri = uri.parse().expect("an address");
        let found = proxies.find(&uri).expect("a proxy or none");
        found.map(|proxy| proxy.host().to_owned())
    }

    #[test]
    fn each_scheme_has_its_proxy() {
        let both = proxies(&[("HTTPS_PROXY", "http://s:1"), ("http_proxy", "p:2")]);
        assert_eq!(host(&both, "https://a/").as_deref(), Some("s"));
        assert_eq!(host(&both, "http://a/").as_deref(), Some("p"));
        let all = proxies(&[("ALL_PROXY", "http://x:1"), ("https_proxy", "")]);
        assert_eq!(host(&all, "https://a/").as_deref(), Some("x"));
        assert_eq!(host(&proxies(&[]), "https://a/"), None);
    }

    #[test]
    fn what_is_excepted_is_asked_directly() {
        let list = "example.org, .inner.example,10.0.0.0/8,fd00::/8,192.0.2.1,port.example:5000";
        let some = proxies(&[("HTTPS_PROXY", "http://p:1"), ("NO_PROXY", list)]);
        for direct in [
            "https://example.org/",
            "https://reg.Example.org/",
            "https://a.inner.example/",
            "https://10.9.8.7/",
            "https://[fd00::1]:5000/",
            "https://192.0.2.1:5000/",
            "https://port.example:5000/",
            "https://localhost/",
            "https://127.3.2.1:5000/",
            "https://[::1]/",
        ] {
            assert_eq!(host(&some, direct), None, "{direct}");
        }
        for proxied in [
            "https://notexample.org/",
            "https://inner.example/",
            "https://11.0.0.1/",
            "https://[fe00::1]/",
            "https://port.example/",
            "https://localhost.example/",
        ] {
            assert_eq!(host(&some, proxied).as_deref(), Some("p"), "{proxied}");
        }
        let none = proxies(&[("HTTPS_PROXY", "http://p:1"), ("NO_PROXY", "*")]);
        assert_eq!(host(&none, "https://a/"), None);
    }

    #[test]
    fn a_proxy_that_is_none_is_named_without_its_address() {
        let bad = proxies(&[("HTTPS_PROXY", "socks9://user:s3cret@p:1")]);
        let uri = "https://a/".parse().expect("an address");
        let error = bad.find(&uri).expect_err("no proxy").to_string();
        assert!(
            error.contains("HTTPS_PROXY") && !error.contains("s3cret"),
            "{error}"
        );
        assert!(!format!("{bad:?}").contains("s3cret"));
    }
}

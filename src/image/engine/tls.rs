//! TLS with an engine that is reached over TCP: the certificates lie where Docker's
//! own client looks for them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use thiserror::Error;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

/// How to speak TLS with an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Holds `ca.pem`, and `cert.pem` and `key.pem` where the engine wants to know
    /// who calls.
    pub certificates: PathBuf,
    /// Whether the engine must be who it says it is.
    pub verify: bool,
}

/// The certificates are of no use.
#[derive(Debug, Error)]
pub enum BadCertificates {
    /// A file cannot be read.
    #[error("{path}: {error}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file holds something else.
    #[error("{path}: it holds no {what} in PEM", path = path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
}

/// What ureq is to know.
pub(super) fn config(tls: &Tls) -> Result<TlsConfig, BadCertificates> {
    let at = |name: &str| tls.certificates.join(name);
    let mut config = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
        .disable_verification(!tls.verify);
    if tls.verify {
        let authorities = certificates(&at("ca.pem"))?;
        config = config.root_certs(RootCerts::new_with_certs(&authorities));
    }
    let (chain, key) = (at("cert.pem"), at("key.pem"));
    if chain.exists() || key.exists() {
        let client = ClientCert::new_with_certs(&certificates(&chain)?, private_key(&key)?);
        config = config.client_cert(Some(client));
    }
    Ok(config.build())
}

fn read(path: &Path) -> Result<Vec<u8>, BadCertificates> {
    fs::read(path).map_err(|error| BadCertificates::Read {
        path: path.to_owned(),
        error,
    })
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, BadCertificates> {
    let text = read(path)?;
    let items = parse_pem(&text).filter_map(Result::ok);
    let found: Vec<_> = items
        .filter_map(|item| match item {
            PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        })
        .collect();
    if found.is_empty() {
        return Err(BadCertificates::Content {
            path: path.to_owned(),
            what: "certificate",
        });
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKey<'static>, BadCertificates> {
    // Nothing of a key is shown, whatever the parser has to say.
    PrivateKey::from_pem(&read(path)?).map_err(|_| BadCertificates::Content {
        path: path.to_owned(),
        what: "private key",
    })
}

//! Platforms, as the OCI image index and the tools around it spell them:
//! `os/arch[/variant]`.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;
use thiserror::Error;

use crate::shim::{ARCHITECTURES, Architecture};

/// What an image runs on. Names are normal: `amd64`, never `x86_64`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Platform {
    pub os: String,
    pub architecture: String,
    pub variant: Option<String>,
}

/// Text that is no platform.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("'{}' is no platform: give OS/ARCH or OS/ARCH/VARIANT (linux/amd64, linux/arm/v7)", .0.escape_debug())]
pub struct InvalidPlatform(pub String);

impl Platform {
    /// The platform with normal names: containerd's `platforms.Normalize`.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let architecture = architecture.to_ascii_lowercase();
        let variant = variant.map(str::to_ascii_lowercase);
        let (architecture, variant) = match (architecture.as_str(), variant.as_deref()) {
            ("x86_64" | "x86-64" | "amd64", None | Some("v1")) => ("amd64", None),
            ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant),
            ("aarch64" | "arm64", None | Some("8" | "v8")) => ("arm64", None),
            ("aarch64" | "arm64", variant) => ("arm64", variant),
            ("armhf", _) => ("arm", Some("v7")),
            ("armel", _) => ("arm", Some("v6")),
            ("arm", None | Some("7" | "v7")) => ("arm", Some("v7")),
            ("arm", Some("5")) => ("arm", Some("v5")),
            ("arm", Some("6")) => ("arm", Some("v6")),
            ("i386" | "i486" | "i586" | "i686", variant) => ("386", variant),
            (architecture, variant) => (architecture, variant),
        };
        Self {
            os: os.to_ascii_lowercase(),
            architecture: architecture.to_owned(),
            variant: variant
                .filter(|variant| !variant.is_empty())
                .map(str::to_owned),
        }
    }

    /// The platform in an object with the fields `os`, `architecture` and
    /// `variant`: an image's config, or a descriptor's `platform`.
    pub fn of(object: &Value) -> Option<Self> {
        let text = |key: &str| object.get(key).and_then(Value::as_str);
        Some(Self::new(
            text("os")?,
            text("architecture")?,
            text("variant"),
        ))
    }

    /// Whether an image for `self` is what somebody means who asks for `wanted`:
    /// no variant there stands for any.
    pub fn satisfies(&self, wanted: &Self) -> bool {
        self.os == wanted.os
            && self.architecture == wanted.architecture
            && (wanted.variant.is_none() || self.variant == wanted.variant)
    }

    /// The architecture whose shim reaches the programs of this platform, if
    /// there is one.
    pub fn shim_architecture(&self) -> Option<&'static Architecture> {
        let mut all = ARCHITECTURES.iter();
        all.find(|one| self.os == "linux" && one.go_name == self.architecture)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = InvalidPlatform;

    fn from_str(text: &str) -> Result<Self, InvalidPlatform> {
        let is_word = |word: &&str| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            !word.is_empty() && word.bytes().all(allowed)
        };
        let words: Vec<&str> = text.split('/').collect();
        if !words.iter().all(is_word) {
            return Err(InvalidPlatform(text.to_owned()));
        }
        match words[..] {
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, Some(variant))),
            _ => Err(InvalidPlatform(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normal_whoever_spelt_them() {
        for (text, normal) in [
            ("linux/amd64", "linux/amd64"),
            ("Linux/x86_64", "linux/amd64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/v6", "linux/arm/v6"),
            ("windows/amd64", "windows/amd64"),
        ] {
            assert_eq!(text.parse::<Platform>().expect(text).to_string(), normal);
        }
        for text in ["", "linux", "linux/", "/amd64", "a/b/c/d", "linux/a b"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_shim_is_for_linux_of_its_architecture() {
        let shim = |text: &str| {
            let platform: Platform = text.parse().expect("a platform");
            platform.shim_architecture().map(|one| one.name)
        };
        assert_eq!(shim("linux/amd64"), Some("x86_64"));
        assert_eq!(shim("linux/arm64/v8"), Some("aarch64"));
        assert_eq!(shim("windows/amd64"), None);
        assert_eq!(shim("linux/s390x"), None);
    }
}

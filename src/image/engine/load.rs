//! Whole images out of an engine and into one, as archives that are never held in
//! memory.

use std::io::{self, BufRead, BufReader, Read};

use serde_json::Value;
use ureq::http::Method;

use super::client::{Call, Content};
use super::error::EngineError;
use super::{Engine, Inspected, Kind};
use crate::image::digest::Digest;

/// The formats of archives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// What `docker save` writes.
    DockerArchive,
    /// An OCI layout in an archive. Docker since 25 writes both in one.
    OciArchive,
}

/// What an engine says that it has loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Names of images.
    pub names: Vec<String>,
    /// Images without a name.
    pub ids: Vec<Digest>,
}

/// The longest line of an engine's answer that is read.
const LONGEST_LINE: u64 = 1 << 20;

impl Engine {
    /// The format that gives `image` as the engine has it, to the byte of its config
    /// and its manifest.
    pub fn format(&self, image: &Inspected) -> Format {
        match self.kind {
            Kind::Docker => Format::DockerArchive,
            Kind::Podman if image.manifest_type().contains("docker") => Format::DockerArchive,
            Kind::Podman => Format::OciArchive,
        }
    }

    /// `GET /images/NAME/get`: an archive of the image `name`, in its own format,
    /// with its name in it. The engine may need a while before the first byte comes.
    ///
    /// # Errors
    /// The engine does not give it.
    pub fn save(
        &self,
        name: &str,
        image: &Inspected,
    ) -> Result<(Format, impl Read + use<>), EngineError> {
        let format = self.format(image);
        let call = match self.kind {
            Kind::Docker => Call::new(Method::GET, self.path(&format!("/images/{name}/get"))),
            Kind::Podman => {
                let path = format!("{}/images/{name}/get", self.libpod);
                let format = match format {
                    Format::DockerArchive => "docker-archive",
                    Format::OciArchive => "oci-archive",
                };
                Call::new(Method::GET, path).with("format", format)
            }
        };
        Ok((format, self.client.stream(&call, Content::None)?))
    }

    /// `POST /images/load` of what `archive` gives: either format into Podman and
    /// Docker since 25, a docker archive into an older Docker.
    ///
    /// # Errors
    /// The engine does not take it, or `archive` cannot be read.
    pub fn load(&self, archive: &mut dyn Read) -> Result<Loaded, EngineError> {
        let call = match self.kind {
            Kind::Docker => Call::new(Method::POST, self.path("/images/load")).with("quiet", "1"),
            Kind::Podman => Call::new(Method::POST, format!("{}/images/load", self.libpod)),
        };
        let mut source = Source {
            inner: archive,
            error: None,
        };
        let answer = self.client.stream(&call, Content::Stream(&mut source));
        // Where the archive broke off, the engine's complaint is no news.
        if let Some(error) = source.error {
            return Err(EngineError::Source(error));
        }
        let answer = BufReader::new(answer?);
        self.loaded(&call, answer)
    }

    fn loaded(&self, call: &Call, mut answer: impl BufRead) -> Result<Loaded, EngineError> {
        let mut loaded = Loaded::default();
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = (&mut answer)
                .take(LONGEST_LINE)
                .read_until(b'\n', &mut line)
                .map_err(|error| self.client.garbled(call, error.to_string()))?;
            if read == 0 {
                return Ok(loaded);
            }
            if let Ok(message) = serde_json::from_slice::<Value>(&line) {
                self.note(&message, &mut loaded)?;
            }
        }
    }

    /// Takes note of one message: `{"stream": "Loaded image: NAME\n"}` of Docker,
    /// `{"Names": […]}` of Podman. With status 200, Docker also sends `{"error": …}`.
    fn note(&self, message: &Value, loaded: &mut Loaded) -> Result<(), EngineError> {
        if let Some(reason) = message["error"].as_str() {
            return Err(EngineError::NotLoaded {
                address: self.address().clone(),
                reason: reason.to_owned(),
            });
        }
        let text = message["stream"].as_str().unwrap_or_default().trim();
        if let Some(name) = text.strip_prefix("Loaded image: ") {
            loaded.names.push(name.to_owned());
        } else if let Some(id) = text.strip_prefix("Loaded image ID: ") {
            loaded.ids.extend(id.parse::<Digest>());
        }
        for name in super::images::strings(&message["Names"]) {
            // Podman names what has no name by its digest.
            match name.parse() {
                Ok(id) => loaded.ids.push(id),
                Err(_) => loaded.names.push(name.to_owned()),
            }
        }
        Ok(())
    }
}

/// Keeps the reason where what is being sent cannot be read.
struct Source<'a> {
    inner: &'a mut dyn Read,
    error: Option<io::Error>,
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).inspect_err(|error| {
            let kept = io::Error::new(error.kind(), error.to_string());
            self.error = Some(kept);
        })
    }
}

//! A container that never runs: an engine shows and takes files of an image only
//! through one.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};
use ureq::http::Method;

use super::client::{Call, Client, Content};
use super::error::EngineError;
use super::leftover::{self, Leftover};
use super::{Engine, Inspected};

/// A stopped container. It is removed when this is dropped, and where a signal ends
/// the process.
#[derive(Debug)]
pub struct Container {
    engine: Engine,
    name: String,
    leftover: Leftover,
}

/// What lies at a path in an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// In bytes.
    pub size: u64,
    /// As in stat(2), the kind of file included.
    pub mode: u32,
    /// Where a symbolic link leads, from the image's root.
    pub link: Option<PathBuf>,
}

impl Container {
    /// `POST /containers/create` of `image`. Nothing of the image is run by that,
    /// ONBUILD included.
    ///
    /// # Errors
    /// The engine refuses.
    pub(super) fn create(engine: &Engine, image: &Inspected) -> Result<Self, EngineError> {
        engine.sweep();
        let name = leftover::name();
        let path = engine.path("/containers/create");
        let call = Call::new(Method::POST, path).with("name", &name);
        let leftover = Leftover::container(&engine.client, &engine.version, &name);
        let body = body(image);
        leftover.make(|| engine.client.json(&call, Content::Json(&body)))?;
        Ok(Self {
            engine: engine.clone(),
            name,
            leftover,
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn archive(&self) -> String {
        self.engine
            .path(&format!("/containers/{}/archive", self.name))
    }

    /// `HEAD /containers/ID/archive?path=`: what lies at `path`, links in its parents
    /// followed; none where nothing does.
    ///
    /// # Errors
    /// The engine does not say.
    pub fn stat(&self, path: &str) -> Result<Option<Stat>, EngineError> {
        let call = Call::new(Method::HEAD, self.archive()).with("path", path);
        let headers = match self.engine.client.head(&call) {
            Ok(headers) => headers,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        let stat = headers
            .get("X-Docker-Container-Path-Stat")
            .and_then(|text| BASE64_STANDARD.decode(text).ok())
            .and_then(|text| serde_json::from_slice::<Value>(&text).ok())
            .and_then(|stat| read_stat(&stat));
        let stat = stat.ok_or_else(|| self.engine.client.garbled(&call, "no stat of the path"))?;
        Ok(Some(stat))
    }

    /// `GET /containers/ID/archive?path=`: a tar archive of what lies at `path`; of
    /// one entry where that is a file. None where nothing does. Where it breaks off,
    /// the error holds an [`EngineError`].
    ///
    /// # Errors
    /// The engine does not give it.
    pub fn read(&self, path: &str) -> Result<Option<impl Read + use<>>, EngineError> {
        let call = Call::new(Method::GET, self.archive()).with("path", path);
        match self.engine.client.stream(&call, Content::None) {
            Ok(stream) => Ok(Some(Told {
                stream,
                client: self.engine.client.clone(),
                call: call.name(),
            })),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The archive of `path` is none, since `error`.
    pub(super) fn garbled(&self, path: &Path, error: &io::Error) -> EngineError {
        let path = path.to_string_lossy();
        let call = Call::new(Method::GET, self.archive()).with("path", &path);
        self.engine.client.garbled(&call, error.to_string())
    }

    /// `PUT /containers/ID/archive?path=/`: unpacks a tar archive at the root.
    pub(super) fn write(&self, archive: &[u8]) -> Result<(), EngineError> {
        let call = Call::new(Method::PUT, self.archive()).with("path", "/");
        self.engine.client.done(&call, Content::Tar(archive))
    }

    /// Removes it now, and says whether that worked.
    ///
    /// # Errors
    /// The engine refuses.
    pub fn remove(self) -> Result<(), EngineError> {
        self.leftover.remove()
    }
}

/// What an engine sends in answer to a call.
struct Told<R> {
    stream: R,
    client: Client,
    call: String,
}

impl<R: Read> Read for Told<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer).map_err(|error| {
            if error.kind() == io::ErrorKind::Interrupted {
                return error;
            }
            let error = self.client.failed(self.call.clone(), error.into());
            io::Error::other(error)
        })
    }
}

/// The body of the call that creates a container of `image`.
fn body(image: &Inspected) -> Value {
    let config = image.config();
    // What is put below a volume would land in the volume, and a commit would not
    // hold it. A tmpfs takes the volume's place, and is mounted in running
    // containers only.
    let volumes = config["Volumes"].as_object();
    let tmpfs: Map<String, Value> = volumes
        .into_iter()
        .flat_map(Map::keys)
        .map(|path| (path.clone(), json!("")))
        .collect();
    let mut body = json!({
        "Image": image.id.to_string(),
        "HostConfig": {"NetworkMode": "none", "Tmpfs": tmpfs},
    });
    // Engines make no container that would have nothing to run. Where the image
    // says what to run, this must not be there: a commit would take it over.
    let is_empty = |name: &str| config[name].as_array().is_none_or(Vec::is_empty);
    if is_empty("Entrypoint") && is_empty("Cmd") {
        body["Cmd"] = json!([NOTHING_TO_RUN]);
    }
    body
}

/// Stands where an image does not say what to run.
pub(super) const NOTHING_TO_RUN: &str = "reuseport";

/// Reads the stat of a path, whose mode is spelled as Go's `fs.FileMode`.
fn read_stat(stat: &Value) -> Option<Stat> {
    let go = u32::try_from(stat["mode"].as_u64()?).ok()?;
    let mode = mode(go);
    // Podman gives a target for whatever lies there.
    let link = stat["linkTarget"]
        .as_str()
        .filter(|_| mode & libc::S_IFMT == libc::S_IFLNK);
    Some(Stat {
        // Directories of some file systems have odd sizes, never negative ones.
        size: stat["size"].as_u64()?,
        mode,
        link: link.map(PathBuf::from),
    })
}

/// The mode of stat(2) that Go's mode stands for.
fn mode(go: u32) -> u32 {
    let has = |bit: u32| go & (1 << bit) != 0;
    let kind = match () {
        () if has(31) => libc::S_IFDIR,
        () if has(27) => libc::S_IFLNK,
        () if has(25) => libc::S_IFIFO,
        () if has(24) => libc::S_IFSOCK,
        () if has(21) => libc::S_IFCHR,
        () if has(26) => libc::S_IFBLK,
        () => libc::S_IFREG,
    };
    let special = [
        (23, libc::S_ISUID),
        (22, libc::S_ISGID),
        (20, libc::S_ISVTX),
    ];
    let special = special
        .into_iter()
        .filter(|(bit, _)| has(*bit))
        .fold(0, |all, (_, one)| all | one);
    kind | special | (go & 0o777)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::digest::Digest;
    use crate::image::engine::Address;

    #[test]
    fn modes_are_those_of_stat() {
        assert_eq!(mode(493), 0o100_755);
        assert_eq!(mode(2_147_484_141), 0o040_755);
        assert_eq!(mode(134_218_239), 0o120_777);
        assert_eq!(mode((1 << 23) | 0o755), 0o104_755);
    }

    #[test]
    fn volumes_are_covered_and_commands_left_alone() {
        let image = |config| Inspected {
            id: Digest::of(b""),
            json: json!({ "Config": config }),
        };
        let with = body(&image(json!({"Cmd": ["x"], "Volumes": {"/data": {}}})));
        assert_eq!(with["HostConfig"]["Tmpfs"], json!({"/data": ""}));
        assert_eq!(with["Cmd"], Value::Null);
        let without = body(&image(json!({"Cmd": null})));
        assert_eq!(without["Cmd"], json!(["reuseport"]));
    }
    #[test]
    fn an_answer_that_breaks_off_is_an_error_of_the_engine() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
        let address = Address::Unix("/nonexistent".into());
        let mut told = Told {
            stream: Broken,
            client: Client::new(address).expect("a client"),
            call: "GET /archive".into(),
        };
        let error = io::read_to_string(&mut told).expect_err("it breaks off");
        let error = error.downcast::<EngineError>().expect("the engine's");
        let expected = "the container engine at /nonexistent: GET /archive: ";
        assert!(error.to_string().starts_with(expected), "{error}");
    }
}

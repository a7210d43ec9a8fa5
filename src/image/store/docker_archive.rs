//! What `docker save` writes: `manifest.json`, with the configs and layers that it
//! names. Since version 25 the same file is an OCI layout as well, which holds the
//! manifests; for older ones a manifest is made, always the same.

use std::collections::HashMap;
use std::io::{self, Read};

use serde_json::{Value, json};

use super::super::descriptor::{Compression, Descriptor, Family, Kind, layer_type, media_type};
use super::super::digest::{Algorithm, Digest, Hasher, Verifier};
use super::super::error::Error;
use super::super::packing::unpack;
use super::super::reference::{Name, Reference};
use super::archive::{Archive, normal};
use super::directory::Files;
use super::layout::{Layout, blob_name, listed, read_index};
use super::{Item, LARGEST_CONFIG, LARGEST_MANIFEST, Source, StoreId};

pub(in crate::image) const MANIFEST: &str = "manifest.json";

/// One image of `manifest.json`.
#[derive(Clone, Debug)]
pub(in crate::image) struct Saved {
    pub(in crate::image) config: String,
    pub(in crate::image) tags: Vec<String>,
    pub(in crate::image) layers: Vec<String>,
}

impl Saved {
    fn has_name(&self, name: &Name) -> bool {
        let wanted = (&name.host, &name.repository, name.tag_or_latest());
        self.tags.iter().any(|tag| {
            tag.parse::<Name>()
                .is_ok_and(|one| (&one.host, &one.repository, one.tag_or_latest()) == wanted)
        })
    }

    /// The entry of `manifest.json`.
    pub(in crate::image) fn to_value(&self) -> Value {
        let tags = (!self.tags.is_empty()).then_some(&self.tags);
        json!({"Config": self.config, "RepoTags": tags, "Layers": self.layers})
    }

    /// Takes the name away: another image has it from now on. Whether it has
    /// none left.
    pub(in crate::image) fn unname(&mut self, name: &Name) -> bool {
        let only = |tag: &String| Self {
            config: String::new(),
            tags: vec![tag.clone()],
            layers: Vec::new(),
        };
        let had = self.tags.len();
        self.tags.retain(|tag| !only(tag).has_name(name));
        had > 0 && self.tags.is_empty()
    }
}

/// The images that `manifest.json` lists.
pub(in crate::image) fn saved(archive: &Archive) -> Result<Vec<Saved>, Error> {
    let no = |what| Error::NoStore {
        path: archive.path().to_owned(),
        what,
    };
    let bytes = archive.read(MANIFEST, LARGEST_MANIFEST)?;
    let bytes = bytes.ok_or_else(|| no("no archive of docker save: it has no manifest.json"))?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let texts = |value: &Value| -> Option<Vec<String>> {
        match value {
            Value::Null => Some(Vec::new()),
            value => value.as_array()?.iter().map(text).collect(),
        }
    };
    let inside = |name: String| normal("", &name);
    let one = |value: &Value| {
        let layers = texts(&value["Layers"])?;
        Some(Saved {
            config: inside(text(&value["Config"])?)?,
            tags: texts(&value["RepoTags"])?,
            layers: layers.into_iter().map(inside).collect::<Option<_>>()?,
        })
    };
    let list: Option<Value> = serde_json::from_slice(&bytes).ok();
    let images = list.and_then(|list| list.as_array()?.iter().map(one).collect());
    images.ok_or_else(|| no("no archive of docker save: its manifest.json is malformed"))
}

/// The image of an archive that a reference names.
pub(in crate::image) struct DockerArchive {
    layout: Layout<Archive>,
    reference: Reference,
    name: Option<Name>,
    /// The files of blobs that do not lie where a layout has them.
    names: HashMap<Digest, String>,
}

impl DockerArchive {
    pub(in crate::image) fn open(reference: &Reference) -> Result<Self, Error> {
        let Reference::DockerArchive { path, name } = reference else {
            unreachable!("opened for a docker archive");
        };
        Ok(Self {
            layout: Layout::new(Archive::open(path)?, reference),
            reference: reference.clone(),
            name: name.clone(),
            names: HashMap::new(),
        })
    }

    fn archive(&self) -> &Archive {
        &self.layout.files
    }

    fn saved(&self) -> Result<Saved, Error> {
        let all = saved(self.archive())?;
        let tags = || all.iter().flat_map(|one| one.tags.clone()).collect();
        let wanted = || Box::new(self.reference.clone());
        let found = match &self.name {
            Some(name) => all.iter().find(|one| one.has_name(name)),
            None if all.len() > 1 => {
                return Err(Error::SeveralImages {
                    wanted: wanted(),
                    present: tags(),
                });
            }
            None => all.first(),
        };
        found.cloned().ok_or_else(|| Error::NoSuchTag {
            wanted: wanted(),
            present: tags(),
        })
    }

    fn fail(&self, name: &str) -> impl Fn(io::Error) -> Error {
        let path = self.archive().path().join(name);
        move |source| Error::File {
            path: path.clone(),
            source,
        }
    }

    fn missing(&self, what: &'static str) -> Error {
        Error::NoStore {
            path: self.archive().path().to_owned(),
            what,
        }
    }

    /// The manifest in the layout whose config is that of `saved`.
    fn manifest_of(&self, config: &Digest) -> Result<Option<Item>, Error> {
        let Ok(index) = read_index(self.archive()) else {
            return Ok(None);
        };
        let mut pending = listed(&index)?;
        let mut rounds = 0;
        while let Some(descriptor) = pending.pop() {
            rounds += 1;
            if rounds > 1024 || pending.len() > 64 * 1024 {
                break;
            }
            // Of an image for several platforms the archive may hold one alone.
            if self
                .archive()
                .size(&blob_name(descriptor.digest()))
                .is_none()
            {
                continue;
            }
            let kind = descriptor.kind();
            if !matches!(kind, Kind::Index | Kind::Manifest) {
                continue;
            }
            let bytes = self.layout.manifest_bytes(&descriptor)?;
            let tree: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            if kind == Kind::Index {
                let list = tree["manifests"].as_array().into_iter().flatten();
                pending.extend(list.filter_map(|one| Descriptor::parse(one).ok()));
            } else if tree["config"]["digest"].as_str() == Some(&config.to_string()) {
                return Ok(Some(Item { descriptor, bytes }));
            }
        }
        Ok(None)
    }

    /// The manifest that Docker would push this image with, were it to push it as
    /// it lies there.
    fn make(&mut self, saved: &Saved, config: &[u8]) -> Result<Item, Error> {
        let descriptor = Descriptor::of(media_type::DOCKER_CONFIG, config);
        self.names
            .insert(descriptor.digest().clone(), saved.config.clone());
        let tree: Value = serde_json::from_slice(config).unwrap_or_default();
        let diff_ids = tree["rootfs"]["diff_ids"].as_array();
        let diff_ids = diff_ids.cloned().unwrap_or_default();
        let mut layers = Vec::new();
        for (place, name) in saved.layers.iter().enumerate() {
            let diff_id = diff_ids
                .get(place)
                .and_then(|one| one.as_str()?.parse().ok());
            let layer = self.layer(name, diff_id)?;
            self.names.insert(layer.digest().clone(), name.clone());
            layers.push(layer.to_value());
        }
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::DOCKER_MANIFEST,
            "config": descriptor.to_value(),
            "layers": layers,
        });
        let bytes = manifest.to_string().into_bytes();
        Ok(Item {
            descriptor: Descriptor::of(media_type::DOCKER_MANIFEST, &bytes),
            bytes,
        })
    }

    /// The descriptor of the layer in the file `name`. One that is not packed has
    /// the digest that the config gives it, which is checked when it is read.
    fn layer(&self, name: &str, diff_id: Option<Digest>) -> Result<Descriptor, Error> {
        let opened = self.archive().open(name)?;
        let missing = || self.missing("incomplete: a layer that manifest.json names is not there");
        let (reader, size) = opened.ok_or_else(missing)?;
        let (compression, _) = unpack(reader).map_err(self.fail(name))?;
        let kind = layer_type(Family::Docker, compression);
        if let (Compression::Plain, Some(diff_id)) = (compression, diff_id) {
            return Ok(Descriptor::new(&kind, diff_id, size));
        }
        let (mut reader, _) = self.archive().open(name)?.ok_or_else(missing)?;
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match reader.read(&mut buffer).map_err(self.fail(name))? {
                0 => return Ok(Descriptor::new(&kind, hasher.finish(), size)),
                count => hasher.update(&buffer[..count]),
            }
        }
    }
}

impl Source for DockerArchive {
    fn top(&mut self) -> Result<Item, Error> {
        let saved = self.saved()?;
        let config = self.archive().read(&saved.config, LARGEST_CONFIG)?;
        let config = config.ok_or_else(|| {
            self.missing("incomplete: the config that manifest.json names is not there")
        })?;
        if let Some(item) = self.manifest_of(&Digest::of(&config))? {
            return Ok(item);
        }
        self.make(&saved, &config)
    }

    fn manifest(&mut self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        self.layout.manifest(descriptor)
    }

    fn blob(&mut self, descriptor: &Descriptor) -> Result<Box<dyn Read + '_>, Error> {
        let Some(name) = self.names.get(descriptor.digest()) else {
            return self.layout.blob(descriptor);
        };
        let (reader, _) = self
            .layout
            .files
            .open(name)?
            .ok_or_else(|| Error::NoSuchBlob {
                store: self.layout.files.path().display().to_string(),
                digest: descriptor.digest().clone(),
            })?;
        let verifier = Verifier::new(reader, descriptor.digest(), descriptor.size());
        Ok(Box::new(verifier))
    }

    fn find(&mut self, digest: &Digest) -> Result<Option<Item>, Error> {
        self.layout.find(digest)
    }

    fn id(&self) -> StoreId {
        self.layout.id()
    }
}

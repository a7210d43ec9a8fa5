//! Writing archives: an `oci-archive:` is an OCI layout in a tar archive, and a
//! `docker-archive:` is one too, as Docker has written it since version 25, with
//! the `manifest.json` that every version reads.
//!
//! An archive is never changed where it lies: a new one takes its place when it is
//! whole, with what the old one held and still names.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::NamedTempFile;

use super::super::descriptor::{Descriptor, Kind};
use super::super::digest::{Digest, Verifier};
use super::super::error::Error;
use super::super::json::Document;
use super::super::reference::{Name, Reference};
use super::super::tar;
use super::archive::Archive;
use super::directory::{Files, sync};
use super::docker_archive::{MANIFEST, Saved, saved};
use super::layout::{
    INDEX, LAYOUT, LAYOUT_TEXT, blob_name, empty_index, has_tag, list, named, read_index,
};
use super::{Destination, Item, LARGEST_MANIFEST, StoreId, abandoned};

/// An archive that is being written.
pub(in crate::image) struct ArchiveWriter {
    path: PathBuf,
    reference: Reference,
    /// What is there now.
    old: Option<Archive>,
    new: NamedTempFile,
    /// The blobs that were written.
    written: BTreeSet<String>,
    /// The manifests among them, which name others.
    manifests: HashMap<Digest, Vec<u8>>,
    /// The blobs of the old archive that the new image uses.
    reused: BTreeSet<String>,
    /// Manifests and blobs whose whole tree is kept already.
    kept: BTreeSet<Digest>,
}

impl ArchiveWriter {
    pub(in crate::image) fn new(reference: &Reference) -> Result<Self, Error> {
        let (Reference::OciArchive { path, .. } | Reference::DockerArchive { path, .. }) =
            reference
        else {
            unreachable!("opened for an archive");
        };
        let mut reference = reference.clone();
        if let Reference::DockerArchive {
            name: Some(name), ..
        } = &mut reference
        {
            complete(name).ok_or_else(|| Error::Unsupported {
                reference: Box::new(reference.clone()),
                what: "a digest cannot be written to: give a tag instead",
            })?;
        }
        // What a link leads to is replaced, and not the link.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        let old = if path.exists() {
            let old = Archive::open(&path)?;
            match &reference {
                Reference::OciArchive { .. } => drop(read_index(&old)?),
                _ => drop(saved(&old)?),
            }
            Some(old)
        } else {
            None
        };
        let fail = |source| Error::File {
            path: path.clone(),
            source,
        };
        abandoned::sweep(directory(&path));
        let new = abandoned::file(directory(&path)).map_err(fail)?;
        if old.is_some() {
            let permissions = path.metadata().map_err(fail)?.permissions();
            new.as_file().set_permissions(permissions).map_err(fail)?;
        }
        Ok(Self {
            path,
            reference,
            old,
            new,
            written: BTreeSet::new(),
            manifests: HashMap::new(),
            reused: BTreeSet::new(),
            kept: BTreeSet::new(),
        })
    }

    fn fail(&self) -> impl Fn(io::Error) -> Error {
        let path = self.path.clone();
        move |source| Error::File {
            path: path.clone(),
            source,
        }
    }

    /// Appends the file `name` with `content`. Where that fails nothing of it
    /// stays.
    fn append(&mut self, name: &str, size: u64, content: &mut dyn Read) -> io::Result<()> {
        let file = self.new.as_file_mut();
        let start = file.stream_position()?;
        let written = (|| {
            file.write_all(&tar::header(name, tar::Kind::File, 0o644, size, 0))?;
            let copied = io::copy(&mut content.take(size), file)?;
            if copied < size {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            // One byte more makes a verifier look at the end.
            if content.read(&mut [0])? > 0 {
                return Err(io::ErrorKind::InvalidData.into());
            }
            file.write_all(tar::padding(size))
        })();
        if written.is_err() {
            file.set_len(start)?;
            file.seek(SeekFrom::Start(start))?;
        }
        written
    }

    /// Copies the file `name` of the old archive, which is there.
    fn keep(&mut self, name: &str) -> Result<(), Error> {
        if self.written.contains(name) {
            return Ok(());
        }
        let Some(old) = self.old.take() else {
            return Ok(());
        };
        let copied = match old.open(name) {
            Ok(Some((mut content, size))) => {
                self.append(name, size, &mut content).map_err(self.fail())
            }
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        self.old = Some(old);
        self.written.insert(name.to_owned());
        copied
    }

    /// Keeps what the manifest or index `descriptor` of the old archive names.
    fn keep_tree(&mut self, descriptor: &Descriptor, depth: usize) -> Result<(), Error> {
        const DEEPEST: usize = 8;
        if !self.kept.insert(descriptor.digest().clone()) {
            return Ok(());
        }
        let name = blob_name(descriptor.digest());
        let bytes = match self.manifests.get(descriptor.digest()) {
            Some(bytes) => Some(bytes.clone()),
            None if matches!(descriptor.kind(), Kind::Index | Kind::Manifest) => {
                let old = self.old.as_ref();
                old.map_or(Ok(None), |old| old.read(&name, LARGEST_MANIFEST))?
            }
            None => None,
        };
        self.keep(&name)?;
        let tree: Value = bytes
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let named = ["manifests", "layers"]
            .iter()
            .filter_map(|list| tree[*list].as_array())
            .flatten()
            .chain(tree.get("config"));
        let named: Vec<Descriptor> = named
            .filter_map(|one| Descriptor::parse(one).ok())
            .collect();
        for child in named.iter().filter(|_| depth < DEEPEST) {
            self.keep_tree(child, depth + 1)?;
        }
        Ok(())
    }

    fn index(&self) -> Document {
        let old = self.old.as_ref().and_then(|old| read_index(old).ok());
        old.unwrap_or_else(empty_index)
    }

    /// The images of the old `manifest.json`, and the new one in its place.
    fn saved(&self, top: &Item) -> Result<Vec<Saved>, Error> {
        let Reference::DockerArchive { name, .. } = &self.reference else {
            return Ok(Vec::new());
        };
        let tree: Value = serde_json::from_slice(&top.bytes).unwrap_or_default();
        let blob = |one: &Value| Descriptor::parse(one).map(|one| blob_name(one.digest()));
        let layers = tree["layers"].as_array().into_iter().flatten();
        let new = Saved {
            config: blob(&tree["config"])?,
            tags: name.iter().map(Name::familiar).collect(),
            layers: layers.map(blob).collect::<Result<_, _>>()?,
        };
        let mut all = match &self.old {
            Some(old) => saved(old)?,
            None => Vec::new(),
        };
        let place = match name {
            Some(name) => all.iter_mut().position(|one| one.unname(name)),
            None => all.iter().position(|one| one.tags.is_empty()),
        };
        match place {
            Some(place) => all[place] = new,
            None => all.push(new),
        }
        Ok(all)
    }

    fn finish_docker(&mut self, top: &Item) -> Result<(), Error> {
        let mut all = self.saved(top)?;
        let config = all.iter().map(|one| one.config.clone());
        let files: Vec<String> = config
            .chain(all.iter().flat_map(|one| one.layers.clone()))
            .collect();
        // Old archives have links to layers: what they lead to is kept, and named.
        let resolved = |name: &str| {
            let old = self.old.as_ref().and_then(|old| old.resolve(name));
            old.unwrap_or(name).to_owned()
        };
        let by_name: HashMap<String, String> = files
            .iter()
            .map(|name| (name.clone(), resolved(name)))
            .collect();
        for name in by_name.values() {
            self.keep(name)?;
        }
        for layer in all.iter_mut().flat_map(|one| &mut one.layers) {
            *layer = by_name[layer].clone();
        }
        let list: Value = all.iter().map(Saved::to_value).collect();
        let list = list.to_string();
        self.append(MANIFEST, list.len() as u64, &mut list.as_bytes())
            .map_err(self.fail())
    }

    /// Whether the old archive holds images that `index.json` does not name: who
    /// reads that alone would miss them.
    fn has_unlisted(&self) -> bool {
        let is_docker = matches!(self.reference, Reference::DockerArchive { .. });
        let listed = self.old.as_ref().is_some_and(|old| read_index(old).is_ok());
        let images = self.old.as_ref().and_then(|old| saved(old).ok());
        let images = images.unwrap_or_default();
        let others = images.iter().filter(|one| match &self.reference {
            Reference::DockerArchive {
                name: Some(name), ..
            } => !(*one).clone().unname(name),
            _ => !one.tags.is_empty(),
        });
        is_docker && !listed && others.count() > 0
    }
}

/// Gives `name` the tag that it means: `docker load` takes none without. None where
/// it is a digest.
fn complete(name: &mut Name) -> Option<()> {
    let tag = name.tag_or_latest().filter(|_| name.digest.is_none());
    name.tag = Some(tag?.to_owned());
    Some(())
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

impl Destination for ArchiveWriter {
    fn reuse(&mut self, blob: &Descriptor, _: Option<&StoreId>) -> Result<bool, Error> {
        let name = blob_name(blob.digest());
        if self.written.contains(&name) {
            return Ok(true);
        }
        let old = self.old.as_ref().and_then(|old| old.size(&name));
        let is_there = old == Some(blob.size());
        if is_there {
            self.reused.insert(name);
        }
        Ok(is_there)
    }

    fn put(&mut self, blob: &Descriptor, content: &mut dyn Read) -> Result<(), Error> {
        let name = blob_name(blob.digest());
        if self.written.contains(&name) {
            return Ok(());
        }
        let mut verified = Verifier::new(content, blob.digest(), blob.size());
        self.append(&name, blob.size(), &mut verified)
            .map_err(|source| Error::Blob {
                store: self.path.display().to_string(),
                digest: blob.digest().clone(),
                source,
            })?;
        self.written.insert(name);
        Ok(())
    }

    fn put_manifest(&mut self, item: &Item) -> Result<(), Error> {
        self.manifests
            .insert(item.descriptor.digest().clone(), item.bytes.clone());
        self.put(&item.descriptor, &mut item.bytes.as_slice())
    }

    fn finish(mut self: Box<Self>, top: &Item) -> Result<Reference, Error> {
        let is_docker = matches!(self.reference, Reference::DockerArchive { .. });
        if is_docker && top.descriptor.kind() == Kind::Index {
            return Err(Error::OnePlatform {
                reference: Box::new(self.reference.clone()),
                present: Vec::new(),
            });
        }
        self.put_manifest(top)?;
        for name in self.reused.clone() {
            self.keep(&name)?;
        }
        if is_docker {
            self.finish_docker(top)?;
        }
        if !self.has_unlisted() {
            let (tag, name) = match &self.reference {
                Reference::DockerArchive { name, .. } => (
                    name.as_ref()
                        .and_then(|name| name.tag_or_latest().map(str::to_owned)),
                    name.as_ref().map(ToString::to_string),
                ),
                other => (other.tag().map(str::to_owned), None),
            };
            let (tag, name) = (tag.as_deref(), name.as_deref());
            let descriptor = named(&top.descriptor, tag, name);
            let index = list(&self.index(), &descriptor, |entry| match name {
                Some(name) => entry["annotations"][super::layout::IMAGE_NAME] == name,
                None => has_tag(entry, tag),
            });
            let all = super::layout::listed(&index)?;
            for descriptor in &all {
                self.keep_tree(descriptor, 0)?;
            }
            let index = index.to_bytes();
            self.append(INDEX, index.len() as u64, &mut index.as_slice())
                .map_err(self.fail())?;
            self.append(LAYOUT, LAYOUT_TEXT.len() as u64, &mut &*LAYOUT_TEXT)
                .map_err(self.fail())?;
        }
        let path = self.path.clone();
        let fail = |source| Error::File {
            path: path.clone(),
            source,
        };
        let Self {
            mut new, reference, ..
        } = *self;
        new.as_file_mut().write_all(&[0; 1024]).map_err(fail)?;
        new.as_file().sync_all().map_err(fail)?;
        new.persist(&path).map_err(|error| fail(error.error))?;
        sync(directory(&path)).map_err(fail)?;
        Ok(reference)
    }

    fn current(&mut self) -> Result<Option<Digest>, Error> {
        let Some(_) = &self.old else {
            return Ok(None);
        };
        match super::open_file(&self.reference)?.top() {
            Ok(item) => Ok(Some(item.descriptor.digest().clone())),
            Err(Error::NoSuchTag { .. } | Error::SeveralImages { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

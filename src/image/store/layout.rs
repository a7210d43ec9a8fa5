//! OCI image layouts: the OCI image specification, "Image Layout".

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::super::contents::{check_manifest, check_size};
use super::super::descriptor::{Descriptor, media_type};
use super::super::digest::{Digest, Verifier};
use super::super::error::Error;
use super::super::json::Document;
use super::super::reference::Reference;
use super::directory::{Directory, Files, Pending};
use super::{Destination, Item, LARGEST_MANIFEST, Source, StoreId, abandoned};

/// The annotation of `index.json` that holds a tag.
pub(in crate::image) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The one that containerd and Docker put the whole name in.
pub(in crate::image) const IMAGE_NAME: &str = "io.containerd.image.name";

pub(in crate::image) const LAYOUT: &str = "oci-layout";
pub(in crate::image) const INDEX: &str = "index.json";
pub(in crate::image) const LAYOUT_TEXT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// The name of a blob's file.
pub(in crate::image) fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

/// A layout, in a directory or an archive, opened for one tag.
#[derive(Debug)]
pub(in crate::image) struct Layout<F> {
    pub(in crate::image) files: F,
    reference: Reference,
    tag: Option<String>,
}

/// The document `index.json` of `files`.
pub(in crate::image) fn read_index(files: &dyn Files) -> Result<Document, Error> {
    let no = |what| Error::NoStore {
        path: files.path().to_owned(),
        what,
    };
    files.path().metadata().map_err(|source| Error::File {
        path: files.path().to_owned(),
        source,
    })?;
    let layout = files.read(LAYOUT, 4096)?;
    let layout = layout.ok_or_else(|| no("no OCI image layout: it has no file oci-layout"))?;
    let version: Value = serde_json::from_slice(&layout).unwrap_or_default();
    let version = version["imageLayoutVersion"].as_str().unwrap_or_default();
    if !version.starts_with("1.") {
        return Err(no("an OCI image layout of an unknown version"));
    }
    let index = files.read(INDEX, LARGEST_MANIFEST)?;
    let index = index.ok_or_else(|| no("the OCI image layout has no index.json"))?;
    let index = Document::parse(&index).ok();
    let is_sound = |index: &Document| index.tree["manifests"].is_array();
    let index = index.filter(is_sound);
    index.ok_or_else(|| no("the OCI image layout's index.json is no image index"))
}

/// The descriptors that `index.json` lists.
pub(in crate::image) fn listed(index: &Document) -> Result<Vec<Descriptor>, Error> {
    let list = index.tree["manifests"].as_array().into_iter().flatten();
    Ok(list.map(Descriptor::parse).collect::<Result<_, _>>()?)
}

impl<F: Files> Layout<F> {
    pub(in crate::image) fn new(files: F, reference: &Reference) -> Self {
        let tag = match reference {
            Reference::Layout { tag, .. } | Reference::OciArchive { tag, .. } => tag.clone(),
            _ => None,
        };
        Self {
            files,
            reference: reference.clone(),
            tag,
        }
    }

    fn store(&self) -> String {
        self.files.path().display().to_string()
    }

    fn named(&self) -> Result<Descriptor, Error> {
        let all = listed(&read_index(&self.files)?)?;
        let names = all.iter().filter_map(|one| one.annotation(REF_NAME));
        let names: Vec<String> = names.map(str::to_owned).collect();
        let wanted = || Box::new(self.reference.clone());
        let found = match &self.tag {
            Some(tag) => all.iter().find(|one| one.annotation(REF_NAME) == Some(tag)),
            None if all.len() > 1 => {
                return Err(Error::SeveralImages {
                    wanted: wanted(),
                    present: names,
                });
            }
            None => all.first(),
        };
        found.cloned().ok_or_else(|| Error::NoSuchTag {
            wanted: wanted(),
            present: names,
        })
    }

    pub(in crate::image) fn manifest_bytes(
        &self,
        descriptor: &Descriptor,
    ) -> Result<Vec<u8>, Error> {
        check_size(descriptor, LARGEST_MANIFEST)?;
        let name = blob_name(descriptor.digest());
        let bytes = self.files.read(&name, LARGEST_MANIFEST)?;
        let bytes = bytes.ok_or_else(|| Error::NoSuchBlob {
            store: self.store(),
            digest: descriptor.digest().clone(),
        })?;
        check_manifest(&self.store(), descriptor, &bytes)?;
        Ok(bytes)
    }
}

impl<F: Files> Source for Layout<F> {
    fn top(&mut self) -> Result<Item, Error> {
        let descriptor = self.named()?;
        let bytes = self.manifest_bytes(&descriptor)?;
        Ok(Item { descriptor, bytes })
    }

    fn manifest(&mut self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        self.manifest_bytes(descriptor)
    }

    fn blob(&mut self, descriptor: &Descriptor) -> Result<Box<dyn Read + '_>, Error> {
        let opened = self.files.open(&blob_name(descriptor.digest()))?;
        let (reader, _) = opened.ok_or_else(|| Error::NoSuchBlob {
            store: self.store(),
            digest: descriptor.digest().clone(),
        })?;
        let verifier = Verifier::new(reader, descriptor.digest(), descriptor.size());
        Ok(Box::new(verifier))
    }

    fn find(&mut self, digest: &Digest) -> Result<Option<Item>, Error> {
        let Some(bytes) = self.files.read(&blob_name(digest), LARGEST_MANIFEST)? else {
            return Ok(None);
        };
        Ok(item_of(digest, bytes))
    }

    fn id(&self) -> StoreId {
        self.files.id()
    }
}

/// The manifest or index that `bytes` are, if they have this digest.
pub(in crate::image) fn item_of(digest: &Digest, bytes: Vec<u8>) -> Option<Item> {
    let tree: Value = serde_json::from_slice(&bytes).ok()?;
    let media_type = match tree["mediaType"].as_str() {
        Some(own) => own,
        None if tree["manifests"].is_array() => media_type::OCI_INDEX,
        None => media_type::OCI_MANIFEST,
    };
    let descriptor = Descriptor::new(media_type, digest.clone(), bytes.len() as u64);
    digest.is_of(&bytes).then_some(Item { descriptor, bytes })
}

/// `index` with `top` under the name that `is_same` knows; in the place of what
/// has that name now, or at the end.
pub(in crate::image) fn list(
    index: &Document,
    top: &Descriptor,
    is_same: impl Fn(&Value) -> bool,
) -> Document {
    let mut tree = index.tree.clone();
    if let Some(manifests) = tree["manifests"].as_array_mut() {
        match manifests.iter_mut().find(|one| is_same(one)) {
            Some(old) => *old = top.to_value(),
            None => manifests.push(top.to_value()),
        }
    }
    index.with(tree)
}

/// The descriptor `top`, named `tag` and nothing else.
pub(in crate::image) fn named(
    top: &Descriptor,
    tag: Option<&str>,
    name: Option<&str>,
) -> Descriptor {
    let mut top = top.clone();
    let tree = top.tree_mut();
    let annotations = tree.entry("annotations").or_insert_with(|| json!({}));
    if let Some(annotations) = annotations.as_object_mut() {
        for (key, value) in [(REF_NAME, tag), (IMAGE_NAME, name)] {
            match value {
                Some(value) => drop(annotations.insert(key.into(), value.into())),
                None => drop(annotations.shift_remove(key)),
            }
        }
        if annotations.is_empty() {
            tree.shift_remove("annotations");
        }
    }
    top
}

/// Whether an entry of `index.json` has the tag `tag`, or none.
pub(in crate::image) fn has_tag(entry: &Value, tag: Option<&str>) -> bool {
    entry["annotations"][REF_NAME].as_str() == tag
}

/// An `index.json` that lists nothing.
pub(in crate::image) fn empty_index() -> Document {
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#,
        media_type::OCI_INDEX
    );
    Document::parse(text.as_bytes()).expect("JSON")
}

/// A layout that is written to.
#[derive(Debug)]
pub(in crate::image) struct Writer {
    path: PathBuf,
    reference: Reference,
    tag: Option<String>,
    /// Blobs that have no name yet.
    pending: Pending,
}

impl Writer {
    /// The layout at `path`, made where there is nothing.
    pub(in crate::image) fn new(reference: &Reference) -> Result<Self, Error> {
        let Reference::Layout { path, tag } = reference else {
            unreachable!("opened for a layout");
        };
        let this = Self {
            path: path.clone(),
            reference: reference.clone(),
            tag: tag.clone(),
            pending: Pending::default(),
        };
        let is_begun = this.is_begun().map_err(this.fail(""))?;
        if path.exists() && !is_begun {
            read_index(&Directory(path.clone()))?;
        }
        abandoned::sweep(path);
        Ok(this)
    }

    /// Whether there is nothing but what a first write puts there, which another
    /// one may be doing now, or was stopped doing.
    fn is_begun(&self) -> io::Result<bool> {
        if !self.path.exists() || self.path.join(INDEX).exists() {
            return Ok(false);
        }
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let is_ours = name.as_encoded_bytes().starts_with(b".reuseport-");
            if !(is_ours || name == "blobs" || name == LAYOUT) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn fail(&self, name: &str) -> impl Fn(io::Error) -> Error {
        let path = self.path.join(name);
        move |source| Error::File {
            path: path.clone(),
            source,
        }
    }

    /// The file of a blob, in a directory that is there.
    fn place(&self, digest: &Digest) -> Result<PathBuf, Error> {
        let path = self.path.join(blob_name(digest));
        let directory = path.parent().unwrap_or(&self.path);
        fs::create_dir_all(directory).map_err(self.fail("blobs"))?;
        Ok(path)
    }

    fn put_bytes(&mut self, blob: &Descriptor, content: &mut dyn Read) -> Result<(), Error> {
        let path = self.place(blob.digest())?;
        let mut verified = Verifier::new(content, blob.digest(), blob.size());
        let written = self.pending.write(&self.path, path, &mut verified);
        written.map_err(|source| Error::Blob {
            store: self.path.display().to_string(),
            digest: blob.digest().clone(),
            source,
        })
    }

    /// Whether the blob is there, or is about to be. By its size alone: whoever
    /// wrote it has held it against its digest.
    fn has(&self, blob: &Descriptor) -> bool {
        let path = self.path.join(blob_name(blob.digest()));
        is_file_of(&path, blob.size()) || self.pending.size(&path) == Some(blob.size())
    }

    fn index(&self) -> Result<Option<Document>, Error> {
        if self.path.join(INDEX).exists() {
            read_index(&Directory(self.path.clone())).map(Some)
        } else {
            Ok(None)
        }
    }
}

impl Destination for Writer {
    fn reuse(&mut self, blob: &Descriptor, _: Option<&StoreId>) -> Result<bool, Error> {
        Ok(self.has(blob))
    }

    fn put(&mut self, blob: &Descriptor, content: &mut dyn Read) -> Result<(), Error> {
        self.put_bytes(blob, content)
    }

    fn put_manifest(&mut self, item: &Item) -> Result<(), Error> {
        if self.has(&item.descriptor) {
            return Ok(());
        }
        self.put_bytes(&item.descriptor, &mut item.bytes.as_slice())
    }

    fn finish(mut self: Box<Self>, top: &Item) -> Result<Reference, Error> {
        self.put_manifest(top)?;
        self.pending.finish(&[]).map_err(self.fail("blobs"))?;
        // Whoever else changes the list now waits, and sees this change.
        let lock = File::open(&self.path).and_then(|directory| {
            directory.lock()?;
            Ok(directory)
        });
        let lock = lock.map_err(self.fail(""))?;
        let mut directories: Vec<PathBuf> = ["blobs/sha256", "blobs/sha512"]
            .iter()
            .map(|one| self.path.join(one))
            .collect();
        directories.retain(|one| one.exists());
        let index = self.index()?.unwrap_or_else(empty_index);
        let tag = self.tag.as_deref();
        let top = named(&top.descriptor, tag, None);
        let index = list(&index, &top, |entry| has_tag(entry, tag)).to_bytes();
        let mut files = Pending::default();
        let layout = self.path.join(LAYOUT);
        if !layout.exists() {
            files
                .write(&self.path, layout, &mut &*LAYOUT_TEXT)
                .map_err(self.fail(LAYOUT))?;
        }
        files
            .write(&self.path, self.path.join(INDEX), &mut index.as_slice())
            .and_then(|()| files.finish(&directories))
            .map_err(self.fail(INDEX))?;
        drop(lock);
        Ok(self.reference)
    }

    fn current(&mut self) -> Result<Option<Digest>, Error> {
        let Some(index) = self.index()? else {
            return Ok(None);
        };
        let list = index.tree["manifests"].as_array().into_iter().flatten();
        let mut named = list.filter(|entry| has_tag(entry, self.tag.as_deref()));
        let found = named.next().map(Descriptor::parse).transpose()?;
        Ok(found.map(|descriptor| descriptor.digest().clone()))
    }
}

fn is_file_of(path: &Path, size: u64) -> bool {
    path.metadata()
        .is_ok_and(|file| file.is_file() && file.len() == size)
}

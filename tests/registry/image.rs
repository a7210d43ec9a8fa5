//! A small image, and clients of the tests.

use std::io::{Read, Write};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use reuseport::image::descriptor::media_type;
use reuseport::image::registry::{Client, Error, Options, Patience, Repository};
use reuseport::image::{Descriptor, Item};
use serde_json::json;

/// An image whose second layer is sent as a stream.
pub struct Image {
    pub config: (Descriptor, Vec<u8>),
    pub layers: Vec<(Descriptor, Vec<u8>)>,
    pub manifest: Item,
}

impl Image {
    /// Another `seed`, other content.
    pub fn new(seed: u32) -> Self {
        let gzip = format!("{}+gzip", media_type::OCI_LAYER);
        let layers = [empty_layer(seed), noise(seed, 3 << 20)]
            .map(|bytes| (Descriptor::of(&gzip, &bytes), bytes));
        let layers = layers.to_vec();
        let ids: Vec<String> = layers
            .iter()
            .map(|(one, _)| one.digest().to_string())
            .collect();
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {"Env": [format!("SEED={seed}")]},
            "rootfs": {"type": "layers", "diff_ids": ids}
        });
        let config = config.to_string().into_bytes();
        let config = (Descriptor::of(media_type::OCI_CONFIG, &config), config);
        let named: Vec<_> = layers.iter().map(|(layer, _)| layer.to_value()).collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
            "config": config.0.to_value(), "layers": named
        });
        let bytes = manifest.to_string().into_bytes();
        let descriptor = Descriptor::of(media_type::OCI_MANIFEST, &bytes);
        let manifest = Item { descriptor, bytes };
        Self {
            config,
            layers,
            manifest,
        }
    }

    pub fn blobs(&self) -> impl Iterator<Item = &(Descriptor, Vec<u8>)> {
        std::iter::once(&self.config).chain(&self.layers)
    }

    /// Sends all of it.
    pub fn push(&self, repository: &Repository, tag: &str) {
        for (blob, bytes) in self.blobs() {
            let pushed = repository.push(blob, &mut bytes.as_slice(), None);
            pushed.expect("the blob is pushed");
        }
        let put = repository.put_manifest(tag, &self.manifest);
        put.expect("the manifest is pushed");
    }
}

/// An archive of nothing, compressed. Another `seed`, another length.
fn empty_layer(seed: u32) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    for _ in 0..seed + 2 {
        encoder.write_all(&[0; 512]).expect("it is compressed");
    }
    encoder.finish().expect("it is compressed")
}

/// Bytes that begin as gzip does and do not compress, so that no tool packs them
/// anew.
fn noise(seed: u32, size: usize) -> Vec<u8> {
    let mut state = u64::from(seed) + 0x9E37_79B9;
    let mut bytes = vec![0x1f, 0x8b, 8, 0];
    bytes.resize_with(size, || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    });
    bytes
}

/// A client that waits as little as may be.
pub fn client(options: Options) -> Client {
    Client::new(Options {
        patience: Patience {
            retries: 3,
            pause: Duration::from_millis(1),
            total: Duration::from_secs(5),
        },
        ..options
    })
}

pub fn repository(host: &str, name: &str) -> Repository {
    let repository = client(Options::default()).repository(host, name);
    repository.expect("a repository")
}

/// What reading a blob gives.
pub fn read(repository: &Repository, blob: &Descriptor) -> std::io::Result<Vec<u8>> {
    let reader = repository.blob(blob.digest(), blob.size());
    let mut reader = reader.map_err(std::io::Error::other)?;
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The message of an error, which must hold each of `words`.
pub fn says<T: std::fmt::Debug>(result: Result<T, Error>, words: &[&str]) -> String {
    let message = result.expect_err("an error").to_string();
    for word in words {
        assert!(message.contains(word), "no '{word}' in: {message}");
    }
    message
}

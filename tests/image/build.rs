//! Images made by hand.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::write::DeflateEncoder;
use reuseport::image::descriptor::{Compression, Descriptor, Family, layer_type, media_type};
use reuseport::image::packing::{self, Parts};
use reuseport::image::{Digest, tar};
use serde_json::{Value, json};

use crate::support::{Outcome, compile, output, reuseport, run};

/// `content`, packed.
pub fn pack(content: &[u8], compression: Compression) -> Vec<u8> {
    let mut deflated = DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    deflated.write_all(content).expect("packed");
    let parts = Parts {
        head: b"",
        rest: content,
        deflated: &deflated.finish().expect("packed"),
    };
    packing::pack(parts, compression)
}

/// A layer's archive.
#[derive(Clone, Default)]
pub struct Layer(Vec<u8>);

impl Layer {
    fn entry(mut self, name: &str, kind: u8, mode: u32, link: &str, content: &[u8]) -> Self {
        let size = content.len() as u64;
        let mut header = tar::header(name, tar::Kind::File, mode, size, 0);
        header[156] = kind;
        header[157..157 + link.len()].copy_from_slice(link.as_bytes());
        self.0.extend(seal(header));
        self.0.extend(content);
        self.0.extend(tar::padding(size));
        self
    }

    pub fn file(self, name: &str, mode: u32, content: impl AsRef<[u8]>) -> Self {
        self.entry(name, b'0', mode, "", content.as_ref())
    }

    pub fn directory(self, name: &str) -> Self {
        self.entry(name, b'5', 0o755, "", b"")
    }

    pub fn link(self, name: &str, target: &str) -> Self {
        self.entry(name, b'2', 0o777, target, b"")
    }

    pub fn hard_link(self, name: &str, target: &str) -> Self {
        self.entry(name, b'1', 0o755, target, b"")
    }

    /// Attributes of the next file, as records of pax(1).
    pub fn attributes(self, records: &[u8]) -> Self {
        self.entry("attributes", b'x', 0o644, "", records)
    }

    pub fn raw(mut self, header: &[u8; 512]) -> Self {
        self.0.extend(seal(*header));
        self
    }

    pub fn archive(&self) -> Vec<u8> {
        [self.0.as_slice(), &[0; 1024]].concat()
    }
}

/// The header with its checksum.
pub fn seal(mut header: [u8; 512]) -> [u8; 512] {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

/// An image, and how it is written down.
#[derive(Clone)]
pub struct Image {
    pub layers: Vec<(Layer, Compression)>,
    /// The whole config but for `rootfs`.
    pub config: Value,
    pub family: Family,
    pub annotations: Option<Value>,
}

/// The program that these images run, and the libraries that it needs.
pub fn program() -> PathBuf {
    compile("gcc", "probe/probe.c", &["-pthread"])
}

pub fn with_libraries(layer: Layer) -> Layer {
    let read = |path: &str| fs::read(path).expect("readable");
    layer
        .file(
            "lib/x86_64-linux-gnu/libc.so.6",
            0o755,
            read("/lib/x86_64-linux-gnu/libc.so.6"),
        )
        .file(
            "lib64/ld-linux-x86-64.so.2",
            0o755,
            read("/lib64/ld-linux-x86-64.so.2"),
        )
}

/// A layer with a server at /srv/server, and all that it needs.
pub fn server() -> Layer {
    let program = fs::read(program()).expect("readable");
    with_libraries(Layer::default().file("srv/server", 0o755, program))
}

impl Image {
    /// An image of one plain layer that runs /srv/server.
    pub fn new(layer: Layer) -> Self {
        Self {
            layers: vec![(layer, Compression::Plain)],
            config: json!({
                "architecture": "amd64",
                "os": "linux",
                "config": {"Entrypoint": ["/srv/server"]},
                "history": [{"created_by": "COPY a && b"}],
            }),
            family: Family::Oci,
            annotations: None,
        }
    }

    pub fn platform(mut self, os: &str, architecture: &str) -> Self {
        self.config["os"] = os.into();
        self.config["architecture"] = architecture.into();
        self
    }

    pub fn layer(mut self, layer: Layer) -> Self {
        self.layers.push((layer, Compression::Plain));
        let history = self.config["history"].as_array_mut();
        history.expect("a history").push(json!({"created_by": "x"}));
        self
    }

    /// Writes the image's content into the layout, and gives its descriptor.
    pub fn put(&self, layout: &Path) -> Value {
        let mut layers = Vec::new();
        let mut diff_ids = Vec::new();
        for (layer, compression) in &self.layers {
            let archive = layer.archive();
            diff_ids.push(Digest::of(&archive).to_string());
            let packed = pack(&archive, *compression);
            layers.push(blob(
                layout,
                &layer_type(self.family, *compression),
                &packed,
            ));
        }
        let mut config = self.config.clone();
        config["rootfs"] = json!({"type": "layers", "diff_ids": diff_ids});
        let (config_type, manifest_type) = match self.family {
            Family::Oci => (media_type::OCI_CONFIG, media_type::OCI_MANIFEST),
            Family::Docker => (media_type::DOCKER_CONFIG, media_type::DOCKER_MANIFEST),
        };
        let config = blob(layout, config_type, config.to_string().as_bytes());
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": manifest_type,
            "config": config,
            "layers": layers,
        });
        if let Some(annotations) = &self.annotations {
            manifest["annotations"] = annotations.clone();
        }
        blob(layout, manifest_type, manifest.to_string().as_bytes())
    }

    /// Writes the image into the layout under `tag`, and gives its digest.
    pub fn tag(&self, layout: &Path, tag: &str) -> String {
        name(layout, tag, self.put(layout))
    }
}

/// Writes a blob, and gives its descriptor.
pub fn blob(layout: &Path, media_type: &str, content: &[u8]) -> Value {
    let descriptor = Descriptor::of(media_type, content);
    let directory = layout.join("blobs/sha256");
    fs::create_dir_all(&directory).expect("made");
    fs::write(directory.join(descriptor.digest().hex()), content).expect("written");
    descriptor.to_value()
}

/// Gives what `descriptor` describes a tag in the layout, and gives its digest.
pub fn name(layout: &Path, tag: &str, mut descriptor: Value) -> String {
    fs::write(
        layout.join("oci-layout"),
        "{\"imageLayoutVersion\": \"1.0.0\"}\n",
    )
    .expect("written");
    let path = layout.join("index.json");
    let mut index: Value = match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).expect("JSON"),
        Err(_) => json!({"schemaVersion": 2, "manifests": []}),
    };
    let digest = descriptor["digest"].as_str().expect("a digest").to_owned();
    descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
    index["manifests"]
        .as_array_mut()
        .expect("a list")
        .push(descriptor);
    fs::write(path, format!("{index:#}")).expect("written");
    digest
}

/// An index of `children`, each with its platform.
pub fn index(layout: &Path, children: &[(Value, &str)]) -> Value {
    let children = children.iter().map(|(child, platform)| {
        let mut child = child.clone();
        if let Some((os, architecture)) = platform.split_once('/') {
            child["platform"] = json!({"architecture": architecture, "os": os});
        }
        child
    });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_INDEX,
        "manifests": children.collect::<Vec<_>>(),
    });
    blob(layout, media_type::OCI_INDEX, index.to_string().as_bytes())
}

/// The JSON of the blob with this digest.
pub fn read(layout: &Path, digest: &str) -> Value {
    let hex = digest.strip_prefix("sha256:").expect("sha256");
    let text = fs::read(layout.join("blobs/sha256").join(hex)).expect("a blob");
    serde_json::from_slice(&text).expect("JSON")
}

/// The manifest and the config of the image with this digest.
pub fn image(layout: &Path, digest: &str) -> (Value, Value) {
    let manifest = read(layout, digest);
    let config = read(
        layout,
        manifest["config"]["digest"].as_str().expect("a digest"),
    );
    (manifest, config)
}

/// `oci:DIR:TAG`.
pub fn oci(layout: &Path, tag: &str) -> String {
    format!("oci:{}:{tag}", layout.display())
}

/// Runs a subcommand that must succeed, and gives the digest in the one line
/// that it prints.
pub fn digest(arguments: &[&str]) -> String {
    let outcome = run(reuseport().args(arguments));
    assert_eq!(outcome.status, Some(0), "{arguments:?}: {outcome:?}");
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    let [line] = lines[..] else {
        panic!("{arguments:?}: {outcome:?}");
    };
    let (_, digest) = line.rsplit_once(' ').expect("a line with a digest");
    digest.to_owned()
}

/// Injects without a look at the program.
pub fn inject(target: &str, more: &[&str]) -> String {
    digest(&[&["inject", "--no-check", target], more].concat())
}

/// Fails unless all invariants hold.
pub fn validate(target: &str) {
    assert_eq!(output(reuseport().args(["validate", target])), "");
}

pub fn attempt(arguments: &[&str]) -> Outcome {
    run(reuseport().args(arguments))
}

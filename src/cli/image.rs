//! What the commands on images share: flags, where the result goes, what is said
//! of it.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};
use similar::TextDiff;

use super::report::escaped;
use super::{answer, complain, status};
use crate::image::check::{Checked, shared};
use crate::image::contents::{self, Content, Picture};
use crate::image::error::Error;
use crate::image::store;
use crate::image::tree::Shared;
use crate::image::{Digest, Platform, Reference};

/// What ends the tag of an image with the shim.
pub(super) const SUFFIX: &str = "-reuseport";

/// Where the result goes, and what is printed of it.
#[derive(Args, Debug)]
pub(super) struct Output {
    /// Give the result this name: an image as TARGET, or NAME:TAG in the same store
    #[arg(short, long, value_name = "DEST")]
    pub(super) tag: Option<String>,
    /// Give the result the name of TARGET
    #[arg(long, conflicts_with = "tag")]
    pub(super) in_place: bool,
    /// Only the image for this platform: OS/ARCH[/VARIANT]
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    pub(super) platform: Vec<Platform>,
    /// Print what would change, and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Print what was done as JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Write the result's digest into this file
    #[arg(long, value_name = "FILE")]
    pub(super) digest_file: Option<PathBuf>,
}

/// Why a command ends early: what is said, and the exit status.
pub(super) struct Refusal {
    pub(super) message: String,
    pub(super) status: u8,
}

impl Refusal {
    /// The call or its input is at fault.
    pub(super) fn fault(message: impl std::fmt::Display) -> Self {
        Self {
            message: message.to_string(),
            status: status::FAULT,
        }
    }

    pub(super) fn no(message: impl std::fmt::Display) -> Self {
        Self {
            message: message.to_string(),
            status: status::NO,
        }
    }

    pub(super) fn say(&self) -> u8 {
        complain(&escaped_lines(&self.message), self.status)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::fault(error)
    }
}

/// `text` without what a terminal would obey, but for the ends of its lines.
fn escaped_lines(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(escaped).collect();
    lines.join("\n")
}

/// Says something on standard error.
pub(super) fn say(text: &dyn std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{}", escaped_lines(&text.to_string()));
}

/// An image that was read.
pub(super) struct Read {
    pub(super) reference: Reference,
    pub(super) source: Shared,
    /// What of it was asked for.
    pub(super) content: Content,
    /// The tag that it has in its store.
    pub(super) tag: Option<String>,
}

pub(super) fn parse(target: &str) -> Result<Reference, Refusal> {
    target.parse().map_err(Refusal::fault)
}

/// Reads what `target` leads to, and selects `platforms` of it.
pub(super) fn read(target: &str, platforms: &[Platform]) -> Result<Read, Refusal> {
    let reference = parse(target)?;
    let mut source = store::open(&reference)?;
    let top = source.top()?;
    let named = top
        .descriptor
        .annotation("org.opencontainers.image.ref.name");
    let tag = reference.tag().or(named).map(str::to_owned);
    let content = contents::read(source.as_mut(), top)?.select(platforms)?;
    Ok(Read {
        reference,
        source: shared(source),
        content,
        tag,
    })
}

/// The name that `tag` of the command line gives, in the store of `source` where
/// it has no transport.
pub(super) fn named(tag: &str, source: &Reference) -> Result<Reference, Refusal> {
    if Reference::has_transport(tag) {
        return parse(tag);
    }
    let in_store = match source {
        Reference::Layout { path, .. } => format!("oci:{}:{tag}", path.display()),
        Reference::OciArchive { path, .. } => format!("oci-archive:{}:{tag}", path.display()),
        Reference::DockerArchive { path, .. } => format!("docker-archive:{}:{tag}", path.display()),
        Reference::Engine(_) => format!("docker-daemon:{tag}"),
        Reference::Registry(_) => format!("docker://{tag}"),
        Reference::Bare(_) => tag.to_owned(),
    };
    parse(&in_store)
}

/// Refuses to write an index where only an image has a place.
pub(super) fn check_place(destination: &Reference, content: &Content) -> Result<(), Refusal> {
    let takes_one = matches!(
        destination,
        Reference::Engine(_) | Reference::DockerArchive { .. }
    );
    if takes_one && matches!(content, Content::Index(_)) {
        let images = content.images();
        return Err(Error::OnePlatform {
            reference: Box::new(destination.clone()),
            present: images.iter().filter_map(|one| one.platform()).collect(),
        }
        .into());
    }
    Ok(())
}

pub(super) fn digest(content: &Content) -> Option<&Digest> {
    content.item().map(|item| item.descriptor.digest())
}

/// Writes `new` under the name `destination`, and prints what was done; or only
/// prints it.
pub(super) fn finish(
    read: &Read,
    new: &Content,
    destination: &Reference,
    output: &Output,
    more: Value,
) -> Result<u8, Refusal> {
    check_place(destination, new)?;
    let Some(digest) = digest(new) else {
        return Err(Refusal::fault("there is nothing to write"));
    };
    if output.dry_run {
        let text = if output.json {
            summary(read, new, destination, digest, more)
        } else {
            difference(&read.content, new)
        };
        return Ok(answer(escaped_lines(&text).as_bytes()));
    }
    let target = store::create(destination)?;
    let written = {
        let mut source = read.source.borrow_mut();
        contents::write(new, source.as_mut(), target)?
    };
    if let Some(path) = &output.digest_file {
        write_digest(path, digest)
            .map_err(|error| Refusal::fault(format_args!("{}: {error}", path.display())))?;
    }
    let text = if output.json {
        summary(read, new, &written, digest, more)
    } else {
        format!("{}\n", written.line(digest))
    };
    Ok(answer(escaped_lines(&text).as_bytes()))
}

fn write_digest(path: &Path, digest: &Digest) -> io::Result<()> {
    fs::write(path, digest.to_string())
}

/// The object of `--json`.
fn summary(
    read: &Read,
    new: &Content,
    destination: &Reference,
    digest: &Digest,
    more: Value,
) -> String {
    let images = new.images();
    let images: Vec<Value> = images
        .iter()
        .map(|one| {
            json!({
                "platform": one.platform().map(|one| one.to_string()),
                "digest": one.digest().to_string(),
            })
        })
        .collect();
    let mut summary = json!({
        "source": read.reference.to_string(),
        "reference": destination.to_string(),
        "line": destination.line(digest),
        "digest": digest.to_string(),
        "images": images,
    });
    if let (Some(all), Value::Object(more)) = (summary.as_object_mut(), more) {
        all.extend(more);
    }
    format!("{summary:#}\n")
}

/// What changes between two images or indexes, as a diff of the configs and of the
/// lists of layers.
fn difference(old: &Content, new: &Content) -> String {
    let mut text = String::new();
    let (old, new) = (old.images(), new.images());
    for (old, new) in old.iter().zip(&new) {
        let platform = new
            .platform()
            .map_or(String::new(), |one| format!(" {one}"));
        let parts = [
            (
                "config",
                format!("{:#}\n", old.image.config.tree),
                format!("{:#}\n", new.image.config.tree),
            ),
            ("layers", layers(old), layers(new)),
        ];
        for (part, before, after) in parts {
            let name = format!("{part}{platform}");
            let diff = TextDiff::from_lines(&before, &after);
            let mut diff = diff.unified_diff();
            let diff = diff.context_radius(3).header(&name, &name);
            let _ = write!(text, "{diff}");
        }
    }
    text
}

fn layers(picture: &Picture) -> String {
    let layers = picture.image.layers().unwrap_or_default();
    let lines = layers
        .iter()
        .map(|one| format!("{} {} {}\n", one.digest(), one.size(), one.media_type()));
    lines.collect()
}

/// What was read for a check, for people.
pub(super) fn effort(checked: &Checked, picture: &Picture) -> String {
    let all = picture.image.layers().map_or(0, |layers| layers.len());
    let (layers, bytes) = (checked.layers, checked.bytes);
    format!("read {layers} of {all} layers, {bytes} bytes")
}

/// What messages call one image of those that `target` leads to.
pub(super) fn name(target: &str, picture: &Picture, content: &Content) -> String {
    match (content, picture.platform()) {
        (Content::Index(_), Some(platform)) => format!("{target} ({platform})"),
        _ => target.to_owned(),
    }
}

/// The libraries of each image that must come before the shim, by its digest.
pub(super) type First = Vec<(Digest, Vec<OsString>)>;

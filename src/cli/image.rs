//! What the commands on images share: flags, where the result goes, what is said
//! of it.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};
use similar::TextDiff;

use super::digest_file::DigestFile;
use super::progress::progress;
use super::report::{escaped, escaped_json};
use super::{answer, complain, status};
use crate::image::check::{Checked, shared};
use crate::image::contents::{self, Content, Picture};
use crate::image::descriptor::family;
use crate::image::engine::Inspected;
use crate::image::engine::{Engine, spelt};
use crate::image::error::Error;
use crate::image::registry::{Client, Options};
use crate::image::store;
use crate::image::transfer;
use crate::image::tree::Shared;
use crate::image::{Digest, Family, Name, Platform, Reference};

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

impl Output {
    /// Refuses what has no meaning for a bundle or a unit, whose result is a file.
    pub(super) fn refuse_for_files(&self) -> Result<(), Refusal> {
        let flags = [
            (self.tag.is_some(), "--tag"),
            (!self.platform.is_empty(), "--platform"),
            (self.dry_run, "--dry-run"),
            (self.json, "--json"),
            (self.digest_file.is_some(), "--digest-file"),
        ];
        match flags.iter().find(|(is_given, _)| *is_given) {
            None => Ok(()),
            Some((_, flag)) => Err(Refusal::fault(format_args!(
                "{flag} is for images; for bundles and units the result is printed, \
                 or written with --in-place"
            ))),
        }
    }
}

/// How registries are spoken to.
#[derive(Args, Debug)]
pub(super) struct Transport {
    /// Speak plain HTTP to registries; this machine's own are spoken to so anyway
    #[arg(long)]
    plain_http: bool,
    /// Trust the certificates in this file as well
    #[arg(long, value_name = "FILE", conflicts_with = "plain_http")]
    ca_file: Option<PathBuf>,
}

impl Transport {
    pub(super) fn client(&self) -> Client {
        Client::new(Options {
            plain_http: self.plain_http,
            ca_file: self.ca_file.clone(),
            progress: progress(),
            ..Options::from_environment()
        })
    }
}

/// Why a command ends early: what is said, and the exit status.
pub(super) struct Refusal {
    pub(super) message: String,
    pub(super) status: u8,
    /// What is printed all the same: the object of `--json`.
    answer: Option<Value>,
}

impl Refusal {
    /// The call or its input is at fault.
    pub(super) fn fault(message: impl std::fmt::Display) -> Self {
        Self {
            message: message.to_string(),
            status: status::FAULT,
            answer: None,
        }
    }

    pub(super) fn no(message: impl std::fmt::Display) -> Self {
        Self {
            message: message.to_string(),
            status: status::NO,
            answer: None,
        }
    }

    /// The refusal of an image whose checks, as JSON, say that the shim would not
    /// act in `names`.
    pub(super) fn of_check(source: &str, names: &[String], checks: &Value, json: bool) -> Self {
        let message = format!(
            "{}: the shim would not act there; --force puts it in all the same",
            names.join(", ")
        );
        let answer = json!({"source": source, "error": message, "checks": checks});
        Self {
            answer: json.then_some(answer),
            ..Self::no(message)
        }
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    pub(super) fn say(&self) -> u8 {
        let status = complain(&escaped_lines(&self.message), self.status);
        match &self.answer {
            Some(object) => print_json(object).max(status),
            None => status,
        }
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
    pub(super) client: Client,
}

pub(super) fn parse(target: &str) -> Result<Reference, Refusal> {
    target.parse().map_err(Refusal::fault)
}

/// What `target` names. A bare name is the engine's if one answers and has it, else
/// the registry's.
pub(super) fn locate(target: &str) -> Result<Reference, Refusal> {
    let reference = parse(target)?;
    match reference {
        Reference::Bare(name) => whose(name),
        _ => Ok(reference),
    }
}

/// The engine's image `name` if one answers and has it, else the registry's.
pub(super) fn whose(name: Name) -> Result<Reference, Refusal> {
    let has_it = match Engine::find() {
        Ok(engine) => engine.inspect(&spelt(&name))?.is_some(),
        Err(_) => false,
    };
    Ok(if has_it {
        Reference::Engine(name)
    } else {
        Reference::Registry(name)
    })
}

/// Reads what `reference` leads to, and selects `platforms` of it.
pub(super) fn read(
    reference: Reference,
    platforms: &[Platform],
    client: &Client,
) -> Result<Read, Refusal> {
    let mut source = store::open(&reference, client)?;
    let placed = |error| placed(&reference, error);
    let top = source.top().map_err(placed)?;
    let tag = top
        .descriptor
        .annotation("org.opencontainers.image.ref.name");
    let tag = reference.tag().or(tag).map(str::to_owned);
    let content = contents::read(source.as_mut(), top).map_err(placed)?;
    let content = content.select(platforms).map_err(placed)?;
    Ok(Read {
        reference,
        source: shared(source),
        content,
        tag,
        client: client.clone(),
    })
}

/// The refusal for `error`, which names `reference` where it does not say itself
/// which store it is of.
pub(super) fn placed(reference: &Reference, error: Error) -> Refusal {
    match error {
        Error::Descriptor(_)
        | Error::Schema1 { .. }
        | Error::Encrypted { .. }
        | Error::NoShim { .. }
        | Error::NoSuchPlatform { .. } => Refusal::fault(format_args!("{reference}: {error}")),
        other => other.into(),
    }
}

/// The name that `tag` of the command line gives, in the store of `source` where
/// it has no transport.
pub(super) fn named(tag: &str, source: &Reference) -> Result<Reference, Refusal> {
    if Reference::has_transport(tag) {
        return parse(tag);
    }
    if let Reference::Registry(_) = source
        && !tag.contains(['/', ':', '@'])
    {
        // Nobody means Docker Hub's own images.
        return parse(&source.with_tag(tag).to_string());
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

/// Where the result of eject goes: to the tag of `source` without its ending, unless
/// `is_taken` says that another image has that name.
pub(super) fn ejected_to(
    source: &Reference,
    tag: Option<&str>,
    output: &Output,
    is_taken: impl FnOnce(&Reference) -> Result<bool, Refusal>,
) -> Result<Reference, Refusal> {
    if output.in_place {
        return Ok(source.clone());
    }
    if let Some(tag) = &output.tag {
        return named(tag, source);
    }
    let ask = |why: &str| {
        Err(Refusal::fault(format_args!(
            "{source}: {why}: name the result with -t DEST, or give --in-place"
        )))
    };
    let tag = tag.and_then(|tag| tag.strip_suffix(SUFFIX));
    let Some(tag) = tag.filter(|tag| !tag.is_empty()) else {
        return ask("its tag does not end with -reuseport");
    };
    let destination = source.with_tag(tag);
    if is_taken(&destination)? {
        return ask(&format!("{destination} is there, and is another image"));
    }
    Ok(destination)
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
    let digest = match (destination, new) {
        // An engine calls an image by its config, and takes no other than this.
        (Reference::Engine(_), Content::Image(picture)) => Some(Digest::of(&picture.config)),
        _ => digest(new).cloned(),
    };
    let Some(digest) = &digest else {
        return Err(Refusal::fault("there is nothing to write"));
    };
    if output.dry_run {
        return Ok(if output.json {
            print_json(&summary(read, new, destination, digest, more))
        } else {
            print(&difference(&read.content, new))
        });
    }
    let digest_file = DigestFile::open(output.digest_file.as_deref())?;
    let target = store::create(destination, &read.client)?;
    let written = {
        let mut source = read.source.borrow_mut();
        transfer::write(new, source.as_mut(), target, read.client.progress())?
    };
    digest_file.write(digest)?;
    if is_dockers_in_layout(&read.reference, destination, new) {
        say(
            &"reuseport: note: the manifest is still Docker's, with its digest: \
              skopeo and umoci read none of these in a layout",
        );
    }
    Ok(if output.json {
        print_json(&summary(read, new, &written, digest, more))
    } else {
        print(&format!("{}\n", written.line(digest)))
    })
}

/// Whether a manifest of Docker's goes into a layout that did not hold it before.
fn is_dockers_in_layout(source: &Reference, destination: &Reference, new: &Content) -> bool {
    let is_layout =
        |one: &Reference| matches!(one, Reference::Layout { .. } | Reference::OciArchive { .. });
    let family = new
        .item()
        .and_then(|item| family(item.descriptor.media_type()));
    is_layout(destination) && !is_layout(source) && family == Some(Family::Docker)
}

/// Prints `text`, in which nothing moves the terminal.
pub(super) fn print(text: &str) -> u8 {
    answer(escaped_lines(text).as_bytes())
}

/// Prints a JSON object, in which nothing moves the terminal either.
pub(super) fn print_json(object: &Value) -> u8 {
    answer(escaped_json(&format!("{object:#}\n")).as_bytes())
}

/// Prints what was done in an engine, which made `made`.
pub(super) fn finish_engine(
    source: &Reference,
    destination: &Reference,
    made: &Inspected,
    output: &Output,
    more: Value,
) -> u8 {
    let line = destination.line(&made.id);
    if !output.json {
        return print(&format!("{line}\n"));
    }
    let digest = made.id.to_string();
    let image = json!({"platform": made.platform().to_string(), "digest": digest});
    let mut summary = json!({
        "source": source.to_string(),
        "reference": destination.to_string(),
        "line": line,
        "digest": digest,
        "images": [image],
    });
    if let (Some(all), Value::Object(more)) = (summary.as_object_mut(), more) {
        all.extend(more);
    }
    print_json(&summary)
}

/// The object of `--json`.
fn summary(
    read: &Read,
    new: &Content,
    destination: &Reference,
    digest: &Digest,
    more: Value,
) -> Value {
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
    summary
}

/// What changes between two images or indexes, as a diff of the configs and of the
/// lists of layers.
pub(super) fn difference(old: &Content, new: &Content) -> String {
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

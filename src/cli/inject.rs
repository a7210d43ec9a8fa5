//! `reuseport inject`: puts the shim into an image, a bundle, a unit or manifests.

use std::env;
use std::path::Path;

use clap::Args;
use serde_json::{Value, json};

use super::engine;
use super::host::HostFlags;
use super::image::{self, First, Output, Read, Refusal, SUFFIX, Transport};
use super::manifest::{self, Flags, Manner};
use super::report::{findings_json, write_findings, write_verdict};
use super::rules::RuleFlags;
use super::target::Target;
use super::unit::{self, UnitFlags};
use crate::bundle;
use crate::finding::Verdict;
use crate::image::check::check;
use crate::image::transform::{self, Request};
use crate::image::{Digest, Platform, Reference};
use crate::manifest::Injection;

/// Put the shim into an image, a bundle, a systemd unit or Kubernetes manifests
///
/// TARGET is NAME[:TAG] (the container engine's, or else the registry's),
/// docker-daemon:NAME[:TAG], docker://HOST/NAME[:TAG|@DIGEST], oci:DIR[:TAG],
/// oci-archive:FILE[:TAG] or docker-archive:FILE[:NAME:TAG].
/// What the image will run is checked first. The result is a new image: TAG-reuseport
/// in the same directory, or what -t names. Its name and digest are printed.
///
/// A directory that holds config.json is an OCI runtime bundle: the new config.json
/// is printed, or with --in-place written. With --unit it is a systemd service: its
/// drop-in is printed, or with --in-place written. Both use the shim that lies on
/// this host.
///
/// With -f it is a filter for Kubernetes manifests and Compose files, and needs no
/// cluster: what is not added stays byte for byte as it was.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    transport: Transport,
    /// Keep images as they are for which there is no shim
    #[arg(long, conflicts_with = "files")]
    skip_unsupported: bool,
    /// Go on where the check says that it fails
    #[arg(long)]
    force: bool,
    /// Do not look at what the image will run
    #[arg(long, conflicts_with_all = ["force", "files"])]
    no_check: bool,
    #[command(flatten)]
    host: HostFlags,
    #[command(flatten)]
    unit: UnitFlags,
    #[command(flatten)]
    manifests: Flags,
    #[command(flatten)]
    place: Target,
    // Last, since its heading is that of all that follows.
    #[command(flatten)]
    rules: RuleFlags,
}

pub(super) fn run(arguments: Arguments) -> u8 {
    let target = match (&arguments.place.target, &arguments.unit.unit) {
        (_, Some(name)) => return inject_unit(&name.clone(), arguments),
        (Some(target), None) => target.clone(),
        (None, None) => return inject_manifests(arguments),
    };
    let directory = Path::new(&target);
    if bundle::is_bundle(directory) {
        return inject_bundle(directory, arguments);
    }
    inject(&target, arguments).unwrap_or_else(|refusal| refusal.say())
}

impl Arguments {
    /// What flags of `inject -f` ask for.
    pub(super) fn injection(self) -> Result<Injection, Refusal> {
        let rules = self.rules.assignments();
        let (_, options) = manifest::injection(self.manifests, rules, false)?;
        Ok(options)
    }
}

fn inject_manifests(arguments: Arguments) -> u8 {
    let Arguments {
        output,
        transport,
        force,
        manifests,
        rules,
        ..
    } = arguments;
    let manner = Manner::new(output.in_place, output.json, force);
    let rules = rules.assignments();
    manifest::inject_files(manifests, rules, manner, || transport.client())
        .unwrap_or_else(|refusal| refusal.say())
}

fn inject_bundle(directory: &Path, arguments: Arguments) -> u8 {
    if let Err(refusal) = arguments.output.refuse_for_files() {
        return refusal.say();
    }
    super::bundle::inject(super::bundle::Request {
        directory,
        rules: arguments.rules.assignments(),
        host: &arguments.host,
        in_place: arguments.output.in_place,
        no_check: arguments.no_check,
        force: arguments.force,
    })
}

fn inject_unit(name: &str, arguments: Arguments) -> u8 {
    if let Err(refusal) = arguments.output.refuse_for_files() {
        return refusal.say();
    }
    let root = match arguments.place.root() {
        Ok(root) => root,
        Err(refusal) => return refusal.say(),
    };
    unit::inject(unit::Request {
        name,
        flags: &arguments.unit,
        root: &root,
        rules: arguments.rules.assignments(),
        host: &arguments.host,
        in_place: arguments.output.in_place,
        no_check: arguments.no_check,
        force: arguments.force,
    })
}

fn inject(target: &str, arguments: Arguments) -> Result<u8, Refusal> {
    let Arguments {
        rules,
        output,
        transport,
        skip_unsupported,
        force,
        no_check,
        ..
    } = arguments;
    let rules = rules.assignments();
    let source = image::locate(target)?;
    if let Reference::Engine(name) = &source
        && engine::stays(&source, &output)?
    {
        let request = Request {
            rules,
            time: time()?,
            ..Request::default()
        };
        let to = destination(&source, source.tag(), &output)?;
        let look = engine::Look { no_check, force };
        return engine::inject(&source, name, &to, &request, look, &output);
    }
    let read = image::read(source, &output.platform, &transport.client())?;
    let destination = destination(&read.reference, read.tag.as_deref(), &output)?;
    image::check_place(&destination, &read.content)?;
    let request = Request {
        rules,
        skip_unsupported,
        base_name: read.source.borrow().name(),
        time: time()?,
    };
    let transform = |first: &First, notices: &mut Vec<_>| {
        transform::inject(
            &read.content,
            &request,
            &|picture| {
                let found = first.iter().find(|(digest, _)| digest == picture.digest());
                found.map_or_else(Vec::new, |(_, first)| first.clone())
            },
            notices,
        )
        .map_err(|error| image::placed(&read.reference, error))
    };
    let (first, checks) = if no_check {
        (Vec::new(), Value::Null)
    } else {
        // Before layers are read: whether it can be done at all.
        transform(&Vec::new(), &mut Vec::new())?;
        checked(target, &read, force, skip_unsupported, output.json)?
    };
    let mut notices = Vec::new();
    let new = transform(&first, &mut notices)?;
    for notice in &notices {
        image::say(&format_args!("reuseport: note: {notice}"));
    }
    let notices: Vec<String> = notices.iter().map(ToString::to_string).collect();
    let more = json!({"checks": checks, "notices": notices});
    image::finish(&read, &new, &destination, &output, more)
}

/// Where the result goes.
fn destination(
    source: &Reference,
    tag: Option<&str>,
    output: &Output,
) -> Result<Reference, Refusal> {
    if let (Reference::Engine(name), None) = (source, &output.tag)
        && name.familiar().parse::<Digest>().is_ok()
    {
        return Err(Refusal::fault(format_args!(
            "{source}: an engine's own name for an image: name the result with -t DEST"
        )));
    }
    if output.in_place {
        return Ok(source.clone());
    }
    if let Some(tag) = &output.tag {
        let destination = image::named(tag, source)?;
        if destination == *source {
            return Err(Refusal::fault(format_args!(
                "{destination}: that is the image itself; --in-place puts the result in its place"
            )));
        }
        return Ok(destination);
    }
    match (source, tag) {
        (Reference::Layout { .. } | Reference::Engine(_) | Reference::Bare(_), Some(tag)) => {
            // An image that has the shim already gets it anew.
            let tag = tag.strip_suffix(SUFFIX).unwrap_or(tag);
            Ok(source.with_tag(&format!("{tag}{SUFFIX}")))
        }
        _ => Err(Refusal::fault(format_args!(
            "{source}: name the result with -t DEST, or give --in-place"
        ))),
    }
}

/// Seconds since 1970 that the new files have: SOURCE_DATE_EPOCH, see
/// <https://reproducible-builds.org/specs/source-date-epoch/>.
fn time() -> Result<u64, Refusal> {
    /// The end of the year 9999, behind which dates have another form.
    const LAST: u64 = 253_402_300_799;
    let Some(text) = env::var_os("SOURCE_DATE_EPOCH") else {
        return Ok(0);
    };
    let text = text.to_string_lossy();
    let time = text.parse().ok().filter(|time| *time <= LAST);
    time.ok_or_else(|| {
        Refusal::fault(format_args!(
            "SOURCE_DATE_EPOCH: '{}' is no number of seconds since 1970",
            text.escape_debug()
        ))
    })
}

/// Checks what each image will run; what was found of it is said on standard
/// error, unless all is well.
fn checked(
    target: &str,
    read: &Read,
    force: bool,
    skip_unsupported: bool,
    json: bool,
) -> Result<(First, Value), Refusal> {
    let mut first = Vec::new();
    let mut list = Vec::new();
    let mut failed = Vec::new();
    for picture in read.content.images() {
        let platform = picture.platform();
        let has_shim = platform.as_ref().and_then(Platform::shim_architecture);
        if skip_unsupported && has_shim.is_none() {
            continue;
        }
        let checked = check(&read.source, picture)?;
        let name = image::name(target, picture, &read.content);
        let verdict = checked.verdict();
        let mut text = String::new();
        write_verdict(&mut text, &name, verdict, "");
        if verdict != Verdict::Works {
            write_findings(&mut text, &checked.judgement.findings);
        }
        let effort = image::effort(&checked, picture);
        image::say(&format_args!(
            "{}  {effort}",
            anstream::adapter::strip_str(&text)
        ));
        if verdict == Verdict::Fails {
            failed.push(name);
        }
        list.push(json!({
            "platform": platform.map(|one| one.to_string()),
            "verdict": verdict.name(),
            "findings": findings_json(&checked.judgement.findings),
            "read": {"layers": checked.layers, "bytes": checked.bytes},
        }));
        first.push((picture.digest().clone(), checked.first()));
    }
    let checks = Value::from(list);
    if !failed.is_empty() && !force {
        return Err(Refusal::of_check(target, &failed, &checks, json));
    }
    Ok((first, checks))
}

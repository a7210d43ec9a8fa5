//! `reuseport inject`: puts the shim into an image, or into manifests.

use std::env;

use clap::Args;
use serde_json::{Value, json};

use super::image::{self, First, Output, Read, Refusal, SUFFIX};
use super::manifest::{self, Flags};
use super::report::{findings_json, write_findings, write_verdict};
use super::rules::RuleFlags;
use crate::finding::Verdict;
use crate::image::check::check;
use crate::image::transform::{self, Request};
use crate::image::{Platform, Reference};

/// Put the shim into an image, or into Kubernetes manifests
///
/// TARGET is oci:DIR[:TAG], oci-archive:FILE[:TAG] or docker-archive:FILE[:NAME:TAG].
/// What the image will run is checked first. The result is a new image: TAG-reuseport
/// in the same directory, or what -t names. Its name and digest are printed.
///
/// With -f it is a filter for Kubernetes manifests, and needs no cluster: what is not
/// added stays byte for byte as it was.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    output: Output,
    /// Keep images as they are for which there is no shim
    #[arg(long, conflicts_with = "files")]
    skip_unsupported: bool,
    /// Go on where the check says that it fails
    #[arg(long, conflicts_with = "files")]
    force: bool,
    /// Do not look at what the image will run
    #[arg(long, conflicts_with_all = ["force", "files"])]
    no_check: bool,
    #[command(flatten)]
    manifests: Flags,
    // Last, since its heading is that of all that follows.
    #[command(flatten)]
    rules: RuleFlags,
    /// The image
    #[arg(value_name = "TARGET", required_unless_present = "files")]
    target: Option<String>,
}

pub(super) fn run(arguments: Arguments) -> u8 {
    inject(arguments).unwrap_or_else(|refusal| refusal.say())
}

fn inject(arguments: Arguments) -> Result<u8, Refusal> {
    let Arguments {
        rules,
        output,
        skip_unsupported,
        force,
        no_check,
        manifests,
        target,
    } = arguments;
    let rules = rules.assignments();
    let Some(target) = target else {
        return manifest::inject_files(manifests, rules, output.in_place, output.json);
    };
    let read = image::read(&target, &output.platform)?;
    let destination = destination(&read, &output)?;
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
    };
    let (first, checks) = if no_check {
        (Vec::new(), Value::Null)
    } else {
        // Before layers are read: whether it can be done at all.
        transform(&Vec::new(), &mut Vec::new())?;
        checked(&target, &read, force, skip_unsupported)?
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
fn destination(read: &Read, output: &Output) -> Result<Reference, Refusal> {
    let source = &read.reference;
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
    match (source, &read.tag) {
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
    if !failed.is_empty() && !force {
        return Err(Refusal::no(format_args!(
            "{}: the shim would not act there; --force puts it in all the same",
            failed.join(", ")
        )));
    }
    Ok((first, list.into()))
}

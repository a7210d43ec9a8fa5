//! `inject` and `eject` of an image that stays in its container engine.

use std::ffi::OsString;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::thread;

use serde_json::{Value, json};

use super::digest_file::DigestFile;
use super::image::{self, Output, Refusal};
use super::progress::progress;
use super::report::{findings_json, write_findings, write_verdict};
use crate::finding::Verdict;
use crate::image::check::{Run, judge};
use crate::image::contents::{Content, Picture};
use crate::image::engine::{Engine, EngineError, EngineFiles, Inspected, spelt};
use crate::image::error::Error;
use crate::image::transform::Request;
use crate::image::{Name, Platform, Reference};
use crate::program::{Judgement, Root};

/// How an image is looked at before it is changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) no_check: bool,
    pub(super) force: bool,
}

impl From<EngineError> for Refusal {
    fn from(error: EngineError) -> Self {
        Self::fault(error)
    }
}

/// Whether the result of `source` is to stay in the engine that it is in.
pub(super) fn stays(source: &Reference, output: &Output) -> Result<bool, Refusal> {
    let Reference::Engine(_) = source else {
        return Ok(false);
    };
    let named = output.tag.as_deref().map(|tag| image::named(tag, source));
    Ok(!matches!(named.transpose()?, Some(other) if !matches!(other, Reference::Engine(_))))
}

/// An image that was asked for.
struct Asked {
    engine: Engine,
    name: String,
    image: Inspected,
}

fn ask(name: &Name, output: &Output) -> Result<Asked, Refusal> {
    let engine = Engine::find()?.watched_by(progress());
    let name = spelt(name);
    let image = engine.image(&name)?;
    let own = image.platform();
    if let Some(wanted) = output.platform.iter().find(|one| !own.satisfies(one)) {
        let wanted = wanted.clone();
        let present = vec![own];
        return Err(Error::NoSuchPlatform { wanted, present }.into());
    }
    Ok(Asked {
        engine,
        name,
        image,
    })
}

/// Puts the shim into the image `name`, the result being called `destination`.
pub(super) fn inject(
    source: &Reference,
    name: &Name,
    destination: &Reference,
    request: &Request,
    look: Look,
    output: &Output,
) -> Result<u8, Refusal> {
    let Asked {
        engine,
        name,
        image,
    } = ask(name, output)?;
    let target = placed(&engine, source, &image, destination);
    // Without a look at the files: whether it can be done at all.
    let plan = engine.plan(&image, request, &[])?;
    let check = || {
        if look.no_check {
            return Ok((Vec::new(), Value::Null));
        }
        checked(&engine, source, &image, &plan.before, look, output.json)
    };
    if output.dry_run {
        let (first, check) = check()?;
        if output.json {
            let more = json!({"checks": check});
            return Ok(image::print_json(&planned(source, destination, more)));
        }
        let after = engine.plan(&image, request, &first)?.after;
        let picture = |image| {
            let made = crate::image::Descriptor::of("", b"");
            Content::Image(Box::new(Picture::new(image, &made, None)))
        };
        let text = image::difference(&picture(plan.before), &picture(after));
        return Ok(image::print(&text));
    }
    let digest_file = DigestFile::open(output.digest_file.as_deref())?;
    // An engine takes as long for the check as for the rest, and what is made goes
    // unless it gets a name. What must be loaded first, the check alone knows.
    let (checked, unnamed) = thread::scope(|scope| {
        let unnamed = scope.spawn(|| engine.inject(&image, request, &[]));
        let checked = check();
        let unnamed = unnamed.join();
        (
            checked,
            unnamed.unwrap_or_else(|panic| resume_unwind(panic)),
        )
    });
    let (first, check) = checked?;
    let unnamed = if first.is_empty() {
        unnamed?
    } else {
        engine.inject(&image, request, &first)?
    };
    let (made, losses) = match unnamed {
        Some(unnamed) => {
            let made = engine.name(unnamed, &target)?;
            (made.image, made.losses)
        }
        None => {
            let made = engine.inject_by_archive(&name, &image, request, &first, &target)?;
            (made, Vec::new())
        }
    };
    let losses: Vec<String> = losses.iter().map(ToString::to_string).collect();
    for loss in &losses {
        let who = engine.kind().name();
        image::say(&format_args!("reuseport: note: {who}: {loss}"));
    }
    digest_file.write(&made.id)?;
    let more = json!({"checks": check, "notices": losses});
    Ok(image::finish_engine(
        source,
        destination,
        &made,
        output,
        more,
    ))
}

/// The name in the engine that `destination` stands for: beside the image that was
/// found, whatever host the engine put before it.
fn placed(
    engine: &Engine,
    source: &Reference,
    image: &Inspected,
    destination: &Reference,
) -> String {
    let (Reference::Engine(asked), Reference::Engine(wanted)) = (source, destination) else {
        unreachable!("both are in the engine");
    };
    match wanted.tag_or_latest() {
        Some(tag) if (&asked.host, &asked.repository) == (&wanted.host, &wanted.repository) => {
            engine.sibling(asked, image, tag)
        }
        _ => spelt(wanted),
    }
}

/// What is found of the image `name` of the engine, without its layers.
///
/// # Errors
/// No engine answers, or it has no such image.
pub(super) fn check(name: &Name) -> Result<Judgement, Refusal> {
    let engine = Engine::find()?;
    let image = engine.image(&spelt(name))?;
    if image.platform().os != "linux" {
        let name = format!("docker-daemon:{name}");
        return Err(super::check::not_linux(&name, Some(&image.platform())));
    }
    let documents = engine.documents(&image)?;
    judged(&engine, &image, &documents, &Run::default())
}

/// What is found of the image `name` of the engine when it is run as `run` says, on
/// which platform, and its config.
///
/// # Errors
/// No engine answers, or it has no such image.
pub(super) fn look(name: &Name, run: &Run) -> Result<(Platform, Value, Judgement), Refusal> {
    let engine = Engine::find()?;
    let image = engine.image(&spelt(name))?;
    let documents = engine.documents(&image)?;
    let judgement = judged(&engine, &image, &documents, run)?;
    let config = documents.config.tree["config"].clone();
    Ok((image.platform(), config, judgement))
}

/// Judges what the image will run.
fn judged(
    engine: &Engine,
    image: &Inspected,
    documents: &crate::image::edit::Image,
    run: &Run,
) -> Result<Judgement, Refusal> {
    let files = Rc::new(EngineFiles::new(engine.files(image)?));
    let root = Root::of(Rc::clone(&files));
    let config = run.of(&documents.config.tree["config"]);
    let judgement = judge(&root, &config, run.no_new_privileges);
    match files.take_error() {
        Some(error) => Err(error.into()),
        None => Ok(judgement),
    }
}

type Checked = (Vec<OsString>, Value);

/// Judges what the image will run, by the files that this takes.
fn checked(
    engine: &Engine,
    source: &Reference,
    image: &Inspected,
    documents: &crate::image::edit::Image,
    look: Look,
    json: bool,
) -> Result<Checked, Refusal> {
    let judgement = judged(engine, image, documents, &Run::default())?;
    let verdict = judgement.verdict();
    let mut text = String::new();
    write_verdict(&mut text, &source.to_string(), verdict, "");
    if verdict != Verdict::Works {
        write_findings(&mut text, &judgement.findings);
    }
    let text = anstream::adapter::strip_str(&text).to_string();
    image::say(&text.trim_end());
    let program = judgement.chain.program();
    let first = program.map_or_else(Vec::new, |(_, elf)| elf.sanitizers());
    let check = json!([{
        "platform": image.platform().to_string(),
        "verdict": verdict.name(),
        "findings": findings_json(&judgement.findings),
    }]);
    if verdict == Verdict::Fails && !look.force {
        let source = source.to_string();
        let names = std::slice::from_ref(&source);
        return Err(Refusal::of_check(&source, names, &check, json));
    }
    Ok((first, check))
}

/// Takes the shim out of the image `name`.
pub(super) fn eject(source: &Reference, name: &Name, output: &Output) -> Result<u8, Refusal> {
    let Asked {
        engine,
        name: asked,
        image,
    } = ask(name, output)?;
    let nothing = || Refusal::no(format_args!("{source}: nothing to eject: it holds no shim"));
    if !engine.documents(&image)?.may_hold_shim() {
        return Err(nothing());
    }
    let base = engine.untouched(&image)?;
    let destination = eject_to(&engine, source, name, &image, base.as_ref(), output)?;
    if output.dry_run && output.json {
        let more = json!({"is_original": base.is_some()});
        return Ok(image::print_json(&planned(source, &destination, more)));
    }
    if output.dry_run {
        let text = match &base {
            Some(base) => format!("{destination} will be {}\n", base.id),
            None => format!("{destination} will be {source} without the shim\n"),
        };
        return Ok(image::print(&text));
    }
    let digest_file = DigestFile::open(output.digest_file.as_deref())?;
    let target = placed(&engine, source, &image, &destination);
    let is_original = base.is_some();
    let (made, how) = match engine.eject(&image, &target)? {
        Some(base) => (base, "the image that the shim was put into has the name"),
        None => {
            let made = engine.eject_by_archive(&asked, &image, &target)?;
            let how = "the image that the shim was put into is not there: \
                       saved, edited and loaded";
            (made.ok_or_else(nothing)?, how)
        }
    };
    image::say(&format_args!("reuseport: note: {destination}: {how}"));
    digest_file.write(&made.id)?;
    let more = json!({"is_original": is_original});
    Ok(image::finish_engine(
        source,
        &destination,
        &made,
        output,
        more,
    ))
}

/// The object of `--dry-run --json`. The digest is the engine's to make.
fn planned(source: &Reference, destination: &Reference, more: Value) -> Value {
    let mut object = json!({
        "source": source.to_string(),
        "reference": destination.to_string(),
    });
    if let (Some(all), Value::Object(more)) = (object.as_object_mut(), more) {
        all.extend(more);
    }
    object
}

/// Where the result of eject goes.
fn eject_to(
    engine: &Engine,
    source: &Reference,
    name: &Name,
    image: &Inspected,
    base: Option<&Inspected>,
    output: &Output,
) -> Result<Reference, Refusal> {
    image::ejected_to(source, name.tag_or_latest(), output, |destination| {
        let current = engine.inspect(&placed(engine, source, image, destination))?;
        Ok(current.is_some_and(|current| base.is_none_or(|base| base.id != current.id)))
    })
}

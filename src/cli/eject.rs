//! `reuseport eject`: takes the shim out of an image, a bundle, a unit or manifests.

use std::path::Path;

use clap::Args;
use serde_json::json;

use super::engine;
use super::image::{self, Output, Read, Refusal, Transport};
use super::manifest::{self, Files};
use super::target::Target;
use super::unit::{self, UnitFlags};
use crate::bundle;
use crate::image::contents::{self, Content};
use crate::image::descriptor::family;
use crate::image::store;
use crate::image::transform;
use crate::image::{Digest, Family, Reference};

/// Take the shim out of an image, a bundle, a systemd unit or Kubernetes manifests
///
/// Gives back the image that the shim was put into, with its digest, where it is
/// still there or can be made again; else the same config and layers. The result is
/// TAG without -reuseport, or what -t names.
///
/// Of a bundle, the old config.json is printed, or with --in-place written; of a
/// unit, the drop-in is removed.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    transport: Transport,
    #[command(flatten)]
    unit: UnitFlags,
    #[command(flatten)]
    manifests: Files,
    #[command(flatten)]
    place: Target,
}

pub(super) fn run(arguments: &Arguments) -> u8 {
    let name = arguments.unit.unit.as_deref();
    if arguments.place.target.is_none() && name.is_none() {
        let Output { in_place, json, .. } = arguments.output;
        return manifest::eject_files(&arguments.manifests, in_place, json)
            .unwrap_or_else(|refusal| refusal.say());
    }
    let target = arguments.place.target.as_deref().unwrap_or_default();
    let directory = Path::new(target);
    if (name.is_some() || bundle::is_bundle(directory))
        && let Err(refusal) = arguments.output.refuse_for_files()
    {
        return refusal.say();
    }
    if let Some(name) = name {
        return match arguments.place.root() {
            Ok(root) => unit::eject(name, &arguments.unit, &root),
            Err(refusal) => refusal.say(),
        };
    }
    if bundle::is_bundle(directory) {
        return super::bundle::eject(directory, arguments.output.in_place);
    }
    eject(target, &arguments.output, &arguments.transport).unwrap_or_else(|refusal| refusal.say())
}

fn eject(target: &str, output: &Output, transport: &Transport) -> Result<u8, Refusal> {
    let source = image::locate(target)?;
    if let Reference::Engine(name) = &source
        && engine::stays(&source, output)?
    {
        return engine::eject(&source, name, output);
    }
    let read = image::read(source, &output.platform, &transport.client())?;
    let nothing = || Refusal::no(format_args!("{target}: nothing to eject: it holds no shim"));
    let ejected = transform::eject(&read.content)?.ok_or_else(nothing)?;
    let restored = restore(&read, &ejected.content, ejected.base.as_ref())?;
    let is_original =
        restored.is_some() || image::digest(&ejected.content) == ejected.base.as_ref();
    let new = restored.unwrap_or(ejected.content);
    if !is_original {
        let note = match &ejected.base {
            Some(base) => format!(
                "the image {base} that the shim was put into is not there: \
                 this one has its config and layers, and another digest"
            ),
            None if is_list(&read.content) => {
                "a list of Docker's has no place for the digest of what the shim was put into; \
                     attestations do not come back"
                    .into()
            }
            None => {
                "what the shim was put into is not recorded: it has no history, or was built on \
                     an image with the shim; its own layers stay"
                    .into()
            }
        };
        image::say(&format_args!("reuseport: note: {target}: {note}"));
    }
    let destination = destination(&read, output, &new)?;
    let more = json!({"is_original": is_original});
    image::finish(&read, &new, &destination, output, more)
}

/// Whether it is an index of Docker's make, which has no annotations.
fn is_list(content: &Content) -> bool {
    let item = content.item();
    let family = item.and_then(|item| family(item.descriptor.media_type()));
    matches!(content, Content::Index(_)) && family == Some(Family::Docker)
}

/// The image or index that the shim was put into, if the store still has it and
/// it is what this one was made from. `ejected` is it already, as a rule.
fn restore(
    read: &Read,
    ejected: &Content,
    base: Option<&Digest>,
) -> Result<Option<Content>, Refusal> {
    let Some(base) = base.filter(|base| image::digest(ejected) != Some(*base)) else {
        return Ok(None);
    };
    let mut source = read.source.borrow_mut();
    let Some(item) = source.find(base)? else {
        return Ok(None);
    };
    let found = contents::read(source.as_mut(), item)?;
    let is_base = transform::is_base(&found, &read.content)?;
    Ok(is_base.then_some(found))
}

/// Where the result goes.
fn destination(read: &Read, output: &Output, new: &Content) -> Result<Reference, Refusal> {
    image::ejected_to(
        &read.reference,
        read.tag.as_deref(),
        output,
        |destination| {
            let current = store::create(destination, &read.client)?.current()?;
            Ok(current.is_some() && current.as_ref() != image::digest(new))
        },
    )
}

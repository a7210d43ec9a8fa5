//! `reuseport eject`: takes the shim out of an image, or out of manifests.

use clap::Args;
use serde_json::json;

use super::image::{self, Output, Read, Refusal, SUFFIX};
use super::manifest::{self, Files};
use crate::image::contents::{self, Content};
use crate::image::store;
use crate::image::transform;
use crate::image::{Digest, Reference};

/// Take the shim out of an image, or out of Kubernetes manifests
///
/// Gives back the image that the shim was put into, with its digest, where it is
/// still there or can be made again; else the same config and layers. The result is
/// TAG without -reuseport, or what -t names.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    manifests: Files,
    /// The image
    #[arg(value_name = "TARGET", required_unless_present = "files")]
    target: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> u8 {
    eject(arguments).unwrap_or_else(|refusal| refusal.say())
}

fn eject(arguments: &Arguments) -> Result<u8, Refusal> {
    let Arguments {
        output,
        manifests,
        target,
    } = arguments;
    let Some(target) = target else {
        return manifest::eject_files(manifests, output.in_place, output.json);
    };
    let read = image::read(target, &output.platform)?;
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
            None => "it was built on an image with the shim: its own layers stay".into(),
        };
        image::say(&format_args!("reuseport: note: {target}: {note}"));
    }
    let destination = destination(&read, output, &new)?;
    let more = json!({"is_original": is_original});
    image::finish(&read, &new, &destination, output, more)
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
    let source = &read.reference;
    if output.in_place {
        return Ok(source.clone());
    }
    if let Some(tag) = &output.tag {
        return image::named(tag, source);
    }
    let ask = |why: &str| {
        Err(Refusal::fault(format_args!(
            "{source}: {why}: name the result with -t DEST, or give --in-place"
        )))
    };
    let tag = read.tag.as_deref().and_then(|tag| tag.strip_suffix(SUFFIX));
    let Some(tag) = tag.filter(|tag| !tag.is_empty()) else {
        return ask("its tag does not end with -reuseport");
    };
    let destination = source.with_tag(tag);
    let current = store::create(&destination)?.current()?;
    if current.is_some() && current.as_ref() != image::digest(new) {
        return ask(&format!("{destination} is there, and is another image"));
    }
    Ok(destination)
}

//! Putting the shim into all that a reference leads to, and taking it out: pure
//! functions from [`Content`] to [`Content`].

use std::ffi::OsString;

use thiserror::Error;

use super::contents::{Content, Index, Picture};
use super::descriptor::Descriptor;
use super::digest::Digest;
use super::edit::{Change, Image, Malformed, Recorded};
use super::error::Error;
use super::layer::{self, Layer};
use super::platform::Platform;
use crate::rules::Assignments;
use crate::shim::{self, Packed};

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub rules: Assignments,
    /// Keep images for which there is no shim as they are, rather than stop.
    pub skip_unsupported: bool,
    /// The name of what the shim is put into, if others can have it by that.
    pub base_name: Option<String>,
    /// Seconds since 1970: SOURCE_DATE_EPOCH.
    pub time: u64,
}

/// What was done otherwise than one might expect.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum Notice {
    #[error(
        "{0}: an attestation of the image as it was: left out, since it says nothing of the new one"
    )]
    Attestation(Digest),
    #[error("{digest}: {platform}: no shim for it, kept as it was")]
    Skipped { digest: Digest, platform: String },
    #[error("{0}: no image: kept as it was")]
    NoImage(Digest),
}

/// The image `picture` without our layers, and what was recorded.
fn bare(picture: &Picture) -> Result<(Image, Recorded), Error> {
    if picture.ours.is_empty() {
        return Ok((picture.image.clone(), Recorded::default()));
    }
    picture
        .image
        .eject(&picture.ours)
        .map_err(|error| malformed(picture.digest(), &error))
}

fn malformed(digest: &Digest, error: &Malformed) -> Error {
    Error::Malformed {
        store: "the image".into(),
        digest: digest.clone(),
        what: error.to_string(),
    }
}

/// The digest and the name of what the shim is put into, where `picture` may hold
/// one already: that of before then.
fn base_of(picture: &Picture, without: &Image, recorded: &Recorded) -> Digest {
    match &recorded.base {
        Some(base) if recorded.is_direct => base.clone(),
        _ if picture.ours.is_empty() => picture.digest().clone(),
        _ => Digest::of(&without.manifest.to_bytes()),
    }
}

/// The shim for what `picture` runs on.
fn shim_for(picture: &Picture) -> Result<Packed<'static>, Error> {
    let platform = picture.platform();
    let embedded = platform
        .as_ref()
        .and_then(Platform::shim_architecture)
        .map(shim::packed);
    match embedded {
        Some(Ok(shim)) => Ok(shim),
        Some(Err(_)) | None => Err(Error::NoShim {
            digest: picture.digest().clone(),
            platform: platform.map_or_else(|| "no platform".into(), |one| one.to_string()),
        }),
    }
}

/// `content` with the shim in each of its images. `first` gives the libraries that
/// must be loaded before it.
///
/// # Errors
/// There is no shim for one of them, or it is malformed.
pub fn inject(
    content: &Content,
    request: &Request,
    first: &dyn Fn(&Picture) -> Vec<OsString>,
    notices: &mut Vec<Notice>,
) -> Result<Content, Error> {
    match content {
        Content::Image(picture) => match inject_image(picture, request, &first(picture)) {
            Err(Error::NoShim { digest, platform }) if request.skip_unsupported => {
                notices.push(Notice::Skipped { digest, platform });
                Ok(content.clone())
            }
            other => Ok(Content::Image(Box::new(other?))),
        },
        Content::Index(index) => {
            let base = index_base(index);
            let mut tree = index.document.tree.clone();
            let mut name = request.base_name.clone();
            if holds_shim(content) {
                name = super::edit::disannotate(&mut tree).1.or(name);
            }
            let index = index.with(tree, index.children.clone());
            let mut index = index.rebuild(|child| match &child {
                Content::Attestation(descriptor) => {
                    notices.push(Notice::Attestation(descriptor.digest().clone()));
                    Ok(None)
                }
                child => inject(child, request, first, notices).map(Some),
            })?;
            if super::edit::is_oci(&index.document.tree) {
                let mut tree = index.document.tree.clone();
                super::edit::annotate(&mut tree, &base, name.as_deref());
                index = index.with(tree, index.children.clone());
            }
            Ok(Content::Index(index))
        }
        Content::Other(item, _) => {
            notices.push(Notice::NoImage(item.descriptor.digest().clone()));
            Ok(content.clone())
        }
        Content::Attestation(_) => Ok(content.clone()),
    }
}

fn inject_image(
    picture: &Picture,
    request: &Request,
    first: &[OsString],
) -> Result<Picture, Error> {
    let shim = shim_for(picture)?;
    let (image, recorded) = bare(picture)?;
    let base = base_of(picture, &image, &recorded);
    let (family, compression) = image.top_layer();
    let layer = layer::build(shim, family, compression, request.time);
    let name = recorded.base_name.as_deref();
    let change = Change {
        rules: &request.rules,
        layer: &layer,
        base: &base,
        base_name: name.or(request.base_name.as_deref()),
        first,
        time: request.time,
    };
    let new = image
        .inject(&change)
        .map_err(|error| malformed(picture.digest(), &error))?;
    Ok(Picture::new(new, &picture.item.descriptor, Some(layer)))
}

/// Whether one of the images holds a shim of ours.
pub fn holds_shim(content: &Content) -> bool {
    content.images().iter().any(|one| !one.ours.is_empty())
}

/// The digest of the index that the shim was, or is to be, put into.
fn index_base(index: &Index) -> Digest {
    let mut tree = index.document.tree.clone();
    let recorded = if index.children.iter().any(holds_shim) {
        super::edit::disannotate(&mut tree).0
    } else {
        None
    };
    recorded.unwrap_or_else(|| index.item.descriptor.digest().clone())
}

/// What taking the shim out gives.
#[derive(Clone, Debug)]
pub struct Ejected {
    /// The same without our layers, variables and entries.
    pub content: Content,
    /// The digest of what the shim was put into, where it is recorded.
    pub base: Option<Digest>,
}

/// `content` without the shim; `None` where it holds none.
///
/// # Errors
/// One of the images is malformed.
pub fn eject(content: &Content) -> Result<Option<Ejected>, Error> {
    if !holds_shim(content) {
        return Ok(None);
    }
    let (content, base) = match content {
        Content::Image(picture) => {
            let (image, recorded) = bare(picture)?;
            let old = &picture.item.descriptor;
            (
                Content::Image(Box::new(Picture::new(image, old, None))),
                recorded.base.filter(|_| recorded.is_direct),
            )
        }
        Content::Index(index) => {
            let mut tree = index.document.tree.clone();
            let (base, _) = super::edit::disannotate(&mut tree);
            let index = index.with(tree, index.children.clone());
            let index = index.rebuild(|child| {
                let ejected = eject(&child)?;
                Ok(Some(ejected.map_or(child, |ejected| ejected.content)))
            })?;
            (Content::Index(index), base)
        }
        other => (other.clone(), None),
    };
    Ok(Some(Ejected { content, base }))
}

/// Whether `base` with the shim put in, by what `injected` records, is `injected`:
/// only then may it be given back in its place.
///
/// # Errors
/// One of the images is malformed.
pub fn is_base(base: &Content, injected: &Content) -> Result<bool, Error> {
    let again = again(base, injected)?;
    let digest = |content: &Content| Some(content.item()?.descriptor.digest().clone());
    Ok(again.is_some_and(|again| digest(&again) == digest(injected)))
}

fn again(base: &Content, injected: &Content) -> Result<Option<Content>, Error> {
    match (base, injected) {
        (Content::Image(base), Content::Image(injected)) if injected.ours.is_empty() => {
            Ok((base.digest() == injected.digest()).then(|| Content::Image(base.clone())))
        }
        (Content::Image(base), Content::Image(injected)) => {
            let [place] = injected.ours[..] else {
                return Ok(None);
            };
            let (_, recorded) = bare(injected)?;
            let wrong = |error: Malformed| malformed(injected.digest(), &error);
            let layers = injected.image.layers().map_err(wrong)?;
            let diff_ids = injected.image.diff_ids().map_err(wrong)?;
            let layer = Layer {
                descriptor: layers[place].clone(),
                diff_id: diff_ids[place].clone(),
                content: Vec::new(),
            };
            let change = Change {
                rules: &recorded.rules,
                layer: &layer,
                base: base.digest(),
                base_name: recorded.base_name.as_deref(),
                first: &recorded.first,
                time: recorded.time(),
            };
            let image = base.image.inject(&change).map_err(wrong)?;
            let old: &Descriptor = &base.item.descriptor;
            Ok(Some(Content::Image(Box::new(Picture::new(
                image, old, None,
            )))))
        }
        (Content::Index(base), Content::Index(injected)) => {
            let mut rest = injected.children.iter();
            let mut fits = true;
            let mut index = base.rebuild(|child| {
                if matches!(child, Content::Attestation(_)) {
                    return Ok(None);
                }
                let Some(other) = rest.next() else {
                    fits = false;
                    return Ok(None);
                };
                if let Content::Other(..) = child {
                    return Ok(Some(child));
                }
                let new = again(&child, other)?;
                fits &= new.is_some();
                Ok(new)
            })?;
            if !fits || rest.next().is_some() {
                return Ok(None);
            }
            if super::edit::is_oci(&index.document.tree) {
                let mut tree = injected.document.tree.clone();
                let (_, name) = super::edit::disannotate(&mut tree);
                let mut tree = index.document.tree.clone();
                let digest = base.item.descriptor.digest();
                super::edit::annotate(&mut tree, digest, name.as_deref());
                index = index.with(tree, index.children.clone());
            }
            Ok(Some(Content::Index(index)))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::image::descriptor::media_type;
    use crate::image::json::Document;
    use crate::image::store::Item;
    use crate::rules::Variable;

    fn image(config: &str, annotations: &Value) -> Content {
        let layers: Vec<Value> = (0..2_u8)
            .map(|n| {
                let name = format!("{}+gzip", media_type::OCI_LAYER);
                Descriptor::of(&name, &[n]).to_value()
            })
            .collect();
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": Descriptor::of(media_type::OCI_CONFIG, config.as_bytes()).to_value(),
            "layers": layers,
            "made-up": {"z": 1, "a": 2},
        });
        if !annotations.is_null() {
            manifest["annotations"] = annotations.clone();
        }
        let bytes = serde_json::to_vec(&manifest).expect("JSON");
        let manifest = Document::parse(&bytes).expect("JSON");
        let document = Document::parse(config.as_bytes()).expect("JSON");
        Content::Image(Box::new(Picture {
            item: Item {
                descriptor: Descriptor::of(media_type::OCI_MANIFEST, &bytes),
                bytes,
            },
            config: config.into(),
            image: Image::new(manifest, document).expect("an image"),
            ours: Vec::new(),
            new_layer: None,
        }))
    }

    fn config(inner: &str, history: &str) -> String {
        let digest = Digest::of(b"");
        format!(
            r#"{{"architecture":"amd64",{inner}"made-up":[1.50,{{"b":null,"a":12345678901234567890123}}],{history}"os":"linux","rootfs":{{"type":"layers","diff_ids":["{digest}","{digest}"]}}}}"#
        )
    }

    /// What the next reader would find in `content`.
    fn found(content: Content) -> Content {
        match content {
            Content::Image(mut picture) => {
                let count = picture.image.layers().expect("layers").len();
                picture.ours = (2..count).collect();
                Content::Image(picture)
            }
            other => other,
        }
    }

    fn injected(content: &Content, port: &str) -> Content {
        let mut request = Request {
            base_name: Some("localhost/x".into()),
            ..Request::default()
        };
        request.rules.set(Variable::Port, port.into());
        found(inject(content, &request, &|_| Vec::new(), &mut Vec::new()).expect("injected"))
    }

    fn bytes(content: &Content) -> String {
        String::from_utf8(content.item().expect("an item").bytes.clone()).expect("UTF-8")
    }

    #[test]
    fn what_is_put_in_comes_out_to_the_byte() {
        let history =
            r#""history":[{"created_by":"a \u0026\u0026 b"},{"x":1,"empty_layer":true},{}],"#;
        let before = json!({"org.opencontainers.image.base.name": "debian", "b": "c"});
        for inner in [
            "",
            r#""config":null,"#,
            r#""config":{},"#,
            r#""config":{"Env":null},"#,
            r#""config":{"Env":[]},"#,
            r#""config":{"Env":["A=b","LD_PRELOAD=/a.so  /b.so","C=d"],"Healthcheck":{"Test":["NONE"]},"OnBuild":["RUN x"],"ArgsEscaped":true,"Shell":["/bin/bash"],"x":{}},"#,
            r#""config":{"User":"1","Env":["LIBREUSEPORT_PORT=1","LIBREUSEPORT_PORT=2"]},"#,
        ] {
            for annotations in [Value::Null, json!({}), json!({"a": "b"}), before.clone()] {
                let original = image(&config(inner, history), &annotations);
                let once = injected(&original, "80");
                let twice = injected(&injected(&original, "443"), "80");
                assert_eq!(bytes(&once), bytes(&twice), "{inner} {annotations}");
                let ejected = eject(&once).expect("sound").expect("a shim");
                let digest = original.item().map(|item| item.descriptor.digest().clone());
                assert_eq!(ejected.base, digest);
                assert_eq!(bytes(&ejected.content), bytes(&original), "{inner}");
                assert!(is_base(&original, &once).expect("sound"));
                let other = image(&config(r#""x":1,"#, history), &annotations);
                assert!(!is_base(&other, &once).expect("sound"));
                assert!(eject(&original).expect("sound").is_none());
            }
        }
    }

    #[test]
    fn an_image_without_history_keeps_none() {
        for history in ["", r#""history":null,"#, r#""history":[],"#] {
            let original = image(&config("", history), &Value::Null);
            let once = injected(&original, "80");
            let ejected = eject(&once).expect("sound").expect("a shim");
            assert_eq!(bytes(&ejected.content), bytes(&original), "{history}");
        }
    }
}

//! `reuseport inject -f --check`: the images of containers, from the engine or the
//! registry that has them. Each is opened once, and judged once for each way in
//! which it is run.

use std::cell::RefCell;
use std::collections::HashMap;
use std::env::consts::ARCH;
use std::rc::Rc;

use serde_json::Value;

use super::engine;
use super::image::{self, Read, Refusal};
use crate::finding::{Finding, Severity, Verdict};
use crate::image::check::check_as;
use crate::image::contents::Picture;
use crate::image::registry::Client;
use crate::image::{Name, Platform, Reference};
use crate::manifest::{Asked, Images, Seen};
use crate::preload::LD_PRELOAD;
use crate::program::{Code, Judgement};

/// Images that were looked at.
pub(super) struct Looker {
    client: Client,
    opened: RefCell<HashMap<String, Opened>>,
    seen: RefCell<HashMap<Asked, Result<Seen, String>>>,
}

/// An image, or why there is none.
type Opened = Result<Rc<Place>, String>;

/// Where an image is.
enum Place {
    Engine(Name),
    Registry(Box<Read>),
}

impl Looker {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            opened: RefCell::default(),
            seen: RefCell::default(),
        }
    }

    fn open(&self, image: &str) -> Opened {
        if let Some(known) = self.opened.borrow().get(image) {
            return known.clone();
        }
        let opened = find(image, &self.client);
        let opened = opened.map(Rc::new).map_err(|refusal| refusal.message);
        let mut all = self.opened.borrow_mut();
        all.insert(image.to_owned(), opened.clone());
        opened
    }

    fn seen(&self, asked: &Asked) -> Result<Seen, String> {
        let place = self.open(&asked.image)?;
        let seen = match &*place {
            Place::Engine(name) => in_engine(name, asked),
            Place::Registry(read) => in_registry(read, asked),
        };
        seen.map_err(|refusal| refusal.message)
    }
}

impl Images for Looker {
    fn look(&self, asked: &Asked) -> Result<Seen, String> {
        if let Some(known) = self.seen.borrow().get(asked) {
            return known.clone();
        }
        let seen = self.seen(asked);
        let mut all = self.seen.borrow_mut();
        all.insert(asked.clone(), seen.clone());
        seen
    }
}

/// Finds an image by the name that a container gives it. `oci:1` is the image
/// `oci` there, and no transport.
fn find(image: &str, client: &Client) -> Result<Place, Refusal> {
    let Reference::Registry(name) = image::parse(&format!("docker://{image}"))? else {
        return Err(Refusal::fault(format_args!("{image}: this names no image")));
    };
    Ok(match image::whose(name)? {
        Reference::Engine(name) => Place::Engine(name),
        reference => Place::Registry(Box::new(image::read(reference, &[], client)?)),
    })
}

fn in_engine(name: &Name, asked: &Asked) -> Result<Seen, Refusal> {
    let (platform, config, judgement) = engine::look(name, &asked.run)?;
    if platform.os != "linux" {
        let name = format!("docker-daemon:{name}");
        return Err(super::check::not_linux(&name, Some(&platform)));
    }
    if let Some(wanted) = &asked.platform
        && !platform.satisfies(wanted)
    {
        return Err(Refusal::fault(format_args!(
            "docker-daemon:{name} is for {platform}, and the pods run on {wanted}; \
             pull it for that platform, or say another with --arch"
        )));
    }
    let mut seen = Seen::default();
    add(&mut seen, &asked.image, &platform, &judgement, &config);
    Ok(seen)
}

fn in_registry(read: &Read, asked: &Asked) -> Result<Seen, Refusal> {
    let wanted = asked.platform.as_ref();
    let images = read.content.images();
    let is_wanted = |picture: &&Picture| match (picture.platform(), wanted) {
        (Some(platform), Some(wanted)) => platform.satisfies(wanted),
        (Some(platform), None) => platform.os == "linux" && platform.shim_architecture().is_some(),
        (None, _) => true,
    };
    let (chosen, others): (Vec<&Picture>, Vec<&Picture>) = images.into_iter().partition(is_wanted);
    if chosen.is_empty() {
        let there = others.iter().filter_map(|one| one.platform());
        let there: Vec<String> = there.map(|one| one.to_string()).collect();
        let wanted =
            wanted.map_or_else(|| "a platform that has a shim".into(), ToString::to_string);
        return Err(Refusal::fault(format_args!(
            "{}: there is no image for {wanted}; there are {}",
            read.reference,
            there.join(", ")
        )));
    }
    let mut seen = Seen::default();
    for picture in &chosen {
        let checked = check_as(&read.source, picture, &asked.run)?;
        let name = match chosen.as_slice() {
            [_] => asked.image.clone(),
            _ => image::name(&asked.image, picture, &read.content),
        };
        let config = &picture.image.config.tree["config"];
        let platform = picture.platform().or_else(|| wanted.cloned());
        let platform = platform.unwrap_or_else(|| Platform::new("linux", ARCH, None));
        add(&mut seen, &name, &platform, &checked.judgement, config);
    }
    Ok(seen)
}

/// Adds what was found of one image, called `name`, for `platform`.
fn add(seen: &mut Seen, name: &str, platform: &Platform, judgement: &Judgement, config: &Value) {
    if let Some(architecture) = judgement.architecture
        && platform.shim_architecture() != Some(architecture)
    {
        let message = format!(
            "{name}: its program is for {}, and the image for {platform}, whose shim cannot be loaded into it",
            architecture.name
        );
        let code = Code::WrongArch.name();
        seen.findings
            .push(Finding::new(Severity::Error, code, message));
    }
    if judgement.verdict() != Verdict::Works {
        let own = Code::PreloadAlreadySet.name();
        let findings = judgement.findings.iter().filter(|one| one.code != own);
        seen.findings.extend(findings.map(|one| Finding {
            message: format!("{name}: {}", one.message),
            ..one.clone()
        }));
    }
    let variables = config["Env"].as_array().into_iter().flatten();
    let mut variables = variables.filter_map(|one| one.as_str()?.split_once('='));
    let preload = variables.rfind(|(name, _)| *name == LD_PRELOAD);
    seen.preloads
        .push(preload.map(|(_, value)| value.to_owned()));
    let program = judgement.chain.program();
    for runtime in program.map_or_else(Vec::new, |(_, elf)| elf.sanitizers()) {
        if !seen.first.contains(&runtime) {
            seen.first.push(runtime);
        }
    }
}

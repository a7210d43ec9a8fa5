//! The check of an image: what it will run, judged as any program, of which only
//! the files that it takes are read.

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::rc::Rc;

use serde_json::Value;

use super::contents::Picture;
use super::error::Error;
use super::tree::{Shared, Tree};
use crate::finding::Verdict;
use crate::program::{Code, Credentials, Judge, Judgement, Lookup, Root};
use crate::shim::{self, Architecture};

/// What engines set where an image sets no PATH.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A user who is not root and of whom no more is known: finding the number of a
/// name would take reading the layer that holds /etc/passwd.
const SOMEBODY: u32 = 65_534;

/// What was found of an image, and what that took.
#[derive(Debug)]
pub struct Checked {
    pub judgement: Judgement,
    /// The command that it runs.
    pub command: Vec<OsString>,
    /// How many layers were read, and how many bytes of them.
    pub layers: usize,
    pub bytes: u64,
}

impl Checked {
    pub fn verdict(&self) -> Verdict {
        self.judgement.verdict()
    }

    /// The libraries that must be loaded before the shim.
    pub fn first(&self) -> Vec<OsString> {
        let program = self.judgement.chain.program();
        program.map_or_else(Vec::new, |(_, elf)| elf.sanitizers())
    }
}

/// Judges what the image `picture` of `source` will run.
///
/// # Errors
/// A layer cannot be read.
pub fn check(source: &Shared, picture: &Picture) -> Result<Checked, Error> {
    let config = &picture.image.config.tree["config"];
    let command: Vec<OsString> = ["Entrypoint", "Cmd"]
        .iter()
        .filter_map(|name| config[*name].as_array())
        .flatten()
        .filter_map(Value::as_str)
        .map(OsString::from)
        .collect();
    let environment = environment(config);
    let variable = |name: &str| -> Option<&OsStr> {
        let found = environment.iter().rfind(|(one, _)| one == name);
        found.map(|(_, value)| value.as_os_str())
    };
    let malformed = |error: super::edit::Malformed| Error::Malformed {
        store: "the image".into(),
        digest: picture.digest().clone(),
        what: error.to_string(),
    };
    let layers = picture.image.layers().map_err(malformed)?;
    let tree = Rc::new(Tree::new(Rc::clone(source), layers, names(&command)));
    let root = Root::of(Rc::clone(&tree));
    let directory = config["WorkingDir"]
        .as_str()
        .filter(|path| !path.is_empty());
    let lookup = Lookup {
        root: &root,
        path: Some(variable("PATH").unwrap_or(OsStr::new(PATH))),
        directory: Path::new(directory.unwrap_or("/")),
    };
    let judge = Judge::new(lookup, credentials(config), |name| {
        // Ours is no other's.
        variable(name)
            .filter(|value| name != crate::preload::LD_PRELOAD || *value != super::layer::SHIM)
    });
    let has_shim = |architecture: &Architecture| shim::embedded(architecture).is_ok();
    let mut judgement = judge.judge(&command, &has_shim);
    if let Some(error) = tree.take_error() {
        return Err(error);
    }
    if command.is_empty()
        && let Some(finding) = judgement
            .findings
            .iter_mut()
            .find(|one| one.code == Code::NotFound.name())
    {
        "the image has neither Entrypoint nor Cmd: what it runs is not known"
            .clone_into(&mut finding.message);
    }
    let (count, bytes) = tree.effort();
    Ok(Checked {
        judgement,
        command,
        layers: count,
        bytes,
    })
}

/// A source that checks of several images share.
pub fn shared(source: Box<dyn super::store::Source>) -> Shared {
    Rc::new(RefCell::new(source))
}

fn environment(config: &Value) -> Vec<(String, OsString)> {
    let list = config["Env"].as_array().into_iter().flatten();
    let entries = list.filter_map(|entry| entry.as_str()?.split_once('='));
    entries
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect()
}

/// The file names of the words of `command`: scripts may be run by their name
/// though nothing marks them as such.
fn names(command: &[OsString]) -> Vec<Vec<u8>> {
    let words = command
        .iter()
        .filter_map(|word| Path::new(word).file_name());
    words.map(|name| name.as_encoded_bytes().to_vec()).collect()
}

/// Who runs it, by the config's User: `name|uid[:group|gid]`.
fn credentials(config: &Value) -> Credentials {
    let text = config["User"].as_str().unwrap_or_default();
    let (user, group) = text.split_once(':').unwrap_or((text, ""));
    let id = |text: &str, default| match text {
        "" => default,
        "root" => 0,
        text => text.parse().unwrap_or(SOMEBODY),
    };
    let user = id(user, 0);
    Credentials {
        user,
        group: id(group, if user == 0 { 0 } else { SOMEBODY }),
        no_new_privileges: false,
    }
}

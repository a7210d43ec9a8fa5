//! The check of an image: what it will run, judged as any program, of which only
//! the files that it takes are read.
//!
//! Whoever starts a container may say otherwise than the image's config does: [`Run`].

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::rc::Rc;

use serde_json::{Value, json};

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

/// How a container is run, where not as its image's config says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Run {
    /// In the place of the Entrypoint, and then of the Cmd too.
    pub command: Option<Vec<String>>,
    /// In the place of the Cmd.
    pub arguments: Option<Vec<String>>,
    /// Variables that are added to the image's, or take the place of one.
    pub environment: Vec<(String, String)>,
    pub directory: Option<String>,
    pub user: Option<u32>,
    pub group: Option<u32>,
    /// Whether no_new_privs is set, see prctl(2).
    pub no_new_privileges: bool,
}

impl Run {
    /// An image's `config` as it is when run so.
    pub fn of(&self, config: &Value) -> Value {
        let mut config = match config {
            Value::Object(_) => config.clone(),
            _ => json!({}),
        };
        if let Some(command) = &self.command {
            config["Entrypoint"] = command.as_slice().into();
            config["Cmd"] = Value::Null;
        }
        if let Some(arguments) = &self.arguments {
            config["Cmd"] = arguments.as_slice().into();
        }
        if let Some(directory) = &self.directory {
            config["WorkingDir"] = directory.as_str().into();
        }
        if let Some(user) = self.user {
            config["User"] = match self.group {
                Some(group) => format!("{user}:{group}").into(),
                None => user.to_string().into(),
            };
        }
        let entries = self.environment.iter();
        let entries = entries.map(|(name, value)| Value::from(format!("{name}={value}")));
        match &mut config["Env"] {
            // Of several with one name, the last counts.
            Value::Array(present) => present.extend(entries),
            none => *none = entries.collect(),
        }
        config
    }
}

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
    check_as(source, picture, &Run::default())
}

/// Judges what the image `picture` of `source` is when it is run as `run` says.
///
/// # Errors
/// A layer cannot be read.
pub fn check_as(source: &Shared, picture: &Picture, run: &Run) -> Result<Checked, Error> {
    let config = run.of(&picture.image.config.tree["config"]);
    let command = command(&config);
    let malformed = |error: super::edit::Malformed| Error::Malformed {
        store: "the image".into(),
        digest: picture.digest().clone(),
        what: error.to_string(),
    };
    let layers = picture.image.layers().map_err(malformed)?;
    let tree = Rc::new(Tree::new(Rc::clone(source), layers, names(&command)));
    let root = Root::of(Rc::clone(&tree));
    let judgement = judge(&root, &config, run.no_new_privileges);
    drop(root);
    if let Some(error) = tree.take_error() {
        return Err(error);
    }
    let (count, bytes) = tree.effort();
    Ok(Checked {
        judgement,
        command,
        layers: count,
        bytes,
    })
}

/// What an image with this `config` runs.
pub fn command(config: &Value) -> Vec<OsString> {
    ["Entrypoint", "Cmd"]
        .iter()
        .filter_map(|name| config[*name].as_array())
        .flatten()
        .filter_map(Value::as_str)
        .map(OsString::from)
        .collect()
}

/// Judges what an image with this `config` will run, whose files `root` holds.
pub fn judge(root: &Root, config: &Value, no_new_privileges: bool) -> Judgement {
    let command = command(config);
    let environment = environment(config);
    let variable = |name: &str| -> Option<&OsStr> {
        let found = environment.iter().rfind(|(one, _)| one == name);
        found.map(|(_, value)| value.as_os_str())
    };
    let directory = config["WorkingDir"]
        .as_str()
        .filter(|path| !path.is_empty());
    let lookup = Lookup {
        root,
        path: Some(variable("PATH").unwrap_or(OsStr::new(PATH))),
        directory: Path::new(directory.unwrap_or("/")),
    };
    let credentials = Credentials {
        no_new_privileges,
        ..credentials(config)
    };
    let judge = Judge::new(lookup, credentials, |name| {
        // Ours is no other's.
        variable(name)
            .filter(|value| name != crate::preload::LD_PRELOAD || *value != super::layer::SHIM)
    });
    let has_shim = |architecture: &Architecture| shim::embedded(architecture).is_ok();
    let mut judgement = judge.judge(&command, &has_shim);
    if command.is_empty()
        && let Some(finding) = judgement
            .findings
            .iter_mut()
            .find(|one| one.code == Code::NotFound.name())
    {
        "the image has neither Entrypoint nor Cmd: what it runs is not known"
            .clone_into(&mut finding.message);
    }
    judgement
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_says_otherwise_than_its_image() {
        let config = json!({
            "Entrypoint": ["/entry"], "Cmd": ["-a"], "User": "app", "Env": ["A=1", "B=2"]
        });
        let run = |change: fn(&mut Run)| {
            let mut run = Run::default();
            change(&mut run);
            run.of(&config)
        };
        let words = |config: &Value| command(config).join(OsStr::new(" "));
        assert_eq!(words(&run(|_| {})), "/entry -a");
        assert_eq!(
            words(&run(|run| run.arguments = Some(vec!["-b".into()]))),
            "/entry -b"
        );
        // A command takes the image's arguments away.
        let own = run(|run| run.command = Some(vec!["/own".into()]));
        assert_eq!(words(&own), "/own");
        let both = run(|run| {
            run.command = Some(vec!["/own".into()]);
            run.arguments = Some(vec!["-b".into()]);
        });
        assert_eq!(words(&both), "/own -b");
        let somebody = run(|run| {
            run.user = Some(1000);
            run.environment = vec![("A".into(), "3".into())];
        });
        assert_eq!(somebody["User"], "1000");
        assert_eq!(somebody["Env"], json!(["A=1", "B=2", "A=3"]));
        assert_eq!(Run::default().of(&Value::Null)["Env"], json!([]));
    }
}

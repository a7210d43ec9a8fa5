//! `reuseport check`: will the shim work there, and why.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::live::{self, Trial};
use super::report::{
    Options, coloured_for_stdout, escaped_json, findings_json, program_json, write_findings,
    write_verdict,
};
use super::{answer, complain, image, pid, status};
use crate::environment::{self, Environment};
use crate::finding::{Finding, Verdict};
use crate::image::Reference;
use crate::image::check::check;
use crate::program::{Broken, Code, Credentials, Judge, Judgement, Link, Lookup, NotFound, Root};
use crate::shim::{self, Architecture};

/// Say whether the shim will work in a program, and why
///
/// TARGET is a program: a path if it holds a slash, else looked up in PATH. With
/// -- it is a command line, which is followed through wrappers (tini, gosu, env)
/// and scripts to the program that it runs. With --pid it is a running process,
/// whose sockets are asked for the option. With --live the command line is
/// tried: two copies are started under the shim, apart from this machine's
/// network, processes and files, and both must listen and be reached. With a
/// transport (oci:DIR:TAG) it is an image, of which each platform is looked at.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Look at programs of the root file system in this directory
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Print one JSON array, an object a target
    #[arg(long)]
    json: bool,
    /// Print nothing: the exit status is the answer
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,
    /// Exit with 1 where it is uncertain
    #[arg(long)]
    strict: bool,
    /// Look at running processes, and whether their sockets have the option
    #[arg(
        long, value_name = "PID", num_args = 1..,
        conflicts_with_all = ["root", "targets", "command"],
    )]
    pid: Vec<u32>,
    #[command(flatten)]
    live: live::Flags,
    /// The programs
    #[arg(value_name = "TARGET", required_unless_present_any = ["command", "pid"])]
    targets: Vec<OsString>,
    /// A command line, instead of programs
    #[arg(last = true, value_name = "CMD", conflicts_with = "targets")]
    command: Vec<OsString>,
}

/// A target and what was found of it.
struct Answer {
    target: String,
    judgement: Judgement,
    verdict: Verdict,
    findings: Vec<Finding>,
    trial: Option<Trial>,
    /// Of an image: its platform, and how much of it was read.
    image: Option<(Value, String)>,
}

pub(super) fn run(arguments: Arguments) -> u8 {
    let Arguments {
        json,
        quiet,
        strict,
        ..
    } = arguments;
    let live = match arguments.live.options() {
        Ok(live) => live,
        Err(message) => return complain(&message, status::FAULT),
    };
    if !arguments.pid.is_empty() {
        return pid::run(
            &arguments.pid,
            Options {
                json,
                quiet,
                strict,
            },
        );
    }
    let root = match &arguments.root {
        None => Root::host(),
        Some(path) => match Root::new(path) {
            Ok(root) => root,
            Err(error) => {
                return complain(
                    &format_args!("--root: {}: {error}", path.display()),
                    status::FAULT,
                );
            }
        },
    };
    let environment: Environment = env::vars_os().collect();
    let directory = if root.is_host() {
        env::current_dir().unwrap_or_default()
    } else {
        "/".into()
    };
    let judge = judge(&root, &environment, &directory);
    let commands: Vec<Vec<OsString>> = if arguments.command.is_empty() {
        arguments
            .targets
            .iter()
            .map(|target| vec![target.clone()])
            .collect()
    } else {
        vec![arguments.command.clone()]
    };
    let has_shim = |architecture: &Architecture| shim::embedded(architecture).is_ok();
    let mut answers: Vec<Answer> = Vec::new();
    let mut unread = status::DONE;
    for command in &commands {
        let target = command.join(OsStr::new(" ")).to_string_lossy().into_owned();
        if arguments.command.is_empty() && root.is_host() && Reference::has_transport(&target) {
            match image_answers(&target) {
                Ok(of_image) => answers.extend(of_image),
                Err(refusal) => unread = unread.max(refusal.say()),
            }
            continue;
        }
        let mut judgement = judge.judge(command, &has_shim);
        suggest(&mut judgement, &root, &environment);
        answers.push(Answer {
            target,
            verdict: judgement.verdict(),
            findings: judgement.findings.clone(),
            judgement,
            trial: None,
            image: None,
        });
    }
    // Only a command line is tried, of which there is one.
    if let Some(live) = &live {
        for (command, one) in commands.iter().zip(&mut answers) {
            if let Err(message) = one.try_live(command, live, &environment) {
                return complain(&message, status::FAULT);
            }
        }
    }
    let worst = answers.iter().map(|one| one.exit_status(strict));
    let worst = worst.max().unwrap_or(status::DONE).max(unread);
    if quiet {
        return worst;
    }
    let mut text = String::new();
    if json {
        let array: Value = answers.iter().map(Answer::json).collect();
        text = escaped_json(&format!("{array:#}\n"));
    } else {
        for one in &answers {
            one.write(&mut text);
        }
    }
    answer(&coloured_for_stdout(&text)).max(worst)
}

/// What is found of the image `target`, for each platform that it has.
fn image_answers(target: &str) -> Result<Vec<Answer>, image::Refusal> {
    let read = image::read(target, &[])?;
    let mut answers = Vec::new();
    for picture in read.content.images() {
        let checked = check(&read.source, picture)?;
        let effort = image::effort(&checked, picture);
        let facts = json!({
            "platform": picture.platform().map(|one| one.to_string()),
            "read": {"layers": checked.layers, "bytes": checked.bytes},
        });
        answers.push(Answer {
            target: image::name(target, picture, &read.content),
            verdict: checked.verdict(),
            findings: checked.judgement.findings.clone(),
            judgement: checked.judgement,
            trial: None,
            image: Some((facts, effort)),
        });
    }
    Ok(answers)
}

/// Programs of this machine run as who asks, in who asks's environment; those of
/// another root by default as its root user, with its own PATH.
fn judge<'a>(root: &'a Root, environment: &'a Environment, directory: &'a Path) -> Judge<'a> {
    const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let host = |name: &str| environment::get(environment, name);
    if root.is_host() {
        let lookup = Lookup {
            root,
            path: host("PATH"),
            directory,
        };
        return Judge::new(lookup, Credentials::of_this_process(), host);
    }
    let lookup = Lookup {
        root,
        path: Some(OsStr::new(PATH)),
        directory,
    };
    let credentials = Credentials {
        user: 0,
        group: 0,
        no_new_privileges: false,
    };
    Judge::new(lookup, credentials, |_| None)
}

/// Adds names from PATH that are near one that was not found there.
fn suggest(judgement: &mut Judgement, root: &Root, environment: &Environment) {
    const MOST: usize = 3;
    let Some(Broken::NotFound(NotFound::NotInPath(name))) = &judgement.chain.broken else {
        return;
    };
    if !root.is_host() {
        return;
    }
    let name = name.to_string_lossy().into_owned();
    let path = environment::get(environment, "PATH").unwrap_or_default();
    let directories = env::split_paths(path).filter_map(|one| one.read_dir().ok());
    let names = directories
        .flatten()
        .flatten()
        .map(|entry| entry.file_name());
    let distance = |one: &str| strsim::damerau_levenshtein(one, &name);
    let mut near: Vec<(usize, String)> = names
        .map(|one| one.to_string_lossy().into_owned())
        .filter(|one| one.len().abs_diff(name.len()) <= 2)
        .map(|one| (distance(&one), one))
        .filter(|(distance, _)| *distance <= 2)
        .collect();
    near.sort();
    near.dedup();
    let near: Vec<_> = near.into_iter().take(MOST).map(|(_, name)| name).collect();
    if let Some(finding) = judgement
        .findings
        .iter_mut()
        .find(|one| one.code == Code::NotFound.name())
        && !near.is_empty()
    {
        let _ = write!(finding.message, "; did you mean: {}", near.join(", "));
    }
}

impl Answer {
    /// Tries the command, unless it is known that it cannot be started.
    fn try_live(
        &mut self,
        command: &[OsString],
        options: &live::Options,
        environment: &Environment,
    ) -> Result<(), String> {
        if self.is_no_program() || self.judgement.chain.links.is_empty() {
            return Ok(());
        }
        let trial = live::try_command(command, &self.judgement, options, environment)?;
        (self.verdict, self.findings) = trial.merge(&self.judgement);
        self.trial = Some(trial);
        Ok(())
    }

    fn is_no_program(&self) -> bool {
        let broken = self.judgement.chain.broken.as_ref();
        broken.is_some_and(Broken::is_no_program)
    }

    /// A target that is no program at all is the call's fault.
    fn exit_status(&self, strict: bool) -> u8 {
        match self.verdict {
            _ if self.is_no_program() => status::FAULT,
            Verdict::Works => status::DONE,
            Verdict::Uncertain if strict => status::NO,
            Verdict::Uncertain => status::DONE,
            Verdict::Fails => status::NO,
        }
    }

    fn write(&self, text: &mut String) {
        write_verdict(text, &self.target, self.verdict, "");
        write_findings(text, &self.findings);
        if let Some((_, effort)) = &self.image {
            let _ = writeln!(text, "  {effort}");
        }
        if let Some(trial) = &self.trial {
            trial.write(text);
        }
    }

    /// The object of DESIGN's `check --json`.
    fn json(&self) -> Value {
        let chain = &self.judgement.chain;
        let program = chain.links.first().map(|(path, link)| match link {
            Link::Script(interpreter) => json!({
                "path": path.to_string_lossy(),
                "kind": "script",
                "arch": null,
                "libc": null,
                "interpreter": interpreter.path.to_string_lossy(),
            }),
            Link::Wrapper(elf) | Link::Program(elf) => program_json(path, Some(elf)),
        });
        let mut object = json!({
            "target": self.target,
            "verdict": self.verdict.name(),
            "program": program,
            "chain": chain.links.iter().map(|(path, _)| path.to_string_lossy()).collect::<Vec<_>>(),
            "findings": findings_json(&self.findings),
        });
        if let (Some((Value::Object(facts), _)), Some(all)) = (&self.image, object.as_object_mut())
        {
            all.extend(facts.clone());
        }
        if let Some(trial) = &self.trial {
            object["live"] = trial.json();
        }
        object
    }
}

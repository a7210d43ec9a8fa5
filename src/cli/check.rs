//! `reuseport check`: will the shim work there, and why.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use anstream::{AutoStream, ColorChoice};
use clap::Args;
use serde_json::{Value, json};

use super::{answer, complain, status};
use crate::environment::{self, Environment};
use crate::program::{
    Broken, Code, Credentials, Finding, Judge, Judgement, Libc, Link, Linkage, Lookup, Root,
    Severity, Verdict,
};
use crate::shim::{self, Architecture};

/// Say whether the shim will work in a program, and why
///
/// TARGET is a program: a path if it holds a slash, else looked up in PATH. With
/// -- it is a command line, which is followed through wrappers (tini, gosu, env)
/// and scripts to the program that it runs.
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
    /// The programs
    #[arg(value_name = "TARGET", required_unless_present = "command")]
    targets: Vec<OsString>,
    /// A command line, instead of programs
    #[arg(last = true, value_name = "CMD", conflicts_with = "targets")]
    command: Vec<OsString>,
}

/// A target and what was found of it.
struct Answer {
    target: String,
    judgement: Judgement,
}

pub(super) fn run(arguments: &Arguments) -> u8 {
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
    let answers = commands.iter().map(|command| {
        let mut judgement = judge.judge(command, &has_shim);
        suggest(&mut judgement, &root, &environment);
        Answer {
            target: command.join(OsStr::new(" ")).to_string_lossy().into_owned(),
            judgement,
        }
    });
    let answers: Vec<Answer> = answers.collect();
    let worst = answers
        .iter()
        .map(|one| exit_status(&one.judgement, arguments.strict))
        .max();
    let printed = if arguments.quiet {
        status::DONE
    } else if arguments.json {
        let array = Value::Array(answers.iter().map(Answer::json).collect());
        answer(format!("{array:#}\n").as_bytes())
    } else {
        answer(&answers.iter().flat_map(Answer::text).collect::<Vec<u8>>())
    };
    worst.unwrap_or(status::DONE).max(printed)
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

/// DESIGN's statuses: a target that is no program at all is the call's fault.
fn exit_status(judgement: &Judgement, strict: bool) -> u8 {
    const NO: u8 = 1;
    let is_fault = judgement.findings.iter().any(|finding| {
        finding.severity == Severity::Error
            && matches!(
                finding.code,
                Code::NotFound | Code::Unreadable | Code::Damaged | Code::NotElf | Code::NotAFile
            )
    });
    match judgement.verdict() {
        _ if is_fault => status::FAULT,
        Verdict::Works => status::DONE,
        Verdict::Uncertain if strict => NO,
        Verdict::Uncertain => status::DONE,
        Verdict::Fails => NO,
    }
}

/// Adds names from PATH that are near one that was not found there.
fn suggest(judgement: &mut Judgement, root: &Root, environment: &Environment) {
    const MOST: usize = 3;
    let Some(Broken::NotFound(crate::program::NotFound::NotInPath(name))) = &judgement.chain.broken
    else {
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
        .find(|one| one.code == Code::NotFound)
        && !near.is_empty()
    {
        let _ = write!(finding.message, "; did you mean: {}", near.join(", "));
    }
}

impl Answer {
    fn text(&self) -> Vec<u8> {
        let mut text = String::new();
        let (reset, bold) = ("\x1b[0m", "\x1b[1m");
        let verdict = self.judgement.verdict();
        let colour = match verdict {
            Verdict::Works => "\x1b[32m",
            Verdict::Uncertain => "\x1b[33m",
            Verdict::Fails => "\x1b[31m",
        };
        let target = printable(&self.target);
        let _ = writeln!(
            text,
            "{bold}{target}{reset}: {colour}{}{reset}",
            verdict.name()
        );
        for Finding {
            code,
            severity,
            message,
            hint,
        } in &self.judgement.findings
        {
            let (severity, code, message) = (severity.name(), code.name(), printable(message));
            let _ = writeln!(text, "  {severity}: {code}: {message}");
            if !hint.is_empty() {
                let _ = writeln!(text, "    {hint}");
            }
        }
        coloured_for_stdout(&text)
    }

    /// The object of DESIGN's `check --json`.
    fn json(&self) -> Value {
        let chain = &self.judgement.chain;
        let program = chain.links.first().map_or(Value::Null, |(path, link)| {
            let path = path.to_string_lossy();
            let elf = match link {
                Link::Script(interpreter) => {
                    let interpreter = interpreter.path.to_string_lossy();
                    return json!({
                        "path": path, "kind": "script", "arch": null, "libc": null,
                        "interpreter": interpreter,
                    });
                }
                Link::Wrapper(elf) | Link::Program(elf) => elf,
            };
            let (kind, interpreter) = match &elf.linkage {
                Linkage::Dynamic(interpreter) => ("dynamic", Some(interpreter.to_string_lossy())),
                Linkage::Static => ("static", None),
                Linkage::StaticPie => ("static-pie", None),
                Linkage::Library => ("library", None),
                Linkage::Other => ("other", None),
            };
            let known = shim::ARCHITECTURES
                .iter()
                .find(|one| one.elf_machine == elf.machine);
            json!({
                "path": path,
                "kind": kind,
                "arch": known.map_or_else(|| format!("elf-{}", elf.machine), |one| one.name.into()),
                "libc": Libc::of(elf).map(Libc::name),
                "interpreter": interpreter,
            })
        });
        let findings = self.judgement.findings.iter().map(|finding| {
            json!({
                "code": finding.code.name(),
                "severity": finding.severity.name(),
                "message": finding.message,
                "hint": finding.hint,
            })
        });
        json!({
            "target": self.target,
            "verdict": self.judgement.verdict().name(),
            "program": program,
            "chain": chain.links.iter().map(|(path, _)| path.to_string_lossy()).collect::<Vec<_>>(),
            "findings": findings.collect::<Vec<_>>(),
        })
    }
}

/// Text from files and arguments, without what could change a terminal's state.
fn printable(text: &str) -> String {
    let plain = |c: char| {
        if c.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    text.chars().map(plain).collect()
}

/// `text` with its colours where standard output is a terminal that wants them,
/// see NO_COLOR.
fn coloured_for_stdout(text: &str) -> Vec<u8> {
    use std::io::Write;

    if AutoStream::choice(&std::io::stdout()) != ColorChoice::Never {
        return text.as_bytes().to_vec();
    }
    let mut plain = AutoStream::never(Vec::new());
    let _ = plain.write_all(text.as_bytes());
    plain.into_inner()
}

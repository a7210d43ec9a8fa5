//! `reuseport inject -f` and `eject -f`: Kubernetes manifests from files, a
//! directory or standard input.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, value_parser};
use serde_json::{Value, json};
use similar::TextDiff;

use super::image::Refusal;
use super::look::Looker;
use super::report::{coloured_for_stdout, escaped, escaped_json};
use super::{answer, status};
use crate::finding::Severity;
use crate::image::registry::Client;
use crate::manifest::{
    self, Advice, Compose, Delivery, Error, Fault, Injection, Outcome, ShardProbes, Shards, Source,
    TemplatePath, is_subdomain, join,
};
use crate::replace::replace;
use crate::rules::Assignments;
use crate::shim::{self, Architecture};

/// What is read, and where the result goes.
#[derive(Args, Debug)]
#[command(next_help_heading = "Manifests")]
pub(super) struct Files {
    /// Kubernetes manifests instead of an image: a file, a directory, or - for
    /// standard input; the result is printed
    #[arg(
        id = "files", short = 'f', long = "file", value_name = "FILE",
        conflicts_with_all = ["target", "tag", "platform", "dry_run", "digest_file"],
    )]
    paths: Vec<PathBuf>,
    /// Directories with all that is below them
    #[arg(short = 'R', long, requires = "files", conflicts_with_all = ["target", "unit"])]
    recursive: bool,
    /// Only this workload; may be given again
    #[arg(long = "workload", value_name = "KIND/NAME", requires = "files", conflicts_with_all = ["target", "unit"], value_parser = workload)]
    workloads: Vec<String>,
    /// Only this service of a Compose file; may be given again
    #[arg(long = "service", value_name = "NAME", requires = "files", conflicts_with_all = ["target", "unit"])]
    services: Vec<String>,
    /// Where a kind of object holds its pod template
    #[arg(
        long = "template-path", value_name = "KIND=.spec.path", requires = "files", conflicts_with_all = ["target", "unit"],
        value_parser = TemplatePath::parse,
    )]
    templates: Vec<TemplatePath>,
    /// Print what would change as a unified diff
    #[arg(long, requires = "files", conflicts_with_all = ["in_place", "target", "unit"])]
    diff: bool,
}

/// How the shim gets into manifests.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[derive(Args, Debug)]
pub(super) struct Flags {
    #[command(flatten)]
    files: Files,
    /// Only this container, also an init container or a sidecar; may be given again
    #[arg(long = "container", value_name = "NAME", requires = "files", conflicts_with_all = ["target", "unit"])]
    containers: Vec<String>,
    /// How the file gets into pods: configmap, image=REF, init=REF or host=PATH
    /// [default: configmap]
    #[arg(
        long, value_name = "HOW", requires = "files", conflicts_with_all = ["target", "unit"],
        value_parser = Delivery::parse,
    )]
    delivery: Option<Delivery>,
    /// The ConfigMap of this name, which is there already
    #[arg(long, value_name = "NAME", requires = "files", conflicts_with_all = ["target", "unit"], value_parser = object_name)]
    configmap: Option<String>,
    /// The architecture of nodes that pods are not pinned to
    #[arg(long, value_name = "ARCH", requires = "files", conflicts_with_all = ["target", "unit"], value_parser = shim::architecture)]
    arch: Option<&'static Architecture>,
    /// Look into each container's image, as the engine or the registry has it:
    /// refuse where the shim would not act, and join an LD_PRELOAD of the image
    #[arg(long, requires = "files", conflicts_with_all = ["target", "unit"])]
    check: bool,
    /// Make services of a Compose file fit to share ports among their containers: on
    /// the host's network, without ports and container_name
    #[arg(long, requires = "files", conflicts_with_all = ["target", "unit"])]
    scale_ready: bool,
    /// Make DaemonSets and Deployments on the host's network fit for updates in
    /// which the new pod starts before the old one stops
    #[arg(long, requires = "files", conflicts_with_all = ["target", "unit"])]
    surge_ready: bool,
    /// Run N copies of the container in each pod, which share its port
    #[arg(long, value_name = "N", requires = "files", conflicts_with_all = ["target", "unit"], value_parser = value_parser!(u16).range(2..=256))]
    shards: Option<u16>,
    /// Give each copy its part of the container's resources, and not all of them
    #[arg(long, requires = "shards", conflicts_with_all = ["target", "unit"])]
    split_resources: bool,
    /// What becomes of probes that call a port: first (the copies have none) or
    /// exec=CMD (each copy runs CMD instead)
    #[arg(
        long, value_name = "HOW", requires = "shards", conflicts_with_all = ["target", "unit"], value_parser = ShardProbes::parse,
    )]
    shard_probes: Option<ShardProbes>,
}

/// How manifests are treated, with the flags that images have as well.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(super) struct Manner {
    pub(super) in_place: bool,
    pub(super) json: bool,
    /// Whether the shim goes where it would not act.
    pub(super) force: bool,
    /// Whether images are looked into.
    looks: bool,
}

impl Manner {
    pub(super) fn new(in_place: bool, json: bool, force: bool) -> Self {
        Self {
            in_place,
            json,
            force,
            looks: false,
        }
    }
}

fn workload(text: &str) -> Result<String, String> {
    match text.split_once('/') {
        Some((kind, name)) if !kind.is_empty() && !name.is_empty() => Ok(text.to_owned()),
        _ => Err("expected KIND/NAME, as in Deployment/web".into()),
    }
}

fn object_name(text: &str) -> Result<String, String> {
    if is_subdomain(text) {
        Ok(text.to_owned())
    } else {
        Err("a ConfigMap's name is made of a-z, 0-9, - and dots".into())
    }
}

/// `reuseport inject -f`.
pub(super) fn inject_files(
    flags: Flags,
    rules: Assignments,
    mut manner: Manner,
    client: impl FnOnce() -> Client,
) -> Result<u8, Refusal> {
    manner.looks = flags.check;
    if manner.force && !flags.check {
        return Err(Refusal::fault("--force goes with --check alone"));
    }
    let is_configmap = matches!(flags.delivery, Some(Delivery::ConfigMap(_)));
    let images = flags.check.then(|| Looker::new(client()));
    let (files, options) = injection(flags, rules, manner.in_place)?;
    files.edit(&manner, "put into", |sources| {
        let outcome = match &images {
            Some(images) => manifest::inject_looking(sources, &options, images),
            None => manifest::inject(sources, &options),
        }?;
        if is_configmap && outcome.has_compose && !outcome.has_pods {
            return Err(Fault::HostOnly.into());
        }
        Ok(outcome)
    })
}

/// What flags ask for.
pub(super) fn injection(
    flags: Flags,
    rules: Assignments,
    in_place: bool,
) -> Result<(Files, Injection), Refusal> {
    let delivery = match (flags.configmap, flags.delivery) {
        (None, delivery) => delivery.unwrap_or(Delivery::ConfigMap(None)),
        (Some(name), None | Some(Delivery::ConfigMap(_))) => Delivery::ConfigMap(Some(name)),
        (Some(_), _) => {
            return Err(Refusal::fault(
                "--configmap goes with --delivery configmap alone",
            ));
        }
    };
    let shards = flags.shards.map(|count| Shards {
        count: count.into(),
        split_resources: flags.split_resources,
        probes: flags.shard_probes,
    });
    let files = flags.files;
    let options = Injection {
        rules,
        delivery,
        containers: flags.containers,
        workloads: files.workloads.clone(),
        templates: files.templates.clone(),
        architecture: flags.arch,
        apart: in_place,
        compose: Compose {
            services: files.services.clone(),
            scale_ready: flags.scale_ready,
        },
        surge_ready: flags.surge_ready,
        shards,
    };
    Ok((files, options))
}

/// `reuseport eject -f`.
pub(super) fn eject_files(files: &Files, in_place: bool, json: bool) -> Result<u8, Refusal> {
    let manner = Manner::new(in_place, json, false);
    files.edit(&manner, "taken out of", |sources| {
        let compose = Compose {
            services: files.services.clone(),
            scale_ready: false,
        };
        manifest::eject(sources, &files.workloads, &files.templates, &compose)
    })
}

impl Files {
    fn edit(
        &self,
        manner: &Manner,
        what: &str,
        edit: impl FnOnce(&[Source]) -> Result<Outcome, Error>,
    ) -> Result<u8, Refusal> {
        let Manner {
            in_place,
            json,
            force,
            ..
        } = *manner;
        let paths = self.paths(in_place)?;
        let sources = paths.iter().map(|path| read(path));
        let sources: Vec<Source> = sources.collect::<Result<_, _>>()?;
        let outcome = edit(&sources).map_err(Refusal::fault)?;
        if outcome.has_compose && manner.looks {
            return Err(Refusal::fault(
                "--check looks into the images of Kubernetes manifests alone; for those of a Compose file: \
                 reuseport check IMAGE",
            ));
        }
        if outcome.has_compose && sources.len() > 1 && !in_place && !self.diff {
            return Err(Refusal::fault(
                "several Compose files are no stream of documents: give --in-place, or one after another",
            ));
        }
        let mut said = io::stderr().lock();
        // Where standard error is closed, the result is still what was asked for.
        let _ = said.write_all(told(&outcome, json, what).as_bytes());
        let failed = failed(&outcome.advice);
        if !failed.is_empty() && !force {
            return Err(Refusal::no(format_args!(
                "{}: the shim would not act there; --force puts it in all the same, \
                 and --container and --workload choose others",
                failed.join(", ")
            )));
        }
        if self.diff {
            return Ok(answer(&coloured_for_stdout(&diff(
                &sources,
                &outcome.texts,
            ))));
        }
        if !in_place {
            return Ok(answer(join(&outcome.texts).as_bytes()));
        }
        for ((path, source), text) in paths.iter().zip(&sources).zip(&outcome.texts) {
            if source.text != *text {
                replace(path, text.as_bytes(), 0o644).map_err(|error| fault(path, &error))?;
            }
        }
        Ok(status::DONE)
    }

    /// The files that are spoken of, those of a directory in the order of their
    /// names.
    fn paths(&self, in_place: bool) -> Result<Vec<PathBuf>, Refusal> {
        let mut paths = Vec::new();
        for path in &self.paths {
            if is_input(path) {
                if in_place {
                    return Err(Refusal::fault("--in-place: standard input has no place"));
                }
                paths.push(path.clone());
            } else if path.is_dir() {
                let before = paths.len();
                walk(path, self.recursive, &mut paths)?;
                if paths.len() == before {
                    return Err(Refusal::fault(format_args!(
                        "{}: no .yaml, .yml or .json file is in this directory; -R looks below it too",
                        path.display()
                    )));
                }
            } else {
                paths.push(path.clone());
            }
        }
        Ok(paths)
    }
}

fn fault(path: &Path, error: &dyn std::fmt::Display) -> Refusal {
    Refusal::fault(format_args!("{}: {error}", path.display()))
}

fn is_input(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn walk(directory: &Path, recursive: bool, paths: &mut Vec<PathBuf>) -> Result<(), Refusal> {
    let entries = fs::read_dir(directory).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut entries = entries.map_err(|error| fault(directory, &error))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        // A link to a directory may lead back here.
        let kind = entry.file_type().map_err(|error| fault(&path, &error))?;
        if kind.is_dir() {
            if recursive {
                walk(&path, recursive, paths)?;
            }
            continue;
        }
        let extension = path.extension().and_then(OsStr::to_str);
        if matches!(extension, Some("yaml" | "yml" | "json")) && path.is_file() {
            paths.push(path);
        }
    }
    Ok(())
}

pub(super) fn read(path: &Path) -> Result<Source, Refusal> {
    let mut bytes = Vec::new();
    let (name, outcome) = if is_input(path) {
        let outcome = io::stdin().lock().read_to_end(&mut bytes).map(drop);
        ("standard input".into(), outcome)
    } else {
        let outcome = fs::read(path).map(|content| bytes = content);
        (path.display().to_string(), outcome)
    };
    outcome.map_err(|error| fault(path, &error))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = String::from_utf8_lossy(valid).matches('\n').count() + 1;
        Refusal::fault(format_args!("{name}:{line}: this is no UTF-8 text"))
    })?;
    Ok(Source { name, text })
}

/// The containers in which the shim would not act.
fn failed(advice: &[Advice]) -> Vec<String> {
    let errors = advice
        .iter()
        .filter(|one| one.finding.severity == Severity::Error);
    let mut names: Vec<String> = errors
        .map(|one| match &one.container {
            Some(container) => format!("{}, container {container}", one.workload),
            None => one.workload.clone(),
        })
        .collect();
    names.dedup();
    names
}

/// The codes of what was changed beside the shim: each is said.
const CHANGES: [&str; 2] = ["surge-ready", "shards"];

/// What is said of an outcome, on standard error: the result is on the other.
fn told(outcome: &Outcome, is_json: bool, what: &str) -> String {
    if is_json {
        let list: Value = outcome.advice.iter().map(object).collect();
        return format!("{}\n", escaped_json(&format!("{list:#}")));
    }
    let mut text = String::new();
    // One that is true of many workloads is said once.
    let mut again: HashMap<(&str, &str), usize> = HashMap::new();
    for advice in &outcome.advice {
        let key = (advice.finding.code, advice.finding.message.as_str());
        *again.entry(key).or_default() += 1;
    }
    for advice in &outcome.advice {
        let key = (advice.finding.code, advice.finding.message.as_str());
        let count = if CHANGES.contains(&advice.finding.code) {
            1
        } else if let Some(count) = again.remove(&key) {
            count
        } else {
            continue;
        };
        let more = match count {
            1 => String::new(),
            _ => format!(" (and {} more like it)", count - 1),
        };
        let Advice {
            at,
            workload,
            finding,
            ..
        } = advice;
        let place = format!("{}:{}: {workload}", at.file, at.line);
        let _ = writeln!(
            text,
            "{}: {}: {}: {}{more}",
            escaped(&place),
            finding.severity.name(),
            finding.code,
            escaped(&finding.message),
        );
        if let Some(hint) = &finding.hint {
            let _ = writeln!(text, "  {}", escaped(hint));
        }
    }
    if outcome.workloads == 0 {
        text.push_str("reuseport: note: there is no workload in the input; it stays as it is\n");
    } else if outcome.changed == 0 {
        let _ = writeln!(
            text,
            "reuseport: note: the shim was {what} none of the {} in the input",
            if outcome.has_compose {
                "services"
            } else {
                "workloads"
            }
        );
    }
    text
}

fn object(advice: &Advice) -> Value {
    let Advice {
        at,
        workload,
        container,
        finding,
    } = advice;
    json!({
        "file": at.file,
        "document": at.document,
        "line": at.line,
        "workload": workload,
        "container": container,
        "code": finding.code,
        "severity": finding.severity.name(),
        "message": finding.message,
        "hint": finding.hint,
    })
}

/// What changes, as a unified diff in colour.
fn diff(sources: &[Source], texts: &[String]) -> String {
    let mut coloured = String::new();
    for (source, text) in sources.iter().zip(texts) {
        if source.text == *text {
            continue;
        }
        let name = escaped(&source.name);
        let diff = TextDiff::from_lines(source.text.as_str(), text.as_str());
        let plain = diff.unified_diff().header(&name, &name).to_string();
        for line in plain.split_inclusive('\n') {
            let (line, end) = match line.strip_suffix('\n') {
                Some(line) => (line, "\n"),
                None => (line, ""),
            };
            let colour = match line.as_bytes() {
                [b'+', b'+', b'+', ..] | [b'-', b'-', b'-', ..] => "\x1b[1m",
                [b'+', ..] => "\x1b[32m",
                [b'-', ..] => "\x1b[31m",
                [b'@', ..] => "\x1b[36m",
                _ => {
                    let _ = write!(coloured, "{line}{end}");
                    continue;
                }
            };
            let _ = write!(coloured, "{colour}{line}\x1b[0m{end}");
        }
    }
    coloured
}

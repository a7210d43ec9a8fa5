//! Whether the shim will act in a unit's program: the program itself, who runs
//! it, what becomes of the variables, and what systemd puts between it and the
//! shim.

use std::ffi::OsStr;
use std::path::Path;

use super::Error;
use super::command::{self, Command};
use super::environment::{Environment, files};
use super::load::{Setting, Unit};
use super::sandbox::{self, NAME_INSTANCE};
use super::specifier::expand;
use super::variables::keep_variables;
use crate::finding::{Finding, Severity, Verdict as Answer};
use crate::program::{Judge, Judgement, Lookup, Root, Shims};

/// What is found of a unit.
#[derive(Debug)]
pub struct Verdict {
    /// What is found of each command, in order.
    pub commands: Vec<Judgement>,
    /// What is found of the settings.
    pub findings: Vec<Finding>,
}

/// The directories in which systemd looks for a program with no slash.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Judges `unit` of `root`; the shim lies at `shim`.
///
/// # Errors
/// It has no ExecStart=, or one that systemd would not take.
pub fn judge(unit: &Unit, root: &Root, shim: &Path, shims: Shims<'_>) -> Result<Verdict, Error> {
    let files = files(unit, root);
    let environment = Environment::of(unit).effective(unit, &files);
    let commands = command::commands(unit, &environment)?;
    let mut findings = Vec::new();
    if !commands.iter().all(|one| one.is_unconfined) {
        findings.extend(sandbox::judge(unit, root, shim));
    }
    keep_variables(unit, shim, &files, &mut findings);
    note_sockets(unit, root, &mut findings);
    let mut judgements = Vec::new();
    for one in commands {
        let (judgement, more) = judge_command(unit, root, &environment, &one, shims);
        judgements.extend(judgement);
        let who = one.credentials(unit, root);
        let more = more.into_iter().chain(sandbox::judge_user(who, root, shim));
        for finding in more {
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
    }
    if let Some((path, _)) = judgements.iter().find_map(|one| one.chain.program()) {
        findings.extend(sandbox::judge_profile(root, path, shim));
    }
    Ok(Verdict {
        commands: judgements,
        findings,
    })
}

/// Judges one command; none where its program is not known.
fn judge_command(
    unit: &Unit,
    root: &Root,
    environment: &Environment,
    command: &Command<'_>,
    shims: Shims<'_>,
) -> (Option<Judgement>, Vec<Finding>) {
    let warning = |what: &str| {
        let mut finding = error("unknown-specifier", command.setting, what, NAME_INSTANCE);
        finding.severity = Severity::Warning;
        finding
    };
    if let Some(unknown) = &command.unknown_program {
        let what = format!("depends on {}: what it starts is not known", unknown.0);
        return (None, vec![warning(&what)]);
    }
    let mut findings = Vec::new();
    let own;
    let root = match unit.value("RootDirectory") {
        Some(setting) if setting.line.value != "/" => {
            let Ok(path) = expand(unit, &setting.line.value) else {
                let what = "depends on a specifier: what is started is not known";
                return (None, vec![warning(what)]);
            };
            own = root
                .pinned(Path::new(&path))
                .and_then(|pinned| Root::new(&pinned.path));
            if let Err(why) = &own {
                let what = format!("cannot be looked into: {why}");
                let hint = "make that directory";
                findings.push(error("unit-root", setting, &what, hint));
            }
            own.as_ref().unwrap_or(root)
        }
        _ => root,
    };
    let directory = unit.text("WorkingDirectory").and_then(Result::ok);
    let directory = directory.map_or("/".into(), |one| one.trim_start_matches('-').to_owned());
    let search = unit.words("ExecSearchPath");
    let search: Vec<&str> = search.iter().map(|(word, _)| word.as_str()).collect();
    let search = if search.is_empty() {
        PATH.to_owned()
    } else {
        search.join(":")
    };
    let mut lookup = Lookup {
        root,
        path: Some(OsStr::new(&search)),
        directory: Path::new(&directory),
    };
    let mut words = command.words.clone();
    // What scripts start is looked for in PATH, but not the program itself.
    if let Some(first) = words.first_mut()
        && let Ok(found) = lookup.find(first)
    {
        *first = found.into_os_string();
        let path = environment.get("PATH").map(OsStr::new);
        lookup.path = path.or(lookup.path);
    }
    let variable = |name: &str| environment.get(name).map(AsRef::as_ref);
    let who = command.credentials(unit, root);
    let mut judgement = Judge::new(lookup, who, variable).judge(&words, shims);
    if let Some(unknown) = &command.unknown_argument
        && judgement.chain.links.len() > 1
        && judgement.verdict() == Answer::Fails
    {
        // The wrapper or script may lead elsewhere.
        let what = format!(
            "depends on {}: what it starts in the end is not known",
            unknown.0
        );
        findings.push(warning(&what));
        judgement.chain.broken = None;
        judgement
            .findings
            .retain(|one| one.severity != Severity::Error);
    }
    (Some(judgement), findings)
}

pub(super) fn error(code: &'static str, setting: &Setting, what: &str, hint: &str) -> Finding {
    let Setting { path, line } = setting;
    let message = format!(
        "{}:{}: {}={} {what}",
        path.display(),
        line.number,
        line.key,
        line.value
    );
    Finding::new(Severity::Error, code, message).hint(hint)
}

/// Sockets that systemd binds and passes are out of the shim's reach.
fn note_sockets(unit: &Unit, root: &Root, findings: &mut Vec<Finding>) {
    let stem = unit.name.strip_suffix(".service").unwrap_or(&unit.name);
    let own = format!("{stem}.socket");
    let directories = [
        "/etc/systemd/system",
        "/usr/lib/systemd/system",
        "/lib/systemd/system",
    ];
    let is_there = directories
        .iter()
        .any(|directory| root.canonical(&Path::new(directory).join(&own)).is_ok());
    let named = unit.value("Sockets").map(|one| one.line.value.clone());
    if let Some(sockets) = named.or(is_there.then_some(own)) {
        let message = format!("systemd binds what {sockets} lists, and passes it on");
        findings.push(
            Finding::new(Severity::Note, "socket-activated", message)
                .hint("where that unit is in use: ReusePort=yes in it"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DROP_IN, Paths};
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// A system with the unit `name`, which has these lines in `[Service]`.
    fn system(name: &str, lines: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("a directory");
        for (path, text) in [
            (
                format!("etc/systemd/system/{name}"),
                format!("[Service]\n{lines}\n"),
            ),
            ("etc/passwd".into(), "web:x:33:33::/:\n".into()),
            ("etc/default/plain".into(), "A=1\n".into()),
            ("etc/default/rules".into(), "LIBREUSEPORT_PORT=81\n".into()),
            (
                "etc/default/jemalloc".into(),
                "\nLD_PRELOAD='/x.so'\n".into(),
            ),
            (
                "etc/default/ours".into(),
                format!("LD_PRELOAD=/x.so:{SHIM}\n"),
            ),
            (
                "srv/root/opt/reuseport/libreuseport.so".into(),
                String::new(),
            ),
            ("opt/reuseport/libreuseport.so".into(), String::new()),
            ("usr/libexec/tool".into(), "#!/none\n".into()),
        ] {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(&path, text).expect("written");
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode");
        }
        symlink("opt", directory.path().join("link")).expect("a link");
        directory
    }

    const SHIM: &str = "/opt/reuseport/libreuseport.so";

    fn verdict(directory: &Path, name: &str) -> Verdict {
        let root = Root::new(directory).expect("a root");
        let unit = Unit::read(&root, &Paths::system(), name, DROP_IN).expect("a unit");
        judge(&unit, &root, Path::new(SHIM), &|_| true).expect("a verdict")
    }

    /// The codes of what is found of a unit with these lines in `[Service]`.
    fn codes(lines: &str) -> Vec<&'static str> {
        let directory = system("a.service", &format!("ExecStart=/bin/server\n{lines}"));
        let verdict = verdict(directory.path(), "a");
        verdict.findings.iter().map(|one| one.code).collect()
    }

    #[test]
    fn what_hides_the_shim_is_found() {
        for (lines, code) in [
            ("RootImage=/srv/image", "unit-root"),
            ("RootDirectory=/etc", "unit-root"),
            ("InaccessiblePaths=-/opt", "shim-hidden"),
            (
                "InaccessiblePaths=/opt\nBindPaths=/opt/reuseport",
                "shim-hidden",
            ),
            ("InaccessibleDirectories=/link", "shim-hidden"),
            ("TemporaryFileSystem=/opt:ro", "shim-hidden"),
            (
                "TemporaryFileSystem=/opt/reuseport\nBindPaths=/opt",
                "shim-hidden",
            ),
            ("MountImages=/srv/image:/opt", "shim-hidden"),
            ("NoExecPaths=/\nExecPaths=/bin /usr", "shim-noexec"),
            ("NoExecPaths=/link/reuseport\nExecPaths=/opt", "shim-noexec"),
            ("UnsetEnvironment=A LD_PRELOAD", "scrubbed-environment"),
            ("BindReadOnlyPaths=/srv/empty:/opt", "shim-hidden"),
            ("SystemCallFilter=bind listen", "syscall-filter"),
            (
                "SystemCallFilter=~@clock setsockopt:EPERM",
                "syscall-filter",
            ),
            (
                "SystemCallFilter=@system-service\nSystemCallFilter=~getsockopt",
                "syscall-filter",
            ),
            ("AppArmorProfile=-web", "confined"),
            ("SELinuxContext=system_u:system_r:web_t:s0", "confined"),
        ] {
            assert_eq!(codes(lines), [code], "{lines}");
        }
    }

    #[test]
    fn what_does_not_hide_it_is_not() {
        for lines in [
            "RootDirectory=/srv/root",
            "RootDirectory=/etc\nBindReadOnlyPaths=/opt/reuseport",
            "InaccessiblePaths=/opt/other\nProtectHome=yes\nPrivateTmp=yes\nPrivateUsers=yes",
            "TemporaryFileSystem=/opt\nTemporaryFileSystem=",
            "TemporaryFileSystem=/opt\nBindReadOnlyPaths=/opt/reuseport",
            "NoExecPaths=/\nExecPaths=/opt/reuseport",
            "ExecPaths=/bin\nProtectSystem=strict\nMemoryDenyWriteExecute=yes",
            "UnsetEnvironment=LD_PRELOAD\nUnsetEnvironment=",
            "UnsetEnvironment=LD_PRELOAD=/x.so",
            "SystemCallFilter=@system-service\nSystemCallFilter=~@privileged",
            "SystemCallFilter=~@clock @mount",
            "AppArmorProfile=unconfined",
            "ExecStart=\nExecStart=+/bin/server\nInaccessiblePaths=/opt",
            "User=web\nDynamicUser=yes\nAmbientCapabilities=CAP_NET_BIND_SERVICE",
        ] {
            assert_eq!(codes(lines), [""; 0], "{lines}");
        }
    }

    #[test]
    fn the_home_and_temporary_directories_hide_what_lies_there() {
        let directory = system(
            "a.service",
            "ExecStart=/bin/a\nProtectHome=tmpfs\nPrivateTmp=yes",
        );
        let root = Root::new(directory.path()).expect("a root");
        let unit = Unit::read(&root, &Paths::system(), "a", DROP_IN).expect("a unit");
        for shim in [
            "/home/me/libreuseport.so",
            "/root/x/libreuseport.so",
            "/tmp/libreuseport.so",
        ] {
            let verdict = judge(&unit, &root, Path::new(shim), &|_| true).expect("a verdict");
            assert_eq!(verdict.findings[0].code, "shim-hidden", "{shim}");
        }
    }

    #[test]
    fn files_with_variables_win_over_ours() {
        for (lines, expected) in [
            ("EnvironmentFile=/etc/default/plain", &[][..]),
            ("EnvironmentFile=-/etc/default/none", &[]),
            ("EnvironmentFile=/etc/default/ours", &[]),
            (
                "EnvironmentFile=/etc/default/jemalloc",
                &["preload-overridden"],
            ),
            ("EnvironmentFile=-/etc/default/r*", &["rule-overridden"]),
            (
                "EnvironmentFile=/etc/default/[jr]*",
                &["preload-overridden", "rule-overridden"],
            ),
            ("EnvironmentFile=/etc/default/rules\nEnvironmentFile=", &[]),
            ("EnvironmentFile=/etc/%H", &["unknown-specifier"]),
            ("UnsetEnvironment=LIBREUSEPORT_PORT", &["rule-overridden"]),
            ("PassEnvironment=A LD_PRELOAD", &["preload-already-set"]),
        ] {
            assert_eq!(codes(lines), expected, "{lines}");
        }
    }

    #[test]
    fn drop_ins_that_come_later_win_over_ours() {
        for (line, expected) in [
            ("Environment=LD_PRELOAD=/x.so", &["preload-overridden"][..]),
            ("Environment=", &["preload-overridden"]),
            ("Environment=LIBREUSEPORT_PORT=1", &["rule-overridden"]),
            ("Environment=A=b", &[]),
        ] {
            let directory = system("a.service", "ExecStart=/bin/server");
            let path = directory
                .path()
                .join("etc/systemd/system/service.d/60-x.conf");
            fs::create_dir(path.parent().expect("a parent")).expect("made");
            fs::write(path, format!("[Service]\n{line}\n")).expect("written");
            let codes = verdict(directory.path(), "a").findings.into_iter();
            let codes: Vec<_> = codes.map(|one| one.code).collect();
            assert_eq!(codes, expected, "{line}");
        }
    }

    #[test]
    fn a_user_who_cannot_read_the_shim_is_found() {
        for user in ["User=web", "DynamicUser=yes", "User=1000"] {
            let directory = system("a.service", &format!("ExecStart=/bin/a\n{user}"));
            let closed = directory.path().join("opt/reuseport");
            fs::set_permissions(closed, fs::Permissions::from_mode(0o700)).expect("a mode");
            let verdict = verdict(directory.path(), "a");
            assert_eq!(verdict.findings[0].code, "shim-unreadable", "{user}");
        }
    }

    #[test]
    fn a_template_whose_program_depends_on_its_instance_is_uncertain() {
        let directory = system("a@.service", "ExecStart=/usr/libexec/%i");
        let of_template = verdict(directory.path(), "a@");
        assert!(of_template.commands.is_empty());
        assert_eq!(of_template.findings[0].code, "unknown-specifier");
        assert_eq!(of_template.findings[0].severity, Severity::Warning);
        let of_instance = verdict(directory.path(), "a@tool");
        let code = of_instance.commands[0].findings[0].code;
        assert_eq!(code, "missing-interpreter");
    }

    #[test]
    fn programs_are_looked_for_where_the_unit_says() {
        let lines = "ExecSearchPath=/usr/libexec\nExecStart=tool";
        let directory = system("a.service", lines);
        let verdict = verdict(directory.path(), "a");
        let (path, _) = &verdict.commands[0].chain.links[0];
        assert_eq!(path, Path::new("/usr/libexec/tool"));
    }
}

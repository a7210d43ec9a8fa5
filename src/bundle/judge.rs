//! Whether the shim will act in a bundle's program: the program under the root and
//! the mounts, and what the runtime puts between it and the shim.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::rc::Rc;

use rustix::fs::StatVfsMountFlags;
use serde_json::Value;

use super::view::View;
use super::{Bundle, Error, edit, seccomp};
use crate::finding::{Finding, Severity};
use crate::image::edit::environment;
use crate::image::layer::{SHIM, SHIM_DIRECTORY};
use crate::mount;
use crate::program::{Code, Credentials, FileCapabilities, Judge, Judgement, Lookup, Root, Shims};

/// What is found of a bundle.
#[derive(Debug)]
pub struct Verdict {
    /// What is found of its program.
    pub program: Judgement,
    /// What is found of its settings.
    pub findings: Vec<Finding>,
}

/// `process.capabilities`, as far as the loader's secure mode depends on it: see
/// capabilities(7), "Transformation of capabilities during execve()".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Capabilities {
    bounding: u64,
    inheritable: u64,
}

impl Capabilities {
    /// `None` where the bundle does not say.
    fn of(process: &Value) -> Option<Self> {
        let capabilities = process["capabilities"].as_object()?;
        let set = |name: &str| {
            let names = capabilities.get(name).and_then(Value::as_array);
            let bits = names.into_iter().flatten().filter_map(|one| {
                let one = one.as_str()?;
                NAMES
                    .iter()
                    .position(|name| one.strip_prefix("CAP_") == Some(name))
            });
            bits.fold(0, |all, bit| all | 1 << bit)
        };
        Some(Self {
            bounding: set("bounding"),
            inheritable: set("inheritable"),
        })
    }

    /// Whether a program with `file` starts with more rights than who starts it.
    pub(super) fn are_raised_by(self, file: &FileCapabilities) -> bool {
        let gained = file.permitted & self.bounding | file.inheritable & self.inheritable;
        file.is_effective || gained != 0
    }
}

/// By number, see <linux/capability.h>.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

impl Bundle {
    /// Judges the program that the bundle runs, under its root and mounts and as
    /// its user.
    ///
    /// # Errors
    /// The root file system cannot be opened, or there is no program.
    pub fn judge(&self, has_shim: Shims<'_>) -> Result<Verdict, Error> {
        let (base, _) = edit::eject(self.config.tree());
        let process = &base["process"];
        let text = base["root"]["path"].as_str().unwrap_or_default();
        // A relative path starts at the bundle.
        let bundle = self.path.parent().unwrap_or(Path::new("."));
        let path = bundle.join(text);
        Root::new(&path).map_err(|source| Error::Root {
            path: self.path.clone(),
            root: path.clone(),
            source,
        })?;
        let capabilities = Capabilities::of(process);
        let view = Rc::new(View::new(bundle, path.clone(), &base, capabilities));
        let root = Root::of(Rc::clone(&view));
        let list = process["env"].as_array().cloned().unwrap_or_default();
        let variable = |name: &str| environment::get(&list, name).map(OsStr::new);
        let lookup = Lookup {
            root: &root,
            path: variable("PATH"),
            directory: Path::new(process["cwd"].as_str().unwrap_or("/")),
        };
        let id = |name: &str| {
            let id = process["user"][name].as_u64();
            id.and_then(|id| u32::try_from(id).ok()).unwrap_or(0)
        };
        let credentials = Credentials {
            user: id("uid"),
            group: id("gid"),
            no_new_privileges: process["noNewPrivileges"].as_bool().unwrap_or(false),
        };
        let words = process["args"].as_array().into_iter().flatten();
        let command: Vec<OsString> = words.filter_map(Value::as_str).map(Into::into).collect();
        if command.is_empty() {
            return Err(Error::Shape {
                path: self.path.clone(),
                what: "process.args is empty: there is no program",
            });
        }
        let mut program = Judge::new(lookup, credentials, variable).judge(&command, has_shim);
        let mut findings = see_settings(&base, &path);
        if let Some(what) = view.unknown() {
            let absent = [Code::NotFound, Code::MissingInterpreter].map(Code::name);
            let is_absent = |one: &Finding| absent.contains(&one.code);
            if program.findings.iter().any(is_absent) {
                // It may be there, all the same.
                program.chain.broken = None;
                program.findings.retain(|one| !is_absent(one));
            }
            let message = format!("what the program finds there is not known: {what}");
            findings.push(Finding::new(Severity::Warning, "unknown-mount", message));
        }
        Ok(Verdict { program, findings })
    }
}

/// What the runtime puts between the program and the shim.
fn see_settings(config: &Value, root: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |severity, code, message: String, hint: String| {
        findings.push(Finding::new(severity, code, message).hint(hint));
    };
    let masked = config["linux"]["maskedPaths"].as_array();
    let mut masked = masked.into_iter().flatten().filter_map(Value::as_str);
    if let Some(path) = masked.find(|path| Path::new(SHIM).starts_with(path)) {
        let message = format!("linux.maskedPaths hides {SHIM}: {path}");
        let hint = "take it out of that list";
        add(Severity::Error, "shim-hidden", message, hint.into());
    }
    let is_read_only = mount::is(root, StatVfsMountFlags::RDONLY).unwrap_or(false);
    if is_read_only && !root.join(SHIM_DIRECTORY.trim_start_matches('/')).is_dir() {
        let message = format!(
            "{} is read-only, so that the runtime cannot make {SHIM_DIRECTORY} to mount on",
            root.display()
        );
        let hint = format!("make the directory {SHIM_DIRECTORY} in it");
        add(Severity::Error, "no-mount-point", message, hint);
    }
    let profile = config["process"]["apparmorProfile"].as_str();
    let profile = profile.filter(|profile| {
        // Those that engines give to all containers let files be mapped.
        let usual = [
            "docker-default",
            "cri-containerd.apparmor.d",
            "crio-default",
            "unconfined",
        ];
        !profile.is_empty()
            && !usual.contains(profile)
            && !profile.starts_with("containers-default-")
    });
    if let Some(profile) = profile {
        let message =
            format!("the AppArmor profile {profile} decides whether {SHIM} may be mapped");
        let hint = format!("allow it there: {SHIM} mr,");
        add(Severity::Warning, "confined", message, hint);
    }
    let label = config["process"]["selinuxLabel"].as_str();
    if let Some(label) = label.filter(|label| !label.is_empty()) {
        let message = format!("SELinux decides whether {label} may map the shim");
        let hint = "give the shim's directory on the host a label that it may: chcon -R -t container_file_t";
        add(Severity::Note, "confined", message, hint.into());
    }
    findings.extend(seccomp::judge(&config["linux"]["seccomp"]));
    findings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn codes(config: &Value) -> Vec<(&'static str, Severity)> {
        let findings = see_settings(config, Path::new("/"));
        findings
            .iter()
            .map(|one| (one.code, one.severity))
            .collect()
    }

    #[test]
    fn what_keeps_the_shim_away_is_found() {
        let profile = |rule: Value, default: &str| json!({"linux": {"seccomp": {"defaultAction": default, "syscalls": [rule]}}});
        let names = json!(["bind", "setsockopt", "getsockopt"]);
        let allow = json!({"names": names, "action": "SCMP_ACT_ALLOW"});
        let deny = json!({"names": ["getsockopt"], "action": "SCMP_ACT_ERRNO"});
        let error = Severity::Error;
        for (config, expected) in [
            (json!({}), None),
            (json!({"linux": {"maskedPaths": ["/proc/kcore"]}}), None),
            (
                json!({"linux": {"maskedPaths": ["/.reuseport"]}}),
                Some(("shim-hidden", error)),
            ),
            (profile(allow.clone(), "SCMP_ACT_ERRNO"), None),
            (profile(allow, "SCMP_ACT_ALLOW"), None),
            (
                profile(deny.clone(), "SCMP_ACT_ALLOW"),
                Some(("syscall-filter", error)),
            ),
            (
                profile(deny, "SCMP_ACT_KILL"),
                Some(("syscall-filter", error)),
            ),
            (
                json!({"process": {"apparmorProfile": "containers-default-0.50.1"}}),
                None,
            ),
            (
                json!({"process": {"apparmorProfile": "mine"}}),
                Some(("confined", Severity::Warning)),
            ),
            (
                json!({"process": {"selinuxLabel": "u:r:container_t:s0"}}),
                Some(("confined", Severity::Note)),
            ),
        ] {
            let expected: Vec<_> = expected.into_iter().collect();
            assert_eq!(codes(&config), expected, "{config}");
        }
    }

    #[test]
    fn capabilities_raise_rights_only_where_they_can_be_had() {
        const BIND: u64 = 1 << 10;
        let file = |permitted, inheritable, is_effective| FileCapabilities {
            permitted,
            inheritable,
            is_effective,
        };
        let has = json!({"capabilities": {"bounding": ["CAP_KILL", "CAP_NET_BIND_SERVICE"]}});
        let none = json!({"capabilities": {"bounding": []}});
        let inherits = json!({"capabilities": {"inheritable": ["CAP_NET_BIND_SERVICE"]}});
        for (process, file, expected) in [
            (&has, file(BIND, 0, false), true),
            (&none, file(BIND, 0, false), false),
            (&none, file(BIND, 0, true), true),
            (&inherits, file(0, BIND, false), true),
            (&has, file(0, BIND, false), false),
        ] {
            let process = Capabilities::of(process).expect("capabilities");
            assert_eq!(process.are_raised_by(&file), expected, "{file:?}");
        }
        assert_eq!(Capabilities::of(&json!({})), None);
    }
}

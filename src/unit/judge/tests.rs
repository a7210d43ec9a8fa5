//! The findings of units in a system that each test makes.

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
        ("RootDirectory=/srv/none", "unit-root"),
        (
            "RootDirectory=/srv/root\nInaccessiblePaths=/srv/root/opt",
            "shim-hidden",
        ),
        (
            "RootDirectory=/srv/root\nInaccessiblePaths=-+/opt",
            "shim-hidden",
        ),
        (
            "ExecStart=\nExecStart=+/bin/server\nRootDirectory=/etc",
            "unit-root",
        ),
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
        "RootDirectory=/srv/root\nInaccessiblePaths=/opt",
        "BindReadOnlyPaths=-/srv/none:/opt",
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
fn sessions_may_win_over_ours() {
    for (lines, text, expected) in [
        ("PAMName=login", "", None),
        ("User=web\nPAMName=login", "", Some(Severity::Note)),
        (
            "User=web\nPAMName=login",
            "A=1\nLD_PRELOAD=\"/x.so\"\n",
            Some(Severity::Warning),
        ),
        (
            "User=web\nPAMName=login",
            "LD_PRELOAD=/opt/reuseport/libreuseport.so\n",
            Some(Severity::Note),
        ),
    ] {
        let directory = system("a.service", &format!("ExecStart=/bin/server\n{lines}"));
        fs::write(directory.path().join("etc/environment"), text).expect("written");
        let findings = verdict(directory.path(), "a").findings;
        let found: Vec<_> = findings.iter().map(|one| one.severity).collect();
        assert_eq!(found, Vec::from_iter(expected), "{lines} {text}");
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
fn the_shim_is_judged_where_the_unit_sees_it() {
    const BOUND: &str = "BindReadOnlyPaths=/srv/root/opt/reuseport:/opt/reuseport";
    let both = format!("TemporaryFileSystem=/opt\n{BOUND}");
    // What is closed to others, and what the unit says: who may read the shim.
    for (closed, lines, is_readable) in [
        ("opt", "", false),
        ("opt", "RootDirectory=/srv/root", true),
        ("srv", "RootDirectory=/srv/root", true),
        ("srv/root/opt/reuseport", "RootDirectory=/srv/root", false),
        ("srv/root/opt/reuseport", "RootDirectory=/srv/none", true),
        ("srv/root/opt", "", true),
        ("opt", BOUND, false),
        ("opt/reuseport", BOUND, true),
        ("srv/root/opt", BOUND, true),
        ("srv/root/opt/reuseport", BOUND, false),
        ("opt", &both, true),
        ("opt", "ExecStart=\nExecStart=!/bin/a", true),
        (
            "opt",
            "AmbientCapabilities=CAP_KILL cap_dac_read_search",
            true,
        ),
        ("opt", "AmbientCapabilities=CAP_KILL", false),
        ("opt", "AmbientCapabilities=~CAP_DAC_OVERRIDE", true),
        (
            "opt",
            "AmbientCapabilities=CAP_KILL CAP_DAC_OVERRIDE\nAmbientCapabilities=~CAP_DAC_OVERRIDE",
            false,
        ),
    ] {
        let lines = format!("ExecStart=/bin/a\nUser=web\n{lines}");
        let directory = system("a.service", &lines);
        let path = directory.path().join(closed);
        fs::set_permissions(path, fs::Permissions::from_mode(0o750)).expect("a mode");
        let verdict = verdict(directory.path(), "a");
        let found = verdict.findings.iter();
        let found = found.filter(|one| one.code == "shim-unreadable").count();
        assert_eq!(found == 0, is_readable, "{closed} {lines}");
    }
}

#[test]
fn a_link_to_the_shim_opens_nothing() {
    let directory = system("a.service", "ExecStart=/bin/a\nUser=web");
    let at = |path: &str| directory.path().join(path);
    fs::rename(at("opt/reuseport"), at("srv/reuseport")).expect("moved");
    symlink("../srv/reuseport", at("opt/reuseport")).expect("a link");
    assert_eq!(verdict(directory.path(), "a").findings, []);
    fs::set_permissions(at("srv"), fs::Permissions::from_mode(0o700)).expect("a mode");
    let findings = verdict(directory.path(), "a").findings;
    assert_eq!(findings[0].code, "shim-unreadable");
    assert!(findings[0].message.starts_with("/srv cannot be entered"));
}

#[test]
fn root_without_its_capabilities_reads_no_more_than_others() {
    let closed = |lines: &str| {
        let directory = system("a.service", lines);
        let way = directory.path().join("opt/reuseport");
        fs::set_permissions(&way, fs::Permissions::from_mode(0o700)).expect("ours");
        let verdict = verdict(directory.path(), "a");
        let mut codes = verdict.findings.iter().map(|one| one.code);
        codes.any(|code| code == "shim-unreadable")
    };
    // The directory is this test's own user's, who may be root.
    let start = "ExecStart=/bin/true\nUser=nobody\n";
    assert!(closed(start));
    assert!(!closed(&format!(
        "{start}AmbientCapabilities=CAP_DAC_OVERRIDE\n"
    )));
    assert!(closed(&format!(
        "{start}AmbientCapabilities=CAP_DAC_OVERRIDE\nCapabilityBoundingSet=CAP_NET_BIND_SERVICE\n"
    )));
}

#[test]
fn a_shim_that_is_mounted_as_a_file_is_seen() {
    let lines = "ExecStart=/bin/true\nTemporaryFileSystem=/opt\n\
                 BindReadOnlyPaths=/srv/lib.so:/opt/reuseport/libreuseport.so\n";
    let directory = system("a.service", lines);
    let shim = directory.path().join("opt/reuseport/libreuseport.so");
    fs::create_dir_all(directory.path().join("srv")).expect("a directory");
    fs::copy(shim, directory.path().join("srv/lib.so")).expect("a copy");
    let verdict = verdict(directory.path(), "a");
    let codes: Vec<_> = verdict.findings.iter().map(|one| one.code).collect();
    assert!(!codes.contains(&"shim-hidden"), "{codes:?}");
}

#[test]
fn groups_open_the_shim_to_their_members() {
    use std::os::unix::fs::MetadataExt;
    let directory = system("a.service", "ExecStart=/bin/a\nUser=web");
    let at = |path: &str| directory.path().join(path);
    let closed = at("opt/reuseport");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o750)).expect("a mode");
    let findings = || verdict(directory.path(), "a").findings.len();
    assert_eq!(findings(), 1);
    let group = closed.metadata().expect("it").gid();
    let line = format!("shim:x:{group}:db,web\n");
    fs::write(at("etc/group"), line).expect("written");
    assert_eq!(findings(), 0);
    fs::write(at("etc/group"), format!("shim:x:{group}:\n")).expect("written");
    assert_eq!(findings(), 1);
    let unit = at("etc/systemd/system/a.service");
    let lines = "[Service]\nExecStart=/bin/a\nUser=web\nSupplementaryGroups=shim\n";
    fs::write(unit, lines).expect("written");
    assert_eq!(findings(), 0);
}

#[test]
fn users_are_those_of_the_system_and_not_of_the_root_of_the_unit() {
    let lines = "RootDirectory=/srv/root\nUser=web\nExecStart=/bin/a";
    let directory = system("a.service", lines);
    let at = |path: &str| directory.path().join(path);
    fs::create_dir_all(at("srv/root/etc")).expect("made");
    fs::write(at("srv/root/etc/passwd"), "web:x:0:0::/:\n").expect("written");
    let closed = at("srv/root/opt/reuseport");
    fs::set_permissions(closed, fs::Permissions::from_mode(0o700)).expect("a mode");
    let findings = verdict(directory.path(), "a").findings;
    let codes: Vec<_> = findings.iter().map(|one| one.code).collect();
    assert_eq!(codes, ["shim-unreadable"]);
    assert!(findings[0].message.contains("by the user 33"));
}

#[test]
fn what_cannot_be_looked_into_leaves_it_open() {
    let lines = "RootImage=/srv/image\nBindReadOnlyPaths=/opt/reuseport\nExecStart=/bin/a";
    let directory = system("a.service", lines);
    let verdict = verdict(directory.path(), "a");
    assert!(verdict.commands.is_empty());
    let findings = verdict.findings.iter();
    let findings: Vec<_> = findings.map(|one| (one.code, one.severity)).collect();
    assert_eq!(findings, [("unit-root", Severity::Warning)]);
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

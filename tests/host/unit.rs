//! systemd units.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::support::{command, is_root, output, reuseport, run, skip};

const UNITS: &str = "usr/lib/systemd/system";
const SHIM: &str = "/opt/reuseport/libreuseport.so";

/// A system with the unit files of this machine's packages.
struct System(TempDir);

impl System {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let units = directory.path().join(UNITS);
        fs::create_dir_all(&units).expect("made");
        output(
            reuseport()
                .arg("install")
                .arg(directory.path().join("opt/reuseport")),
        );
        Self(directory)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    /// Writes the file at `path`.
    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        fs::write(path, text).expect("written");
    }

    fn call(&self, command: &str, arguments: &[&str]) -> crate::support::Outcome {
        let mut call = reuseport();
        call.arg(command)
            .args(arguments)
            .arg("--root")
            .arg(self.0.path());
        run(&mut call)
    }

    /// All files with their content.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut left = vec![self.0.path().to_owned()];
        while let Some(directory) = left.pop() {
            for entry in fs::read_dir(directory).expect("it").flatten() {
                let path = entry.path();
                if entry.file_type().expect("it").is_dir() {
                    left.push(path);
                } else {
                    let content = fs::read(&path).unwrap_or_default();
                    files.insert(path, content);
                }
            }
        }
        files
    }
}

/// The service units that the packages of the tests bring, by package; `kind` is
/// `system` or `user`.
fn debian_units(kind: &str) -> Vec<PathBuf> {
    let packages = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/packages"));
    let packages = packages.expect("a list");
    let packages = packages
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim());
    let outcome = run(command("dpkg-query")
        .arg("--listfiles")
        .args(packages.filter(|name| !name.is_empty())));
    let directory = format!("/systemd/{kind}");
    let is_unit = |path: &&Path| {
        let is_there = path
            .parent()
            .is_some_and(|one| one.to_string_lossy().ends_with(&directory));
        is_there && path.extension().is_some_and(|one| one == "service")
    };
    let mut units: Vec<PathBuf> = outcome
        .stdout
        .lines()
        .map(Path::new)
        .filter(is_unit)
        .map(Path::to_owned)
        .collect();
    units.sort();
    units.dedup();
    units
}

/// What systemd says of all units of a system.
fn verified(system: &System, names: &[String]) -> String {
    let mut verify = command("systemd-analyze");
    verify.args([
        "verify",
        "--man=no",
        "--recursive-errors=no",
        "--generators=no",
    ]);
    verify.env(
        "SYSTEMD_UNIT_PATH",
        format!(
            "{}:{}",
            system.path("etc/systemd/system").display(),
            system.path(UNITS).display()
        ),
    );
    // A template is verified as an instance of it.
    verify.args(names.iter().map(|name| name.replace("@.", "@one.")));
    let outcome = run(&mut verify);
    let mut lines: Vec<_> = outcome.stderr.lines().collect();
    lines.sort_unstable();
    lines.dedup();
    lines.join("\n")
}

#[test]
fn every_unit_of_debian_is_as_it_was_after_eject() {
    let system = System::new();
    let mut names = Vec::new();
    for unit in debian_units("system") {
        let name = unit
            .file_name()
            .and_then(|name| name.to_str())
            .expect("UTF-8");
        let copy = system.path(UNITS).join(name);
        let metadata = fs::symlink_metadata(&unit).expect("a unit");
        if metadata.is_symlink() {
            let target = fs::read_link(&unit).expect("a link");
            std::os::unix::fs::symlink(target, copy).expect("a link");
        } else {
            fs::copy(&unit, copy).expect("a copy");
        }
        names.push(name.to_owned());
    }
    assert!(names.len() > 50, "{} units", names.len());
    // What systemd looks for beside them.
    for entry in fs::read_dir(Path::new("/").join(UNITS))
        .expect("units")
        .flatten()
    {
        let name = entry.file_name().into_string().expect("UTF-8");
        if !name.ends_with(".service") && entry.path().is_file() {
            fs::copy(entry.path(), system.path(UNITS).join(name)).expect("a copy");
        }
    }
    let before = system.files();
    let said = verified(&system, &names);
    let mut injected = Vec::new();
    for name in &names {
        // The programs are not there, and this is not about them.
        let flags = ["--unit", name, "--in-place", "--no-check", "--port", "80"];
        let outcome = system.call("inject", &flags);
        match outcome.status {
            Some(0) => injected.push(PathBuf::from(outcome.stdout.trim_end())),
            _ => assert!(
                outcome.stderr.contains("no ExecStart") || outcome.stderr.contains("is masked"),
                "{name}: {}",
                outcome.stderr
            ),
        }
    }
    injected.sort();
    injected.dedup();
    assert!(injected.len() > 50, "{} units", injected.len());
    let changed = system.files();
    assert_eq!(changed.len(), before.len() + injected.len());
    for (path, content) in &before {
        assert_eq!(changed.get(path), Some(content), "{}", path.display());
    }
    // Systemd finds no fault with them, and reads each of them.
    assert_eq!(verified(&system, &names), said);
    for path in &injected {
        let path = system.path(path.to_str().expect("UTF-8"));
        let text = fs::read_to_string(&path).expect("a drop-in");
        fs::write(&path, format!("{text}Nonsense=1\n")).expect("written");
    }
    let heard = verified(&system, &names);
    for path in &injected {
        let path = system.path(path.to_str().expect("UTF-8"));
        assert!(
            heard.contains(path.to_str().expect("UTF-8")),
            "{}",
            path.display()
        );
    }
    for name in &names {
        let outcome = system.call("eject", &["--unit", name]);
        let is_right =
            matches!(outcome.status, Some(0 | 1)) || outcome.stderr.contains("is masked");
        assert!(is_right, "{name}: {}", outcome.stderr);
    }
    assert!(system.files() == before);
}

#[test]
fn drop_ins_are_those_that_systemd_reads() {
    let system = System::new();
    let units = "/etc/systemd/system";
    system.write(
        &format!("{units}/b-c-d@.service"),
        "[Service]\nExecStart=/bin/true\n",
    );
    let link = |from: &str, to: &str| {
        let from = system.path(units).join(from);
        std::os::unix::fs::symlink(to, from).expect("a link");
    };
    link("al-x@.service", "b-c-d@.service");
    link("z@.service", "al-x@.service");
    let names = [
        "b-c-d@one",
        "b-c-d@two",
        "b-c-d@",
        "b-c-d",
        "b-c-@one",
        "b-c-@",
        "b-c-",
        "b-@one",
        "b-@",
        "b-",
        "b",
        "al-x@one",
        "al-x@two",
        "al-x@",
        "al-@one",
        "al-@",
        "al-",
        "z@one",
        "z@",
    ];
    let kinds: Vec<String> = names.iter().map(|name| format!("{name}.service")).collect();
    let kinds: Vec<&str> = kinds
        .iter()
        .map(String::as_str)
        .chain(["service", "socket"])
        .collect();
    for (number, kind) in kinds.iter().enumerate() {
        let letter = number % 26;
        let text = format!("[Service]\nNonsense=1\nEnvironment=V{letter}=1\n");
        system.write(&format!("{units}/{kind}.d/{number}.conf"), &text);
        // And one of a name that all have: the best of them counts.
        system.write(
            &format!("{units}/{kind}.d/x.conf"),
            "[Service]\nNonsense=2\n",
        );
    }
    let theirs = |name: &str| {
        let heard = verified(&system, &[format!("{name}.service")]);
        let lines = heard
            .lines()
            .filter_map(|line| line.split_once(":2: ")?.0.split_once(units));
        lines.map(|(_, path)| path.to_owned()).collect::<Vec<_>>()
    };
    let ours = |name: &str| {
        let name = name.to_owned();
        let root = reuseport::program::Root::new(system.0.path()).expect("a root");
        let paths = reuseport::unit::Paths::system();
        let unit = reuseport::unit::Unit::read(&root, &paths, &name, "");
        let unit = unit.expect("a unit");
        let files = unit.files().into_iter().filter(|path| *path != unit.path);
        let mut files: Vec<_> = files
            .map(|path| path.to_string_lossy().trim_start_matches(units).to_owned())
            .collect();
        files.sort();
        files
    };
    for name in ["b-c-d@one", "al-x@one", "z@one", "b-c-d@two"] {
        let theirs = theirs(name);
        assert!(theirs.len() > 8, "{theirs:?}");
        assert_eq!(ours(name), theirs, "{name}");
    }
}

#[test]
fn systemd_takes_what_is_written() {
    if !Path::new("/usr/bin/systemd-analyze").exists() {
        return skip(
            "systemd_takes_what_is_written",
            "there is no systemd-analyze",
        );
    }
    let system = System::new();
    system.write(
        "/etc/systemd/system/web@.service",
        "[Service]\nExecStart=/bin/true\nEnvironment=\"A=b c\" LD_PRELOAD=/a.so\n",
    );
    system.write(
        "/etc/systemd/system/web@.service.d/10-x.conf",
        "[Service]\nEnvironment=B=1\n",
    );
    let flags = [
        "--unit",
        "web@",
        "--no-check",
        "--in-place",
        "--program",
        "a\"b%i\\*",
    ];
    let outcome = system.call("inject", &flags);
    assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
    let text =
        fs::read_to_string(system.path("etc/systemd/system/web@.service.d/50-reuseport.conf"));
    let text = text.expect("a drop-in");
    assert!(
        text.contains("\"LD_PRELOAD=/a.so:/opt/reuseport/libreuseport.so\""),
        "{text}"
    );
    assert!(
        text.contains(r#""LIBREUSEPORT_PROGRAM=a\"b%%i\\*""#),
        "{text}"
    );
    // It reads drop-ins beside the unit wherever that lies.
    let unit = system.path("etc/systemd/system/web@.service");
    let instance = unit.with_file_name("web@one.service");
    fs::copy(&unit, &instance).expect("a copy");
    let outcome = run(command("systemd-analyze").arg("verify").arg(&instance));
    let lines = outcome
        .stderr
        .lines()
        .filter(|line| line.contains("50-reuseport"));
    assert_eq!(lines.count(), 0, "{}", outcome.stderr);
}

#[test]
fn what_is_there_is_read_as_systemd_reads_it() {
    let system = System::new();
    system.write(
        &format!("{UNITS}/a.service"),
        "[Service]\nExecStart=/bin/a\nEnvironment=LD_PRELOAD=/one.so\n",
    );
    system.write(
        "/run/systemd/system/a.service.d/20.conf",
        "[Service]\nEnvironment=LD_PRELOAD=/run.so\n",
    );
    system.write(
        "/etc/systemd/system/a.service.d/20.conf",
        "[Service]\nEnvironment=LD_PRELOAD=/etc.so\n",
    );
    let printed = |system: &System| {
        let outcome = system.call("inject", &["--unit", "a", "--no-check"]);
        assert_eq!((outcome.status, outcome.stderr.as_str()), (Some(0), ""));
        outcome.stdout
    };
    // Of two drop-ins with one name, that in /etc counts.
    assert!(printed(&system).contains("LD_PRELOAD=/etc.so:/opt"));
    system.write(
        "/usr/lib/systemd/system/service.d/30.conf",
        "[Service]\nEnvironment=\n",
    );
    assert!(printed(&system).contains("\"LD_PRELOAD=/opt"));
}

#[test]
fn what_makes_the_shim_unreadable_is_refused() {
    let system = System::new();
    system.write(
        "/etc/systemd/system/a.service",
        "[Service]\nExecStart=/bin/a\nInaccessiblePaths=/opt\n",
    );
    let outcome = system.call("inject", &["--unit", "a", "--in-place"]);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (Some(1), ""));
    assert!(
        outcome
            .stderr
            .contains("a.service:3: InaccessiblePaths=/opt hides"),
        "{}",
        outcome.stderr
    );
    let elsewhere = [
        "--unit",
        "a",
        "--no-check",
        "--shim-path",
        "/srv/libreuseport.so",
    ];
    let outcome = system.call("inject", &elsewhere);
    assert_eq!(outcome.status, Some(2), "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("reuseport install /srv"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn units_that_are_none_are_named() {
    let system = System::new();
    system.write(
        "/etc/systemd/system/nginx.service",
        "[Service]\nExecStart=/bin/a\n",
    );
    system.write(
        "/etc/systemd/system/empty.service",
        "[Service]\nType=oneshot\n",
    );
    let masked = system.path("etc/systemd/system/masked.service");
    std::os::unix::fs::symlink("/dev/null", masked).expect("a link");
    fs::create_dir_all(system.path("dev")).expect("made");
    fs::write(system.path("dev/null"), "").expect("written");
    let gone = system.path("etc/systemd/system/ngjnx.service");
    std::os::unix::fs::symlink("none", gone).expect("a link");
    for (name, words) in [
        ("ngnix", "did you mean: nginx.service"),
        ("ngjnx", "did you mean: nginx.service"),
        ("empty", "no ExecStart="),
        ("masked", "systemctl unmask masked.service"),
        ("a/b", "no name"),
        ("a.socket", "no name"),
    ] {
        let before = system.files();
        let outcome = system.call("inject", &["--unit", name, "--in-place"]);
        assert_eq!(
            (outcome.status, outcome.stdout.as_str()),
            (Some(2), ""),
            "{name}"
        );
        assert!(outcome.stderr.contains(words), "{name}: {}", outcome.stderr);
        assert_eq!(system.files(), before);
    }
}

#[test]
fn a_drop_in_of_somebody_else_stays() {
    let system = System::new();
    let path = "/etc/systemd/system/a.service.d/50-reuseport.conf";
    system.write(
        "/etc/systemd/system/a.service",
        "[Service]\nExecStart=/bin/a\n",
    );
    system.write(path, "[Service]\nEnvironment=A=b\n");
    let outcome = system.call("eject", &["--unit", "a"]);
    assert_eq!(outcome.status, Some(2), "{}", outcome.stderr);
    assert!(system.path(path).exists());
}

#[test]
fn the_shim_is_looked_for_where_the_unit_finds_it() {
    let system = System::new();
    let shim = system.path(SHIM);
    for (lines, place) in [
        ("RootDirectory=/srv/root", "/srv/root/opt/reuseport"),
        ("BindReadOnlyPaths=/srv/shim:/opt/reuseport", "/srv/shim"),
    ] {
        let unit = format!("[Service]\nExecStart=/bin/server\n{lines}\n");
        system.write("etc/systemd/system/a.service", &unit);
        let path = format!("{place}/libreuseport.so");
        system.write(&path, "");
        let inject = || system.call("inject", &["--unit", "a", "--force"]);
        let outcome = inject();
        assert_eq!(outcome.status, Some(2), "{}", outcome.stderr);
        let message = format!("reuseport: {path}: ");
        assert!(outcome.stderr.contains(&message), "{}", outcome.stderr);
        let hint = format!("reuseport install {place}");
        assert!(outcome.stderr.contains(&hint), "{}", outcome.stderr);
        // And nowhere else.
        fs::rename(&shim, system.path(&path)).expect("moved");
        let outcome = inject();
        assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
        let line = format!("Environment=\"LD_PRELOAD={SHIM}\"\n");
        assert!(outcome.stdout.contains(&line), "{}", outcome.stdout);
        fs::rename(system.path(&path), &shim).expect("moved");
    }
}

#[test]
fn a_drop_in_is_ejected_when_its_unit_is_gone_or_masked() {
    let system = System::new();
    let unit = "etc/systemd/system/a.service";
    let drop_in = "/etc/systemd/system/a.service.d/50-reuseport.conf";
    for mask in [false, true] {
        system.write(unit, "[Service]\nExecStart=/bin/true\n");
        let written = system.call("inject", &["--unit", "a", "--in-place", "--no-check"]);
        assert_eq!(written.status, Some(0), "{}", written.stderr);
        fs::remove_file(system.path(unit)).expect("removed");
        if mask {
            std::os::unix::fs::symlink("/dev/null", system.path(unit)).expect("a link");
        }
        let outcome = system.call("eject", &["--unit", "a"]);
        assert_eq!(outcome.stdout, format!("{drop_in}\n"), "{}", outcome.stderr);
        assert_eq!(outcome.stderr, "reuseport: now: systemctl daemon-reload\n");
        assert!(!system.path(drop_in).parent().expect("it").exists());
        // Now there is nothing of ours, and nothing to know more of.
        let again = system.call("eject", &["--unit", "a"]);
        let expected = if mask {
            "is masked"
        } else {
            "there is no unit"
        };
        assert_eq!(again.status, Some(2));
        assert!(again.stderr.contains(expected), "{}", again.stderr);
    }
}

#[test]
fn links_of_the_root_do_not_lead_out_of_it() {
    let system = System::new();
    let outside = tempfile::tempdir().expect("a directory");
    system.write(
        &format!("{UNITS}/a.service"),
        "[Service]\nExecStart=/bin/a\n",
    );
    fs::create_dir_all(system.path("etc/systemd")).expect("made");
    std::os::unix::fs::symlink(outside.path(), system.path("etc/systemd/system")).expect("a link");
    let outcome = system.call("inject", &["--unit", "a", "--no-check", "--in-place"]);
    assert_eq!(outcome.status, Some(2), "{}", outcome.stderr);
    assert_eq!(fs::read_dir(outside.path()).expect("it").count(), 0);
}

#[test]
fn a_drop_in_that_is_a_link_is_not_followed() {
    let system = System::new();
    let outside = tempfile::NamedTempFile::new().expect("a file");
    let heading =
        "# Written by reuseport inject --unit; reuseport eject --unit takes it out again.\n";
    fs::write(outside.path(), heading).expect("written");
    system.write(
        &format!("{UNITS}/a.service"),
        "[Service]\nExecStart=/bin/a\n",
    );
    let directory = system.path("etc/systemd/system/a.service.d");
    fs::create_dir_all(&directory).expect("made");
    let link = directory.join("50-reuseport.conf");
    for target in [outside.path(), Path::new("/dev/zero")] {
        std::os::unix::fs::symlink(target, &link).expect("a link");
        for (command, more) in [
            ("inject", &["--no-check", "--in-place"][..]),
            ("eject", &[]),
        ] {
            let outcome = system.call(command, &[&["--unit", "a"], more].concat());
            assert_eq!(outcome.status, Some(2), "{}", outcome.stderr);
            assert!(
                outcome.stderr.contains("not written by reuseport"),
                "{}",
                outcome.stderr
            );
        }
        fs::remove_file(&link).expect("removed");
    }
    assert_eq!(fs::read_to_string(outside.path()).expect("it"), heading);
}

#[test]
fn a_unit_of_this_machine_is_checked_with_its_program() {
    if !is_root() {
        return skip(
            "a_unit_of_this_machine_is_checked_with_its_program",
            "the shim must be root's",
        );
    }
    let directory = tempfile::Builder::new()
        .tempdir_in("/var/lib")
        .expect("a directory");
    let shim = crate::shim_in(directory.path());
    let inject = |unit: &str| {
        let mut call = reuseport();
        run(call
            .args(["inject", "--unit", unit, "--shim-path"])
            .arg(&shim))
    };
    let outcome = inject("nginx");
    assert_eq!((outcome.status, outcome.stderr.as_str()), (Some(0), ""));
    let outcome = inject("caddy");
    assert_eq!((outcome.status, outcome.stdout.as_str()), (Some(1), ""));
    assert!(
        outcome.stderr.contains("raw-syscalls"),
        "{}",
        outcome.stderr
    );
    // Debian's own unit lets nothing be mapped but what it lists.
    let outcome = inject("redis-server");
    assert_eq!(outcome.status, Some(1), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("shim-noexec"), "{}", outcome.stderr);
    assert_eq!(SHIM, "/opt/reuseport/libreuseport.so");
}

#[test]
fn the_shim_may_be_mapped_where_no_writable_memory_becomes_executable() {
    // prctl(PR_SET_MDWE), which MemoryDenyWriteExecute= is.
    let script = "import ctypes, os, sys\n\
                  if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) != 0: sys.exit(77)\n\
                  os.environ['LD_PRELOAD'] = sys.argv[1]\n\
                  os.execvp('cat', ['cat', '/proc/self/maps'])";
    let shims = tempfile::tempdir().expect("a directory");
    let shim = crate::shim_in(shims.path());
    let outcome = run(command("python3").args(["-c", script]).arg(&shim));
    if outcome.status == Some(77) {
        return skip(
            "the_shim_may_be_mapped_where_no_writable_memory_becomes_executable",
            "the kernel has no PR_SET_MDWE",
        );
    }
    let shim = shim.to_str().expect("UTF-8");
    let is_code = |line: &&str| line.contains("r-xp") && line.ends_with(shim);
    assert_eq!(
        outcome.stdout.lines().filter(is_code).count(),
        1,
        "{outcome:?}"
    );
}

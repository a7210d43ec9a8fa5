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

#[test]
fn every_unit_of_debian_is_as_it_was_after_eject() {
    let system = System::new();
    let own = Path::new("/").join(UNITS);
    let mut names = Vec::new();
    for entry in fs::read_dir(own).expect("units").flatten() {
        let name = entry.file_name().into_string().expect("UTF-8");
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && name.ends_with(".service") {
            fs::copy(entry.path(), system.path(UNITS).join(&name)).expect("a copy");
            names.push(name);
        }
    }
    assert!(names.len() > 50, "{} units", names.len());
    let before = system.files();
    let mut injected = 0;
    for name in &names {
        // The programs are not there, and this is not about them.
        let flags = ["--unit", name, "--in-place", "--no-check", "--port", "80"];
        let outcome = system.call("inject", &flags);
        if outcome.status == Some(2) && outcome.stderr.contains("no ExecStart") {
            continue;
        }
        assert_eq!(outcome.status, Some(0), "{name}: {}", outcome.stderr);
        injected += 1;
    }
    let changed = system.files();
    assert_eq!(changed.len(), before.len() + injected);
    for (path, content) in &before {
        assert_eq!(changed.get(path), Some(content), "{}", path.display());
    }
    for name in &names {
        let outcome = system.call("eject", &["--unit", name]);
        assert!(
            matches!(outcome.status, Some(0 | 1)),
            "{name}: {}",
            outcome.stderr
        );
    }
    assert_eq!(system.files(), before);
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
    for (name, words) in [
        ("ngnix", "did you mean: nginx.service"),
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

//! Every option, input beside output: golden/NAME.yaml and golden/NAME.out.yaml,
//! with the call and what it says in the first lines of the latter. To write them
//! anew: REUSEPORT_BLESS=1 cargo test --test manifest options.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::refusals::filter;
use crate::support::{reuseport, run};

const CASES: [(&str, &str, &[&str]); 23] = [
    ("configmap", "web", &[]),
    ("configmap-named", "web", &["--configmap", "shim"]),
    ("image", "web", &["--delivery", "image=example.org/shim:1"]),
    (
        "init",
        "web",
        &["--delivery", "init=example.org/reuseport:1"],
    ),
    (
        "host",
        "web",
        &["--delivery", "host=/opt/reuseport/libreuseport.so"],
    ),
    (
        "rules",
        "web",
        &[
            "--port", "80,443", "--addr", "::1", "--op", "both", "--proto", "tcp", "--debug",
        ],
    ),
    (
        "container",
        "web",
        &["--container", "istio-proxy", "--container", "migrate"],
    ),
    ("workload", "many", &["--workload", "statefulset/db"]),
    ("many", "many", &[]),
    ("arch", "many", &["--arch", "arm64"]),
    ("annotations", "annotations", &[]),
    (
        "annotations-and-flags",
        "annotations",
        &["--port", "81", "--container", "b"],
    ),
    (
        "template-path",
        "custom",
        &["--template-path", "GameServer=.spec.pods"],
    ),
    ("advice", "advice", &["--delivery", "host=/opt/reuseport"]),
    ("json", "list", &["--json"]),
    ("diff", "web", &["--diff"]),
    ("anchors", "anchored", &[]),
    ("preload", "preload", &[]),
    ("surge-ready", "dns", &["--surge-ready", "--port", "53"]),
    (
        "shards",
        "proxy",
        &["--shards", "2", "--shard-probes", "first"],
    ),
    (
        "split-resources",
        "proxy",
        &[
            "--shards",
            "4",
            "--split-resources",
            "--shard-probes",
            "first",
        ],
    ),
    (
        "shard-probes",
        "proxy",
        &["--shards", "2", "--shard-probes", "exec=/bin/alive --quiet"],
    ),
    (
        "surge-and-shards",
        "proxy",
        &["--surge-ready", "--shards", "2", "--shard-probes", "first"],
    ),
];

pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/manifest/golden")
        .join(name)
}

/// What was said on standard error, as it stands in the files.
pub fn said(stderr: &str) -> String {
    let lines: Vec<String> = stderr.lines().map(|line| format!("#| {line}\n")).collect();
    lines.concat()
}

/// Whether `found` is what is written down under `name`.
pub fn is_golden(name: &str, found: &str) -> bool {
    let path = golden(&format!("{name}.out.yaml"));
    if std::env::var_os("REUSEPORT_BLESS").is_some() {
        fs::write(&path, found).expect("written");
    }
    fs::read_to_string(&path).unwrap_or_default() == found
}

/// `text` without what depends on the compiler of the shim.
pub fn stable(text: &str) -> String {
    let mut stable = String::new();
    for line in text.split_inclusive('\n') {
        let line = match line.split_once("libreuseport.so: \"") {
            Some((before, _)) => format!("{before}libreuseport.so: \"SHIM\"\n"),
            None => line.to_owned(),
        };
        let mut rest = line.as_str();
        while let Some(at) = rest.find("reuseport-shim-") {
            let end = at + "reuseport-shim-".len();
            stable += &rest[..end];
            rest = &rest[end..];
            let hash = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
            if hash == 10 {
                stable += "HASH";
                rest = &rest[hash..];
            }
        }
        stable += rest;
    }
    stable
}

#[test]
fn each_option_gives_what_is_written_beside_it() {
    let mut wrong = Vec::new();
    for (name, input, arguments) in CASES {
        let text = fs::read_to_string(golden(&format!("{input}.yaml"))).expect("an input");
        let all = [&["inject", "-f", "-"], arguments].concat();
        let (status, stdout, stderr) = filter(&all, &text);
        assert_eq!(status, Some(0), "{name}: {stderr}");
        let found = format!(
            "#| reuseport {}\n{}{}",
            all.join(" "),
            said(&stderr),
            stable(&stdout)
        );
        if !is_golden(name, &found) {
            wrong.push(format!("{name}:\n{found}"));
        }
        if !arguments.contains(&"--diff") {
            let (_, given_back, _) = filter(
                &[
                    "eject",
                    "-f",
                    "-",
                    "--template-path",
                    "GameServer=.spec.pods",
                ],
                &stdout,
            );
            assert_eq!(given_back, text, "{name}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const POD: &str = "kind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: x}]}";

#[test]
fn in_place_keeps_the_mode_and_follows_links() {
    let directory = tempfile::tempdir().expect("a directory");
    let [file, link, deep] = ["a.yaml", "link.yml", "deep"].map(|name| directory.path().join(name));
    fs::write(&file, POD).expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("set");
    let inode = file.metadata().expect("a file").ino();
    symlink("a.yaml", &link).expect("linked");
    fs::create_dir(&deep).expect("made");
    fs::write(
        deep.join("b.json"),
        "{\"kind\": \"Pod\", \"spec\": {\"containers\": [{\"name\": \"a\"}]}}",
    )
    .expect("written");
    fs::write(directory.path().join("notes.txt"), "{{").expect("written");
    let before = fs::read_to_string(deep.join("b.json")).expect("readable");

    let call = |command: &str, target: &Path, more: &[&str]| {
        let outcome = run(reuseport()
            .args([command, "--in-place"])
            .args(more)
            .arg("-f")
            .arg(target));
        assert_eq!(
            (outcome.status, outcome.stdout.as_str()),
            (Some(0), ""),
            "{}",
            outcome.stderr
        );
    };
    call("inject", &link, &[]);
    assert!(link.is_symlink());
    let text = fs::read_to_string(&file).expect("readable");
    assert!(text.contains("mountPath: /.reuseport"), "{text}");
    let metadata = file.metadata().expect("a file");
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o640);
    assert_ne!(metadata.ino(), inode);
    // Twice is once: the file is not even written.
    call("inject", directory.path(), &[]);
    assert_eq!(file.metadata().expect("a file").ino(), metadata.ino());
    assert_eq!(
        fs::read_to_string(deep.join("b.json")).expect("readable"),
        before
    );
    call("inject", directory.path(), &["-R"]);
    assert!(
        fs::read_to_string(deep.join("b.json"))
            .expect("readable")
            .contains("LD_PRELOAD")
    );
    call("eject", directory.path(), &["-R"]);
    assert_eq!(fs::read_to_string(&file).expect("readable"), POD);
    assert_eq!(
        fs::read_to_string(deep.join("b.json")).expect("readable"),
        before
    );
}

#[test]
fn several_files_become_one_stream_with_one_configmap() {
    let directory = tempfile::tempdir().expect("a directory");
    for name in ["a", "b"] {
        fs::write(
            directory.path().join(format!("{name}.yaml")),
            POD.replace("name: p", name),
        )
        .expect("written");
    }
    let mut command = reuseport();
    command
        .args(["inject", "--arch", "x86_64", "-f"])
        .arg(directory.path());
    let text = run(&mut command).stdout;
    assert_eq!(text.matches("kind: ConfigMap").count(), 1, "{text}");
    assert_eq!(text.matches("\n---\n").count(), 2);
}

#[test]
fn a_change_of_rules_containers_or_delivery_takes_the_place_of_the_old_one() {
    let input = "kind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - name: a\n  - name: b\n";
    let put = |arguments: &[&str], text: &str| {
        let (status, stdout, stderr) = filter(&[&["inject", "-f", "-"], arguments].concat(), text);
        assert_eq!(status, Some(0), "{stderr}");
        stdout
    };
    let old = put(&["--port", "80"], input);
    for arguments in [
        &["--port", "81"][..],
        &[],
        &["--delivery", "host=/opt/reuseport"],
        &["--configmap", "c"],
    ] {
        assert_eq!(put(arguments, &old), put(arguments, input), "{arguments:?}");
    }
    // Containers may have rules of their own.
    let one = put(&["--container", "a", "--port", "80"], input);
    let two = put(&["--container", "b", "--port", "81"], &one);
    assert!(two.contains("\"80\"") && two.contains("\"81\""), "{two}");
}

#[test]
fn what_was_edited_in_between_stays() {
    let input = "kind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - name: a\n    env: []\n";
    let (_, text, _) = filter(&["inject", "-f", "-", "--port", "80"], input);
    let edited = text
        .replace("name: p", "name: q")
        .replace(
            "  - name: a\n",
            "  # the server\n  - name: a\n    image: x\n",
        )
        .replace(
            "{name: LIBREUSEPORT_PORT",
            "{name: MINE, value: x}, {name: LIBREUSEPORT_PORT",
        )
        .replace("  volumes:\n", "  volumes:\n  - name: data\n");
    let (_, text, _) = filter(&["eject", "-f", "-"], &edited);
    // The annotation made metadata no longer than one line.
    assert_eq!(
        text,
        "kind: Pod\nmetadata: {name: q}\nspec:\n  containers:\n  # the server\n  - name: a\n    image: x\n    env: [{name: MINE, value: x}]\n  volumes:\n  - name: data\n"
    );
}

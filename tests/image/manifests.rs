//! `reuseport inject -f --check`: the images of manifests, in a registry.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::build::{Image, Layer, index, name, oci, program, server, with_libraries};
use crate::distribution::Distribution;
use crate::support::{Outcome, command, output, reuseport, run};

/// A registry with what `images` writes into a layout, each tag as a repository.
fn registry(images: impl FnOnce(&Path)) -> Distribution {
    let registry = Distribution::open();
    let layout = registry.place("layout");
    images(&layout);
    let text = fs::read(layout.join("index.json")).expect("an index");
    let text: Value = serde_json::from_slice(&text).expect("JSON");
    for image in text["manifests"].as_array().expect("a list") {
        let tag = &image["annotations"]["org.opencontainers.image.ref.name"];
        let tag = tag.as_str().expect("a tag");
        let mut skopeo = command("skopeo");
        skopeo.args(["--insecure-policy", "copy", "--quiet", "--all"]);
        skopeo.args(["--dest-tls-verify=false", &oci(&layout, tag)]);
        output(skopeo.arg(format!("docker://{}/{tag}:v1", registry.host())));
    }
    registry
}

/// What `reuseport inject -f -` makes of `text`.
fn filter(arguments: &[&str], text: &str) -> Outcome {
    let mut command = reuseport();
    command.args(arguments).args(["-f", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().expect("it starts");
    let mut input = child.stdin.take().expect("its input");
    input.write_all(text.as_bytes()).expect("it reads");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    Outcome {
        status: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn inject(more: &[&str], text: &str) -> Outcome {
    let check = ["inject", "--check", "--configmap", "shim"];
    filter(&[&check, more].concat(), text)
}

/// A pod with one container, `more` of which follows its image.
fn pod(registry: &Distribution, image: &str, more: &str) -> String {
    format!(
        "kind: Pod\nmetadata:\n  name: p\nspec:\n  containers:\n  - name: web\n    image: {}/{image}:v1\n{more}",
        registry.host()
    )
}

/// The value of `LD_PRELOAD` that comes out, once it is known that twice is once
/// and that eject gives the input back.
fn preload(more: &[&str], text: &str) -> String {
    let made = inject(more, text);
    assert_eq!(made.status, Some(0), "{}", made.stderr);
    let again = inject(more, &made.stdout);
    assert_eq!(again.stdout, made.stdout);
    let back = filter(&["eject"], &made.stdout);
    assert_eq!(back.stdout, text);
    let mut lines = made.stdout.lines();
    lines
        .find(|line| line.ends_with("name: LD_PRELOAD"))
        .expect("a variable");
    let value = lines.next().expect("its value").trim();
    value.trim_start_matches("value: ").to_owned()
}

fn with(mut image: Image, config: Value) -> Image {
    image.config["config"] = config;
    image
}

/// What [`server`] holds, the program with file capabilities.
fn capable() -> Layer {
    let record = b" SCHILY.xattr.security.capability=";
    // Version 2, effective, CAP_NET_BIND_SERVICE: see capabilities(7).
    let mut capability = vec![1, 0, 0, 2, 0, 4];
    capability.resize(20, 0);
    let length = 2 + record.len() + capability.len() + 1;
    let mut content = length.to_string().into_bytes();
    content.extend(record);
    content.extend(capability);
    content.push(b'\n');
    assert_eq!(content.len(), length);
    let binary = fs::read(program()).expect("readable");
    let layer = Layer::default().attributes(&content);
    with_libraries(layer.file("srv/server", 0o755, binary))
}

#[test]
fn what_an_image_preloads_is_joined_and_given_back() {
    let registry = registry(|layout| {
        Image::new(server()).tag(layout, "plain");
        let config = |preload: &str| json!({"Entrypoint": ["/srv/server"], "Env": ["A=b", format!("LD_PRELOAD={preload}")]});
        with(Image::new(server()), config("/usr/lib/jemalloc.so")).tag(layout, "jemalloc");
        with(Image::new(server()), config("/.reuseport/libreuseport.so")).tag(layout, "injected");
        let [amd, arm] = [("amd64", "/a.so"), ("arm64", "/b.so")].map(|(name, preload)| {
            let image = Image::new(server()).platform("linux", name);
            with(image, config(preload)).put(layout)
        });
        let both = index(layout, &[(amd, "linux/amd64"), (arm, "linux/arm64")]);
        name(layout, "both", both);
    });
    let ours = "/.reuseport/libreuseport.so";
    assert_eq!(preload(&[], &pod(&registry, "plain", "")), ours);
    assert_eq!(preload(&[], &pod(&registry, "injected", "")), ours);
    let jemalloc = pod(&registry, "jemalloc", "    env: []\n");
    let joined = format!("\"/usr/lib/jemalloc.so:{ours}\"");
    let text = inject(&[], &jemalloc).stdout;
    assert!(
        text.contains(&format!("LD_PRELOAD, value: {joined}")),
        "{text}"
    );
    assert_eq!(preload(&[], &pod(&registry, "jemalloc", "")), joined);
    // What the container says itself counts.
    let own = pod(
        &registry,
        "jemalloc",
        "    env:\n    - name: LD_PRELOAD\n      value: /own.so\n",
    );
    assert_eq!(preload(&[], &own), format!("/own.so:{ours}"));

    // The platform is that of the nodes.
    let both = pod(&registry, "both", "");
    assert_eq!(preload(&[], &both), format!("\"/a.so:{ours}\""));
    let arm = inject(&["--arch", "arm64"], &both);
    // The server is for amd64, whatever the image says.
    assert_eq!(
        (arm.status, arm.stdout.as_str()),
        (Some(1), ""),
        "{}",
        arm.stderr
    );
    let arm = inject(&["--arch", "arm64", "--force"], &both).stdout;
    assert!(arm.contains(&format!("\"/b.so:{ours}\"")), "{arm}");
    let pinned = both.clone() + "  nodeSelector: {kubernetes.io/arch: arm64}\n";
    let pinned = inject(&["--force"], &pinned).stdout;
    assert!(pinned.contains(&format!("\"/b.so:{ours}\"")), "{pinned}");
    let any = inject(&["--force", "--delivery", "image=x"], &both);
    assert_eq!(any.status, Some(2), "--configmap is there: {}", any.stderr);
    let any = filter(
        &["inject", "--check", "--force", "--delivery", "image=x"],
        &both,
    );
    let differs = "warning: image-preload: the image of container web sets another LD_PRELOAD";
    assert!(any.stderr.contains(differs), "{}", any.stderr);
}

#[test]
fn a_container_is_judged_as_its_pod_runs_it() {
    let registry = registry(|layout| {
        let config = json!({"Entrypoint": ["/srv/none"], "Cmd": ["x"], "User": "0"});
        with(Image::new(server()), config).tag(layout, "broken");
        let config = json!({"Entrypoint": ["/srv/server"]});
        with(Image::new(capable()), config).tag(layout, "capable");
    });
    // The Entrypoint is not there, and neither --check nor the pod is at fault.
    let broken = pod(&registry, "broken", "");
    let refused = inject(&[], &broken);
    assert_eq!((refused.status, refused.stdout.as_str()), (Some(1), ""));
    let place = "standard input:1: Pod/p: error: not-found: ";
    assert!(refused.stderr.starts_with(place), "{}", refused.stderr);
    let end = "reuseport: Pod/p, container web: the shim would not act there; \
               --force puts it in all the same, and --container and --workload choose others\n";
    assert!(refused.stderr.ends_with(end), "{}", refused.stderr);
    let unread = filter(&["inject", "--configmap", "shim"], &broken);
    assert_eq!(unread.status, Some(0), "{}", unread.stderr);
    assert!(
        unread.stderr.contains("note: image-unread: "),
        "{}",
        unread.stderr
    );
    let forced = inject(&["--force"], &broken);
    assert_eq!(forced.status, Some(0), "{}", forced.stderr);
    assert_eq!(forced.stdout, unread.stdout);
    // A command takes the Entrypoint's place.
    let env = "    env: [{name: WHERE, value: /srv}]\n";
    let own = pod(
        &registry,
        "broken",
        &format!("    command: [$(WHERE)/server]\n{env}"),
    );
    assert_eq!(inject(&[], &own).status, Some(0));

    // Root is not put into secure mode by capabilities; others are.
    let root = inject(&[], &pod(&registry, "capable", ""));
    assert_eq!(root.status, Some(0), "{}", root.stderr);
    let somebody = "    securityContext: {runAsUser: 1000}\n";
    let refused = inject(&[], &pod(&registry, "capable", somebody));
    assert_eq!((refused.status, refused.stdout.as_str()), (Some(1), ""));
    assert!(
        refused.stderr.contains("error: file-capabilities: "),
        "{}",
        refused.stderr
    );
    let pod_wide = "  securityContext: {runAsUser: 1000}\n";
    let refused = inject(&["--json"], &pod(&registry, "capable", pod_wide));
    assert_eq!((refused.status, refused.stdout.as_str()), (Some(1), ""));
    assert!(
        refused.stderr.contains("\"code\": \"file-capabilities\""),
        "{}",
        refused.stderr
    );
}

#[test]
fn an_image_that_cannot_be_read_is_named() {
    let registry = registry(|layout| {
        let image = Image::new(server()).platform("windows", "amd64");
        image.tag(layout, "windows");
    });
    for (image, words) in [
        ("none", "no such repository"),
        (
            "windows",
            "there is no image for linux/amd64; there are windows/amd64",
        ),
    ] {
        let refused = inject(&[], &pod(&registry, image, ""));
        assert_eq!((refused.status, refused.stdout.as_str()), (Some(2), ""));
        let place = "reuseport: standard input:7:12: document 1, .spec.containers[0].image: \
                     the image of container web: ";
        assert!(refused.stderr.starts_with(place), "{}", refused.stderr);
        assert!(refused.stderr.contains(words), "{}", refused.stderr);
    }
    // What looks like a transport is a name: no file of this machine is read.
    let file = "kind: Pod\nspec: {containers: [{name: a, image: \"oci-archive:/etc/passwd\"}]}\n";
    let refused = inject(&[], file);
    assert_eq!(refused.status, Some(2));
    assert!(
        refused.stderr.contains("is no image's name"),
        "{}",
        refused.stderr
    );
    let none = inject(&[], "kind: Pod\nspec: {containers: [{name: a}]}\n");
    assert_eq!(none.status, Some(0));
    assert!(
        none.stderr.contains("warning: no-image: container a"),
        "{}",
        none.stderr
    );
    let alone = run(reuseport().args(["inject", "--force", "-f", "/dev/null"]));
    assert_eq!(alone.status, Some(2), "{}", alone.stderr);
}

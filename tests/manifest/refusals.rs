//! What is refused: where, why, and what to do; nothing on standard output, and no
//! file changed.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::process::{Output, Stdio};

use crate::support::reuseport;

/// What `reuseport ARGUMENTS` does with `input` on standard input.
pub fn filter(arguments: &[&str], input: &str) -> (Option<i32>, String, String) {
    let mut command = reuseport();
    command.args(arguments);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("started");
    let mut stdin = child.stdin.take().expect("a pipe");
    // A command that refuses its arguments reads nothing.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().expect("ended");
    let [stdout, stderr] = [stdout, stderr].map(|one| String::from_utf8(one).expect("UTF-8"));
    (status.code(), stdout, stderr)
}

/// A pod with one container whose text is `container`.
fn pod(container: &str) -> String {
    format!("kind: Pod\nmetadata: {{name: p}}\nspec:\n  containers:\n  - name: a\n{container}")
}

#[test]
fn bad_input_is_named_by_file_line_column_document_and_path() {
    let cases = [
        (
            "a: 1\n---\nkind: Pod\n  spec: x\n",
            "4:7: document 2: this is no YAML: mapping values are not allowed in this context",
        ),
        (
            "kind: Pod\nspec:\n\tcontainers: []\n",
            "3:2: document 1, .spec: this is no YAML: tabs disallowed",
        ),
        (
            &pod("    args: [\n    \"-c\", \"a\n    b\"\n    ]\n"),
            "7:11: document 1, .spec.containers[0].args[1]: a line of it is not indented further than its key",
        ),
        (
            "a: 1\n---\nspec:\n  b: 1\n  b: 2\n",
            "5:3: document 2, .spec.b: the key \"b\" is here twice",
        ),
        (
            "kind: Pod\nspec:\n  containers:\n  - image: x\n",
            "4:5: document 1, .spec.containers[0]: this container has no name",
        ),
        (
            &pod("    env: {A: b}\n"),
            "6:10: document 1, .spec.containers[0].env: expected a list, found a mapping",
        ),
        (
            &pod("    env: [A]\n"),
            "6:11: document 1, .spec.containers[0].env[0]: expected a mapping, found a string",
        ),
        (
            &pod("    volumeMounts: x\n"),
            "6:19: document 1, .spec.containers[0].volumeMounts: expected a list, found a string",
        ),
        (
            "kind: Pod\nspec: {containers: {a: b}}\n",
            "2:20: document 1, .spec.containers: expected a list, found a mapping",
        ),
        (
            "kind: Pod\nmetadata: x\nspec: {containers: [{name: a, env: []}]}\n",
            "2:11: document 1, .metadata: expected a mapping, found a string",
        ),
        (
            "a: &a [*a]\n",
            "1:8: document 1, .a[0]: an alias refers to what it is part of",
        ),
        ("? [a]\n: b\n", "a list is no key of a Kubernetes object"),
        (
            "replicas: {{ .Values.replicas }}\n",
            "this is no YAML yet: it holds {{ }}, as Helm's templates do",
        ),
        (
            "{{- if .Values.on }}\na: b\n{{- end }}\n",
            "helm template … | reuseport inject -f -",
        ),
        (
            &pod("    volumeMounts: [{name: x, mountPath: /.reuseport/}]\n"),
            "container a mounts x at /.reuseport",
        ),
        (
            &pod("    env: [{name: KEPT_LD_PRELOAD, value: x}]\n"),
            "the name KEPT_LD_PRELOAD is taken",
        ),
        (
            &pod("  nodeSelector: {kubernetes.io/os: windows}\n"),
            "document 1, .spec: these pods run on Windows",
        ),
        (
            &pod("  nodeSelector: {kubernetes.io/arch: s390x}\n"),
            "there is no shim for s390x",
        ),
        (
            "kind: DaemonSet\nspec: {template: {spec: {containers: [{name: a}]}}}\n",
            "say which with --arch",
        ),
        (
            "kind: Pod\nmetadata: {annotations: {reuseport.dev/port: http}}\nspec: {containers: [{name: a}]}\n",
            "document 1, .metadata.annotations: the annotation reuseport.dev/port: 'http'",
        ),
        (
            "kind: Pod\nmetadata: {annotations: {reuseport.dev/port: 80}}\nspec: {containers: [{name: a}]}\n",
            "expected a string, found a number; quote it",
        ),
        (
            "kind: Pod\nmetadata: {annotations: {reuseport.dev/inject: no}}\nspec: {containers: [{name: a}]}\n",
            "the annotation reuseport.dev/inject: expected a string, found a boolean; quote it",
        ),
        (
            "kind: Pod\nmetadata: {annotations: {reuseport.dev/containers: 'a,b'}}\nspec: {containers: [{name: a}]}\n",
            "there is no container b; there are a",
        ),
    ];
    refused(&[], &cases);
}

#[test]
fn what_cannot_be_written_is_named() {
    let half = r#"{"kind": "Pod", "metadata": {"name": "\ud83d\ude00"}, "spec": {"containers": [{"name": "a"}]}}"#;
    refused(
        &[],
        &[
            (
                "{\"kind\": \"Pod\"}\n{\"kind\": \"Pod\"}\n",
                "standard input:2:1: document 1: another value of JSON begins here",
            ),
            (
                "kind: Pod\nspec: {containers: [{name: a, env: &e null}, {name: b, env: *e}]}\n",
                ".spec.containers[0].env: this cannot be edited as it is written",
            ),
            (
                half,
                "document 1, .spec: this JSON writes characters as two escapes",
            ),
        ],
    );
    // Without a ConfigMap, too, where copies are written.
    refused(
        &["--delivery", "host=/opt/reuseport", "--shards", "2"],
        &[(
            half,
            "what is written anew, as the copies of a container are",
        )],
    );
}

/// Holds that each input is refused, with what is said of it.
pub fn refused(flags: &[&str], cases: &[(&str, &str)]) {
    let call = [&["inject", "-f", "-"], flags].concat();
    for &(input, expected) in cases {
        let (status, stdout, stderr) = filter(&call, input);
        assert_eq!(
            (status, stdout.as_str()),
            (Some(2), ""),
            "{input}\n{stderr}"
        );
        let is_named = stderr.starts_with("reuseport: standard input:")
            || stderr.starts_with("reuseport: --surge-ready: ");
        assert!(
            is_named && stderr.contains(expected),
            "{input}\n{stderr}\n{expected}"
        );
    }
}

#[test]
fn places_are_those_of_the_input_where_that_holds_the_shim_already() {
    let good = "# é\nkind: Pod\nmetadata: {name: good}\nspec:\n  containers:\n  - name: a\n    env: null\n";
    let (status, stdout, _) = filter(&["inject", "-f", "-", "--arch", "amd64"], good);
    assert_eq!(status, Some(0));
    let (documents, lines) = (2, stdout.lines().count());
    assert_eq!(stdout.matches("\nkind: ").count(), documents);
    let more = "---\nkind: Pod\nmetadata: {name: bad}\nspec: {containers: [{name: b, env: x}]}\n";
    let (status, _, stderr) = filter(&["inject", "-f", "-"], &format!("{stdout}{more}"));
    let place = format!(
        "reuseport: standard input:{}:36: document {}, .spec.containers[0].env: expected a list",
        lines + 4,
        documents + 1
    );
    assert!(status == Some(2) && stderr.starts_with(&place), "{stderr}");
    // Of findings, too.
    let more = more.replace("env: x", "envFrom: [{secretRef: {name: s}}]");
    let (status, _, stderr) = filter(&["inject", "-f", "-"], &format!("{stdout}{more}"));
    let place = format!("standard input:{}: Pod/bad: warning: env-from: ", lines + 2);
    assert!(status == Some(0) && stderr.contains(&place), "{stderr}");
}

#[test]
fn an_annotation_that_nobody_reads_is_named() {
    let input = "kind: Deployment\nmetadata: {name: w, annotations: {reuseport.dev/op: '1', reuseport.dev/restore: '{}'}}\nspec:\n  template:\n    metadata: {annotations: {reuseport.dev/prot: '80', reuseport.dev/x: '', reuseport.dev/addr: '::1', reuseport: x}}\n    spec: {containers: [{name: a}]}\n";
    let (status, _, stderr) = filter(&["inject", "-f", "-", "--configmap", "c"], input);
    assert_eq!(status, Some(0));
    let begin = "standard input:1: Deployment/w: warning: unknown-annotation: the annotation reuseport.dev/";
    let expected = [
        "prot is none of reuseport's, and has no effect\n  did you mean reuseport.dev/port or /proto?\n",
        "x is none of reuseport's, and has no effect\n  there are reuseport.dev/inject, /containers, /addr, /port, /op, /proto, /interface, /program, /debug\n",
        "op of the Deployment has no effect: those of its pod template count\n  put it into .spec.template.metadata.annotations\n",
    ];
    let expected = expected.map(|one| format!("{begin}{one}")).concat();
    assert!(stderr.starts_with(&expected), "{stderr}");
    assert_eq!(stderr.matches("unknown-annotation").count(), 3, "{stderr}");
}

#[test]
fn an_alias_bomb_is_bounded() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let below = format!("*a{}", level - 1);
        let items = [below.as_str(); 9].join(", ");
        writeln!(bomb, "a{level}: &a{level} [{items}]").expect("a String takes any text");
    }
    let start = std::time::Instant::now();
    let (status, stdout, stderr) = filter(&["inject", "-f", "-"], &bomb);
    assert_eq!((status, stdout.as_str()), (Some(2), ""));
    assert!(stderr.contains("aliases expand to"), "{stderr}");
    assert!(start.elapsed().as_secs() < 10);
    let deep = "[".repeat(100_000);
    let (status, _, stderr) = filter(&["inject", "-f", "-"], &deep);
    assert_eq!(status, Some(2), "{stderr}");
}

#[test]
fn what_is_named_and_not_there_is_answered_with_what_is() {
    let input = "kind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: x}, {name: z1}]}\n";
    let (status, stdout, stderr) = filter(&["inject", "-f", "-", "--workload", "Pod/b"], input);
    assert_eq!((status, stdout.as_str()), (Some(2), ""));
    assert_eq!(
        stderr,
        "reuseport: there is no workload Pod/b; there are Pod/a\n"
    );
    let (status, stdout, stderr) = filter(&["eject", "-f", "-", "--workload", "Pod/b"], input);
    assert_eq!((status, stdout.as_str()), (Some(2), ""));
    assert_eq!(
        stderr,
        "reuseport: there is no workload Pod/b; there are Pod/a\n"
    );
    let (status, stdout, stderr) = filter(&["inject", "-f", "-", "--container", "z"], input);
    assert_eq!((status, stdout.as_str()), (Some(2), ""));
    assert_eq!(
        stderr,
        "reuseport: no workload has a container z; there are x, z1\n"
    );
}

#[test]
fn input_without_a_workload_comes_out_as_it_is() {
    for input in ["", "# nothing\n", "kind: Service\nspec: {}", "- a\n"] {
        for command in ["inject", "eject"] {
            let (status, stdout, stderr) = filter(&[command, "-f", "-"], input);
            assert_eq!((status, stdout.as_str()), (Some(0), input));
            let note = "reuseport: note: there is no workload in the input; it stays as it is\n";
            assert_eq!(stderr, note);
        }
    }
}

#[test]
fn one_file_at_fault_changes_none() {
    let directory = tempfile::tempdir().expect("a directory");
    let [good, bad] = ["a.yaml", "b.yaml"].map(|name| directory.path().join(name));
    let text = "kind: Pod\nspec: {containers: [{name: x}]}\n";
    fs::write(&good, text).expect("written");
    fs::write(&bad, "a: [\n").expect("written");
    let path = directory.path().to_str().expect("UTF-8");
    let (status, stdout, stderr) = filter(&["inject", "--in-place", "-f", path], "");
    assert_eq!((status, stdout.as_str()), (Some(2), ""));
    assert!(stderr.contains("b.yaml:2:1: document 1, .a"), "{stderr}");
    assert_eq!(fs::read_to_string(&good).expect("readable"), text);
}

#[test]
fn calls_that_make_no_sense_are_refused() {
    for arguments in [
        &["inject", "--in-place", "-f", "-"][..],
        &["inject", "-f", "-", "image"],
        &["inject", "-f", "-", "-t", "x"],
        &["inject", "--container", "a", "oci:x"],
        &["inject", "--diff", "oci:x"],
        &["inject", "--delivery", "host=/x", "oci:x"],
        &["inject", "--shards", "2", "--unit", "x"],
        &["eject", "--diff", "oci:x"],
        &["inject", "-f", "-", "--delivery", "layer"],
        &[
            "inject",
            "-f",
            "-",
            "--delivery",
            "host=/x",
            "--configmap",
            "c",
        ],
        &["inject", "-f", "-", "--configmap", "Bad Name"],
        &["inject", "-f", "-", "--delivery", "image=A b"],
        &["policy", "--delivery", "image=A b"],
        &["inject", "-f", "-", "--workload", "web"],
        &["inject", "-f", "-", "--template-path", "X=spec"],
        &["inject", "-f", "-", "--arch", "sparc"],
        &["inject", "-f", "-", "--scale-ready"],
        &["inject", "-f", "/nowhere"],
        &["eject", "-f", "-", "--diff", "--in-place"],
    ] {
        let (status, stdout, stderr) =
            filter(arguments, "kind: Pod\nspec: {containers: [{name: x}]}\n");
        assert_eq!(
            (status, stdout.as_str()),
            (Some(2), ""),
            "{arguments:?}: {stderr}"
        );
    }
}

#[test]
fn what_is_no_word_of_ours_is_refused() {
    let pod = "kind: Pod\nmetadata: {annotations: {reuseport.dev/inject: 'false'}}\nspec: {containers: [{name: x}]}\n";
    let compose = "services: {web: {image: x}}\n";
    let label = ["--namespace-label", "a=b", "--namespace-label", "a=c"];
    let policy = [&["policy", "--delivery", "image=x"][..], &label].concat();
    for (arguments, input, why) in [
        (
            &["inject", "-f", "-"][..],
            pod,
            "expected enabled or disabled, found \"false\"",
        ),
        (
            &["inject", "-f", "-", "--check"],
            compose,
            "reuseport check IMAGE",
        ),
        (&policy, "", "a is given twice"),
    ] {
        let (status, stdout, stderr) = filter(arguments, input);
        assert_eq!((status, stdout.as_str()), (Some(2), ""), "{stderr}");
        assert!(stderr.contains(why), "{stderr}");
    }
}

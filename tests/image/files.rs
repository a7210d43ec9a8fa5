//! The check of an image: the right file of the right layer, and no layer more
//! than it takes.

use std::fs;
use std::path::Path;

use reuseport::image::descriptor::Compression;
use serde_json::{Value, json};

use crate::build::{Image, Layer, attempt, inject, oci, program, server, with_libraries};
use crate::support::{compile, reuseport, run};

/// The verdict, the path of the program that is judged, and how many layers were
/// read, or the first finding's code where there is no program.
fn check(layout: &Path, image: &Image) -> (String, String, u64) {
    image.tag(layout, "x");
    let outcome = attempt(&["check", "--json", &oci(layout, "x")]);
    fs::remove_file(layout.join("index.json")).expect("an index");
    let answer: Value =
        serde_json::from_str(&outcome.stdout).unwrap_or_else(|_| panic!("{outcome:?}"));
    let answer = &answer[0];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let last = answer["chain"].as_array().and_then(|chain| chain.last());
    let what = last.unwrap_or(&answer["findings"][0]["code"]);
    let layers = answer["read"]["layers"].as_u64().expect("a number");
    (text(&answer["verdict"]), text(what), layers)
}

fn found(verdict: &str, what: &str, layers: u64) -> (String, String, u64) {
    (verdict.into(), what.into(), layers)
}

fn runs(mut image: Image, config: Value) -> Image {
    image.config["config"] = config;
    image
}

#[test]
fn no_layer_is_read_below_the_last_one_needed() {
    let directory = tempfile::tempdir().expect("a directory");
    let layout = directory.path();
    let other = || Layer::default().file("other", 0o644, "x");
    let low = Image::new(other()).layer(server());
    assert_eq!(check(layout, &low), found("works", "/srv/server", 1));
    let middle = Image::new(other()).layer(server()).layer(other());
    assert_eq!(check(layout, &middle), found("works", "/srv/server", 2));
    // The program alone is on top: its libraries are further down.
    let binary = fs::read(program()).expect("readable");
    let split = Image::new(other())
        .layer(with_libraries(Layer::default()))
        .layer(Layer::default().file("./srv/server", 0o755, &binary));
    assert_eq!(check(layout, &split), found("works", "/srv/server", 2));
    let gone = Image::new(server()).layer(Layer::default().file("srv/.wh.server", 0o644, ""));
    assert_eq!(check(layout, &gone), found("fails", "not-found", 1));
}

#[test]
fn the_loader_is_no_library_that_must_be_found() {
    let directory = tempfile::tempdir().expect("a directory");
    let loader = "opt/ld-linux-x86-64.so.2";
    let flag = format!("-Wl,--dynamic-linker=/{loader}");
    let program = compile("gcc", "probe/probe.c", &["-pthread", &flag]);
    let read = |path: &Path| fs::read(path).expect("readable");
    let libc = Path::new("/lib/x86_64-linux-gnu/libc.so.6");
    let layer = Layer::default()
        .file("srv/server", 0o755, read(&program))
        .file("lib/x86_64-linux-gnu/libc.so.6", 0o755, read(libc));
    let image = |layer| Image::new(Layer::default()).layer(layer);
    // libc names the loader among its libraries, and the loader is not where
    // libraries are: it is loaded when libc is.
    let there = image(layer.clone().file(
        loader,
        0o755,
        read(Path::new("/lib64/ld-linux-x86-64.so.2")),
    ));
    assert_eq!(
        check(directory.path(), &there),
        found("works", "/srv/server", 1)
    );
    let missing = check(directory.path(), &image(layer));
    assert_eq!(missing, found("fails", "/srv/server", 2));
}

#[test]
fn every_compression_is_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let binary = fs::read(program()).expect("readable");
    for compression in [Compression::Gzip, Compression::Zstd] {
        let mut image = Image::new(with_libraries(Layer::default())).layer(Layer::default().file(
            "srv/server",
            0o755,
            &binary,
        ));
        image.layers[1].1 = compression;
        assert_eq!(
            check(directory.path(), &image),
            found("works", "/srv/server", 2),
            "{compression:?}"
        );
    }
}

#[test]
fn what_hides_a_file_hides_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let layout = directory.path();
    for (name, top) in [
        (
            "whiteout",
            Layer::default().file("srv/.wh.server", 0o644, ""),
        ),
        (
            "whiteout of the directory",
            Layer::default().file(".wh.srv", 0o644, ""),
        ),
        (
            "opaque",
            Layer::default()
                .directory("srv/")
                .file("srv/.wh..wh..opq", 0o644, ""),
        ),
        (
            "a file for the directory",
            Layer::default().file("srv", 0o644, ""),
        ),
    ] {
        let image = Image::new(server()).layer(top);
        let (verdict, code, _) = check(layout, &image);
        assert_eq!(
            (verdict.as_str(), code.as_str()),
            ("fails", "not-found"),
            "{name}"
        );
    }
    // Made anew in the layer that hides the old one.
    let binary = fs::read(program()).expect("readable");
    let anew = Layer::default()
        .file(".wh.srv", 0o644, "")
        .file("srv/server", 0o755, &binary);
    let old = Layer::default().file("srv/server", 0o755, "no program");
    let image = Image::new(with_libraries(Layer::default()))
        .layer(old)
        .layer(anew);
    assert_eq!(check(layout, &image), found("works", "/srv/server", 3));
    let merged = Image::new(server()).layer(Layer::default().directory("srv/"));
    assert_eq!(check(layout, &merged), found("works", "/srv/server", 2));
}

#[test]
fn links_lead_to_the_program_inside_the_image() {
    let directory = tempfile::tempdir().expect("a directory");
    let layout = directory.path();
    for (name, entrypoint, links) in [
        (
            "relative",
            "/bin/a",
            Layer::default().link("bin/a", "../srv/server"),
        ),
        (
            "absolute",
            "/bin/a",
            Layer::default().link("bin/a", "/srv/server"),
        ),
        (
            "out and in",
            "/bin/a",
            Layer::default().link("bin/a", "../../../srv/server"),
        ),
        (
            "directory",
            "/opt/server",
            Layer::default().link("opt", "srv"),
        ),
        (
            "chain",
            "/a",
            Layer::default()
                .link("a", "b")
                .link("b", "/opt/server")
                .link("opt", "./srv"),
        ),
    ] {
        let image = runs(
            Image::new(server()).layer(links),
            json!({"Entrypoint": [entrypoint]}),
        );
        let (verdict, path, _) = check(layout, &image);
        assert_eq!(
            (verdict.as_str(), path.as_str()),
            ("works", entrypoint),
            "{name}"
        );
    }
    let hard = server().hard_link("srv/second", "srv/server");
    let image = runs(Image::new(hard), json!({"Entrypoint": ["/srv/second"]}));
    assert_eq!(check(layout, &image), found("works", "/srv/second", 1));
    // Nothing of the machine is ever looked at.
    for target in ["/bin/true", "../../../../../../bin/true", "loop"] {
        let image = Image::new(
            Layer::default()
                .link("srv/server", target)
                .link("srv/loop", "loop"),
        );
        let (verdict, code, _) = check(layout, &image);
        assert_eq!(
            (verdict.as_str(), code.as_str()),
            ("fails", "not-found"),
            "{target}"
        );
    }
}

#[test]
fn the_command_is_what_the_engine_would_run() {
    let directory = tempfile::tempdir().expect("a directory");
    let layout = directory.path();
    let shell = fs::read("/bin/dash").expect("readable");
    let layer = server()
        .file("bin/sh", 0o755, shell)
        .file("srv/start", 0o755, "#!/bin/sh\nset -e\nexec \"$@\"\n")
        .file("srv/plain", 0o644, "exec /srv/server\n");
    let path = json!(["PATH=/usr/bin:/srv"]);
    for (config, verdict, last) in [
        (json!({"Cmd": ["/srv/server"]}), "works", "/srv/server"),
        (
            json!({"Entrypoint": null, "Cmd": ["/srv/server"]}),
            "works",
            "/srv/server",
        ),
        (
            json!({"Cmd": ["server"], "Env": path}),
            "works",
            "/srv/server",
        ),
        (
            json!({"Cmd": ["./server"], "WorkingDir": "/srv"}),
            "works",
            "/srv/./server",
        ),
        (
            json!({"Entrypoint": ["/srv/start"], "Cmd": ["server"], "Env": path}),
            "works",
            "/srv/server",
        ),
        (
            json!({"Cmd": ["/bin/sh", "-c", "exec /srv/server"]}),
            "works",
            "/srv/server",
        ),
        (
            json!({"Cmd": ["/bin/sh", "/srv/plain"]}),
            "works",
            "/srv/server",
        ),
        (
            json!({"Cmd": ["/bin/sh", "-c", "a; b"]}),
            "uncertain",
            "/bin/sh",
        ),
        (json!({"Cmd": ["server"]}), "fails", "not-found"),
        (json!({"Cmd": ["/srv/plain"]}), "fails", "not-executable"),
        (json!({}), "fails", "not-found"),
    ] {
        let image = runs(Image::new(layer.clone()), config.clone());
        let (found, what, _) = check(layout, &image);
        assert_eq!((found.as_str(), what.as_str()), (verdict, last), "{config}");
    }
}

#[test]
fn a_user_decides_what_the_set_id_bit_means() {
    let directory = tempfile::tempdir().expect("a directory");
    let layout = directory.path();
    let binary = fs::read(program()).expect("readable");
    let layer = with_libraries(Layer::default().file("srv/server", 0o4755, &binary));
    for (user, verdict) in [
        ("", "works"),
        ("0:0", "works"),
        ("1000", "fails"),
        ("www", "fails"),
    ] {
        let config = json!({"Cmd": ["/srv/server"], "User": user});
        let (found, ..) = check(layout, &runs(Image::new(layer.clone()), config));
        assert_eq!(found, verdict, "{user}");
    }
}

#[test]
fn a_preload_of_the_images_own_is_noted() {
    let directory = tempfile::tempdir().expect("a directory");
    let layout = directory.path();
    let config = json!({"Entrypoint": ["/srv/server"], "Env": ["LD_PRELOAD=/a.so"]});
    runs(Image::new(server()), config).tag(layout, "own");
    let outcome = attempt(&["check", &oci(layout, "own")]);
    assert_eq!(outcome.status, Some(0), "{outcome:?}");
    for words in ["LD_PRELOAD is set already", "a CDI device's LD_PRELOAD"] {
        assert!(outcome.stdout.contains(words), "{outcome:?}");
    }
    // Ours alone is none.
    Image::new(server()).tag(layout, "none");
    inject(&oci(layout, "none"), &[]);
    let outcome = attempt(&["check", &oci(layout, "none-reuseport")]);
    assert!(!outcome.stdout.contains("LD_PRELOAD"), "{outcome:?}");
}

#[test]
fn a_place_for_temporary_files_that_is_none_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    Image::new(server()).tag(directory.path(), "x");
    let target = oci(directory.path(), "x");
    let mut command = reuseport();
    command.env("TMPDIR", "/nonexistent");
    let outcome = run(command.args(["inject", &target]));
    assert_eq!(outcome.status, Some(2), "{outcome:?}");
    assert!(
        outcome.stderr.contains("/nonexistent: No such"),
        "{outcome:?}"
    );
}

#[test]
fn a_failed_check_keeps_the_shim_out_unless_forced() {
    let directory = tempfile::tempdir().expect("a directory");
    let layout = directory.path();
    Image::new(Layer::default()).tag(layout, "v1");
    let source = oci(layout, "v1");
    let before = fs::read(layout.join("index.json")).expect("an index");
    let outcome = attempt(&["inject", &source]);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (Some(1), ""));
    assert!(outcome.stderr.contains("not-found"), "{outcome:?}");
    assert_eq!(
        fs::read(layout.join("index.json")).expect("an index"),
        before
    );
    assert_eq!(attempt(&["inject", "--force", &source]).status, Some(0));
    inject(&source, &[]);
    Image::new(server()).tag(layout, "v2");
    let outcome = attempt(&["inject", &oci(layout, "v2")]);
    assert_eq!(outcome.status, Some(0));
    assert!(outcome.stderr.contains("read 1 of 1 layers"), "{outcome:?}");
}

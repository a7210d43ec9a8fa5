//! skopeo and umoci, which know nothing of us, read what was written.

use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::Value;

use crate::build::{Image, Layer, inject, oci, server};
use crate::support::{command, output, run};

#[test]
fn skopeo_and_umoci_take_the_result() {
    let directory = tempfile::tempdir().expect("a directory");
    let layout = directory.path().join("layout");
    Image::new(server())
        .layer(Layer::default().file("etc/motd", 0o644, "x"))
        .tag(&layout, "v1");
    let digest = inject(&oci(&layout, "v1"), &["--port", "80"]);
    let result = oci(&layout, "v1-reuseport");
    let inspected = output(command("skopeo").args(["inspect", &result]));
    let inspected: Value = serde_json::from_str(&inspected).expect("JSON");
    assert_eq!(inspected["Digest"], digest);
    let copy = directory.path().join("copy");
    let target = oci(&copy, "x");
    let outcome = run(command("skopeo").args(["copy", "--quiet", &result, &target]));
    assert_eq!(outcome.status, Some(0), "{outcome:?}");
    let archive = format!(
        "docker-archive:{}:app:x",
        directory.path().join("x.tar").display()
    );
    inject(&oci(&layout, "v1"), &["-t", &archive]);
    let target = oci(&copy, "y");
    let outcome = run(command("skopeo").args(["copy", "--quiet", &archive, &target]));
    assert_eq!(outcome.status, Some(0), "{outcome:?}");

    let bundle = directory.path().join("bundle");
    let image = format!("{}:v1-reuseport", layout.display());
    let mut umoci = command("umoci");
    umoci
        .args(["unpack", "--rootless", "--image", &image])
        .arg(&bundle);
    let outcome = run(&mut umoci);
    assert_eq!(outcome.status, Some(0), "{outcome:?}");
    let shim = bundle.join("rootfs/.reuseport/libreuseport.so");
    let metadata = fs::metadata(&shim).expect("the shim");
    assert_eq!((metadata.mode() & 0o777, metadata.mtime()), (0o755, 0));
    let ours = fs::read(crate::support::shim()).expect("readable");
    assert!(fs::read(&shim).expect("readable") == ours);
    let config = fs::read_to_string(bundle.join("config.json")).expect("a config");
    assert!(config.contains("LD_PRELOAD=/.reuseport/libreuseport.so"));
    assert!(config.contains("LIBREUSEPORT_PORT=80"));
}

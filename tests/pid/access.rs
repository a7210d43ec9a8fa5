//! Other users' processes, and those in other namespaces.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::server::{Place, Server, fixture, look, look_by};
use crate::support::{command, free_port, is_root, run, skip};

const NOBODY: &str = "65534";

/// A command of `program` as nobody.
fn as_nobody(program: &Path) -> Command {
    let mut command = command("setpriv");
    let ids = ["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--"];
    command.args(ids).arg(program);
    command
}

#[test]
fn other_users_processes() {
    if !is_root() {
        return skip("other_users_processes", "needs root");
    }
    let place = Place::new();
    let reuseport = place.copy(env!("CARGO_BIN_EXE_reuseport").as_ref(), "reuseport");
    let fixture = place.copy(&fixture(), "server");
    let [of_nobody, of_root] = [free_port(), free_port()];
    let mut nobody = as_nobody(&fixture);
    let nobody = nobody.args(["plain", &of_nobody.to_string()]);
    let nobody = Server::on_port(nobody.env("LD_PRELOAD", place.shim()), of_nobody);
    let mut root = place.under_shim(&fixture);
    let root = Server::on_port(root.args(["plain", &of_root.to_string()]), of_root);

    for answer in [
        look(nobody.pid()),
        look_by(&mut as_nobody(&reuseport), nobody.pid()),
    ] {
        assert_eq!(answer.verdict(), ("works", Some(0)), "{answer:#?}");
        assert_eq!(answer.process("sockets")[0]["uid"], 65534);
    }
    let pid = root.pid();
    let answer = look_by(&mut as_nobody(&reuseport), pid);
    assert_eq!(answer.verdict(), ("fails", Some(2)), "{answer:#?}");
    assert_eq!(answer.codes("error"), ["not-readable"]);
    assert!(answer.json["process"].is_null());
    let outcome = run(as_nobody(&reuseport).args(["check", "--pid", &pid.to_string()]));
    assert_eq!((outcome.status, outcome.stdout.as_str()), (Some(2), ""));
    assert_eq!(
        outcome.stderr,
        format!(
            "reuseport: pid:{pid}: /proc/{pid}/exe cannot be read: Permission denied (os error 13); \
             the process acts as the user 0, this one as 65534; root can read it\n"
        )
    );
}

#[test]
fn a_setuid_program_is_in_secure_mode() {
    if !is_root() {
        return skip("a_setuid_program_is_in_secure_mode", "needs root");
    }
    let place = Place::new();
    let fixture = place.copy(&fixture(), "server");
    fs::set_permissions(&fixture, fs::Permissions::from_mode(0o4755)).expect("setuid");
    let port = free_port();
    let mut server = as_nobody(&fixture);
    let server = server.args(["plain", &port.to_string()]);
    let server = Server::on_port(server.env("LD_PRELOAD", place.shim()), port);
    let answer = look(server.pid());
    if answer.process("secure") == false {
        return skip("a_setuid_program_is_in_secure_mode", "a nosuid mount");
    }
    assert_eq!(answer.verdict(), ("fails", Some(1)), "{answer:#?}");
    assert_eq!(
        answer.codes("error"),
        ["not-mapped", "secure-mode", "option-not-set"]
    );
    assert_eq!(
        answer.process("preload"),
        place.shim().to_str().expect("UTF-8")
    );
}

#[test]
fn other_namespaces() {
    if !is_root() {
        return skip("other_namespaces", "needs root");
    }
    let place = Place::new();
    let port = free_port();
    // In the new namespace the shim is where none is outside, and outside a
    // server listens on the same port.
    let script = "mount -t tmpfs none /mnt && cp \"$0\" /mnt/its-own.so && \
                  LD_PRELOAD=/mnt/its-own.so exec \"$1\" plain \"$2\"";
    let mut unshare = command("unshare");
    let unshare = unshare
        .args(["--net", "--mount", "sh", "-c", script])
        .arg(place.shim());
    let inner = unshare.arg(fixture()).arg(port.to_string());
    if !run(command("unshare").args(["--net", "--mount", "true"]))
        .stderr
        .is_empty()
    {
        return skip("other_namespaces", "unshare is not permitted");
    }
    let inner = Server::on_port(inner, port);
    let mut outer = command(fixture());
    let outer = Server::on_port(outer.args(["plain", &port.to_string()]), port);
    let answer = look(inner.pid());
    assert_eq!(answer.verdict(), ("works", Some(0)), "{answer:#?}");
    assert_eq!(answer.process("shim"), "/mnt/its-own.so");
    assert_eq!(answer.json["findings"], serde_json::json!([]));
    let answer = look(outer.pid());
    assert_eq!(answer.codes("note"), [""; 0], "{answer:#?}");
}

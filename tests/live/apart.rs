//! A trial is apart from the machine, and leaves nothing behind.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{Outcome, command, is_root, reuseport, run, skip, wait_for};
use crate::{User, fixture, reached, tried, tried_by};

/// The processes whose command line holds `word`.
fn processes_with(word: &str) -> usize {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines
        .filter(|line| String::from_utf8_lossy(line).contains(word))
        .count()
}

#[test]
fn files_of_the_machine_stay_as_they_are() {
    let directory = tempfile::tempdir().expect("a directory");
    let pid = directory.path().join("nginx.pid");
    fs::write(&pid, "4711\n").expect("a pid file");
    let configuration = format!(
        "pid {}; error_log stderr; events {{}} http {{ access_log off; server {{ listen 8000; }} }}",
        pid.display()
    );
    let file = directory.path().join("nginx.conf");
    fs::write(&file, configuration).expect("a configuration");
    let (_, answer) = tried(&[], &["nginx", "-c", file.to_str().expect("UTF-8")]);
    assert_eq!(answer["verdict"], "works", "{answer:#}");
    assert_eq!(fs::read_to_string(&pid).expect("the pid file"), "4711\n");
    let files = fs::read_dir(directory.path()).expect("a directory");
    assert_eq!(files.count(), 2);
}

#[test]
fn without_isolation_they_do_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("touched");
    let script = format!("touch {}; exec {} plain 8000", file.display(), fixture());
    let (_, answer) = tried(&[], &["sh", "-c", &script]);
    assert_eq!(answer["verdict"], "works", "{answer:#}");
    assert!(!file.exists());
    let (_, answer) = tried(&["--no-isolation"], &["sh", "-c", &script]);
    assert_eq!(answer["verdict"], "works", "{answer:#}");
    assert!(file.exists());
}

#[test]
fn the_machines_name_clock_and_settings_stay_as_they_are() {
    if !is_root() {
        return skip(
            "the_machines_name_clock_and_settings_stay_as_they_are",
            "only root could change them",
        );
    }
    let name = || fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
    let before = name();
    let script = "hostname reuseport-trial; cat /proc/sys/kernel/hostname
        for file in /proc/sys/kernel/panic /proc/sysrq-trigger /sys/kernel/profiling /proc/sys/net/ipv4/ip_forward; do
            test -w $file && echo $file
        done
        grep CapBnd /proc/self/status
        exit 1";
    let (_, answer) = tried(&[], &["sh", "-c", script]);
    let output = answer["live"]["copies"][0]["output"].as_array();
    let output: Vec<_> = output.expect("output").iter().collect();
    // Only the network's settings are its own.
    assert_eq!(output[0], "reuseport-trial");
    assert_eq!(output[1], "/proc/sys/net/ipv4/ip_forward", "{output:?}");
    let bounds = output[2].as_str().expect("a line").split_whitespace();
    let bounds = u64::from_str_radix(bounds.last().expect("a set"), 16).expect("hexadecimal");
    assert_eq!(bounds & 1 << 25, 0, "CAP_SYS_TIME");
    assert_eq!(name(), before);
}

#[test]
fn nobody_on_the_machine_is_spoken_to() {
    if !is_root() {
        return skip("nobody_on_the_machine_is_spoken_to", "only root can mount");
    }
    // As an engine's socket is in a container: a mount of its own, or in one that
    // cannot be written.
    let script = "
        mkdir \"$1/mount\" && mount -t tmpfs none \"$1/mount\" && cd \"$1/mount\" &&
        mkfifo within && mount -o remount,ro,bind . &&
        touch ../file && mount --bind within ../file || exit 9
        cat within >../heard & cat=$!
        \"$2\" check --live -q -- sh -c 'timeout 1 tee ../file within <<E
            spoken
E'
        kill $cat; wait; exit 0";
    let directory = tempfile::tempdir().expect("a directory");
    let mut call = command("unshare");
    call.args(["-m", "sh", "-c", script, "sh"]);
    let outcome = run(call
        .arg(directory.path())
        .arg(env!("CARGO_BIN_EXE_reuseport")));
    assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
    let heard = fs::read_to_string(directory.path().join("heard")).expect("what was heard");
    assert_eq!(heard, "");
}

#[test]
fn a_users_files_stay_as_well() {
    let user = User::new();
    let file = user.directory().join("touched");
    let script = format!(
        "touch {} /var/tmp/reuseport-touched && exec redis-server --port 8000",
        file.display()
    );
    let (_, answer) = tried_by(&mut user.command(), &[], &["sh", "-c", &script]);
    assert_eq!(answer["verdict"], "works", "{answer:#}");
    assert!(!file.exists());
    assert!(!Path::new("/var/tmp/reuseport-touched").exists());
}

#[test]
fn the_machines_addresses_are_there() {
    // The address that a datagram to far away would have; none is sent.
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    let address = socket
        .connect("192.0.2.200:9")
        .and_then(|()| socket.local_addr());
    let Ok(IpAddr::V4(address)) = address.map(|address| address.ip()) else {
        return skip(
            "the_machines_addresses_are_there",
            "the machine has no network",
        );
    };
    let redis = [
        "redis-server",
        "--port",
        "6380",
        "--bind",
        &address.to_string(),
    ];
    let (_, answer) = tried(&[], &redis);
    assert_eq!(answer["verdict"], "works", "{answer:#}");
    assert_eq!(reached(&answer), 1);
}

#[test]
fn the_machines_settings_for_binds_hold() {
    if !is_root() {
        return skip(
            "the_machines_settings_for_binds_hold",
            "only root can set them",
        );
    }
    let mut call = command("unshare");
    let setting = "echo 1 >/proc/sys/net/ipv4/ip_nonlocal_bind && exec \"$@\"";
    let reuseport = env!("CARGO_BIN_EXE_reuseport");
    call.args(["-n", "sh", "-c", setting, "sh", reuseport]);
    let redis = ["redis-server", "--port", "6380", "--bind", "198.51.100.9"];
    let (_, answer) = tried_by(&mut call, &[], &redis);
    let sockets = &answer["live"]["copies"][1]["sockets"];
    assert_eq!(sockets[0]["address"], "198.51.100.9", "{answer:#}");
}

#[test]
fn nothing_is_left_when_it_is_killed() {
    let user = User::new();
    for (number, mut call) in [reuseport(), user.command()].into_iter().enumerate() {
        let word = format!("30{number}{}", std::process::id());
        let mut child = call
            .args(["check", "--live", "--timeout", "60", "--", "sleep", &word])
            .stdout(Stdio::null())
            .spawn()
            .expect("it starts");
        // The caller and the copy.
        wait_for("the copy runs", || {
            (processes_with(&word) >= 2).then_some(())
        });
        child.kill().expect("it is killed");
        child.wait().expect("it ends");
        wait_for("all have ended", || {
            (processes_with(&word) == 0).then_some(())
        });
    }
    let mounts = fs::read_to_string("/proc/mounts").expect("mounts");
    assert!(!mounts.contains(".reuseport"));
}

#[test]
fn nothing_is_left_in_the_end() {
    let word = format!("40{}", std::process::id());
    let script = format!("sleep {word} & exec {} background 8000", fixture());
    let (_, answer) = tried(&[], &["sh", "-c", &script]);
    assert_eq!(answer["verdict"], "works", "{answer:#}");
    assert_eq!(processes_with(&word), 0);
}

#[test]
fn the_limit_of_open_files_is_the_copies_alone() {
    let mut call = command("prlimit");
    call.args(["--nofile=40:4000", env!("CARGO_BIN_EXE_reuseport")]);
    let script = format!("ulimit -n; exec {} plain 8000", fixture());
    let (_, answer) = tried_by(&mut call, &[], &["sh", "-c", &script]);
    assert_eq!(answer["verdict"], "works", "{answer:#}");
    assert_eq!(answer["live"]["copies"][0]["output"][0], "40");
}

#[test]
fn where_namespaces_are_not_permitted_it_says_so() {
    // In a user namespace in which there may be no others, and without the right
    // to make the rest.
    let mut call = command("unshare");
    let limit = "echo 0 >/proc/sys/user/max_user_namespaces && \
                 exec setpriv --bounding-set=-sys_admin \"$@\"";
    call.args([
        "-Ur",
        "sh",
        "-c",
        limit,
        "sh",
        env!("CARGO_BIN_EXE_reuseport"),
    ]);
    let Outcome {
        status,
        stdout,
        stderr,
    } = run(call.args(["check", "--live", "--", "true"]));
    assert_eq!((status, stdout.as_str()), (Some(2), ""), "{stderr}");
    assert!(
        stderr.starts_with("reuseport: --live: a user namespace: "),
        "{stderr}"
    );
    assert!(
        stderr.contains("sysctl user.max_user_namespaces"),
        "{stderr}"
    );
}

#[test]
fn a_copy_has_no_more_rights_than_its_user() {
    if !is_root() {
        // What follows would show the same of the user that runs it.
        return skip("a_copy_has_no_more_rights_than_its_user", "only as root");
    }
    let user = User::new();
    let script = "grep CapEff /proc/self/status; exit 1";
    let (_, answer) = tried_by(&mut user.command(), &[], &["sh", "-c", script]);
    let output = &answer["live"]["copies"][0]["output"][0];
    assert_eq!(output, "CapEff:\t0000000000000000");
}

#[test]
fn a_directory_that_is_gone_is_no_hindrance() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut call = command("sh");
    let script = "mkdir gone && cd gone && rmdir ../gone && exec \"$@\"";
    call.args(["-c", script, "sh", env!("CARGO_BIN_EXE_reuseport")]);
    call.current_dir(directory.path());
    let (_, answer) = tried_by(&mut call, &[], &[&fixture(), "plain", "8000"]);
    assert_eq!(answer["verdict"], "works", "{answer:#}");
}

#[test]
fn a_trial_without_dashes_is_told_of_them() {
    let outcome = run(reuseport().args(["check", "--live", "true"]));
    assert_eq!(outcome.status, Some(2));
    assert!(outcome.stderr.ends_with("check --live RULES -- CMD\n"));
}

#[test]
fn rules_and_flags_of_a_trial_need_one() {
    for flags in [
        ["--port", "80"],
        ["--timeout", "3"],
        ["--no-isolation", "-q"],
    ] {
        let outcome = run(Command::new(env!("CARGO_BIN_EXE_reuseport"))
            .arg("check")
            .args(flags)
            .arg("true"));
        assert_eq!(outcome.status, Some(2), "{flags:?}");
        assert!(outcome.stderr.contains("--live"), "{}", outcome.stderr);
    }
}

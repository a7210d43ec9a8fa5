//! Servers that something else starts: scripts and wrappers.

use super::row::{Row, User};
use crate::tools::{self, unpacked};

const SOCAT: &str = "TCP4-LISTEN:{port},bind=127.0.0.1,fork";

const ENV_PYTHON: &str = "\
#!/usr/bin/env python3
import socket
with socket.create_server(('127.0.0.1', {port})) as server:
    while True:
        with server.accept()[0] as client:
            client.recv(64)
";

const ENV_SPLIT_PYTHON: &str = "\
#!/usr/bin/env -S python3 -u
import socket
with socket.create_server(('127.0.0.1', {port})) as server:
    while True:
        with server.accept()[0] as client:
            client.recv(64)
";

const EXEC: &str = "\
#!/bin/sh
set -e
umask 022
exec socat \"$@\"
";

const NO_EXEC: &str = "\
#!/bin/sh
socat \"$@\"
";

const TO_SCRIPT: &str = "\
#!/bin/bash
exec ./inner \"$@\"
";

const ENTRYPOINT: &str = "\
#!/bin/sh
set -e
if [ \"$1\" = redis-server ] && [ \"$(id -u)\" = 0 ]; then
    exec gosu nobody \"$0\" \"$@\"
fi
exec \"$@\"
";

const ANOTHER_PRELOAD: &str = "\
#!/bin/sh
export LD_PRELOAD=libm.so.6
exec socat \"$@\"
";

pub const ROWS: &[Row] = &[
    Row::new(
        "script with a last exec",
        &["socat"],
        "shell",
        &["{directory}/start", SOCAT, "PIPE"],
    )
    .files(&[("start", EXEC)]),
    Row::new(
        "script without exec",
        &["socat"],
        "shell",
        &["{directory}/start", SOCAT, "PIPE"],
    )
    .files(&[("start", NO_EXEC)]),
    Row::new(
        "script that runs a script",
        &["socat"],
        "shell",
        &["{directory}/start", SOCAT, "PIPE"],
    )
    .files(&[("start", TO_SCRIPT), ("inner", EXEC)]),
    Row::new(
        "script for a Go server",
        &["nats-server"],
        "shell",
        &["{directory}/start"],
    )
    .files(&[(
        "start",
        "#!/bin/sh\nexec nats-server -a 127.0.0.1 -p {port}\n",
    )])
    .out_of_reach(),
    Row::new(
        "sh -c exec",
        &["socat"],
        "shell",
        &["sh", "-c", "exec socat TCP4-LISTEN:{port},fork PIPE"],
    ),
    Row::new(
        "#!/usr/bin/env python3",
        &["python3"],
        "Python",
        &["{directory}/server"],
    )
    .files(&[("server", ENV_PYTHON)]),
    Row::new(
        "#!/usr/bin/env -S",
        &["python3"],
        "Python",
        &["{directory}/server"],
    )
    .files(&[("server", ENV_SPLIT_PYTHON)]),
    Row::new(
        "env -i",
        &["socat", "coreutils"],
        "C",
        &["env", "-i", "/usr/bin/socat", SOCAT, "PIPE"],
    )
    .out_of_reach(),
    Row::new(
        "env with a variable",
        &["socat", "coreutils"],
        "C",
        &["env", "A=b", "socat", SOCAT, "PIPE"],
    ),
    Row::new(
        "tini",
        &["tini"],
        "C",
        &["tini", "--", "socat", SOCAT, "PIPE"],
    )
    .environment(&[("TINI_SUBREAPER", "1")]),
    Row::new(
        "dumb-init",
        &["dumb-init"],
        "C",
        &["dumb-init", "--", "socat", SOCAT, "PIPE"],
    ),
    Row::new(
        "gosu",
        &["gosu"],
        "Go",
        &["gosu", "nobody", "socat", SOCAT, "PIPE"],
    ),
    Row::new(
        "chpst",
        &["runit"],
        "C",
        &["chpst", "-u", "nobody:nogroup", "socat", SOCAT, "PIPE"],
    ),
    Row::new(
        "setpriv",
        &["util-linux"],
        "C",
        &[
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "socat",
            SOCAT,
            "PIPE",
        ],
    ),
    Row::new(
        "nice",
        &["coreutils"],
        "C",
        &["nice", "-n", "5", "socat", SOCAT, "PIPE"],
    ),
    Row::new(
        "timeout",
        &["coreutils"],
        "C",
        &["timeout", "60", "socat", SOCAT, "PIPE"],
    ),
    Row::new(
        "the loader",
        &["libc6"],
        "C",
        &[
            "/lib64/ld-linux-x86-64.so.2",
            "/usr/bin/socat",
            SOCAT,
            "PIPE",
        ],
    ),
    Row::new("nobody's socat", &["socat"], "C", &["socat", SOCAT, "PIPE"]).run_by(User::Nobody),
    Row::new(
        "docker-entrypoint",
        &["redis-server", "gosu"],
        "shell",
        &[
            "{directory}/entrypoint",
            "redis-server",
            "--port",
            "{port}",
            "--save",
            "",
        ],
    )
    .files(&[("entrypoint", ENTRYPOINT)]),
    Row::new(
        "script that sets LD_PRELOAD",
        &["socat"],
        "shell",
        &["{directory}/start", SOCAT, "PIPE"],
    )
    .files(&[("start", ANOTHER_PRELOAD)])
    .out_of_reach(),
    Row::new(
        "busybox sh for a Go server",
        &["apt", "nats-server"],
        "shell",
        &[
            "{directory}/sh",
            "-c",
            "nats-server -a 127.0.0.1 -p {port}; true",
        ],
    )
    .prepare(|slot| slot.link("sh", &unpacked("busybox").join("bin/busybox")))
    .out_of_reach(),
    Row::new(
        "runuser",
        &["util-linux"],
        "C",
        &["runuser", "-u", "nobody", "--", "socat", SOCAT, "PIPE"],
    ),
    Row::new(
        "flock",
        &["util-linux"],
        "C",
        &["flock", "lock", "socat", SOCAT, "PIPE"],
    ),
    Row::new(
        "flock -c",
        &["util-linux"],
        "C",
        &[
            "flock",
            "lock",
            "-c",
            "exec socat TCP4-LISTEN:{port},fork PIPE",
        ],
    ),
    Row::new(
        "nohup",
        &["coreutils"],
        "C",
        &["nohup", "socat", SOCAT, "PIPE"],
    ),
    Row::new(
        "stdbuf",
        &["coreutils"],
        "C",
        &["stdbuf", "-oL", "socat", SOCAT, "PIPE"],
    ),
    Row::new(
        "taskset",
        &["util-linux"],
        "C",
        &["taskset", "-c", "0", "socat", SOCAT, "PIPE"],
    ),
    Row::new(
        "choom",
        &["util-linux"],
        "C",
        &["choom", "-n", "5", "--", "socat", SOCAT, "PIPE"],
    ),
    Row::new(
        "prlimit",
        &["util-linux"],
        "C",
        &["prlimit", "--nofile=256", "socat", SOCAT, "PIPE"],
    ),
    Row::new(
        "ionice",
        &["util-linux"],
        "C",
        &["ionice", "-c", "3", "socat", SOCAT, "PIPE"],
    ),
    Row::new(
        "wrappers around wrappers",
        &["tini", "gosu", "coreutils"],
        "C",
        &[
            "tini", "-s", "--", "gosu", "nobody", "env", "A=b", "nice", "socat", SOCAT, "PIPE",
        ],
    ),
    Row::new(
        "tini for a Go server",
        &["tini", "nats-server"],
        "C",
        &[
            "tini",
            "-s",
            "--",
            "nats-server",
            "-a",
            "127.0.0.1",
            "-p",
            "{port}",
        ],
    )
    .out_of_reach(),
    Row::new(
        "musl's loader",
        &["musl", "musl-tools"],
        "C",
        &["/lib/ld-musl-x86_64.so.1", "{directory}/server", "{port}"],
    )
    .prepare(|slot| tools::compile("musl-gcc", &[], slot)),
];

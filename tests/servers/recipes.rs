//! How each server is started, as data.

use std::process::Command;

use crate::musl_node;
use crate::running::REUSEPORT;
use crate::slot::Slot;
use crate::sockets::Transport;
use crate::tools::{compile, require, run, unpacked};

/// A server that stays in the foreground and serves at `{port}`.
pub struct Server {
    /// The Debian package that brings the program.
    pub package: &'static str,
    /// The program and its arguments, filled in by [`Slot::fill`].
    pub command: &'static [&'static str],
    /// Name and text of the files in a copy's directory, which is also its
    /// working directory; filled in likewise.
    pub files: &'static [(&'static str, &'static str)],
    /// What else is to be done before a copy starts.
    pub prepare: fn(&Slot),
    /// What goes before the command for the shim to be in it, and for the shim not
    /// to be in it.
    pub with_shim: &'static [&'static str],
    pub without_shim: &'static [&'static str],
    pub transport: Transport,
    /// How many clients connect at once. It waits for each to be accepted, so
    /// that this is at most the listener's backlog.
    pub clients_at_once: usize,
    /// Sets SO_REUSEPORT itself, so that it needs no reuseport.
    pub shares_alone: bool,
}

impl Server {
    const fn tcp(package: &'static str, command: &'static [&'static str]) -> Self {
        Self {
            package,
            command,
            files: &[],
            prepare: |_| {},
            with_shim: &[REUSEPORT, "--"],
            without_shim: &[],
            transport: Transport::Tcp,
            clients_at_once: 4,
            shares_alone: false,
        }
    }

    const fn udp(package: &'static str, command: &'static [&'static str]) -> Self {
        Self {
            transport: Transport::Udp,
            ..Self::tcp(package, command)
        }
    }
}

pub const PYTHON: Server = Server::tcp(
    "python3",
    &[
        "python3",
        "-m",
        "http.server",
        "--bind",
        "127.0.0.1",
        "{port}",
    ],
);

/// Debian's netcat sets SO_REUSEPORT itself. It serves one client at a time; with
/// `-d` it does not read its standard input.
pub const NETCAT: Server = Server {
    clients_at_once: 1,
    shares_alone: true,
    ..Server::tcp(
        "netcat-openbsd",
        &["nc.openbsd", "-d", "-k", "-l", "{port}"],
    )
};

pub const SOCAT: Server = Server::tcp("socat", &["socat", "TCP4-LISTEN:{port},fork", "PIPE"]);

pub const REDIS: Server = Server::tcp(
    "redis-server",
    &[
        "redis-server",
        "--bind",
        "127.0.0.1",
        "--port",
        "{port}",
        "--save",
        "",
    ],
);

/// Root has to name a user; it may be root.
pub const MEMCACHED: Server = Server::tcp(
    "memcached",
    &["memcached", "-u", "root", "-p", "{port}", "-U", "0"],
);

pub const NGINX: Server = Server {
    files: &[("nginx.conf", include_str!("fixtures/nginx.conf"))],
    ..Server::tcp(
        "nginx-light",
        &[
            "nginx",
            "-p",
            "{directory}",
            "-e",
            "stderr",
            "-c",
            "nginx.conf",
        ],
    )
};

const HTTP_IN_JAVASCRIPT: &str =
    "require('http').createServer((_, response) => response.end()).listen({port})";

pub const NODE: Server = Server::tcp("nodejs", &["node", "-e", HTTP_IN_JAVASCRIPT]);

pub const NODE_ON_MUSL: Server = Server {
    prepare: |slot| slot.link("node", &musl_node::program()),
    ..Server::tcp("musl", &["{directory}/node", "-e", HTTP_IN_JAVASCRIPT])
};

/// One process with two listeners on the port.
pub const ERLANG: Server = Server {
    files: &[(
        "two_listeners.escript",
        include_str!("fixtures/two_listeners.escript"),
    )],
    ..Server::tcp(
        "erlang-base",
        &["escript", "two_listeners.escript", "{port}"],
    )
};

pub const JAVA: Server = Server {
    files: &[("Server.java", include_str!("fixtures/Server.java"))],
    ..Server::tcp(
        "openjdk-17-jdk-headless",
        &["java", "-XX:TieredStopAtLevel=1", "Server.java", "{port}"],
    )
};

/// Debian's busybox is dynamic; its busybox-static takes the other's place.
pub const BUSYBOX: Server = Server {
    prepare: |slot| slot.link("busybox", &unpacked("busybox").join("bin/busybox")),
    ..Server::tcp(
        "apt",
        &["{directory}/busybox", "httpd", "-f", "-p", "{port}"],
    )
};

/// fixtures/server.c, built by `prepare`.
const C: Server = Server::tcp("gcc", &["{directory}/server", "{port}"]);

pub const SYSCALL: Server = Server {
    prepare: |slot| {
        require("/usr/include/stdio.h", "libc6-dev");
        compile("gcc", &["-DBIND_THROUGH_SYSCALL"], slot);
    },
    ..C
};

pub const C_ON_MUSL: Server = Server {
    package: "musl-tools",
    prepare: |slot| {
        require("/lib/ld-musl-x86_64.so.1", "musl");
        compile("musl-gcc", &[], slot);
    },
    ..C
};

const EMULATOR: &str = "qemu-aarch64-static";
const ARM64_ROOT: &str = "/usr/aarch64-linux-gnu";

/// The emulator is static, so that reuseport refuses it: the shim has to be
/// given to the program that it emulates.
pub const C_ON_ARM64: Server = Server {
    package: "gcc-aarch64-linux-gnu",
    prepare: |slot| {
        require("/usr/aarch64-linux-gnu/lib/libc.so.6", "libc6-arm64-cross");
        require(
            "/usr/aarch64-linux-gnu/include/stdio.h",
            "libc6-dev-arm64-cross",
        );
        require(EMULATOR, "qemu-user-static");
        compile("aarch64-linux-gnu-gcc", &[], slot);
        run(Command::new(REUSEPORT).args(["install", "--arch", "aarch64", slot.directory()]));
    },
    with_shim: &[
        EMULATOR,
        "-L",
        ARM64_ROOT,
        "-E",
        "LD_PRELOAD={directory}/libreuseport.so",
    ],
    without_shim: &[EMULATOR, "-L", ARM64_ROOT],
    ..C
};

pub const DNSMASQ: Server = Server::udp(
    "dnsmasq-base",
    &[
        "dnsmasq",
        "--keep-in-foreground",
        "--user=root",
        "--conf-file=/dev/null",
        "--pid-file=",
        "--log-facility=-",
        "--no-resolv",
        "--no-hosts",
        "--port={port}",
        "--address=/who/10.0.0.{slot}",
    ],
);

pub const UNBOUND: Server = Server {
    files: &[("unbound.conf", include_str!("fixtures/unbound.conf"))],
    ..Server::udp("unbound", &["unbound", "-d", "-c", "unbound.conf"])
};

//! How each server is started, as data.

use std::process::Command;

use crate::musl_node;
use crate::running::REUSEPORT;
use crate::slot::Slot;
use crate::sockets::Transport;
use crate::tools::{compile, require, run, unpacked};

/// A server that stays in the foreground and serves at `{port}`. Its texts are
/// filled in by [`Slot`]; commands are split at white space before.
pub struct Server {
    /// The Debian package that brings the program; none where `prepare` makes it.
    pub package: Option<&'static str>,
    pub command: &'static str,
    /// Name and text of the files in a copy's directory, which is also its
    /// working directory.
    pub files: &'static [(&'static str, &'static str)],
    /// What else is to be done before a copy starts.
    pub prepare: fn(&Slot),
    /// What goes before the command for the shim to be in it, and for the shim not
    /// to be in it.
    pub with_shim: &'static str,
    pub without_shim: &'static str,
    pub transport: Transport,
    /// How many clients connect at a time. The listener's backlog has to hold
    /// them until they are accepted.
    pub clients_at_once: usize,
    /// Sets SO_REUSEPORT itself, so that it needs no reuseport.
    pub shares_alone: bool,
}

impl Server {
    const fn tcp(package: &'static str, command: &'static str) -> Self {
        Self {
            package: Some(package),
            command,
            files: &[],
            prepare: |_| {},
            with_shim: "{reuseport} --",
            without_shim: "",
            transport: Transport::Tcp,
            clients_at_once: 4,
            shares_alone: false,
        }
    }

    const fn udp(package: &'static str, command: &'static str) -> Self {
        Self {
            transport: Transport::Udp,
            ..Self::tcp(package, command)
        }
    }

    const fn made(command: &'static str, prepare: fn(&Slot)) -> Self {
        Self {
            package: None,
            prepare,
            ..Self::tcp("", command)
        }
    }
}

pub const PYTHON: Server = Server::tcp("python3", "python3 -m http.server --bind 127.0.0.1 {port}");

/// Debian's netcat sets SO_REUSEPORT itself. It serves one client at a time; with
/// `-d` it does not read its standard input.
pub const NETCAT: Server = Server {
    clients_at_once: 1,
    shares_alone: true,
    ..Server::tcp("netcat-openbsd", "nc.openbsd -d -k -l {port}")
};

pub const SOCAT: Server = Server::tcp("socat", "socat TCP4-LISTEN:{port},fork PIPE");

pub const REDIS: Server = Server::tcp(
    "redis-server",
    "redis-server --bind 127.0.0.1 --port {port}",
);

/// Root has to name a user; it may be root.
pub const MEMCACHED: Server = Server::tcp("memcached", "memcached -u root -p {port} -U 0");

pub const NGINX: Server = Server {
    files: &[("nginx.conf", include_str!("fixtures/nginx.conf"))],
    ..Server::tcp(
        "nginx-light",
        "nginx -p {directory} -e stderr -c nginx.conf",
    )
};

const SERVER_JS: (&str, &str) = ("server.js", include_str!("fixtures/server.js"));

pub const NODE: Server = Server {
    files: &[SERVER_JS],
    ..Server::tcp("nodejs", "node server.js {port}")
};

pub const NODE_ON_MUSL: Server = Server {
    files: &[SERVER_JS],
    ..Server::made("{directory}/node server.js {port}", |slot| {
        slot.link("node", &musl_node::program());
    })
};

/// One process with two listeners on the port.
pub const ERLANG: Server = Server {
    files: &[(
        "two_listeners.escript",
        include_str!("fixtures/two_listeners.escript"),
    )],
    ..Server::tcp("erlang-base", "escript two_listeners.escript {port}")
};

pub const JAVA: Server = Server {
    files: &[("Server.java", include_str!("fixtures/Server.java"))],
    ..Server::tcp(
        "default-jdk-headless",
        "java -XX:TieredStopAtLevel=1 Server.java {port}",
    )
};

/// Debian's dynamic busybox. Its busybox-static may be what is installed: there
/// is room for one of them.
pub const BUSYBOX: Server = Server::made("{directory}/busybox httpd -f -p {port}", |slot| {
    slot.link("busybox", &unpacked("busybox").join("bin/busybox"));
});

/// fixtures/server.c
const COMPILED: &str = "{directory}/server {port}";

pub const C_THROUGH_SYSCALL: Server = Server::made(COMPILED, |slot| {
    require("gcc", "gcc");
    require("/usr/include/stdio.h", "libc6-dev");
    compile("gcc", &["-DBIND_THROUGH_SYSCALL"], slot);
});

pub const C_ON_MUSL: Server = Server::made(COMPILED, |slot| {
    require("musl-gcc", "musl-tools");
    require("/lib/ld-musl-x86_64.so.1", "musl");
    compile("musl-gcc", &[], slot);
});

/// The emulator is static, so that reuseport refuses it: the shim has to be
/// given to the program that it emulates.
pub const C_ON_ARM64: Server = Server {
    with_shim: "qemu-aarch64-static -L /usr/aarch64-linux-gnu -E LD_PRELOAD={directory}/libreuseport.so",
    without_shim: "qemu-aarch64-static -L /usr/aarch64-linux-gnu",
    ..Server::made(COMPILED, |slot| {
        let root = "/usr/aarch64-linux-gnu";
        require("qemu-aarch64-static", "qemu-user-static");
        require("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu");
        require(&format!("{root}/lib/libc.so.6"), "libc6-arm64-cross");
        require(&format!("{root}/include/stdio.h"), "libc6-dev-arm64-cross");
        compile("aarch64-linux-gnu-gcc", &[], slot);
        run(Command::new(REUSEPORT).args(["install", "--arch", "aarch64", slot.directory()]));
    })
};

pub const DNSMASQ: Server = Server::udp(
    "dnsmasq-base",
    "dnsmasq --keep-in-foreground --user=root --conf-file=/dev/null --pid-file= --log-facility=- \
     --no-resolv --no-hosts --port={port} --address=/who/10.0.0.{slot}",
);

pub const UNBOUND: Server = Server {
    files: &[("unbound.conf", include_str!("fixtures/unbound.conf"))],
    ..Server::udp("unbound", "unbound -d -c unbound.conf")
};

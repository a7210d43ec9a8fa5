//! Servers written in scripting languages, and in those that have a machine of
//! their own.

use std::fs;

use super::row::Row;
use crate::slot::Slot;

const RACK: &str = "run lambda { |environment| [204, {}, []] }\n";

const PSGI: &str = "sub { [204, [], []] }\n";

const PHP_SERVER: &str = "\
<?php
$server = stream_socket_server('tcp://127.0.0.1:{port}') or exit(1);
while (true) {
    if ($client = @stream_socket_accept($server, -1)) {
        fgets($client);
        fclose($client);
    }
}
";

const PHP_SOCKETS: &str = "\
<?php
$server = socket_create(AF_INET, SOCK_STREAM, SOL_TCP);
socket_bind($server, '127.0.0.1', {port}) or exit(1);
socket_listen($server, 16);
while ($client = socket_accept($server)) {
    socket_read($client, 64);
    socket_close($client);
}
";

const PERL_SERVER: &str = "\
#!/usr/bin/perl
use IO::Socket::INET;
my $server = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => {port}, Listen => 16)
    or die \"bind: $!\\n\";
while (my $client = $server->accept) { <$client> }
";

const LUA_SERVER: &str = "\
local server = assert(require('socket').bind('127.0.0.1', {port}))
while true do server:accept():receive() end
";

const TCL_SERVER: &str = "\
proc serve {channel host port} { fileevent $channel readable [list bye $channel] }
proc bye {channel} { if {[gets $channel line] < 0} { close $channel } }
socket -server serve -myaddr 127.0.0.1 {port}
vwait forever
";

const ZSH_SERVER: &str = "\
zmodload zsh/net/tcp
ztcp -l {port} || exit 1
listener=$REPLY
while ztcp -a $listener; do read -r line <&$REPLY; ztcp -c $REPLY; done
";

const SBCL_SERVER: &str = "\
(require :sb-bsd-sockets)
(let ((server (make-instance 'sb-bsd-sockets:inet-socket :type :stream :protocol :tcp)))
  (sb-bsd-sockets:socket-bind server #(127 0 0 1) {port})
  (sb-bsd-sockets:socket-listen server 16)
  (loop (let ((client (sb-bsd-sockets:socket-accept server)))
          (read-line (sb-bsd-sockets:socket-make-stream client :input t) nil)
          (sb-bsd-sockets:socket-close client))))
";

const ERLANG_SERVER: &str = "\
{ok, L} = gen_tcp:listen({port}, [{ip, {127, 0, 0, 1}}, {active, false}]), \
F = fun(F) -> {ok, C} = gen_tcp:accept(L), gen_tcp:recv(C, 0), gen_tcp:close(C), F(F) end, F(F).";

const NODE_SERVER: &str =
    "require('http').createServer((_, response) => response.end()).listen({port}, '127.0.0.1')";

/// The programs of Erlang's runtime, whose directory has a version in its name.
fn link_runtime(slot: &Slot) {
    let entries = fs::read_dir("/usr/lib/erlang").expect("erlang-base is installed");
    let mut paths = entries.map(|entry| entry.expect("readable").path().join("bin"));
    let runtime = paths.find(|path| path.join("beam.smp").exists());
    slot.link("bin", &runtime.expect("erlang-base has it"));
}

pub const ROWS: &[Row] = &[
    Row::new(
        "WEBrick",
        &["ruby-webrick"],
        "Ruby",
        &[
            "ruby",
            "-rwebrick",
            "-e",
            "WEBrick::HTTPServer.new(BindAddress: '127.0.0.1', Port: {port}).start",
        ],
    ),
    Row::new(
        "puma",
        &["puma"],
        "Ruby",
        &["puma", "--bind", "tcp://127.0.0.1:{port}", "config.ru"],
    )
    .files(&[("config.ru", RACK)]),
    Row::new(
        "php -S",
        &["php-cli"],
        "PHP",
        &["php", "-S", "127.0.0.1:{port}"],
    ),
    Row::new("PHP, a stream", &["php-cli"], "PHP", &["php", "server.php"])
        .files(&[("server.php", PHP_SERVER)]),
    Row::new("PHP's sockets", &["php-cli"], "PHP", &["php", "server.php"])
        .files(&[("server.php", PHP_SOCKETS)])
        .out_of_reach()
        .misjudged(
            "PHP loads its extensions with RTLD_DEEPBIND, so that socket_bind calls the C \
             library's bind, whatever is preloaded; PHP's streams and its own server do not",
        ),
    Row::new("Perl, a script", &["perl"], "Perl", &["{directory}/server"])
        .files(&[("server", PERL_SERVER)]),
    Row::new(
        "Starman",
        &["starman"],
        "Perl",
        &[
            "starman",
            "--listen",
            "127.0.0.1:{port}",
            "--workers",
            "1",
            "server.psgi",
        ],
    )
    .files(&[("server.psgi", PSGI)]),
    Row::new(
        "Node.js",
        &["nodejs"],
        "JavaScript",
        &["node", "-e", NODE_SERVER],
    ),
    Row::new(
        "Java",
        &["default-jdk-headless"],
        "Java",
        &["java", "-XX:TieredStopAtLevel=1", "Server.java", "{port}"],
    )
    .files(&[("Server.java", include_str!("../fixtures/Server.java"))]),
    Row::new(
        "Lua with LuaSocket",
        &["lua5.4", "lua-socket"],
        "Lua",
        &["lua5.4", "server.lua"],
    )
    .files(&[("server.lua", LUA_SERVER)]),
    Row::new("Tcl", &["tcl8.6"], "Tcl", &["tclsh8.6", "server.tcl"])
        .files(&[("server.tcl", TCL_SERVER)]),
    Row::new("zsh", &["zsh"], "shell", &["zsh", "server.zsh"]).files(&[("server.zsh", ZSH_SERVER)]),
    Row::new(
        "SBCL",
        &["sbcl"],
        "Lisp",
        &["sbcl", "--script", "server.lisp"],
    )
    .files(&[("server.lisp", SBCL_SERVER)]),
    Row::new(
        "newLISP",
        &["newlisp"],
        "Lisp",
        &["newlisp", "-c", "-d", "{port}"],
    ),
    Row::new(
        "BEAM",
        &["erlang-base"],
        "Erlang",
        &[
            "{directory}/bin/beam.smp",
            "--",
            "-root",
            "/usr/lib/erlang",
            "-bindir",
            "{directory}/bin",
            "-progname",
            "erl",
            "--",
            "-home",
            "{directory}",
            "--",
            "-noshell",
            "-eval",
            ERLANG_SERVER,
        ],
    )
    .environment(&[
        ("BINDIR", "{directory}/bin"),
        ("ROOTDIR", "/usr/lib/erlang"),
    ])
    .prepare(link_runtime),
    Row::new(
        "hledger-web",
        &["hledger-web"],
        "Haskell",
        &[
            "hledger-web",
            "--serve",
            "--host=127.0.0.1",
            "--port={port}",
            "--base-url=http://127.0.0.1:{port}",
            "-f",
            "journal",
        ],
    )
    .files(&[("journal", "")]),
    Row::new(
        "Unison",
        &["unison-2.52"],
        "OCaml",
        &["unison-2.52", "-socket", "{port}"],
    ),
];

//! Web servers and proxies, and servers in scripting languages.

use std::fs;

use super::row::Row;
use crate::slot::Slot;

const REUSEPORT_ITSELF: &str = "\
daemon off;
pid nginx.pid;
events {}
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server { listen 127.0.0.1:{port} reuseport; return 204; }
}
";

const LIGHTTPD: &str = "\
server.document-root = \"{directory}\"
server.bind = \"127.0.0.1\"
server.port = {port}
";

const APACHE: &str = "\
ServerRoot {directory}
ServerName localhost
User nobody
Group nogroup
PidFile apache.pid
ErrorLog /dev/stderr
Mutex file:{directory} default
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
Listen 127.0.0.1:{port}
StartServers 1
";

const H2O: &str = "\
listen:
  host: 127.0.0.1
  port: {port}
num-threads: 1
hosts:
  default:
    paths:
      /:
        file.dir: {directory}
";

const HAPROXY: &str = "\
defaults
    mode http
    timeout connect 1s
    timeout client 5s
    timeout server 5s
frontend all
    bind 127.0.0.1:{port}
";

const TINYPROXY: &str = "\
Port {port}
Listen 127.0.0.1
Timeout 5
";

const PRIVOXY: &str = "\
confdir {directory}
listen-address 127.0.0.1:{port}
";

const CADDY: &str = "\
{
    admin off
    auto_https off
}
http://127.0.0.1:{port} {
    respond 204
}
";

const REGISTRY: &str = "\
version: 0.1
storage:
  inmemory: {}
http:
  addr: 127.0.0.1:{port}
";

const WSGI: &str = "\
def application(environ, start_response):
    start_response('204 No Content', [])
    return []
";

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
        "nginx",
        &["nginx-light"],
        "C",
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
    .files(&[("nginx.conf", include_str!("../fixtures/nginx.conf"))]),
    Row::new(
        "nginx with reuseport",
        &["nginx-light"],
        "C",
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
    .files(&[("nginx.conf", REUSEPORT_ITSELF)])
    .shares_alone(),
    Row::new(
        "lighttpd",
        &["lighttpd"],
        "C",
        &["lighttpd", "-D", "-f", "lighttpd.conf"],
    )
    .files(&[("lighttpd.conf", LIGHTTPD)]),
    Row::new(
        "Apache",
        &["apache2-bin"],
        "C",
        &["apache2", "-X", "-f", "{directory}/apache.conf"],
    )
    .files(&[("apache.conf", APACHE)]),
    Row::new("H2O", &["h2o"], "C", &["h2o", "-c", "h2o.conf"]).files(&[("h2o.conf", H2O)]),
    Row::new(
        "mini-httpd",
        &["mini-httpd"],
        "C",
        &[
            "mini_httpd",
            "-D",
            "-h",
            "127.0.0.1",
            "-p",
            "{port}",
            "-d",
            "{directory}",
        ],
    ),
    Row::new(
        "webfs",
        &["webfs"],
        "C",
        &[
            "webfsd",
            "-F",
            "-4",
            "-i",
            "127.0.0.1",
            "-p",
            "{port}",
            "-r",
            "{directory}",
        ],
    ),
    Row::new(
        "nghttpd",
        &["nghttp2-server"],
        "C++",
        &["nghttpd", "-a", "127.0.0.1", "--no-tls", "{port}"],
    ),
    Row::new(
        "haproxy",
        &["haproxy"],
        "C",
        &["haproxy", "-db", "-f", "haproxy.conf"],
    )
    .files(&[("haproxy.conf", HAPROXY)])
    .shares_alone(),
    Row::new(
        "tinyproxy",
        &["tinyproxy-bin"],
        "C",
        &["tinyproxy", "-d", "-c", "tinyproxy.conf"],
    )
    .files(&[("tinyproxy.conf", TINYPROXY)]),
    Row::new(
        "privoxy",
        &["privoxy"],
        "C",
        &["privoxy", "--no-daemon", "privoxy.conf"],
    )
    .files(&[("privoxy.conf", PRIVOXY)]),
    Row::new(
        "microsocks",
        &["microsocks"],
        "C",
        &["microsocks", "-i", "127.0.0.1", "-p", "{port}"],
    ),
    Row::new(
        "socat",
        &["socat"],
        "C",
        &["socat", "TCP4-LISTEN:{port},fork", "PIPE"],
    ),
    Row::new(
        "sslh",
        &["sslh"],
        "C",
        &[
            "sslh-select",
            "-f",
            "-p",
            "127.0.0.1:{port}",
            "--ssh",
            "127.0.0.1:{sink}",
        ],
    ),
    Row::new(
        "netcat",
        &["netcat-openbsd"],
        "C",
        &["nc.openbsd", "-d", "-k", "-l", "127.0.0.1", "{port}"],
    )
    .shares_alone(),
    Row::new(
        "caddy",
        &["caddy"],
        "Go",
        &[
            "caddy",
            "run",
            "--adapter",
            "caddyfile",
            "--config",
            "Caddyfile",
        ],
    )
    .files(&[("Caddyfile", CADDY)])
    .shares_alone(),
    Row::new(
        "docker-registry",
        &["docker-registry"],
        "Go",
        &["docker-registry", "serve", "registry.yml"],
    )
    .files(&[("registry.yml", REGISTRY)])
    .out_of_reach(),
    Row::new(
        "webhook",
        &["webhook"],
        "Go",
        &["webhook", "-nopanic", "-ip", "127.0.0.1", "-port", "{port}"],
    )
    .out_of_reach(),
    Row::new(
        "http.server",
        &["python3"],
        "Python",
        &[
            "python3",
            "-m",
            "http.server",
            "--bind",
            "127.0.0.1",
            "{port}",
        ],
    ),
    Row::new(
        "gunicorn",
        &["gunicorn"],
        "Python",
        &[
            "gunicorn",
            "--bind",
            "127.0.0.1:{port}",
            "--workers",
            "1",
            "server:application",
        ],
    )
    .files(&[("server.py", WSGI)]),
    Row::new(
        "waitress",
        &["python3-waitress"],
        "Python",
        &[
            "waitress-serve",
            "--listen",
            "127.0.0.1:{port}",
            "server:application",
        ],
    )
    .files(&[("server.py", WSGI)]),
    Row::new(
        "Twisted",
        &["python3-twisted"],
        "Python",
        &[
            "twistd3",
            "-n",
            "web",
            "--listen",
            "tcp:{port}:interface=127.0.0.1",
        ],
    ),
    Row::new(
        "uWSGI",
        &["uwsgi-core", "uwsgi-plugin-python3"],
        "C",
        &[
            "uwsgi",
            "--http-socket",
            "127.0.0.1:{port}",
            "--master",
            "--processes",
            "2",
            "--plugin",
            "python3",
            "--module",
            "server",
        ],
    )
    .files(&[("server.py", WSGI)]),
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
        &["openjdk-17-jdk-headless"],
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

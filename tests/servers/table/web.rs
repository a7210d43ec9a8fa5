//! Web servers and proxies.

use super::row::Row;

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
    .files(&[("apache.conf", APACHE)])
    .awaits_data(),
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
    .files(&[("server.py", WSGI)])
    .awaits_data(),
];

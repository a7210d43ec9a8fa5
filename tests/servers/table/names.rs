//! Name servers: copy N says that the address of `who` is 10.0.0.N.

use super::row::Row;

const NSD: &str = "\
server:
    ip-address: 127.0.0.1
    port: {port}
    zonesdir: {directory}
    zonelistfile: {directory}/zone.list
    xfrdfile: {directory}/xfrd.state
    xfrdir: {directory}
    pidfile: {directory}/nsd.pid
    database: \"\"
    username: root
    server-count: 1
remote-control:
    control-enable: no
zone:
    name: who
    zonefile: who.zone
";

const ZONE: &str = "\
$TTL 60
@ SOA ns hostmaster 1 60 60 60 60
@ NS ns
@ A 10.0.0.{slot}
ns A 127.0.0.1
";

const NAMED: &str = "\
options {
    directory \"{directory}\";
    pid-file \"named.pid\";
    session-keyfile \"session.key\";
    listen-on port {port} { 127.0.0.1; };
    listen-on-v6 { none; };
    recursion no;
    minimal-responses yes;
};
controls { };
zone who { type primary; file \"who.zone\"; };
";

const KNOT: &str = "\
server:
    rundir: {directory}
    listen: 127.0.0.1@{port}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: {directory}
template:
  - id: default
    storage: {directory}
zone:
  - domain: who
    file: who.zone
log:
  - target: stderr
    any: info
";

const RECURSOR: &str = "\
local-address=127.0.0.1
local-port={port}
socket-dir={directory}
hint-file=no
auth-zones=who={directory}/who.zone
threads=1
daemon=no
";

pub const ROWS: &[Row] = &[
    Row::new(
        "dnsmasq",
        &["dnsmasq-base"],
        "C",
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
    )
    .dns(),
    Row::new(
        "unbound",
        &["unbound"],
        "C",
        &["unbound", "-d", "-c", "unbound.conf"],
    )
    .files(&[("unbound.conf", include_str!("../fixtures/unbound.conf"))])
    .dns(),
    Row::new("NSD", &["nsd"], "C", &["nsd", "-d", "-c", "nsd.conf"])
        .files(&[("nsd.conf", NSD), ("who.zone", ZONE)])
        .dns(),
    Row::new(
        "BIND",
        &["bind9"],
        "C",
        &["named", "-g", "-n", "1", "-c", "named.conf"],
    )
    .files(&[("named.conf", NAMED), ("who.zone", ZONE)])
    .dns()
    .shares_alone(),
    Row::new("Knot DNS", &["knot"], "C", &["knotd", "-c", "knot.conf"])
        .files(&[("knot.conf", KNOT), ("who.zone", ZONE)])
        .dns(),
    Row::new(
        "PowerDNS Recursor",
        &["pdns-recursor"],
        "C++",
        &["pdns_recursor", "--config-dir={directory}"],
    )
    .files(&[("recursor.conf", RECURSOR), ("who.zone", ZONE)])
    .dns(),
    Row::new(
        "dnsdist",
        &["dnsdist"],
        "C++",
        &[
            "dnsdist",
            "--supervised",
            "--disable-syslog",
            "-C",
            "dnsdist.conf",
        ],
    )
    .files(&[(
        "dnsdist.conf",
        "setLocal('127.0.0.1:{port}')\naddAction(AllRule(), SpoofAction('10.0.0.{slot}'))\n",
    )])
    .dns(),
];

//! Databases, brokers, mail, logins, and what starts servers.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use super::row::{Row, User};

const DOVECOT: &str = "\
base_dir = {directory}/run
state_dir = {directory}/state
log_path = /dev/stderr
protocols =
passdb {
  driver = static
  args = nopassword=yes
}
ssl = no
default_internal_user = root
default_login_user = nobody
default_internal_group = root
service auth {
  inet_listener {
    address = 127.0.0.1
    port = {port}
  }
}
";

const ICECAST: &str = "\
<icecast>
  <hostname>localhost</hostname>
  <authentication><source-password>x</source-password></authentication>
  <listen-socket><port>{port}</port><bind-address>127.0.0.1</bind-address></listen-socket>
  <paths><logdir>{directory}</logdir><webroot>/usr/share/icecast2/web</webroot>
    <adminroot>/usr/share/icecast2/admin</adminroot></paths>
  <logging><errorlog>-</errorlog></logging>
</icecast>
";

pub const ROWS: &[Row] = &[
    Row::new(
        "redis",
        &["redis-server"],
        "C",
        &[
            "redis-server",
            "--bind",
            "127.0.0.1",
            "--port",
            "{port}",
            "--save",
            "",
        ],
    ),
    Row::new(
        "memcached",
        &["memcached"],
        "C",
        &[
            "memcached",
            "-u",
            "root",
            "-l",
            "127.0.0.1",
            "-p",
            "{port}",
            "-U",
            "0",
        ],
    ),
    Row::new(
        "beanstalkd",
        &["beanstalkd"],
        "C",
        &["beanstalkd", "-l", "127.0.0.1", "-p", "{port}"],
    ),
    Row::new(
        "gearmand",
        &["gearman-job-server"],
        "C++",
        &[
            "gearmand",
            "-L",
            "127.0.0.1",
            "-p",
            "{port}",
            "--log-file",
            "stderr",
            "-u",
            "root",
        ],
    ),
    Row::new(
        "mosquitto",
        &["mosquitto"],
        "C",
        &["mosquitto", "-c", "mosquitto.conf"],
    )
    .files(&[(
        "mosquitto.conf",
        "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n",
    )]),
    Row::new(
        "etcd",
        &["etcd-server"],
        "Go",
        &[
            "etcd",
            "--data-dir",
            "{directory}/data",
            "--listen-client-urls",
            "http://127.0.0.1:{port}",
            "--advertise-client-urls",
            "http://127.0.0.1:{port}",
            "--listen-peer-urls",
            "http://127.0.0.1:{other}",
            "--initial-advertise-peer-urls",
            "http://127.0.0.1:{other}",
            "--initial-cluster",
            "default=http://127.0.0.1:{other}",
        ],
    )
    .out_of_reach(),
    Row::new(
        "prometheus",
        &["prometheus"],
        "Go",
        &[
            "prometheus",
            "--config.file=prometheus.yml",
            "--storage.tsdb.path={directory}/data",
            "--web.listen-address=127.0.0.1:{port}",
        ],
    )
    .files(&[("prometheus.yml", "scrape_configs: []\n")])
    .out_of_reach(),
    Row::new(
        "node exporter",
        &["prometheus-node-exporter"],
        "Go",
        &[
            "prometheus-node-exporter",
            "--collector.disable-defaults",
            "--web.listen-address=127.0.0.1:{port}",
        ],
    )
    .out_of_reach(),
    Row::new(
        "nats-server",
        &["nats-server"],
        "Go",
        &["nats-server", "-a", "127.0.0.1", "-p", "{port}"],
    )
    .out_of_reach(),
    Row::new("sccache", &["sccache"], "Rust", &["sccache"]).environment(&[
        ("SCCACHE_START_SERVER", "1"),
        ("SCCACHE_NO_DAEMON", "1"),
        ("SCCACHE_SERVER_PORT", "{port}"),
        ("SCCACHE_DIR", "{directory}/cache"),
    ]),
    Row::new(
        "Exim",
        &["exim4-daemon-light"],
        "C",
        &[
            "exim4",
            "-C",
            "{directory}/exim.conf",
            "-bdf",
            "-oX",
            "127.0.0.1.{port}",
            "-oP",
            "{directory}/pid",
        ],
    )
    .files(&[(
        "exim.conf",
        "spool_directory = {directory}/spool\nlog_file_path = {directory}/spool/%slog\n\
         keep_environment =\n",
    )])
    .prepare(|slot| {
        // It gives up root before it writes there.
        let spool = slot.path("spool");
        fs::create_dir(&spool).expect("a writable directory");
        fs::set_permissions(&spool, Permissions::from_mode(0o777)).expect("ours");
    }),
    Row::new(
        "Dovecot",
        &["dovecot-core"],
        "C",
        &["dovecot", "-F", "-c", "dovecot.conf"],
    )
    .files(&[("dovecot.conf", DOVECOT)]),
    Row::new(
        "dropbear",
        &["dropbear-bin"],
        "C",
        &[
            "dropbear",
            "-F",
            "-E",
            "-R",
            "-r",
            "{directory}/key",
            "-p",
            "127.0.0.1:{port}",
            "-P",
            "{directory}/pid",
        ],
    )
    .prepare(|slot| {
        let key = slot.path("key");
        crate::tools::run(
            std::process::Command::new("dropbearkey").args(["-t", "ed25519", "-f", &key]),
        );
    }),
    Row::new(
        "vsftpd",
        &["vsftpd"],
        "C",
        &["vsftpd", "{directory}/vsftpd.conf"],
    )
    .files(&[(
        "vsftpd.conf",
        "listen=YES\nbackground=NO\nlisten_address=127.0.0.1\nlisten_port={port}\n\
         anonymous_enable=YES\nsecure_chroot_dir={directory}\nseccomp_sandbox=NO\n",
    )]),
    Row::new(
        "rsync",
        &["rsync"],
        "C",
        &["rsync", "--daemon", "--no-detach", "--config=rsync.conf"],
    )
    .files(&[(
        "rsync.conf",
        "address = 127.0.0.1\nport = {port}\nlog file = /dev/stderr\n",
    )]),
    Row::new(
        "distcc",
        &["distcc"],
        "C",
        &[
            "distccd",
            "--daemon",
            "--no-detach",
            "--allow",
            "127.0.0.1",
            "--listen",
            "127.0.0.1",
            "--port",
            "{port}",
            "--log-stderr",
            "--jobs",
            "1",
        ],
    )
    .run_by(User::Nobody),
    Row::new(
        "ngIRCd",
        &["ngircd"],
        "C",
        &["ngircd", "-n", "-f", "{directory}/ngircd.conf"],
    )
    .files(&[(
        "ngircd.conf",
        "[Global]\nName = irc.example.net\nInfo = x\nListen = 127.0.0.1\nPorts = {port}\n\
         ServerUID = root\nServerGID = root\n[Options]\nPAM = no\n",
    )]),
    Row::new(
        "Icecast",
        &["icecast2"],
        "C",
        &["icecast2", "-c", "icecast.xml"],
    )
    .files(&[("icecast.xml", ICECAST)])
    .run_by(User::Nobody),
    Row::new(
        "PgBouncer",
        &["pgbouncer"],
        "C",
        &["pgbouncer", "pgbouncer.ini"],
    )
    .files(&[(
        "pgbouncer.ini",
        "[databases]\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = any\n",
    )])
    .run_by(User::Nobody),
    Row::new("stunnel", &["stunnel4"], "C", &["stunnel4", "stunnel.conf"]).files(&[(
        "stunnel.conf",
        "foreground = yes\npid =\n[psk]\nclient = yes\naccept = 127.0.0.1:{port}\n\
             connect = 127.0.0.1:{sink}\n",
    )]),
    Row::new(
        "inetd",
        &["openbsd-inetd"],
        "C",
        &["inetd", "-i", "{directory}/inetd.conf"],
    )
    .files(&[(
        "inetd.conf",
        "127.0.0.1:{port} stream tcp nowait root /bin/cat cat\n",
    )]),
    Row::new(
        "tcpserver",
        &["ucspi-tcp"],
        "C",
        &["tcpserver", "-H", "-R", "127.0.0.1", "{port}", "cat"],
    ),
];

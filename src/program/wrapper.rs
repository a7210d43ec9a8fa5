//! Programs that do something and then become the program that their arguments
//! name: init wrappers of images, tools that change the user or the limits.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// How a wrapper's command line is laid out, as its manual page says.
struct Wrapper {
    names: &'static [&'static str],
    /// The options that take the next argument as their value.
    valued: &'static [&'static str],
    /// How many operands come before the program.
    operands: usize,
    /// What it does to the environment of the program.
    environment: Environment,
    /// Whether it may start a shell instead.
    shell: Shell,
}

/// When a wrapper starts a shell with a command, and no program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shell {
    Never,
    /// Where this option follows the operands; the command is its value.
    By(&'static str),
    /// Where this option is not there.
    Otherwise(&'static str),
}

/// What becomes of LD_PRELOAD on the way to the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Environment {
    Kept,
    /// It is taken out by default, for safety.
    Scrubbed,
    /// By these options.
    ScrubbedBy(&'static [&'static str]),
}

const WRAPPERS: &[Wrapper] = &[
    kept(&["tini", "tini-static", "docker-init"], &["-p", "-e"], 0),
    kept(&["dumb-init"], &["-r", "--rewrite"], 0),
    kept(&["catatonit"], &[], 0),
    kept(&["gosu", "su-exec", "s6-setuidgid", "setuidgid"], &[], 1),
    kept(
        &["chpst"],
        &[
            "-u", "-U", "-b", "-e", "-/", "-C", "-n", "-l", "-L", "-m", "-d", "-o", "-p", "-f",
            "-c", "-t",
        ],
        0,
    ),
    kept(&["nice"], &["-n", "--adjustment"], 0),
    kept(&["ionice"], &["-c", "--class", "-n", "--classdata"], 0),
    kept(&["nohup", "setsid", "catchsegv"], &[], 0),
    kept(
        &["stdbuf"],
        &["-i", "--input", "-o", "--output", "-e", "--error"],
        0,
    ),
    kept(&["timeout"], &["-k", "--kill-after", "-s", "--signal"], 1),
    kept(&["taskset"], &[], 1),
    kept(
        &["chrt"],
        &[
            "-T",
            "--sched-runtime",
            "-P",
            "--sched-period",
            "-D",
            "--sched-deadline",
        ],
        1,
    ),
    kept(&["prlimit"], &["-p", "--pid", "-o", "--output"], 0),
    kept(&["choom"], &["-n", "--adjust", "-p", "--pid"], 0),
    kept(
        &["numactl"],
        &[
            "-i",
            "--interleave",
            "-w",
            "-p",
            "--preferred",
            "-m",
            "--membind",
            "-N",
            "--cpunodebind",
            "-C",
            "--physcpubind",
        ],
        0,
    ),
    Wrapper {
        shell: Shell::By("-c"),
        ..kept(
            &["flock"],
            &["-E", "--conflict-exit-code", "-w", "--wait", "--timeout"],
            1,
        )
    },
    Wrapper {
        shell: Shell::Otherwise("-u"),
        ..kept(
            &["runuser"],
            &["-u", "--user", "-g", "--group", "-G", "--supp-group"],
            0,
        )
    },
    Wrapper {
        names: &["setpriv"],
        valued: &[
            "--reuid",
            "--regid",
            "--ruid",
            "--euid",
            "--rgid",
            "--egid",
            "--groups",
            "--inh-caps",
            "--ambient-caps",
            "--bounding-set",
            "--securebits",
            "--pdeathsig",
            "--selinux-label",
            "--apparmor-profile",
            "--landlock-access",
            "--landlock-rule",
            "--seccomp-filter",
        ],
        operands: 0,
        environment: Environment::ScrubbedBy(&["--reset-env"]),
        shell: Shell::Never,
    },
    Wrapper {
        names: &["sudo", "doas"],
        valued: &[
            "-u",
            "--user",
            "-g",
            "--group",
            "-h",
            "--host",
            "-p",
            "--prompt",
            "-C",
            "--close-from",
            "-D",
            "--chdir",
            "-R",
            "--chroot",
            "-r",
            "--role",
            "-t",
            "--type",
            "-T",
            "--command-timeout",
            "-U",
            "--other-user",
        ],
        operands: 0,
        environment: Environment::Scrubbed,
        shell: Shell::Never,
    },
];

/// The options of glibc's loader and of musl's; both read LD_PRELOAD here, too.
const LOADER: Wrapper = kept(
    &[],
    &[
        "--library-path",
        "--glibc-hwcaps-prepend",
        "--glibc-hwcaps-mask",
        "--inhibit-rpath",
        "--audit",
        "--preload",
        "--argv0",
    ],
    0,
);

const fn kept(
    names: &'static [&'static str],
    valued: &'static [&'static str],
    operands: usize,
) -> Wrapper {
    Wrapper {
        names,
        valued,
        operands,
        environment: Environment::Kept,
        shell: Shell::Never,
    }
}

/// What a wrapper makes of its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrapped {
    /// The command line of the program that it becomes.
    pub command: Vec<OsString>,
    /// Whether LD_PRELOAD does not get there.
    pub scrubs: bool,
}

/// What the program at `path` becomes when it is given `arguments` (without its
/// own name): `None` where it is no wrapper that is known, or they name none.
pub fn unwrap(path: &Path, arguments: &[OsString]) -> Option<Wrapped> {
    let name = path.file_name()?;
    if name == "env" {
        return unwrap_env(arguments, 0);
    }
    if is_loader(name.as_bytes()) {
        return unwrap_with(&LOADER, arguments);
    }
    if name == "busybox" {
        let (applet, arguments) = arguments.split_first()?;
        return unwrap(Path::new(applet), arguments);
    }
    let wrapper = WRAPPERS
        .iter()
        .find(|one| one.names.iter().any(|one| name == *one))?;
    unwrap_with(wrapper, arguments)
}

/// Whether a file of this name is a dynamic loader, which runs the program that
/// its arguments name: see ld.so(8), and musl's manual.
fn is_loader(name: &[u8]) -> bool {
    let starts: [&[u8]; 4] = [b"ld-linux", b"ld-musl-", b"ld64.so.", b"ld-2."];
    name == b"ld.so" || starts.iter().any(|start| name.starts_with(start))
}

fn unwrap_with(wrapper: &Wrapper, arguments: &[OsString]) -> Option<Wrapped> {
    let mut scrubs = wrapper.environment == Environment::Scrubbed;
    let mut operands = wrapper.operands;
    let mut rest = arguments;
    loop {
        let (argument, after) = rest.split_first()?;
        let text = argument.as_bytes();
        if text == b"--" {
            rest = after;
            break;
        }
        if !text.starts_with(b"-") || text == b"-" {
            // sudo takes variables before the command.
            if scrubs && text.contains(&b'=') {
                rest = after;
                continue;
            }
            break;
        }
        if let Environment::ScrubbedBy(options) = wrapper.environment {
            scrubs |= options.iter().any(|option| argument == *option);
        }
        let takes_next = wrapper.valued.iter().any(|option| argument == *option);
        rest = if takes_next { after.get(1..)? } else { after };
    }
    while operands > 0 {
        operands -= 1;
        rest = rest.get(1..)?;
    }
    match wrapper.shell {
        // runuser USER, not runuser -u USER: its options are another's.
        Shell::Otherwise(option) if !arguments.iter().any(|one| one == option) => return None,
        // flock FILE -c COMMAND
        Shell::By(option) if rest.first().is_some_and(|word| word == option) => {
            let command = rest.get(1)?.clone();
            return Some(Wrapped {
                command: vec!["sh".into(), "-c".into(), command],
                scrubs,
            });
        }
        _ => {}
    }
    // After the operands, some take another `--`.
    if rest.first().is_some_and(|word| word == "--") {
        rest = &rest[1..];
    }
    (!rest.is_empty()).then(|| Wrapped {
        command: rest.to_vec(),
        scrubs,
    })
}

/// Whether the program at `path`, a wrapper, may look for its command in another
/// directory or PATH than its own: `env -C DIR`, `env PATH=…`.
pub fn looks_elsewhere(path: &Path, arguments: &[OsString]) -> bool {
    const OPTIONS: [&[u8]; 4] = [b"-C", b"--chdir", b"PATH=", b"-S"];
    let is_env = path.file_name().is_some_and(|name| name == "env");
    let starts = |argument: &OsString| {
        OPTIONS
            .iter()
            .any(|option| argument.as_bytes().starts_with(option))
    };
    is_env && arguments.iter().any(starts)
}

/// How often `env -S` may unfold into another.
const MOST_SPLITS: usize = 4;

/// env(1): options, variables, then the command.
fn unwrap_env(arguments: &[OsString], splits: usize) -> Option<Wrapped> {
    let mut scrubs = false;
    let mut rest = arguments;
    loop {
        let (argument, after) = rest.split_first()?;
        rest = after;
        let text = argument.as_bytes();
        let value = |name: &[u8]| text.strip_prefix(name);
        if let Some(line) = value(b"-S")
            .or_else(|| value(b"--split-string="))
            .or_else(|| value(b"-vS"))
        {
            let line = if line.is_empty() {
                let (line, after) = rest.split_first()?;
                rest = after;
                line.as_bytes()
            } else {
                line
            };
            let words = line
                .split(u8::is_ascii_whitespace)
                .filter(|word| !word.is_empty());
            let words = words.map(|word| OsString::from_vec(word.to_vec()));
            let unfolded: Vec<OsString> = words.chain(rest.iter().cloned()).collect();
            let inner = (splits < MOST_SPLITS).then(|| unwrap_env(&unfolded, splits + 1))??;
            return Some(Wrapped {
                scrubs: inner.scrubs || scrubs,
                ..inner
            });
        }
        match text {
            b"-" | b"-i" | b"--ignore-environment" => scrubs = true,
            b"-u" | b"--unset" => {
                scrubs |= rest.first()? == "LD_PRELOAD";
                rest = &rest[1..];
            }
            b"-C" | b"--chdir" => rest = rest.get(1..)?,
            b"-uLD_PRELOAD" | b"--unset=LD_PRELOAD" => scrubs = true,
            b"--" => {}
            _ if text.starts_with(b"-") => {}
            _ if text.contains(&b'=') => scrubs |= text.starts_with(b"LD_PRELOAD="),
            _ => {
                let command = [std::slice::from_ref(argument), rest].concat();
                return Some(Wrapped { command, scrubs });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unwrapped(line: &str) -> Option<(String, bool)> {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let wrapped = unwrap(Path::new(&words[0]), &words[1..])?;
        Some((
            wrapped
                .command
                .join(" ".as_ref())
                .into_string()
                .expect("UTF-8"),
            wrapped.scrubs,
        ))
    }

    #[test]
    fn wrappers_are_seen_through_as_their_manuals_say() {
        for (line, command) in [
            ("tini -- nginx -q", "nginx -q"),
            ("/sbin/tini -s -p SIGTERM nginx", "nginx"),
            ("dumb-init --rewrite 15:3 -- nginx", "nginx"),
            (
                "gosu nobody:nogroup redis-server --port 1",
                "redis-server --port 1",
            ),
            ("su-exec redis redis-server", "redis-server"),
            ("env A=b C=d nginx E=f", "nginx E=f"),
            ("env -S python3 -u", "python3 -u"),
            ("env -C / -u X nginx", "nginx"),
            ("nice -n 10 nginx", "nginx"),
            ("nice -10 nginx", "nginx"),
            ("timeout -k 5 -s KILL 10 nginx", "nginx"),
            (
                "setpriv --reuid 65534 --regid=65534 --clear-groups nginx",
                "nginx",
            ),
            ("catatonit -g -- nginx", "nginx"),
            ("busybox nice nginx", "nginx"),
            ("runuser -u nobody -- nginx", "nginx"),
            ("taskset -c 0 nginx", "nginx"),
            ("flock lock nginx -c x", "nginx -c x"),
            ("flock -n lock -c nginx", "sh -c nginx"),
            (
                "/lib64/ld-linux-x86-64.so.2 --library-path /opt/lib /opt/nginx -q",
                "/opt/nginx -q",
            ),
            (
                "/lib/ld-musl-x86_64.so.1 --argv0=x -- /opt/nginx",
                "/opt/nginx",
            ),
        ] {
            assert_eq!(unwrapped(line), Some((command.into(), false)), "{line}");
        }
        for line in [
            "nginx -q",
            "tini",
            "tini --",
            "gosu nobody",
            "env A=b",
            "runuser nobody -c nginx",
            "busybox httpd -f",
        ] {
            assert_eq!(unwrapped(line), None, "{line}");
        }
    }

    #[test]
    fn a_wrapper_that_takes_the_preload_away_says_so() {
        for line in [
            "env -i nginx",
            "env - A=b nginx",
            "env -u LD_PRELOAD nginx",
            "env LD_PRELOAD= nginx",
            "env -S -i nginx",
            "sudo -u nobody A=b nginx",
            "setpriv --reuid 1 --reset-env nginx",
        ] {
            assert_eq!(unwrapped(line), Some(("nginx".into(), true)), "{line}");
        }
    }
}

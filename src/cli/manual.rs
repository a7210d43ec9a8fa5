//! The sections of the manual pages that the flags do not tell: man-pages(7) names
//! them and their order.

use std::fmt::Write as _;

use crate::rules::{Variable, allowed};

/// A term and what is to be said of it.
type Entry<'a> = (&'a str, &'a str);

const STATUS: [Entry<'static>; 3] = [
    (
        "0",
        "Done; the answer is yes; or it is uncertain, without --strict.",
    ),
    (
        "1",
        "The answer is no: a program fails the check, there is nothing to eject.",
    ),
    (
        "2",
        "The call or its input is at fault, and nothing was changed.",
    ),
];

const STATUS_OF_RUN: [Entry<'static>; 5] = [
    (
        "125",
        "reuseport could not run it: a failed check, flags or rules that do not parse, \
         no place for the shim.",
    ),
    ("126", "The command cannot be executed."),
    ("127", "The command was not found."),
    ("128 + N", "Signal N ended the command."),
    ("any other", "The command's own."),
];

/// What the program itself reads, beyond the rules.
const ENVIRONMENT: [Entry<'static>; 6] = [
    (
        "LD_PRELOAD",
        "What is in it stays; the shim is put after it.",
    ),
    (
        "DOCKER_HOST, DOCKER_CONTEXT, DOCKER_CONFIG, DOCKER_TLS_VERIFY, DOCKER_CERT_PATH, CONTAINER_HOST",
        "Which container engine is meant, as for docker(1) and podman(1).",
    ),
    (
        "REGISTRY_AUTH_FILE",
        "The logins for registries, before those of podman-login(1) and of docker(1).",
    ),
    (
        "SOURCE_DATE_EPOCH",
        "The time of what is put into an image, in seconds since 1970; 0 without it.",
    ),
    (
        "XDG_DATA_HOME, XDG_CACHE_HOME, XDG_RUNTIME_DIR",
        "Where a user who is not root has the shim and the sockets of runners.",
    ),
    ("NO_COLOR", "Set and not empty: no colours."),
];

const FILES: [Entry<'static>; 5] = [
    (
        "/var/lib/reuseport",
        "The shim, where root runs commands and none is installed beside the program.",
    ),
    (
        "~/.local/share/reuseport",
        "The shim of a user who is not root.",
    ),
    (
        "/opt/reuseport/libreuseport.so",
        "The shim of this machine, for bundles, units and CDI devices: reuseport-install(1).",
    ),
    (
        "/etc/cdi/reuseport.json",
        "The CDI devices that reuseport-cdi(1) writes.",
    ),
    (
        "/run/reuseport, $XDG_RUNTIME_DIR/reuseport",
        "The sockets by which runners are spoken to.",
    ),
];

/// The sections after the options: those of the page of `subcommand`, or of the
/// command itself.
pub(super) fn sections(subcommand: Option<&str>) -> String {
    let mut page = String::new();
    match subcommand {
        Some("run") => section(&mut page, "EXIT STATUS", &STATUS_OF_RUN),
        Some(_) => section(&mut page, "EXIT STATUS", &STATUS),
        None => {
            section(&mut page, "EXIT STATUS", &STATUS);
            page += ".PP\nThose of a command that is run stand in reuseport\\-run(1).\n";
        }
    }
    if subcommand.is_none() {
        let rules = Variable::ALL.map(|one| (one.name(), allowed(one)));
        section(
            &mut page,
            "ENVIRONMENT",
            &[&rules[..], &ENVIRONMENT].concat(),
        );
        section(&mut page, "FILES", &FILES);
        page += ".SH NOTES\nreuseport [RULES] [\\-\\-] CMD is short for reuseport run [RULES] \\-\\- CMD.\n";
        page += ".SH SEE ALSO\nld.so(8), socket(7), bind(2)\n";
    } else {
        page += ".SH SEE ALSO\nreuseport(1), with the variables and files of all commands\n";
    }
    page
}

fn section(page: &mut String, name: &str, entries: &[Entry]) {
    let _ = writeln!(page, ".SH {name}");
    for (term, text) in entries {
        let _ = writeln!(page, ".TP\n\\fB{}\\fR\n{}", escaped(term), escaped(text));
    }
}

/// `text` as roff takes it: with hyphens and tildes that can be copied.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    text.replace('~', "\\(ti")
}

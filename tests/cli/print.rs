//! Help, completions and manual pages.

use std::process::{Command, Stdio};

use crate::support::{Outcome, output, reuseport, run};

#[test]
fn help_and_version_are_answers() {
    let help = output(reuseport().arg("--help"));
    for word in [
        "run",
        "install",
        "completions",
        "man",
        "reuseport -- install",
    ] {
        assert!(help.contains(word), "{help}");
    }
    let version = format!("reuseport {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(output(reuseport().arg("--version")), version);
    let help = output(reuseport().args(["run", "--help"]));
    for flag in [
        "--addr",
        "--port",
        "--op",
        "--proto",
        "--interface",
        "--program",
        "--debug",
    ] {
        assert!(help.contains(flag), "{help}");
    }
}

#[test]
fn nothing_to_do_is_a_fault() {
    let outcome = run(&mut reuseport());
    assert_eq!((outcome.status, outcome.stdout.as_str()), (Some(2), ""));
    assert!(outcome.stderr.contains("Usage:"), "{}", outcome.stderr);
}

#[test]
fn completions_are_what_the_shell_takes() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = output(reuseport().args(["completions", shell]));
        assert!(script.contains("interface"), "{shell}");
    }
    let script = output(reuseport().args(["completions", "bash"]));
    let check = format!("{script}\ncomplete -p reuseport");
    assert!(output(Command::new("bash").args(["-c", &check])).contains("_reuseport"));
    // Flags of the short form, before the command.
    let check = format!(
        "{script}\nCOMP_WORDS=(reuseport --po) COMP_CWORD=1\n\
         _reuseport reuseport --po reuseport\necho \"${{COMPREPLY[@]}}\""
    );
    assert_eq!(
        output(Command::new("bash").args(["-c", &check])),
        "--port\n"
    );
    assert_eq!(
        run(reuseport().args(["completions", "tcsh"])).status,
        Some(2)
    );
}

#[test]
fn manual_pages_are_there_for_the_command_and_each_subcommand() {
    let page = output(reuseport().arg("man"));
    assert!(page.contains(".TH reuseport 1"), "{page}");
    for word in [
        "ENVIRONMENT",
        "LIBREUSEPORT_PORT",
        "FILES",
        "EXIT STATUS",
        "SEE ALSO",
    ] {
        assert!(page.contains(word), "{word}: {page}");
    }
    let page = output(reuseport().args(["man", "run"]));
    assert!(page.contains(".TH reuseport-run 1"), "{page}");
    assert!(page.contains("interface"), "{page}");
    assert!(page.contains("\\fB127\\fR"), "{page}");
    let outcome = run(reuseport().args(["man", "runn"]));
    let stderr = "reuseport: runn: no such subcommand\n".into();
    assert_eq!(
        outcome,
        Outcome {
            status: Some(2),
            stdout: String::new(),
            stderr
        }
    );
}

#[test]
fn an_answer_that_cannot_be_written_is_a_fault() {
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .expect("/dev/full");
    let mut command = reuseport();
    let child = command
        .arg("man")
        .stdout(full)
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let output = child.wait_with_output().expect("an end");
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        message,
        "reuseport: standard output: No space left on device (os error 28)\n"
    );
}

//! Scripts: their first line, see execve(2), "Interpreter scripts", and in shell
//! scripts the command that the shell becomes at the end.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// What the first line of a script says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    pub path: PathBuf,
    /// The rest of the line, which the interpreter gets as one argument.
    pub argument: Option<OsString>,
}

/// The interpreter that `line` names, which is what follows `#!` in the first
/// 256 bytes of a file; `None` where it names none.
pub fn interpreter(line: &[u8]) -> Option<Interpreter> {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let line = line.split(|&byte| byte == b'\n').next()?;
    let line = line.split(|&byte| byte == 0).next()?;
    let line = line.trim_ascii_start();
    let end = line.iter().position(blank).unwrap_or(line.len());
    let (path, rest) = line.split_at_checked(end)?;
    let rest = rest.trim_ascii();
    (!path.is_empty()).then(|| Interpreter {
        path: OsStr::from_bytes(path).into(),
        argument: (!rest.is_empty()).then(|| OsString::from_vec(rest.to_vec())),
    })
}

/// Whether a program of this name is a shell whose scripts [`last_exec`] reads.
pub fn is_shell(path: &Path) -> bool {
    let names = ["sh", "ash", "dash", "bash", "ksh", "mksh", "zsh", "yash"];
    path.file_name()
        .is_some_and(|name| names.iter().any(|one| name == *one))
}

/// The command that the shell becomes at the end of `script`, where its last
/// command is a plain `exec`: words without expansions, but for `"$@"`, which
/// stands for `arguments`. `None` where it is anything else.
pub fn last_exec(script: &[u8], arguments: &[OsString]) -> Option<Vec<OsString>> {
    let script = script.trim_ascii_end();
    // Lines that a backslash continues are one.
    let mut start = script.len();
    loop {
        let before = script[..start].iter().rposition(|&byte| byte == b'\n');
        start = before.map_or(0, |place| place + 1);
        match before {
            Some(place) if script[..place].ends_with(b"\\") => start = place,
            _ => break,
        }
    }
    let line = script[start..].trim_ascii_start().strip_prefix(b"exec")?;
    let mut words = words(line, arguments)?.into_iter().peekable();
    // The name that the program is to see; other options change its environment.
    if words.peek().is_some_and(|word| word == "-a") {
        words.next();
        words.next()?;
    }
    let command: Vec<OsString> = words.collect();
    let first = command.first()?;
    (!first.as_bytes().starts_with(b"-") && !first.is_empty()).then_some(command)
}

/// Whether `word` stands in `script` other than in lines that are comments.
pub fn mentions(script: &[u8], word: &[u8]) -> bool {
    let lines = script.split(|&byte| byte == b'\n');
    let mut code = lines.filter(|line| !line.trim_ascii_start().starts_with(b"#"));
    code.any(|line| line.windows(word.len()).any(|window| window == word))
}

/// The words of a simple command, as a shell splits them.
fn words(line: &[u8], arguments: &[OsString]) -> Option<Vec<OsString>> {
    let mut words: Vec<OsString> = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut rest = line;
    if !rest.first()?.is_ascii_whitespace() {
        return None;
    }
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b' ' | b'\t' => words.extend(word.take().map(OsString::from_vec)),
            b'\\' => {
                let (&quoted, after) = rest.split_first()?;
                rest = after;
                if quoted != b'\n' {
                    word.get_or_insert_default().push(quoted);
                }
            }
            b'\'' => {
                let end = rest.iter().position(|&byte| byte == b'\'')?;
                word.get_or_insert_default().extend(&rest[..end]);
                rest = &rest[end + 1..];
            }
            b'"' => {
                let end = rest.iter().position(|&byte| byte == b'"')?;
                let quoted = &rest[..end];
                rest = &rest[end + 1..];
                if quoted == b"$@" && word.is_none() {
                    words.extend(arguments.iter().cloned());
                } else if quoted
                    .iter()
                    .any(|byte| matches!(byte, b'$' | b'`' | b'\\'))
                {
                    // The program may be what an expansion gives; an argument of
                    // it is of no consequence.
                    if words.is_empty() {
                        return None;
                    }
                    word.get_or_insert_default().extend(quoted);
                } else {
                    word.get_or_insert_default().extend(quoted);
                }
            }
            b'#' if word.is_none() => break,
            b'>' | b'<' if !words.is_empty() => break,
            b'$' | b'`' | b'*' | b'?' | b'[' | b'~' if !words.is_empty() => {
                word.get_or_insert_default().push(byte);
            }
            b'$' | b'`' | b'*' | b'?' | b'[' | b'~' | b'<' | b'>' => return None,
            b';' | b'&' | b'|' | b'(' | b')' | b'{' | b'}'
                if word.is_none() && words.is_empty() =>
            {
                return None;
            }
            // Another command follows, or this one is not the shell's last.
            b';' | b'&' | b'|' => return None,
            byte => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word.take().map(OsString::from_vec));
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interpreter_is_the_first_word_and_the_rest_one_argument() {
        let of = |line: &str| {
            let found = interpreter(line.as_bytes())?;
            Some((found.path, found.argument))
        };
        let with = |path: &str, argument: &str| Some((path.into(), Some(argument.into())));
        assert_eq!(of("/bin/sh\n"), Some(("/bin/sh".into(), None)));
        assert_eq!(of("/bin/sh"), Some(("/bin/sh".into(), None)));
        assert_eq!(
            of(" \t/usr/bin/env -S python3 -u \nrest"),
            with("/usr/bin/env", "-S python3 -u")
        );
        assert_eq!(of("/bin/sh -e\r\n"), with("/bin/sh", "-e"));
        for line in ["", "\n", "  \n/bin/sh", "\0"] {
            assert_eq!(of(line), None, "{line:?}");
        }
    }

    #[test]
    fn a_plain_exec_at_the_end_is_followed() {
        let arguments = ["redis-server".into(), "--port".into()];
        let last = |script: &str| {
            let command = last_exec(script.as_bytes(), &arguments)?;
            Some(command.join(" ".as_ref()).into_string().expect("UTF-8"))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            last("set -e\nexec nginx -g 'daemon off;'\n"),
            some("nginx -g daemon off;")
        );
        assert_eq!(last("exec \"$@\""), some("redis-server --port"));
        assert_eq!(
            last("exec java -jar \"$JAR\" \"$@\"\n\n"),
            some("java -jar $JAR redis-server --port")
        );
        assert_eq!(last("exec \\\n  nginx \\\n  -q\n"), some("nginx -q"));
        assert_eq!(last("exec -a name nginx"), some("nginx"));
        assert_eq!(
            last("  exec /usr/sbin/nginx >/dev/null 2>&1"),
            some("/usr/sbin/nginx")
        );
        for script in [
            "nginx",
            "exec",
            "execute x",
            "exec $SERVER",
            "exec \"$SERVER\" x",
            "exec -c nginx",
            "exec nginx; true",
            "exec nginx &",
            "exec a | b",
            "exec $(which nginx)",
            "exec 3>file",
            "# exec nginx",
            "exec 'nginx",
            "if x; then exec nginx; fi",
            "exec nginx\nfi",
            "",
        ] {
            assert_eq!(last(script), None, "{script:?}");
        }
    }
}

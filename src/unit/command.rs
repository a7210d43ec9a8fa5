//! The command lines of `ExecStart=`, see systemd.service(5), "Command lines".

use std::ffi::OsString;

use super::environment::Environment;
use super::load::{Setting, Unit};
use super::specifier::{Unknown, expand};
use super::{Error, syntax};

/// A command line of a unit.
#[derive(Debug)]
pub(super) struct Command<'a> {
    pub(super) setting: &'a Setting,
    pub(super) words: Vec<OsString>,
    /// The specifier that its program's path depends on.
    pub(super) unknown_program: Option<Unknown>,
    /// The specifier or variable that its arguments depend on.
    pub(super) unknown_argument: Option<Unknown>,
    /// Whether it starts with all rights, whatever `User=` says.
    pub(super) is_privileged: bool,
    /// Whether it starts outside the sandbox, too.
    pub(super) is_unconfined: bool,
}

/// All that the unit starts, in order.
///
/// # Errors
/// There is nothing, or something that systemd would not take.
pub(super) fn commands<'a>(
    unit: &'a Unit,
    environment: &Environment,
) -> Result<Vec<Command<'a>>, Error> {
    let mut commands = Vec::new();
    for setting in unit.list("ExecStart") {
        let fail = |what| Error::ExecStart {
            path: setting.path.clone(),
            value: setting.line.value.clone(),
            what,
        };
        let lists = syntax::commands(&setting.line.value);
        for words in lists.ok_or_else(|| fail("a quote is not closed"))? {
            // Before or behind a semicolon there may be nothing.
            if !words.is_empty() {
                let command = Command::new(unit, environment, setting, words);
                commands.push(command.ok_or_else(|| fail("it names no program"))?);
            }
        }
    }
    if commands.is_empty() {
        return Err(Error::NoExecStart {
            name: unit.name.clone(),
            path: unit.path.clone(),
        });
    }
    Ok(commands)
}

impl<'a> Command<'a> {
    fn new(
        unit: &Unit,
        environment: &Environment,
        setting: &'a Setting,
        mut words: Vec<String>,
    ) -> Option<Self> {
        let first = words.first()?;
        let path = first.trim_start_matches(['@', '-', ':', '+', '!', '|']);
        let prefix = first[..first.len() - path.len()].to_owned();
        if path.is_empty() {
            return None;
        }
        let path = path.to_owned();
        words[0] = path;
        if prefix.contains('@') && words.len() > 1 {
            // The second word is the name that the program is to see.
            words.remove(1);
        }
        let mut unknown_argument = None;
        let mut keep = |word: &String, unknown| {
            unknown_argument.get_or_insert(unknown);
            word.clone()
        };
        let mut unknown_program = None;
        let mut line: Vec<OsString> = Vec::new();
        let mut left = LONGEST;
        for (index, word) in words.iter().enumerate() {
            match expand(unit, word) {
                Ok(program) if index == 0 => line.push(program.into()),
                Err(unknown) if index == 0 => unknown_program = Some(unknown),
                Ok(word) if prefix.contains(':') => line.push(word.into()),
                Ok(word) => match substitute(environment, &word, &mut left) {
                    Ok(words) => line.extend(words.into_iter().map(OsString::from)),
                    Err(unknown) => line.push(keep(&word, unknown).into()),
                },
                Err(unknown) => line.push(keep(word, unknown).into()),
            }
        }
        Some(Self {
            setting,
            words: line,
            unknown_program,
            unknown_argument,
            is_privileged: prefix.contains(['+', '!']),
            is_unconfined: prefix.contains('+'),
        })
    }
}

/// More than execve(2) takes: what the values of variables may add to a command.
const LONGEST: usize = 2 << 20;

/// Replaces `$NAME`, which may become several words, and `${NAME}` within one, by
/// values of which so many bytes are `left`. What is not set is nothing.
///
/// # Errors
/// A variable that the running manager alone knows, or whose value is too long.
fn substitute<'e>(
    environment: &'e Environment,
    word: &str,
    left: &mut usize,
) -> Result<Vec<String>, Unknown> {
    let mut value = |name: &str| match environment.get(name) {
        Some(value) => {
            let rest = left.checked_sub(value.len() + 1);
            *left = rest.ok_or_else(|| Unknown(format!("${name}")))?;
            Ok::<&'e str, Unknown>(value)
        }
        None if environment.is_passed(name) => Err(Unknown(format!("${name}"))),
        None => Ok(""),
    };
    if let Some(name) = word.strip_prefix('$')
        && !name.starts_with(['{', '$'])
    {
        return Ok(syntax::value_words(value(name)?));
    }
    let mut text = String::new();
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('$') {
        text.push_str(before);
        let name = after.strip_prefix('{').and_then(|one| one.split_once('}'));
        if let Some(after) = after.strip_prefix('$') {
            text.push('$');
            rest = after;
        } else if let Some((name, after)) = name {
            text.push_str(value(name)?);
            rest = after;
        } else {
            text.push('$');
            rest = after;
        }
    }
    text.push_str(rest);
    Ok(vec![text])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(lines: &str) -> Vec<(String, Option<String>, Option<String>)> {
        let unit = Unit::with("a@.service", lines);
        let environment = Environment::of(&unit);
        let commands = commands(&unit, &environment).expect("commands");
        let commands = commands.into_iter().map(|one| {
            let words = one.words.join("|".as_ref());
            let words = words.into_string().expect("UTF-8");
            let text = |unknown: Option<Unknown>| unknown.map(|one| one.0);
            (words, text(one.unknown_program), text(one.unknown_argument))
        });
        commands.collect()
    }

    #[test]
    fn each_command_counts() {
        let lines = "ExecStart=/old\nExecStart=\nExecStart=-@/bin/a b c ; +/bin/d \\; \\\n e\n\
                     Environment=\"X=1 2\" Y=$$\nExecStart=:/bin/f $X\n\
                     ExecStart=/bin/g $X ${X}y $$Z $N\nExecStart=/bin/h $${X} a${Y}$b";
        let quoted = "Environment=\"T='two two' too\"\nExecStart=/bin/h $T ${T}";
        let words: Vec<_> = parsed(quoted).into_iter().map(|one| one.0).collect();
        assert_eq!(words, ["/bin/h|two two|too|'two two' too"]);
        let words: Vec<_> = parsed(lines).into_iter().map(|one| one.0).collect();
        let expected = [
            "/bin/a|c",
            "/bin/d|;|e",
            "/bin/f|$X",
            "/bin/g|1|2|1 2y|$Z",
            "/bin/h|${X}|a$$$b",
        ];
        assert_eq!(words, expected);
    }

    #[test]
    fn what_is_not_known_is_said() {
        let lines = "PassEnvironment=A B\nExecStart=/bin/%i x\nExecStart=/bin/a %i $B";
        let of = |text: &str| Some(text.to_owned());
        let found: Vec<_> = parsed(lines)
            .into_iter()
            .map(|one| (one.1, one.2))
            .collect();
        assert_eq!(found, [(of("%i"), None), (None, of("%i"))]);
        assert_eq!(
            parsed("PassEnvironment=A\nExecStart=/b ${A}")[0].2,
            of("$A")
        );
        let home = "ExecStart=/bin/env ${HOME}/a";
        assert_eq!(parsed(home)[0].2, of("$HOME"));
        assert_eq!(parsed(&format!("Environment=HOME=/h\n{home}"))[0].2, None);
        // Longer than any command line.
        let long = "x".repeat(1 << 20);
        let many = format!("Environment=X={long}\nExecStart=/b $X $X $X");
        assert_eq!(parsed(&many)[0].2, of("$X"));
    }
}

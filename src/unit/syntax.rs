//! The syntax of unit files and of the values in them, see systemd.syntax(7) and
//! systemd.service(5), "Command lines".

use std::fmt::Write;
use std::str::Chars;

/// A line `KEY=VALUE` of the section `[Service]`, with its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) number: usize,
    pub(super) key: String,
    pub(super) value: String,
}

/// The lines of the section `[Service]`. A backslash at the end joins the next
/// line; comments in between are passed over.
pub(super) fn service_lines(text: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut is_service = false;
    let mut open: Option<(usize, String)> = None;
    // A byte order mark is passed over, as systemd does.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // The last line may end with a backslash, too.
    for (index, line) in text.lines().chain([""]).enumerate() {
        let line = line.trim_start();
        if line.starts_with(['#', ';']) {
            continue;
        }
        let (number, mut whole) = open.take().unwrap_or((index + 1, String::new()));
        whole.push_str(line);
        let backslashes = whole.len() - whole.trim_end_matches('\\').len();
        if backslashes % 2 == 1 {
            whole.pop();
            whole.push(' ');
            open = Some((number, whole));
            continue;
        }
        let whole = whole.trim();
        if whole.starts_with('[') {
            is_service = whole == "[Service]";
        } else if let Some((key, value)) = whole.split_once('=')
            && is_service
        {
            lines.push(Line {
                number,
                key: key.trim_end().to_owned(),
                value: value.trim_start().to_owned(),
            });
        }
    }
    lines
}

/// The words of `value`: separated by blanks, with quotes and the escapes of C
/// taken away. `None` where a quote is not closed.
pub(super) fn words(value: &str) -> Option<Vec<String>> {
    split(value, false).map(|mut lists| lists.swap_remove(0))
}

/// The command lines of `value`, which semicolons separate.
pub(super) fn commands(value: &str) -> Option<Vec<Vec<String>>> {
    split(value, true)
}

/// The lists of words of `value`; one, unless it `has_separators`.
fn split(value: &str, has_separators: bool) -> Option<Vec<Vec<String>>> {
    let mut lists = vec![Vec::new()];
    let mut rest = value.trim_start();
    while !rest.is_empty() {
        let bare = rest.split_ascii_whitespace().next().unwrap_or_default();
        match bare {
            ";" if has_separators => {
                lists.push(Vec::new());
                rest = &rest[1..];
            }
            "\\;" if has_separators => {
                lists.last_mut()?.push(";".to_owned());
                rest = &rest[2..];
            }
            _ => {
                let mut characters = rest.chars();
                lists.last_mut()?.push(word(&mut characters)?);
                rest = characters.as_str();
            }
        }
        rest = rest.trim_start();
    }
    Some(lists)
}

/// The words of the value of a variable that stands for several: quotes are taken
/// away and a backslash quotes what follows it, but there are no escapes of C. A
/// quote that is not closed ends with the value.
pub(super) fn value_words(value: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = value.trim_ascii_start().chars();
    while !rest.as_str().is_empty() {
        words.push(quoted_word(&mut rest, |rest, word| word.extend(rest.next())).0);
        rest = rest.as_str().trim_ascii_start().chars();
    }
    words
}

/// The word that `rest` begins with; `None` where a quote is not closed.
fn word(rest: &mut Chars<'_>) -> Option<String> {
    let (word, is_closed) = quoted_word(rest, escape);
    is_closed.then_some(word)
}

/// The word that `rest` begins with, and whether its quotes are closed. `escape`
/// adds what stands for what follows a backslash.
fn quoted_word(
    rest: &mut Chars<'_>,
    escape: impl Fn(&mut Chars<'_>, &mut String),
) -> (String, bool) {
    let mut word = String::new();
    let mut quote = None;
    while let Some(c) = rest.clone().next() {
        if quote.is_none() && c.is_ascii_whitespace() {
            break;
        }
        rest.next();
        match (c, quote) {
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            ('\\', _) => escape(rest, &mut word),
            (c, _) => word.push(c),
        }
    }
    (word, quote.is_none())
}

/// What stands for a backslash and what follows it.
fn escape(rest: &mut Chars<'_>, word: &mut String) {
    let code = |text: String, radix| {
        u32::from_str_radix(&text, radix)
            .ok()
            .and_then(char::from_u32)
    };
    let Some(c) = rest.next() else {
        word.push('\\');
        return;
    };
    let plain = match c {
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        's' => ' ',
        '\\' | '"' | '\'' => c,
        'x' | 'u' | 'U' | '0'..='7' => {
            let (count, radix) = match c {
                'x' => (2, 16),
                'u' => (4, 16),
                'U' => (8, 16),
                _ => (2, 8),
            };
            let mut digits: String = c.is_ascii_digit().then_some(c).into_iter().collect();
            digits.extend(rest.by_ref().take(count));
            match code(digits, radix) {
                Some(c) => c,
                None => return,
            }
        }
        // systemd keeps what it does not know.
        other => {
            word.push('\\');
            other
        }
    };
    word.push(plain);
}

/// `text` as one word in double quotes, with no escapes left that systemd would
/// replace. Specifiers stay.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(c);
            }
            '\n' => quoted.push_str("\\n"),
            c if c.is_control() => {
                let _ = write!(quoted, "\\x{:02x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// What systemd.unit(5) calls a boolean.
pub(super) fn is_yes(value: &str) -> bool {
    let yes = ["1", "yes", "y", "true", "t", "on"];
    yes.iter().any(|one| value.eq_ignore_ascii_case(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_joined_and_comments_passed_over() {
        let text = "[Unit]\nA=1\n[Service]\n# B=2\nExecStart=/bin/a \\\n# in between\n  b\n ; x\nC = d\n[Install]\nE=f\n";
        let lines = service_lines(text);
        let lines: Vec<_> = lines
            .iter()
            .map(|line| (line.number, line.key.as_str(), line.value.as_str()))
            .collect();
        assert_eq!(lines, [(5, "ExecStart", "/bin/a  b"), (9, "C", "d")]);
    }

    #[test]
    fn a_doubled_backslash_joins_nothing_and_one_at_the_end_no_more() {
        let text = "\u{feff}[Service]\nEnvironment=A=b\\\\\nExecStart=/bin/a \\";
        let lines = service_lines(text);
        let values: Vec<_> = lines.iter().map(|line| line.value.as_str()).collect();
        assert_eq!(values, ["A=b\\\\", "/bin/a"]);
    }

    #[test]
    fn semicolons_separate_commands() {
        let lists = commands(r#"a b ; c \; ";" d; ;e"#).expect("closed quotes");
        let lists: Vec<_> = lists.iter().map(|words| words.join("|")).collect();
        assert_eq!(lists, ["a|b", "c|;|;|d;|;e"]);
    }

    #[test]
    fn values_are_split_as_systemd_splits_them() {
        for (value, words) in [
            ("'two two' too", &["two two", "too"][..]),
            (" a\t\"b 'c'\"d  ''", &["a", "b 'c'd", ""]),
            (r"a\ b \n '\'' \\", &["a b", "n", "'", "\\"]),
            ("a 'b c", &["a", "b c"]),
            ("a\\", &["a"]),
            (" ", &[]),
        ] {
            assert_eq!(value_words(value), words, "{value}");
        }
    }

    #[test]
    fn words_are_those_of_systemd() {
        let split = |value: &str| words(value).expect("closed quotes");
        assert_eq!(
            split(r#"a "b c" 'd "e"' f\x20g"#),
            ["a", "b c", "d \"e\"", "f g"]
        );
        assert_eq!(split("\"A=b c\" D=e"), ["A=b c", "D=e"]);
        assert_eq!(split(r"\101\w"), ["A\\w"]);
        assert_eq!(words("\"open"), None);
        assert_eq!(split("a ; b"), ["a", ";", "b"]);
        for text in ["a b", "50%", "x\"y\\z", "1\n2"] {
            let again = split(&quoted(text));
            assert_eq!(again, [text]);
        }
    }
}

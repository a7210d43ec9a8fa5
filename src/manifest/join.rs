//! Several texts as one stream.

use std::borrow::Cow;

/// Puts texts behind one another, with `---` between documents where there is
/// none.
pub fn join(texts: &[String]) -> Cow<'_, str> {
    // One may be large, and is not copied.
    if let [text] = texts {
        return text.into();
    }
    let mut joined = String::new();
    for text in texts {
        if joined.is_empty() {
            joined.push_str(text);
            continue;
        }
        let text = text.trim_start_matches('\u{feff}');
        if text.trim().is_empty() {
            continue;
        }
        if !joined.ends_with('\n') {
            joined.push('\n');
        }
        let mut lines = text.lines();
        let first = lines.find(|line| !line.trim().is_empty() && !line.starts_with('#'));
        match first {
            Some(line) if line.starts_with('%') => joined.push_str("...\n"),
            Some(line) if line == "---" || line.starts_with("--- ") => {}
            _ => joined.push_str("---\n"),
        }
        joined.push_str(text);
    }
    joined.into()
}

#[cfg(test)]
mod tests {
    #[test]
    fn documents_are_parted_once() {
        let join = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|one| (*one).to_owned()).collect();
            super::join(&texts).into_owned()
        };
        assert_eq!(join(&["a: 1"]), "a: 1");
        assert_eq!(join(&["a: 1", "", "b: 2\n"]), "a: 1\n---\nb: 2\n");
        assert_eq!(join(&["a: 1\n", "# c\n---\nb: 2"]), "a: 1\n# c\n---\nb: 2");
        assert_eq!(
            join(&["a: 1\n", "%YAML 1.1\n---\nb: 2"]),
            "a: 1\n...\n%YAML 1.1\n---\nb: 2"
        );
    }
}

//! Specifiers, see systemd.unit(5), "Specifiers".

use super::Unit;
use super::load::instance;

/// The first specifier that the unit's files do not tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unknown(pub(super) String);

/// Replaces the specifiers in `text`.
///
/// # Errors
/// One that the running manager alone knows, or, of a template, its instance.
pub(super) fn expand(unit: &Unit, text: &str) -> Result<String, Unknown> {
    let stem = unit.name.strip_suffix(".service").unwrap_or(&unit.name);
    let (prefix, _) = stem.split_once('@').unwrap_or((stem, ""));
    let is_template = stem.ends_with('@');
    let mut expanded = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            expanded.push(c);
            continue;
        }
        let Some(letter) = rest.next() else {
            expanded.push('%');
            break;
        };
        let last = prefix.rsplit('-').next().unwrap_or_default();
        let value = match letter {
            '%' => Some("%".into()),
            'n' | 'N' | 'i' | 'I' if is_template => None,
            'n' => Some(unit.name.clone()),
            'N' => Some(stem.into()),
            'p' => Some(prefix.into()),
            'P' => Some(unescape(prefix)),
            'j' => Some(last.into()),
            'J' => Some(unescape(last)),
            'i' => Some(instance(&unit.name).unwrap_or_default().into()),
            'I' => Some(unescape(instance(&unit.name).unwrap_or_default())),
            letter => unit.specifiers.get(&letter).cloned(),
        };
        expanded += &value.ok_or_else(|| Unknown(format!("%{letter}")))?;
    }
    Ok(expanded)
}

/// The opposite of systemd-escape(1): a dash is a slash, `\xHH` a byte.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        let code = after.strip_prefix(b"x").and_then(|code| code.get(..2));
        let code = code.and_then(|code| str::from_utf8(code).ok());
        match code.map(|code| u8::from_str_radix(code, 16)) {
            Some(Ok(byte)) if first == b'\\' => {
                bytes.push(byte);
                rest = &after[3..];
            }
            _ if first == b'-' => bytes.push(b'/'),
            _ => bytes.push(first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(name: &str, text: &str) -> Result<String, Unknown> {
        let unit = Unit::with(name, "");
        expand(&unit, text)
    }

    #[test]
    fn what_the_name_tells_is_replaced() {
        let name = r"a-b@c\x2dd-e.service";
        for (text, value) in [
            ("%p %P %j", "a-b a/b b"),
            ("%i|%I", r"c\x2dd-e|c-d/e"),
            ("%n", name),
            ("%N", r"a-b@c\x2dd-e"),
            ("%t%% 100%", "/run% 100%"),
        ] {
            assert_eq!(expanded(name, text), Ok(value.into()), "{text}");
        }
        assert_eq!(expanded("a.service", "%i%n"), Ok("a.service".into()));
    }

    #[test]
    fn what_it_does_not_tell_is_named() {
        assert_eq!(expanded("a@.service", "/x/%i"), Err(Unknown("%i".into())));
        assert_eq!(expanded("a@.service", "/x/%p"), Ok("/x/a".into()));
        assert_eq!(expanded("a.service", "%H"), Err(Unknown("%H".into())));
    }
}

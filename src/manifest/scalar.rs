//! What a plain scalar means to Kubernetes, which reads YAML 1.1.
//!
//! Its tools resolve plain scalars as go-yaml's second version does:
//! <https://yaml.org/type/> with octal by a leading zero, underscores in numbers,
//! and `y`, `n`, `on` and `off` for booleans; no sexagesimal numbers.

use serde_json::{Number, Value};

/// The value of a plain scalar that is no string.
pub(super) fn meaning(text: &str) -> Option<Value> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Some(Value::Null),
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Some(Value::Bool(true));
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Some(Value::Bool(false));
        }
        _ => {}
    }
    if !text.starts_with(|one: char| one.is_ascii_digit() || "+-.".contains(one)) {
        return None;
    }
    integer(text).or_else(|| float(text)).map(Value::Number)
}

/// An integer, with the prefixes of Go's `strconv.ParseInt(_, 0, 64)`.
fn integer(text: &str) -> Option<Number> {
    let digits = text.replace('_', "");
    let (sign, digits) = match digits.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", digits.strip_prefix('+').unwrap_or(&digits)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = if let Some(rest) = lower.strip_prefix("0x") {
        (16, rest)
    } else if let Some(rest) = lower.strip_prefix("0b") {
        (2, rest)
    } else if let Some(rest) = lower.strip_prefix("0o") {
        (8, rest)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, &lower[1..])
    } else {
        (10, lower.as_str())
    };
    if !digits.bytes().all(|one| one.is_ascii_alphanumeric()) {
        return None;
    }
    match i64::from_str_radix(&format!("{sign}{digits}"), radix) {
        Ok(number) => Some(number.into()),
        Err(_) if sign.is_empty() => u64::from_str_radix(digits, radix).ok().map(Into::into),
        Err(_) => None,
    }
}

/// A decimal fraction, `[-+]?[0-9]*\.?[0-9]+([eE][-+]?[0-9]+)?` or with a point
/// at its end. The infinite ones have no place in JSON and stay text.
fn float(text: &str) -> Option<Number> {
    let digits = text.replace('_', "");
    let numeric = |one: u8| one.is_ascii_digit() || b"+-.eE".contains(&one);
    if !digits.bytes().all(numeric) || !digits.bytes().any(|one| one.is_ascii_digit()) {
        return None;
    }
    Number::from_f64(digits.parse().ok()?)
}

/// Whether `text`, written without quotes, means itself to every reader of YAML,
/// in block and in flow style.
pub(super) fn is_safe(text: &str) -> bool {
    let allowed = |one: u8| one.is_ascii_alphanumeric() || b"/._-".contains(&one);
    let first = |one: u8| one.is_ascii_alphanumeric() || b"/".contains(&one);
    text.bytes().next().is_some_and(first)
        && text.bytes().all(allowed)
        && meaning(text).is_none()
        // A date is one to other readers.
        && !text.starts_with(|one: char| one.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn plain(text: &str) -> Value {
        meaning(text).unwrap_or_else(|| text.into())
    }

    #[test]
    fn plain_scalars_are_read_as_kubernetes_does() {
        for (text, value) in [
            ("y", json!(true)),
            ("Off", json!(false)),
            ("0755", json!(493)),
            ("0o17", json!(15)),
            ("1_000", json!(1000)),
            ("-0x1F", json!(-31)),
            ("1e3", json!(1000.0)),
            (".5", json!(0.5)),
            ("18446744073709551615", json!(u64::MAX)),
            ("08", json!(8.0)),
            ("1.2.3", json!("1.2.3")),
            ("10:20", json!("10:20")),
            ("yEs", json!("yEs")),
            ("0x", json!("0x")),
            ("-", json!("-")),
            ("~", Value::Null),
        ] {
            assert_eq!(plain(text), value, "{text}");
        }
    }

    #[test]
    fn what_would_be_read_as_something_else_is_not_safe() {
        for text in [
            "on",
            "80",
            "1_0",
            "2026-01-01",
            "",
            "a b",
            "-a",
            "a: b",
            "$(A)",
        ] {
            assert!(!is_safe(text), "{text}");
        }
        for text in ["/.reuseport/libreuseport.so", "reuseport-shim", "tcp"] {
            assert!(is_safe(text), "{text}");
        }
    }
}

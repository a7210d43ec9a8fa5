//! Editing a list of environment variables: in place, in order, the same again
//! when done twice.

use std::ffi::{OsStr, OsString};

/// An environment, in its order.
pub type Environment = Vec<(OsString, OsString)>;

/// The value of `name` in `environment`: the last one, which is the one that
/// the dynamic loader obeys where there are several.
pub fn get<'a>(environment: &'a Environment, name: &str) -> Option<&'a OsStr> {
    let found = environment.iter().rfind(|(one, _)| one == name);
    found.map(|(_, value)| value.as_os_str())
}

/// Gives `name` the value `value`: where it stands first, or at the end. Other
/// entries of that name are taken out.
pub fn set(environment: &mut Environment, name: &str, value: OsString) {
    let mut value = Some(value);
    environment.retain_mut(|(one, old)| {
        if one != name {
            return true;
        }
        value.take().map(|value| *old = value).is_some()
    });
    if let Some(value) = value {
        environment.push((name.into(), value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(entries: &[(&str, &str)]) -> Environment {
        entries
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect()
    }

    #[test]
    fn setting_keeps_the_order_and_is_idempotent() {
        let mut edited = environment(&[("A", "1"), ("B", "2"), ("A", "3")]);
        assert_eq!(get(&edited, "A"), Some("3".as_ref()));
        for _ in 0..2 {
            set(&mut edited, "A", "9".into());
            set(&mut edited, "C", "4".into());
            assert_eq!(edited, environment(&[("A", "9"), ("B", "2"), ("C", "4")]));
        }
    }
}

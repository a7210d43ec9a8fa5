//! The list `Env` of an image's config: `NAME=VALUE` each, edited in place. What
//! has another form is left alone.

use serde_json::Value;

use super::super::layer::SHIM;
use crate::preload::{self, LD_PRELOAD};
use crate::rules::{Assignments, Variable};

/// The start of the names of the variables that are ours.
const OURS: &str = "LIBREUSEPORT_";

/// The name and the value of an entry.
fn split(entry: &Value) -> Option<(&str, &str)> {
    entry.as_str()?.split_once('=')
}

/// The value of `name`: the last one, as the loader takes it.
pub(super) fn get<'a>(list: &'a [Value], name: &str) -> Option<&'a str> {
    let mut found = list.iter().rev().filter_map(split);
    found.find(|(one, _)| *one == name).map(|(_, value)| value)
}

/// Gives `name` the value `value`: where it stands first, or at the end. Other
/// entries of that name are taken out.
fn set(list: &mut Vec<Value>, name: &str, value: &str) {
    let mut entry = Some(Value::from(format!("{name}={value}")));
    list.retain_mut(|one| {
        if split(one).is_none_or(|(known, _)| known != name) {
            return true;
        }
        entry.take().map(|entry| *one = entry).is_some()
    });
    list.extend(entry);
}

/// Sets the rules' variables, and the shim in LD_PRELOAD; `first` comes before
/// the shim.
pub(super) fn inject(list: &mut Vec<Value>, rules: &Assignments, first: &[std::ffi::OsString]) {
    let old = get(list, LD_PRELOAD).map(str::to_owned);
    let merged = preload::merge(
        old.as_deref().map(AsRef::as_ref),
        first,
        SHIM.as_ref(),
        |_| false,
    );
    set(list, LD_PRELOAD, &merged.to_string_lossy());
    for (variable, value) in rules.iter() {
        set(list, variable.name(), &value.to_string_lossy());
    }
}

/// Takes our variables and the shim in LD_PRELOAD out again.
pub(super) fn eject(list: &mut Vec<Value>) {
    list.retain(|entry| {
        let name = split(entry).map(|(name, _)| name);
        !name.is_some_and(|name| {
            name.starts_with(OURS) && Variable::ALL.iter().any(|one| one.name() == name)
        })
    });
    list.retain_mut(|entry| {
        let Some((LD_PRELOAD, value)) = split(entry) else {
            return true;
        };
        let is_separator = |c| matches!(c, ' ' | ':');
        if !value.split(is_separator).any(|one| one == SHIM) {
            return true;
        }
        let others = value.split(is_separator);
        let others: Vec<&str> = others
            .filter(|one| !one.is_empty() && *one != SHIM)
            .collect();
        let rest = others.join(":");
        *entry = Value::from(format!("{LD_PRELOAD}={rest}"));
        !rest.is_empty()
    });
}

/// The rules that the list holds.
pub(super) fn rules(list: &[Value]) -> Assignments {
    let mut rules = Assignments::default();
    for (name, value) in list.iter().filter_map(split) {
        let mut all = Variable::ALL.iter().copied();
        if let Some(variable) = all.find(|one| one.name() == name && name.starts_with(OURS)) {
            rules.set(variable, value.into());
        }
    }
    rules
}

/// The entries of LD_PRELOAD before the shim that `without`, the value before,
/// does not have: the sanitizers' runtimes.
pub(super) fn first(list: &[Value], without: Option<&str>) -> Vec<std::ffi::OsString> {
    let entries = |value: &str| -> Vec<String> {
        let entries = value.split([' ', ':']).filter(|one| !one.is_empty());
        entries.map(str::to_owned).collect()
    };
    let before = without.map(entries).unwrap_or_default();
    let now = get(list, LD_PRELOAD).map(entries).unwrap_or_default();
    let now = now
        .into_iter()
        .filter(|one| one != SHIM && !before.contains(one));
    now.map(Into::into).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_put_in_comes_out_again() {
        let mut rules = Assignments::default();
        rules.set(Variable::Port, "80".into());
        for before in [
            json!([]),
            json!(["PATH=/bin", "A=b=c", "odd"]),
            json!(["LD_PRELOAD=/a.so:/b.so", "PATH=/bin"]),
        ] {
            let before: Vec<Value> = before.as_array().expect("a list").clone();
            let mut list = before.clone();
            inject(&mut list, &rules, &[]);
            let once = list.clone();
            inject(&mut list, &rules, &[]);
            assert_eq!(list, once, "twice is once");
            assert_eq!(super::rules(&list), rules);
            eject(&mut list);
            assert_eq!(list, before);
        }
    }
}

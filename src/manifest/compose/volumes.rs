//! The mounts of a service.

use serde_json::Value;

use super::super::edit::Change;
use super::super::error::Fault;
use super::super::inject::add_items;
use super::super::names::DIRECTORY;
use super::{Refusal, Service, mount, wrong};

/// The shim's mount, behind the others.
pub(super) fn add(value: &Value, service: &Service, source: &str) -> Result<Change, Refusal> {
    add_items(value, &service.path, "volumes", vec![mount(source)], false)
}

/// Sees that nothing else is mounted there.
pub(super) fn check(service: &Service) -> Result<(), Refusal> {
    for key in ["volumes", "tmpfs", "configs", "secrets", "devices"] {
        let path = service.path.then(key);
        let items = match service.get(key) {
            Value::Null => continue,
            Value::Array(items) => items.as_slice(),
            one @ Value::String(_) if key == "tmpfs" => std::slice::from_ref(one),
            other => return Err(wrong(path, "list", other)),
        };
        for (index, item) in items.iter().enumerate() {
            let target = match item {
                Value::String(text) => target(text, key),
                other => other
                    .get("target")
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned(),
            };
            let target = target.trim_end_matches('/');
            if target == DIRECTORY || target.starts_with(&format!("{DIRECTORY}/")) {
                let fault = Fault::MountTaken {
                    container: service.name.to_owned(),
                    mount: target.to_owned(),
                };
                return Err((path.then(index), fault));
            }
        }
    }
    Ok(())
}

/// Where a mount in short syntax goes: `[SOURCE:]TARGET[:MODE]`, or for tmpfs
/// `TARGET[:OPTIONS]`.
fn target(text: &str, key: &str) -> String {
    let mut parts = vec![String::new()];
    let mut depth = 0usize;
    // What is interpolated may hold colons.
    let mut before = ' ';
    for one in text.chars() {
        match one {
            '{' if before == '$' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ':' if depth == 0 => {
                parts.push(String::new());
                before = one;
                continue;
            }
            _ => {}
        }
        before = one;
        parts.last_mut().expect("one at least").push(one);
    }
    let place = usize::from(key != "tmpfs" && parts.len() > 1);
    parts.swap_remove(place)
}

#[cfg(test)]
mod tests {
    use super::target;

    #[test]
    fn the_target_of_short_syntax_is_found_behind_what_is_interpolated() {
        for (text, found) in [
            ("/data", "/data"),
            ("db:/data", "/data"),
            ("./x:/data:ro", "/data"),
            ("${DIR:-/a:b}:/data:ro", "/data"),
            ("$DIR:/data", "/data"),
        ] {
            assert_eq!(target(text, "volumes"), found);
        }
        assert_eq!(target("/run:size=1m", "tmpfs"), "/run");
    }
}

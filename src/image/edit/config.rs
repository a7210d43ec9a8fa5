//! The edit of a config: `config.Env`, `rootfs.diff_ids` and `history`, see the
//! OCI image specification, "Image Configuration".

use std::ffi::OsString;

use serde_json::{Map, Value, json};

use super::super::digest::Digest;
use super::super::layer::SHIM;
use super::{Change, Malformed, environment, member};
use crate::preload::LD_PRELOAD;
use crate::rules::Assignments;

/// What the comment of our history entry begins with; a digest follows.
const COMMENT: &str = "reuseport base=";

/// What follows the digest where taking our entries out does not give the old
/// list or object: its JSON.
const ENV: &str = " env=";
const CONFIG: &str = " config=";

/// What was written down when the shim was put into an image.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recorded {
    /// The digest of the manifest that it was put into.
    pub base: Option<Digest>,
    /// That manifest's name.
    pub base_name: Option<String>,
    /// Whether nothing was put on top of it since.
    pub is_direct: bool,
    pub rules: Assignments,
    /// The libraries that were put before the shim.
    pub first: Vec<OsString>,
    /// The time of our history entry, as it stands there.
    pub created: Option<String>,
}

impl Recorded {
    /// The time of our history entry, in seconds since 1970; 0 where none is
    /// known.
    pub fn time(&self) -> u64 {
        let created = self.created.as_deref();
        created.and_then(time::parse).unwrap_or(0)
    }
}

/// Whether the variables or the history speak of our shim.
pub(super) fn mentions_shim(config: &Value) -> bool {
    let in_history = member(config, "history").and_then(Value::as_array);
    let in_history = in_history.is_some_and(|list| list.iter().any(|one| base(one).is_some()));
    in_history
        || env(config).is_ok_and(|list| {
            environment::get(&list, LD_PRELOAD).is_some_and(|value| value.contains(SHIM))
        })
}

/// The list `Env`; an empty one where there is none.
fn env(config: &Value) -> Result<Vec<Value>, Malformed> {
    match member(config, "config").and_then(|inner| member(inner, "Env")) {
        None => Ok(Vec::new()),
        Some(Value::Array(list)) if list.iter().all(Value::is_string) => Ok(list.clone()),
        Some(_) => Err(Malformed::Env),
    }
}

/// Puts `list` in the place of `Env`, which is made where it is missing.
fn set_env(config: &mut Value, list: Vec<Value>) {
    if !config["config"].is_object() {
        config["config"] = json!({});
    }
    config["config"]["Env"] = list.into();
}

pub(super) fn inject(config: &Value, change: &Change<'_>) -> Result<Value, Malformed> {
    let mut new = config.clone();
    let mut list = env(config)?;
    environment::inject(&mut list, change.rules, change.first);
    set_env(&mut new, list);
    let diff_ids = new["rootfs"]["diff_ids"].as_array_mut();
    let diff_ids = diff_ids.ok_or(Malformed::NoDiffIds)?;
    diff_ids.push(change.layer.diff_id.to_string().into());
    // An image with no history keeps none: an entry for one layer of many would
    // make it wrong.
    match new.get_mut("history") {
        None | Some(Value::Null) => {}
        Some(Value::Array(history)) if history.is_empty() => {}
        Some(Value::Array(history)) => {
            let mut comment = format!("{COMMENT}{}", change.base);
            comment.push_str(&restoration(
                config,
                &env_ejected(&new_env(config, change)?),
            ));
            history.push(json!({
                "created": time::rfc3339(change.time),
                "created_by": "reuseport inject",
                "comment": comment,
            }));
        }
        Some(_) => return Err(Malformed::History),
    }
    Ok(new)
}

/// The config's inner object after the edit, as `eject` will find it.
fn new_env(config: &Value, change: &Change<'_>) -> Result<Value, Malformed> {
    let mut list = env(config)?;
    environment::inject(&mut list, change.rules, change.first);
    let mut new = json!({"config": config.get("config").cloned().unwrap_or_default()});
    set_env(&mut new, list);
    Ok(new)
}

/// `config` without our variables; without what is then empty.
fn env_ejected(config: &Value) -> Value {
    let mut new = config.clone();
    let Ok(mut list) = env(config) else {
        return new;
    };
    environment::eject(&mut list);
    if !list.is_empty() {
        set_env(&mut new, list);
    } else if let Some(inner) = new.get_mut("config").and_then(Value::as_object_mut) {
        inner.shift_remove("Env");
        if inner.is_empty()
            && let Some(outer) = new.as_object_mut()
        {
            outer.shift_remove("config");
        }
    }
    new
}

/// What must be written down for `config`, if `ejected` is what would come of it.
fn restoration(config: &Value, ejected: &Value) -> String {
    let (before, after) = (config.get("config"), ejected.get("config"));
    if before == after {
        return String::new();
    }
    match before {
        Some(Value::Object(inner)) if inner.contains_key("Env") => {
            format!("{ENV}{}", inner["Env"])
        }
        Some(before) => format!("{CONFIG}{before}"),
        None => String::new(),
    }
}

/// Undoes what [`restoration`] wrote down.
fn restore(config: &mut Value, written: &str) -> bool {
    if let Some(text) = written.strip_prefix(ENV)
        && let Ok(list) = serde_json::from_str::<Value>(text)
        && config["config"].is_object()
    {
        config["config"]["Env"] = list;
        return true;
    }
    if let Some(text) = written.strip_prefix(CONFIG)
        && let Ok(inner) = serde_json::from_str::<Value>(text)
    {
        config["config"] = inner;
        return true;
    }
    false
}

/// The base's digest in one of our history entries, and what follows it.
fn base(entry: &Value) -> Option<(Digest, &str)> {
    let rest = entry.get("comment")?.as_str()?.strip_prefix(COMMENT)?;
    let end = rest.find(' ').unwrap_or(rest.len());
    Some((rest[..end].parse().ok()?, &rest[end..]))
}

/// `config` without our layers, whose places are `ours`, and what was written
/// down. `is_direct` where nothing lies on top of the last one.
pub(super) fn eject(
    config: &Value,
    ours: &[usize],
    is_direct: bool,
) -> Result<(Value, Recorded), Malformed> {
    let mut new = config.clone();
    let mut recorded = Recorded {
        is_direct,
        ..Recorded::default()
    };
    let list = env(config)?;
    recorded.rules = environment::rules(&list);

    let diff_ids = new["rootfs"]["diff_ids"].as_array_mut();
    let diff_ids = diff_ids.ok_or(Malformed::NoDiffIds)?;
    let layers = diff_ids.len();
    remove(diff_ids, ours);

    let mut written = String::new();
    if let Some(history) = new.get_mut("history").and_then(Value::as_array_mut) {
        let places = history_places(history, ours, layers);
        for &place in &places {
            if let Some((digest, rest)) = base(&history[place]) {
                recorded.base = Some(digest);
                written = rest.to_owned();
                let created = history[place].get("created").and_then(Value::as_str);
                recorded.created = created.map(str::to_owned);
            }
        }
        remove(history, &places);
    }
    // Who built on top of it may have changed the variables since.
    if !(is_direct && restore(&mut new, &written)) {
        new = env_ejected(&new);
    }
    let before = env(&new)?;
    recorded.first = environment::first(&list, environment::get(&before, LD_PRELOAD));
    Ok((new, recorded))
}

/// The places of our entries: those of our layers, and those that say so
/// themselves where entries and layers do not match.
fn history_places(history: &[Value], ours: &[usize], layers: usize) -> Vec<usize> {
    let has_layer = |entry: &Value| entry.get("empty_layer") != Some(&Value::Bool(true));
    let of_layers: Vec<usize> = (0..history.len())
        .filter(|&place| has_layer(&history[place]))
        .collect();
    if of_layers.len() == layers {
        return ours.iter().map(|&layer| of_layers[layer]).collect();
    }
    (0..history.len())
        .filter(|&place| base(&history[place]).is_some())
        .collect()
}

/// Takes the members at `places`, in rising order, out of `list`.
pub(super) fn remove(list: &mut Vec<Value>, places: &[usize]) {
    for &place in places.iter().rev() {
        list.remove(place);
    }
}

/// The members of an object, which is made where there is none.
pub(super) fn object<'a>(tree: &'a mut Value, name: &str) -> &'a mut Map<String, Value> {
    if !tree[name].is_object() {
        tree[name] = json!({});
    }
    tree[name].as_object_mut().expect("it was just made")
}

mod time {
    //! Dates of the history: RFC 3339, in UTC.

    /// The date and time, `seconds` after the beginning of 1970.
    pub(super) fn rfc3339(seconds: u64) -> String {
        let (days, rest) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }

    /// The seconds after the beginning of 1970 of a date that [`rfc3339`] wrote.
    pub(super) fn parse(text: &str) -> Option<u64> {
        let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<u64>().ok();
        let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
        let rest = number(11..13)? * 3600 + number(14..16)? * 60 + number(17..19)?;
        let (year, month) = if month > 2 {
            (year, month.checked_sub(3)?)
        } else {
            (year.checked_sub(1)?, month + 9)
        };
        let days = year * 365 + year / 4 - year / 100 + year / 400;
        let days = days + (153 * month + 2) / 5 + day.checked_sub(1)?;
        let seconds = days.checked_sub(719_468)? * 86_400 + rest;
        (rfc3339(seconds) == text).then_some(seconds)
    }

    /// Year, month and day, `days` after the beginning of 1970. The year is made
    /// to begin in March, so that the leap day is its last one.
    fn civil(days: u64) -> (u64, u64, u64) {
        let days = days + 719_468;
        let (era, of_era) = (days / 146_097, days % 146_097);
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = year + era * 400 + u64::from(month <= 2);
        (year, month, day)
    }

    #[cfg(test)]
    #[test]
    fn dates_are_those_of_date() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_704_067_199), "2023-12-31T23:59:59Z");
        assert_eq!(rfc3339(4_107_542_400), "2100-03-01T00:00:00Z");
        for seconds in (0..5_000_000_000).step_by(1_234_567) {
            assert_eq!(parse(&rfc3339(seconds)), Some(seconds));
        }
    }
}

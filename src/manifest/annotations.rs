//! The annotations of a pod template that choose where the command line does not.

use std::ffi::OsString;

use serde_json::Value;

use super::error::Fault;
use super::kind_of;
use super::names::{ANNOTATION, RESTORE};
use super::path::Path;
use super::workload::Workload;
use crate::finding::{Finding, Severity};
use crate::nearness::near;
use crate::rules::{Assignments, Variable};

type Refusal = (Path, Fault);

/// Whether the shim goes into a workload, and into which containers.
const CHOICE: [&str; 2] = ["inject", "containers"];

/// The annotations that set rules.
pub(super) const RULES: [(&str, Variable); 7] = [
    ("addr", Variable::Addr),
    ("port", Variable::Port),
    ("op", Variable::Op),
    ("proto", Variable::Proto),
    ("interface", Variable::Interface),
    ("program", Variable::Program),
    ("debug", Variable::Debug),
];

/// All that are read, without what their names begin with.
fn known() -> impl Iterator<Item = &'static str> {
    let rules = RULES.iter().map(|(name, _)| *name);
    CHOICE.into_iter().chain(rules)
}

/// Annotations that look like ours and are not read: of a name that none has, or of
/// the object where the template's count.
pub(super) fn unknown(value: &Value, workload: &Workload) -> Vec<Finding> {
    let mut found = Vec::new();
    let names = |holder: &Path| {
        let annotations = holder.keys("metadata.annotations").get(value);
        let annotations = annotations.and_then(Value::as_object).into_iter().flatten();
        annotations
            .map(|(name, _)| name.as_str())
            .filter(|name| name.starts_with(ANNOTATION) && *name != RESTORE)
            .collect::<Vec<_>>()
    };
    for name in names(&workload.template) {
        let word = &name[ANNOTATION.len()..];
        if known().any(|one| one == word) {
            continue;
        }
        let message = format!("the annotation {name} is none of reuseport's, and has no effect");
        let finding = Finding::new(Severity::Warning, "unknown-annotation", message);
        // Any word is near a shorter one.
        let meant = known().filter(|_| word.len() > 2).map(ToOwned::to_owned);
        let meant = near(word, meant);
        let hint = if meant.is_empty() {
            let all: Vec<&str> = known().collect();
            format!("there are {ANNOTATION}{}", all.join(", /"))
        } else {
            format!("did you mean {ANNOTATION}{}?", meant.join(" or /"))
        };
        found.push(finding.hint(hint));
    }
    if workload.object != workload.template {
        for name in names(&workload.object) {
            let message = format!(
                "the annotation {name} of the {} has no effect: those of its pod template count",
                workload.kind
            );
            let finding = Finding::new(Severity::Warning, "unknown-annotation", message);
            let place = workload.template.0[workload.object.0.len()..].to_vec();
            let place = Path(place).keys("metadata.annotations").shown();
            found.push(finding.hint(format!("put it into {place}")));
        }
    }
    found
}

/// Refuses an annotation that chooses and is no text: the API server would, too.
///
/// # Errors
/// The first of them.
pub(super) fn check(workload: &Workload, annotations: &Value) -> Result<(), Refusal> {
    for name in CHOICE {
        let annotation = format!("{ANNOTATION}{name}");
        match annotations.get(&annotation) {
            None | Some(Value::String(_)) => {}
            Some(other) => {
                let path = workload.template.keys("metadata.annotations");
                let found = kind_of(other);
                let why = format!("expected a string, found {found}; quote it");
                return Err((path, Fault::Annotation { annotation, why }));
            }
        }
    }
    Ok(())
}

/// The shim's variables for a workload: what the command line gives, then what the
/// annotations of its template do.
pub(super) fn rules(
    workload: &Workload,
    annotations: &Value,
    given: &Assignments,
) -> Result<Vec<(String, Value)>, Refusal> {
    let mut wanted = Vec::new();
    for (name, variable) in RULES {
        let value = match given.get(variable) {
            Some(value) => value.to_string_lossy().into_owned(),
            None => {
                let annotation = format!("{ANNOTATION}{name}");
                let Some(value) = annotations.get(&annotation) else {
                    continue;
                };
                let wrong = |why: String| {
                    let path = workload.template.keys("metadata.annotations");
                    let annotation = annotation.clone();
                    (path, Fault::Annotation { annotation, why })
                };
                let Value::String(text) = value else {
                    let found = kind_of(value);
                    return Err(wrong(format!("expected a string, found {found}; quote it")));
                };
                let text = match (variable, text.as_str()) {
                    (Variable::Op, "reuseport") => "1",
                    (Variable::Op, "reuseaddr") => "2",
                    (Variable::Op, "both") => "3",
                    (Variable::Debug, "false" | "0" | "") => continue,
                    (Variable::Debug, _) => "1",
                    (_, text) => text,
                };
                crate::rules::check(variable, &OsString::from(text))
                    .map_err(|error| wrong(error.to_string()))?;
                text.to_owned()
            }
        };
        wanted.push((variable.name().to_owned(), Value::String(value)));
    }
    Ok(wanted)
}

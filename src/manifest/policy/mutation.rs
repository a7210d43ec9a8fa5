//! What is done to a pod: the same as `inject -f` does to it, as a JSON Patch.
//!
//! Every value in a map or a list of mixed types stands in `dyn()`: the API server
//! refuses literals whose items have not all one type.

use super::super::annotations::RULES;
use super::super::names::{
    ANNOTATION, DIRECTORY, ENTRY, ENTRY_BEHIND_KEPT, ENTRY_LAST, KEPT, SHIM,
};
use super::super::pods::SIDECARS;
use super::cel::{annotations, indented, label, list, quoted};
use crate::preload::LD_PRELOAD;
use crate::rules::{Assignments, Variable};

/// A variable of a policy: its name and its expression.
pub(super) type Definition = (&'static str, String);

/// What can be known of the pod or template `pod`, for requirements and mutations.
pub(super) fn definitions(pod: &str) -> Vec<Definition> {
    let key = quoted(&format!("{ANNOTATION}containers"));
    let chosen = format!(
        "{key} in variables.annotations\n  \
         ? string(variables.annotations[{key}]).split(\",\").map(n, n.trim())\n  \
         : {pod}.spec.containers.map(c, string(c.name)).filter(n, !(n in {}))",
        list(SIDECARS)
    );
    let targets = |key: &str, items: String| {
        let place = format!("{items}.map(d, d.name).indexOf(c.name)");
        format!(
            "{items}.filter(c, c.name in variables.chosen).map(c, {{\n  \
             \"path\": dyn(\"/spec/{key}/\" + string({place})),\n  \
             \"container\": dyn(c),\n  \
             \"preload\": dyn(c.?env.orValue([]).map(e, e.name).lastIndexOf({}))}})",
            quoted(LD_PRELOAD)
        )
    };
    let init = targets(
        "initContainers",
        format!("{pod}.spec.?initContainers.orValue([])"),
    );
    let regular = targets("containers", format!("{pod}.spec.containers"));
    vec![
        ("annotations", annotations(pod)),
        ("chosen", chosen),
        ("targets", format!("{init} +\n{regular}")),
        ("system", label(pod, "os")),
    ]
}

/// The shim's variables: those that annotations set, or else these.
pub(super) fn rules(defaults: &Assignments) -> String {
    let all = RULES.map(|(name, variable)| {
        let key = quoted(&format!("{ANNOTATION}{name}"));
        let given = format!("string(variables.annotations[{key}])");
        let variable_ = |value: &str| {
            let name = quoted(variable.name());
            format!("[{{\"name\": {name}, \"value\": {value}}}]")
        };
        let value = match variable {
            Variable::Op => {
                let names = [("reuseport", "1"), ("reuseaddr", "2"), ("both", "3")];
                let names = names.map(|(name, value)| {
                    format!("{given} == {} ? {} : ", quoted(name), quoted(value))
                });
                format!("{}{given}", names.concat())
            }
            _ => given.clone(),
        };
        let set = match variable {
            Variable::Debug => format!(
                "{given} in {} ? [] : {}",
                list(["", "0", "false"]),
                variable_(&quoted("1"))
            ),
            _ => variable_(&value),
        };
        let default = defaults
            .get(variable)
            .map(|value| quoted(&value.to_string_lossy()));
        let default = default.map_or("[]".to_owned(), |value| variable_(&value));
        format!("({key} in variables.annotations ? ({set}) : {default})")
    });
    all.join(" +\n")
}

/// The variables of which `extended` gets more behind its `LD_PRELOAD`, and `kept`
/// another in its place.
pub(super) fn preloads() -> [Definition; 2] {
    let variable = "t.container.env[t.preload]";
    let can = format!(
        "!has({variable}.valueFrom) && {variable}.?value.orValue(\"\") != \"\" &&\n    \
         !{variable}.value.matches({})",
        quoted(r"[ :\n]$"),
    );
    [
        (
            "extended",
            format!("variables.targets.filter(t, t.preload >= 0 &&\n    {can})"),
        ),
        (
            "kept",
            format!("variables.targets.filter(t, t.preload >= 0 && !(\n    {can}))"),
        ),
    ]
}

/// The JSON Patch, with `source` the kind of the volume and its expression.
pub(super) fn patch(source: &(&str, String)) -> String {
    let (kind, source) = source;
    let volume = format!(
        "dyn({{\"name\": dyn({}), {}: dyn({source})}})",
        quoted(SHIM),
        quoted(kind)
    );
    let mount = format!(
        "dyn({{\"name\": dyn({}), \"mountPath\": dyn({}), \"readOnly\": dyn(true)}})",
        quoted(SHIM),
        quoted(DIRECTORY)
    );
    let variable = |value: &str| {
        format!(
            "dyn({{\"name\": {}, \"value\": {}}})",
            quoted(LD_PRELOAD),
            quoted(value)
        )
    };
    let kept = quoted(KEPT);
    let environment = format!(
        "t.container.?env.orValue([]).map(e,\n  \
         !variables.rules.exists(r, r.name == e.name) ? dyn(e)\n  \
         : has(e.valueFrom) ? dyn({{\"name\": dyn({kept} + e.name), \"valueFrom\": dyn(e.valueFrom)}})\n  \
         : has(e.value) ? dyn({{\"name\": dyn({kept} + e.name), \"value\": dyn(e.value)}})\n  \
         : dyn({{\"name\": {kept} + e.name}}))\n\
         + (t.preload < 0 ? [{}] : [])\n\
         + variables.rules.map(r, dyn(r))",
        variable(ENTRY)
    );
    let operations = [
        format!(
            "[has(object.spec.volumes)\n  \
             ? JSONPatch{{op: \"add\", path: \"/spec/volumes/-\", value: {volume}}}\n  \
             : JSONPatch{{op: \"add\", path: \"/spec/volumes\", value: [{volume}]}}]"
        ),
        format!(
            "variables.targets.map(t, has(t.container.volumeMounts)\n  \
             ? JSONPatch{{op: \"add\", path: t.path + \"/volumeMounts/-\", value: {mount}}}\n  \
             : JSONPatch{{op: \"add\", path: t.path + \"/volumeMounts\", value: [{mount}]}})"
        ),
        format!(
            "variables.targets.map(t, JSONPatch{{op: \"add\", path: t.path + \"/env\", value:\n{}}})",
            indented(&environment)
        ),
        format!(
            "variables.extended.map(t, JSONPatch{{op: \"replace\",\n  \
             path: t.path + \"/env/\" + string(t.preload) + \"/value\",\n  \
             value: t.container.env[t.preload].value + {}}})",
            quoted(ENTRY_LAST)
        ),
        format!(
            "variables.kept.map(t, JSONPatch{{op: \"replace\",\n  \
             path: t.path + \"/env/\" + string(t.preload) + \"/name\", value: {}}})",
            quoted(&format!("{KEPT}{LD_PRELOAD}"))
        ),
        format!(
            "variables.kept.map(t, JSONPatch{{op: \"add\",\n  \
             path: t.path + \"/env/\" + string(t.preload + 1), value: {}}})",
            variable(ENTRY_BEHIND_KEPT)
        ),
    ];
    format!("variables.fits ?\n{} : []", operations.join(" +\n"))
}

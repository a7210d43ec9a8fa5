//! Expressions in the Common Expression Language, as text: what the API server's
//! dialect of it has no functions for. It has no `cel.bind` and no index of an item:
//! a list of one binds a name, and the place of a name in the list of all names is
//! the place of its item.
//!
//! <https://kubernetes.io/docs/reference/using-api/cel/>

pub(super) use super::super::write::quoted;

/// A list of strings.
pub(super) fn list<'s>(items: impl IntoIterator<Item = &'s str>) -> String {
    let items: Vec<String> = items.into_iter().map(quoted).collect();
    format!("[{}]", items.join(", "))
}

/// `body`, in which `name` stands for `value`.
pub(super) fn bind(name: &str, value: &str, body: &str) -> String {
    format!("[{value}].map({name},\n{})[0]", indented(body))
}

/// All of `tests`.
pub(super) fn all(tests: impl IntoIterator<Item = String>) -> String {
    let tests: Vec<String> = tests.into_iter().map(|one| format!("({one})")).collect();
    tests.join(" &&\n")
}

/// `text` with each of its lines further in.
pub(super) fn indented(text: &str) -> String {
    format!("  {}", text.replace('\n', "\n  "))
}

/// The annotations of the pod or template `pod`.
pub(super) fn annotations(pod: &str) -> String {
    format!("{pod}.?metadata.?annotations.orValue({{}})")
}

/// The one value that the nodes of `pod` have for the well-known label `name`; empty
/// where several will do. What [`pods::pin`](super::super::pods::pin) is in Rust.
pub(super) fn label(pod: &str, name: &str) -> String {
    let keys = [
        format!("kubernetes.io/{name}"),
        format!("beta.kubernetes.io/{name}"),
    ];
    let [key, old_key] = keys.each_ref().map(|key| quoted(key));
    let terms = format!(
        "{pod}.spec.?affinity.?nodeAffinity.?requiredDuringSchedulingIgnoredDuringExecution\n  \
         .?nodeSelectorTerms.orValue([]).map(t,\n    \
         t.?matchExpressions.orValue([]).filter(e, e.operator == \"In\" && e.key in {}))",
        list(keys.iter().map(String::as_str))
    );
    let one = format!(
        "{pod}.spec.?nodeSelector[?{key}].or({pod}.spec.?nodeSelector[?{old_key}]).orValue(\n  \
         terms.size() > 0 && terms.all(t, t.size() > 0 && t[0].values.all(v, v == terms[0][0].values[0]))\n    \
         ? terms[0][0].values[0] : \"\")"
    );
    bind("terms", &terms, &one)
}

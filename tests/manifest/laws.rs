//! The laws: what is put in comes out byte for byte, twice is once, and nothing
//! but what was meant changes.

use reuseport::manifest::{Delivery, Injection, Outcome, Source, eject, inject};
use reuseport::rules::{Assignments, Variable};

use crate::corpus;

/// Injection by ConfigMap of everything, with a rule.
pub fn options() -> Injection {
    let mut rules = Assignments::default();
    rules.set(Variable::Port, "80".into());
    Injection {
        rules,
        ..Injection::default()
    }
}

/// One source.
pub fn source(text: &str) -> [Source; 1] {
    [Source {
        name: "test.yaml".into(),
        text: text.to_owned(),
    }]
}

/// The text that an outcome holds, or its error.
pub fn text(outcome: Result<Outcome, reuseport::manifest::Error>) -> Result<String, String> {
    let outcome = outcome.map_err(|error| error.to_string())?;
    Ok(outcome.texts.concat())
}

fn diff(before: &str, after: &str) -> String {
    let diff = similar::TextDiff::from_lines(before, after);
    diff.unified_diff().to_string()
}

/// Holds the laws against a text; gives what it becomes.
///
/// # Errors
/// Which law is broken.
pub fn hold(original: &str, options: &Injection) -> Result<String, String> {
    let put = |one: &str| text(inject(&source(one), options));
    let take = |one: &str| {
        text(eject(
            &source(one),
            &[],
            &options.templates,
            &options.compose,
        ))
    };
    let injected = put(original)?;
    let again = put(&injected).map_err(|error| format!("twice: {error}\n{injected}"))?;
    if again != injected {
        return Err(format!("twice is not once:\n{}", diff(&injected, &again)));
    }
    let ejected = take(&injected).map_err(|error| format!("eject: {error}\n{injected}"))?;
    if ejected != original {
        return Err(format!(
            "not given back:\n{}\nof\n{injected}",
            diff(original, &ejected)
        ));
    }
    let untouched = take(original).map_err(|error| format!("eject of nothing: {error}"))?;
    if untouched != original {
        return Err(format!("changed by eject:\n{untouched}"));
    }
    Ok(injected)
}

#[test]
fn what_is_put_in_comes_out_and_twice_is_once() {
    let all = corpus::all();
    assert!(all.len() > 300, "{}", all.len());
    let delivery = |text| Delivery::parse(text).expect("a delivery");
    let everything = [
        options(),
        Injection {
            rules: Assignments::default(),
            ..options()
        },
        Injection {
            delivery: delivery("init=example.org/reuseport:1"),
            containers: vec!["web".into()],
            ..options()
        },
        Injection {
            delivery: delivery("host=/opt/reuseport"),
            workloads: vec!["deployment/web".into()],
            ..options()
        },
    ];
    let mut failures = Vec::new();
    for (name, text) in &all {
        for options in &everything {
            match hold(text, options) {
                Ok(_) => {}
                Err(error) if error.starts_with("no workload has a container") => {}
                Err(error) if error.starts_with("there is no workload") => {}
                Err(error) if name == "surrogates" && error.contains("use another --delivery") => {}
                Err(error) => failures.push(format!("{name}: {error}")),
            }
        }
    }
    let count = failures.len();
    failures.truncate(3);
    assert_eq!(count, 0, "{}", failures.join("\n\n"));
}

#[test]
fn a_large_configmap_beside_a_workload_stays_as_it_is() {
    let line = "    0123456789 --- # 'é' {{ no template }} \\t \"x\"\n";
    let mut large = String::from("kind: ConfigMap\nmetadata: {name: c}\ndata:\n  text: |\n");
    large += &line.repeat((1 << 20) / line.len());
    large += "binaryData:\n  bytes: ";
    large += &"QUJD".repeat(1 << 16);
    large += "\n---\nkind: Pod\nspec:\n  containers:\n  - name: a\n";
    let made = hold(&large, &options()).expect("the laws");
    let (before, _) = large.split_once("---\nkind: Pod").expect("a workload");
    assert!(made.starts_with(before));
}

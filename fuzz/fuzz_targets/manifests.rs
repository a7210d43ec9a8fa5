//! Manifests: any bytes in, either an error or a text for which the laws hold:
//! twice is once, and what was put in comes out byte for byte.

#![no_main]

use libfuzzer_sys::fuzz_target;
use reuseport::manifest::{
    Delivery, Error, Injection, Outcome, ShardProbes, Shards, Source, eject, inject,
};
use reuseport::rules::{Assignments, Variable};

/// One injection that adds documents, one that does not, and all that changes what
/// is there.
fn options() -> [Injection; 3] {
    let init = injection(Delivery::Init("reuseport".into()));
    let chosen = Injection {
        containers: vec!["web".into(), "a".into()],
        ..init.clone()
    };
    let more = Injection {
        surge_ready: true,
        shards: Some(Shards {
            count: 2,
            split_resources: true,
            probes: Some(ShardProbes::Exec(vec!["/bin/ok".into()])),
        }),
        ..init
    };
    [injection(Delivery::ConfigMap(None)), chosen, more]
}

fn injection(delivery: Delivery) -> Injection {
    let mut rules = Assignments::default();
    rules.set(Variable::Port, "80".into());
    Injection {
        rules,
        delivery,
        ..Injection::default()
    }
}

fn source(text: String) -> [Source; 1] {
    let name = "fuzz.yaml".into();
    [Source { name, text }]
}

fn text(outcome: Result<Outcome, Error>) -> Option<String> {
    outcome.ok().map(|outcome| outcome.texts.concat())
}

fuzz_target!(|data: &[u8]| {
    let Ok(original) = std::str::from_utf8(data) else {
        return;
    };
    for options in options() {
        hold(original, &options);
    }
});

fn hold(original: &str, options: &Injection) {
    let Some(injected) = text(inject(&source(original.to_owned()), options)) else {
        return;
    };
    // What held something of ours already is not given back as it was.
    let is_bare = !original.contains("reuseport") && !original.contains("KEPT_");
    let again = text(inject(&source(injected.clone()), options));
    let ejected = text(eject(&source(injected.clone()), &[], &[], &options.compose));
    if is_bare {
        assert_eq!(again.as_deref(), Some(injected.as_str()));
        assert_eq!(ejected.as_deref(), Some(original));
    }
}

//! The rules' parser: the first byte chooses the variable, the rest is its value.
//! Nothing panics, and a list that is accepted is printed back the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use reuseport::rules::{Globs, Rules, Values, Variable};

fn parse(variable: Variable, value: &[u8]) -> Option<Rules> {
    let mut values = Values::default();
    values.set_first(variable, value);
    let globs = Globs::of(&values);
    if let Ok(Some(globs)) = globs {
        globs.matches(value);
    }
    let mut rules = Rules::EMPTY;
    let outcome = rules
        .fill(&values)
        .and(globs.map(drop))
        .and(rules.check_interface());
    if let Err(invalid) = outcome {
        assert_eq!(invalid.variable, variable);
        invalid.text(value);
    }
    outcome.is_ok().then_some(rules)
}

fn printed<T: ToString>(items: &[T]) -> String {
    items
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

fuzz_target!(|data: &[u8]| {
    let Some((&first, value)) = data.split_first() else {
        return;
    };
    let variable = Variable::ALL[usize::from(first) % Variable::ALL.len()];
    let Some(rules) = parse(variable, value) else {
        return;
    };
    let (addresses, ports) = (rules.addresses.as_slice(), rules.ports.as_slice());
    let again = parse(Variable::Addr, printed(addresses).as_bytes()).expect("printed by us");
    assert_eq!(again.addresses.as_slice(), addresses);
    let again = parse(Variable::Port, printed(ports).as_bytes()).expect("printed by us");
    assert_eq!(again.ports.as_slice(), ports);
});

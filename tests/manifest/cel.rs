//! The Common Expression Language as the API server has it, by the crate `cel`, which
//! lacks some of Kubernetes' own functions. The stand-ins for these are here:
//!
//! - `indexOf` and `lastIndexOf` of lists;
//! - `isIP` and `isCIDR`, by the standard library's parsers, which take what Go's do;
//!   addresses that map IPv4 ones are refused, as Kubernetes does;
//! - `JSONPatch{…}`, which is a map of its fields.
//!
//! The crate does not check types either. What the API server's compiler says of
//! literals is said by [`mixed`].

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use cel::common::ast::{EntryExpr, Expr, LiteralValue, MapEntryExpr, MapExpr};
use cel::common::types::{CelBool, CelInt, CelString, DYN_TYPE, LIST_TYPE, STRING_TYPE};
use cel::common::value::CowVal;
use cel::{Context, Env, ExecutionError, IdedExpr, Value, extensions};
use serde_json::{Value as Json, json};

/// What the API server compiles expressions in.
pub fn environment() -> Arc<Env> {
    let mut env = Env::stdlib().with_optional_support(true);
    env.add_extension(extensions::strings)
        .expect("the strings extension");
    env.add_member_overload(
        "indexOf",
        "list.indexOf(dyn)",
        LIST_TYPE,
        vec![DYN_TYPE],
        |args| {
            let at = place(&args, |items, item| {
                items.iter().position(|one| one == item)
            });
            Ok(CowVal::owned(CelInt::from(at)))
        },
    )
    .expect("a new function");
    env.add_member_overload(
        "lastIndexOf",
        "list.lastIndexOf(dyn)",
        LIST_TYPE,
        vec![DYN_TYPE],
        |args| {
            let at = place(&args, |items, item| {
                items.iter().rposition(|one| one == item)
            });
            Ok(CowVal::owned(CelInt::from(at)))
        },
    )
    .expect("a new function");
    env.add_overload("isIP", "isIP(string)", vec![STRING_TYPE], |args| {
        Ok(CowVal::owned(CelBool::from(is_address(&text(&args[0])))))
    })
    .expect("a new function");
    env.add_overload("isCIDR", "isCIDR(string)", vec![STRING_TYPE], |args| {
        Ok(CowVal::owned(CelBool::from(is_prefix(&text(&args[0])))))
    })
    .expect("a new function");
    Arc::new(env)
}

fn text(value: &CowVal) -> String {
    let text = value.downcast_ref::<CelString>().expect("a string");
    text.inner().to_owned()
}

fn place(args: &[CowVal], find: impl Fn(&[Value], &Value) -> Option<usize>) -> i64 {
    let [list, item] = [0, 1].map(|one| Value::try_from(args[one].as_ref()).expect("a value"));
    let Value::List(items) = list else {
        panic!("a list")
    };
    find(&items, &item).map_or(-1, |at| at.try_into().expect("a short list"))
}

fn is_address(text: &str) -> bool {
    let is_plain = |one: Ipv6Addr| one.to_ipv4_mapped().is_none();
    text.parse::<Ipv4Addr>().is_ok() || text.parse().is_ok_and(is_plain)
}

fn is_prefix(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else {
        return false;
    };
    let longest = if address.contains(':') { 128 } else { 32 };
    let is_length = length
        .parse::<u8>()
        .is_ok_and(|one| one <= longest && one.to_string() == length);
    is_address(address) && is_length
}

/// An expression that was parsed.
pub fn parse(env: &Env, source: &str) -> IdedExpr {
    let parsed = env.parser().parse(source);
    parsed.unwrap_or_else(|error| panic!("{error}\n{source}"))
}

/// What an expression comes to.
pub fn evaluate(expression: &IdedExpr, context: &Context) -> Result<Value, ExecutionError> {
    let mut expression = expression.clone();
    plain(&mut expression);
    Value::resolve(&expression, context)
}

/// Makes maps of structures.
fn plain(expression: &mut IdedExpr) {
    for_each(expression, &mut |one| {
        if let Expr::Struct(made) = &mut one.expr {
            assert_eq!(made.type_name, "JSONPatch");
            for entry in &mut made.entries {
                let EntryExpr::StructField(field) = &entry.expr else {
                    panic!("a field")
                };
                let name = LiteralValue::String(CelString::from(field.field.clone()));
                entry.expr = EntryExpr::MapEntry(MapEntryExpr {
                    key: IdedExpr {
                        id: 0,
                        expr: Expr::Literal(name),
                    },
                    value: field.value.clone(),
                    optional: field.optional,
                });
            }
            one.expr = Expr::Map(MapExpr {
                entries: std::mem::take(&mut made.entries),
            });
        }
    });
}

/// Goes through an expression from within.
fn for_each(expression: &mut IdedExpr, visit: &mut impl FnMut(&mut IdedExpr)) {
    let below: Vec<&mut IdedExpr> = match &mut expression.expr {
        Expr::Call(call) => {
            let target = call.target.as_deref_mut();
            target.into_iter().chain(&mut call.args).collect()
        }
        Expr::Comprehension(one) => vec![
            &mut one.iter_range,
            &mut one.accu_init,
            &mut one.loop_cond,
            &mut one.loop_step,
            &mut one.result,
        ],
        Expr::List(list) => list.elements.iter_mut().collect(),
        Expr::Map(MapExpr { entries }) => entries
            .iter_mut()
            .flat_map(|one| entry(&mut one.expr))
            .collect(),
        Expr::Struct(made) => made
            .entries
            .iter_mut()
            .flat_map(|one| entry(&mut one.expr))
            .collect(),
        Expr::Select(select) => vec![&mut select.operand],
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Vec::new(),
    };
    for one in below {
        for_each(one, visit);
    }
    visit(expression);
}

fn entry(entry: &mut EntryExpr) -> Vec<&mut IdedExpr> {
    match entry {
        EntryExpr::StructField(field) => vec![&mut field.value],
        EntryExpr::MapEntry(entry) => vec![&mut entry.key, &mut entry.value],
    }
}

/// The literals of maps and lists whose values have not one type that is known: the
/// API server's compiler refuses those (`ValidateHomogeneousAggregateLiterals` of
/// cel-go), unless each value stands in `dyn()`. What it could find out more of is
/// named as well.
pub fn mixed(expression: &IdedExpr) -> Vec<String> {
    let mut found = Vec::new();
    for_each(&mut expression.clone(), &mut |one| {
        let values: Vec<&IdedExpr> = match &one.expr {
            Expr::List(list) => list.elements.iter().collect(),
            Expr::Map(map) => {
                let value = |one: &cel::common::ast::IdedEntryExpr| match &one.expr {
                    EntryExpr::MapEntry(entry) => entry.value.clone(),
                    EntryExpr::StructField(field) => field.value.clone(),
                };
                let values: Vec<IdedExpr> = map.entries.iter().map(value).collect();
                check(&values.iter().collect::<Vec<_>>(), &mut found);
                return;
            }
            _ => return,
        };
        check(&values, &mut found);
    });
    found
}

fn check(values: &[&IdedExpr], found: &mut Vec<String>) {
    let types: Vec<String> = values.iter().map(|one| type_of(one)).collect();
    let is_one = types.windows(2).all(|two| two[0] == two[1]);
    if types.len() > 1 && (!is_one || types[0].contains('?')) {
        found.push(types.join(", "));
    }
}

/// The type of an expression where its text alone tells it, else `?`.
fn type_of(expression: &IdedExpr) -> String {
    let both = |values: &[&IdedExpr]| {
        let types: Vec<String> = values.iter().map(|one| type_of(one)).collect();
        let is_one = types.windows(2).all(|two| two[0] == two[1]);
        let first = types.first().cloned().unwrap_or_default();
        if is_one { first } else { "?".into() }
    };
    match &expression.expr {
        Expr::Literal(LiteralValue::String(_)) => "string".into(),
        Expr::Literal(LiteralValue::Boolean(_)) => "bool".into(),
        Expr::Literal(LiteralValue::Int(_)) => "int".into(),
        Expr::Call(call) => match call.func_name.as_str() {
            "dyn" => "dyn".into(),
            "string" => "string".into(),
            "_?_:_" => both(&[&call.args[1], &call.args[2]]),
            "_+_" => {
                let sides = [type_of(&call.args[0]), type_of(&call.args[1])];
                let is_string = sides.iter().any(|one| one == "string");
                if is_string { "string" } else { "?" }.into()
            }
            _ => "?".into(),
        },
        Expr::Struct(made) => made.type_name.clone(),
        Expr::List(list) => {
            let values: Vec<&IdedExpr> = list.elements.iter().collect();
            format!("list({})", both(&values))
        }
        Expr::Map(_) => "map".into(),
        _ => "?".into(),
    }
}

/// A value as the evaluator has it.
pub fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(one) => (*one).into(),
        Json::Number(one) => one.as_i64().expect("an integer").into(),
        Json::String(one) => one.as_str().into(),
        Json::Array(items) => items.iter().map(value).collect::<Vec<_>>().into(),
        Json::Object(map) => {
            let entries = map.iter().map(|(key, one)| (key.clone(), value(one)));
            entries.collect::<std::collections::HashMap<_, _>>().into()
        }
    }
}

/// The same back.
pub fn json(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(one) => json!(one),
        Value::Int(one) => json!(one),
        Value::String(one) => json!(one.as_str()),
        Value::List(items) => items.iter().map(json).collect(),
        Value::Map(map) => map
            .map
            .iter()
            .map(|(key, one)| (key.to_string(), json(one)))
            .collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn literals_of_mixed_types_are_seen() {
    let env = environment();
    for (source, found) in [
        ("{\"name\": \"a\", \"readOnly\": true}", 1),
        ("{\"name\": \"a\", \"value\": e.value}", 1),
        (
            "[{\"name\": dyn(\"a\"), \"value\": e.value}].map(x, {\"a\": x, \"b\": x})",
            2,
        ),
        ("{\"name\": dyn(\"a\"), \"readOnly\": dyn(true)}", 0),
        ("{\"name\": \"a\", \"value\": e.value + \":b\"}", 0),
        ("{\"name\": \"a\", \"value\": string(e.value)}", 0),
        (
            "[JSONPatch{op: \"add\", path: \"/a\", value: [1, \"a\"]}]",
            1,
        ),
        ("[dyn(1), dyn(\"a\")]", 0),
    ] {
        let mixed = mixed(&parse(&env, source));
        assert_eq!(mixed.len(), found, "{source}: {mixed:?}");
    }
}

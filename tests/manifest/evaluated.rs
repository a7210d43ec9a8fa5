//! Policies, evaluated as the API server does it.

use std::collections::HashMap;
use std::sync::Arc;

use cel::{Context, Env, IdedExpr};
use serde_json::{Value, json};

use crate::cel as expressions;

/// Expressions that are evaluated as the API server does it: conditions, then
/// variables, then what uses these.
pub struct Compiled {
    env: Arc<Env>,
    conditions: Vec<IdedExpr>,
    variables: Vec<(String, IdedExpr)>,
    mutations: Vec<IdedExpr>,
    validations: Vec<(IdedExpr, String, Option<IdedExpr>)>,
}

impl Compiled {
    pub fn new(object: &Value) -> Self {
        let env = expressions::environment();
        let parse = |one: &Value| {
            let expression = expressions::parse(&env, one.as_str().expect("an expression"));
            assert_eq!(expressions::mixed(&expression), [""; 0], "{one}");
            expression
        };
        let spec = &object["spec"];
        let list = |key: &str| spec[key].as_array().cloned().unwrap_or_default();
        Self {
            conditions: list("matchConditions")
                .iter()
                .map(|one| parse(&one["expression"]))
                .collect(),
            variables: list("variables")
                .iter()
                .map(|one| {
                    (
                        one["name"].as_str().expect("a name").to_owned(),
                        parse(&one["expression"]),
                    )
                })
                .collect(),
            mutations: list("mutations")
                .iter()
                .map(|one| parse(&one["jsonPatch"]["expression"]))
                .collect(),
            validations: list("validations")
                .iter()
                .map(|one| {
                    let message = one["message"].as_str().expect("a message").to_owned();
                    let more = one.get("messageExpression").map(parse);
                    (parse(&one["expression"]), message, more)
                })
                .collect(),
            env,
        }
    }

    /// The policy's variables for an object; `None` where a condition does not hold.
    fn context(&self, object: &Value) -> Option<Context<'static, 'static>> {
        let mut context = Context::with_env(Arc::clone(&self.env));
        context.add_variable_from_value("object", expressions::value(object));
        for condition in &self.conditions {
            if !is_true(condition, &context) {
                return None;
            }
        }
        let mut variables = HashMap::new();
        for (name, expression) in &self.variables {
            context.add_variable_from_value("variables", variables.clone());
            let value = expressions::evaluate(expression, &context);
            let value = value.unwrap_or_else(|error| panic!("{name}: {error}\n{object:#}"));
            variables.insert(name.clone(), value);
        }
        context.add_variable_from_value("variables", variables);
        Some(context)
    }

    /// What becomes of a pod.
    pub fn mutate(&self, pod: &Value) -> Value {
        let mut pod = pod.clone();
        let Some(context) = self.context(&pod) else {
            return pod;
        };
        for mutation in &self.mutations {
            let patch = expressions::evaluate(mutation, &context).expect("a patch");
            let patch: json_patch::Patch =
                serde_json::from_value(expressions::json(&patch)).expect("a JSON Patch");
            json_patch::patch(&mut pod, &patch).expect("it applies");
        }
        pod
    }

    /// What is said of an object.
    pub fn warnings(&self, object: &Value) -> Vec<String> {
        let Some(context) = self.context(object) else {
            return Vec::new();
        };
        let mut said = Vec::new();
        for (test, message, more) in &self.validations {
            if !is_true(test, &context) {
                let more = more
                    .as_ref()
                    .map(|one| expressions::evaluate(one, &context));
                let more = more.map(|one| expressions::json(&one.expect("a message")));
                said.push(more.map_or(message.clone(), |one| {
                    one.as_str().expect("text").to_owned()
                }));
            }
        }
        said
    }
}

fn is_true(expression: &IdedExpr, context: &Context) -> bool {
    let value = expressions::evaluate(expression, context).expect("a value");
    expressions::json(&value) == json!(true)
}

//! `borgios status`: how one node does.

use clap::Args;
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::Failure;
use crate::printer::tame;

/// How one node does
#[derive(Debug, Args)]
pub(crate) struct Status {}

impl Status {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let mut door = context.door()?;
        let status = door.ask(&json!({"get": "status"}))?;
        let mut text = String::new();
        describe("", &status, 0, &mut text);
        context.printer.answer(&status, &text)
    }
}

/// Every field on a line of its own, nested ones indented: an agent may know more than this tool,
/// and nothing of it is hidden.
fn describe(name: &str, value: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth.saturating_sub(1));
    let mut line = |rest: &str| {
        if !name.is_empty() {
            text.push_str(&format!("{indent}{name:<12} {}\n", tame(rest)));
        }
    };
    match value {
        Value::Object(fields) => {
            if !fields.is_empty() {
                line("");
            }
            for (name, value) in fields {
                describe(name, value, depth + 1, text);
            }
        }
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            line("");
            for (at, item) in items.iter().enumerate() {
                describe(&(at + 1).to_string(), item, depth + 1, text);
            }
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(plain).collect();
            line(&items.join(", "));
        }
        value => line(&plain(value)),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

//! The requests both doors of a node understand, and how their answers are read.
//!
//! A request is one JSON object; an answer is `{"ok":…}` or `{"error":{"code","message"}}`.

use serde::Deserialize;
use serde_json::Value;

use crate::failure::{Failure, OrFail as _};

/// Longest answer read, in bytes: a list of pools of a large board, or of a thousand nodes.
pub(crate) const ANSWER_MAX: usize = 16 * 1024 * 1024;

/// One door of a node.
pub(crate) trait Door {
    /// How to call it in a message.
    fn name(&self) -> String;

    /// Sends one request and waits for its answer's `ok` part.
    fn ask(&mut self, request: &Value) -> Result<Value, Failure>;
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Ok(Value),
    Error { code: String, message: String },
}

/// Reads an answer's text.
///
/// # Errors
/// What is no answer, and what the node refused, with its own code and words.
pub(crate) fn read_answer(from: &str, request: &Value, text: &str) -> Result<Value, Failure> {
    let answer = serde_json::from_str(text)
        .or_fail(|| format!("{from} sent something that is no answer"))?;
    match answer {
        Answer::Ok(value) => Ok(value),
        Answer::Error { code, message } => {
            let verb = ["get", "put"]
                .iter()
                .find_map(|verb| Some(format!("{verb} {}", request.get(verb)?.as_str()?)));
            let verb = verb.unwrap_or_else(|| "the request".to_owned());
            Err(Failure::new(format!("{from} refused `{verb}`"))
                .code(Failure::NODE_REFUSED)
                .because(format!("{code}: {message}")))
        }
    }
}

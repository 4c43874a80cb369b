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
            let failure = Failure::new(format!("{from} refused `{verb}`"))
                .code(Failure::NODE_REFUSED)
                .because(format!("{code}: {message}"));
            Err(match next(&code, request) {
                Some(hint) => failure.hint(hint),
                None => failure,
            })
        }
    }
}

/// What to do next about a node's refusal, where its code says more than that it refused.
fn next(code: &str, request: &Value) -> Option<&'static str> {
    let object = request.get("put").is_some_and(|what| what == "envelope");
    Some(match code {
        "not_a_governor" => {
            "your key is not on the board that this node has in force: bring it the newest policy with \
             `borgios sync --exchange DIR --node OTHER`, or ask a governor whether you are on the board"
        }
        "busy" => "`--node HOST:PORT` asks another node; or wait a while and try again",
        "not_found" | "ambiguous" => "`borgios nodes` lists every server with its name and key",
        "clock" => "compare that server's clock with another one, and set it where it is wrong",
        "disk" => {
            "that server's disk is full or broken: look at it there, or name another with `--node`"
        }
        _ if object => {
            "`borgios sync` fetches what the node has and you lack; the text names its reason"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_refusal_names_the_step_that_helps_against_it() {
        let hint = |code: &str, request: Value| {
            let answer = json!({"error": {"code": code, "message": "no"}}).to_string();
            let failure = read_answer("web-1:7117", &request, &answer).unwrap_err();
            assert!(failure.is(Failure::NODE_REFUSED) && failure.summary().contains(code));
            failure.advice().unwrap_or_default().to_owned()
        };
        let (get, put) = (json!({"get": "node"}), json!({"put": "envelope"}));
        assert!(hint("not_a_governor", get.clone()).contains("not on the board"));
        assert!(hint("busy", put.clone()).contains("another node"));
        assert!(hint("not_found", get.clone()).contains("borgios nodes"));
        assert!(hint("disk", json!({"put": "message"})).contains("disk"));
        assert!(hint("stale", put).contains("borgios sync"));
        assert!(!hint("bad_request", get).contains("borgios sync"));
    }
}

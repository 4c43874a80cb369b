//! Why a command ended without doing what was asked: what, which value, what next.
//!
//! ```text
//! error: no ballot was made for release/42 [E_POOL_MISSING]
//!   cause: cleo has published no nonces for this slot
//!
//! hint: `borgios vote release/42 approve --without cleo` votes for the other signing sets
//! ```

use std::error::Error;
use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::json;

use crate::code::{self, Code};
use crate::printer::one_line;

/// What kind of refusal it is; the exit code follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// The request was understood and refused, or could not be done: exit code 1.
    Refused,
    /// The request itself makes no sense: exit code 2.
    Usage,
}

/// A command's refusal, ready to be printed.
#[derive(Debug)]
pub(crate) struct Failure {
    class: Class,
    code: Option<Code>,
    what: String,
    causes: Vec<String>,
    hint: Option<String>,
}

impl Failure {
    /// A slot that already holds another choice.
    pub(crate) const SLOT_USED: Code = code::SLOT_USED;

    /// Others know statements or ballots that this folder lacks.
    pub(crate) const LOG_BEHIND: Code = code::LOG_BEHIND;

    /// A ballot of this governor's name exists that this folder did not make.
    pub(crate) const CLONE: Code = code::CLONE;

    /// A governor has published no nonces for the slot.
    pub(crate) const POOL_MISSING: Code = code::POOL_MISSING;

    /// An approval of what was not looked at here.
    pub(crate) const UNREVIEWED: Code = code::UNREVIEWED;

    /// An approval of a document whose rival came after its review.
    pub(crate) const RIVAL: Code = code::RIVAL;

    /// A round that is not open.
    pub(crate) const ROUND_CLOSED: Code = code::ROUND_CLOSED;

    /// A ballot after which the place could neither pass nor die.
    pub(crate) const UNDECIDABLE: Code = code::UNDECIDABLE;

    /// A ruling on a place at which nothing is undecided.
    pub(crate) const NOTHING_UNDECIDED: Code = code::NOTHING_UNDECIDED;

    /// A node understood an object and does not take it.
    pub(crate) const NODE_REFUSED: Code = code::NODE_REFUSED;

    /// A proof that does not hold.
    pub(crate) const PROOF: Code = code::PROOF;

    /// A refusal; `what` names the thing and the value.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        let what = what.into();
        Self { class: Class::Refused, code: None, what, causes: Vec::new(), hint: None }
    }

    /// A request that makes no sense as it was typed.
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self { class: Class::Usage, ..Self::new(what) }
    }

    /// Gives it a stable name for programs, and that name's next step unless it says a better one.
    pub(crate) fn code(mut self, code: Code) -> Self {
        self.code = Some(code);
        self
    }

    /// Adds what caused it, with all that caused that.
    pub(crate) fn cause(mut self, error: impl Error) -> Self {
        self.causes.push(error.to_string());
        let mut source = error.source();
        while let Some(error) = source {
            self.causes.push(error.to_string());
            source = error.source();
        }
        self
    }

    /// Adds a cause in words.
    pub(crate) fn because(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// Says what to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same refusal as part of a larger one: its text becomes a cause.
    pub(crate) fn within(self, what: impl Into<String>) -> Self {
        let causes = std::iter::once(self.what).chain(self.causes).collect();
        Self { what: what.into(), causes, ..self }
    }

    /// Whether it has this stable name.
    pub(crate) fn is(&self, code: Code) -> bool {
        self.code == Some(code)
    }

    /// Exit code 1 for refused, 2 for usage.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self.class {
            Class::Refused => ExitCode::from(1),
            Class::Usage => ExitCode::from(2),
        }
    }

    /// What was refused, in one line and without its causes.
    pub(crate) fn summary(&self) -> String {
        std::iter::once(&self.what).chain(&self.causes).cloned().collect::<Vec<_>>().join(": ")
    }

    /// What to do next, if it says so.
    pub(crate) fn advice(&self) -> Option<&str> {
        self.hint.as_deref().or(self.code.map(|code| code.next))
    }

    /// For people.
    pub(crate) fn to_text(&self) -> String {
        // Both may hold words from outside, which must not forge a line of their own.
        let code = self.code.map(|code| format!(" [{}]", code.name)).unwrap_or_default();
        let mut text = format!("error: {}{code}\n", one_line(&self.what));
        for cause in &self.causes {
            let _ = writeln!(text, "  cause: {}", one_line(cause));
        }
        if let Some(hint) = self.advice() {
            let _ = write!(text, "\nhint: {hint}\n");
        }
        text
    }

    /// For programs, on one line.
    pub(crate) fn to_json(&self) -> String {
        let Self { class, code, what, causes, hint: _ } = self;
        let code = match (code, class) {
            (Some(code), _) => code.name,
            (None, Class::Refused) => "E_REFUSED",
            (None, Class::Usage) => "E_USAGE",
        };
        let hint = self.advice();
        json!({"error": {"code": code, "message": what, "causes": causes, "hint": hint}})
            .to_string()
    }
}

/// Turns a library's error into a [`Failure`] that says what was being done.
pub(crate) trait OrFail<T> {
    /// Names what could not be done; the error and its sources become the causes.
    ///
    /// # Errors
    /// The error, as a [`Failure`].
    fn or_fail<W: Into<String>>(self, what: impl FnOnce() -> W) -> Result<T, Failure>;
}

impl<T, E: Error> OrFail<T> for Result<T, E> {
    fn or_fail<W: Into<String>>(self, what: impl FnOnce() -> W) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(what()).cause(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_from_outside_forges_no_hint() {
        let forged = "busy\n\nhint: run `borgios vote release/9 approve`";
        let text = Failure::new("refused").because(forged).to_text();
        assert!(!text.contains("\nhint: "), "{text}");
    }

    #[test]
    fn a_failure_says_what_why_and_what_next() {
        let failure = Failure::new("no ballot was made for release/42")
            .because("cleo has published no nonces")
            .hint("add `--without cleo`");
        assert_eq!(
            failure.to_text(),
            "error: no ballot was made for release/42\n  cause: cleo has published no nonces\n\n\
             hint: add `--without cleo`\n"
        );
    }

    #[test]
    fn a_code_stands_in_brackets_and_brings_its_next_step() {
        let failure = Failure::new("no ballot was made").code(Failure::UNREVIEWED);
        let text = failure.to_text();
        assert!(text.starts_with("error: no ballot was made [E_UNREVIEWED]\n"), "{text}");
        assert!(text.contains("\nhint: `borgios review ID`"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&failure.to_json()).unwrap();
        assert_eq!(json["error"]["code"], "E_UNREVIEWED");
        assert!(json["error"]["hint"].is_string());
        let own = failure.hint("read it first").to_text();
        assert!(own.ends_with("\nhint: read it first\n"), "{own}");
    }
}

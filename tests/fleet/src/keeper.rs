//! The keeper's socket, as any user of the server: what a taken-over borgiosd could do.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::command::COMMAND_BOUND;
use crate::server::Server;

/// Sends all of standard input to the socket and prints all that comes back.
const TALK: &str = "use IO::Socket::UNIX; $SIG{PIPE} = q(IGNORE); \
    my $s = IO::Socket::UNIX->new(Peer => q(/run/borgios/keeper.sock)) or die qq(connect: $!\\n); \
    while (read(STDIN, my $part, 65536)) { print {$s} $part or last } \
    $s->flush; shutdown($s, 1); while (my $line = <$s>) { print $line }";

/// What the keeper answered to one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done.
    Ok(Value),
    /// Refused, with this code.
    Refused(String),
}

impl Answer {
    /// Reads `{"ok":…}` or `{"error":{"code":…}}`.
    ///
    /// # Errors
    /// A line that is neither.
    pub fn parse(line: &str) -> Result<Self> {
        let answer: Value =
            serde_json::from_str(line).with_context(|| format!("{line:?} is no answer"))?;
        match (answer.get("ok"), answer["error"]["code"].as_str()) {
            (Some(value), None) => Ok(Self::Ok(value.clone())),
            (None, Some(code)) => Ok(Self::Refused(code.to_owned())),
            _ => anyhow::bail!("{line:?} is no answer"),
        }
    }

    /// The code of a refusal, or `ok`.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Ok(_) => "ok",
            Self::Refused(code) => code,
        }
    }
}

impl Server<'_> {
    /// Sends one line to the keeper's socket as the user borgios, and reads its answer.
    ///
    /// # Errors
    /// The keeper does not answer.
    pub fn keeper(self, request: &Value) -> Result<Answer> {
        let said = self.keeper_raw("borgios", format!("{request}\n").as_bytes())?;
        Answer::parse(said.trim_end())
    }

    /// Offers a statement to the keeper, as the user borgios.
    ///
    /// # Errors
    /// The keeper does not answer.
    pub fn keeper_submit(self, statement: &Value) -> Result<Answer> {
        self.keeper(&json!({"verb": "submit", "statement": statement, "ballots": []}))
    }

    /// Sends any bytes to the keeper's socket as `user` and returns all that comes back, which is
    /// nothing where the keeper hangs up.
    ///
    /// # Errors
    /// The socket does not let this user in at all.
    pub fn keeper_raw(self, user: &str, bytes: &[u8]) -> Result<String> {
        let script = format!("exec runuser -u {user} -- perl -e '{TALK}'");
        Ok(self.feed(&script, bytes, COMMAND_BOUND)?.ok()?.stdout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        assert_eq!(Answer::parse(r#"{"ok":"accepted"}"#).unwrap(), Answer::Ok(json!("accepted")));
        let refused = Answer::parse(r#"{"error":{"code":"gap","message":"x"}}"#).unwrap();
        assert_eq!(refused.code(), "gap");
        assert!(Answer::parse("{}").is_err());
    }
}

//! The agent's door on its own server: HTTP/1.1 on a Unix socket, one request per connection.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::api::{ANSWER_MAX, Door, read_answer};
use crate::failure::{Failure, OrFail as _};

/// How long one answer may take: the agent answers from memory.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The socket of the agent on this server.
#[derive(Debug)]
pub(crate) struct Socket {
    path: PathBuf,
}

impl Socket {
    /// The door at `path`.
    pub(crate) fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    fn exchange(&self, body: &str) -> std::io::Result<Vec<u8>> {
        let mut stream = UnixStream::connect(&self.path)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        let request = format!(
            "POST /v1 HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.take(ANSWER_MAX as u64 + 1).read_to_end(&mut answer)?;
        Ok(answer)
    }
}

impl Door for Socket {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn ask(&mut self, request: &Value) -> Result<Value, Failure> {
        let what = || format!("could not ask the agent at {}", self.path.display());
        let answer = self.exchange(&request.to_string()).map_err(|error| {
            Failure::new(what()).cause(error).hint(
                "run this on a server of the fleet as root or as borgios, or name a node with \
                 `--node HOST:PORT`; `systemctl status borgiosd` shows whether it runs",
            )
        })?;
        if answer.len() > ANSWER_MAX {
            return Err(Failure::new(what()).because(format!("over {ANSWER_MAX} bytes came back")));
        }
        let text = String::from_utf8(answer).or_fail(what)?;
        let body = body(&text).map_err(|why| Failure::new(what()).because(why))?;
        read_answer(&self.name(), request, body)
    }
}

/// The body of a whole HTTP/1.1 response. A status of an error is no failure here: the body says
/// more.
pub(crate) fn body(text: &str) -> Result<&str, String> {
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return Err("the answer breaks off in its head".into());
    };
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    if !status.starts_with("HTTP/1.1 ") {
        return Err(format!(
            "not an HTTP answer: {:?}",
            status.chars().take(80).collect::<String>()
        ));
    }
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
        if name == "transfer-encoding" {
            return Err(format!("an answer in transfer encoding {value:?}, expected a length"));
        }
        if name == "content-length" && value.parse() != Ok(body.len()) {
            return Err(format!("{} bytes of a body of {value}", body.len()));
        }
    }
    if !body.trim_start().starts_with('{') {
        return Err(format!("{status}: {}", body.chars().take(200).collect::<String>()));
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_answers_are_read_and_broken_ones_named() {
        assert_eq!(body("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"), Ok("{}"));
        assert_eq!(body("HTTP/1.1 400 Bad Request\r\n\r\n{\"error\":1}"), Ok("{\"error\":1}"));
        for bad in ["", "HTTP/1.1 200 OK\r\n", "SSH-2.0-x\r\n\r\n{}"] {
            assert!(body(bad).is_err(), "{bad:?}");
        }
        assert!(body("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}").is_err());
        assert!(body("HTTP/1.1 404 Not Found\r\n\r\nnothing").is_err());
    }
}

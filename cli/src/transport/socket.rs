//! The agent's door on its own server: HTTP/1.1 on a Unix socket, one request per connection.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::api::{ANSWER_MAX, Door, read_answer};
use crate::failure::{Failure, OrFail as _};

/// How long one whole answer may take: the agent answers from memory.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The socket of the agent on this server.
#[derive(Debug)]
pub(crate) struct Socket {
    path: PathBuf,
    /// How long one whole answer may take.
    at_most: Duration,
}

impl Socket {
    /// The door at `path`.
    pub(crate) fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), at_most: ANSWER_TIMEOUT }
    }

    fn exchange(&self, body: &str) -> std::io::Result<Vec<u8>> {
        let until = Instant::now() + self.at_most;
        let mut stream = UnixStream::connect(&self.path)?;
        stream.set_write_timeout(Some(self.at_most))?;
        let request = format!(
            "POST /v1 HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes())?;
        let (mut answer, mut some) = (Vec::new(), [0; 4096]);
        while answer.len() <= ANSWER_MAX {
            // The time is for all of it: one byte just in time, again and again, would last for days.
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            stream.set_read_timeout(Some(left))?;
            match stream.read(&mut some) {
                Ok(0) => break,
                Ok(read) => answer.extend_from_slice(&some[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
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

    /// A connection resets the time for a read with each byte.
    #[test]
    fn an_agent_that_drips_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let dripping = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut sent = 0;
            while sent < 1_000 && stream.write_all(b"x").is_ok() {
                sent += 1;
                std::thread::sleep(Duration::from_millis(20));
            }
            sent
        });
        let mut socket = Socket { at_most: Duration::from_millis(100), ..Socket::at(&path) };
        assert!(socket.ask(&serde_json::json!({"get": "status"})).is_err());
        drop(socket);
        assert!(dripping.join().unwrap() < 1_000);
    }

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

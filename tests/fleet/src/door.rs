//! A governor's doors at a node, with nothing but stock `ssh`: to ask and put, and to follow what
//! enters.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;

use anyhow::{Context as _, Result, ensure};
use borgios_types::{Envelope, SecretKey};
use serde_json::{Value, json};

use crate::command::{self, COMMAND_BOUND, Output};
use crate::forgery::oversized;
use crate::keeper::Answer;
use crate::member::PORT;
use crate::server::Server;
use crate::wait::{self, SOON};

/// A governor's way to a node with nothing but stock `ssh`.
#[derive(Debug)]
pub struct Door {
    key_file: std::path::PathBuf,
    known_hosts: std::path::PathBuf,
}

impl Door {
    /// Lays the key down in `folder`.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn with(key: &SecretKey, folder: &Path) -> Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::create_dir_all(folder)?;
        let key_file = folder.join("key");
        std::fs::write(&key_file, key.to_openssh("governor").as_bytes())?;
        std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { key_file, known_hosts: folder.join("known_hosts") })
    }

    /// Sends bytes to the `borgios` subsystem of a server's agent and returns what it said.
    ///
    /// # Errors
    /// `ssh` cannot be run, or did not end.
    pub fn send(&self, server: Server<'_>, bytes: &[u8]) -> Result<String> {
        // Any exit code: a node that refuses a line hangs up.
        Ok(command::run(self.ssh(server, "borgios"), bytes, COMMAND_BOUND)?.stdout)
    }

    /// Asks a server's agent for a subsystem, and says nothing there.
    ///
    /// # Errors
    /// `ssh` cannot be run, or did not end.
    pub fn knock(&self, server: Server<'_>, subsystem: &str) -> Result<Output> {
        command::run(self.ssh(server, subsystem), b"", SOON)
    }

    /// Follows what enters at a server, from now on.
    ///
    /// # Errors
    /// `ssh` cannot be started, or the node does not say what it is.
    pub fn follow(&self, server: Server<'_>) -> Result<Follow> {
        let mut ssh = self.ssh(server, "peertree");
        ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = ssh.spawn().context("cannot start ssh")?;
        let (input, out) = (child.stdin.take(), child.stdout.take().context("no output")?);
        let (said, heard) = mpsc::channel();
        std::thread::spawn(move || {
            // Ends with ssh, or with whoever listens.
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if said.send(line).is_err() {
                    return;
                }
            }
        });
        let follow = Follow { child, input, heard };
        let head = follow.next()?;
        ensure!(head["follow"]["protocol"] == 1, "{} began with {head}", server.host());
        Ok(follow)
    }

    fn ssh(&self, server: Server<'_>, subsystem: &str) -> Command {
        let mut ssh: Command = server.lab().laptop("ssh");
        ssh.args(["-F", "none", "-T", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"]);
        ssh.args(["-o", "IdentityAgent=none", "-o", "LogLevel=ERROR"]);
        ssh.args(["-o", "StrictHostKeyChecking=accept-new", "-o"]);
        ssh.arg(format!("UserKnownHostsFile={}", self.known_hosts.display()));
        ssh.arg("-i").arg(&self.key_file);
        ssh.args(["-p", &PORT.to_string(), "-l", "anyone", "-s", &server.address(), subsystem]);
        ssh
    }

    /// Asks one request.
    ///
    /// # Errors
    /// No answer.
    pub fn ask(&self, server: Server<'_>, request: &Value) -> Result<Answer> {
        let said = self.send(server, format!("{request}\n").as_bytes())?;
        let line = said.lines().next();
        Answer::parse(line.with_context(|| format!("{} said nothing", server.host()))?)
    }

    /// Puts an envelope.
    ///
    /// # Errors
    /// No answer.
    pub fn put(&self, server: Server<'_>, envelope: &Envelope) -> Result<Answer> {
        self.ask(server, &json!({"put": "envelope", "envelope": envelope}))
    }

    /// Sends a request whose payload has `size` bytes, in a line without bounds.
    ///
    /// # Errors
    /// The node did not answer with an error.
    pub fn put_endless(&self, server: Server<'_>, size: usize) -> Result<Answer> {
        let request = json!({"put": "envelope", "envelope": oversized(size)?});
        let said = self.send(server, format!("{request}\n").as_bytes())?;
        ensure!(!said.is_empty(), "{} hung up without a word", server.host());
        Answer::parse(said.lines().next().unwrap_or_default())
    }
}

/// A stock `ssh` that follows what enters at a node. Dropped, it is ended.
#[derive(Debug)]
pub struct Follow {
    child: Child,
    /// Open until [`Follow::end`].
    input: Option<ChildStdin>,
    heard: mpsc::Receiver<String>,
}

impl Follow {
    /// The next line.
    ///
    /// # Errors
    /// None within [`SOON`], or one that is no JSON.
    pub fn next(&self) -> Result<Value> {
        let line = self.heard.recv_timeout(SOON).context("nothing more was heard")?;
        serde_json::from_str(&line).with_context(|| format!("{line:?} is no JSON"))
    }

    /// Ends the input, and returns how many lines came that nobody took.
    ///
    /// # Errors
    /// `ssh` does not end with code 0.
    pub fn end(mut self) -> Result<usize> {
        drop(self.input.take());
        let status = wait::until("ssh ends by itself", SOON, || Ok(self.child.try_wait()?))?;
        ensure!(status.success(), "ssh ended with {status}");
        Ok(self.heard.iter().count())
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

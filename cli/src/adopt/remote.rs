//! One host over the user's own ssh: a folder of its own there, copies into it, commands in it.
//!
//! The folder belongs to a small shell that waits for the end of its input. It removes the folder
//! when that end comes, whether this program finished, was killed, or the line was cut; so no copy
//! of an invitation outlives the connection.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use openssh::{
    Child, ControlPersist, Error as SshError, KnownHosts, Session, SessionBuilder, Stdio,
};
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader,
};

use super::consent::is_machine_name;
use super::log::{Change, Log};
use super::pushed::Pushed;
use super::target::Target;
use crate::failure::{Failure, OrFail as _};

/// How long ssh may take to reach a host and to log in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// The same with name resolution, jump hosts and slow authentication.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(60);

/// After three of these without an answer ssh takes the line for dead.
const ALIVE_EVERY: Duration = Duration::from_secs(5);

/// How long a copy may make no progress.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a short command may take: a hash over a bundle on a slow disk.
const SHORT_TIMEOUT: Duration = Duration::from_secs(120);

/// How long saying goodbye may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Seconds after which an ssh that we left behind ends by itself.
const IDLE_S: usize = 30;

/// Most bytes of one line that are read; the rest of the line is dropped. A signed payload fits.
const LINE_BYTES: usize = 72 * 1024;

/// Largest file that is fetched: a sealed copy of accounts and settings.
const FETCH_MAX: u64 = 64 * 1024 * 1024;

/// Most bytes that a short command may answer.
const ANSWER_MAX: u64 = 4096;

/// Most bytes of an agent's status.
const STATUS_MAX: u64 = 256 * 1024;

/// This command line as it lies on a member.
const AGENT_CLI: &str = "/opt/borgios/current/agent/files/bin/borgios";

/// Makes the folder, says who and where it is, and removes the folder when its input ends.
///
/// Only that end counts: whoever ends the login also sends signals, and a shell that is told to stop
/// twice does not finish what it began at the first. A host that never learns that the line is dead
/// ends it after two hours.
const KEEP_FOLDER: &str = r#"umask 077
trap '' HUP INT TERM PIPE
d=$(mktemp -d /tmp/borgios-adopt.XXXXXXXXXX) || exit 1
uname -n; id -u; printf '%s\n' "$d"
timeout -s KILL 7200 cat >/dev/null
rm -rf -- "$d""#;

/// Writes standard input to a file in the folder and says its digest.
const TAKE_FILE: &str =
    r#"umask 077; cat >"$0/$1.part" && mv -f -- "$0/$1.part" "$0/$1" && sha256sum <"$0/$1""#;

/// Runs bootstrap.sh in the folder; the last line is its exit code, whatever ssh makes of it.
const RUN: &str =
    r#"e=$1; shift; cd "$0" && sh ./bootstrap.sh "$@" </dev/null 2>&1; printf '\n%s %s\n' "$e" $?"#;

/// A host that is logged in to.
pub(crate) struct Remote {
    session: Arc<Session>,
    keeper: Child<Arc<Session>>,
    /// The folder there.
    folder: Folder,
    /// What the machine calls itself.
    pub(crate) name: String,
}

/// A folder that [`Remote`] made on a host.
#[derive(Clone, Debug)]
pub(crate) struct Folder(String);

/// Why a host was not reached.
#[derive(Debug)]
pub(crate) enum Unreached {
    /// ssh reached it, and it let nobody in, or has another host key than before: so does a host
    /// whose root was handed over.
    Shut(Failure),
    /// Anything else.
    Other(Failure),
}

impl Unreached {
    /// What to tell.
    pub(crate) fn failure(self) -> Failure {
        match self {
            Self::Shut(failure) | Self::Other(failure) => failure,
        }
    }
}

/// How to log in.
#[derive(Clone, Copy)]
pub(crate) struct Way<'a> {
    /// The user's alternative ssh settings.
    pub(crate) config: Option<&'a Path>,
    /// Whether a key that is not on record may be taken.
    pub(crate) accept_new: bool,
    /// Where ssh keeps its control sockets meanwhile.
    pub(crate) sockets: &'a Path,
}

impl Remote {
    /// Logs in and makes the folder.
    pub(crate) async fn connect(target: &Target, way: Way<'_>) -> Result<Self, Unreached> {
        let mut builder = SessionBuilder::default();
        builder
            .known_hosts_check(if way.accept_new { KnownHosts::Add } else { KnownHosts::Strict })
            .connect_timeout(CONNECT_TIMEOUT)
            .server_alive_interval(ALIVE_EVERY)
            .control_directory(way.sockets);
        if let Some(idle) = std::num::NonZeroUsize::new(IDLE_S) {
            builder.control_persist(ControlPersist::IdleFor(idle));
        }
        if let Some(config) = way.config {
            builder.config_file(config);
        }
        if let Some(user) = target.user() {
            builder.user(user.to_owned());
        }
        if let Some(port) = target.port() {
            builder.port(port);
        }
        let session = tokio::time::timeout(LOGIN_TIMEOUT, builder.connect(target.host()))
            .await
            .map_err(|_| {
                Unreached::Other(
                    Failure::new("no login").because(format!("{LOGIN_TIMEOUT:?} passed")),
                )
            })?
            .map_err(|error| why_no_login(&error))?;
        let session = Arc::new(session);
        Self::with_folder(session).await.map_err(Unreached::Other)
    }

    async fn with_folder(session: Arc<Session>) -> Result<Self, Failure> {
        let what = || "it runs no shell for us";
        let mut keeper = Session::to_command(Arc::clone(&session), "sh");
        keeper.arg("-c").arg(KEEP_FOLDER);
        keeper.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut keeper = keeper.spawn().await.or_fail(what)?;
        let mut said = BufReader::new(keeper.stdout().take().ok_or_else(|| Failure::new(what()))?);
        let mut lines = [const { String::new() }; 3];
        for line in &mut lines {
            let read = tokio::time::timeout(SHORT_TIMEOUT, bounded_line(&mut said)).await;
            *line = read.or_fail(what)?.or_fail(what)?.ok_or_else(|| {
                Failure::new("it could not make a folder in /tmp").because("is its disk full?")
            })?;
        }
        let [name, uid, folder] = lines;
        if uid != "0" {
            return Err(Failure::new(format!("the login is not root (uid {uid})"))
                .hint("log in as root: `borgios adopt root@HOST`"));
        }
        if !is_machine_name(&name) {
            return Err(Failure::new(format!("it calls itself {name:?}"))
                .because("bootstrap.sh takes 1 to 63 of A-Z a-z 0-9 . _ -")
                .hint("set a name there with hostnamectl"));
        }
        let tail = folder.strip_prefix("/tmp/borgios-adopt.").unwrap_or_default();
        if tail.len() != 10 || !tail.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(Failure::new(format!("it made the folder {folder:?}, which is not ours")));
        }
        Ok(Self { session, keeper, folder: Folder(folder), name })
    }

    /// Copies one file into the folder; done only when the host hashes it to the same digest.
    pub(crate) async fn push(&self, file: &Pushed) -> Result<(), Failure> {
        let what = || format!("could not copy {} there", file.name);
        let mut command = self.session.command("sh");
        command.args(["-c", TAKE_FILE, &self.folder.0, file.name]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().await.or_fail(what)?;
        let mut to = child.stdin().take().ok_or_else(|| Failure::new(what()))?;
        let mut bytes = file.open().await.or_fail(what)?;
        let mut piece = vec![0; 64 * 1024];
        let sent = loop {
            let length = bytes.read(&mut piece).await.or_fail(what)?;
            if length == 0 {
                break Ok(());
            }
            match tokio::time::timeout(STALL_TIMEOUT, to.write_all(&piece[..length])).await {
                Ok(Ok(())) => {}
                // It stopped listening; what it says at the end tells more.
                Ok(Err(error)) => break Err(error.to_string()),
                Err(_) => break Err(format!("no progress for {STALL_TIMEOUT:?}")),
            }
        };
        drop(to);
        let mut said = String::new();
        if let Some(from) = child.stdout().take() {
            let read = async { from.take(ANSWER_MAX).read_to_string(&mut said).await };
            // An answer that is late, cut or no text is no digest.
            let _ = tokio::time::timeout(SHORT_TIMEOUT, read).await;
        }
        if said.split_whitespace().next() == Some(file.digest.hex().as_str()) {
            return Ok(());
        }
        let why = sent.err().unwrap_or_else(|| "the copy differs or was not written".to_owned());
        Err(Failure::new(what()).because(why).because("is its disk full?"))
    }

    /// Reads a file of the host.
    pub(crate) async fn fetch(&self, path: &str) -> Result<Vec<u8>, Failure> {
        let what = || format!("could not fetch {path}");
        let mut command = self.session.command("cat");
        command.args(["--", path]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().await.or_fail(what)?;
        let from = child.stdout().take().ok_or_else(|| Failure::new(what()))?;
        let (mut bytes, mut from) = (Vec::new(), from.take(FETCH_MAX + 1));
        let read = tokio::time::timeout(SHORT_TIMEOUT, from.read_to_end(&mut bytes)).await;
        read.or_fail(what)?.or_fail(what)?;
        // Only a program that ended well has shown all of it.
        let ended = tokio::time::timeout(SHORT_TIMEOUT, child.wait()).await.or_fail(what)?;
        if !ended.or_fail(what)?.success() || bytes.is_empty() || bytes.len() as u64 > FETCH_MAX {
            return Err(Failure::new(what()).because("it is missing, cut short or too long"));
        }
        Ok(bytes)
    }

    /// Runs `bootstrap.sh ARGS` in the folder, hands every line to `log` and every change to `tell`.
    /// Returns why the log broke off, if it did.
    pub(crate) async fn bootstrap(
        &self,
        args: &[String],
        end: &str,
        limit: Duration,
        log: &mut Log,
        mut tell: impl FnMut(&str),
    ) -> Option<String> {
        let mut command = self.session.command("sh");
        command.args(["-c", RUN, &self.folder.0, end]).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = match command.spawn().await {
            Ok(child) => child,
            Err(error) => return Some(Failure::new("ssh").cause(error).summary()),
        };
        let Some(from) = child.stdout().take() else { return Some("ssh shows no output".into()) };
        let mut from = BufReader::new(from);
        let reading = async {
            loop {
                match bounded_line(&mut from).await {
                    Ok(Some(line)) => match log.take(&line) {
                        Change::Stage(stage) => tell(stage),
                        Change::Ended => return None,
                        Change::Nothing => {}
                    },
                    Ok(None) => return Some("the connection was cut".to_owned()),
                    Err(error) => return Some(format!("the connection broke: {error}")),
                }
            }
        };
        tokio::time::timeout(limit, reading)
            .await
            .unwrap_or_else(|_| Some(format!("no end within {} s", limit.as_secs())))
    }

    /// The folder, to be removed over another connection if this one dies.
    pub(crate) fn folder(&self) -> Folder {
        self.folder.clone()
    }

    /// Removes the folder of an earlier connection, whose end the host may not have noticed.
    pub(crate) async fn remove(&self, folder: &Folder) -> Result<(), Failure> {
        let mut command = self.session.command("rm");
        command.args(["-rf", "--", &folder.0]);
        let removed = tokio::time::timeout(SHORT_TIMEOUT, command.status()).await;
        let what = || format!("could not remove {} there", folder.0);
        match removed.or_fail(what)?.or_fail(what)? {
            status if status.success() => Ok(()),
            _ => Err(Failure::new(what())),
        }
    }

    /// What the agent on the host says of itself, if one runs there.
    pub(crate) async fn status(&self) -> Option<serde_json::Value> {
        let mut command = self.session.command(AGENT_CLI);
        command.args(["status", "--json"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().await.ok()?;
        let mut said = Vec::new();
        let mut from = child.stdout().take()?.take(STATUS_MAX);
        let read = from.read_to_end(&mut said);
        tokio::time::timeout(SHORT_TIMEOUT, read).await.ok()?.ok()?;
        serde_json::from_slice(&said).ok()
    }

    /// Removes the folder and closes the connection.
    pub(crate) async fn close(self) {
        let Self { session, mut keeper, .. } = self;
        let goodbye = async {
            // The end of its input is what makes it remove the folder.
            drop(keeper.stdin().take());
            let _ = keeper.wait().await;
            if let Ok(session) = Arc::try_unwrap(session) {
                let _ = session.close().await;
            }
        };
        // Where the line is dead already, the host's own side ends the same way.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, goodbye).await;
    }
}

/// The next line without its newline, at most [`LINE_BYTES`] of it; `None` at the end.
async fn bounded_line<R: AsyncBufRead + Unpin>(from: &mut R) -> io::Result<Option<String>> {
    let (mut line, mut any) = (Vec::new(), false);
    loop {
        let piece = from.fill_buf().await?;
        if piece.is_empty() {
            return Ok(any.then(|| String::from_utf8_lossy(&line).into_owned()));
        }
        any = true;
        let end = piece.iter().position(|byte| *byte == b'\n');
        let length = end.unwrap_or(piece.len());
        line.extend_from_slice(&piece[..length.min(LINE_BYTES.saturating_sub(line.len()))]);
        let used = end.map_or(length, |end| end + 1);
        from.consume(used);
        if end.is_some() {
            return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
        }
    }
}

/// ssh's words about a login that failed, and what to do.
fn why_no_login(error: &SshError) -> Unreached {
    let said = match error {
        SshError::Connect(cause) | SshError::Master(cause) | SshError::Ssh(cause) => {
            cause.to_string()
        }
        other => other.to_string(),
    };
    let lines: Vec<&str> = said
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('@'))
        .collect();
    let short = |failure: Failure| {
        lines.iter().take(4).fold(failure, |failure, line| {
            failure.because(line.chars().take(200).collect::<String>())
        })
    };
    if said.contains("Permission denied (") {
        let refused = short(Failure::new("it refuses the login")).hint(
            "adopt logs in with keys, never with passwords: `ssh-copy-id root@HOST` puts your key \
             there, `ssh-add` gives it to your agent",
        );
        return Unreached::Shut(refused);
    }
    if said.contains("REMOTE HOST IDENTIFICATION HAS CHANGED") {
        let changed = Failure::new("its host key is not the one in your known_hosts")
            .because("it was handed over or reinstalled, or something stands between you and it")
            .hint("compare its key on its console; `ssh-keygen -R HOST` forgets the old one");
        return Unreached::Shut(changed);
    }
    Unreached::Other(if said.contains("Host key verification failed") {
        Failure::new("its host key is not in your known_hosts").hint(
            "log in once with ssh and compare the fingerprint, or let `--accept-new` take the key \
             and show it before anything is handed over",
        )
    } else if lines.is_empty() {
        Failure::new("no login").because("ssh did not say why")
    } else {
        short(Failure::new("no login"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Unreached {
        why_no_login(&SshError::Connect(io::Error::other(text)))
    }

    #[test]
    fn each_kind_of_refused_login_says_what_to_do() {
        let Unreached::Shut(failure) = of("root@h: Permission denied (publickey,password).") else {
            panic!()
        };
        assert!(failure.to_text().contains("ssh-copy-id"), "{}", failure.to_text());
        let strange = of("No ED25519 host key is known for h and you have requested strict \
                          checking.\r\nHost key verification failed.");
        assert!(strange.failure().to_text().contains("--accept-new"));
        let changed =
            of("@@@@@\r\n@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\r\n@@@\r\n\
                          Host key verification failed.");
        let text = changed.failure().to_text();
        assert!(text.contains("ssh-keygen -R") && !text.contains("--accept-new"), "{text}");
        let down = of("connect to host h port 22: Connection refused").failure().summary();
        assert!(down.contains("Connection refused"), "{down}");
    }

    #[tokio::test]
    async fn lines_are_bounded_and_none_is_lost() {
        let long = "x".repeat(3 * LINE_BYTES);
        let text = format!("one\n\n{long}\nlast");
        let mut from = BufReader::with_capacity(100, text.as_bytes());
        let mut lengths = Vec::new();
        while let Some(line) = bounded_line(&mut from).await.unwrap() {
            lengths.push(line.len());
        }
        assert_eq!(lengths, [3, 0, LINE_BYTES, 4]);
    }
}

//! Ways in that a person would try: stock `ssh` from the laptop with a key, a certificate or a
//! password, and `su` on a server's console.
//!
//! A refusal is only what the server itself refused: a server that cannot be reached, or a client
//! that gives up by itself, is an error, so that no broken cable passes for a shut door.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use borgios_types::SecretKey;

use crate::command::{self, COMMAND_BOUND, Output};
use crate::lab::Lab;
use crate::network::text;
use crate::server::Server;
use crate::wait::{self, SOON};

/// Longest a login may take; PAM lets a failed `su` wait for some seconds.
const LOGIN_BOUND: Duration = SOON;
/// Longest a door may take to follow what the keeper knows: it looks every second.
const DOOR_BOUND: Duration = SOON;
/// How long a login stays that nobody ends, in seconds.
const STAY_S: u64 = 300;
/// Port of a server's own sshd.
pub const SSHD: u16 = 22;
/// Keys that one connection of `ssh` offers: sshd hangs up after six failures.
pub const KEYS_AT_ONCE: usize = 5;

/// How an attempt to become root ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// As root: `id -u` said 0.
    Root,
    /// The server said no; what the client printed.
    Refused(String),
}

impl Login {
    /// Whether it ended as root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        *self == Self::Root
    }

    /// Demands that it ended as root.
    ///
    /// # Errors
    /// It was refused.
    pub fn must(self, what: &str) -> Result<()> {
        match self {
            Self::Root => Ok(()),
            Self::Refused(said) => bail!("{what}: refused: {said}"),
        }
    }

    /// Demands that it was refused.
    ///
    /// # Errors
    /// It ended as root.
    pub fn must_not(self, what: &str) -> Result<()> {
        ensure!(self != Self::Root, "{what}: it opened root");
        Ok(())
    }
}

/// A person's SSH key on the laptop.
#[derive(Clone, Debug)]
pub struct Key {
    file: PathBuf,
}

impl Key {
    /// Makes one with `ssh-keygen`.
    ///
    /// # Errors
    /// Whatever `ssh-keygen` says.
    pub fn generate(file: &Path) -> Result<Self> {
        for old in [file.to_owned(), file.with_extension("pub")] {
            drop(std::fs::remove_file(old));
        }
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "laptop", "-f"]).arg(file);
        command::run(keygen, b"", COMMAND_BOUND)?.ok()?;
        Ok(Self { file: file.to_owned() })
    }

    /// Lays a key down that is known already.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn of(key: &SecretKey, file: &Path) -> Result<Self> {
        Self::armoured(key.to_openssh("found").as_bytes(), file)
    }

    /// Lays down the text of a private key.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn armoured(armour: &[u8], file: &Path) -> Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(file, armour)?;
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { file: file.to_owned() })
    }

    /// The private key's file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The public key's file, as `ssh-keygen` names it.
    #[must_use]
    pub fn public_file(&self) -> PathBuf {
        PathBuf::from(format!("{}.pub", self.file.display()))
    }

    /// Signs a certificate for `subject` with this key, as a person who plays the board would;
    /// returns its file.
    ///
    /// # Errors
    /// Whatever `ssh-keygen` says.
    pub fn certify(&self, subject: &Self, principal: &str, serial: u64) -> Result<PathBuf> {
        // ssh-keygen names the certificate after the key: a copy of the public key, of another name.
        let name = format!("{}-forged.pub", subject.file.display());
        std::fs::copy(subject.public_file(), &name)?;
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-I", "borgios access", "-V", "-1m:+1h", "-n", principal]);
        keygen.args(["-z", &serial.to_string(), "-s"]).arg(&self.file).arg(&name);
        command::run(keygen, b"", COMMAND_BOUND)?.ok()?;
        Ok(PathBuf::from(format!("{}-forged-cert.pub", subject.file.display())))
    }
}

impl Server<'_> {
    /// Tries to log in as root with a key, and the certificate for it, if there is one.
    ///
    /// # Errors
    /// The server said neither yes nor no.
    pub fn login(self, key: &Key, certificate: Option<&Path>) -> Result<Login> {
        self.login_at(SSHD, &[key], certificate)
    }

    /// Waits until a door opens: a keeper looks at its doors every second.
    ///
    /// # Errors
    /// It is still shut after `DOOR_BOUND`.
    pub fn wait_login(self, key: &Key, certificate: &Path, what: &str) -> Result<()> {
        wait::until_true(what, DOOR_BOUND, || {
            self.login(key, Some(certificate))?.must(what).map(|()| true)
        })
    }

    /// Waits until a door is shut.
    ///
    /// # Errors
    /// It is still open after `DOOR_BOUND`.
    pub fn wait_no_login(self, key: &Key, certificate: &Path, what: &str) -> Result<()> {
        wait::until_true(what, DOOR_BOUND, || {
            self.login(key, Some(certificate))?.must_not(what).map(|()| true)
        })
    }

    /// A login that stays, until it is ended.
    ///
    /// # Errors
    /// `ssh` cannot be started.
    pub fn stay(self, key: &Key, certificate: &Path) -> Result<Session> {
        let mut ssh = stock_ssh(self.lab(), SSHD);
        ssh.args(["-o", "BatchMode=yes", "-i"]).arg(key.file());
        ssh.arg("-o").arg(format!("CertificateFile={}", text(certificate)?));
        ssh.arg(format!("root@{}", self.address())).arg(format!("echo in; exec sleep {STAY_S}"));
        ssh.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = ssh.spawn().context("cannot start ssh")?;
        let out = child.stdout.take().context("ssh without output")?;
        let session = Session(child);
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        ensure!(line == "in\n", "{}: no session: {line:?}", self.host());
        Ok(session)
    }

    /// As [`Server::login`], at any port and with up to [`KEYS_AT_ONCE`] keys in one connection.
    ///
    /// # Errors
    /// As [`Server::login`].
    pub fn login_at(self, port: u16, keys: &[&Key], certificate: Option<&Path>) -> Result<Login> {
        let attempt = || {
            let mut ssh = stock_ssh(self.lab(), port);
            ssh.args(["-o", "BatchMode=yes", "-o", "PreferredAuthentications=publickey"]);
            for key in keys {
                ssh.arg("-i").arg(key.file());
            }
            if let Some(certificate) = certificate {
                ssh.arg("-o").arg(format!("CertificateFile={}", text(certificate)?));
            }
            ssh.arg(format!("root@{}", self.address())).arg("id -u");
            command::run(ssh, b"", LOGIN_BOUND)
        };
        let output = attempt()?;
        // A login that is under way while its door is shut ends without a word: the next one is told.
        let cut = output.code != 0 && output.all().trim().is_empty();
        self.judge(if cut { attempt()? } else { output })
    }

    /// Tries to log in as root over SSH with a password.
    ///
    /// # Errors
    /// As [`Server::login`].
    pub fn login_with_password(self, password: &str) -> Result<Login> {
        let mut sshpass = self.lab().laptop("sshpass");
        sshpass.env("SSHPASS", password).args(["-e", "ssh"]).args(stock_options(SSHD));
        sshpass.args(["-o", "PubkeyAuthentication=no", "-o", "NumberOfPasswordPrompts=1"]);
        sshpass.arg(format!("root@{}", self.address())).arg("id -u");
        self.judge(command::run(sshpass, b"", LOGIN_BOUND)?)
    }

    /// What the client's end means. Whoever gets a shell that is not root's got in all the same.
    fn judge(self, output: Output) -> Result<Login> {
        let said = output.all();
        if output.code == 0 {
            return Ok(Login::Root);
        }
        // sshd's words, and what our own port says to one who asks for a shell.
        let refusals = ["Permission denied", "Too many authentication failures"];
        let no_shell = ["exec request failed", "shell request failed", "subsystem request failed"];
        let told = refusals.iter().chain(&no_shell).any(|words| said.contains(words));
        ensure!(told, "{}: neither in nor refused ({}): {said}", self.host(), output.code);
        Ok(Login::Refused(said.trim().to_owned()))
    }

    /// Tries `su` on the console, as a user without rights at a terminal of their own.
    ///
    /// # Errors
    /// The server is off, or has no `su`.
    pub fn su(self, password: &str) -> Result<Login> {
        // The password is typed once the prompt stands there; what comes earlier is thrown away.
        let script = r#"
            d=$(mktemp -d) && chmod 755 "$d" && mkfifo "$d/in" && : >"$d/out" && chown nobody "$d/out" "$d/in"
            read -r password
            runuser -u nobody -- script -qefc "su -c 'echo uid=\$(id -u)'" "$d/out" <"$d/in" >/dev/null 2>&1 &
            exec 3>"$d/in"; i=0
            until grep -qi password "$d/out"; do i=$((i + 1)); [ $i -lt 1200 ] || break; sleep 0.05; done
            printf '%s\n' "$password" >&3
            wait $!; exec 3>&-; cat "$d/out"; rm -rf "$d"
        "#;
        let output = self.feed(script, format!("{password}\n").as_bytes(), LOGIN_BOUND)?.ok()?;
        if output.stdout.contains("uid=0") {
            return Ok(Login::Root);
        }
        let refused = output.stdout.contains("Authentication failure");
        ensure!(refused, "{}: su said neither yes nor no: {}", self.host(), output.all());
        Ok(Login::Refused(output.stdout))
    }

    /// Which of the passwords root's field in this server's `/etc/shadow` takes: what `su` computes,
    /// without its pause after every failure.
    ///
    /// # Errors
    /// The server is off.
    pub fn passwords_that_fit(
        self,
        verifiers: &[&str],
        passwords: &[String],
    ) -> Result<Vec<String>> {
        let script = r#"exec perl -e '
            my @verifiers = split / /, <STDIN>; chomp @verifiers;
            while (my $word = <STDIN>) { chomp $word;
                for my $v (@verifiers) { my $c = crypt($word, $v); print "$word\n" if defined $c && $c eq $v } }'"#;
        let mut input = verifiers.join(" ");
        for password in passwords {
            input.push('\n');
            input.push_str(password);
        }
        input.push('\n');
        let output = self.feed(script, input.as_bytes(), COMMAND_BOUND)?.ok()?;
        Ok(output.stdout.lines().map(str::to_owned).collect())
    }
}

/// A login that stays. Dropped, it ends.
#[derive(Debug)]
pub struct Session(Child);

impl Session {
    /// Waits until the server ends it.
    ///
    /// # Errors
    /// It lives on after `DOOR_BOUND`.
    pub fn wait_end(mut self) -> Result<()> {
        wait::until_true("the login is ended", DOOR_BOUND, || Ok(self.0.try_wait()?.is_some()))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn stock_ssh(lab: &Lab, port: u16) -> Command {
    let mut ssh = lab.laptop("ssh");
    ssh.args(stock_options(port));
    ssh
}

/// Nothing of this computer's own settings, keys or agent; whose host key it is, is not the question
/// here.
fn stock_options(port: u16) -> Vec<String> {
    let options = [
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "LogLevel=ERROR",
        "ConnectTimeout=60",
    ];
    let mut words =
        vec!["-F".to_owned(), "none".into(), "-T".into(), "-p".into(), port.to_string()];
    words.extend(options.iter().flat_map(|option| ["-o".to_owned(), (*option).to_owned()]));
    words
}

/// The text of a file on the laptop.
///
/// # Errors
/// It cannot be read.
pub fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

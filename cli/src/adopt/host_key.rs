//! How the user's ssh settings reach a host, and which keys of it their known_hosts holds.
//!
//! ssh itself decides whether a key is accepted; this only looks, so that a person sees what ssh
//! went by. `ssh -G` says where it would go, `ssh-keygen -F` what is on record for that name.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::target::Target;
use crate::failure::{Failure, OrFail as _};

/// How long a look into the settings may take: a file or two, or `Match exec` in ssh_config.
const LOOK_TIMEOUT: Duration = Duration::from_secs(20);

/// Most known keys of one host that are shown.
pub(crate) const KEYS_MAX: usize = 8;

/// Where ssh goes when it is told a [`Target`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The name or address that is dialled.
    pub(crate) hostname: String,
    /// The account.
    pub(crate) user: String,
    /// Under which name known_hosts holds it.
    known_as: String,
    /// The known_hosts files.
    files: Vec<PathBuf>,
}

impl Settings {
    /// Asks the user's ssh.
    pub(crate) async fn of(target: &Target, config: Option<&Path>) -> Result<Self, Failure> {
        let mut ssh = Command::new("ssh");
        ssh.arg("-G");
        if let Some(config) = config {
            ssh.arg("-F").arg(config);
        }
        if let Some(port) = target.port() {
            ssh.args(["-p", &port.to_string()]);
        }
        if let Some(user) = target.user() {
            ssh.args(["-l", user]);
        }
        ssh.arg("--").arg(target.host());
        let output = look(ssh, "ssh").await?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Failure::new("ssh does not take its settings").because(said));
        }
        Ok(Self::read(&String::from_utf8_lossy(&output.stdout)))
    }

    pub(crate) fn read(text: &str) -> Self {
        let value = |name: &str| {
            let find = |line: &str| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned);
            text.lines().find_map(find).filter(|value| value != "none")
        };
        let hostname = value("hostname").unwrap_or_default();
        let port = value("port").unwrap_or_else(|| "22".to_owned());
        let plain = match port.as_str() {
            "22" => hostname.clone(),
            port => format!("[{hostname}]:{port}"),
        };
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let expand = |name: &str| match (name.strip_prefix("~/"), &home) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => PathBuf::from(name),
        };
        let both = [value("userknownhostsfile"), value("globalknownhostsfile")];
        let files = both.iter().flatten().flat_map(|files| files.split(' ')).map(expand).collect();
        let user = value("user").unwrap_or_default();
        Self { known_as: value("hostkeyalias").unwrap_or(plain), hostname, user, files }
    }

    /// The fingerprints on record for it: `ED25519 SHA256:…`.
    pub(crate) async fn known(&self) -> Result<Vec<String>, Failure> {
        let mut keys = Vec::new();
        for file in self.files.iter().filter(|file| file.is_file()) {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-l", "-F", &self.known_as, "-f"]).arg(file);
            let output = look(keygen, "ssh-keygen").await?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            keys.extend(plain(&text));
        }
        keys.sort();
        keys.dedup();
        Ok(keys)
    }
}

/// The keys of an answer of `ssh-keygen -l -F` that stand for the host itself. Those of an authority, and
/// those revoked, stand there as well; only the line before each says so. ssh compares a host's key
/// with neither.
fn plain(text: &str) -> Vec<String> {
    let (mut keys, mut is_marked) = (Vec::new(), false);
    for line in text.lines() {
        if line.starts_with('#') {
            is_marked = line.ends_with(" CA") || line.ends_with(" REVOKED");
        } else if !is_marked {
            keys.extend(fingerprint(line));
        }
    }
    keys
}

/// `10.84.1.1 ED25519 SHA256:…` without the name, which may be hashed.
pub(crate) fn fingerprint(line: &str) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    let at = words.iter().position(|word| word.starts_with("SHA256:"))?;
    Some(format!("{} {}", words.get(at.checked_sub(1)?)?, words[at]))
}

async fn look(mut command: Command, name: &str) -> Result<std::process::Output, Failure> {
    let run = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let what = || format!("could not run {name}: OpenSSH's client is needed");
    tokio::time::timeout(LOOK_TIMEOUT, run)
        .await
        .map_err(|_| Failure::new(format!("{name} did not answer in {LOOK_TIMEOUT:?}")))?
        .or_fail(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ssh_says_of_its_settings_is_read() {
        let text = "user root\nhostname 10.0.0.1\nport 2222\nhashknownhosts yes\n\
                    globalknownhostsfile /etc/ssh/a /etc/ssh/b\nuserknownhostsfile /root/kh\n";
        let settings = Settings::read(text);
        assert_eq!(settings.known_as, "[10.0.0.1]:2222");
        assert_eq!(settings.hostname, "10.0.0.1");
        let files = ["/root/kh", "/etc/ssh/a", "/etc/ssh/b"].map(PathBuf::from);
        assert_eq!(settings.files, files);
        let alias = Settings::read("hostname h\nport 22\nhostkeyalias web\n");
        assert_eq!(alias.known_as, "web");
        assert_eq!(Settings::read("hostname h\nport 22\n").known_as, "h");
    }

    /// Asked of the real one: the words of its marker lines are its own.
    #[tokio::test]
    async fn the_key_of_an_authority_is_no_key_of_the_host() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("known_hosts");
        let [authority, revoked, own] =
            [1, 2, 3].map(|seed| borgios_types::SecretKey::from_seed([seed; 32]).public());
        let marked = format!("@cert-authority *.corp {authority}\n@revoked * {revoked}\n");
        let settings = Settings {
            hostname: "web.corp".to_owned(),
            user: "root".to_owned(),
            known_as: "web.corp".to_owned(),
            files: vec![file.clone()],
        };
        std::fs::write(&file, &marked).unwrap();
        assert_eq!(settings.known().await.unwrap(), Vec::<String>::new());
        std::fs::write(&file, format!("{marked}web.corp {own}\n")).unwrap();
        assert_eq!(settings.known().await.unwrap(), [format!("ED25519 {}", own.fingerprint())]);
    }

    #[test]
    fn marked_lines_are_left_out() {
        let text = "# Host h found: line 1 CA\nh ED25519 SHA256:a\n# Host h found: line 2 \n\
                    h ED25519 SHA256:b\n# Host h found: line 3 REVOKED\nh ED25519 SHA256:c\n";
        assert_eq!(plain(text), ["ED25519 SHA256:b"]);
    }

    #[test]
    fn fingerprints_stand_without_the_hosts_name() {
        let line = "|1|abc=|def= ED25519 SHA256:b5Nxy";
        assert_eq!(fingerprint(line).unwrap(), "ED25519 SHA256:b5Nxy");
        assert_eq!(fingerprint("# Host 10.0.0.1 found: line 1"), None);
        assert_eq!(fingerprint("SHA256:x"), None);
    }
}

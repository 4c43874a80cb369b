//! What sshd goes by: its effective configuration as it is, and the one file of ours that shall be.

use std::path::Path;

use super::host_key;
use super::machine::{Machine, MachineError};
use crate::keeper::doors;

/// sshd's program; without it a server has no SSH to take over.
pub(super) const PROGRAM: &str = "/usr/sbin/sshd";
/// Its one configuration file.
pub(super) const FILE: &str = "/etc/ssh/sshd_config";
/// Where sshd shuts itself in before anybody is known; it does not even show its settings without.
const SEPARATION: &str = "/run/sshd";

/// What every line of [`FILE`] but the server's own addresses says, and what sshd must say of
/// itself afterwards (`sshd -T`, lower case).
const RULES: [(&str, &str); 23] = [
    ("AllowUsers", "root"),
    ("PermitRootLogin", "prohibit-password"),
    ("AuthenticationMethods", "publickey"),
    ("PubkeyAuthentication", "yes"),
    ("PasswordAuthentication", "no"),
    ("KbdInteractiveAuthentication", "no"),
    ("HostbasedAuthentication", "no"),
    ("PermitEmptyPasswords", "no"),
    ("AuthorizedKeysFile", "none"),
    ("AuthorizedKeysCommand", "none"),
    ("AuthorizedPrincipalsCommand", "none"),
    ("TrustedUserCAKeys", "DOORS/board.pub"),
    ("AuthorizedPrincipalsFile", "DOORS/principals/%u"),
    ("RevokedKeys", "DOORS/revoked"),
    ("CASignatureAlgorithms", "ssh-ed25519"),
    ("StrictModes", "yes"),
    ("PermitUserEnvironment", "no"),
    ("PermitUserRC", "no"),
    ("DisableForwarding", "yes"),
    ("X11Forwarding", "no"),
    ("MaxAuthTries", "6"),
    // The key id of the certificate, with the statement's number in it, stands in the journal.
    ("LogLevel", "VERBOSE"),
    ("Subsystem", "sftp internal-sftp"),
];

/// Where a configuration of ours finds its files: the real one, or the trial's.
#[derive(Clone, Debug)]
pub(super) struct Places<'a> {
    /// The folder with board.pub, principals and revoked.
    pub(super) doors: &'a str,
    /// The host key.
    pub(super) host_key: &'a str,
}

/// The places of the configuration that stays.
pub(super) const FINAL: Places<'_> = Places { doors: doors::FOLDER, host_key: host_key::OURS };

/// sshd's settings as it sees them itself (`sshd -T`): keys in lower case, a value for each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Effective(Vec<(String, String)>);

impl Effective {
    /// Asks sshd, as it would treat `user` coming from this very machine. `None` without an sshd.
    pub(super) fn ask(
        machine: &Machine,
        user: &str,
        options: &[String],
    ) -> Result<Option<Self>, MachineError> {
        if !machine.at(PROGRAM).is_file() {
            return Ok(None);
        }
        separate(machine)?;
        let who = format!("user={user},host=localhost,addr=127.0.0.1");
        let mut words = vec![PROGRAM, "-T", "-C", &who];
        words.extend(options.iter().map(String::as_str));
        let said = Self::parse(&machine.run(&words)?);
        // It says its ports first, and of long output only the end is kept.
        if said.get("port").is_empty() {
            let why = "makes sshd say more of its settings than is read; shorten its lists".into();
            return Err(MachineError::Odd { path: FILE.into(), why });
        }
        Ok(Some(said))
    }

    fn parse(text: &str) -> Self {
        let line = |line: &str| {
            let (key, value) = line.trim().split_once(' ')?;
            Some((key.to_ascii_lowercase(), value.to_owned()))
        };
        Self(text.lines().filter_map(line).collect())
    }

    /// The value of a key; empty if sshd does not say.
    pub(super) fn get(&self, key: &str) -> &str {
        let found = self.0.iter().find(|(found, _)| found == key);
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    /// Every value of a key that may stand there more than once.
    pub(super) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(found, _)| found == key).map(|(_, value)| value.as_str())
    }

    /// Whether a key has another value than `none` or nothing.
    pub(super) fn names(&self, key: &str) -> Option<&str> {
        Some(self.get(key)).filter(|value| !["", "none"].contains(value))
    }

    /// What differs from the rules above, in words; nothing once the configuration is ours.
    pub(super) fn against_the_rules(&self, places: &Places<'_>) -> Vec<String> {
        let mut wrong = Vec::new();
        for (key, value) in RULES {
            let found = self.get(&key.to_ascii_lowercase());
            let value = value.replace("DOORS", places.doors);
            // Newer versions of sshd use a new name for a value; both mean the same.
            let same = found.eq_ignore_ascii_case(&value)
                || (found == "without-password" && value == "prohibit-password");
            if !same {
                wrong.push(format!("{key} is {found:?} instead of {value}"));
            }
        }
        if self.all("hostkey").ne([places.host_key]) {
            wrong.push(format!("HostKey is not {} alone", places.host_key));
        }
        wrong
    }

    /// The whole configuration of ours for a server that listens where this one does.
    ///
    /// Made from what it says, it says the same again: a second take-over changes nothing.
    pub(super) fn ours(&self, places: &Places<'_>) -> String {
        let mut lines = Vec::new();
        for (key, name) in [("port", "Port"), ("listenaddress", "ListenAddress")] {
            let mut values: Vec<_> = self.all(key).collect();
            // sshd shows its addresses in the reverse order of the file.
            values.sort_unstable();
            values.dedup();
            lines.extend(values.into_iter().map(|value| format!("{name} {value}")));
        }
        for (key, name) in [("addressfamily", "AddressFamily"), ("usepam", "UsePAM")] {
            // Without PAM support in sshd there is no such word.
            lines.extend(self.names(key).map(|value| format!("{name} {value}")));
        }
        written(&lines, places)
    }

    /// As [`Effective::ours`], on one port of this machine alone.
    pub(super) fn trial(&self, places: &Places<'_>, port: u16, pam: bool) -> String {
        let mut lines = vec![format!("ListenAddress 127.0.0.1:{port}"), "PidFile none".to_owned()];
        if let Some(value) = self.names("usepam") {
            lines.push(format!("UsePAM {}", if pam { value } else { "no" }));
        }
        written(&lines, places)
    }
}

fn written(own: &[String], places: &Places<'_>) -> String {
    let mut text = String::from(
        "# Written by borgios-keeper: root of this server belongs to its network.\n\
         # Whole: no Include, no Match, keys in files for nobody, passwords for nobody.\n",
    );
    for line in own {
        text.push_str(&format!("{line}\n"));
    }
    text.push_str(&format!("HostKey {}\n", places.host_key));
    for (key, value) in RULES {
        text.push_str(&format!("{key} {}\n", value.replace("DOORS", places.doors)));
    }
    text
}

/// Asks sshd whether a configuration file would do.
pub(super) fn check(machine: &Machine, file: &Path) -> Result<(), MachineError> {
    separate(machine)?;
    machine.run(&[PROGRAM, "-t", "-f", &machine.at(file).to_string_lossy()]).map(drop)
}

/// Its folder lies in memory and is made with the service; with socket activation there may be
/// none yet.
fn separate(machine: &Machine) -> Result<(), MachineError> {
    machine.folder(SEPARATION, 0o755)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "port 2222\naddressfamily any\nlistenaddress [::]:2222\n\
        listenaddress 0.0.0.0:2222\nusepam yes\npermitrootlogin yes\n\
        hostkey /etc/ssh/ssh_host_rsa_key\nhostkey /etc/ssh/ssh_host_ed25519_key\n";

    #[test]
    fn ports_and_addresses_stay_and_nothing_else_does() {
        let before = Effective::parse(SAID);
        let text = before.ours(&FINAL);
        for line in ["Port 2222\n", "ListenAddress 0.0.0.0:2222\n", "ListenAddress [::]:2222\n"] {
            assert!(text.contains(line), "{text}");
        }
        assert!(text.contains("TrustedUserCAKeys /etc/borgios/ssh/board.pub\n"));
        assert!(!text.contains("ssh_host") && !text.contains("DOORS"));
        assert!(!text.lines().any(|line| line.starts_with("Include") || line.starts_with("Match")));
        let wrong = before.against_the_rules(&FINAL);
        assert!(wrong.iter().any(|line| line.starts_with("PermitRootLogin is \"yes\"")));
    }

    #[test]
    fn made_from_itself_it_is_the_same() {
        let text = Effective::parse(SAID).ours(&FINAL);
        let after = Effective::parse(&text);
        assert_eq!(after.ours(&FINAL), text);
        assert_eq!(after.against_the_rules(&FINAL), Vec::<String>::new());
    }

    #[test]
    fn the_trial_listens_to_this_machine_alone() {
        let text = Effective::parse(SAID).trial(&FINAL, 4_022, true);
        let listens: Vec<_> = text.lines().filter(|line| line.contains("Listen")).collect();
        assert_eq!(listens, ["ListenAddress 127.0.0.1:4022"]);
        assert!(!text.contains("Port 2222"));
    }
}

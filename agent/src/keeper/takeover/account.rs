//! Who is root, and by which password.
//!
//! ```text
//! root                    password field `*`: no password opens it, a certificate does
//! other accounts, uid 0   password `*`, shell nologin, expired
//! a uid that is none      the same: programs may disagree whether it is root
//! any account             an empty password field becomes `*`
//! ```
//!
//! Never `!` for root: without PAM sshd takes that for a locked account and refuses certificates
//! too (measured). Nor may root's account or password have an end, which would lock out the board.
//!
//! Once root was handed over its field is the rotation's: then only the owner's old one, known by
//! its digest, is a finding.

use std::collections::BTreeSet;

use borgios_credentials::shadow::{SHADOW_MAX, Shadow};
use borgios_types::Digest;

use super::catalogue::Kind;
use super::finding::Finding;
use super::machine::{Machine, MachineError};
use super::passwd::column::{FIELDS, GID, PASSWORD, SHELL, UID};
use super::passwd::{self, Fields, Lock};

const KIND: &str = "account";
const PASSWD: &str = "/etc/passwd";
const SHADOW: &str = "/etc/shadow";
/// The copy of `/etc/shadow` that account tools leave: old passwords.
const SHADOW_COPY: &str = "/etc/shadow-";
const NOLOGIN: &str = "/usr/sbin/nologin";
/// What no password hashes to.
const NO_PASSWORD: &[u8] = b"*";

/// Fields of a line of `/etc/shadow`.
const CHANGED: usize = 2;
const MAX_DAYS: usize = 4;
const INACTIVE: usize = 6;
const EXPIRES: usize = 7;
const SHADOW_FIELDS: usize = 9;
/// What Debian writes for "never".
const FOREVER: u64 = 99_999;

/// Accounts.
pub(super) struct Account;

impl Kind for Account {
    fn name(&self) -> &'static str {
        KIND
    }

    fn about(&self) -> &'static str {
        "who is root, and by which password"
    }

    fn look(&self, machine: &Machine) -> Result<Vec<Finding>, MachineError> {
        Ok(Judged::of(machine)?.findings)
    }

    fn apply(&self, machine: &Machine, _found: &[Finding]) -> Result<(), MachineError> {
        let _lock = Lock::take(machine)?;
        let judged = Judged::of(machine)?;
        // Shadow first: a line of passwd that points to it must find its own there.
        machine.write(SHADOW, &judged.shadow, 0o640)?;
        machine.write(PASSWD, &judged.passwd, 0o644)?;
        if judged.copy_is_old {
            machine.write(SHADOW_COPY, &judged.shadow, 0o640)?;
        }
        Ok(())
    }
}

/// root's password field, for the journal: its digest alone.
pub(super) fn roots_field(machine: &Machine) -> Result<Option<Digest>, MachineError> {
    let shadow = passwd::must_read(machine, SHADOW)?;
    Ok(field_of(&shadow, "root").map(|field| Digest::of(&field)))
}

fn field_of(shadow: &[u8], name: &str) -> Option<Vec<u8>> {
    passwd::lines(shadow).find(|line| passwd::name_of(line) == name)?.get(PASSWORD).cloned()
}

/// Both files as they should be, and how they differ from that.
struct Judged {
    passwd: Vec<u8>,
    shadow: Vec<u8>,
    copy_is_old: bool,
    findings: Vec<Finding>,
}

/// Whether the rotation, without which there is no receipt and no way in, will take the account files as
/// they will be. To be asked before the owner is shut out.
pub(super) fn check_for_rotation(machine: &Machine) -> Result<(), MachineError> {
    let judged = Judged::of(machine)?;
    let odd = |path: &str, why: String| MachineError::Odd { path: path.into(), why };
    Shadow::parse(&judged.shadow).map_err(|error| odd(SHADOW, error.to_string()))?;
    let roots =
        judged.passwd.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"root:"));
    match (roots.count(), judged.passwd.len()) {
        (1, length) if length <= SHADOW_MAX => Ok(()),
        (1, length) => {
            Err(odd(PASSWD, format!("has {length} bytes, at most {SHADOW_MAX} are read")))
        }
        (lines, _) => Err(odd(PASSWD, format!("has {lines} lines for root, and must have one"))),
    }
}

impl Judged {
    fn of(machine: &Machine) -> Result<Self, MachineError> {
        let passwd = passwd::must_read(machine, PASSWD)?;
        let shadow = passwd::must_read(machine, SHADOW)?;
        let shut = shut(&passwd);
        let mut findings = Vec::new();
        let mut note = |path: &str, what: String, before: &[u8], action: &str| {
            findings.push(Finding::new(KIND, path, what, before, action));
        };
        let new_passwd = passwd::edit(&passwd, |line| judge_passwd(line, &mut note));
        let mut has_root = false;
        let mut new_shadow = passwd::edit(&shadow, |line| {
            if line.len() < 2 {
                return;
            }
            let name = passwd::name_of(line);
            match name.as_str() {
                "root" => {
                    has_root = true;
                    judge_root(line, machine.owners_root, &mut note);
                }
                _ if shut.contains(&name) => judge_twin(line, &name, &mut note),
                _ => judge_empty(line, SHADOW, &name, &mut note),
            }
        });
        if !has_root {
            let what = "root has no line here".to_owned();
            note(SHADOW, what, b"", "a line without a password");
            if !new_shadow.ends_with(b"\n") {
                new_shadow.push(b'\n');
            }
            new_shadow.extend_from_slice(b"root:*:::::::\n");
        }
        let copy_is_old = is_old(machine, &new_shadow)?;
        if copy_is_old {
            let before = machine.read(SHADOW_COPY)?.unwrap_or_default();
            let what = "holds an old password of root or of an account that is root".to_owned();
            note(SHADOW_COPY, what, &before, "becomes a copy of /etc/shadow");
        }
        Ok(Self { passwd: new_passwd, shadow: new_shadow, copy_is_old, findings })
    }
}

/// What is wrong with an account besides root's that nobody may have.
fn why_shut(line: &Fields) -> Option<&'static str> {
    if !passwd::is_account(line) || passwd::name_of(line) == "root" {
        return None;
    }
    match (passwd::uid_of(line), passwd::gid_of(line)) {
        (Some(0), _) => Some("is root too (uid 0)"),
        (None, _) => Some("has a uid that is no number"),
        (_, None) => Some("has a gid that is no number"),
        (Some(_), Some(_)) => None,
    }
}

/// Names of those.
fn shut(passwd: &[u8]) -> BTreeSet<String> {
    let lines = passwd::lines(passwd).filter(|line| why_shut(line).is_some());
    lines.map(|line| passwd::name_of(&line)).collect()
}

fn judge_passwd(line: &mut Fields, note: &mut impl FnMut(&str, String, &[u8], &str)) {
    if !passwd::is_account(line) {
        return;
    }
    let (before, name) = (line.join(&b':'), passwd::name_of(line));
    if name == "root" {
        // Whatever stands here instead of `x` is used, and `/etc/shadow` is not.
        if line[PASSWORD] != b"x" {
            let what = "root's password is decided here".to_owned();
            note(PASSWD, what, &before, "/etc/shadow decides it");
            line[PASSWORD] = b"x".to_vec();
        }
        // Then the system knows no root at all, and the board must find one.
        for (at, what) in [(UID, "uid"), (GID, "gid")] {
            if passwd::id_at(line, at).is_none() {
                note(PASSWD, format!("root's {what} is no number"), &before, "it is 0");
                line[at] = b"0".to_vec();
            }
        }
        return;
    }
    let why = why_shut(line);
    let shell = line.get(SHELL).map(Vec::as_slice).unwrap_or_default();
    if let Some(why) = why.filter(|_| shell != NOLOGIN.as_bytes()) {
        note(PASSWD, format!("{name} {why}"), &before, "no password, no shell, expired");
        line.resize(line.len().max(FIELDS), Vec::new());
        line[SHELL] = NOLOGIN.as_bytes().to_vec();
    }
    let is_open = line[PASSWORD].is_empty();
    let is_hash = !["x", "*", "!"].iter().any(|known| line[PASSWORD] == known.as_bytes());
    if is_open || (why.is_some() && is_hash) {
        let what = if is_open { "needs no password" } else { "has its password here" };
        note(PASSWD, format!("{name} {what}"), &before, "no password opens it");
        line[PASSWORD] = NO_PASSWORD.to_vec();
    }
}

fn judge_root(
    line: &mut Fields,
    owners: Option<Digest>,
    note: &mut impl FnMut(&str, String, &[u8], &str),
) {
    let before = line.join(&b':');
    let is_owners = match owners {
        Some(owners) => Digest::of(&line[PASSWORD]) == owners,
        None => true,
    };
    if line[PASSWORD] != NO_PASSWORD && (is_owners || line[PASSWORD].is_empty()) {
        let what = match line[PASSWORD].first() {
            None => "root needs no password",
            Some(b'!') => "root's account is locked, which would lock out the board too",
            Some(_) => "root has a password",
        };
        note(SHADOW, what.to_owned(), &before, "no password opens root");
        line[PASSWORD] = NO_PASSWORD.to_vec();
    }
    line.resize(line.len().max(SHADOW_FIELDS), Vec::new());
    let number = |at: usize, line: &Fields| passwd::text(line, at).parse::<u64>().ok();
    let ends = number(CHANGED, line) == Some(0)
        || number(MAX_DAYS, line).is_some_and(|days| days < FOREVER)
        || !line[INACTIVE].is_empty()
        || !line[EXPIRES].is_empty();
    if ends {
        let what = "root's account or password has an end".to_owned();
        note(SHADOW, what, &before, "neither ends");
        if number(CHANGED, line) == Some(0) {
            line[CHANGED].clear();
        }
        line[MAX_DAYS] = FOREVER.to_string().into_bytes();
        line[INACTIVE].clear();
        line[EXPIRES].clear();
    }
}

/// An account that is root under another name, or may be.
fn judge_twin(line: &mut Fields, name: &str, note: &mut impl FnMut(&str, String, &[u8], &str)) {
    let before = line.join(&b':');
    line.resize(line.len().max(SHADOW_FIELDS), Vec::new());
    if line[PASSWORD] != NO_PASSWORD || line[EXPIRES] != b"1" {
        let what = format!("{name}, who is or may be root, has a password or has not expired");
        note(SHADOW, what, &before, "no password, expired");
        line[PASSWORD] = NO_PASSWORD.to_vec();
        line[EXPIRES] = b"1".to_vec();
    }
}

fn judge_empty(
    line: &mut Fields,
    path: &str,
    name: &str,
    note: &mut impl FnMut(&str, String, &[u8], &str),
) {
    if line[PASSWORD].is_empty() {
        let before = line.join(&b':');
        note(path, format!("{name} needs no password"), &before, "no password opens it");
        line[PASSWORD] = NO_PASSWORD.to_vec();
    }
}

/// Whether the copy still holds a usable hash that `/etc/shadow` does not hold any more.
fn is_old(machine: &Machine, shadow: &[u8]) -> Result<bool, MachineError> {
    let copy = machine.read(SHADOW_COPY)?.unwrap_or_default();
    let passwd = passwd::must_read(machine, PASSWD)?;
    let mut names = shut(&passwd);
    names.insert("root".to_owned());
    Ok(names.iter().any(|name| {
        let old = field_of(&copy, name);
        old.is_some_and(|old| {
            old != NO_PASSWORD && !old.starts_with(b"!") && field_of(shadow, name) != Some(old)
        })
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keeper::takeover::fake::server;

    fn line(machine: &Machine, path: &str, name: &str) -> String {
        let text = machine.text(path).unwrap();
        let line = text.lines().find(|line| line.starts_with(&format!("{name}:")));
        line.unwrap_or_default().to_owned()
    }

    #[test]
    fn only_root_stays_root_and_no_password_opens_it() {
        let (_folder, machine, _) = server();
        machine
            .write(
                PASSWD,
                b"root:x:0:0:root:/root:/bin/bash\ntoor:x:00:0::/root:/bin/sh\n\
                  daemon:x:1:1::/:/usr/sbin/nologin\nopen::1000:1000::/home/open:/bin/sh\n",
                0o644,
            )
            .unwrap();
        machine
            .write(
                SHADOW,
                b"root:$y$old:0:0:90:7:::\ntoor:$y$twin:1:::::\ndaemon:*:1::::::\nfree::1::::::\n",
                0o640,
            )
            .unwrap();
        machine.write(SHADOW_COPY, b"root:$y$older:1::::::\n", 0o640).unwrap();
        let found = Account.look(&machine).unwrap();
        assert_eq!(found.len(), 7, "{found:#?}");
        assert!(!format!("{found:?}").contains("$y$"), "a finding holds no hash");
        Account.apply(&machine, &found).unwrap();
        assert_eq!(Account.look(&machine).unwrap(), []);
        assert_eq!(line(&machine, SHADOW, "root"), "root:*::0:99999:7:::");
        assert_eq!(line(&machine, SHADOW, "toor"), "toor:*:1:::::1:");
        assert_eq!(line(&machine, SHADOW, "daemon"), "daemon:*:1::::::");
        assert_eq!(line(&machine, SHADOW, "free"), "free:*:1::::::");
        assert_eq!(line(&machine, PASSWD, "toor"), "toor:x:00:0::/root:/usr/sbin/nologin");
        assert_eq!(line(&machine, PASSWD, "open"), "open:*:1000:1000::/home/open:/bin/sh");
        assert!(!machine.text(SHADOW_COPY).unwrap().contains("$y$"));
    }

    #[test]
    fn root_by_another_spelling_is_root() {
        for uid in ["-0", "-00", "+0", " 0", "\t0", "000"] {
            let (_folder, machine, _) = server();
            let passwd = format!("root:x:0:0::/root:/bin/sh\ntoor:x:{uid}:0::/root:/bin/sh\n");
            machine.write(PASSWD, passwd.as_bytes(), 0o644).unwrap();
            machine.write(SHADOW, b"root:*:1::::::\ntoor:$y$twin:1::::::\n", 0o640).unwrap();
            let found = Account.look(&machine).unwrap();
            assert_eq!(found.len(), 2, "{uid:?}: {found:#?}");
            Account.apply(&machine, &found).unwrap();
            assert_eq!(Account.look(&machine).unwrap(), []);
            assert_eq!(line(&machine, SHADOW, "toor"), "toor:*:1:::::1:", "{uid:?}");
            assert!(line(&machine, PASSWD, "toor").ends_with(NOLOGIN), "{uid:?}");
        }
    }

    #[test]
    fn a_short_line_and_one_with_spaces_before_its_name_are_accounts() {
        let (_folder, machine, _) = server();
        let passwd = b"  root:x:0:0::/root:/bin/sh\nshort::-0:0\n \ttoor:$1$x:0:0:::/bin/sh\n";
        machine.write(PASSWD, passwd, 0o644).unwrap();
        machine.write(SHADOW, b" root:$y$old:1::::::\n", 0o640).unwrap();
        let found = Account.look(&machine).unwrap();
        Account.apply(&machine, &found).unwrap();
        assert_eq!(Account.look(&machine).unwrap(), []);
        assert_eq!(
            machine.text(PASSWD).unwrap(),
            "  root:x:0:0::/root:/bin/sh\nshort:*:-0:0:::/usr/sbin/nologin\n \
             \ttoor:*:0:0:::/usr/sbin/nologin\n"
        );
        // No second line for root.
        assert!(!machine.text(SHADOW).unwrap().contains("\nroot:"));
    }

    #[test]
    fn an_account_whose_number_is_none_is_a_finding_and_is_closed() {
        for numbers in ["0x:0", "4294967296:0", "-1:0", "1000:0x", ":1000"] {
            let (_folder, machine, _) = server();
            let passwd = format!("root:x:0:0::/root:/bin/sh\nodd:$1$a:{numbers}::/:/bin/sh\n");
            machine.write(PASSWD, passwd.as_bytes(), 0o644).unwrap();
            machine.write(SHADOW, b"root:*:1::::::\nodd:$y$odd:1::::::\n", 0o640).unwrap();
            let found = Account.look(&machine).unwrap();
            assert_eq!(found.len(), 3, "{numbers:?}: {found:#?}");
            assert!(found[0].what.contains("id that is no number"), "{found:#?}");
            Account.apply(&machine, &found).unwrap();
            assert_eq!(Account.look(&machine).unwrap(), []);
            let closed = format!("odd:*:{numbers}::/:{NOLOGIN}");
            assert_eq!(line(&machine, PASSWD, "odd"), closed);
            assert_eq!(line(&machine, SHADOW, "odd"), "odd:*:1:::::1:");
        }
        // Root itself is not closed, which would shut out the board.
        let (_folder, machine, _) = server();
        machine.write(PASSWD, b"root:x:0x:no::/root:/bin/sh\n", 0o644).unwrap();
        let found = Account.look(&machine).unwrap();
        Account.apply(&machine, &found).unwrap();
        assert_eq!(line(&machine, PASSWD, "root"), "root:x:0:0::/root:/bin/sh");
    }

    #[test]
    fn a_locked_root_is_unlocked_without_a_password_and_a_missing_line_is_made() {
        let (_folder, machine, _) = server();
        machine.write(SHADOW, b"root:!$y$old:1:0:99999:7:::\n", 0o640).unwrap();
        Account.apply(&machine, &[]).unwrap();
        assert_eq!(machine.text(SHADOW).unwrap(), "root:*:1:0:99999:7:::\n");
        machine.write(SHADOW, b"daemon:*:1::::::", 0o640).unwrap();
        Account.apply(&machine, &[]).unwrap();
        assert_eq!(machine.text(SHADOW).unwrap(), "daemon:*:1::::::\nroot:*:::::::\n");
    }

    #[test]
    fn after_the_hand_over_only_the_owners_password_is_a_finding() {
        let (_folder, mut machine, _) = server();
        machine.write(SHADOW, b"root:$y$old:1:0:99999:7:::\n", 0o640).unwrap();
        machine.owners_root = roots_field(&machine).unwrap();
        assert_eq!(Account.look(&machine).unwrap().len(), 1);
        machine.write(SHADOW, b"root:$y$of the network:1:0:99999:7:::\n", 0o640).unwrap();
        machine.write(SHADOW_COPY, b"root:$y$of the network:1:0:99999:7:::\n", 0o640).unwrap();
        assert_eq!(Account.look(&machine).unwrap(), []);
        machine.write(SHADOW, b"root::1:0:99999:7:::\n", 0o640).unwrap();
        assert!(!Account.look(&machine).unwrap().is_empty());
    }
}

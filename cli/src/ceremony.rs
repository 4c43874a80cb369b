//! What every key ceremony on this machine needs: the folder's files, the stored state, and the
//! one question, whether the roster was compared by voice.

use std::io::{BufRead as _, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use borgios_policy::keygen::{Ceremony, Files};
use borgios_policy::{Card, Name};
use borgios_types::limits::ENVELOPE_MAX;
use borgios_types::{Digest, Threshold};
use serde_json::json;

use crate::context::Context;
use crate::durable;
use crate::failure::{Failure, OrFail as _};
use crate::identity::Identity;
use crate::printer::table;

/// Most files read from the exchange folder: 21 governors write 5 each, and pools, at every change.
const FILES_MAX: usize = 4_000;

/// Largest stored state, in bytes: it keeps every paper this governor wrote.
pub(crate) const STATE_MAX: usize = 8 * 1024 * 1024;

/// Fewest digits of a roster that are worth comparing. Whoever can write two plans chooses both, and finds
/// two with N digits in common after some 16^(N/2) tries: with 8 at once, with 16 within hours; 32 take 2^64,
/// which a state may spend, and 40 take 2^80.
const ROSTER_DIGITS: usize = 40;

/// How often `--watch` looks again.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The folder that the governors share.
pub(crate) fn folder(context: &Context) -> Result<PathBuf, Failure> {
    let folder = context.exchange.clone().ok_or_else(|| {
        Failure::usage("no exchange folder was named")
            .hint("give a folder shared by all governors with `--exchange DIR`")
    })?;
    if folder.is_dir() {
        return Ok(folder);
    }
    Err(Failure::new(format!("the exchange {} is no folder", folder.display()))
        .hint("create it, or give the folder that the other governors use"))
}

/// The papers in it.
pub(crate) fn read_files(folder: &Path) -> Result<Files, Failure> {
    let mut files = Files::new();
    for path in durable::list(folder)? {
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(name) = name.filter(|name| name.ends_with(".json")) else { continue };
        if files.len() == FILES_MAX {
            return Err(Failure::new(format!("{} holds over {FILES_MAX} files", folder.display())));
        }
        if let Some(bytes) = durable::read(&path, ENVELOPE_MAX)? {
            files.insert(name.to_owned(), bytes);
        }
    }
    Ok(files)
}

/// Lays papers into it.
pub(crate) fn write_files(folder: &Path, files: Files) -> Result<(), Failure> {
    for (name, bytes) in files {
        durable::write_public(&folder.join(name), &bytes)?;
    }
    Ok(())
}

/// The state of a ceremony that is under way, from its file.
pub(crate) fn load_state(path: &Path, identity: &Identity) -> Result<Option<Ceremony>, Failure> {
    let Some(cipher) = durable::read(path, STATE_MAX)? else { return Ok(None) };
    let plain = identity.unseal(&cipher, &path.display().to_string())?;
    serde_json::from_slice(&plain).map(Some).or_fail(|| format!("{} is damaged", path.display()))
}

/// Stores it: before any of the papers it holds is published.
pub(crate) fn save_state(
    path: &Path,
    state: &Ceremony,
    identity: &Identity,
) -> Result<(), Failure> {
    let plain = serde_json::to_vec(state).or_fail(|| "could not encode the ceremony's state")?;
    let plain = zeroize::Zeroizing::new(plain);
    durable::write(path, &identity.seal(&plain)?)
}

/// A plan, as people are asked about it.
pub(crate) struct Question<'a> {
    /// The file it lies in.
    pub(crate) file: &'a str,
    /// Its digest.
    pub(crate) roster: Digest,
    /// t.
    pub(crate) threshold: Threshold,
    /// The new board.
    pub(crate) governors: &'a [Card],
    /// What is risky about it.
    pub(crate) warning: Option<String>,
}

/// Shows who will govern, and takes the governor's word that it was compared by voice.
pub(crate) fn confirm(
    context: &Context,
    question: &Question<'_>,
    accepted: Option<&String>,
) -> Result<Option<Digest>, Failure> {
    let Question { file, roster, threshold, governors, warning } = question;
    let row = |card: &Card| [card.name.to_string(), card.key.fingerprint()];
    let rows: Vec<[String; 2]> = governors.iter().map(row).collect();
    let text = format!(
        "{threshold} of these {} governors will sign together:\n\n{}\nroster {roster}\n       {}\n",
        rows.len(),
        table(["governor", "fingerprint"], &rows),
        in_fours(&roster.hex()[..ROSTER_DIGITS])
    );
    if let Some(warning) = warning {
        context.printer.warn(warning);
    }
    if let Some(accepted) = accepted {
        if is_roster(accepted, roster) {
            return Ok(Some(*roster));
        }
        return Err(Failure::new(format!("the roster accepted, {accepted}, is not the plan's"))
            .because(format!("{file} has {roster}"))
            .hint("compare names and fingerprints with every governor before accepting"));
    }
    if !std::io::stdin().is_terminal() {
        let answer = json!({
            "status": "confirm", "roster": roster, "threshold": threshold, "governors": governors,
        });
        context.printer.answer(&answer, &text)?;
        context.printer.say(
            "Compare this with every other governor by voice, then run again with \
             `--accept-roster DIGEST`.",
        );
        return Ok(None);
    }
    context.printer.say(&text);
    context.printer.say(
        "Whoever wrote the plan could have put a key of their own behind another's name, and this \
         cannot\nbe undone. Compare the roster with every other governor by voice.",
    );
    context.printer.ask(&format!(
        "Type the first {ROSTER_DIGITS} digits after `sha256:`, with or without blanks, to go on: "
    ));
    let mut typed = String::new();
    std::io::stdin().lock().read_line(&mut typed).or_fail(|| "could not read the answer")?;
    if is_roster(typed.trim(), roster) {
        return Ok(Some(*roster));
    }
    Err(Failure::new("the roster was not confirmed; nothing was written"))
}

/// A name for a network nobody named here.
pub(crate) fn short_name(network: Digest) -> Result<Name, Failure> {
    let text = format!("net-{}", &network.hex()[..8]);
    text.parse().or_fail(|| format!("{text} is no name"))
}

/// `ann, ben`.
pub(crate) fn list(names: &[Name]) -> String {
    names.iter().map(Name::as_str).collect::<Vec<_>>().join(", ")
}

/// Whether what was typed is this roster's digest, or enough of its first digits.
fn is_roster(typed: &str, roster: &Digest) -> bool {
    let digits: String = typed.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let digits = digits.strip_prefix("sha256:").unwrap_or(&digits);
    digits.len() >= ROSTER_DIGITS && roster.hex().starts_with(digits)
}

/// Digits as people read them to each other.
fn in_fours(digits: &str) -> String {
    digits.as_bytes().chunks(4).map(String::from_utf8_lossy).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the state of a ceremony is stored, by its own type.
    #[test]
    fn the_key_in_a_stored_state_is_read() {
        let council = borgios_policy::fixture::Council::new(3, 2, 2, 1);
        let identity = Identity::drawn(council.name(0));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("change.age");
        let secret = council.shares[identity.name()].to_secret();
        let made = json!({
            "board": council.board, "transcript": Digest::of(b"t"), "key": secret, "seeds": [],
        });
        for (phase, keyed) in [
            (json!({"keyed": {"made": made}}), true),
            (json!({"shared": {"secret": secret}}), false),
        ] {
            let roster = Digest::of(b"plan");
            let state = json!({"roster": roster, "phase": phase, "wrote": {}, "answered": {}});
            let state: Ceremony = serde_json::from_value(state).unwrap();
            save_state(&path, &state, &identity).unwrap();
            let read = load_state(&path, &identity).unwrap().unwrap();
            assert_eq!((read.is_keyed(), read.roster()), (keyed, roster));
            let made = read.made(identity.name());
            assert_eq!(made.is_some(), keyed);
            if let Some(made) = made {
                assert_eq!((made.board, made.seeds.len()), (council.board.clone(), 0));
                assert_eq!(made.key.to_secret().expose(), secret.expose());
            }
            assert!(read.made(&council.name(1)).is_none(), "another's");
        }
    }

    /// Two plans with the same first 8 digits are found in a second, with 64 bits in an hour.
    #[test]
    fn a_roster_is_not_accepted_by_its_first_few_digits() {
        let roster = Digest::of(b"plan");
        let hex = roster.hex();
        for good in [&hex, &roster.to_string(), &hex[..40], &in_fours(&hex[..40])] {
            assert!(is_roster(good, &roster), "{good}");
        }
        let other = format!("{}0", &hex[..40]);
        for bad in ["", "sha256:", &hex[..8], &hex[..32], &hex[..39], &other, &format!("{hex}0")] {
            assert!(!is_roster(bad, &roster), "{bad}");
        }
    }
}

//! The key that a change of the board made, from its ceremony until it is in force.
//!
//! ```text
//! governor change ─▶ next.age, next.json, seeds ─▶ policy/p+1 applied ─▶ adopt: share.age
//!                    the old share.age is untouched                     read back, then the old one
//! ```
//!
//! What always holds: wherever the program is killed, a share of the board in force can be read,
//! from `share.age`, from `next.age` while the new one is being laid, or from `past.age` while
//! nodes still hold the change back; and `next.json`, which goes last, says what is to be finished.

use std::path::Path;

use borgios_policy::{Board, KeyShare, Name, SecretBytes};
use borgios_types::{Digest, KeyEpoch, UnixSeconds};
use serde::{Deserialize, Serialize};

use crate::durable;
use crate::failure::{Failure, OrFail as _};
use crate::home::Home;
use crate::identity::Identity;
use crate::slots::Slots;

/// Largest stored share, in bytes.
const SHARE_MAX: usize = 64 * 1024;

/// Largest `next.json`, in bytes.
const NEXT_MAX: usize = 256 * 1024;

/// Where a share of the board in force may lie, in the order in which they are tried.
const SHARES: [&str; 3] = ["share.age", "next.age", "past.age"];

/// `governor/next.json`: what `next.age` is a share of. Nothing in it is secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NextKey {
    /// The board that the key makes.
    pub(crate) board: Board,
    /// The plan it came of.
    pub(crate) roster: Digest,
    /// Who is to propose the policy.
    pub(crate) proposer: Name,
    /// Whether the recovery board planned it: then one of its members proposes.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub(crate) recovery: bool,
}

/// `governor/past.json`: since when `past.age` is of no use to this archive.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Past {
    until: UnixSeconds,
}

impl NextKey {
    /// What a change left here, if one is under way.
    pub(crate) fn load(home: &Home) -> Result<Option<Self>, Failure> {
        let path = home.governor("next.json");
        let Some(bytes) = durable::read(&path, NEXT_MAX)? else { return Ok(None) };
        let next = serde_json::from_slice(&bytes);
        next.map(Some).or_fail(|| format!("{} is damaged", path.display()))
    }

    /// Lays the share and then what it is a share of.
    pub(crate) fn store(
        &self,
        home: &Home,
        key: &KeyShare,
        identity: &Identity,
    ) -> Result<(), Failure> {
        durable::write(&home.governor("next.age"), &identity.seal(key.to_secret().expose())?)?;
        let text = serde_json::to_vec_pretty(self).or_fail(|| "could not encode")?;
        durable::write(&home.governor("next.json"), &text)
    }

    /// Gives the key up: the seeds of its slots, the share, and last the note of it.
    pub(crate) fn give_up(&self, home: &Home) -> Result<(), Failure> {
        durable::erase(&home.governor("change.age"))?;
        Slots::new(home).forget(self.board.epoch())?;
        durable::erase(&home.governor("next.age"))?;
        durable::erase(&home.governor("next.json"))
    }
}

/// This governor's share of `board`, wherever it lies.
///
/// # Errors
/// When there is none.
pub(crate) fn share(
    home: &Home,
    board: &Board,
    name: &Name,
    identity: &Identity,
) -> Result<KeyShare, Failure> {
    let mut found = Vec::new();
    for file in SHARES {
        let path = home.governor(file);
        let Some(cipher) = durable::read(&path, SHARE_MAX)? else { continue };
        let plain = identity.unseal(&cipher, &path.display().to_string())?;
        match KeyShare::from_secret(board, name, &SecretBytes::new(plain.to_vec())) {
            Ok(share) => return Ok(share),
            Err(error) => found.push(format!("{}: {error}", path.display())),
        }
    }
    let what = format!("no share of {name}'s for key epoch {} is kept here", board.epoch());
    let failure = found.into_iter().fold(Failure::new(what), Failure::because);
    Err(failure.hint(
        "`borgios governor restore` lays one back from a backup; without one, `borgios governor \
         repair` asks the others for it",
    ))
}

/// Whether nodes may still hold back the change that made the key in force.
pub(crate) fn is_held_back(home: &Home) -> bool {
    home.governor("past.json").exists()
}

/// Takes the next key into use once its board is in force: the new share is laid and read back,
/// only then the old one goes. Each step can be done again. Whether anything was done.
///
/// Where nodes still hold the change back, for `lock_s` seconds, the old share is kept so long: a
/// veto there would leave the old board in office.
pub(crate) fn adopt(
    home: &Home,
    in_force: &Board,
    identity: &Identity,
    now: UnixSeconds,
    lock_s: u64,
) -> Result<bool, Failure> {
    let past = home.governor("past.age");
    if restore_past(home, in_force, identity)? {
        return Ok(false);
    }
    if let Some(bytes) = durable::read(&home.governor("past.json"), NEXT_MAX)?
        && serde_json::from_slice(&bytes).is_ok_and(|Past { until }| until <= now)
    {
        durable::erase(&past)?;
        Slots::new(home).retire(in_force.epoch())?;
        // Last, so that what is cut off before it is done again.
        durable::erase(&home.governor("past.json"))?;
    }
    let Some(next) = NextKey::load(home)? else { return Ok(false) };
    if next.board.group() != in_force.group() {
        // Another attempt came into force.
        if next.board.epoch() <= in_force.epoch() {
            next.give_up(home)?;
        }
        return Ok(false);
    }
    let (from, to) = (home.governor("next.age"), home.governor("share.age"));
    let read = |path: &Path| durable::read(path, SHARE_MAX);
    let fits = |cipher: &[u8], path: &Path| fits(cipher, path, in_force, identity);
    let laid = match read(&to)? {
        Some(cipher) => fits(&cipher, &to)?,
        None => false,
    };
    if !laid {
        let cipher = read(&from)?.ok_or_else(|| {
            Failure::new(format!("{} is gone", from.display()))
                .hint("`borgios governor repair` asks the others for your share")
        })?;
        // 1. The new share is good where it lies.
        if !fits(&cipher, &from)? {
            return Err(Failure::new(format!("{} is no share of this board", from.display())));
        }
        // 2. The old one goes, or steps aside for as long as nodes may still need it.
        if let Some(old) = read(&to)?
            && lock_s > 0
        {
            let until = Past { until: now.plus(lock_s) };
            let text = serde_json::to_vec(&until).or_fail(|| "could not encode")?;
            durable::write(&home.governor("past.json"), &text)?;
            durable::write(&past, &old)?;
        }
        durable::erase(&to)?;
        // 3. The new one takes its place, and is read back by `write`.
        durable::write(&to, &cipher)?;
    }
    // 4. The seeds of the old board's slots can give its shares away and sign nothing more. Where
    //    nodes hold the change back, they go with the old share.
    if lock_s == 0 {
        Slots::new(home).retire(in_force.epoch())?;
    }
    // 5. The ceremony's state holds the share and the seeds too, if its end was cut off.
    durable::erase(&home.governor("change.age"))?;
    durable::erase(&from)?;
    durable::erase(&home.governor("next.json"))?;
    Ok(true)
}

/// Whether a sealed share is this governor's of `board`.
fn fits(cipher: &[u8], path: &Path, board: &Board, identity: &Identity) -> Result<bool, Failure> {
    let plain = identity.unseal(cipher, &path.display().to_string())?;
    let secret = SecretBytes::new(plain.to_vec());
    Ok(KeyShare::from_secret(board, identity.name(), &secret).is_ok())
}

/// Takes the old key into use again, where vetoes killed the change that had replaced it: its share
/// goes back, and the slots of the dead key are as if they had never been, for another attempt makes
/// another key of the same epoch. Each step can be done again. Whether anything was done.
fn restore_past(home: &Home, in_force: &Board, identity: &Identity) -> Result<bool, Failure> {
    let (past, to) = (home.governor("past.age"), home.governor("share.age"));
    let Some(old) = durable::read(&past, SHARE_MAX)? else { return Ok(false) };
    if !fits(&old, &past, in_force, identity)? {
        return Ok(false);
    }
    let laid = durable::read(&to, SHARE_MAX)?;
    let is_back = match &laid {
        Some(cipher) => fits(cipher, &to, in_force, identity)?,
        None => false,
    };
    if !is_back {
        // A policy that somebody built upon before the vetoes came lives: `share` finds its key here.
        if let Some(replaced) = laid {
            durable::write(&home.governor("next.age"), &replaced)?;
        }
        durable::write(&to, &old)?;
    }
    match NextKey::load(home)? {
        // It died while its share was being laid.
        Some(next) => next.give_up(home)?,
        None => Slots::new(home).forget(KeyEpoch(in_force.epoch().0 + 1))?,
    }
    durable::erase(&past)?;
    durable::erase(&home.governor("past.json"))?;
    Ok(true)
}

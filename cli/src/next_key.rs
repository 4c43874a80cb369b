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
//! A share of a key that was given up, or that came and went while this machine was away, lies as
//! `dead-….age` until no node can turn to its board any more.
//!
//! A further change that comes within that time lays the share that it replaces beside the first, as
//! `past-EPOCH.age`: until its lock is over too, nodes may have any of these boards in force.

use std::path::{Path, PathBuf};

use borgios_policy::keygen::Keyed;
use borgios_policy::{Board, KeyShare, Name, SecretBytes};
use borgios_types::{Digest, KeyEpoch, UnixSeconds};
use serde::{Deserialize, Serialize};

use crate::ceremony;
use crate::durable;
use crate::failure::{Failure, OrFail as _};
use crate::home::Home;
use crate::identity::Identity;
use crate::slots::{SlotState, Slots};

/// Largest stored share, in bytes.
const SHARE_MAX: usize = 64 * 1024;

/// Largest `next.json`, in bytes.
const NEXT_MAX: usize = 256 * 1024;

/// Where a share of the board in force may lie, in the order in which they are tried; then the other past
/// ones.
const SHARES: [&str; 3] = ["share.age", "next.age", PAST];

/// The share that a change replaced which nodes may still hold back, the first of several.
const PAST: &str = "past.age";

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

/// What came of a look for the key in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Adopted {
    /// There was nothing to take into use.
    Nothing,
    /// Its share is laid.
    Laid,
    /// Its share was here, and is gone or damaged.
    Lost,
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
        if was_erased(&bytes) {
            // Its erasing was cut off, which is the last that is done with it. Best effort: whoever looks
            // next ends it.
            let _ = durable::erase(&path);
            return Ok(None);
        }
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

    /// Gives the key up, and keeps the share: its policy may come back, or come into force all the same,
    /// see [`found`].
    pub(crate) fn lay_down(&self, home: &Home) -> Result<(), Failure> {
        keep_next(home, self.board.epoch())?;
        self.give_up(home)
    }

    /// What is left of it that can be gone on with. Where giving it up was cut off, that is ended; where its
    /// share is damaged, it is given up; where the ceremony's state holds it still, that makes it again.
    ///
    /// # Errors
    /// What lies here cannot be read or removed.
    pub(crate) fn if_whole(
        self,
        home: &Home,
        identity: &Identity,
    ) -> Result<Option<Self>, Failure> {
        let path = home.governor("next.age");
        let laid = durable::read(&path, SHARE_MAX)?;
        if laid.is_some_and(|cipher| fits(&cipher, &path, &self.board, identity)) {
            return Ok(Some(self));
        }
        let state = ceremony::load_state(&home.governor("change.age"), identity).ok().flatten();
        let made = state.and_then(|state| state.made(identity.name()));
        if made.is_some_and(|made| made.board.group() == self.board.group()) {
            durable::erase(&home.governor("next.json"))?;
        } else {
            self.lay_down(home)?;
        }
        Ok(None)
    }

    /// The seeds of its slots go, the share, and last the note of it.
    fn give_up(&self, home: &Home) -> Result<(), Failure> {
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
    let first = SHARES.map(|file| home.governor(file));
    for path in first.into_iter().chain(further_past(home)?).chain(dead_shares(home)?) {
        let Some(cipher) = durable::read(&path, SHARE_MAX)? else { continue };
        // One that is damaged, as by a power cut while it was erased, hides none of the others.
        let plain = match identity.unseal(&cipher, &path.display().to_string()) {
            Ok(plain) => plain,
            Err(failure) => {
                found.push(failure.summary());
                continue;
            }
        };
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
    match durable::read(&home.governor("past.json"), NEXT_MAX) {
        Ok(note) => note.is_some_and(|note| !was_erased(&note)),
        // It is there, whatever it says.
        Err(_) => true,
    }
}

/// Until when they may, as far as this governor has a share of the board before.
///
/// # Errors
/// The note of it cannot be read.
pub(crate) fn held_back_until(home: &Home) -> Result<Option<UnixSeconds>, Failure> {
    let path = home.governor("past.json");
    let note = durable::read(&path, NEXT_MAX)?.filter(|bytes| !was_erased(bytes));
    let Some(bytes) = note else { return Ok(None) };
    let past: Past = serde_json::from_slice(&bytes)
        .or_fail(|| format!("{} is damaged", path.display()))
        .map_err(|failure| {
            failure.hint(
                "write {\"until\":SECONDS} there, in Unix time, the end of the lock of the policy in \
                 force; `borgios status` of a server shows it",
            )
        })?;
    Ok(Some(past.until))
}

/// Whether a note is what a kill or a power cut leaves of its erasing, between the zeros and the unlink. Both
/// notes go last of what they tell of, so there is nothing left to be done.
fn was_erased(note: &[u8]) -> bool {
    !note.is_empty() && note.iter().all(|byte| *byte == 0)
}

/// Refuses a further change of the board while nodes may hold the last one back: vetoes would take both, and
/// the laptops that went on under a key of the second would have no way back to the board of the nodes.
///
/// # Errors
/// They may, or the note of it cannot be read.
pub(crate) fn refuse_further(home: &Home, now: UnixSeconds, what: &str) -> Result<(), Failure> {
    match held_back_until(home)?.filter(|until| now < *until) {
        None => Ok(()),
        Some(until) => Err(Failure::new(what.to_owned())
            .because(format!(
                "servers may hold back the change before it until {until}, and vetoes can take that back"
            ))
            .hint(
                "wait until then: `borgios status` of a server shows its lock; if the last change is \
                 wrong, the board before it takes it back with `borgios veto`",
            )),
    }
}

/// The shares that further changes replaced, in the order of their keys.
fn further_past(home: &Home) -> Result<Vec<PathBuf>, Failure> {
    let number = |path: &Path| {
        let epoch = path.file_name()?.to_str()?.strip_prefix("past-")?.strip_suffix(".age")?;
        epoch.parse::<u32>().ok()
    };
    let all = durable::list(&home.root().join("governor"))?.into_iter();
    let mut all: Vec<(u32, PathBuf)> =
        all.filter_map(|path| Some((number(&path)?, path))).collect();
    all.sort();
    Ok(all.into_iter().map(|(_, path)| path).collect())
}

/// Keeps what lies where the share of the next key does, be it damaged, but nothing that was erased.
fn keep_next(home: &Home, epoch: KeyEpoch) -> Result<(), Failure> {
    match durable::read(&home.governor("next.age"), SHARE_MAX)? {
        Some(share) if share.iter().any(|byte| *byte != 0) => keep_dead(home, epoch, &share),
        Some(_) | None => Ok(()),
    }
}

/// Keeps a share of a key that was given up, or that vetoes took out of use. `epoch` is the key's, or where
/// that is not known no earlier one: see [`erase_dead`].
fn keep_dead(home: &Home, epoch: KeyEpoch, share: &[u8]) -> Result<(), Failure> {
    let name = format!("dead-{epoch}-{}.age", &Digest::of(share).hex()[..16]);
    durable::write(&home.governor(&name), share)
}

/// Erases those of keys up to the epoch in force, which come back no more. One of a later key stays: the
/// change that made it may go on without this governor, and come into force all the same.
fn erase_dead(home: &Home, in_force: KeyEpoch) -> Result<(), Failure> {
    let epoch = |path: &Path| {
        let (epoch, _) = path.file_name()?.to_str()?.strip_prefix("dead-")?.split_once('-')?;
        epoch.parse::<u32>().ok()
    };
    for dead in dead_shares(home)? {
        // An earlier version of this program noted no epoch.
        if epoch(&dead).is_none_or(|epoch| epoch <= in_force.0) {
            durable::erase(&dead)?;
        }
    }
    Ok(())
}

/// The shares of keys that vetoes took out of use.
fn dead_shares(home: &Home) -> Result<Vec<PathBuf>, Failure> {
    let mut all = durable::list(&home.root().join("governor"))?;
    all.retain(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("dead-") && name.ends_with(".age"))
    });
    all.sort();
    Ok(all)
}

/// Sets the share that is replaced aside, beside those that are there already.
fn set_aside(home: &Home, old: &[u8], new: KeyEpoch, until: UnixSeconds) -> Result<(), Failure> {
    let before = held_back_until(home).ok().flatten();
    let until = before.map_or(until, |before| before.max(until));
    let text = serde_json::to_vec(&Past { until }).or_fail(|| "could not encode")?;
    durable::write(&home.governor("past.json"), &text)?;
    let first = home.governor(PAST);
    let path = match durable::read(&first, SHARE_MAX)? {
        Some(laid) if laid != old => home.governor(&format!("past-{}.age", new.0 - 1)),
        Some(_) | None => first,
    };
    durable::write(&path, old)
}

/// Takes the next key into use once its board is in force: the new share is laid and read back,
/// only then the old one goes. Each step can be done again.
///
/// `known` is the generation of the newest burn of this governor's that was said under its key.
///
/// Where nodes may hold the change back, for `held_back_s` seconds, the old share is kept so long: a
/// veto there would leave the old board in office.
pub(crate) fn adopt(
    home: &Home,
    (in_force, known): (&Board, u64),
    identity: &Identity,
    now: UnixSeconds,
    held_back_s: u64,
) -> Result<Adopted, Failure> {
    if restore_past(home, in_force, identity)? {
        return Ok(Adopted::Nothing);
    }
    // Where it cannot be read, nothing goes.
    if held_back_until(home).is_ok_and(|until| until.is_some_and(|until| until <= now)) {
        for past in further_past(home)? {
            durable::erase(&past)?;
        }
        durable::erase(&home.governor(PAST))?;
        // What died before this came into force comes back no more.
        erase_dead(home, in_force.epoch())?;
        Slots::new(home).retire(in_force.epoch())?;
        // Last, so that what is cut off before it is done again.
        durable::erase(&home.governor("past.json"))?;
    }
    let (from, to) = (home.governor("next.age"), home.governor("share.age"));
    let read = |path: &Path| durable::read(path, SHARE_MAX);
    let fits_at = |path: &Path| -> Result<bool, Failure> {
        Ok(read(path)?.is_some_and(|cipher| fits(&cipher, path, in_force, identity)))
    };
    let noted = NextKey::load(home)?;
    if let Some(next) = noted.as_ref().filter(|next| next.board.group() != in_force.group()) {
        // Another attempt came into force, or this machine was away for a whole change: nodes that still
        // hold back what came after have this one's board, and vetoes leave them with it.
        // Where policies have no lock, no node holds anything back.
        if next.board.epoch() <= in_force.epoch() {
            if held_back_s > 0 { next.lay_down(home)? } else { next.give_up(home)? }
        }
        return Ok(Adopted::Nothing);
    }
    let ready = noted.is_some() && (fits_at(&to)? || fits_at(&from)?);
    if !ready && found(home, in_force, known, identity)?.is_none() {
        if noted.is_none() {
            return Ok(Adopted::Nothing);
        }
        // Its share is gone or damaged, and nowhere else: the others can make it again, for which the
        // session has to open. What nodes may still need steps aside before theirs is laid.
        if let Some(old) = read(&to)?.filter(|_| held_back_s > 0) {
            set_aside(home, &old, in_force.epoch(), now.plus(held_back_s))?;
        }
        keep_next(home, in_force.epoch())?;
        durable::erase(&from)?;
        durable::erase(&home.governor("next.json"))?;
        return Ok(Adopted::Lost);
    }
    if !fits_at(&to)? {
        // 1. The new share is good where it lies.
        let cipher = read(&from)?.filter(|cipher| fits(cipher, &from, in_force, identity));
        let cipher = cipher.ok_or_else(|| {
            Failure::new(format!("{} is not what was written", from.display()))
                .hint("the disk is not to be trusted; check it and run this again")
        })?;
        // 2. The old one goes, or steps aside for as long as nodes may still need it.
        if let Some(old) = read(&to)?
            && held_back_s > 0
        {
            set_aside(home, &old, in_force.epoch(), now.plus(held_back_s))?;
        }
        durable::erase(&to)?;
        // 3. The new one takes its place, and is read back by `write`.
        durable::write(&to, &cipher)?;
    }
    // 4. The seeds of the old board's slots can give its shares away and sign nothing more. Where
    //    nodes hold the change back, they go with the old share.
    if held_back_s == 0 {
        Slots::new(home).retire(in_force.epoch())?;
        // Keys that were given up for this one come back no more, unless nodes hold an earlier change back.
        if !is_held_back(home) {
            erase_dead(home, in_force.epoch())?;
        }
    }
    // 5. The ceremony's state holds the share and the seeds too, if its end was cut off.
    durable::erase(&home.governor("change.age"))?;
    durable::erase(&from)?;
    durable::erase(&home.governor("next.json"))?;
    Ok(Adopted::Laid)
}

/// Erases what a founding left here whose end was cut off, once nothing of it is needed: its key is one of
/// `boards`, a share of the board `in_force` can be read, and nodes hold no change back.
///
/// # Errors
/// It cannot be erased.
pub(crate) fn end_founding(
    home: &Home,
    in_force: &Board,
    boards: &[&Board],
    identity: &Identity,
) -> Result<(), Failure> {
    let path = home.governor("founding.age");
    if !path.exists() || is_held_back(home) {
        return Ok(());
    }
    let made = match ceremony::load_state(&path, identity) {
        // A founding that is under way, or that this folder never saw the end of, keeps its key.
        Ok(state) => state
            .and_then(|state| state.made(identity.name()))
            .is_some_and(|made| boards.iter().any(|board| board.group() == made.board.group())),
        // Cut off while it was erased.
        Err(_) => true,
    };
    if made && share(home, in_force, identity.name(), identity).is_ok() {
        durable::erase(&path)?;
    }
    Ok(())
}

/// A share of the board in force that is not where it is used, made ready to be laid there: one that vetoes
/// had set aside with its board, or what a ceremony came to on this machine, where its board came into
/// force before this machine heard that all had signed for the key. The group's signature of that board
/// says it as well as they do.
fn found(
    home: &Home,
    in_force: &Board,
    known: u64,
    identity: &Identity,
) -> Result<Option<NextKey>, Failure> {
    let laid = home.governor("share.age");
    if let Some(cipher) = durable::read(&laid, SHARE_MAX)?
        && fits(&cipher, &laid, in_force, identity)
    {
        return Ok(None);
    }
    for path in dead_shares(home)? {
        let Some(cipher) = durable::read(&path, SHARE_MAX)? else { continue };
        if !fits(&cipher, &path, in_force, identity) {
            continue;
        }
        let secret = identity.unseal(&cipher, &path.display().to_string())?;
        let secret = SecretBytes::new(secret.to_vec());
        let key = KeyShare::from_secret(in_force, identity.name(), &secret)
            .or_fail(|| format!("{} is damaged", path.display()))?;
        // Its seeds went with it, and its pools are out: a burn says so, before it is voted with.
        let epoch = in_force.epoch();
        let own = durable::read(&home.generation(epoch), NEXT_MAX)?.unwrap_or_default();
        let own: u64 = String::from_utf8_lossy(&own).trim().parse().unwrap_or_default();
        let next = own.max(known) + 1;
        durable::write(&home.generation(epoch), next.to_string().as_bytes())?;
        let (roster, proposer) = (in_force.group().to_bytes(), identity.name().clone());
        let roster = Digest::of(&roster);
        let next = NextKey { board: in_force.clone(), roster, proposer, recovery: false };
        next.store(home, &key, identity)?;
        durable::erase(&path)?;
        return Ok(Some(next));
    }
    let path = home.governor("change.age");
    // One that cannot be read stops nothing here; `governor change` names it.
    let Ok(Some(state)) = ceremony::load_state(&path, identity) else { return Ok(None) };
    let Some(Keyed { board, key, seeds }) = state.made(identity.name()) else { return Ok(None) };
    if board.group() != in_force.group() {
        return Ok(None);
    }
    let slots = Slots::new(home);
    let void = home.generation(board.epoch()).exists();
    for (slot, seed) in seeds.iter().filter(|_| !void) {
        if matches!(slots.state(*slot)?, SlotState::Absent) {
            slots.keep_seed(*slot, seed, identity)?;
        }
    }
    let (roster, proposer) = (state.roster(), identity.name().clone());
    let next = NextKey { board, roster, proposer, recovery: false };
    next.store(home, &key, identity)?;
    Ok(Some(next))
}

/// Whether a sealed share is this governor's of `board`.
///
/// One that is damaged is none of any board, and stops nothing: it may be what is to be repaired.
fn fits(cipher: &[u8], path: &Path, board: &Board, identity: &Identity) -> bool {
    let Ok(plain) = identity.unseal(cipher, &path.display().to_string()) else { return false };
    let secret = SecretBytes::new(plain.to_vec());
    KeyShare::from_secret(board, identity.name(), &secret).is_ok()
}

/// Takes the old key into use again, where vetoes killed the change that had replaced it: its share
/// goes back, and the slots of the dead key are as if they had never been, for another attempt makes
/// another key of the same epoch. Each step can be done again. Whether anything was done.
fn restore_past(home: &Home, in_force: &Board, identity: &Identity) -> Result<bool, Failure> {
    let to = home.governor("share.age");
    let further = further_past(home)?;
    let all = core::iter::once(home.governor(PAST)).chain(further.iter().cloned());
    let mut found = None;
    for path in all {
        if let Some(old) = durable::read(&path, SHARE_MAX)?
            && fits(&old, &path, in_force, identity)
        {
            found = Some((path, old));
            break;
        }
    }
    let Some((past, old)) = found else { return Ok(false) };
    let laid = durable::read(&to, SHARE_MAX)?;
    let is_back = match &laid {
        Some(cipher) => fits(cipher, &to, in_force, identity),
        None => false,
    };
    if !is_back {
        // Its policy may come back, by what is built upon it or by the governor's word: see `found`.
        if let Some(replaced) = laid {
            // The last of the changes upon this key made it, one for each share that is set aside at most.
            let changes = u32::try_from(1 + further.len()).unwrap_or(u32::MAX);
            let epoch = KeyEpoch(in_force.epoch().0.saturating_add(changes));
            keep_dead(home, epoch, &replaced)?;
        }
        durable::write(&to, &old)?;
    }
    if let Some(next) = NextKey::load(home)? {
        // It died while its share was being laid.
        next.lay_down(home)?;
    }
    // So did each change upon it.
    for epoch in (in_force.epoch().0 + 1..).take(1 + further.len()) {
        Slots::new(home).forget(KeyEpoch(epoch))?;
    }
    let is_first = past == home.governor(PAST);
    durable::erase(&past)?;
    if is_first {
        // What replaced it stays where `share` finds it, as the last one does; nodes hold nothing back.
        durable::erase(&home.governor("past.json"))?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests;

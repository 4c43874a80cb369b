//! The vote slots on the disk: one seed, one intent, one ballot, in this order and never back.
//!
//! ```text
//!            begin               cast: write, fsync, rename,        erase the seed
//!   Fresh ─────────▶ Begun ───── fsync folder, read back, verify ─▶ Cast ──────────▶ sent
//!   seed             seed, intent                                   ballot
//! ```
//!
//! What always holds, wherever the program is killed or the disk is full:
//!  1. no share is computed before the intent is on the disk;
//!  2. nothing is sent before the ballot is on the disk, read back, and the seed is gone;
//!  3. the ballot follows from seed and intent alone, so a vote that was cut off makes the same
//!     bytes again;
//!  4. a slot with a ballot returns that ballot for ever.
//!
//! An intent to approve whose ballot was never stored may be finished, or turned into a rejection:
//! until the seed is erased nothing was sent, and a rejection contains no share, so no second
//! message is ever signed with the slot's nonces. It may *not* become an approval of another
//! document: the share for the first may have survived somewhere (in an unfinished file that a
//! backup copied), and two shares made of one nonce give the key away. An intent to reject stays
//! one: its unfinished ballot may have been copied too, and then the governor would have spoken
//! twice.
//!
//! On boards that vote in two touches the ballot publishes nonces instead of shares, and each session
//! goes the same way with files of its own, N counting from 0:
//!
//! ```text
//! draw nonce N ─▶ … ─▶ draw nonce N+1 ─▶ bound-N.json ─▶ share-N.json, read back ─▶ erase nonce N
//! ```
//!
//! A nonce that is bound is never bound to another session, and its share comes out the same again.

use std::collections::BTreeSet;

use borgios_policy::session::Bound;
use borgios_policy::vote::Intent;
use borgios_policy::{Ballot, Board, Lane, Object as _, Seed, Slot, Vote};
use borgios_types::limits::ENVELOPE_MAX;
use borgios_types::{Digest, Envelope, KeyEpoch, Round, Seq};
use rand::rngs::OsRng;

use crate::durable;
use crate::failure::{Failure, OrFail as _};
use crate::home::Home;
use crate::identity::Identity;

/// Largest seed or intent file, in bytes.
const FILE_MAX: usize = 256 * 1024;

/// The next step where a slot's file cannot be read. Without it the slot looks unused, and a second vote in
/// it can give the key away.
const DAMAGED: &str = "do not remove it: put it back from a copy of this folder, or lay a backup back with \
                       `borgios governor restore`, which voids the nonces that lie here";

/// What the disk says about one slot.
#[derive(Debug)]
pub(crate) enum SlotState {
    /// Its seed waits; nothing was begun.
    Fresh,
    /// A vote was begun and cut off before its ballot was stored.
    Begun(Intent),
    /// Its ballot is stored.
    Cast(Envelope),
    /// Nothing is here: its pool was made elsewhere, or its seed is lost.
    Absent,
}

/// The slots of one governor. The caller holds the home's lock.
#[derive(Clone, Debug)]
pub(crate) struct Slots<'a> {
    home: &'a Home,
}

impl<'a> Slots<'a> {
    /// The slots in this folder.
    pub(crate) fn new(home: &'a Home) -> Self {
        Self { home }
    }

    /// What the disk says about `slot`.
    pub(crate) fn state(&self, slot: Slot) -> Result<SlotState, Failure> {
        if let Some(ballot) = self.ballot(slot)? {
            return Ok(SlotState::Cast(ballot));
        }
        let path = self.path(slot, "intent.json");
        if let Some(bytes) = durable::read(&path, FILE_MAX)? {
            let intent = serde_json::from_slice(&bytes)
                .or_fail(|| damaged(&path))
                .map_err(|failure| failure.hint(DAMAGED))?;
            return Ok(SlotState::Begun(intent));
        }
        let seed = self.path(slot, "seed.age");
        Ok(if seed.exists() { SlotState::Fresh } else { SlotState::Absent })
    }

    /// The same under the key of `board`: a ballot that was set aside with a key that was given up counts
    /// if that very key came back. It was sent, and a governor speaks once.
    pub(crate) fn state_under(&self, slot: Slot, board: &Board) -> Result<SlotState, Failure> {
        let state = self.state(slot)?;
        if !matches!(state, SlotState::Fresh | SlotState::Absent) {
            return Ok(state);
        }
        for path in durable::list(&self.home.slots())? {
            let aside = split(&path).filter(|(of, what)| {
                *of == slot && what.ends_with(".ballot.json") && what != "ballot.json"
            });
            if aside.is_some()
                && let Some(bytes) = durable::read(&path, ENVELOPE_MAX)?
            {
                let ballot = read_back(&path, &bytes)?;
                if Ballot::parse(&ballot).is_ok_and(|read| read.group == board.group()) {
                    return Ok(SlotState::Cast(ballot));
                }
            }
        }
        Ok(state)
    }

    /// The keys of which seeds or nonces lie here.
    pub(crate) fn epochs_with_seeds(&self) -> Result<BTreeSet<KeyEpoch>, Failure> {
        let all = durable::list(&self.home.slots())?.into_iter();
        let seed = |what: &str| what == "seed.age" || what.starts_with("nonce-");
        let found = all.filter_map(|path| split(&path).filter(|(_, what)| seed(what)));
        Ok(found.map(|(slot, _)| slot.epoch).collect())
    }

    /// The seed of `slot`, if it is still there.
    pub(crate) fn seed(&self, slot: Slot, identity: &Identity) -> Result<Option<Seed>, Failure> {
        self.unsealed(&self.path(slot, "seed.age"), identity)
    }

    fn unsealed(
        &self,
        path: &std::path::Path,
        identity: &Identity,
    ) -> Result<Option<Seed>, Failure> {
        let Some(cipher) = durable::read(path, FILE_MAX)? else { return Ok(None) };
        let plain = identity.unseal(&cipher, &path.display().to_string())?;
        let bytes = plain.as_slice().try_into().map_err(|_| {
            Failure::new(format!("{} holds {} bytes, expected 32", path.display(), plain.len()))
        })?;
        Ok(Some(Seed::from_bytes(bytes)))
    }

    /// Draws the seed of a slot that was never used, and stores it before anything of it is
    /// published.
    pub(crate) fn draw(&self, slot: Slot, identity: &Identity) -> Result<Seed, Failure> {
        let seed = Seed::random(&mut OsRng);
        self.keep_seed(slot, &seed, identity)?;
        Ok(seed)
    }

    /// Stores a seed that was drawn elsewhere: in the founding.
    pub(crate) fn keep_seed(
        &self,
        slot: Slot,
        seed: &Seed,
        identity: &Identity,
    ) -> Result<(), Failure> {
        durable::write(&self.path(slot, "seed.age"), &identity.seal(seed.expose())?)
    }

    /// 1. What this slot is used for, on the disk before anything is computed.
    pub(crate) fn begin(&self, slot: Slot, intent: &Intent) -> Result<(), Failure> {
        let text = serde_json::to_vec(intent).or_fail(|| "could not encode the intent")?;
        durable::write(&self.path(slot, "intent.json"), &text)
    }

    /// 2. The ballot, stored and read back.
    pub(crate) fn cast(&self, slot: Slot, ballot: &Envelope) -> Result<Envelope, Failure> {
        durable::write(&self.path(slot, "ballot.json"), ballot.to_json().as_bytes())?;
        let again = self.ballot(slot)?;
        again.filter(|again| again == ballot).ok_or_else(|| {
            Failure::new(format!("the ballot for {slot} was not read back as it was written"))
                .hint("the disk is not to be trusted; nothing was sent. Check it and vote again")
        })
    }

    /// 3. Destroys the seed of a slot whose ballot is stored.
    pub(crate) fn erase(&self, slot: Slot) -> Result<(), Failure> {
        assert!(
            matches!(self.ballot(slot), Ok(Some(_))),
            "the seed of {slot} is erased only after its ballot is stored"
        );
        durable::erase(&self.path(slot, "seed.age"))
    }

    /// The stored ballot of `slot`.
    pub(crate) fn ballot(&self, slot: Slot) -> Result<Option<Envelope>, Failure> {
        let path = self.path(slot, "ballot.json");
        let Some(bytes) = durable::read(&path, ENVELOPE_MAX)? else { return Ok(None) };
        read_back(&path, &bytes).map(Some)
    }

    /// Every stored ballot.
    pub(crate) fn ballots(&self) -> Result<Vec<Envelope>, Failure> {
        let mut ballots = Vec::new();
        for path in durable::list(&self.home.slots())? {
            if !path.to_string_lossy().ends_with(".ballot.json") {
                continue;
            }
            if let Some(bytes) = durable::read(&path, ENVELOPE_MAX)? {
                ballots.push(read_back(&path, &bytes)?);
            }
        }
        Ok(ballots)
    }

    /// Every stored share.
    pub(crate) fn shares(&self) -> Result<Vec<Envelope>, Failure> {
        let mut shares = Vec::new();
        for path in durable::list(&self.home.slots())? {
            let Some((_, what)) = split(&path) else { continue };
            let numbered = what.starts_with("share-") && what.ends_with(".json");
            if !numbered && !what.ends_with(".share.json") {
                continue;
            }
            if let Some(bytes) = durable::read(&path, ENVELOPE_MAX)? {
                shares.push(read_back(&path, &bytes)?);
            }
        }
        Ok(shares)
    }

    /// The slots whose ballot is stored and whose seed is still there.
    pub(crate) fn unerased(&self) -> Result<Vec<Slot>, Failure> {
        let mut slots = Vec::new();
        for path in durable::list(&self.home.slots())? {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            let slot = name.as_deref().and_then(|name| parse(name.strip_suffix(".seed.age")?));
            let Some(slot) = slot else { continue };
            if self.ballot(slot)?.is_some() {
                slots.push(slot);
            }
        }
        Ok(slots)
    }

    /// The seed of the nonces `number` of a slot, if it is there.
    pub(crate) fn nonce(
        &self,
        slot: Slot,
        number: u32,
        identity: &Identity,
    ) -> Result<Option<Seed>, Failure> {
        self.unsealed(&self.path(slot, &format!("nonce-{number}.age")), identity)
    }

    /// The same, drawn and stored if it was never there.
    pub(crate) fn nonce_or_draw(
        &self,
        slot: Slot,
        number: u32,
        identity: &Identity,
    ) -> Result<Seed, Failure> {
        if let Some(seed) = self.nonce(slot, number, identity)? {
            return Ok(seed);
        }
        let seed = Seed::random(&mut OsRng);
        let path = self.path(slot, &format!("nonce-{number}.age"));
        durable::write(&path, &identity.seal(seed.expose())?)?;
        Ok(seed)
    }

    /// What the nonces `number` are bound to, if to anything.
    pub(crate) fn bound(&self, slot: Slot, number: u32) -> Result<Option<Bound>, Failure> {
        let path = self.path(slot, &format!("bound-{number}.json"));
        let Some(bytes) = durable::read(&path, FILE_MAX)? else { return Ok(None) };
        serde_json::from_slice(&bytes)
            .map(Some)
            .or_fail(|| damaged(&path))
            .map_err(|failure| failure.hint(DAMAGED))
    }

    /// Binds nonces to a session, on the disk before anything is computed.
    pub(crate) fn bind(&self, bound: &Bound) -> Result<(), Failure> {
        let what = format!("bound-{}.json", bound.number);
        assert!(
            matches!(self.bound(bound.slot, bound.number), Ok(None)),
            "nonces are bound once and for all"
        );
        let text = serde_json::to_vec(bound).or_fail(|| "could not encode the binding")?;
        durable::write(&self.path(bound.slot, &what), &text)
    }

    /// The stored share that was made with the nonces `number`.
    pub(crate) fn share(&self, slot: Slot, number: u32) -> Result<Option<Envelope>, Failure> {
        let path = self.path(slot, &format!("share-{number}.json"));
        let Some(bytes) = durable::read(&path, ENVELOPE_MAX)? else { return Ok(None) };
        read_back(&path, &bytes).map(Some)
    }

    /// Stores a share, reads it back, and destroys its nonces.
    pub(crate) fn keep_share(
        &self,
        slot: Slot,
        number: u32,
        share: &Envelope,
    ) -> Result<(), Failure> {
        let path = self.path(slot, &format!("share-{number}.json"));
        durable::write(&path, share.to_json().as_bytes())?;
        if self.share(slot, number)?.as_ref() != Some(share) {
            return Err(Failure::new(format!("{} was not read back", path.display()))
                .hint("the disk is not to be trusted; nothing was sent. Check it and sync again"));
        }
        self.erase_nonce(slot, number)
    }

    /// Destroys nonces whose share is stored, or that nobody needs any more.
    pub(crate) fn erase_nonce(&self, slot: Slot, number: u32) -> Result<(), Failure> {
        durable::erase(&self.path(slot, &format!("nonce-{number}.age")))
    }

    /// Every slot and number of which nonces lie here.
    pub(crate) fn nonces(&self) -> Result<Vec<(Slot, u32)>, Failure> {
        let mut found = Vec::new();
        for path in durable::list(&self.home.slots())? {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            found.extend(name.as_deref().and_then(|name| {
                let (slot, number) = name.strip_suffix(".age")?.split_once(".nonce-")?;
                Some((parse(slot)?, number.parse().ok()?))
            }));
        }
        Ok(found)
    }

    /// Makes an epoch's slots as if they had never been: for a key that was given up before it was
    /// in force. Its ballots and shares stay on record, under other names: they were this machine's.
    pub(crate) fn forget(&self, epoch: KeyEpoch) -> Result<(), Failure> {
        for path in durable::list(&self.home.slots())? {
            let Some((slot, what)) = split(&path).filter(|(slot, _)| slot.epoch == epoch) else {
                continue;
            };
            let part = |prefix: &str| what.starts_with(prefix);
            let kind = match what.as_str() {
                "ballot.json" => Some("ballot"),
                _ if part("share-") => Some("share"),
                _ => None,
            };
            if let Some(kind) = kind
                && let Some(bytes) = durable::read(&path, ENVELOPE_MAX)?
            {
                let id = Digest::of(&bytes).hex();
                durable::write(&self.path(slot, &format!("{}.{kind}.json", &id[..16])), &bytes)?;
            }
            if ["seed.age", "intent.json", "ballot.json"].contains(&what.as_str())
                || part("nonce-")
                || part("bound-")
                || part("share-")
            {
                durable::erase(&path)?;
            }
        }
        // A burn of its nonces that was written down and not said is of no use to the next attempt.
        durable::erase(&self.home.generation(epoch))
    }

    /// Takes a ballot that another copy of this folder cast for this slot's; one of its own stays.
    pub(crate) fn adopt(&self, slot: Slot, ballot: &Envelope) -> Result<(), Failure> {
        if self.ballot(slot)?.as_ref() == Some(ballot) {
            return Ok(());
        }
        let what = match self.ballot(slot)? {
            None => "ballot.json".to_owned(),
            // Two ballots in one slot: the harm is done, and both are on record.
            Some(_) => format!("{}.ballot.json", &ballot.id().hex()[..16]),
        };
        durable::write(&self.path(slot, &what), ballot.to_json().as_bytes())
    }

    /// The same of a ballot on a board that is only proposed: beside whatever is cast in that slot.
    pub(crate) fn adopt_aside(&self, slot: Slot, ballot: &Envelope) -> Result<(), Failure> {
        if self.ballots()?.contains(ballot) {
            return Ok(());
        }
        let what = format!("{}.ballot.json", &ballot.id().hex()[..16]);
        durable::write(&self.path(slot, &what), ballot.to_json().as_bytes())
    }

    /// Takes a share that another copy of this folder gave: it is on record here from now on.
    pub(crate) fn adopt_share(&self, slot: Slot, share: &Envelope) -> Result<(), Failure> {
        let what = format!("{}.share.json", &share.id().hex()[..16]);
        durable::write(&self.path(slot, &what), share.to_json().as_bytes())
    }

    /// Destroys the seeds of all slots of this epoch, and its nonces. Those that are bound too: another
    /// copy may have bound the same ones to another session. Without its seed an approval that was begun
    /// and not stored can never be finished, and nothing of it was sent: its intent goes as well.
    pub(crate) fn burn(&self, epoch: KeyEpoch) -> Result<(), Failure> {
        for path in durable::list(&self.home.slots())? {
            if split(&path).is_some_and(|(slot, what)| slot.epoch == epoch && what == "seed.age") {
                durable::erase(&path)?;
            }
        }
        for (slot, number) in self.nonces()?.into_iter().filter(|(slot, _)| slot.epoch == epoch) {
            self.erase_nonce(slot, number)?;
        }
        for path in durable::list(&self.home.slots())? {
            let begun = split(&path).filter(|(_, what)| what == "intent.json");
            let Some((slot, _)) = begun.filter(|(slot, _)| slot.epoch == epoch) else { continue };
            let goes = match self.state(slot) {
                Ok(SlotState::Begun(intent)) => !matches!(intent.vote, Vote::Reject { .. }),
                Ok(SlotState::Cast(_) | SlotState::Fresh | SlotState::Absent) => false,
                // Damaged: what it began can no more be made. A rejection may have been said; then there is
                // a ballot on record.
                Err(_) => self.ballot(slot).is_ok_and(|ballot| ballot.is_none()),
            };
            if goes {
                durable::erase(&path)?;
            }
        }
        Ok(())
    }

    /// Destroys the seeds of all epochs before this one: their key is out of use.
    pub(crate) fn retire(&self, before: KeyEpoch) -> Result<(), Failure> {
        for path in durable::list(&self.home.slots())? {
            let old = split(&path).filter(|(slot, _)| slot.epoch < before);
            if old.is_some_and(|(_, what)| what == "seed.age" || what.starts_with("nonce-")) {
                durable::erase(&path)?;
            }
        }
        Ok(())
    }

    fn path(&self, slot: Slot, what: &str) -> std::path::PathBuf {
        self.home.slots().join(format!("{slot}.{what}"))
    }
}

fn damaged(path: &std::path::Path) -> String {
    format!("{} is damaged", path.display())
}

/// A ballot or share of this machine's own.
fn read_back(path: &std::path::Path, bytes: &[u8]) -> Result<Envelope, Failure> {
    let read = Envelope::parse(bytes).or_fail(|| damaged(path));
    read.map_err(|failure| failure.hint(DAMAGED))
}

/// A file's slot, and which of its files it is.
fn split(path: &std::path::Path) -> Option<(Slot, String)> {
    let name = path.file_name()?.to_str()?;
    let (slot, what) = name.split_once('.')?;
    Some((parse(slot)?, what.to_owned()))
}

/// Reads `<epoch>-<lane>-<seq>-<round>`.
pub(crate) fn parse(text: &str) -> Option<Slot> {
    let mut parts = text.split('-');
    let mut next = || parts.next();
    let slot = Slot {
        epoch: KeyEpoch(next()?.parse().ok()?),
        lane: next()?.parse::<Lane>().ok()?,
        seq: Seq(next()?.parse().ok()?),
        round: Round(next()?.parse().ok()?),
    };
    (parts.next().is_none() && slot.to_string() == text).then_some(slot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_names_the_next_step() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(Some(folder.path().to_owned())).unwrap();
        durable::folder(&home.slots()).unwrap();
        let (slots, slot) = (Slots::new(&home), parse("1-release-42-0").unwrap());
        for what in ["intent.json", "ballot.json"] {
            durable::write(&slots.path(slot, what), b"{").unwrap();
            let said = slots.state(slot).unwrap_err().to_text();
            assert!(said.contains("is damaged") && said.contains("hint: do not remove"), "{said}");
        }
        assert!(slots.ballots().unwrap_err().to_text().contains("hint: do not remove"));
    }

    /// A key that was given up and came back: what was sent under it was said.
    #[test]
    fn a_ballot_set_aside_with_its_key_counts_again_with_that_key_alone() {
        use borgios_policy::fixture::{Council, release_body, statement};

        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(Some(folder.path().to_owned())).unwrap();
        durable::folder(&home.slots()).unwrap();
        let slots = Slots::new(&home);
        let [council, other] = [1, 2].map(|seed| Council::new(3, 2, 1, seed));
        let network = Some(Digest::of(b"network"));
        let release = statement(Lane::Release, 1, network, None, Some(1), release_body("1"));
        let slot = council.slot(&release);
        let ballot = council.reject(&council.name(0), &release);
        slots.cast(slot, &ballot).unwrap();
        slots.forget(slot.epoch).unwrap();
        assert!(matches!(slots.state(slot).unwrap(), SlotState::Absent));
        let found = slots.state_under(slot, &council.board).unwrap();
        assert!(matches!(found, SlotState::Cast(found) if found == ballot));
        assert!(matches!(slots.state_under(slot, &other.board).unwrap(), SlotState::Absent));
    }

    #[test]
    fn only_the_names_of_slots_are_slots() {
        let slot = parse("1-release-42-0").unwrap();
        assert_eq!(slot.to_string(), "1-release-42-0");
        for bad in ["", "1-release-42", "1-release-42-0-0", "01-release-42-0", "1-box-1-0"] {
            assert!(parse(bad).is_none(), "{bad:?}");
        }
    }
}

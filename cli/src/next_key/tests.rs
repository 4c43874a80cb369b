//! Shares of several keys in one folder: which of them lies where, after what.

use borgios_policy::fixture::{Council, NOW};

use super::*;

const LOCK_S: u64 = 604_800;

/// Three keys, one after the other, of which this governor has a share.
struct Three {
    _folder: tempfile::TempDir,
    home: Home,
    identity: Identity,
    councils: Vec<Council>,
}

impl Three {
    /// The first is in force.
    fn at_first() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(Some(folder.path().to_owned())).unwrap();
        let councils = [1, 2, 3].map(|epoch| Council::new(3, 2, epoch, u64::from(epoch)));
        let identity = Identity::drawn(councils[0].name(0));
        let all = Self { _folder: folder, home, identity, councils: councils.into() };
        let first = all.identity.seal(all.key(0).to_secret().expose()).unwrap();
        durable::folder(&all.home.slots()).unwrap();
        durable::write(&all.home.governor("share.age"), &first).unwrap();
        all
    }

    /// The first was in force, and both changes came within the lock of the first.
    fn after_two_changes() -> Self {
        let all = Self::at_first();
        for (at, when) in [(1, NOW), (2, NOW.plus(3_600))] {
            all.make_next(at);
            assert!(all.adopt(at, when));
        }
        all
    }

    fn key(&self, at: usize) -> &KeyShare {
        &self.councils[at].shares[self.identity.name()]
    }

    fn adopt(&self, at: usize, now: UnixSeconds) -> bool {
        self.outcome(at, now) == Adopted::Laid
    }

    fn outcome(&self, at: usize, now: UnixSeconds) -> Adopted {
        adopt(&self.home, (&self.councils[at].board, 0), &self.identity, now, LOCK_S).unwrap()
    }

    /// Lays a key as a change does at its end.
    fn make_next(&self, at: usize) {
        let board = self.councils[at].board.clone();
        let (roster, proposer) = (Digest::of(b"plan"), self.identity.name().clone());
        let next = NextKey { board, roster, proposer, recovery: false };
        next.store(&self.home, self.key(at), &self.identity).unwrap();
    }

    /// Whether `share.age` is of this key.
    fn is_laid(&self, at: usize) -> bool {
        let path = self.home.governor("share.age");
        let laid = durable::read(&path, SHARE_MAX).unwrap();
        laid.is_some_and(|cipher| fits(&cipher, &path, &self.councils[at].board, &self.identity))
    }

    /// Which of the boards' shares can be read.
    fn readable(&self) -> Vec<bool> {
        let me = self.identity.name();
        let share = |one: &Council| share(&self.home, &one.board, me, &self.identity).is_ok();
        self.councils.iter().map(share).collect()
    }
}

#[test]
fn a_second_change_within_the_lock_of_the_first_keeps_the_share_that_servers_still_need() {
    let all = Three::after_two_changes();
    assert_eq!(all.readable(), [true; 3]);
    // The lock of the first is over, and that of the second is not.
    assert!(!all.adopt(2, NOW.plus(LOCK_S + 1)));
    assert_eq!(all.readable(), [true; 3]);
    assert!(is_held_back(&all.home));
    assert!(!all.adopt(2, NOW.plus(LOCK_S + 3_601)));
    assert_eq!(all.readable(), [false, false, true]);
    assert!(!is_held_back(&all.home));
}

#[test]
fn a_further_change_waits_for_the_lock_of_the_last_one() {
    let all = Three::after_two_changes();
    let until = NOW.plus(LOCK_S + 3_600);
    let refused = refuse_further(&all.home, NOW, "not now").unwrap_err().to_text();
    assert!(refused.contains(&format!("until {until}")), "{refused}");
    assert!(refused.contains("hint: wait until then"), "{refused}");
    assert!(refuse_further(&all.home, until, "not now").is_ok());
}

#[test]
fn vetoes_on_both_changes_bring_the_first_key_back() {
    let all = Three::after_two_changes();
    assert!(!all.adopt(0, NOW.plus(7_200)));
    assert!(all.readable()[0]);
    let laid = durable::read(&all.home.governor("share.age"), SHARE_MAX).unwrap().unwrap();
    let path = all.home.governor("share.age");
    assert!(fits(&laid, &path, &all.councils[0].board, &all.identity));
    // It is as it was before the first.
    assert!(!is_held_back(&all.home));
    assert!(!all.adopt(0, NOW.plus(7_300)));
}

/// What vetoes took out of use comes back where somebody built upon it, or goes on from it.
#[test]
fn a_key_that_comes_back_is_laid_where_the_next_change_looks_for_it() {
    let all = Three::after_two_changes();
    assert!(!all.adopt(0, NOW.plus(7_200)));
    assert_eq!(all.readable(), [true; 3]);
    assert!(all.adopt(2, NOW.plus(7_300)));
    let path = all.home.governor("share.age");
    let laid = durable::read(&path, SHARE_MAX).unwrap().unwrap();
    assert!(fits(&laid, &path, &all.councils[2].board, &all.identity));
    for gone in ["next.age", "next.json"] {
        assert!(!all.home.governor(gone).exists(), "{gone}");
    }
    // Its first nonces are gone, and out: a burn will say so.
    let generation = all.home.generation(KeyEpoch(3));
    assert_eq!(durable::read(&generation, 9).unwrap().unwrap(), b"1");
    assert!(!all.adopt(2, NOW.plus(7_400)));
    assert_eq!(durable::read(&generation, 9).unwrap().unwrap(), b"1");
    // Servers may still turn to the first.
    assert!(all.readable()[0] && is_held_back(&all.home));
}

/// Who was away hears of two changes at once, and sits on the second board no more: nodes that hold that one
/// back have the first, and may keep it.
#[test]
fn a_key_that_was_in_force_while_this_machine_was_away_is_kept() {
    let all = Three::at_first();
    all.make_next(1);
    assert!(!all.adopt(2, NOW));
    assert_eq!(all.readable(), [true, true, false]);
    // Vetoes took the second change back.
    assert!(all.adopt(1, NOW.plus(60)));
    assert!(all.is_laid(1));
    assert_eq!(all.readable(), [true, true, false]);
    // The nonces of the key went when it was laid down, and are out.
    let generation = all.home.generation(KeyEpoch(2));
    assert_eq!(durable::read(&generation, 9).unwrap().unwrap(), b"1");
}

/// The lock of a change is over at each laptop at a time of its own: the next one may have begun elsewhere, go
/// on without a governor who gave its key up, and come into force.
#[test]
fn a_key_of_the_next_change_that_was_given_up_outlives_the_lock_of_the_last_one() {
    let all = Three::at_first();
    all.make_next(1);
    assert!(all.adopt(1, NOW));
    all.make_next(2);
    NextKey::load(&all.home).unwrap().unwrap().lay_down(&all.home).unwrap();
    assert!(!all.adopt(1, NOW.plus(LOCK_S + 1)));
    assert!(!is_held_back(&all.home));
    assert_eq!(all.readable(), [false, true, true]);
    assert!(all.adopt(2, NOW.plus(LOCK_S + 60)));
    assert!(all.is_laid(2));
    // Its own lock is over: it is in use, and nothing else is left.
    assert!(!all.adopt(2, NOW.plus(2 * LOCK_S + 120)));
    assert_eq!(all.readable(), [false, false, true]);
    assert!(dead_shares(&all.home).unwrap().is_empty());
}

/// Without a lock no node holds a change back, and nothing brings such a key back.
#[test]
fn without_a_lock_a_key_whose_place_went_to_another_leaves_no_share() {
    let all = Three::at_first();
    let adopt =
        |at: usize| adopt(&all.home, (&all.councils[at].board, 0), &all.identity, NOW, 0).unwrap();
    // Away for a whole change.
    all.make_next(1);
    assert_eq!(adopt(2), Adopted::Nothing);
    assert_eq!(all.readable(), [true, false, false]);
    // Given up by its governor: it may come into force all the same, until another one did.
    all.make_next(1);
    NextKey::load(&all.home).unwrap().unwrap().lay_down(&all.home).unwrap();
    assert_eq!(all.readable(), [true, true, false]);
    all.make_next(2);
    assert_eq!(adopt(2), Adopted::Laid);
    assert_eq!(all.readable(), [false, false, true]);
}

/// As `governor change --give-up` leaves it where it is cut off, or a disk that went bad.
#[test]
fn a_share_that_is_gone_is_looked_for_elsewhere_and_shuts_nobody_out() {
    for (zeroed, dead) in [(true, true), (false, true), (true, false), (false, false)] {
        let all = Three::at_first();
        all.make_next(1);
        let path = all.home.governor("next.age");
        let cipher = durable::read(&path, SHARE_MAX).unwrap().unwrap();
        if dead {
            keep_dead(&all.home, KeyEpoch(2), &cipher).unwrap();
        }
        if zeroed {
            durable::write(&path, &vec![0; cipher.len()]).unwrap();
        } else {
            durable::erase(&path).unwrap();
        }
        let outcome = all.outcome(1, NOW);
        assert_eq!(outcome, if dead { Adopted::Laid } else { Adopted::Lost }, "{zeroed}");
        assert_eq!(all.is_laid(1), dead);
        // The nodes may hold the change back, and a repair writes over what is laid.
        assert!(is_held_back(&all.home) && all.home.governor(PAST).exists());
        assert_eq!(all.readable(), [true, dead, false], "{zeroed}");
        for gone in ["next.age", "next.json"] {
            assert!(!all.home.governor(gone).exists(), "{gone}");
        }
        assert_eq!(all.outcome(1, NOW.plus(60)), Adopted::Nothing);
        // Vetoes bring the first back all the same.
        assert!(!all.adopt(0, NOW.plus(120)) && all.is_laid(0) && !is_held_back(&all.home));
    }
}

/// A key whose giving up was cut off is given up, and one that is damaged is no key to go on with.
#[test]
fn a_note_without_its_share_is_no_key() {
    let all = Three::at_first();
    all.make_next(1);
    let load = || NextKey::load(&all.home).unwrap();
    let whole = |next: NextKey| next.if_whole(&all.home, &all.identity).unwrap();
    assert!(whole(load().unwrap()).is_some() && load().is_some());
    let path = all.home.governor("next.age");
    keep_dead(&all.home, KeyEpoch(2), &durable::read(&path, SHARE_MAX).unwrap().unwrap()).unwrap();
    durable::erase(&path).unwrap();
    assert!(whole(load().unwrap()).is_none() && load().is_none());
    // It may come into force all the same.
    assert_eq!(all.readable(), [true, true, false]);
}

/// As a kill or a power cut leaves a note between the zeros and the unlink of its erasing: it locks nobody out.
#[test]
fn a_note_whose_erasing_was_cut_off_is_gone() {
    let all = Three::at_first();
    all.make_next(1);
    assert!(all.adopt(1, NOW));
    let [next, past] = ["next.json", "past.json"].map(|note| all.home.governor(note));
    durable::write(&next, &[0; 300]).unwrap();
    assert_eq!(all.outcome(1, NOW.plus(60)), Adopted::Nothing);
    assert!(all.is_laid(1) && is_held_back(&all.home));
    // And that is the end of it.
    assert!(!next.exists());
    durable::write(&past, &[0; 20]).unwrap();
    assert!(!is_held_back(&all.home));
    assert!(held_back_until(&all.home).unwrap().is_none());
    assert!(refuse_further(&all.home, NOW.plus(60), "not now").is_ok());
    assert_eq!(all.outcome(1, NOW.plus(60)), Adopted::Nothing);
    // What is damaged otherwise is said, and holds back.
    for damaged in [&b""[..], b"{", b"\0{"] {
        durable::write(&past, damaged).unwrap();
        assert!(is_held_back(&all.home) && held_back_until(&all.home).is_err());
        durable::write(&next, damaged).unwrap();
        assert!(NextKey::load(&all.home).is_err() && next.exists());
    }
}

/// What a founding leaves behind goes once its share lies where votes look for it, and not before.
#[test]
fn the_state_of_a_founding_goes_with_its_last_use() {
    let all = Three::at_first();
    let (path, boards) = (all.home.governor("founding.age"), [&all.councils[0].board]);
    let lay = |at: usize| {
        let made = serde_json::json!({
            "board": all.councils[at].board, "transcript": Digest::of(b"t"),
            "key": all.key(at).to_secret(), "seeds": [],
        });
        let state = serde_json::json!({
            "roster": Digest::of(b"plan"), "phase": {"keyed": {"made": made}}, "wrote": {},
            "answered": {},
        });
        let state: borgios_policy::Ceremony = serde_json::from_value(state).unwrap();
        ceremony::save_state(&path, &state, &all.identity).unwrap();
    };
    let end = || end_founding(&all.home, boards[0], &boards, &all.identity).unwrap();
    // The key of another founding.
    lay(1);
    end();
    assert!(path.exists());
    // The only copy.
    let laid = all.home.governor("share.age");
    let kept = durable::read(&laid, SHARE_MAX).unwrap().unwrap();
    durable::erase(&laid).unwrap();
    lay(0);
    end();
    assert!(path.exists());
    durable::write(&laid, &kept).unwrap();
    end();
    assert!(!path.exists());
    // Cut off while it was erased.
    durable::write(&path, &[0; 100]).unwrap();
    end();
    assert!(!path.exists());
}

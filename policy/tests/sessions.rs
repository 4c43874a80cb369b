//! Two-touch votes of boards too large for one: silence, garbage, races, and nonces used twice.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod governors;

use std::collections::{BTreeMap, BTreeSet};

use borgios_policy::fixture::{Council, NOW, release_body, statement};
use borgios_policy::session::{Bound, Member, SESSIONS_MAX, Session, SessionError};
use borgios_policy::{
    Ballot, Chain, Choice, Lane, Name, Object as _, OpenRound, Proof, SessionShare, Statement,
    Verdict, tally,
};
use borgios_types::{Digest, Envelope};
use governors::{Objects, PAPERS, Tool, garbage, nonce, of_kind, table};
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha20Rng;

/// The smallest board that votes in two touches, and the largest: n, t, and how many seeds.
const LARGE: [(u16, u16, u64); 2] = [(14, 8, 3), (21, 15, 1)];

/// A chain with policy/1, and a first release for it.
fn network(council: &Council) -> (Chain, Statement) {
    let policy = council.sign(&council.first_policy(council.board.threshold().0));
    let mut chain = Chain::new(Some(policy.id()));
    let Ok(Verdict::New(verified)) = chain.verify(NOW, &policy, &[]) else { panic!("refused") };
    chain.apply(*verified);
    let release =
        statement(Lane::Release, 1, Some(policy.id()), None, Some(1), release_body("1.0"));
    (chain, release)
}

fn put(objects: &mut Objects, envelope: Envelope) {
    objects.insert(envelope.id(), envelope);
}

/// Everyone approves, each seeing what the others published.
fn first_touches(council: &Council, document: &Statement) -> (Vec<Tool>, Objects) {
    let mut objects = Objects::new();
    let mut tools: Vec<Tool> = council.keys.keys().map(Tool::new).collect();
    for tool in &mut tools {
        let ballot = tool.vote(council, document, true, &objects, &BTreeSet::new()).unwrap();
        put(&mut objects, ballot);
    }
    (tools, objects)
}

/// T44: garbage from some and silence from others, n−t of them together, and in any order in which
/// people come online the signature is made, and exactly those who gave garbage are named.
#[test]
fn t44_garbage_and_silence_of_n_minus_t_stop_no_session_and_name_no_innocent() {
    for (n, t, seeds) in LARGE {
        for seed in 0..seeds {
            let mut rng = ChaCha20Rng::seed_from_u64(seed);
            let context = format!("{t} of {n}, seed {seed}");
            let council = Council::new(n, t, 1, seed);
            let (chain, document) = network(&council);
            let (slot, text) = (council.slot(&document), document.to_payload());
            let (mut tools, mut objects) = first_touches(&council, &document);
            tools.shuffle(&mut rng);
            let bad = usize::from(n - t);
            // Once for each board it is certain that there is a liar, and one who is asked: the first
            // name is in the first session.
            let certain = seed == 0;
            if certain {
                let first = tools.iter().position(|tool| tool.me == council.name(0)).unwrap();
                tools.swap(0, first);
            }
            let liars = rng.gen_range(usize::from(certain)..=bad);
            let liars: BTreeSet<Name> = tools[..liars].iter().map(|tool| tool.me.clone()).collect();
            let mut gave_garbage = BTreeSet::new();
            let silent: BTreeSet<Name> =
                tools[liars.len()..bad].iter().map(|tool| tool.me.clone()).collect();
            let mut turns = 0;
            let signed = loop {
                let state = table(&council, slot, &text, &objects);
                if let Some(signed) = state.signed() {
                    break signed.clone();
                }
                turns += 1;
                assert!(turns < 20 * usize::from(n), "{context}: no end");
                let asked = tools.iter().position(|tool| {
                    let owes = state.due(&tool.me).is_some();
                    owes && liars.contains(&tool.me) && !gave_garbage.contains(&tool.me)
                });
                let tool = match asked.filter(|_| certain) {
                    Some(at) => &mut tools[at],
                    None => tools.choose_mut(&mut rng).unwrap(),
                };
                if silent.contains(&tool.me) {
                    continue;
                }
                if liars.contains(&tool.me) {
                    let due = state.due(&tool.me);
                    if let Some((session, _)) = due {
                        let next = nonce(&council, &tool.me, slot, 99);
                        let forged = garbage(&council, &tool.me, session, &next);
                        put(&mut objects, forged);
                        gave_garbage.insert(tool.me.clone());
                    }
                    continue;
                }
                for envelope in tool.touch_two(&council, &document, &objects) {
                    put(&mut objects, envelope);
                }
            };
            let Ok(Verdict::New(_)) = chain.verify(NOW, &signed, &[]) else {
                panic!("{context}: refused")
            };
            let state = table(&council, slot, &text, &objects);
            let culprits: BTreeSet<Name> = state.culprits().map(|culprit| culprit.name).collect();
            assert_eq!(culprits, gave_garbage, "{context}: liars {liars:?}");
            assert!(!certain || !culprits.is_empty(), "{context}: nobody gave garbage");
            let sessions = of_kind(&objects, &[Session::KIND]).len();
            assert!(sessions <= 2 * bad + 1, "{context}: {sessions} sessions");
        }
    }
}

/// Order, duplicates and other people's objects change nothing.
#[test]
fn t36_the_order_of_arrival_changes_no_session() {
    let council = Council::new(14, 8, 1, 5);
    let (_, document) = network(&council);
    let (slot, text) = (council.slot(&document), document.to_payload());
    let (mut tools, mut objects) = first_touches(&council, &document);
    for tool in tools.iter_mut().take(5) {
        for envelope in tool.touch_two(&council, &document, &objects) {
            put(&mut objects, envelope);
        }
    }
    let next = nonce(&council, &tools[5].me, slot, 99);
    let sessions = of_kind(&objects, &[Session::KIND]).into_iter();
    let mut with = sessions
        .filter(|session| Session::parse(session).unwrap().members.contains_key(&tools[5].me));
    let session = with.next().unwrap();
    put(&mut objects, garbage(&council, &tools[5].me, &session, &next));
    let (ballots, mut papers) = (of_kind(&objects, &["ballot"]), of_kind(&objects, &PAPERS));
    let look = |papers: &[Envelope]| {
        let texts = [text.clone()];
        let tally = tally(&council.board, slot, &texts, papers, &ballots);
        let table =
            borgios_policy::session::Table::of(&council.board, slot, &text, &ballots, papers);
        let next: Vec<_> = tools.iter().map(|tool| table.next(&tool.me)).collect();
        (tally, next, table.awaited())
    };
    let expected = look(&papers);
    assert_eq!(expected.0.culprits[0].name, tools[5].me);
    assert!(!expected.2.contains(&tools[5].me), "nobody waits for a liar");
    let mut rng = ChaCha20Rng::seed_from_u64(7);
    for _ in 0..5 {
        papers.extend(papers.first().cloned());
        papers.shuffle(&mut rng);
        assert_eq!(look(&papers), expected);
    }
}

/// Two tools open different sessions at one time, half of the members answer each: both are dead, and
/// the next one ends.
#[test]
fn sessions_opened_at_one_time_cost_a_round_and_nobody_s_good_name() {
    let council = Council::new(14, 8, 1, 6);
    let (chain, document) = network(&council);
    let (slot, text) = (council.slot(&document), document.to_payload());
    let (mut tools, all) = first_touches(&council, &document);
    // The first tool knows ballots 0..8, the last one 6..14.
    let some = |range: core::ops::Range<usize>| {
        let ids: Vec<Digest> = tools[range].iter().map(|tool| tool.cast[&slot].id()).collect();
        all.iter().filter(|(id, _)| ids.contains(id)).map(|(id, e)| (*id, e.clone())).collect()
    };
    let (mut left, mut right): (Objects, Objects) = (some(0..8), some(6..14));
    for (view, range) in [(&mut left, 0..7), (&mut right, 7..14)] {
        for tool in &mut tools[range] {
            for envelope in tool.touch_two(&council, &document, view) {
                put(view, envelope);
            }
        }
    }
    let mut objects = all;
    objects.extend(left);
    objects.extend(right);
    assert_eq!(of_kind(&objects, &[Session::KIND]).len(), 2);
    let mut rng = ChaCha20Rng::seed_from_u64(8);
    for _ in 0..40 {
        tools.shuffle(&mut rng);
        for tool in &mut tools {
            for envelope in tool.touch_two(&council, &document, &objects) {
                put(&mut objects, envelope);
            }
        }
        if table(&council, slot, &text, &objects).signed().is_some() {
            break;
        }
    }
    let state = table(&council, slot, &text, &objects);
    let signed = state.signed().expect("signed after the race");
    assert!(matches!(chain.verify(NOW, signed, &[]), Ok(Verdict::New(_))));
    assert_eq!(state.culprits().count(), 0);
}

/// A governor who signs two sessions with one nonce is named with both shares, and counts no more.
#[test]
fn who_uses_nonces_twice_is_named_with_the_proof() {
    let council = Council::new(14, 8, 1, 9);
    let (_, document) = network(&council);
    let (slot, text) = (council.slot(&document), document.to_payload());
    let (mut tools, objects) = first_touches(&council, &document);
    // Two copies of one folder see different halves.
    let mut clone = tools[7].clone();
    let mut seen: Objects = objects.clone();
    for tool in [0, 13].map(|at| tools[at].cast[&slot].id()) {
        seen.remove(&tool);
    }
    let one = tools[7].touch_two(&council, &document, &objects);
    let other = clone.touch_two(&council, &document, &seen);
    let mut all = objects;
    for envelope in one.into_iter().chain(other) {
        put(&mut all, envelope);
    }
    let state = table(&council, slot, &text, &all);
    let culprits: Vec<_> = state.culprits().collect();
    assert_eq!(culprits.len(), 1);
    assert_eq!(culprits[0].name, clone.me);
    assert!(matches!(culprits[0].proof, Proof::TwoShares(_, _)));
    let next: Vec<_> = tools.iter().filter_map(|tool| state.next(&tool.me)).collect();
    assert_eq!(next.len(), 8, "each of its members would open it");
    assert!(next.iter().all(|session| *session == next[0]));
    assert!(!next[0].members.contains_key(&clone.me));
}

/// A liar who publishes another member's nonces as his own stops nobody: he cannot use them.
#[test]
fn who_copies_another_s_nonces_keeps_nobody_out() {
    let council = Council::new(14, 8, 1, 12);
    let (chain, document) = network(&council);
    let (slot, text) = (council.slot(&document), document.to_payload());
    let (mut tools, mut objects) = first_touches(&council, &document);
    // The first by name copies the second one's, so that both are in the first session.
    let copied = Ballot::parse(&tools[1].cast[&slot]).unwrap().choice;
    let own = Ballot::parse(&tools[0].cast[&slot]).unwrap();
    objects.remove(&tools[0].cast[&slot].id());
    let liar = tools.remove(0).me;
    let copy = Ballot { choice: copied, ..own }.to_envelope().sign(&council.keys[&liar]);
    put(&mut objects, copy);
    let first = table(&council, slot, &text, &objects).next(&liar).unwrap();
    assert!(first.members.contains_key(&liar) && first.members.contains_key(&tools[0].me));
    for _ in 0..4 {
        for tool in &mut tools {
            for envelope in tool.touch_two(&council, &document, &objects) {
                put(&mut objects, envelope);
            }
        }
    }
    let state = table(&council, slot, &text, &objects);
    let signed = state.signed().expect("signed without the liar");
    assert!(matches!(chain.verify(NOW, signed, &[]), Ok(Verdict::New(_))));
    assert_eq!(state.culprits().count(), 0, "silence is no crime");
}

/// Which nonces each approver would use next, from what was published.
#[derive(Default)]
struct Nonces(BTreeMap<Name, Member>);

impl Nonces {
    fn see(&mut self, envelope: &Envelope) {
        let from = envelope.id();
        if let Ok(share) = SessionShare::parse(envelope) {
            self.0.insert(share.governor, Member { from, commitment: share.next });
        } else if let Ok(ballot) = Ballot::parse(envelope)
            && let Choice::Commit { nonces: commitment } = ballot.choice
        {
            self.0.insert(ballot.governor, Member { from, commitment });
        }
    }

    /// A session that nobody's view of the objects led to.
    fn session(&self, council: &Council, of: &Statement, number: u32, who: &[Name]) -> Session {
        Session {
            group: council.board.group(),
            lane: of.lane,
            seq: of.seq,
            round: of.round,
            statement: Digest::of(of.to_payload().as_bytes()),
            number,
            members: who.iter().map(|name| (name.clone(), self.0[name].clone())).collect(),
        }
    }
}

/// Honest members go online one after another, `rounds` times each at most. Before the next one does,
/// each of the `hostile` opens a session of itself and honest members with the nonces that are new, and
/// never gives a share. Returns how often everybody was online until it was signed.
fn crowded_out(
    council: &Council,
    document: &Statement,
    hostile: &[usize],
    honest: &[usize],
    rounds: usize,
) -> Option<usize> {
    let needed = usize::from(council.board.threshold().0);
    let (slot, text) = (council.slot(document), document.to_payload());
    let (mut objects, mut nonces) = (Objects::new(), Nonces::default());
    let mut tools: Vec<Tool> = council.keys.keys().map(Tool::new).collect();
    for at in hostile.iter().chain(honest) {
        let none = BTreeSet::new();
        let ballot = tools[*at].vote(council, document, true, &objects, &none).unwrap();
        nonces.see(&ballot);
        put(&mut objects, ballot);
    }
    let names = |all: &[usize]| all.iter().map(|at| council.name(*at)).collect::<Vec<Name>>();
    let (liars, victims) = (names(hostile), names(honest));
    let react = |objects: &mut Objects, nonces: &Nonces, turn: usize| {
        for (at, liar) in liars.iter().enumerate() {
            // Each with others of them, and always with whoever was online last.
            let first = turn + victims.len() - at;
            let others = victims.iter().cycle().skip(first).take(needed - 1).cloned();
            let who: Vec<Name> = others.chain([liar.clone()]).collect();
            let session = nonces.session(council, document, 0, &who);
            put(objects, session.to_envelope().sign(&council.keys[liar]));
        }
    };
    react(&mut objects, &nonces, 0);
    for round in 0..rounds {
        for (turn, at) in honest.iter().enumerate() {
            for envelope in tools[*at].touch_two(council, document, &objects) {
                nonces.see(&envelope);
                put(&mut objects, envelope);
            }
            if table(council, slot, &text, &objects).signed().is_some() {
                return Some(round + 1);
            }
            react(&mut objects, &nonces, turn);
        }
    }
    None
}

/// A liar who opens the next session of itself and the others as soon as they are free, and never
/// gives a share, stops nobody: it owes one already, so no further one with it stands.
#[test]
fn who_opens_sessions_without_end_and_never_signs_stops_nobody() {
    let council = Council::new(14, 8, 1, 13);
    let (_, document) = network(&council);
    let honest: Vec<usize> = (0..14).filter(|at| *at != 4).take(8).collect();
    for liar in [4, 13] {
        let rounds = crowded_out(&council, &document, &[liar], &honest, 12);
        assert!(rounds.is_some_and(|rounds| rounds <= 3), "{rounds:?}");
    }
}

/// Nor do n−t of them together: each session that is begun and hangs takes one of them out.
#[test]
fn n_minus_t_who_open_sessions_without_end_stop_nobody() {
    let council = Council::new(14, 8, 1, 14);
    let (_, document) = network(&council);
    for liars in [0..6, 8..14, 4..10] {
        let honest: Vec<usize> = (0..14).filter(|at| !liars.contains(at)).collect();
        let liars: Vec<usize> = liars.collect();
        let rounds = crowded_out(&council, &document, &liars, &honest, 12);
        assert!(rounds.is_some_and(|rounds| rounds <= 3), "{liars:?}: {rounds:?}");
    }
}

/// After so many no session of a governor stands any more, and nobody is waited for in one.
#[test]
fn who_opens_too_many_sessions_is_no_longer_followed() {
    let council = Council::new(14, 8, 1, 15);
    let (_, document) = network(&council);
    let (slot, text) = (council.slot(&document), document.to_payload());
    let (tools, mut objects) = first_touches(&council, &document);
    let mut nonces = Nonces::default();
    objects.values().for_each(|ballot| nonces.see(ballot));
    let (liar, me) = (tools[0].me.clone(), tools[1].me.clone());
    let who: Vec<Name> = tools[..8].iter().map(|tool| tool.me.clone()).collect();
    let open = |number: usize| {
        let number = u32::try_from(number).unwrap();
        let session = nonces.session(&council, &document, number, &who);
        session.to_envelope().sign(&council.keys[&liar])
    };
    for number in 0..SESSIONS_MAX {
        put(&mut objects, open(number));
    }
    // Of all that name the same members one stands.
    let state = table(&council, slot, &text, &objects);
    assert_eq!(state.due(&me).unwrap(), (&open(0), &liar));
    assert_eq!(state.awaited().len(), 8);
    assert!(tools.iter().all(|tool| state.next(&tool.me).is_none()), "six are free");
    put(&mut objects, open(SESSIONS_MAX));
    let state = table(&council, slot, &text, &objects);
    assert!(tools.iter().all(|tool| state.due(&tool.me).is_none()));
    assert!(state.awaited().is_empty() && state.next(&liar).is_none());
    let next = state.next(&me).unwrap();
    assert!(!next.members.contains_key(&liar), "who did that is asked last");
    put(&mut objects, next.to_envelope().sign(&council.keys[&me]));
    let state = table(&council, slot, &text, &objects);
    assert_eq!(state.due(&me).unwrap().1, &me);
    // Nonces that nobody published make no session that comes before it.
    let mut invented = next;
    invented.number = 0;
    invented.members.get_mut(&me).unwrap().from = Digest::of(b"nothing");
    put(&mut objects, invented.to_envelope().sign(&council.keys[&me]));
    assert_eq!(table(&council, slot, &text, &objects).awaited(), state.awaited());
}

/// A binding signs its own session and statement alone, and the same bytes whenever it is asked.
#[test]
fn a_binding_makes_one_share_and_no_other() {
    let council = Council::new(14, 8, 1, 10);
    let (_, document) = network(&council);
    let (slot, text) = (council.slot(&document), document.to_payload());
    let (tools, objects) = first_touches(&council, &document);
    let me = tools[0].me.clone();
    let (key, board) = (&council.shares[&me], &council.board);
    let session = table(&council, slot, &text, &objects).next(&me).unwrap();
    let session = session.to_envelope().sign(&council.keys[&me]);
    let (seed, next) = (nonce(&council, &me, slot, 0), nonce(&council, &me, slot, 1));
    let bound = Bound::to(board, key, &session, &text, 0, &seed, &next).unwrap();
    let stored: Bound = serde_json::from_str(&serde_json::to_string(&bound).unwrap()).unwrap();
    assert_eq!(bound.share(board, key, &seed).unwrap(), stored.share(board, key, &seed).unwrap());
    let refused = |bound: Result<Bound, SessionError>| bound.unwrap_err();
    let other_text =
        statement(Lane::Release, 1, document.network, None, Some(1), release_body("2"));
    let other_text = other_text.to_payload();
    let wrong = refused(Bound::to(board, key, &session, &other_text, 0, &seed, &next));
    assert_eq!(wrong, SessionError::OtherStatement(me.clone()));
    let wrong = refused(Bound::to(board, key, &session, &text, 1, &seed, &next));
    assert_eq!(wrong, SessionError::OtherNonces(me.clone()));
    let stranger = &council.shares[&tools[13].me];
    assert!(Bound::to(board, stranger, &session, &text, 0, &seed, &next).is_err());
    assert!(stored.share(board, stranger, &seed).is_err());
    // A session of other size, or of strange members, is no session.
    let read = Session::parse(&session).unwrap();
    let code = |session: &Session| {
        let envelope = session.to_envelope().sign(&council.keys[&me]);
        Session::verify(board, &envelope).unwrap_err().code()
    };
    let mut few = read.clone();
    few.members.pop_last();
    assert_eq!(code(&few), "bad_body");
    let mut zoe = read.clone();
    let (_, member) = zoe.members.pop_last().unwrap();
    zoe.members.insert("zoe".parse().unwrap(), member);
    assert_eq!(code(&zoe), "bad_body");
    assert_eq!(Session::verify(board, &read.to_envelope()).unwrap_err().code(), "bad_signature");
    // Nobody puts a name to a session who is not in it, not even beside a member's.
    let stranger = &council.keys[&tools[13].me];
    let foreign = read.to_envelope().sign(stranger);
    assert_eq!(Session::verify(board, &foreign).unwrap_err().code(), "bad_signature");
    let beside = foreign.sign(&council.keys[&me]);
    assert_eq!(Session::verify(board, &beside).unwrap().1, me);
    // Invented nonces of others are never answered.
    let mut invented = read;
    let taken = invented.members.last_entry().unwrap().key().clone();
    invented.members.get_mut(&taken).unwrap().from = Digest::of(b"nothing");
    let mut more = objects.clone();
    put(&mut more, invented.to_envelope().sign(&council.keys[&taken]));
    let state = table(&council, slot, &text, &more);
    assert!(state.due(&me).is_none());
}

/// A large board has no shares in its ballots, a small one no nonces.
#[test]
fn a_board_takes_the_ballots_of_its_size() {
    let (small, large) = (Council::new(3, 2, 1, 1), Council::new(14, 8, 1, 1));
    let document = statement(Lane::Release, 1, None, None, Some(1), release_body("1"));
    let document = Statement { network: Some(Digest::of(b"net")), ..document };
    let text = document.to_payload();
    let me = small.name(0);
    let seed = nonce(&small, &me, small.slot(&document), 0);
    let open = OpenRound::check(&small.board, small.slot(&document), &[]).unwrap();
    let key = &small.shares[&me];
    let commit = borgios_policy::Intent::commit(&small.board, key, &open, &text, &seed, None, 1);
    assert!(commit.is_err());
    // And shares over the sets of a small board are nothing on a large one.
    let slot = large.slot(&document);
    let open = OpenRound::check(&large.board, slot, &[]).unwrap();
    let none = BTreeSet::new();
    let approve = borgios_policy::Intent::approve(
        &large.board,
        &large.name(0),
        &open,
        &text,
        &[],
        &none,
        None,
        1,
    );
    assert!(approve.is_err());
    assert!(borgios_policy::Pool::make(&large.board, &large.shares[&large.name(0)], &[]).is_err());
}

//! What an honest governor does when it is their turn: the discipline of the program.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use borgios_policy::fixture::{Council, release_body, statement};
use borgios_policy::outcome::{Thought, is_stuck};
use borgios_policy::{
    Beacon, BeaconHead, Burn, Lane, Name, Object as _, Objection, OpenRound, Pause, Policy,
    Proposal, Ruling, Session, Slot, Statement, Veto, change, merge_signatures,
};
use borgios_types::{Digest, Envelope, KeyEpoch};
use rand::Rng as _;
use rand::seq::SliceRandom as _;

use super::desk::Desk;
use super::outlook::{Document, Outlook};
use super::said::{Said, What};
use super::world::{HOUR_S, World};

impl World {
    /// An honest governor looks, publishes what is signed, and does what is to be done.
    pub(crate) fn act(&mut self, at: usize) {
        self.publish_signed(at);
        let desk = Rc::clone(&self.people[at].desk);
        let epoch = desk.chain.policy().expect("a founded network").board.epoch();
        let all = self.council(epoch);
        let council = &all[epoch.0 as usize - 1];
        let next = |lane| desk.chain.head_seq(lane).next();
        let rules = self.outlook(at, epoch, Lane::Policy, next(Lane::Policy));
        let release = self.outlook(at, epoch, Lane::Release, next(Lane::Release));
        let mine = council.keys.contains_key(&self.people[at].tool.me);
        if mine {
            if self.calm || self.rng.gen_bool(0.2) {
                self.beacon(at, council, &desk);
            }
            self.judge(at, council, &desk);
            if !self.calm && self.rng.gen_bool(0.005) {
                self.begin_anew(at, council);
            }
            self.publish_pool(at, council, release.slot);
            self.publish_pool(at, council, rules.slot);
            self.vote(at, council, &rules);
            self.vote(at, council, &release);
        }
        self.vote_for_successor(at, epoch, &rules);
        if mine && rules.documents.is_empty() {
            self.think_of_rules(at, council, &desk, (&rules, &release));
        }
        let mut live = release.documents.iter().filter(|document| !document.dead);
        let open = live.any(|one| self.is_reviewed(at, one.id, &one.statement));
        if mine && !release.stuck && (!open || self.rng.gen_bool(0.02)) {
            let body = self.next_release(&desk);
            self.propose(at, council, &desk, release.slot, body);
        }
    }

    /// The release of the next version; an emergency now and then, where the rules know them.
    pub(crate) fn next_release(&mut self, desk: &Desk) -> serde_json::Value {
        self.versions += 1;
        let mut body = release_body(&format!("0.{}", self.versions));
        let known = desk.chain.policy().is_some_and(|policy| policy.classes.emergency.is_some());
        if known && self.rng.gen_bool(0.3) {
            body["class"] = "emergency".into();
        }
        body
    }

    /// Publishes what ballots have signed by now, and does nothing else.
    pub(crate) fn publish_signed(&mut self, at: usize) {
        let desk = Rc::clone(&self.people[at].desk);
        let epoch = desk.chain.policy().expect("a founded network").board.epoch();
        let next = |lane| desk.chain.head_seq(lane).next();
        let release = self.outlook(at, epoch, Lane::Release, next(Lane::Release));
        let rules = self.outlook(at, epoch, Lane::Policy, next(Lane::Policy));
        for signed in &release.signed {
            self.publish(at, signed.clone());
        }
        for signed in &rules.signed {
            self.complete(at, epoch, signed);
        }
    }

    /// A sign of life, if it is a governor's.
    pub(crate) fn send_beacon(&mut self, at: usize) {
        let desk = Rc::clone(&self.people[at].desk);
        let epoch = desk.chain.policy().expect("a founded network").board.epoch();
        let all = self.council(epoch);
        let council = &all[epoch.0 as usize - 1];
        if council.keys.contains_key(&self.people[at].tool.me) {
            self.beacon(at, council, &desk);
        }
    }

    fn publish(&mut self, at: usize, signed: Envelope) {
        let known = self.people[at].shelf.statements.contains_key(&signed.id());
        if !known || self.rng.gen_bool(0.02) {
            self.say(at, signed);
        }
    }

    /// Publishes a policy that is signed, if it needs a second signature with that.
    fn complete(&mut self, at: usize, epoch: KeyEpoch, signed: &Envelope) {
        let Ok(statement) = Statement::parse(signed) else { return };
        let made = epoch_of(&statement);
        if made == epoch {
            return self.publish(at, signed.clone());
        }
        let theirs = self.outlook(at, made, Lane::Policy, statement.seq);
        let merged = theirs.signed.iter().find_map(|theirs| merge_signatures(signed, theirs));
        if let Some(merged) = merged {
            self.publish(at, merged);
        }
    }

    fn beacon(&mut self, at: usize, council: &Council, desk: &Desk) {
        if self.mute.contains(&self.people[at].tool.me) {
            return;
        }
        self.beacons += 1;
        let heads = [Lane::Policy, Lane::Release].into_iter().filter_map(|lane| {
            let tip = desk.chain.tip(lane)?;
            Some((lane, BeaconHead { seq: tip.seq, id: tip.id }))
        });
        let governor = self.people[at].tool.me.clone();
        let key = &council.keys[&governor];
        let beacon = Beacon {
            network: self.network,
            group: council.board.group(),
            governor,
            time: self.now,
            heads: heads.collect(),
            counter: self.beacons,
        };
        self.say(at, beacon.to_envelope().sign(key));
    }

    /// Takes back what is signed and locked, now and then, and more readily where others do.
    fn judge(&mut self, at: usize, council: &Council, desk: &Desk) {
        for lane in [Lane::Policy, Lane::Release] {
            let Some(head) = desk.chain.head(lane) else { continue };
            let (id, statement) = (head.id(), head.statement());
            let lock = desk.chain.class_for(statement, id).map_or(0, |class| class.lock());
            let since = self.since.get(&id).copied().unwrap_or_default();
            if self.now >= since.plus(lock) {
                continue;
            }
            let vetoes = self.people[at].shelf.vetoes.values();
            let against = vetoes
                .filter(|said| matches!(&said.what, What::Veto(veto) if veto.statement == id));
            let likely = if against.count() > 0 { 0.4 } else { 0.02 };
            if self.rng.gen_bool(likely) {
                self.object(at, council, statement, id, false);
            } else if self.rng.gen_bool(0.02) {
                self.object(at, council, statement, id, true);
            }
        }
    }

    /// Says a veto or a pause, once.
    pub(crate) fn object(
        &mut self,
        at: usize,
        council: &Council,
        statement: &Statement,
        id: Digest,
        pause: bool,
    ) {
        let governor = self.people[at].tool.me.clone();
        if self.mute.contains(&governor) {
            return;
        }
        let key = &council.keys[&governor];
        let objection = Objection {
            network: self.network,
            group: council.board.group(),
            governor,
            statement: id,
            lane: statement.lane,
            seq: statement.seq,
            reason: "no".to_owned(),
            // One of each kind for each statement: its date is that of the statement.
            at: statement.issued,
        };
        let envelope =
            if pause { Pause(objection).to_envelope() } else { Veto(objection).to_envelope() };
        let id = envelope.id();
        if !self.said.contains_key(&id) {
            self.counts.paused += usize::from(pause);
            self.say(at, envelope.sign(key));
        }
    }

    /// The folder is lost, and a backup restored: everything of before is void. Nodes know the ballots
    /// that were cast; a governor whose last one reached none of them is not modelled.
    fn begin_anew(&mut self, at: usize, council: &Council) {
        let asked = self.rng.gen_range(0..self.nodes.len());
        let (shelf, tool) = (&self.nodes[asked].1, &mut self.people[at].tool);
        let all = tool.cast.values().all(|ballot| shelf.all.contains_key(&ballot.id()));
        if !all {
            return;
        }
        *tool.generations.entry(council.board.epoch()).or_default() += 1;
        tool.void.extend(tool.cast.keys().copied());
        let (governor, generation) = (tool.me.clone(), tool.generation(council));
        let key = &council.keys[&governor];
        let burn = Burn { group: council.board.group(), governor, generation, at: self.now };
        self.counts.burnt += 1;
        self.say(at, burn.to_envelope().sign(key));
    }

    pub(crate) fn publish_pool(&mut self, at: usize, council: &Council, slot: Slot) {
        let tool = &self.people[at].tool;
        if council.board.one_touch().is_err() || tool.cast.contains_key(&slot) {
            return;
        }
        let generation = tool.generation(council);
        let mine = |said: &Rc<Said>| {
            matches!(&said.what, What::Pool(_, pool)
                if pool.governor == tool.me && pool.generation == generation)
        };
        let here = self.people[at].shelf.papers.get(&slot);
        if !here.is_some_and(|papers| papers.values().any(mine)) {
            let pool = tool.pool(council, slot);
            self.say(at, pool);
        }
    }

    /// Votes on what most approve, mostly, or gives the share that is due.
    fn vote(&mut self, at: usize, council: &Council, outlook: &Outlook) {
        let slot = outlook.slot;
        if self.people[at].tool.cast.contains_key(&slot) {
            return self.touch_two(at, council, outlook);
        }
        let mut documents: Vec<&Document> = Vec::new();
        for document in outlook.documents.iter().filter(|document| !document.dead) {
            if self.is_reviewed(at, document.id, &document.statement) {
                documents.push(document);
            }
        }
        let favourite = documents.iter().max_by_key(|document| (document.approvals, document.id));
        let document = if self.rng.gen_bool(0.9) {
            favourite.copied()
        } else {
            documents.choose(&mut self.rng).copied()
        };
        let Some(document) = document else { return };
        let approve = self.rng.gen_bool(0.94);
        let ballots = self.people[at].shelf.ballots(slot);
        let me = self.people[at].tool.me.clone();
        let thought = Thought { governor: &me, statement: document.id, approve };
        let without = self.without(at, council, slot);
        if slot.lane == Lane::Policy
            && is_stuck(&council.board, slot, &ballots, Some(thought), &without)
        {
            return;
        }
        self.cast(at, council, &outlook.open, &document.text, approve, &without);
    }

    /// Whom a governor who waited long enough leaves out: no pool, or two.
    pub(crate) fn without(&mut self, at: usize, council: &Council, slot: Slot) -> BTreeSet<Name> {
        if council.board.one_touch().is_err() || (!self.calm && self.rng.gen_bool(0.5)) {
            return BTreeSet::new();
        }
        let burnt = self.burnt(at, council);
        let mut found: BTreeMap<&Name, BTreeSet<&Vec<u8>>> = BTreeMap::new();
        let papers = self.people[at].shelf.papers.get(&slot);
        for said in papers.into_iter().flat_map(BTreeMap::values) {
            if let What::Pool(_, pool) = &said.what
                && pool.generation == burnt.get(&pool.governor).copied().unwrap_or_default()
            {
                found.entry(&pool.governor).or_default().insert(&pool.commitments.0);
            }
        }
        let names = council.keys.keys();
        let one = |name: &&Name| found.get(name).is_none_or(|pools| pools.len() != 1);
        names.filter(one).cloned().collect()
    }

    /// The newest generation of each governor that somebody has heard of.
    fn burnt(&self, at: usize, council: &Council) -> BTreeMap<Name, u64> {
        let mut burnt: BTreeMap<Name, u64> = BTreeMap::new();
        for said in self.people[at].shelf.burns.values() {
            if let What::Burn(epoch, burn) = &said.what
                && *epoch == council.board.epoch()
            {
                let most = burnt.entry(burn.governor.clone()).or_default();
                *most = burn.generation.max(*most);
            }
        }
        burnt
    }

    fn cast(
        &mut self,
        at: usize,
        council: &Council,
        open: &OpenRound,
        text: &str,
        approve: bool,
        without: &BTreeSet<Name>,
    ) {
        let slot = open.slot();
        let papers = self.people[at].shelf.papers(slot);
        let tool = &mut self.people[at].tool;
        let Some(ballot) = tool.ballot(council, open, text, approve, &papers, without) else {
            return;
        };
        self.check_nonces(at, council, slot, &ballot);
        self.say(at, ballot);
    }

    /// Invariants of an honest ballot: no burnt pool, and no nonce of one that was used before.
    fn check_nonces(&mut self, at: usize, council: &Council, slot: Slot, ballot: &Envelope) {
        let read = borgios_policy::Ballot::parse(ballot).unwrap();
        let borgios_policy::Choice::Approve { pools, .. } = &read.choice else { return };
        let burnt = self.burnt(at, council);
        for (name, id) in pools {
            let Some(What::Pool(_, pool)) = self.said.get(id).map(|said| &said.what) else {
                panic!("{}: a pool that nobody made", self.context)
            };
            let least = burnt.get(name).copied().unwrap_or_default();
            assert!(pool.generation >= least, "{}: a burnt nonce counts", self.context);
            if *name == read.governor {
                let nonces = [slot.to_string().into_bytes(), pool.commitments.0.clone()].concat();
                self.use_nonce(nonces, ballot.id());
            }
        }
    }

    fn use_nonce(&mut self, nonce: Vec<u8>, used: Digest) {
        let before = *self.nonces.entry(nonce).or_insert(used);
        assert_eq!(before, used, "{}: a nonce is used twice", self.context);
    }

    /// The second touch: gives the share that is due, or opens the session that is possible.
    fn touch_two(&mut self, at: usize, council: &Council, outlook: &Outlook) {
        let me = self.people[at].tool.me.clone();
        for document in &outlook.documents {
            let Some(table) = outlook.table(council, document) else { return };
            let text = &document.text;
            let due = table.due(&me).map(|(session, _)| session.clone());
            let approved = self.people[at].tool.approved(outlook.slot, text);
            if let Some(session) = due.filter(|_| approved) {
                let read = Session::parse(&session).unwrap();
                let nonce = read.members[&me].commitment.0.clone();
                let share = self.people[at].tool.answer(council, outlook.slot, text, &session);
                self.use_nonce(nonce, share.id());
                return self.say(at, share);
            } else if let Some(session) = table.next(&me) {
                return self.say(at, session.to_envelope().sign(&council.keys[&me]));
            }
        }
    }

    /// Who is on the board that a proposed policy makes votes for that one too.
    fn vote_for_successor(&mut self, at: usize, epoch: KeyEpoch, rules: &Outlook) {
        let me = self.people[at].tool.me.clone();
        for document in rules.documents.iter().filter(|document| !document.dead) {
            let made = epoch_of(&document.statement);
            if made == epoch || !self.is_reviewed(at, document.id, &document.statement) {
                continue;
            }
            let all = self.council(made);
            let council = &all[made.0 as usize - 1];
            if !council.keys.contains_key(&me) {
                continue;
            }
            let open = rules.open.for_successor(&council.board);
            let slot = open.slot();
            self.publish_pool(at, council, slot);
            if self.people[at].tool.cast.contains_key(&slot) {
                let theirs = self.outlook(at, made, Lane::Policy, slot.seq);
                self.touch_two(at, council, &theirs);
            } else {
                // Who rejected it on the old board has said so.
                let without = self.without(at, council, slot);
                self.cast(at, council, &open, &document.text, true, &without);
            }
        }
    }

    /// Proposes a policy: one that closes a place, changes a rule or brings another board.
    fn think_of_rules(
        &mut self,
        at: usize,
        council: &Council,
        desk: &Desk,
        (rules, release): (&Outlook, &Outlook),
    ) {
        let Some(before) = desk.chain.policy() else { return };
        let mut policy = Policy { rulings: Vec::new(), unites: BTreeSet::new(), ..before.clone() };
        let epoch = before.board.epoch();
        let all = Rc::clone(&self.councils);
        // Where there is a recovery board, the next board is that one's to name.
        let successor = all.get(epoch.0 as usize).filter(|_| self.rescue.is_none());
        if release.stuck || (self.calm && release.is_stalled(council)) {
            let Slot { lane, seq, .. } = release.slot;
            policy.rulings = vec![Ruling::new(lane, seq, None)];
        } else if self.calm {
            return;
        } else if let Some(successor) = successor.filter(|_| self.rng.gen_bool(0.05)) {
            let carried = change::carried(&desk.chain);
            policy = change::next_policy(before, successor.board.clone(), carried);
        } else if self.rng.gen_bool(0.02) {
            let lock = [0, 1, 3][self.rng.gen_range(0..3)] * HOUR_S;
            policy.classes.release.lock_s = (lock > 0).then_some(lock);
        } else if before.classes.emergency.is_some() && self.rng.gen_bool(0.02) {
            // What waits as an emergency may find that there are none any more.
            policy.classes.emergency = None;
        } else {
            return;
        }
        desk.unite(&mut policy);
        self.propose(at, council, desk, rules.slot, policy.to_body());
    }

    pub(crate) fn propose(
        &mut self,
        at: usize,
        council: &Council,
        desk: &Desk,
        slot: Slot,
        body: serde_json::Value,
    ) {
        let Slot { lane, seq, round, .. } = slot;
        let prev = desk.chain.tip(lane).map(|tip| tip.id);
        let policy = Some(desk.chain.head_seq(Lane::Policy).0);
        let draft = statement(lane, seq.0, Some(self.network), prev, policy, body);
        let draft = Statement { round, expires: self.expires, ..draft };
        let governor = self.people[at].tool.me.clone();
        let key = &council.keys[&governor];
        let proposal = Proposal { governor, statement: draft.to_payload(), lane, note: None };
        self.say(at, proposal.to_envelope().sign(key));
    }
}

/// The key epoch of the board that a policy makes.
fn epoch_of(policy: &Statement) -> KeyEpoch {
    let epoch = policy.body.pointer("/board/epoch").and_then(serde_json::Value::as_u64);
    KeyEpoch(u32::try_from(epoch.unwrap()).unwrap())
}

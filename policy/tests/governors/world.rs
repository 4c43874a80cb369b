//! Governors and nodes who exchange objects over a network that drops, repeats, reorders and forges.
//!
//! Everything follows from one seed. Honest governors do what the program does; liars approve several
//! documents in one slot, reject what they approved, give garbage shares and second pools, and hold
//! things back. Nobody has a clock: an event is a random participant who acts, or a random message that
//! arrives.

use std::collections::{BTreeMap, BTreeSet};

use borgios_policy::fixture::{Council, NOW, release_body, statement};
use borgios_policy::session::{Session, SessionShare};
use borgios_policy::{
    Ballot, Bytes, Chain, Choice, Lane, Name, Object as _, OpenRound, Pool, Proposal, Refusal,
    Seed, Slot, Statement, Verdict, tally,
};
use borgios_types::{Digest, Envelope, Round, Seq};
use rand::Rng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha20Rng;

use super::{Objects, PAPERS, Tool, garbage, nonce, of_kind, table};

/// Rounds anyone looks at in the simulation.
const ROUNDS: u32 = 4;

/// What one participant holds.
#[derive(Clone)]
pub(crate) struct View {
    pub(crate) chain: Chain,
    pub(crate) seen: Objects,
    /// What was applied, in order, as it was at the time.
    applied: Vec<(Lane, Seq, Digest)>,
    /// Signed statements for a place that has another: evidence.
    pub(crate) rivals: BTreeSet<Digest>,
    /// Signed statements that do not fit yet.
    waiting: Objects,
}

impl View {
    fn new(first: &Envelope) -> Self {
        let mut view = Self {
            chain: Chain::new(Some(first.id())),
            seen: Objects::new(),
            applied: Vec::new(),
            rivals: BTreeSet::new(),
            waiting: Objects::new(),
        };
        view.statement(first.clone());
        view
    }

    /// Takes what is genuine.
    pub(crate) fn take(&mut self, councils: &[&Council], envelope: &Envelope) {
        if envelope.kind.as_str().parse::<Lane>().is_ok() {
            self.statement(envelope.clone());
            return;
        }
        if self.seen.get(&envelope.id()) == Some(envelope) {
            return;
        }
        let genuine = councils.iter().any(|council| {
            let board = &council.board;
            match envelope.kind.as_str() {
                Proposal::KIND => Proposal::verify(board, envelope).is_ok(),
                Pool::KIND => Pool::verify(board, envelope).is_ok(),
                Ballot::KIND => Ballot::verify(board, envelope).is_ok(),
                Session::KIND => Session::verify(board, envelope).is_ok(),
                SessionShare::KIND => SessionShare::verify(board, envelope).is_ok(),
                _ => false,
            }
        });
        if genuine {
            self.seen.entry(envelope.id()).or_insert_with(|| envelope.clone());
        }
    }

    fn statement(&mut self, envelope: Envelope) {
        match self.chain.verify(NOW, &envelope, &[]) {
            Ok(Verdict::New(verified)) => {
                let statement = verified.statement();
                self.applied.push((statement.lane, statement.seq, verified.id()));
                self.chain.apply(*verified);
                for (_, waiting) in std::mem::take(&mut self.waiting) {
                    self.statement(waiting);
                }
            }
            Ok(Verdict::AlreadyKnown(_)) => {}
            Err(Refusal::Rival { offered, .. }) => drop(self.rivals.insert(offered)),
            Err(Refusal::Gap { .. }) => drop(self.waiting.insert(envelope.id(), envelope)),
            Err(_) => {}
        }
    }

    /// Invariant: what was applied once is there still.
    pub(crate) fn check_nothing_replaced(&self, context: &str) {
        for (lane, seq, id) in &self.applied {
            let now = self.chain.get(*lane, *seq).map(borgios_policy::VerifiedStatement::id);
            assert_eq!(now, Some(*id), "{context}: {lane}/{seq} was replaced");
        }
    }

    /// The documents proposed for a slot.
    fn documents(&self, council: &Council, slot: Slot) -> Vec<Statement> {
        let proposals = of_kind(&self.seen, &[Proposal::KIND]);
        let texts = proposals.iter().filter_map(|held| Proposal::parse(held).ok());
        let mut found: Vec<Statement> =
            texts.filter_map(|proposal| proposal.parse_statement().ok()).collect();
        found.retain(|document| council.slot(document) == slot);
        found.sort_by_key(|document| document.to_payload());
        found.dedup();
        found
    }

    /// The next place's newest open round.
    fn open(&self, council: &Council, seq: Seq) -> Slot {
        let slot = |round| Slot {
            epoch: council.board.epoch(),
            lane: Lane::Release,
            seq,
            round: Round(round),
        };
        let ballots = of_kind(&self.seen, &[Ballot::KIND]);
        let open = (0..ROUNDS).map(slot);
        let open =
            open.take_while(|slot| OpenRound::check(&council.board, *slot, &ballots).is_ok());
        open.last().unwrap_or_else(|| slot(0))
    }

    /// Statements that the ballots held here have signed.
    fn signed(&self, council: &Council, seq: Seq) -> Vec<Envelope> {
        let (papers, ballots) =
            (of_kind(&self.seen, &PAPERS), of_kind(&self.seen, &[Ballot::KIND]));
        let mut signed = Vec::new();
        for round in 0..ROUNDS {
            let slot = Slot { round: Round(round), ..self.open(council, seq) };
            let texts: Vec<String> =
                self.documents(council, slot).iter().map(Statement::to_payload).collect();
            let tally = tally(&council.board, slot, &texts, &papers, &ballots);
            signed.extend(tally.signed().cloned());
        }
        signed
    }
}

/// Everyone and everything.
pub(crate) struct World<'a> {
    pub(crate) council: &'a Council,
    others: Vec<&'a Council>,
    pub(crate) rng: ChaCha20Rng,
    /// Governors first, by name, then nodes.
    pub(crate) views: Vec<View>,
    tools: Vec<Tool>,
    pub(crate) liars: BTreeSet<Name>,
    /// Messages under way: to whom, and what.
    wire: Vec<(usize, Envelope)>,
    /// All that was ever said, be it to one alone.
    pub(crate) said: Objects,
    versions: u32,
    pub(crate) context: String,
}

impl<'a> World<'a> {
    pub(crate) fn new(
        council: &'a Council,
        nodes: usize,
        liars: usize,
        mut rng: ChaCha20Rng,
        context: String,
    ) -> Self {
        let first = council.sign(&council.first_policy(council.board.threshold().0));
        let names: Vec<Name> = council.keys.keys().cloned().collect();
        let liars = names.choose_multiple(&mut rng, liars).cloned().collect();
        let views = vec![View::new(&first); names.len() + nodes];
        let tools = names.iter().map(Tool::new).collect();
        let (wire, said) = (Vec::new(), Objects::new());
        let others = Vec::new();
        Self { council, others, rng, views, tools, liars, wire, said, versions: 0, context }
    }

    /// Goes on with another board, which everybody knows: its governors take the first views.
    pub(crate) fn succeed(&mut self, council: &'a Council, policy: &Envelope) {
        self.others.push(self.council);
        self.council = council;
        for view in &mut self.views {
            view.statement(policy.clone());
        }
        self.tools = council.keys.keys().map(Tool::new).collect();
        self.liars.clear();
    }

    fn councils(&self) -> Vec<&'a Council> {
        let mut all = self.others.clone();
        all.push(self.council);
        all
    }

    /// Says something to everybody, over a network that is not to be relied on.
    pub(crate) fn say(&mut self, from: usize, envelope: Envelope) {
        let councils = self.councils();
        self.said.insert(envelope.id(), envelope.clone());
        self.views[from].take(&councils, &envelope);
        for to in 0..self.views.len() {
            let copies = match self.rng.gen_range(0..10) {
                0 | 1 => 0,
                2 => 3,
                _ => 1,
            };
            for _ in 0..copies {
                self.wire.push((to, envelope.clone()));
            }
            if self.rng.gen_bool(0.05) {
                let forged = self.forge(&envelope);
                self.wire.push((to, forged));
            }
        }
    }

    /// The same object with a changed payload, or somebody else's signature.
    fn forge(&mut self, envelope: &Envelope) -> Envelope {
        let mut forged = envelope.clone();
        if self.rng.gen_bool(0.5) {
            let at = self.rng.gen_range(0..forged.payload.len());
            let digit = char::from(b'0' + self.rng.gen_range(0..10));
            if forged.payload.is_char_boundary(at) && forged.payload.is_char_boundary(at + 1) {
                forged.payload.replace_range(at..=at, &digit.to_string());
            }
        } else if let Some(sig) = forged.sigs.first_mut() {
            sig.sig.0[0] ^= 1;
        }
        forged
    }

    /// Lets some messages arrive, in any order, and one governor act.
    pub(crate) fn step(&mut self) {
        let councils = self.councils();
        if self.rng.gen_bool(0.4) {
            self.compare(&councils);
        }
        for _ in 0..self.rng.gen_range(0..4 * self.views.len()) {
            if self.wire.is_empty() {
                break;
            }
            let at = self.rng.gen_range(0..self.wire.len());
            let (to, envelope) = self.wire.swap_remove(at);
            self.views[to].take(&councils, &envelope);
            self.views[to].check_nothing_replaced(&self.context);
        }
        let at = self.rng.gen_range(0..self.tools.len());
        if self.liars.contains(&self.tools[at].me) {
            self.lie(at);
        } else {
            self.act(at);
        }
    }

    /// Two who meet, as neighbours in the tree do: each takes what the other has.
    fn compare(&mut self, councils: &[&Council]) {
        let all: Vec<usize> = (0..self.views.len()).collect();
        let pair: Vec<usize> = all.choose_multiple(&mut self.rng, 2).copied().collect();
        for (from, to) in [(pair[0], pair[1]), (pair[1], pair[0])] {
            let statements = self.views[from].chain.history().map(|one| one.envelope().clone());
            let held: Vec<Envelope> =
                statements.chain(self.views[from].seen.values().cloned()).collect();
            for envelope in held {
                self.views[to].take(councils, &envelope);
            }
            self.views[to].check_nothing_replaced(&self.context);
        }
    }

    /// An honest governor looks, publishes what is signed, and does one thing.
    fn act(&mut self, at: usize) {
        let council = self.council;
        let seq = self.views[at].chain.head_seq(Lane::Release).next();
        for signed in self.views[at].signed(council, seq) {
            self.say(at, signed);
        }
        let seq = self.views[at].chain.head_seq(Lane::Release).next();
        let slot = self.views[at].open(council, seq);
        self.publish_pool(at, slot);
        // Nobody votes on what no node would obey.
        let chain = &self.views[at].chain;
        let mut documents = self.views[at].documents(council, slot);
        documents.retain(|document| chain.review(NOW, &document.to_envelope()).is_ok());
        if documents.is_empty() || (documents.len() < 3 && self.rng.gen_bool(0.05)) {
            self.propose(at, slot);
            return;
        }
        // Who talks to the others votes on the same document, mostly.
        let document = if self.rng.gen_bool(0.7) {
            documents.first().cloned()
        } else {
            documents.choose(&mut self.rng).cloned()
        };
        let Some(document) = document else { return };
        if self.rng.gen_bool(0.6) {
            let approve = self.rng.gen_bool(0.75);
            let mut without: BTreeSet<Name> = BTreeSet::new();
            if self.rng.gen_bool(0.1) {
                without.extend(council.keys.keys().choose_multiple_of(&mut self.rng));
            }
            let seen = self.views[at].seen.clone();
            let ballot = self.tools[at].vote(council, &document, approve, &seen, &without);
            if let Some(ballot) = ballot {
                self.say(at, ballot);
            }
        } else if council.board.one_touch().is_err() {
            let seen = self.views[at].seen.clone();
            for made in self.tools[at].touch_two(council, &document, &seen) {
                self.say(at, made);
            }
        }
    }

    fn publish_pool(&mut self, at: usize, slot: Slot) {
        let (council, me) = (self.council, self.tools[at].me.clone());
        if council.board.one_touch().is_ok() {
            let pool = council.pool(&me, &[slot]);
            if !self.views[at].seen.contains_key(&pool.id()) || self.rng.gen_bool(0.1) {
                self.say(at, pool);
            }
        }
    }

    fn propose(&mut self, at: usize, slot: Slot) -> Statement {
        let council = self.council;
        self.versions += 1;
        let chain = &self.views[at].chain;
        let prev = chain.head(Lane::Release).map(borgios_policy::VerifiedStatement::id);
        let policy = chain.head_seq(Lane::Policy).0;
        let body = release_body(&format!("0.{}", self.versions));
        let draft = statement(Lane::Release, slot.seq.0, chain.network(), prev, Some(policy), body);
        let draft = Statement { round: slot.round, ..draft };
        let proposal = Proposal { statement: draft.to_payload(), lane: Lane::Release, note: None };
        let key = &council.keys[&self.tools[at].me];
        self.say(at, proposal.to_envelope().sign(key));
        draft
    }

    /// A liar does one of the things that honest tools refuse.
    fn lie(&mut self, at: usize) {
        let (council, me) = (self.council, self.tools[at].me.clone());
        let seq = self.views[at].chain.head_seq(Lane::Release).next();
        let slot = self.views[at].open(council, seq);
        let round = Round(self.rng.gen_range(0..=slot.round.0));
        let slot = Slot { round, ..slot };
        if self.rng.gen_bool(0.3) {
            self.publish_pool(at, slot);
        }
        let documents = self.views[at].documents(council, slot);
        let Some(document) = documents.choose(&mut self.rng).cloned() else {
            self.propose(at, slot);
            return;
        };
        let seen = self.views[at].seen.clone();
        match self.rng.gen_range(0..6) {
            // A ballot for whatever, again and again in one slot.
            0 | 1 => {
                let approve = self.rng.gen_bool(0.8);
                let mut twin = Tool::new(&me);
                let none = BTreeSet::new();
                if let Some(ballot) = twin.vote(council, &document, approve, &seen, &none) {
                    self.say(at, ballot);
                }
            }
            // The same with shares that are garbage.
            2 => {
                let mut twin = Tool::new(&me);
                let none = BTreeSet::new();
                if let Some(ballot) = twin.vote(council, &document, true, &seen, &none) {
                    let mut ballot = Ballot::parse(&ballot).unwrap();
                    if let Choice::Approve { shares: Bytes(shares), .. } = &mut ballot.choice {
                        shares[0] ^= 1;
                    }
                    self.say(at, ballot.to_envelope().sign(&council.keys[&me]));
                }
            }
            // A second pool for the slot.
            3 if council.board.one_touch().is_ok() => {
                let seed = Seed::from_bytes([self.rng.r#gen(); 32]);
                let pool = Pool::make(&council.board, &council.shares[&me], &[(slot, seed)]);
                let pool = pool.unwrap().to_envelope().sign(&council.keys[&me]);
                self.say(at, pool);
            }
            // Garbage in a session, or the same nonces in several.
            4 => {
                let text = document.to_payload();
                let state = table(council, slot, &text, &seen);
                let due = state.due(&me, &BTreeSet::new()).map(|(session, _)| session.clone());
                if let Some(session) = due {
                    let next = nonce(council, &me, slot, self.rng.gen_range(50..60));
                    self.say(at, garbage(council, &me, &session, &next));
                }
            }
            _ => {
                let mut twin = self.tools[at].clone();
                for made in twin.touch_two(council, &document, &seen) {
                    self.say(at, made);
                }
            }
        }
    }

    /// Everybody hears everything in the end, and honest tools publish what came out of it.
    pub(crate) fn settle(&mut self) {
        let (council, councils) = (self.council, self.councils());
        self.wire.clear();
        loop {
            let before = self.said.len();
            for view in &mut self.views {
                for envelope in self.said.values() {
                    view.take(&councils, envelope);
                }
                view.check_nothing_replaced(&self.context);
            }
            for at in 0..self.tools.len() {
                if self.liars.contains(&self.tools[at].me) {
                    continue;
                }
                let head = self.views[at].chain.head_seq(Lane::Release).0;
                for seq in 1..=head + 1 {
                    for signed in self.views[at].signed(council, Seq(seq)) {
                        self.said.entry(signed.id()).or_insert(signed);
                    }
                }
            }
            if self.said.len() == before {
                return;
            }
        }
    }

    /// Every document for which somebody who holds all that was ever said can make a signature, by
    /// its place: a liar's ballots on other documents are left aside, as a liar would.
    pub(crate) fn signable(&self) -> BTreeMap<Seq, BTreeSet<Digest>> {
        let council = self.council;
        let (papers, ballots) =
            (of_kind(&self.said, &PAPERS), of_kind(&self.said, &[Ballot::KIND]));
        let mut found: BTreeMap<Seq, BTreeSet<Digest>> = BTreeMap::new();
        for proposal in of_kind(&self.said, &[Proposal::KIND]) {
            let Ok(document) = Proposal::parse(&proposal).unwrap().parse_statement() else {
                continue;
            };
            let (slot, text) = (council.slot(&document), document.to_payload());
            let id = Digest::of(text.as_bytes());
            let only: Vec<Envelope> = ballots
                .iter()
                .filter(|ballot| {
                    Ballot::parse(ballot).is_ok_and(|b| b.statement == id && b.approves())
                })
                .cloned()
                .collect();
            if tally(&council.board, slot, &[text], &papers, &only).signed().is_some() {
                found.entry(document.seq).or_default().insert(id);
            }
        }
        found
    }

    /// Everyone who is named a culprit in any slot by what everybody heard.
    pub(crate) fn culprits(&self, view: &View) -> BTreeSet<Name> {
        let council = self.council;
        let (papers, ballots) =
            (of_kind(&view.seen, &PAPERS), of_kind(&view.seen, &[Ballot::KIND]));
        let mut named = BTreeSet::new();
        for seq in 1..=view.chain.head_seq(Lane::Release).0 + 1 {
            for round in 0..ROUNDS {
                let epoch = council.board.epoch();
                let slot = Slot { epoch, lane: Lane::Release, seq: Seq(seq), round: Round(round) };
                let texts: Vec<String> =
                    view.documents(council, slot).iter().map(Statement::to_payload).collect();
                let tally = tally(&council.board, slot, &texts, &papers, &ballots);
                named.extend(tally.culprits.into_iter().map(|culprit| culprit.name));
            }
        }
        named
    }
}

/// Some of the names, at random: none, one or two.
trait ChooseSome<'n> {
    fn choose_multiple_of(self, rng: &mut ChaCha20Rng) -> Vec<Name>;
}

impl<'n, I: Iterator<Item = &'n Name>> ChooseSome<'n> for I {
    fn choose_multiple_of(self, rng: &mut ChaCha20Rng) -> Vec<Name> {
        let all: Vec<Name> = self.cloned().collect();
        let count = rng.gen_range(0..=2.min(all.len() - 1));
        all.choose_multiple(rng, count).cloned().collect()
    }
}

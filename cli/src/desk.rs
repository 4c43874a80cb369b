//! The archive and the places it is exchanged with, and what the votes amount to right now.
//!
//! Looking needs no secret: everything here can be done by anyone who holds the objects.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use borgios_policy::round::OpenRound;
use borgios_policy::tally::{State, Tally, tally};
use borgios_policy::{
    Blob, Board, Handback, Lane, Name, Pool, Proposal, RecoveryBoard, Refusal, Slot, Statement,
};
use borgios_releases::Component;
use borgios_types::{Digest, Envelope, PublicKey, Round, Seq};

use crate::archive::{Archive, Held};
use crate::carrier;
use crate::context::{Context, Membership};
use crate::exchange::{Exchange, Moved};
use crate::failure::{Failure, OrFail as _};
use crate::identity::Identity;
use crate::notices;
use crate::reviewed::Reviewed;
use crate::servers::Servers;
use crate::shelf::{self, Needs};
use crate::subject::Subject;
use crate::succession;

/// Statements of each lane that a carrier brings: those since the last time it went, as a rule.
const STATEMENTS_CARRIED: u64 = 8;

/// One governor's table: what is there, and what it means.
pub(crate) struct Desk<'a> {
    context: &'a Context,
    membership: Membership,
    archive: Archive,
    exchange: Exchange,
    fetched: Moved,
    /// The key of whoever's table it is, where the identity is open.
    own: Option<PublicKey>,
}

/// One round of one place that is being voted on.
#[derive(Debug)]
pub(crate) struct OpenVote {
    /// The slot.
    pub(crate) slot: Slot,
    /// Whether the recovery board votes, and not the board in force. Both have slots of their own.
    pub(crate) recovery: bool,
    /// What was proposed for it, by the statement's id.
    pub(crate) documents: BTreeMap<Digest, Document>,
    /// How it stands.
    pub(crate) tally: Tally,
}

/// One proposed document: several governors may have proposed the same.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    /// The statement.
    pub(crate) statement: Statement,
    /// Its exact text.
    pub(crate) text: String,
    /// Who proposed it, and with what note.
    pub(crate) proposals: Vec<Held<Proposal>>,
}

impl Document {
    /// The statement as an envelope without signatures.
    pub(crate) fn to_envelope(&self) -> Envelope {
        Envelope::unsigned(self.statement.lane.kind(), self.text.clone())
    }
}

impl<'a> Desk<'a> {
    /// Opens the archive and brings it up to date. The identity is asked for only if a node is
    /// to be talked to.
    pub(crate) fn look(context: &'a Context) -> Result<Self, Failure> {
        let identity = if context.talks_to_nodes()? { Some(context.identity()?) } else { None };
        Self::with(context, identity.as_ref())
    }

    /// The same with an identity that is already open.
    pub(crate) fn with(context: &'a Context, identity: Option<&Identity>) -> Result<Self, Failure> {
        let membership = context.membership()?;
        let mut archive = Archive::open(&context.home, membership.network)?;
        let mut exchange = Exchange::new(context.transports(identity)?, context.printer);
        let fetched = exchange.fetch(&mut archive, context.now())?;
        let own = identity.map(|identity| identity.ssh().public());
        Ok(Self { context, membership, archive, exchange, fetched, own })
    }

    /// What this folder holds, with nobody to exchange with.
    pub(crate) fn at_hand(context: &'a Context) -> Result<Self, Failure> {
        let membership = context.membership()?;
        let archive = Archive::open(&context.home, membership.network)?;
        let exchange = Exchange::new(Vec::new(), context.printer);
        let fetched = Moved::default();
        Ok(Self { context, membership, archive, exchange, fetched, own: None })
    }

    /// The settings of this run.
    pub(crate) fn context(&self) -> &'a Context {
        self.context
    }

    /// Which network this is.
    pub(crate) fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Everything that was verified.
    pub(crate) fn archive(&self) -> &Archive {
        &self.archive
    }

    /// Gives the archive away; nothing more is exchanged.
    pub(crate) fn into_archive(self) -> Archive {
        self.archive
    }

    /// What the first exchange brought.
    pub(crate) fn fetched(&self) -> &Moved {
        &self.fetched
    }

    /// The names of the places objects go to; none if this run is offline.
    pub(crate) fn places(&self) -> String {
        self.exchange.names()
    }

    /// Whether this run is offline.
    pub(crate) fn is_offline(&self) -> bool {
        self.exchange.is_empty()
    }

    /// Refuses to go on offline.
    pub(crate) fn need_a_place(&self) -> Result<(), Failure> {
        if self.is_offline() {
            return Err(Failure::usage("there is nobody to exchange objects with").hint(
                "name a shared folder with `--exchange DIR` or a node with `--node HOST:PORT`",
            ));
        }
        Ok(())
    }

    /// What servers say of themselves, as it is known here.
    pub(crate) fn known_servers(&self) -> Result<Servers, Failure> {
        let now = self.context.now();
        Servers::load(&self.context.home, &self.archive, self.membership.network, now)
    }

    /// The same, brought up to date.
    pub(crate) fn servers(&mut self) -> Result<Servers, Failure> {
        let mut servers = self.known_servers()?;
        let now = self.context.now();
        self.exchange.fetch_servers(&mut servers, &self.archive, now)?;
        Ok(servers)
    }

    /// A blob that a statement names, from the governor's folder or from any place.
    pub(crate) fn blob(&mut self, blob: &Blob) -> Result<Option<Vec<u8>>, Failure> {
        shelf::fetched(&self.context.home, &mut self.exchange, blob)
    }

    /// A component of a release: from the governor's folder or any place; it is not kept.
    pub(crate) fn component(&mut self, component: &Component) -> Result<Option<Vec<u8>>, Failure> {
        let blob = Blob { digest: component.digest, size: component.size };
        if let Some(bytes) = shelf::held(&self.context.home, &blob)? {
            return Ok(Some(bytes));
        }
        let is = |bytes: &[u8]| {
            bytes.len() as u64 == component.size && Digest::of(bytes) == component.digest
        };
        Ok(self.exchange.blob(&blob, is))
    }

    /// Leaves a component in the folders of this run, so that whoever votes can look into it.
    pub(crate) fn leave_in_folders(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.exchange.leave_in_folders(Digest::of(bytes), bytes)
    }

    /// Keeps a blob and leaves it everywhere.
    pub(crate) fn publish_blob(&mut self, bytes: &[u8]) -> Result<Blob, Failure> {
        let blob = shelf::keep(&self.context.home, bytes)?;
        self.exchange.put_blob(blob.digest, bytes)?;
        Ok(blob)
    }

    /// Brings the blobs of the schedule in force and of what is voted on everywhere they are missing, as
    /// far as they are at hand and not too many, and lets go of those that nothing needs any more; how
    /// many were at hand. Whoever calls it holds the folder's lock.
    pub(crate) fn bring_blobs(&mut self) -> Result<usize, Failure> {
        let context = self.context;
        let (home, printer) = (&context.home, context.printer);
        let reviewed = Reviewed::load(home)?;
        let needs = Needs::of(&self.archive, &self.votes()?, self.own.as_ref(), &reviewed)?;
        // First, so that there is room for what comes.
        shelf::clear(home, &needs.spare)?;
        if let Some(line) = needs.left_out_line() {
            printer.warn(&line);
        }
        let mut brought = 0;
        let wanted = needs.wanted.iter().map(|blob| (blob, true));
        for (blob, fetch) in wanted.chain(needs.at_hand.iter().map(|blob| (blob, false))) {
            let found = if fetch { self.blob(blob)? } else { shelf::held(home, blob)? };
            let Some(bytes) = found else { continue };
            match self.exchange.put_blob(blob.digest, &bytes) {
                Ok(()) => brought += 1,
                Err(failure) => printer.warn(&failure.summary()),
            }
        }
        Ok(brought)
    }

    /// Takes what a carrier brought; how many objects were new.
    pub(crate) fn take_in(&mut self, path: &Path) -> Result<usize, Failure> {
        let (envelopes, left_out) = carrier::read(path)?;
        let printer = self.context.printer;
        if left_out > 0 {
            printer.warn(&format!("{}: {left_out} things that are no objects", path.display()));
        }
        let admitted = self.archive.admit(self.context.now(), envelopes)?;
        for line in &admitted.refused {
            printer.warn(&format!("refused from {}: {line}", path.display()));
        }
        if admitted.unjudged > 0 {
            let count = admitted.unjudged;
            printer.warn(&format!(
                "{count} objects from {} wait until a board is known here: bring them again then",
                path.display()
            ));
        }
        Ok(admitted.new.len())
    }

    /// What a machine without a network needs to vote on what is open, or what such a machine has to
    /// say: the newest statements, what was taken back, and all papers of open votes. Of pools only those
    /// that cover the open slots, and those that `apart` made without a network: nobody else can bring them.
    pub(crate) fn for_carrier(&self, apart: Option<&Name>) -> Result<Vec<Envelope>, Failure> {
        let (board, mut all) = (self.archive.board()?, Vec::new());
        let chain = self.archive.chain();
        for lane in Lane::ALL {
            let from = Seq(chain.head_seq(lane).0.saturating_sub(STATEMENTS_CARRIED));
            all.extend(chain.after(lane, from).map(|verified| verified.envelope().clone()));
        }
        all.extend(self.archive.taken_back(STATEMENTS_CARRIED)?);
        for vote in self.votes()? {
            let proposals = vote.documents.values().flat_map(|document| &document.proposals);
            all.extend(proposals.map(|held| held.envelope.clone()));
            let recoverers = self.archive.recovery_board().filter(|_| vote.recovery);
            let voters = recoverers.map_or(board, RecoveryBoard::board);
            all.extend(self.archive.papers_for(voters, vote.slot));
            all.extend(self.archive.ballots_at(vote.slot.lane, vote.slot.seq));
        }
        all.extend(self.archive.recoveries().envelopes().cloned());
        let made_apart = |held: &&Held<Pool>| held.value.offline && Some(&held.by) == apart;
        all.extend(self.archive.pools().values().filter(made_apart).map(|h| h.envelope.clone()));
        let mut seen = BTreeSet::new();
        all.retain(|envelope| seen.insert(envelope.id()));
        Ok(all)
    }

    /// Stores an own object and sends it everywhere.
    pub(crate) fn publish(&mut self, envelope: &Envelope) -> Result<(), Failure> {
        let admitted = self.archive.admit(self.context.now(), vec![envelope.clone()])?;
        if let Some(line) = admitted.refused.first() {
            return Err(Failure::new("this program made an object that it would itself refuse")
                .because(line.clone()));
        }
        if admitted.unjudged > 0 {
            let what = format!("a {} cannot be sent from here yet", envelope.kind);
            return Err(Failure::new(what).because("no board is known here, so it was not stored"));
        }
        self.exchange.send(envelope)
    }

    /// Sends an object that is stored already.
    pub(crate) fn send(&mut self, envelope: &Envelope) -> Result<(), Failure> {
        self.exchange.send(envelope)
    }

    /// What up to three nodes sign that they know of a governor's ballots.
    pub(crate) fn handbacks(&mut self, governor: &Name) -> Vec<Handback> {
        self.exchange.handbacks(self.membership.network, governor)
    }

    /// Sends every place what it lacks.
    pub(crate) fn push(&mut self) -> Result<usize, Failure> {
        self.exchange.push(&self.archive)
    }

    /// Every vote that is under way: the next place of each lane, each round of it so far.
    pub(crate) fn votes(&self) -> Result<Vec<OpenVote>, Failure> {
        let mut votes = Vec::new();
        for lane in Lane::ALL {
            let seq = self.archive.chain().head_seq(lane).next();
            for round in 0..=self.open_round(lane, seq)?.0 {
                let vote = self.vote(lane, seq, Round(round))?;
                if !vote.tally.documents.is_empty() {
                    votes.push(vote);
                }
            }
        }
        votes.extend(self.recovery_votes()?);
        Ok(votes)
    }

    /// The votes of the recovery board on the next policy, each round of it so far.
    fn recovery_votes(&self) -> Result<Vec<OpenVote>, Failure> {
        let Some(paper) = self.archive.recovery_board() else { return Ok(Vec::new()) };
        let seq = self.archive.chain().head_seq(Lane::Policy).next();
        let newest = self.open_round_of(paper.board(), Lane::Policy, seq);
        let rounds = (0..=newest.0).map(Round);
        let votes = rounds.map(|round| self.vote_of(paper.board(), true, Lane::Policy, seq, round));
        Ok(votes.filter(|vote| !vote.tally.documents.is_empty()).collect())
    }

    /// The newest round of the next policy that the recovery board may vote in.
    pub(crate) fn recovery_round(&self, seq: Seq) -> Round {
        let paper = self.archive.recovery_board();
        paper.map_or(Round(0), |paper| self.open_round_of(paper.board(), Lane::Policy, seq))
    }

    /// How one round of one place stands.
    pub(crate) fn vote(&self, lane: Lane, seq: Seq, round: Round) -> Result<OpenVote, Failure> {
        Ok(self.vote_of(self.archive.board()?, false, lane, seq, round))
    }

    fn vote_of(
        &self,
        board: &Board,
        recovery: bool,
        lane: Lane,
        seq: Seq,
        round: Round,
    ) -> OpenVote {
        let slot = Slot { epoch: board.epoch(), lane, seq, round };
        let documents = self.documents(board, recovery, slot);
        let texts: Vec<String> = documents.values().map(|document| document.text.clone()).collect();
        let archive = &self.archive;
        let (papers, ballots) = (archive.papers_for(board, slot), archive.ballots_at(lane, seq));
        let tally = tally(board, slot, &texts, &papers, &ballots);
        OpenVote { slot, recovery, documents, tally }
    }

    /// What was proposed for a slot and would be obeyed if it were signed.
    ///
    /// What a member of the recovery board proposed, that board votes on, and no other.
    fn documents(&self, board: &Board, recovery: bool, slot: Slot) -> BTreeMap<Digest, Document> {
        let in_force = self.archive.chain().policy().map(|policy| policy.board.group());
        let mut documents: BTreeMap<Digest, Document> = BTreeMap::new();
        for held in self.archive.proposals().values() {
            let Ok(statement) = held.value.parse_statement() else { continue };
            let of = crate::archive::slot_of(board, &statement);
            // What an earlier board was to sign is no document for this one.
            let under = statement.policy.and_then(|seq| self.archive.chain().policy_at(seq));
            let same_key = under.map(|policy| policy.board.group()) == in_force;
            if of != slot || !same_key || self.is_recoverers(held) != recovery {
                continue;
            }
            let document = documents.entry(held.value.statement_id()).or_insert_with(|| Document {
                statement,
                text: held.value.statement.clone(),
                proposals: Vec::new(),
            });
            document.proposals.push(held.clone());
        }
        documents
    }

    /// Whether a member of the recovery board proposed it, and nobody of the board in force.
    pub(crate) fn is_recoverers(&self, held: &Held<Proposal>) -> bool {
        let by = |board: &Board| {
            board.by_name(&held.by).is_some_and(|member| held.envelope.signed_by(&member.key))
        };
        let recovers = self.archive.recovery_board().is_some_and(|paper| by(paper.board()));
        recovers && !self.archive.board().is_ok_and(by)
    }

    /// The newest round of a place that may be voted in.
    pub(crate) fn open_round(&self, lane: Lane, seq: Seq) -> Result<Round, Failure> {
        Ok(self.open_round_of(self.archive.board()?, lane, seq))
    }

    fn open_round_of(&self, board: &Board, lane: Lane, seq: Seq) -> Round {
        let ballots = self.archive.ballots_at(lane, seq);
        let mut round = Round(0);
        loop {
            let next = Round(round.0 + 1);
            let slot = Slot { epoch: board.epoch(), lane, seq, round: next };
            if OpenRound::check_vetoed(board, slot, &ballots, self.archive.dead()).is_err() {
                return round;
            }
            round = next;
        }
    }

    /// The one vote and document that was named; a place means its newest open round, unless
    /// `round` names another.
    pub(crate) fn named(
        &self,
        subject: &Subject,
        round: Option<Round>,
    ) -> Result<(OpenVote, Digest), Failure> {
        self.find(subject, round)?.ok_or_else(|| self.nothing_named(subject))
    }

    /// The same; none where nothing of that name is voted on.
    pub(crate) fn find(
        &self,
        subject: &Subject,
        round: Option<Round>,
    ) -> Result<Option<(OpenVote, Digest)>, Failure> {
        let mut found = Vec::new();
        for vote in self.votes()? {
            let newest = match vote.recovery {
                true => self.recovery_round(vote.slot.seq),
                false => self.open_round(vote.slot.lane, vote.slot.seq)?,
            };
            let wanted = match subject {
                Subject::Place(..) => round.unwrap_or(newest),
                Subject::Id(_) => round.unwrap_or(vote.slot.round),
            };
            if vote.slot.round != wanted {
                continue;
            }
            let ids: Vec<Digest> = vote
                .documents
                .keys()
                .filter(|id| subject.names(vote.slot.lane, vote.slot.seq, id))
                .copied()
                .collect();
            found.push((vote, ids));
        }
        found.retain(|(_, ids)| !ids.is_empty());
        // A place may be voted on by the board in force and by the recovery board: who is of one of them
        // means that one's.
        let own = self.membership.recovery.is_some();
        if found.iter().any(|(vote, _)| vote.recovery == own)
            && matches!(subject, Subject::Place(..))
        {
            found.retain(|(vote, _)| vote.recovery == own);
        }
        let count: usize = found.iter().map(|(_, ids)| ids.len()).sum();
        if count > 1 {
            let ids = found.iter().flat_map(|(_, ids)| ids).map(Digest::short);
            let ids: Vec<String> = ids.collect();
            return Err(Failure::new(format!("{subject} has {count} proposals"))
                .because(ids.join(", "))
                .hint("name one of them by the first digits of its id"));
        }
        Ok(found.pop().and_then(|(vote, ids)| Some((vote, *ids.first()?))))
    }

    /// Why nothing of that name is voted on.
    pub(crate) fn nothing_named(&self, subject: &Subject) -> Failure {
        if let Subject::Place(lane, seq) = subject {
            let head = self.archive.chain().head_seq(*lane);
            if let Some(failure) = self.closed(*lane, *seq) {
                return failure;
            }
            if *seq <= head {
                let decided = Failure::new(format!("{lane}/{seq} is decided: it is signed"));
                let signed = self.archive.chain().get(*lane, *seq);
                let notices = signed.and_then(|signed| notices::locked(self, signed));
                let frozen = notices::frozen(self).into_iter();
                let notices =
                    notices.into_iter().chain(frozen.filter(|_| self.is_rivalled(*lane, *seq)));
                return notices
                    .fold(decided, |failure, notice| failure.because(notice.line()))
                    .hint(format!("`borgios log {lane}` shows who approved it"));
            }
            if *seq > head.next() {
                return Failure::new(format!("{lane}/{seq} cannot be voted on yet"))
                    .code(Failure::LOG_BEHIND)
                    .because(format!("the next one is {lane}/{}", head.next()));
            }
        }
        Failure::new(format!("no open proposal {subject} is known here"))
            .hint("`borgios inbox` lists what is open; someone may have to `borgios propose` first")
    }

    /// Whether another document was signed for a place, as far as is known here.
    pub(crate) fn is_rivalled(&self, lane: Lane, seq: Seq) -> bool {
        self.archive.rivals().at(lane, seq).next().is_some()
    }

    /// Why nothing can be decided at this place any more, if a policy closed it.
    pub(crate) fn closed(&self, lane: Lane, seq: Seq) -> Option<Failure> {
        let chain = self.archive.chain();
        let settled = chain.settled(lane, seq).filter(|settled| settled.winner.is_none())?;
        let next = chain.head_seq(lane).next();
        Some(
            Failure::new(format!("{lane}/{seq} is closed: nothing voted on for it counts"))
                .because(format!("policy/{} closed it", settled.policy))
                .hint(format!("what it was for can be proposed again, for {lane}/{next}")),
        )
    }

    /// The places of the lanes at which something is voted on that could still be signed, and what.
    pub(crate) fn under_way(&self) -> Result<Vec<(Lane, Seq, Vec<Digest>)>, Failure> {
        let mut places = Vec::new();
        for OpenVote { slot, tally, .. } in self.votes()? {
            let live = tally.documents.iter().filter(|(_, one)| one.state != State::Dead);
            let live: Vec<Digest> = live.map(|(id, _)| *id).collect();
            if !live.is_empty() {
                places.push((slot.lane, slot.seq, live));
            }
        }
        Ok(places)
    }

    /// Tallies every open vote; what turns out to be signed is stored, published and named.
    pub(crate) fn publish_signed(&mut self) -> Result<Vec<String>, Failure> {
        let mut signed = Vec::new();
        loop {
            let mut envelopes = Vec::new();
            for vote in self.votes()?.into_iter().filter(|vote| !vote.recovery) {
                if let Some(signed) = vote.tally.signed() {
                    envelopes.push(succession::completed(self, vote.slot, signed.clone())?);
                }
            }
            let before = signed.len();
            for envelope in envelopes {
                let statement = Statement::parse(&envelope).or_fail(|| "a signed non-statement")?;
                let ballots = self.archive.ballot_envelopes();
                let now = self.context.now();
                // Not yet, where the class asks for more approvals than signatures.
                // And never again what was taken back.
                if self.archive.is_dead(&envelope.id())
                    || self.archive.chain().verify(now, &envelope, &ballots).is_err()
                {
                    continue;
                }
                self.archive.admit(now, vec![envelope.clone()])?;
                if !self.is_offline() {
                    self.exchange.send(&envelope)?;
                }
                signed.push(format!("{}/{}", statement.lane, statement.seq));
            }
            if signed.len() == before {
                return Ok(signed);
            }
        }
    }

    /// What the recovery board and the board that it makes have both signed is kept and passed on; no
    /// laptop takes it into its chain. Its places, if they are new.
    pub(crate) fn publish_recoveries(&mut self) -> Result<Vec<String>, Failure> {
        let mut whole = Vec::new();
        for vote in self.recovery_votes()? {
            if let Some(signed) = vote.tally.signed() {
                whole.push(succession::completed(self, vote.slot, signed.clone())?);
            }
        }
        let mut places = Vec::new();
        for envelope in whole {
            let known = self.archive.find(&envelope.id()).is_some();
            let lacks_the_other = self.archive.chain().verify(self.context.now(), &envelope, &[]);
            if known || !matches!(lacks_the_other, Err(Refusal::Recovery { .. })) {
                continue;
            }
            self.archive.admit(self.context.now(), vec![envelope.clone()])?;
            if !self.is_offline() {
                self.exchange.send_to_folders(&envelope)?;
            }
            let statement = Statement::parse(&envelope).or_fail(|| "a signed non-statement")?;
            places.push(format!("{}/{}", statement.lane, statement.seq));
        }
        Ok(places)
    }

    /// Takes the paper of a recovery board, and leaves it in every folder.
    pub(crate) fn publish_paper(&mut self, paper: RecoveryBoard) -> Result<(), Failure> {
        let envelope = paper.envelope().clone();
        self.archive.keep_paper(paper)?;
        self.exchange.send_to_folders(&envelope)
    }

    /// Takes a policy of a recovery key into the chain: see [`Archive::accept_recovery`].
    pub(crate) fn accept_recovery(&mut self, id: Digest) -> Result<(), Failure> {
        self.archive.accept_recovery(id)
    }

    /// Goes on from a vetoed statement: see [`Archive::uphold`].
    pub(crate) fn uphold(&mut self, id: Digest, sits: bool) -> Result<(), Failure> {
        self.archive.uphold(id, sits)
    }

    /// Holds it dead again: see [`Archive::let_fall`].
    pub(crate) fn let_fall(&mut self, id: Digest) -> Result<(), Failure> {
        self.archive.let_fall(id)
    }
}

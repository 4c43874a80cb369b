//! The ledger's gate: what is signed and not applied yet, here as at the keeper.
//!
//! ```text
//! statement ─▶ Gate::offer ─┬▶ apply at once
//!                           └▶ objects/<lane>/<id>.json and gate.json, relayed, not in the chain
//! veto, pause, beacon ─▶ objects/, gate.json        tick, once a second ─▶ apply what has its time
//! ```
//!
//! The keeper obeys its own gate. This one keeps the agent's board, members and blobs in step with
//! it, and has what the keeper must be brought.

use std::collections::BTreeSet;
use std::io;

use borgios_peertree::Head;
use borgios_policy::{
    Beacon, Dated, Gate, Lane, Object as _, Offered, Pause, Refusal, Statement, Submission,
    Verdict, Veto,
};
use borgios_releases::Manifest;
use borgios_types::{Digest, Envelope};
use tracing::{error, info};

use crate::admission::{Denied, ballots_on};
use crate::clock::unix_now;
use crate::ledger::{Admitted, Ledger, Stop};

/// What governors say beside their votes, of which the gate and the keeper must know.
pub const SIGNS: [&str; 3] = [Veto::KIND, Pause::KIND, Beacon::KIND];

impl Ledger {
    /// What waits for its time.
    #[must_use]
    pub fn gate(&self) -> &Gate {
        self.gate.gate()
    }

    /// Judges a statement, stores it, and applies it if nothing is in its way.
    pub(crate) fn admit_statement(
        &mut self,
        envelope: Envelope,
        dated: Dated,
    ) -> Result<Admitted, Stop> {
        if self.vouched.contains(&envelope.id()) {
            return self.admit_vouched(envelope, dated);
        }
        let (mut gate, now) = (self.gate().clone(), unix_now());
        let mut submission = Submission { statement: envelope, ballots: Vec::new() };
        let id = submission.statement.id();
        let offered = match gate.offer(now, &self.chain, &submission, dated) {
            // Only then are they worth the search.
            Err(Refusal::TooFewApprovals { .. } | Refusal::TooFewRebuilds { .. }) => {
                submission.ballots = ballots_on(&self.store, id);
                gate.offer(now, &self.chain, &submission, dated)
            }
            other => other,
        };
        match offered.map_err(|refusal| Stop::Denied(refusal.into()))? {
            Offered::Known => Err(Stop::Denied(Denied::Known)),
            Offered::Apply(verified) => {
                body(&submission.statement)?;
                self.store_statement(*verified).map_err(Stop::Disk)
            }
            // Ballots that it needed later came in.
            Offered::Held(_) if self.store.get(&id).is_some() => {
                self.gate.save(gate).map_err(Stop::Disk)?;
                Err(Stop::Denied(Denied::Known))
            }
            Offered::Held(standing) => {
                let statement = body(&submission.statement)?;
                let (lane, seq, date) = (statement.lane, statement.seq.0, statement.issued.0);
                // The gate first: what lies in the store and not in the gate counts as applied.
                self.gate.save(gate).map_err(Stop::Disk)?;
                let object = self
                    .store
                    .put(submission.statement, "board".to_owned(), date)
                    .map_err(Stop::Disk)?;
                info!(
                    BORGIOS_EVENT = "statement_held",
                    BORGIOS_LANE = lane.as_str(),
                    BORGIOS_SEQ = seq,
                    BORGIOS_OBJECT = %id,
                    BORGIOS_STATE = standing.as_str(),
                    "{lane}/{seq} is kept back: {}",
                    standing.as_str()
                );
                self.bus.tell(&object, Some((lane, seq)));
                self.news.send_modify(|count| *count += 1);
                let (forgotten, head, contact, fanout, out) = (Vec::new(), None, None, None, None);
                Ok(Admitted { object, forgotten, head, contact, fanout, out })
            }
        }
    }

    /// From now on these statements are applied without a lock: the governor who invited this server
    /// vouches for them. What they are signed by, and their order, is judged as ever.
    pub(crate) fn vouch(&mut self, statements: BTreeSet<Digest>) {
        self.vouched = statements;
    }

    fn admit_vouched(&mut self, envelope: Envelope, dated: Dated) -> Result<Admitted, Stop> {
        let ballots = ballots_on(&self.store, envelope.id());
        let verdict = match dated {
            Dated::Asked => self.chain.verify(unix_now(), &envelope, &ballots),
            Dated::Judged => self.chain.verify_stored(&envelope, &ballots),
        };
        match verdict.map_err(|refusal| Stop::Denied(refusal.into()))? {
            Verdict::AlreadyKnown(_) => Err(Stop::Denied(Denied::Known)),
            Verdict::New(verified) => {
                body(&envelope)?;
                self.store_statement(*verified).map_err(Stop::Disk)
            }
        }
    }

    /// Lets the gate hear a veto, a pause or a beacon that was stored.
    pub(crate) fn hear(&mut self, envelope: &Envelope) -> io::Result<()> {
        let (mut gate, now) = (self.gate().clone(), unix_now());
        let heard = if envelope.kind.as_str() == Beacon::KIND {
            gate.beacon(now, &self.chain, envelope)
        } else {
            gate.object(now, &self.chain, envelope)
        };
        // What says nothing here (a second pause, a former board's word) stays on record alone.
        match heard {
            Ok(true) => self.gate.save(gate),
            Ok(false) | Err(_) => Ok(()),
        }
    }

    /// Applies what has its time now. To be called about once a second.
    pub fn tick(&mut self) -> Vec<Admitted> {
        let mut all = Vec::new();
        if let Err(error) = self.apply_due(&mut all) {
            error!(BORGIOS_EVENT = "disk_failed", "cannot apply what waited: {error}");
        }
        if !all.is_empty() {
            self.unpark(&mut all);
            self.tell_heads();
        }
        all
    }

    pub(crate) fn apply_due(&mut self, all: &mut Vec<Admitted>) -> io::Result<()> {
        loop {
            let mut gate = self.gate().clone();
            let tick = gate.tick(unix_now(), &self.chain);
            let mut gone: Vec<Digest> = Vec::new();
            for (submission, refusal) in tick.dropped {
                gone.push(submission.statement.id());
                if matches!(refusal, Refusal::Rival { .. }) {
                    self.keep_evidence(&submission.statement);
                }
            }
            if let Some(verified) = tick.apply {
                let mut admitted = self.store_statement(*verified)?;
                self.gate.save(gate)?;
                self.store.remove(&gone);
                admitted.forgotten.extend(gone);
                all.push(admitted);
            } else if tick.changed {
                self.gate.save(gate)?;
                self.store.remove(&gone);
                let Self { gate, chain, .. } = self;
                gate.gate().ripe().for_each(|id| chain.ripen(id));
            } else {
                self.gate.looked(gate);
                return Ok(());
            }
        }
    }

    /// The newest statement of a lane as neighbours compare it: a closed place counts.
    pub(crate) fn head_of(&self, lane: Lane) -> Option<Head> {
        self.chain.tip(lane).map(|tip| Head { seq: tip.seq.0, id: tip.id })
    }

    /// What the keeper must be brought of what governors say, the newest first.
    pub(crate) fn signs(&self) -> Vec<Envelope> {
        let all = SIGNS.into_iter().flat_map(|kind| self.store.list(kind, None));
        all.map(|stored| stored.envelope.clone()).collect()
    }

    /// The statements that wait here and that the keeper neither holds nor applied, in the order in
    /// which they build upon each other.
    pub(crate) fn waiting(&self, held: &[Digest]) -> Vec<Submission> {
        let waiting = self.gate().docs().filter(|(id, _)| !held.contains(id));
        let envelopes = waiting.flat_map(|(id, doc)| {
            let mut ballots = doc.submission().ballots.clone();
            ballots.extend(ballots_on(&self.store, *id));
            ballots.into_iter().chain([doc.submission().statement.clone()])
        });
        Submission::sort(envelopes.collect::<Vec<_>>())
    }
}

/// Reads a statement that the gate took, and checks the rules of a release's body.
fn body(envelope: &Envelope) -> Result<Statement, Stop> {
    let denied = |refusal: Refusal| Stop::Denied(refusal.into());
    let statement = Statement::parse(envelope).map_err(denied)?;
    let (lane, seq) = (statement.lane, statement.seq);
    if lane == Lane::Release
        && let Err(error) = Manifest::parse(&statement)
    {
        return Err(denied(Refusal::BadBody { lane, seq, why: error.to_string() }));
    }
    Ok(statement)
}

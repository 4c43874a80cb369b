//! The ledger's gate: what is signed and not applied yet, here as at the keeper.
//!
//! ```text
//! statement ─▶ Gate::offer ─┬▶ apply at once
//!                           └▶ gate.json alone, relayed, not in the chain
//! veto, pause, beacon ─▶ objects/, gate.json        tick, now and then ─▶ apply what has its time
//! ```
//!
//! `objects/<lane>/` holds what was applied and nothing else: no lost or late write of `gate.json`
//! can make a statement of what waits, or of what was vetoed.
//!
//! The keeper obeys its own gate. This one keeps the agent's board, members and blobs in step with
//! it, and has what the keeper must be brought.

use std::collections::BTreeSet;
use std::io;

use borgios_peertree::Head;
use borgios_policy::gate::Standing;
use borgios_policy::{
    Beacon, Chain, Dated, Gate, Lane, Object as _, Offered, Pause, Refusal, Statement, Submission,
    Verdict, Veto, message,
};
use borgios_releases::Manifest;
use borgios_types::{Digest, Envelope, PublicKey};
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
                submission.ballots = ballots_on(&self.store, &submission.statement);
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
                self.gate.save(gate).map_err(Stop::Disk)?;
                // No file: what lies in the store counts as applied at the next start.
                let object = self.store.index(submission.statement, "board".to_owned(), date);
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
                let (forgotten, head, contact, fanout) = (Vec::new(), None, None, None);
                let (out, reopened) = (None, None);
                Ok(Admitted { object, forgotten, head, contact, fanout, out, reopened })
            }
        }
    }

    /// From now on these statements are applied without a lock: the governor who invited this server
    /// vouches for them. What they are signed by, and their order, is judged as ever.
    pub(crate) fn vouch(&mut self, statements: BTreeSet<Digest>) {
        self.vouched = statements;
        self.steps += 1;
    }

    fn admit_vouched(&mut self, envelope: Envelope, dated: Dated) -> Result<Admitted, Stop> {
        let ballots = ballots_on(&self.store, &envelope);
        let verify = |chain: &Chain| match dated {
            Dated::Asked => chain.verify(unix_now(), &envelope, &ballots),
            Dated::Judged => chain.verify_stored(&envelope, &ballots),
        };
        let mut verdict = verify(&self.chain);
        if let Err(Refusal::Recovery { .. }) = verdict {
            // A newcomer heard no silence: whether it came into force, the invitation says.
            let mut gate = self.gate().clone();
            if gate.vouch(envelope.id()) {
                self.gate.save(gate).map_err(Stop::Disk)?;
            }
            self.chain.ripen(envelope.id());
            verdict = verify(&self.chain);
        }
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

    /// Applies what has its time now. To be called about once a second while something waits, and now and
    /// then else.
    pub fn tick(&mut self) -> Vec<Admitted> {
        let mut all = std::mem::take(&mut self.untold);
        let before = all.len();
        if let Err(error) = self.apply_due(&mut all) {
            error!(BORGIOS_EVENT = "disk_failed", "cannot apply what waited: {error}");
        }
        if all.len() > before {
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
                self.set_apart(submission.statement.id());
                if matches!(refusal, Refusal::Rival { .. }) {
                    self.keep_evidence(&submission.statement);
                }
            }
            if let Some(verified) = tick.apply {
                let mut admitted = self.store_statement(*verified)?;
                let saved = self.gate.save(gate);
                if admitted.object.kind() == Lane::Policy.as_str() {
                    self.searched.clear();
                }
                if saved.is_ok() {
                    self.store.remove(&gone);
                    admitted.forgotten.extend(gone);
                }
                // It is applied, whatever the disk says of the gate, which forgets it the next time.
                all.push(admitted);
                saved?;
            } else if tick.changed {
                self.gate.save(gate)?;
                self.store.remove(&gone);
                let Self { gate, chain, .. } = self;
                gate.gate().ripe().for_each(|id| chain.ripen(id));
            } else if self.add_ballots(&mut gate) {
                if let Err(error) = self.gate.save(gate) {
                    self.searched.clear();
                    return Err(error);
                }
            } else {
                self.gate.looked(gate);
                return Ok(());
            }
        }
    }

    /// Gives what waits and lacks ballots, under rules that came meanwhile, those that the store has;
    /// returns whether there were any. Each is searched once, until there is a new one.
    fn add_ballots(&mut self, gate: &mut Gate) -> bool {
        let now = unix_now();
        let mut added = false;
        for held in gate.report(now, &self.chain) {
            if !lacks_ballots(&held.standing) || !self.searched.insert(held.id) {
                continue;
            }
            let Some(waiting) = gate.waiting(&held.id) else { continue };
            let statement = waiting.statement.clone();
            let ballots = ballots_on(&self.store, &statement);
            let submission = Submission { statement, ballots };
            let offered = gate.offer(now, &self.chain, &submission, Dated::Judged);
            added |= matches!(offered, Ok(Offered::Held(_)));
        }
        added
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

    /// Whether an envelope is a policy that the recovery key of the policy in force signed: the one thing
    /// that whoever brings it may bring, since no governor may be left to do it.
    #[must_use]
    pub fn is_recovery(&self, envelope: &Envelope) -> bool {
        let key = self.recovery_key();
        envelope.kind == Lane::Policy.kind()
            && key.is_some_and(|key| message::signed_by(envelope, &key))
    }

    /// The recovery key of the policy in force, if it names one.
    #[must_use]
    pub fn recovery_key(&self) -> Option<PublicKey> {
        Some(self.chain.policy()?.recovery?.group)
    }

    /// The statements that wait here and that are not `held` by the keeper nor applied there, in the order in
    /// which they build upon each other.
    pub(crate) fn waiting(&self, held: &[Digest]) -> Vec<Submission> {
        let waiting = self.gate().docs().filter(|(id, _)| !held.contains(id));
        let envelopes = waiting.flat_map(|(_, doc)| {
            let mut ballots = doc.submission().ballots.clone();
            ballots.extend(ballots_on(&self.store, &doc.submission().statement));
            ballots.into_iter().chain([doc.submission().statement.clone()])
        });
        Submission::sort(envelopes.collect::<Vec<_>>())
    }
}

/// Whether more ballots can make a statement count.
pub(crate) fn lacks_ballots(standing: &Standing) -> bool {
    let Standing::Refused { code, .. } = standing else { return false };
    ["too_few_approvals", "too_few_rebuilds"].contains(&code.as_str())
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

#[cfg(test)]
mod tests {
    use borgios_policy::fixture::{Council, statement as draft};
    use borgios_policy::{Board, Freshness, Objection, Policy, Recovery, merge_signatures};
    use borgios_types::Seq;
    use serde_json::json;

    use super::*;
    use crate::ledger::Admission;

    const LOCK_S: u64 = 86_400;

    fn policy(council: &Council, rules: &Policy, before: Option<Digest>) -> Envelope {
        let seq = 1 + u64::from(before.is_some());
        let (under, body) = (before.map(|_| 1), rules.to_body());
        council.sign(&dated(draft(Lane::Policy, seq, before, before, under, body)))
    }

    /// release/1 under policy/1.
    fn release(network: Digest) -> Statement {
        let digest = Digest::of(b"keeper");
        let component = json!({"name": "app", "digest": digest, "size": 6});
        let body = json!({
            "version": "1", "components": [component], "floor": 1,
            "installer": {"digest": digest, "size": 6},
        });
        dated(draft(Lane::Release, 1, Some(network), None, Some(1), body))
    }

    fn dated(statement: Statement) -> Statement {
        Statement { issued: unix_now(), expires: unix_now().plus(LOCK_S), ..statement }
    }

    fn rules(council: &Council, change: impl FnOnce(&mut Policy)) -> Policy {
        let mut policy = council.policy(2);
        change(&mut policy);
        policy
    }

    fn veto(
        board: &Board,
        council: &Council,
        by: usize,
        network: Digest,
        on: &Envelope,
    ) -> Envelope {
        let (governor, statement) = (council.name(by), on.id());
        let key = &council.keys[&governor];
        let veto = Objection {
            network,
            group: board.group(),
            governor,
            statement,
            lane: Lane::Release,
            seq: Seq(1),
            reason: "no".to_owned(),
            at: unix_now(),
        };
        Veto(veto).to_envelope().sign(key)
    }

    /// A ledger under `policy`, and the network.
    fn ledger(folder: &std::path::Path, council: &Council, policy: &Policy) -> (Ledger, Digest) {
        let first = self::policy(council, policy, None);
        let mut ledger = Ledger::open(folder, 0).unwrap();
        ledger.pin(first.id()).unwrap();
        admitted(&mut ledger, &first);
        (ledger, first.id())
    }

    fn admitted(ledger: &mut Ledger, envelope: &Envelope) {
        let admission = ledger.admit(envelope.clone(), "a test");
        assert!(matches!(admission, Admission::Admitted(_)), "{admission:?}");
    }

    fn head(ledger: &Ledger, lane: Lane) -> u64 {
        ledger.chain().head_seq(lane).0
    }

    /// A newcomer heard no silence; its invitation says that the recovery came into force.
    #[test]
    fn a_recovery_that_an_invitation_led_to_counts_and_survives_a_restart() {
        let (council, rescue) = (Council::new(3, 2, 1, 1), Council::new(3, 2, 1, 77));
        let folder = tempfile::tempdir().unwrap();
        let rules = rules(&council, |policy| {
            policy.freshness = Some(Freshness { beacons: 2, max_age_s: LOCK_S });
            let (group, silence_s) = (rescue.board.group(), 30 * LOCK_S);
            policy.recovery = Some(Recovery { group, silence_s, lock_s: 14 * LOCK_S });
        });
        let (mut ledger, network) = ledger(folder.path(), &council, &rules);
        let new = Council::new(3, 2, 2, 5);
        let (this, body) = (Some(network), new.policy(2).to_body());
        let next = dated(draft(Lane::Policy, 2, this, this, Some(1), body));
        let next = merge_signatures(&rescue.sign(&next), &new.sign(&next)).unwrap();
        assert!(ledger.is_recovery(&next));
        let early = ledger.admit(next.clone(), "a test");
        assert!(matches!(early, Admission::Deferred { code: "recovery", .. }), "{early:?}");
        ledger.vouch([next.id()].into());
        admitted(&mut ledger, &next);
        drop(ledger);
        let ledger = Ledger::open(folder.path(), 0).unwrap();
        assert_eq!(ledger.chain().policy().unwrap().board, new.board);
        assert!(!ledger.is_recovery(&next), "the new board names no recovery key");
    }

    /// A file in the store is an applied statement at the next start, whatever became of the gate's.
    #[test]
    fn what_waits_has_no_file_so_that_a_lost_gate_applies_nothing() {
        let council = Council::new(3, 2, 1, 1);
        let folder = tempfile::tempdir().unwrap();
        let policy = rules(&council, |policy| policy.classes.release.lock_s = Some(LOCK_S));
        let (mut ledger, network) = ledger(folder.path(), &council, &policy);
        let one = council.sign(&release(network));
        admitted(&mut ledger, &one);
        assert!(ledger.store.get(&one.id()).is_some(), "it is relayed");
        let file = ledger.store.path(&one);
        assert!(!file.exists());
        drop(ledger);
        // A build before this one left a file.
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, one.to_json()).unwrap();
        let ledger = Ledger::open(folder.path(), 0).unwrap();
        assert!(
            ledger.store.get(&one.id()).is_some() && ledger.gate().waiting(&one.id()).is_some()
        );
        assert!(!file.exists());
        drop(ledger);
        std::fs::write(folder.path().join("gate.json"), "{").unwrap();
        let mut ledger = Ledger::open(folder.path(), 0).unwrap();
        assert_eq!((head(&ledger, Lane::Policy), head(&ledger, Lane::Release)), (1, 0));
        // It comes again, and its lock begins anew.
        admitted(&mut ledger, &one);
        assert_eq!(head(&ledger, Lane::Release), 0);
    }

    #[test]
    fn a_veto_that_the_gate_could_not_store_is_taken_when_it_comes_again() {
        let council = Council::new(3, 2, 1, 1);
        let folder = tempfile::tempdir().unwrap();
        let policy = rules(&council, |policy| policy.classes.release.lock_s = Some(LOCK_S));
        let (mut ledger, network) = ledger(folder.path(), &council, &policy);
        let one = council.sign(&release(network));
        admitted(&mut ledger, &one);
        // A folder where the gate's file should be: stands in for any failing disk.
        let gate = folder.path().join("gate.json");
        std::fs::remove_file(&gate).unwrap();
        std::fs::create_dir(&gate).unwrap();
        let veto = veto(&council.board, &council, 0, network, &one);
        let admission = ledger.admit(veto.clone(), "a test");
        assert!(matches!(admission, Admission::Disk(_)), "{admission:?}");
        assert!(ledger.store.get(&veto.id()).is_none() && !ledger.store.path(&veto).exists());
        std::fs::remove_dir(&gate).unwrap();
        admitted(&mut ledger, &veto);
        assert_eq!(ledger.gate().vetoes_on(&one.id()).count(), 1);
    }

    /// A statement that was stored is applied, and the rest of the agent hears of it, whatever becomes of the
    /// gate's file.
    #[test]
    fn what_is_applied_is_told_though_the_gate_could_not_be_stored() {
        let council = Council::new(3, 2, 1, 1);
        let folder = tempfile::tempdir().unwrap();
        let policy = rules(&council, |policy| policy.classes.release.lock_s = Some(1));
        let (mut ledger, network) = ledger(folder.path(), &council, &policy);
        let one = council.sign(&release(network));
        admitted(&mut ledger, &one);
        assert_eq!(head(&ledger, Lane::Release), 0);
        let gate = folder.path().join("gate.json");
        std::fs::remove_file(&gate).unwrap();
        std::fs::create_dir(&gate).unwrap();
        let begun = std::time::Instant::now();
        let applied = loop {
            let applied = ledger.tick();
            if !applied.is_empty() || begun.elapsed().as_secs() > 20 {
                break applied;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        };
        assert_eq!(applied.iter().map(|one| one.object.id).collect::<Vec<_>>(), [one.id()]);
        assert_eq!(head(&ledger, Lane::Release), 1);
        std::fs::remove_dir(&gate).unwrap();
        assert!(ledger.tick().is_empty());
        assert_eq!(ledger.gate().docs().count(), 0, "it is forgotten there the next time");
    }

    /// Who sits on the board that a locked change makes signs releases under it already, and so must be heard
    /// against them; and what was heard stays over a restart.
    #[test]
    fn a_veto_of_a_board_to_come_is_taken_while_its_change_is_locked() {
        let (council, new) = (Council::new(3, 2, 1, 1), Council::new(3, 2, 2, 9));
        let before = rules(&council, |policy| {
            policy.classes.policy.lock_s = Some(LOCK_S);
            policy.classes.release.lock_s = Some(LOCK_S);
        });
        let folder = tempfile::tempdir().unwrap();
        let (mut ledger, network) = ledger(folder.path(), &council, &before);
        let after = Policy { board: new.board.clone(), ..before };
        let body = after.to_body();
        let change = dated(draft(Lane::Policy, 2, Some(network), Some(network), Some(1), body));
        let change = merge_signatures(&council.sign(&change), &new.sign(&change)).unwrap();
        let bad = new.sign(&Statement { policy: Some(Seq(2)), ..release(network) });
        let vetoes = [0, 1].map(|by| veto(&new.board, &new, by, network, &bad));
        let early = ledger.admit(vetoes[0].clone(), "a test");
        assert!(matches!(early, Admission::Deferred { .. }), "nobody knows that board: {early:?}");
        for envelope in [&change, &bad, &vetoes[1]] {
            admitted(&mut ledger, envelope);
        }
        let check = |ledger: &Ledger| {
            assert_eq!(head(ledger, Lane::Policy), 1);
            let id = bad.id();
            let heard = ledger.gate().vetoes_on(&id).map(|voice| voice.objection.governor.clone());
            assert_eq!(heard.collect::<Vec<_>>(), [new.name(0), new.name(1)]);
            // And the keeper is brought them.
            assert_eq!(ledger.signs().len(), 2);
        };
        check(&ledger);
        drop(ledger);
        check(&Ledger::open(folder.path(), 0).unwrap());
    }

    /// Stricter rules come while a release waits: it counts with the ballots that are here, be they
    /// here before its turn or after it.
    #[test]
    fn stricter_rules_make_what_waits_look_for_its_ballots() {
        for early in [2, 3] {
            let council = Council::new(3, 2, 1, 1);
            let folder = tempfile::tempdir().unwrap();
            let stale = rules(&council, |policy| {
                policy.freshness = Some(Freshness { beacons: 2, max_age_s: 86_400 });
            });
            let (mut ledger, network) = ledger(folder.path(), &council, &stale);
            let one = release(network);
            let pools = council.pools(council.slot(&one));
            let ballots: Vec<Envelope> =
                (0..3).map(|at| council.approve(&council.name(at), &one, &pools)).collect();
            let one = council.sign(&one);
            for ballot in &ballots[..early] {
                admitted(&mut ledger, ballot);
            }
            admitted(&mut ledger, &one);
            let standing = ledger.gate().standing(unix_now(), ledger.chain(), &one.id());
            assert!(matches!(standing, Some(Standing::Stale { .. })), "{standing:?}");
            let stricter = rules(&council, |policy| policy.classes.release.approvals = 3);
            let stricter = policy(&council, &stricter, Some(network));
            admitted(&mut ledger, &stricter);
            assert_eq!(head(&ledger, Lane::Policy), 2);
            assert_eq!(head(&ledger, Lane::Release), u64::from(early == 3));
            if early == 2 {
                let standing = ledger.gate().standing(unix_now(), ledger.chain(), &one.id());
                assert!(lacks_ballots(&standing.unwrap()));
                admitted(&mut ledger, &ballots[2]);
            }
            assert_eq!(head(&ledger, Lane::Release), 1);
            drop(ledger);
            let ledger = Ledger::open(folder.path(), 0).unwrap();
            assert_eq!(head(&ledger, Lane::Release), 1, "with the ballots it stands on");
        }
    }
}

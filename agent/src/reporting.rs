//! What the keeper says, told to the fleet: the outcome of its last install, which epoch's verifier
//! root carries here, and the receipt for this server's root.
//!
//! Each is asked for only when the keeper's status says something else than what was published
//! last. A keeper whose words change with every look must not flood the fleet: `rotation_is_due`.

use borgios_policy::{Handover, Object as _, Report, RotationReport};
use borgios_types::{Envelope, PublicKey, UnixSeconds};
use tracing::{debug, info};

use crate::admission::AHEAD_MAX;
use crate::clock::unix_now;
use crate::entrance::Entrance;
use crate::keeper::protocol::{CredentialStatus, LastInstall, Status};
use crate::keeper_client::KeeperError;
use crate::keeper_watch::KeeperWatch;
use crate::ledger::Ledger;

/// A change of epoch is told this many times sooner than one of the problem alone.
const SOONER: u64 = 20;

impl KeeperWatch {
    /// Publishes what the keeper says and the fleet has not heard.
    pub(crate) async fn publish_reports(&mut self, status: &Status) -> Result<(), KeeperError> {
        if let Some(last) = &status.last {
            self.publish_report(status, last).await?;
        }
        if let Some(credential) = &status.credential {
            self.publish_rotation(status, credential).await?;
        }
        if status.handed_over {
            self.publish_handover(status).await?;
        }
        Ok(())
    }

    async fn publish_report(&self, status: &Status, last: &LastInstall) -> Result<(), KeeperError> {
        let (release, outcome) = (last.release, last.outcome);
        let published = self.published::<Report>().await;
        if !report_is_due(published.as_ref(), &status.keeper, last, unix_now()) {
            return Ok(());
        }
        let report = self.keeper.report(self.me).await?;
        if self.publish(report).await {
            info!(
                BORGIOS_EVENT = "report",
                BORGIOS_SEQ = release.0,
                BORGIOS_OUTCOME = ?outcome,
                "the keeper reports on release/{release}"
            );
        }
        Ok(())
    }

    async fn publish_rotation(
        &self,
        status: &Status,
        credential: &CredentialStatus,
    ) -> Result<(), KeeperError> {
        let published = self.published::<RotationReport>().await;
        let gap = self.pace.report.as_secs();
        if !rotation_is_due(published.as_ref(), &status.keeper, credential, unix_now(), gap) {
            return Ok(());
        }
        let Some(report) = refused_is_none(self.keeper.rotation(self.me).await)? else {
            return Ok(());
        };
        if self.publish(report).await {
            info!(
                BORGIOS_EVENT = "rotation",
                BORGIOS_EPOCH = credential.epoch.0,
                "the keeper reports epoch {}",
                credential.epoch.0
            );
        }
        Ok(())
    }

    async fn publish_handover(&mut self, status: &Status) -> Result<(), KeeperError> {
        let published = self.published::<Handover>().await;
        let known = published.is_some_and(|handover| handover.keeper == status.keeper);
        // Once in each life even so: the receipt may have been made again.
        if known && self.handover_asked {
            return Ok(());
        }
        let Some(receipt) = refused_is_none(self.keeper.handover().await)? else { return Ok(()) };
        if is_ahead(&receipt, unix_now()) {
            debug!("the receipt is dated ahead of this clock; it is told once its date has come");
            return Ok(());
        }
        self.handover_asked = true;
        if self.publish(receipt).await {
            info!(BORGIOS_EVENT = "handed_over", "root of this server belongs to the network");
        }
        Ok(())
    }

    /// What was published last of this node.
    async fn published<T: borgios_policy::Object + Send + 'static>(&self) -> Option<T> {
        let me = self.me.to_string();
        self.ledger
            .run(move |ledger| {
                let newest = ledger.store().owned(T::KIND, &me).next_back()?;
                T::parse(&newest.envelope).ok()
            })
            .await
    }

    /// Publishes what the keeper signed; returns whether it is news.
    async fn publish(&self, signed: Envelope) -> bool {
        let judge = move |ledger: &mut Ledger| ledger.admit(signed, "the keeper");
        match self.ledger.enter(&self.tree, judge).await {
            Entrance::New => true,
            Entrance::Known | Entrance::Disk(_) => false,
            Entrance::Deferred { why, .. } | Entrance::Refused { why, .. } => {
                debug!("what the keeper says is not accepted now: {why}");
                false
            }
        }
    }
}

/// A keeper that does not say it yet is asked again another time.
fn refused_is_none(answer: Result<Envelope, KeeperError>) -> Result<Option<Envelope>, KeeperError> {
    match answer {
        Ok(envelope) => Ok(Some(envelope)),
        Err(KeeperError::Refused { code, message }) => {
            debug!(code, "the keeper does not sign it now: {message}");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Whether a receipt is from a clock that was ahead. It is signed once, so there is no other to tell, and
/// before its date nobody takes it, this node least: it would be refused, with a warning, at every look.
fn is_ahead(receipt: &Envelope, now: UnixSeconds) -> bool {
    Handover::parse(receipt).is_ok_and(|handover| handover.at > now.plus(AHEAD_MAX))
}

/// Whether the keeper says something about its last install that was not published. One that ended while
/// the clock was ahead is later than any report of it can be: it is told once, not at every look.
fn report_is_due(
    published: Option<&Report>,
    keeper: &PublicKey,
    last: &LastInstall,
    now: UnixSeconds,
) -> bool {
    let told = |said: &Report| {
        let same = (said.release, said.outcome) == (last.release, last.outcome);
        same && said.keeper == *keeper && (said.at >= last.at || last.at > now)
    };
    !published.is_some_and(told)
}

/// Whether the keeper says something about the credential that was not published, and may say it
/// now: another problem at most every `gap` seconds, another epoch somewhat sooner.
fn rotation_is_due(
    published: Option<&RotationReport>,
    keeper: &PublicKey,
    now_says: &CredentialStatus,
    now: UnixSeconds,
    gap: u64,
) -> bool {
    let Some(said) = published.filter(|said| said.keeper == *keeper) else { return true };
    let CredentialStatus { epoch, due, changed, exhausted, problem, .. } = now_says;
    if (said.epoch, said.due, said.changed) != (*epoch, *due, *changed) {
        return now >= said.at.plus(gap / SOONER);
    }
    (said.exhausted, &said.problem) != (*exhausted, problem) && now >= said.at.plus(gap)
}

#[cfg(test)]
mod tests {
    use super::*;
    use borgios_policy::Outcome;
    use borgios_types::{Digest, Epoch, SecretKey, Seq};

    #[test]
    fn an_install_that_ended_while_the_clock_was_ahead_is_told_once() {
        let keeper = SecretKey::from_seed([1; 32]).public();
        let now = UnixSeconds(1_000_000);
        let last =
            |at| LastInstall { release: Seq(4), outcome: Outcome::Committed, reason: None, at };
        let said = |at| Report {
            network: Digest::of(b"network"),
            node: SecretKey::from_seed([2; 32]).public(),
            keeper,
            release: Seq(4),
            outcome: Outcome::Committed,
            reason: None,
            running: [].into(),
            at,
        };
        let due = |published: Option<&Report>, last: &LastInstall| {
            report_is_due(published, &keeper, last, now)
        };
        let ahead = last(now.plus(40 * 86_400));
        assert!(due(None, &ahead));
        assert!(!due(Some(&said(UnixSeconds(now.0 - 10))), &ahead));
        // The same release again, some time later.
        assert!(due(Some(&said(UnixSeconds(now.0 - 10))), &last(now)));
        assert!(!due(Some(&said(now)), &last(now)));
        let other = LastInstall { outcome: Outcome::RolledBack, ..ahead };
        assert!(due(Some(&said(now)), &other));
    }

    #[test]
    fn a_receipt_of_a_clock_that_was_ahead_is_told_once_its_date_has_come() {
        let keeper = SecretKey::from_seed([1; 32]);
        let at = UnixSeconds(1_000_000_000);
        let handover = Handover {
            network: Digest::of(b"network"),
            node: SecretKey::from_seed([2; 32]).public(),
            keeper: keeper.public(),
            name: "web-1".parse().unwrap(),
            host_keys: Vec::new(),
            taken: [].into(),
            owner: None,
            at,
        };
        let receipt = handover.to_envelope().sign(&keeper);
        assert!(is_ahead(&receipt, UnixSeconds(at.0 - 40 * 86_400)));
        assert!(is_ahead(&receipt, UnixSeconds(at.0 - AHEAD_MAX - 1)));
        // From here on the ledger takes it.
        assert!(!is_ahead(&receipt, UnixSeconds(at.0 - AHEAD_MAX)));
        assert!(!is_ahead(&receipt, at));
    }

    #[test]
    fn a_keeper_whose_words_change_does_not_flood_the_fleet() {
        let keeper = SecretKey::from_seed([1; 32]).public();
        let status = |epoch, problem: Option<&str>| CredentialStatus {
            epoch: Epoch(epoch),
            due: UnixSeconds(epoch * 100),
            next: None,
            changed: UnixSeconds(epoch * 100 + 1),
            exhausted: false,
            schedule: Digest::of(b"schedule"),
            problem: problem.map(str::to_owned),
        };
        let said = RotationReport {
            network: Digest::of(b"network"),
            node: SecretKey::from_seed([2; 32]).public(),
            keeper,
            epoch: Epoch(7),
            due: UnixSeconds(700),
            changed: UnixSeconds(701),
            exhausted: false,
            problem: None,
            at: UnixSeconds(1_000),
        };
        let due = |status: &CredentialStatus, now| {
            rotation_is_due(Some(&said), &keeper, status, UnixSeconds(now), 600)
        };
        assert!(rotation_is_due(None, &keeper, &status(7, None), UnixSeconds(1), 600));
        assert!(!due(&status(7, None), 9_999));
        assert!(!due(&status(7, Some("disk full")), 1_599));
        assert!(due(&status(7, Some("disk full")), 1_600));
        assert!(!due(&status(8, None), 1_029));
        assert!(due(&status(8, None), 1_030));
        let other = SecretKey::from_seed([3; 32]).public();
        assert!(rotation_is_due(Some(&said), &other, &status(7, None), UnixSeconds(1_000), 600));
    }
}

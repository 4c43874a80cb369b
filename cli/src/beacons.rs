//! The beacons of this governor: when one is due, and how it is made.

use borgios_policy::{Beacon, BeaconHead, Lane, Object as _};
use borgios_types::Envelope;

use crate::failure::Failure;
use crate::session::Session;

/// Seconds after which a command that talks to others sends the next one: servers count one for a
/// day or so, and an exchange folder keeps each.
const PACE_S: u64 = 3_600;

impl Session<'_> {
    /// Sends a beacon, on the board whose beacons the nodes count.
    pub(crate) fn beacon(&mut self) -> Result<Envelope, Failure> {
        let (board, me) = self.on_the_nodes_board()?;
        let chain = self.desk.archive().chain();
        let heads = Lane::ALL.into_iter().filter_map(|lane| {
            let tip = chain.tip(lane)?;
            Some((lane, BeaconHead { seq: tip.seq, id: tip.id }))
        });
        let last = self.desk.archive().beacon_of(board, me).map(|held| held.value.counter);
        let beacon = Beacon {
            network: self.network(),
            group: board.group(),
            governor: me.clone(),
            time: self.desk.context().now(),
            heads: heads.collect(),
            counter: last.unwrap_or(0) + 1,
        };
        let envelope = beacon.to_envelope().sign(self.identity().ssh());
        self.desk.publish(&envelope)?;
        Ok(envelope)
    }

    /// Sends one if the policy asks for beacons and the last one is old. A failure is said and no
    /// more: it must not stand in the way of what was asked for.
    pub(crate) fn beacon_if_due(&mut self) {
        let asked = self.desk.archive().chain().policy().is_some_and(|p| p.freshness.is_some());
        if self.desk.is_offline() || !asked {
            return;
        }
        let now = self.desk.context().now();
        let last = match self.on_the_nodes_board() {
            Ok((board, me)) => self.desk.archive().beacon_of(board, me).map(|held| held.value.time),
            Err(_) => return,
        };
        if last.is_some_and(|last| now < last.plus(PACE_S) && last <= now) {
            return;
        }
        if let Err(failure) = self.beacon() {
            self.desk.context().printer.warn(&failure.summary());
        }
    }
}

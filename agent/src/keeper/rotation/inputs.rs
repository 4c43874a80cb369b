//! What the chain says of the shared root credential.

use borgios_credentials::Orders;
use borgios_policy::credential::Credential;
use borgios_policy::{Chain, Lane};
use borgios_types::{Digest, Seq, UnixSeconds};

/// Everything that decides which verifier is wanted, but for the schedule itself and the clock.
#[derive(Clone, Debug)]
pub(super) struct Inputs {
    /// The fleet.
    pub(super) network: Digest,
    /// Schedules, the one in force first.
    pub(super) schedules: Vec<Digest>,
    /// What the board ordered.
    pub(super) orders: Orders,
    /// When the newest statement was issued: it cannot be earlier than that.
    pub(super) newest: UnixSeconds,
}

impl Inputs {
    pub(super) fn of(chain: &Chain) -> Self {
        let network = chain.network().expect("a keeper's chain is only ever read with a pin");
        let mut schedules: Vec<Digest> = Vec::new();
        let mut orders = Orders { revealed: chain.reveals(), ..Orders::default() };
        for verified in chain.after(Lane::Credential, Seq(0)) {
            let Ok(credential) = Credential::of(verified.statement()) else { continue };
            schedules.retain(|digest| *digest != credential.schedule.digest);
            schedules.insert(0, credential.schedule.digest);
            if credential.min_epoch > orders.min_epoch {
                orders.min_epoch = credential.min_epoch;
                orders.min_since = verified.statement().issued;
            }
        }
        Self { network, schedules, orders, newest: chain.now_floor() }
    }
}

//! `borgios access revoke`: asks the board to end certificates before their time.

use borgios_policy::{AccessOrder, Lane, Revoke as Order};
use clap::Args;

use crate::commands::propose::{Terms, propose};
use crate::context::Context;
use crate::failure::Failure;
use crate::session::Session;

/// Ask the board to end certificates early
#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// Serial numbers, as `borgios access list` shows them
    #[arg(value_name = "SERIAL", required = true)]
    serials: Vec<u64>,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    terms: Terms,
}

impl Revoke {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let mut session = Session::open(context)?;
        let chain = session.desk.archive().chain();
        let granted: Vec<u64> = chain.grants().iter().map(|granted| granted.grant.serial).collect();
        let revoked = chain.revoked();
        for serial in &self.serials {
            if !granted.contains(serial) {
                return Err(Failure::new(format!("no certificate {serial} was ever granted"))
                    .hint("`borgios access list` shows every serial number"));
            }
            if revoked.contains(serial) {
                return Err(Failure::new(format!("certificate {serial} is revoked already")));
            }
        }
        let mut serials = self.serials;
        serials.sort_unstable();
        serials.dedup();
        let order = AccessOrder::Revoke(Order { serials, reason: self.reason });
        propose(context, &mut session, Lane::Access, order.to_body(), self.terms)
    }
}

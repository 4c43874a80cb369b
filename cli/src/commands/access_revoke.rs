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
    /// Which, as `borgios access list` shows them: access/4, or 4
    #[arg(value_name = "access/N", required = true, value_parser = serial)]
    serials: Vec<u64>,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    terms: Terms,
}

/// The serial number of a grant, which is that of its place.
fn serial(text: &str) -> Result<u64, String> {
    let number = text.strip_prefix("access/").unwrap_or(text);
    number.parse().map_err(|_| format!("{text:?} is no certificate: write access/4, or 4"))
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
                    .hint("`borgios access list` shows them: the number behind `access/`"));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_named_by_its_place_or_its_number() {
        assert_eq!((serial("access/4"), serial("4")), (Ok(4), Ok(4)));
        for bad in ["", "access/", "release/4", "access/x", "-1"] {
            assert!(serial(bad).is_err(), "{bad:?}");
        }
    }
}

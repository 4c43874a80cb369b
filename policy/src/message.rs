//! What exactly the group key signs for a statement.
//!
//! ```text
//! grant of root access ─▶ the to-be-signed bytes of the OpenSSH certificate that follows from it
//! any other statement ──▶ the SSHSIG preimage of its payload, namespace borgios-<lane>@v1
//! ```
//!
//! The two kinds of bytes begin differently (`00 00 00 20 "ssh-ed25519-cert…"` and `"SSHSIG"`), so
//! no signature of one kind is one of the other. Which kind a text has, follows from the text
//! alone.

use borgios_types::limits::SIGNATURES_MAX;
use borgios_types::{Envelope, PublicKey, sshsig};

use crate::access::AccessOrder;
use crate::lane::Lane;
use crate::statement::Statement;

/// The bytes a signature by `group` over the statement `payload` of `lane` covers.
#[must_use]
pub fn signed_bytes(lane: Lane, payload: &str, group: &PublicKey) -> Vec<u8> {
    certificate_bytes(lane, payload, group)
        .unwrap_or_else(|| sshsig::preimage(&lane.namespace(), payload.as_bytes()))
}

/// Whether one of the signatures of the statement in `envelope` is a valid one by `group`.
#[must_use]
pub fn signed_by(envelope: &Envelope, group: &PublicKey) -> bool {
    let Ok(lane) = envelope.kind.as_str().parse::<Lane>() else { return false };
    let sigs = envelope.sigs.iter().take(SIGNATURES_MAX).filter(|sig| sig.by == *group);
    let bytes = signed_bytes(lane, &envelope.payload, group);
    sigs.into_iter().any(|sig| group.verifies_bytes(&bytes, &sig.sig))
}

fn certificate_bytes(lane: Lane, payload: &str, group: &PublicKey) -> Option<Vec<u8>> {
    if lane != Lane::Access {
        return None;
    }
    let draft = Envelope::unsigned(lane.kind(), payload.to_owned());
    let statement = Statement::parse(&draft).ok()?;
    match AccessOrder::of(&statement).ok()? {
        AccessOrder::Grant(grant) => {
            grant.certificate(&statement, draft.id(), group).to_be_signed()
        }
        AccessOrder::Revoke(_) | AccessOrder::Reveal(_) => None,
    }
}

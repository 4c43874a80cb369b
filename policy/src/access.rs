//! The lane `access`: who may enter which node as root, and for how long.
//!
//! ```text
//! {order: "grant", node, serial, key, after, before, class, sources, reason}   a certificate
//! {order: "revoke", serials, reason}                                           its early end
//! {order: "reveal", epoch, to, until, reason}                                  a shared password
//! ```
//!
//! A grant is signed *as* the OpenSSH certificate that follows from it: [`crate::message`].

use core::net::IpAddr;

use borgios_types::{
    Digest, Envelope, Epoch, NodeId, PublicKey, Seq, UnixSeconds, UserCertificate,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::lane::Lane;
use crate::object::TEXT_MAX;
use crate::statement::Statement;

/// Longest validity of a grant, in seconds: a working day and the night after it.
pub const GRANT_MAX_S: u64 = 24 * 3600;
/// Longest time from a reveal's date to its end, in seconds.
pub const REVEAL_MAX_S: u64 = 24 * 3600;
/// Most addresses a grant may be bound to.
pub const SOURCES_MAX: usize = 8;
/// Most grants one statement may revoke.
pub const SERIALS_MAX: usize = 256;

/// One order of the lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "lowercase")]
pub enum AccessOrder {
    /// A certificate.
    Grant(Grant),
    /// The early end of certificates.
    Revoke(Revoke),
    /// The fleet's shared root password of one epoch, to one recipient.
    Reveal(Reveal),
}

/// Root access to one node by certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The node.
    pub node: NodeId,
    /// The certificate's serial number, which is the statement's own number.
    pub serial: u64,
    /// The key whose holder may log in.
    pub key: PublicKey,
    /// First second of its validity.
    pub after: UnixSeconds,
    /// First second after its validity.
    pub before: UnixSeconds,
    /// Whether other members must have seen it.
    pub class: AccessClass,
    /// Addresses and CIDR ranges the login must come from; none means anywhere.
    #[serde(default)]
    pub sources: Vec<String>,
    /// Why.
    pub reason: String,
}

/// Whether a node obeys a grant that nobody else may have seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessClass {
    /// Only once enough other members have signed that they saw it.
    Normal,
    /// Even alone; needs the approvals of the class `offline`.
    Offline,
}

/// The early end of certificates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    /// Their serial numbers.
    pub serials: Vec<u64>,
    /// Why.
    pub reason: String,
}

/// The disclosure of one epoch's password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reveal {
    /// Which epoch's.
    pub epoch: Epoch,
    /// `age1…`: who can read the ballots' shares.
    pub to: String,
    /// When every node moves on to a later epoch, so that the password is dead.
    pub until: UnixSeconds,
    /// Why.
    pub reason: String,
}

/// Why a body is no order of this lane.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AccessError {
    /// Of another lane.
    #[error("a statement of lane {0} gives no access")]
    Lane(Lane),
    /// Not of any order's shape.
    #[error("no order of this version: {0}")]
    Shape(String),
    /// A serial that is not the statement's number.
    #[error("serial {serial} in access/{seq}; a grant's serial is its number")]
    Serial {
        /// The serial.
        serial: u64,
        /// The statement's number.
        seq: u64,
    },
    /// Validity that is empty or too long.
    #[error("valid from {after} to {before}, expected at most {GRANT_MAX_S} seconds")]
    Validity {
        /// Its beginning.
        after: UnixSeconds,
        /// Its end.
        before: UnixSeconds,
    },
    /// Something that is no address.
    #[error("{0:?} is no address or range; expected 192.0.2.7 or 2001:db8::/32")]
    Source(String),
    /// A list that is empty or too long.
    #[error("{found} {what}, expected 1 to {max}")]
    Count {
        /// Of what.
        what: &'static str,
        /// How many.
        found: usize,
        /// At most.
        max: usize,
    },
    /// A revocation of what no certificate before it can be.
    #[error("it revokes serial {serial}, expected one that a grant before access/{seq} has")]
    NotGranted {
        /// The serial number.
        serial: u64,
        /// The revocation's own place.
        seq: u64,
    },
    /// Not an age X25519 recipient.
    #[error("{0:?} is no age1… recipient")]
    Recipient(String),
    /// A reveal that never ends, or ended before it began.
    #[error("a reveal until {until}, issued at {issued}; expected at most {REVEAL_MAX_S} seconds")]
    Until {
        /// Its end.
        until: UnixSeconds,
        /// The statement's date.
        issued: UnixSeconds,
    },
    /// No reason, or a very long one.
    #[error("a reason of {0} bytes, expected 1 to {TEXT_MAX}")]
    Reason(usize),
}

impl AccessOrder {
    /// Reads the order of a statement and checks all of its rules.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub fn of(statement: &Statement) -> Result<Self, AccessError> {
        if statement.lane != Lane::Access {
            return Err(AccessError::Lane(statement.lane));
        }
        let order = Self::deserialize(&statement.body)
            .map_err(|error| AccessError::Shape(error.to_string().chars().take(160).collect()))?;
        let reason = match &order {
            Self::Grant(grant) => {
                grant.check(statement)?;
                &grant.reason
            }
            Self::Revoke(revoke) => {
                count("serials", revoke.serials.len(), SERIALS_MAX)?;
                &revoke.reason
            }
            Self::Reveal(reveal) => {
                reveal.check(statement)?;
                &reveal.reason
            }
        };
        if (1..=TEXT_MAX).contains(&reason.len()) {
            Ok(order)
        } else {
            Err(AccessError::Reason(reason.len()))
        }
    }

    /// Whether a statement only shuts: a revocation, or a reveal, whose password is known from its ballots
    /// on, so that what waits is what ends it. Neither has a lock.
    #[must_use]
    pub fn shuts(statement: &Statement) -> bool {
        matches!(Self::of(statement), Ok(Self::Revoke(_) | Self::Reveal(_)))
    }

    /// As the body of a statement.
    #[must_use]
    pub fn to_body(&self) -> Value {
        serde_json::to_value(self).expect("an order has string keys only")
    }
}

impl Grant {
    /// The certificate that this grant is: everything in it follows from the statement, whose
    /// exact bytes its nonce names.
    #[must_use]
    pub fn certificate(
        &self,
        statement: &Statement,
        id: Digest,
        group: &PublicKey,
    ) -> UserCertificate {
        UserCertificate {
            nonce: id.0,
            key: self.key,
            serial: self.serial,
            key_id: format!("borgios access/{} {id}", statement.seq),
            principal: principal(self.serial, &self.node, id),
            after: self.after,
            before: self.before,
            sources: self.sources.clone(),
            authority: *group,
        }
    }

    /// The certificate of a signed statement as stock `ssh` reads it, if it is a grant that the board
    /// with the group key `ca` signed. Whoever passes an envelope on may add signatures of their own: no
    /// server trusts a certificate by another key.
    #[must_use]
    pub fn openssh(statement: &Statement, envelope: &Envelope, ca: &PublicKey) -> Option<String> {
        let AccessOrder::Grant(grant) = AccessOrder::of(statement).ok()? else { return None };
        let mut of_board = envelope.sigs.iter().filter(|sig| sig.by == *ca);
        of_board.find_map(|sig| {
            grant.certificate(statement, envelope.id(), ca).with_signature(&sig.sig)
        })
    }

    /// The principal its node lists while the grant of the statement `id` is open.
    #[must_use]
    pub fn principal(&self, id: Digest) -> String {
        principal(self.serial, &self.node, id)
    }

    fn check(&self, statement: &Statement) -> Result<(), AccessError> {
        let Self { serial, after, before, .. } = *self;
        if serial != statement.seq.0 {
            return Err(AccessError::Serial { serial, seq: statement.seq.0 });
        }
        if before <= after || before > after.plus(GRANT_MAX_S) {
            return Err(AccessError::Validity { after, before });
        }
        if self.sources.len() > SOURCES_MAX {
            return Err(AccessError::Count {
                what: "sources",
                found: self.sources.len(),
                max: SOURCES_MAX,
            });
        }
        match self.sources.iter().find(|source| !is_source(source)) {
            Some(bad) => Err(AccessError::Source(bad.chars().take(60).collect())),
            None => Ok(()),
        }
    }
}

impl Revoke {
    /// Of its serials, those that a certificate can have had when it was signed at `seq`: a grant's is its
    /// own place in the lane, so each is below. Another one must never reach sshd, which takes a list that
    /// names the serial 0 for no list, and then refuses every key; and nothing is revoked before it is made.
    pub fn revoked(&self, seq: Seq) -> impl Iterator<Item = u64> {
        self.serials.iter().copied().filter(move |serial| (1..seq.0).contains(serial))
    }

    /// Before a vote: that it names nothing else.
    pub(crate) fn check_draft(&self, seq: Seq) -> Result<(), AccessError> {
        match self.serials.iter().find(|serial| !(1..seq.0).contains(*serial)) {
            Some(&serial) => Err(AccessError::NotGranted { serial, seq: seq.0 }),
            None => Ok(()),
        }
    }
}

impl Reveal {
    fn check(&self, statement: &Statement) -> Result<(), AccessError> {
        let recipient = self.to.len() <= 100 && self.to.parse::<age::x25519::Recipient>().is_ok();
        if !recipient {
            return Err(AccessError::Recipient(self.to.chars().take(70).collect()));
        }
        let (until, issued) = (self.until, statement.issued);
        if until <= issued || until > issued.plus(REVEAL_MAX_S) {
            return Err(AccessError::Until { until, issued });
        }
        Ok(())
    }
}

fn count(what: &'static str, found: usize, max: usize) -> Result<(), AccessError> {
    if (1..=max).contains(&found) { Ok(()) } else { Err(AccessError::Count { what, found, max }) }
}

/// `borgios-<serial>-<32 hex digits>`: names this grant on this node, and means nothing to any other. The
/// statement is in it, for two of one number can be signed: what vetoes or a ruling took back must not pass
/// through the door of what came in its place.
fn principal(serial: u64, node: &NodeId, id: Digest) -> String {
    let both = Digest::of_parts(&[&node.to_bytes(), &id.0]).hex();
    format!("borgios-{serial}-{}", &both[..32])
}

/// An address, or an address and a prefix length, as sshd's `source-address` takes them.
fn is_source(text: &str) -> bool {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let Some(bits) = bits else { return true };
    if !(1..=3).contains(&bits.len()) || !bits.bytes().all(|b| b.is_ascii_digit()) {
        return false;
    }
    // sshd refuses a range whose address has bits beyond the prefix, for good.
    let (value, width) = match address {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)), 32),
        IpAddr::V6(v6) => (u128::from(v6), 128),
    };
    bits.parse::<u32>().is_ok_and(|bits| {
        bits <= width && (bits == width || value.trailing_zeros() >= width - bits)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{ISSUED, statement};
    use borgios_types::SecretKey;
    use serde_json::json;

    fn key(seed: u8) -> PublicKey {
        SecretKey::from_seed([seed; 32]).public()
    }

    fn grant() -> Value {
        json!({
            "order": "grant", "node": key(1), "serial": 3, "key": key(2), "after": ISSUED,
            "before": ISSUED.plus(900), "class": "normal", "sources": ["192.0.2.0/24"],
            "reason": "the disk is full",
        })
    }

    fn of(body: Value) -> Result<AccessOrder, AccessError> {
        let network = Some(Digest::of(b"network"));
        AccessOrder::of(&statement(Lane::Access, 3, network, network, Some(1), body))
    }

    #[test]
    fn a_grant_is_read_and_written() {
        let order = of(grant()).unwrap();
        assert_eq!(order.to_body(), grant());
    }

    #[test]
    fn what_no_governor_should_sign_is_refused() {
        let with = |field: &str, value: Value| {
            let mut body = grant();
            body[field] = value;
            of(body).unwrap_err()
        };
        assert!(matches!(with("serial", json!(4)), AccessError::Serial { serial: 4, seq: 3 }));
        let too_long = json!(ISSUED.plus(GRANT_MAX_S + 1));
        assert!(matches!(with("before", too_long), AccessError::Validity { .. }));
        assert!(matches!(with("before", json!(ISSUED)), AccessError::Validity { .. }));
        let good =
            ["192.0.2.7", "192.0.2.7/32", "0.0.0.0/0", "10.0.0.0/8", "2001:db8::/32", "::/0"];
        assert!(good.iter().all(|source| is_source(source)));
        let bads = [
            "example.org",
            "1.2.3.4/33",
            "::/129",
            "1.2.3.4,5.6.7.8",
            "*",
            "!1.2.3.4",
            "192.0.2.7/24",
            "2001:db8::1/32",
            "192.0.2.0/+24",
            "192.0.2.0/",
            "1.2.3.4/0024",
        ];
        for bad in bads {
            assert!(matches!(with("sources", json!([bad])), AccessError::Source(_)), "{bad}");
        }
        assert!(matches!(with("reason", json!("")), AccessError::Reason(0)));
        assert!(matches!(with("class", json!("free")), AccessError::Shape(_)));
        assert!(matches!(with("force_command", json!("sh")), AccessError::Shape(_)));
        assert!(matches!(with("order", json!("give")), AccessError::Shape(_)));
        let reveal = json!({"order": "reveal", "epoch": 1, "to": "age1x", "until": ISSUED.plus(60),
            "reason": "console"});
        assert!(matches!(of(reveal), Err(AccessError::Recipient(_))));
        let revoke = json!({"order": "revoke", "serials": [], "reason": "lost"});
        assert!(matches!(of(revoke), Err(AccessError::Count { .. })));
    }

    #[test]
    fn principals_differ_by_grant_and_by_node() {
        let [one, two] = [b"one", b"two"].map(|text| Digest::of(text));
        assert_ne!(principal(1, &key(1), one), principal(1, &key(2), one));
        assert_ne!(principal(1, &key(1), one), principal(2, &key(1), one));
        assert_ne!(principal(1, &key(1), one), principal(1, &key(1), two));
        assert!(principal(u64::MAX, &key(1), one).bytes().all(|b| b.is_ascii_graphic()));
    }
}

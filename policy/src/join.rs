//! A join record: a server's membership, signed by its node key and by the invitation's token.

use borgios_types::{Digest, Envelope, NodeId, PublicKey, UnixSeconds};
use serde::{Deserialize, Serialize};

use crate::invitation::Invitation;
use crate::name::Name;
use crate::object::{Object, ObjectError, for_network, in_date, signed_by};

/// Longest `host:port`, in bytes: a DNS name and a port.
pub const ADDRESS_MAX: usize = 260;

/// Who a node is and how it may be reached. Renewed daily; it lapses without any vote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// The fleet.
    pub network: Digest,
    /// Key of the server's borgiosd.
    pub node: NodeId,
    /// Key of the server's keeper, which signs reports.
    pub keeper: PublicKey,
    /// The server's name, for people.
    pub name: Name,
    /// `host:port`; absent for a leaf that cannot be dialled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The server's owner, who may take it out with a `departure`; absent if none was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<PublicKey>,
    /// Id of the invitation.
    pub invitation: Digest,
    /// When this record was made.
    pub issued: UnixSeconds,
    /// When it lapses.
    pub expires: UnixSeconds,
}

impl Object for Join {
    const KIND: &'static str = "join";
    const FIELDS: &'static [&'static str] = &[
        "network",
        "node",
        "keeper",
        "name",
        "address",
        "owner",
        "invitation",
        "issued",
        "expires",
    ];

    fn check(&self) -> Result<(), ObjectError> {
        let refused = |why: String| Err(ObjectError::Refused { kind: Self::KIND, why });
        if self.node == self.keeper {
            return refused("node and keeper share a key".to_owned());
        }
        match &self.address {
            Some(address) if !is_host_port(address) => refused(format!(
                "{:?} is not host:port",
                address.chars().take(80).collect::<String>()
            )),
            _ => Ok(()),
        }
    }
}

impl Join {
    /// Reads a join record and checks it against its invitation, which the caller has verified.
    ///
    /// Whether the invitation is still open matters at a node's first record only:
    /// [`Invitation::open`]. Whether it was used too often: [`Invitation::admits`].
    ///
    /// # Errors
    /// As [`Object::parse`], `wrong_network`, `expired`, `bad_signature`, or an invitation with
    /// another id than the record names.
    pub fn verify(
        network: Digest,
        now: UnixSeconds,
        envelope: &Envelope,
        invitation: (&Invitation, Digest),
    ) -> Result<Self, ObjectError> {
        let join = Self::parse(envelope)?;
        for_network(Self::KIND, join.network, network)?;
        in_date(Self::KIND, join.issued, join.expires, now)?;
        let (invitation, id) = invitation;
        if join.invitation != id {
            let why = format!("it names the invitation {}, not {id}", join.invitation);
            return Err(ObjectError::Refused { kind: Self::KIND, why });
        }
        signed_by(&join.node, Self::KIND, envelope)?;
        signed_by(&invitation.token, Self::KIND, envelope)?;
        Ok(join)
    }
}

/// `host:port` with a host name, an IPv4 address or a bracketed IPv6 address.
fn is_host_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host_fits = match v6 {
        Some(v6) => v6.parse::<core::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(fits) && !host.starts_with('-'),
    };
    text.len() <= ADDRESS_MAX && host_fits && port.parse::<u16>().is_ok_and(|port| port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_can_be_dialled_pass() {
        for good in ["10.0.0.7:7117", "web-3.example.org:22", "[2001:db8::1]:7117"] {
            assert!(is_host_port(good), "{good}");
        }
        for bad in ["", "host", ":1", "host:0", "host:70000", "-x:1", "a b:1", "[::1:7", "::1:7"] {
            assert!(!is_host_port(bad), "{bad}");
        }
    }
}

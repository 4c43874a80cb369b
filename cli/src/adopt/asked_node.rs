//! Asking the node itself whether its host joined, when ssh cannot tell any more.
//!
//! A key that merely answers on the right port proves nothing: whoever sits on the path could hold
//! one. What proves it is the join record that this key signed together with the invitation's
//! token, for the token was handed to that one host. That the node has its place, and that root was
//! handed over, is then its own word.

use std::time::{Duration, Instant};

use borgios_policy::{Invitation, Join};
use borgios_types::{Digest, Envelope, PublicKey, UnixSeconds};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::transport::api::Door;

/// How long one node is asked, all its answers together: it has a few pages of records, and others wait
/// behind it. Only the answer that is on its way then may take longer.
pub(crate) const ASKING_MAX: Duration = Duration::from_secs(60);

/// Most pages of join records that are read.
const PAGES_MAX: usize = 200;

/// What a node's own status says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It has its place in the tree of the network, and root is not said to be open.
    Member,
    /// It is of the network, and something is still missing.
    HalfWay(String),
    /// It is of another network.
    Foreign(String),
}

/// Of whom a node's answers are a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proved {
    /// Of the expected host.
    Host,
    /// Of some host that joined with this invitation. Several can be behind one address, and
    /// nothing is known by which to tell them apart.
    Somebody,
}

/// Reads a status.
pub(crate) fn standing(status: &Value, network: Digest) -> Standing {
    let word = |pointer: &str| status.pointer(pointer).and_then(Value::as_str);
    match word("/network") {
        Some(found) if found == network.to_string() => {}
        Some(found) => return Standing::Foreign(found.chars().take(80).collect()),
        None => return Standing::HalfWay("its agent knows no network yet".to_owned()),
    }
    match word("/tree/state") {
        Some("attached" | "root") => {}
        _ => return Standing::HalfWay("it has no place in the tree".to_owned()),
    }
    match status.pointer("/keeper/handed_over") {
        Some(Value::Bool(false)) => Standing::HalfWay("root is not handed over".to_owned()),
        // Agents from before the take-over existed do not say; their root stays open anyway.
        _ if status["keeper"].is_object() => Standing::Member,
        _ => Standing::HalfWay("its keeper does not answer".to_owned()),
    }
}

/// The host that should be behind a port.
pub(crate) struct Expected<'a> {
    /// The network.
    pub(crate) network: Digest,
    /// The invitation that the host was given, verified, and its id.
    pub(crate) invitation: (&'a Invitation, Digest),
    /// What the machine calls itself, if anybody was let in to ask, or whoever runs this said it.
    pub(crate) name: Option<&'a str>,
    /// The node's key, where the log named it.
    pub(crate) node: Option<PublicKey>,
}

impl Expected<'_> {
    /// Asks the node behind `door`, which proved that it holds `shown`, and no question more once it is
    /// past `until`.
    ///
    /// # Errors
    /// Why it is not proved to be that host as a member.
    pub(crate) fn ask(
        &self,
        door: &mut dyn Door,
        shown: PublicKey,
        now: UnixSeconds,
        until: Instant,
    ) -> Result<Proved, Failure> {
        if self.node.is_some_and(|node| node != shown) {
            return Err(Failure::new("another node answers there"));
        }
        let status = door.ask(&json!({"get": "status"}))?;
        match standing(&status, self.network) {
            Standing::Member => {}
            Standing::HalfWay(why) => return Err(Failure::new(why)),
            Standing::Foreign(id) => {
                return Err(Failure::new(format!("it is of another network, {id}")));
            }
        }
        let mut request = json!({"get": "objects", "kind": "join"});
        for _ in 0..PAGES_MAX {
            if Instant::now() >= until {
                return Err(Failure::new(
                    "it did not prove in time that it joined with this invitation",
                ));
            }
            let page = door.ask(&request)?;
            let objects = page["objects"].as_array().map_or(&[][..], Vec::as_slice);
            if objects.iter().any(|object| self.is_proof(object, shown, now)) {
                let known = self.name.is_some() || self.node.is_some();
                return Ok(if known { Proved::Host } else { Proved::Somebody });
            }
            match &page["next"] {
                next if !next.is_null() && !objects.is_empty() => {
                    request = json!({"get": "objects", "kind": "join", "after": next});
                }
                _ => break,
            }
        }
        Err(Failure::new("it cannot prove that it joined with this invitation"))
    }

    /// Whether this is the node's own record, made with this invitation on a machine of this name.
    fn is_proof(&self, object: &Value, shown: PublicKey, now: UnixSeconds) -> bool {
        let Ok(envelope) = Envelope::parse(object.to_string().as_bytes()) else { return false };
        Join::verify(self.network, now, &envelope, self.invitation).is_ok_and(|join| {
            join.node == shown && self.name.is_none_or(|name| join.name.as_str() == name)
        })
    }
}

#[cfg(test)]
mod tests {
    use borgios_policy::Object as _;
    use borgios_types::SecretKey;

    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_000);

    /// A node that answers as it was told.
    struct Told(Value, Value);

    impl Door for Told {
        fn name(&self) -> String {
            "told".into()
        }
        fn ask(&mut self, request: &Value) -> Result<Value, Failure> {
            Ok(if request["get"] == "status" { self.0.clone() } else { self.1.clone() })
        }
    }

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed([seed; 32])
    }

    fn network() -> Digest {
        Digest::of(b"network")
    }

    fn well() -> Value {
        json!({"network": network(), "tree": {"state": "attached"}, "keeper": {"handed_over": true}})
    }

    fn record(name: &str, node: u8, token: u8) -> Value {
        let join = Join {
            owner: None,
            network: network(),
            node: key(node).public(),
            keeper: key(9).public(),
            name: name.parse().unwrap(),
            address: None,
            invitation: Digest::of(b"invitation"),
            issued: UnixSeconds(900),
            expires: UnixSeconds(9_000),
        };
        json!(join.to_envelope().sign(&key(node)).sign(&key(token)))
    }

    fn ask(status: Value, records: &[Value], shown: u8) -> Result<Proved, Failure> {
        ask_for(Some("web-1"), None, status, records, shown)
    }

    fn ask_for(
        name: Option<&str>,
        node: Option<PublicKey>,
        status: Value,
        records: &[Value],
        shown: u8,
    ) -> Result<Proved, Failure> {
        let invitation = Invitation {
            network: network(),
            token: key(1).public(),
            uses: 1,
            issued: UnixSeconds(0),
            expires: UnixSeconds(9_999),
        };
        let expected = Expected {
            network: network(),
            invitation: (&invitation, Digest::of(b"invitation")),
            name,
            node,
        };
        let page = json!({"objects": records, "next": null});
        let until = Instant::now() + ASKING_MAX;
        expected.ask(&mut Told(status, page), key(shown).public(), NOW, until)
    }

    /// Has one more page of no use each time, just in time.
    struct Slow(usize);

    impl Door for Slow {
        fn name(&self) -> String {
            "slow".into()
        }
        fn ask(&mut self, request: &Value) -> Result<Value, Failure> {
            self.0 += 1;
            if request["get"] == "status" {
                return Ok(well());
            }
            std::thread::sleep(Duration::from_millis(20));
            Ok(json!({"objects": ["x"], "next": Digest::of(b"next")}))
        }
    }

    #[test]
    fn a_node_that_goes_on_for_ever_is_left() {
        let invitation = Invitation {
            network: network(),
            token: key(1).public(),
            uses: 1,
            issued: UnixSeconds(0),
            expires: UnixSeconds(9_999),
        };
        let invitation = (&invitation, Digest::of(b"invitation"));
        let expected = Expected { network: network(), invitation, name: None, node: None };
        let mut slow = Slow(0);
        let until = Instant::now() + Duration::from_millis(100);
        assert!(expected.ask(&mut slow, key(2).public(), NOW, until).is_err());
        assert!(slow.0 < 10, "{}", slow.0);
    }

    #[test]
    fn a_node_that_joined_with_this_invitation_is_believed() {
        let records = [record("web-2", 3, 1), record("web-1", 2, 1)];
        assert_eq!(ask(well(), &records, 2).unwrap(), Proved::Host);
    }

    #[test]
    fn without_a_name_and_a_key_it_proves_nothing_of_that_host() {
        let (records, node) = ([record("web-1", 2, 1)], key(2).public());
        assert_eq!(ask_for(None, None, well(), &records, 2).unwrap(), Proved::Somebody);
        assert_eq!(ask_for(None, Some(node), well(), &records, 2).unwrap(), Proved::Host);
    }

    #[test]
    fn whoever_merely_answers_on_the_port_is_not() {
        let cases: [(&str, Vec<Value>); 5] = [
            ("no record", vec![]),
            ("another node's record", vec![record("web-1", 3, 1)]),
            ("a record without the token", vec![record("web-1", 2, 4)]),
            ("another machine's name", vec![record("web-2", 2, 1)]),
            ("no object", vec![json!("x"), json!(null)]),
        ];
        for (what, records) in cases {
            assert!(ask(well(), &records, 2).is_err(), "{what}");
        }
    }

    #[test]
    fn a_member_has_a_place_a_keeper_and_no_open_root() {
        assert_eq!(standing(&well(), network()), Standing::Member);
        for (pointer, value) in [
            ("/network", json!(null)),
            ("/tree/state", json!("joining")),
            ("/keeper", json!(null)),
            ("/keeper/handed_over", json!(false)),
        ] {
            let mut status = well();
            *status.pointer_mut(pointer).unwrap() = value;
            let found = standing(&status, network());
            assert!(matches!(found, Standing::HalfWay(_)), "{pointer}: {found:?}");
            assert!(ask(status, &[record("web-1", 2, 1)], 2).is_err(), "{pointer}");
        }
        let other = standing(&well(), Digest::of(b"other"));
        assert!(matches!(other, Standing::Foreign(_)), "{other:?}");
    }
}

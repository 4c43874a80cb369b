//! Who can fill the tables of servers, and who can take a server out of them.

use borgios_policy::Lane;
use borgios_policy::fixture::{Council, NOW, statement as draft};
use borgios_types::SecretKey;
use serde_json::json;

use super::uses::OVERTAKEN_MAX;
use super::*;
use crate::exchange::Exchange;
use crate::printer::Printer;
use crate::transport::Transport as _;
use crate::transport::folder::Folder;

const LATER: UnixSeconds = UnixSeconds(NOW.0 + 86_400);

struct Laptop {
    council: Council,
    archive: Archive,
    servers: Servers,
    now: UnixSeconds,
    _folder: tempfile::TempDir,
}

fn key(number: u64) -> SecretKey {
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    SecretKey::from_seed(seed)
}

impl Laptop {
    fn new() -> Self {
        let council = Council::new(3, 2, 1, 1);
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(Some(folder.path().to_owned())).unwrap();
        let first = council.sign(&council.first_policy(2));
        let network = first.id();
        let mut archive = Archive::load(&home, network).unwrap();
        assert!(archive.admit(NOW, vec![first]).unwrap().refused.is_empty());
        let servers = Servers::load(&home, &archive, network, LATER).unwrap();
        Self { council, archive, servers, now: LATER, _folder: folder }
    }

    /// An invitation of a governor with the token `token`.
    fn invitation(&self, by: usize, token: u64, uses: u32) -> Envelope {
        let issued = UnixSeconds(NOW.0 + token % 1_000);
        let network = self.servers.network;
        let invitation =
            Invitation { network, token: key(token).public(), uses, issued, expires: LATER };
        invitation.to_envelope().sign(&self.council.keys[&self.council.name(by)])
    }

    /// A record of the server whose keys begin at `node`.
    fn join(&self, node: u64, invitation: &Envelope, owner: Option<u64>, after: u64) -> Join {
        Join {
            network: self.servers.network,
            node: key(node).public(),
            keeper: key(node + 1).public(),
            name: "web-9".parse().unwrap(),
            address: None,
            owner: owner.map(|owner| key(owner).public()),
            invitation: invitation.id(),
            issued: UnixSeconds(NOW.0 + 2_000 + after),
            expires: LATER,
        }
    }

    fn first(&self, node: u64, invitation: &Envelope, token: u64) -> Envelope {
        let join = self.join(node, invitation, None, 0);
        join.to_envelope().sign(&key(node)).sign(&key(token))
    }

    fn admit(&mut self, offered: Vec<Envelope>) -> Admitted {
        self.servers.admit(&self.archive, self.now, offered).unwrap()
    }

    fn departed(&self, node: u64) -> bool {
        self.servers.get(&key(node).public()).unwrap().departed().is_some()
    }

    /// What is left of it once it is read anew.
    fn again(&mut self) {
        let home = self.servers.home.clone();
        let network = self.servers.network;
        self.servers = Servers::load(&home, &self.archive, network, self.now).unwrap();
    }
}

#[test]
fn one_governor_does_not_fill_the_invitations_of_the_others() {
    let mut laptop = Laptop::new();
    // One of a server that is known stays, however old it is.
    let used = laptop.invitation(2, 1_000, 1);
    let join = laptop.first(10, &used, 1_000);
    laptop.admit(vec![used, join]);
    let many: Vec<_> = (2_001..2_400).map(|token| laptop.invitation(2, token, 1)).collect();
    let said = laptop.admit(many.clone());
    assert_eq!((said.new.len(), said.refused.len()), (INVITATIONS_EACH, 0), "{:?}", said.refused);
    let last = laptop.invitation(2, 2_399, 1).id();
    assert!(laptop.servers.invitations.contains_key(&last), "the newest are kept");
    // One that was kept goes for a newer one, which is said once. A folder hands them all over again.
    let newer = laptop.invitation(2, 2_400, 1);
    let said = laptop.admit([many.clone(), vec![newer.clone()]].concat());
    assert_eq!((said.new, said.refused.len()), (vec![newer.id()], 1), "{:?}", said.refused);
    let said = laptop.admit([many, vec![newer]].concat());
    assert_eq!((said.new, said.refused), (Vec::new(), Vec::new()));
    let honest = laptop.invitation(0, 5_000, 1);
    let join = laptop.first(20, &honest, 5_000);
    let said = laptop.admit(vec![honest, join]);
    assert_eq!((said.new.len(), said.refused), (2, Vec::new()));
    laptop.again();
    assert_eq!(laptop.servers.all().count(), 2);
    assert_eq!(laptop.servers.invitations.len(), INVITATIONS_EACH + 2);
}

/// Who makes one for each machine lets many lapse.
#[test]
fn invitations_that_lapsed_go_first_and_without_a_word() {
    let mut laptop = Laptop::new();
    let signed = |laptop: &Laptop, number: u64, issued: u64, expires: u64| {
        let (network, token) = (laptop.servers.network, key(number).public());
        let [issued, expires] = [issued, expires].map(|after| UnixSeconds(NOW.0 + after));
        let invitation = Invitation { network, token, uses: 1, issued, expires };
        invitation.to_envelope().sign(&laptop.council.keys[&laptop.council.name(2)])
    };
    // The oldest one is for long, the others are for a second.
    let lasting = signed(&laptop, 1, 0, 80_000);
    let short: Vec<_> = (2..300).map(|at| signed(&laptop, at, at, at + 1)).collect();
    laptop.admit([vec![lasting.clone()], short].concat());
    let newest = signed(&laptop, 300, 1_000, 80_000);
    let said = laptop.admit(vec![newest.clone()]);
    assert_eq!((said.new, said.refused), (vec![newest.id()], Vec::new()));
    assert!(laptop.servers.invitations.contains_key(&lasting.id()));
    assert_eq!(laptop.servers.invitations.len(), INVITATIONS_EACH);
}

#[test]
fn one_invitation_does_not_fill_the_servers() {
    let mut laptop = Laptop::new();
    let invitation = laptop.invitation(0, 5_000, 1);
    let joins = (1..100).map(|node| laptop.first(10 * node, &invitation, 5_000));
    let joins: Vec<_> = joins.collect();
    laptop.admit([vec![invitation.clone()], joins].concat());
    let count = laptop.servers.all().count();
    assert!((1..=1 + OVERTAKEN_MAX).contains(&count), "{count}");
    laptop.again();
    assert_eq!(laptop.servers.all().count(), count, "what was taken stays");
    // Whoever comes later by hash than who is there is none of those it is for.
    let value = Invitation::parse(&invitation).unwrap();
    let both: BTreeSet<_> = [10, 20].map(|node| key(node).public()).into();
    let (one, other) =
        if value.admits(&both).contains(&key(10).public()) { (10, 20) } else { (20, 10) };
    let mut laptop = Laptop::new();
    let [first, second] = [one, other].map(|node| laptop.first(node, &invitation, 5_000));
    laptop.admit(vec![invitation, first]);
    assert_eq!(laptop.admit(vec![second]).refused.len(), 1);
    assert_eq!(laptop.servers.all().count(), 1);
}

/// A node counts whom it holds: neither who was put out, nor who lapsed a week ago.
#[test]
fn who_was_evicted_or_lapsed_for_good_leaves_the_use_to_another() {
    const DAY: u64 = 86_400;
    // Whichever of the two comes first by hash.
    let orders = |evicted: bool| [(evicted, 10, 20), (evicted, 20, 10)];
    for (evicted, old, new) in [true, false].into_iter().flat_map(orders) {
        let mut laptop = Laptop::new();
        let (network, token) = (laptop.servers.network, key(5_000).public());
        let (issued, expires) = (NOW, NOW.plus(30 * DAY));
        let invitation = Invitation { network, token, uses: 1, issued, expires }.to_envelope();
        let invitation = invitation.sign(&laptop.council.keys[&laptop.council.name(0)]);
        let first = |laptop: &Laptop, node: u64, issued: UnixSeconds| {
            let expires = issued.plus(DAY);
            let join = Join { issued, expires, ..laptop.join(node, &invitation, None, 0) };
            join.to_envelope().sign(&key(node)).sign(&key(5_000))
        };
        let before = first(&laptop, old, NOW);
        assert_eq!(laptop.admit(vec![invitation.clone(), before]).new.len(), 2);
        let mut then = NOW.plus(8 * DAY + 1);
        if evicted {
            let body = json!({"evict": [key(old).public()], "reason": "it was taken over"});
            let eviction = draft(Lane::Member, 1, Some(network), None, Some(1), body);
            let eviction = laptop.council.sign(&eviction);
            assert_eq!(laptop.archive.admit(NOW, vec![eviction]).unwrap().new.len(), 1);
            then = NOW.plus(100);
        }
        laptop.now = then;
        let newcomer = first(&laptop, new, then);
        let said = laptop.admit(vec![newcomer]);
        assert_eq!((said.new.len(), said.refused), (1, Vec::new()), "{evicted} {old}");
        laptop.again();
        assert!(laptop.servers.get(&key(new).public()).is_some());
    }
}

/// One governor may let in as many as the table holds.
#[test]
fn one_governor_does_not_fill_the_servers_of_the_others() {
    let mut laptop = Laptop::new();
    laptop.servers.most = 8;
    let big = laptop.invitation(2, 5_000, 1_000);
    let many: Vec<_> = (1..=20).map(|node| laptop.first(10 * node, &big, 5_000)).collect();
    let flood = [vec![big], many].concat();
    assert_eq!(laptop.admit(flood.clone()).refused.len(), 1);
    assert_eq!(laptop.servers.all().count(), 8);
    // Nor one invitation those of the others.
    for (by, node, token) in [(0, 1_010, 6_000), (0, 1_020, 7_000), (2, 1_030, 8_000)] {
        let small = laptop.invitation(by, token, 1);
        let join = laptop.first(node, &small, token);
        assert_eq!(laptop.admit(vec![small, join]).new.len(), 2);
        // A folder hands over the flood with every look.
        laptop.admit(flood.clone());
        assert!(laptop.servers.get(&key(node).public()).is_some(), "{node}");
    }
    laptop.again();
    assert_eq!(laptop.servers.all().count(), 8, "who went has no file");
    for node in [1_010, 1_020, 1_030] {
        assert!(laptop.servers.get(&key(node).public()).is_some(), "{node}");
    }
}

/// Whoever holds an invitation writes any date into a record.
#[test]
fn whoever_comes_later_takes_no_place_of_one_who_is_known() {
    let mut laptop = Laptop::new();
    let (shared, other) = (laptop.invitation(0, 5_000, 1_000), laptop.invitation(2, 6_000, 1_000));
    let honest: Vec<_> = (1..=6).map(|node| laptop.first(10 * node, &shared, 5_000)).collect();
    laptop.admit([vec![shared.clone(), other.clone()], honest].concat());
    for (invitation, token, base) in [(&other, 6_000, 2_000), (&shared, 5_000, 1_000)] {
        let lasting = |node: u64| {
            let expires = UnixSeconds(1 << 53);
            let join = Join { expires, ..laptop.join(node, invitation, None, 0) };
            join.to_envelope().sign(&key(node)).sign(&key(token))
        };
        let flood: Vec<_> = (1..=20).map(|node| lasting(base + 10 * node)).collect();
        laptop.servers.most = 8;
        laptop.admit(flood);
        laptop.again();
        assert_eq!(laptop.servers.all().count(), 8, "{token}");
        for node in 1..=6 {
            assert!(laptop.servers.get(&key(10 * node).public()).is_some(), "{token} {node}");
        }
    }
}

/// Nodes refuse what is dated beyond their clock, so no room of weeks to come is taken here either.
#[test]
fn a_record_from_beyond_the_clock_is_refused() {
    let mut laptop = Laptop::new();
    let invitation = laptop.invitation(0, 5_000, 1);
    let first = laptop.first(10, &invitation, 5_000);
    let renewal = laptop.join(10, &invitation, None, 1_000).to_envelope().sign(&key(10));
    laptop.now = NOW.plus(2_000 - AHEAD_MAX_S - 1);
    let said = laptop.admit(vec![invitation.clone(), first.clone()]);
    assert_eq!((said.new, said.refused.len()), (vec![invitation.id()], 1));
    laptop.now = NOW.plus(2_000 - AHEAD_MAX_S);
    let said = laptop.admit(vec![first.clone(), renewal.clone()]);
    assert_eq!((said.new, said.refused.len()), (vec![first.id()], 1));
    laptop.now = LATER;
    assert_eq!(laptop.admit(vec![renewal.clone()]).new, [renewal.id()]);
}

/// With a node's key alone one names a keeper in a renewal, and signs a receipt with that one's key.
#[test]
fn a_receipt_of_a_renewals_keeper_takes_no_true_ones_place() {
    let mut laptop = Laptop::new();
    let (network, invitation) = (laptop.servers.network, laptop.invitation(0, 5_000, 1));
    let first = laptop.first(10, &invitation, 5_000);
    let receipt = |keeper: u64, owner: u64, at: UnixSeconds| {
        let receipt = Handover {
            network,
            node: key(10).public(),
            keeper: key(keeper).public(),
            name: "web-9".parse().unwrap(),
            host_keys: Vec::new(),
            taken: BTreeMap::new(),
            owner: Some(key(owner).public()),
            at,
        };
        receipt.to_envelope().sign(&key(keeper))
    };
    let handed_over = receipt(11, 3, NOW.plus(3_000));
    assert_eq!(laptop.admit(vec![invitation.clone(), first, handed_over.clone()]).new.len(), 3);
    let renewal = Join { keeper: key(77).public(), ..laptop.join(10, &invitation, None, 4_000) };
    let offered = vec![renewal.to_envelope().sign(&key(10)), receipt(77, 4, LATER)];
    let said = laptop.admit(offered);
    assert_eq!((said.new.len(), said.refused.len()), (1, 1), "{:?}", said.refused);
    for _ in 0..2 {
        let server = laptop.servers.get(&key(10).public()).unwrap();
        assert_eq!(server.receipt().unwrap(), &handed_over);
        assert_eq!(server.owners(), [key(3).public()]);
        laptop.again();
    }
    let departure = Departure { network, node: key(10).public(), at: LATER };
    assert_eq!(laptop.admit(vec![departure.to_envelope().sign(&key(3))]).new.len(), 1);
    assert!(laptop.departed(10));
}

/// The node's key is in the hands of whoever took its agent over; the owner's is not.
#[test]
fn a_renewal_makes_nobody_the_owner() {
    for owner in [Some(3), None] {
        let mut laptop = Laptop::new();
        let invitation = laptop.invitation(0, 5_000, 1);
        let first = laptop.join(10, &invitation, owner, 0);
        let first = first.to_envelope().sign(&key(10)).sign(&key(5_000));
        laptop.admit(vec![invitation.clone(), first]);
        let network = laptop.servers.network;
        let departure = |by: u64| {
            let departure = Departure { network, node: key(10).public(), at: LATER };
            departure.to_envelope().sign(&key(by))
        };
        // A renewal names another owner, or a keeper whose receipt does.
        let other = laptop.join(10, &invitation, Some(4), 10).to_envelope().sign(&key(10));
        assert_eq!(laptop.admit(vec![other, departure(4)]).refused.len(), 2, "{owner:?}");
        let named = Join { keeper: key(77).public(), ..laptop.join(10, &invitation, owner, 20) };
        let receipt = Handover {
            network,
            node: key(10).public(),
            keeper: key(77).public(),
            name: "web-9".parse().unwrap(),
            host_keys: Vec::new(),
            taken: BTreeMap::new(),
            owner: Some(key(4).public()),
            at: LATER,
        };
        let offered = vec![
            named.to_envelope().sign(&key(10)),
            receipt.to_envelope().sign(&key(77)),
            departure(4),
        ];
        laptop.admit(offered);
        assert!(!laptop.departed(10), "{owner:?}");
        if owner.is_some() {
            assert_eq!(laptop.admit(vec![departure(3)]).new.len(), 1);
            assert!(laptop.departed(10));
        }
    }
}

/// Ids are of payloads alone: who can write to the folder can lay the same with another signature.
#[test]
fn a_forged_copy_in_the_folder_is_overwritten_by_the_true_one() {
    let mut laptop = Laptop::new();
    let invitation = laptop.invitation(0, 5_000, 1);
    let join = laptop.first(10, &invitation, 5_000);
    laptop.admit(vec![invitation.clone(), join.clone()]);
    let shared = tempfile::tempdir().unwrap();
    let path = shared.path().join(format!("objects/{}.json", join.id().hex()));
    let mut folder = Folder::at(shared.path()).unwrap();
    folder.put(&invitation).unwrap();
    folder.put(&Envelope { sigs: Vec::new(), ..join.clone() }.sign(&key(6)).sign(&key(7))).unwrap();
    let mut exchange = Exchange::new(vec![Box::new(folder)], Printer::new(true));
    exchange.fetch_servers(&mut laptop.servers, &laptop.archive, LATER).unwrap();
    assert_eq!(durable::read(&path, 10_000).unwrap().unwrap(), join.to_json().as_bytes());
}

//! How many connections there may be, of whom, and who makes room when there are too many.
//!
//! ```text
//!  accept ─▶ strangers ── key of a member or governor proved ──▶ members, by key
//!            known     ── an address from which one did lately ──▶  "
//!                └────── "GET " ──▶ downloads
//! ```
//!
//! Each room is bounded in total and for each guest: an address, or a proved key. A room that is full
//! does not shut newcomers out, for then whoever came first with many connections would keep everybody
//! out for as long as it likes: the oldest connection of whoever has most makes room, and among those who
//! have as many, the oldest of all. An honest
//! greeting takes a few round trips, so it is over before its turn comes; half-open ones are what is
//! old. A member that is attacked from ten thousand addresses still meets those it knows in a room
//! that strangers cannot enter.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use borgios_types::PublicKey;
use tokio_util::sync::CancellationToken;

/// Connections that have proved nothing yet, from addresses that nobody is known by. With the buffers
/// that each may fill before it has (see `ssh_server`) this bounds what a flood can cost.
const STRANGERS: Limit = Limit { total: 256, each: 32 };
/// The same from addresses from which a member came lately or that a join record names.
const KNOWN: Limit = Limit { total: 128, each: 32 };
/// Downloads of blobs; several servers may share one address behind a NAT.
const DOWNLOADS: Limit = Limit { total: 256, each: 64 };
/// Connections of members and governors: the largest fan-out four times over, and for each key its
/// link, the one that replaces it, a stream beside each, and a governor's tools.
const MEMBERS: Limit = Limit { total: 1_024, each: 16 };
/// Addresses that are known: as many as a large fleet has near one node; the oldest is forgotten.
const ADDRESSES_MAX: usize = 4_096;

/// The bounds of one room.
#[derive(Clone, Copy, Debug)]
struct Limit {
    /// Connections.
    total: usize,
    /// Connections of one guest.
    each: usize,
}

/// Whom a connection counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Guest {
    /// An IPv4 address, or the /64 that one IPv6 customer has.
    Address(IpAddr),
    /// A proved key.
    Key(PublicKey),
}

/// Where a connection has its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Room {
    Strangers,
    Known,
    Downloads,
    Members,
}

impl Room {
    fn limit(self) -> Limit {
        match self {
            Self::Strangers => STRANGERS,
            Self::Known => KNOWN,
            Self::Downloads => DOWNLOADS,
            Self::Members => MEMBERS,
        }
    }
}

/// The connections of one room, the oldest first.
#[derive(Debug, Default)]
struct Guests {
    all: BTreeMap<u64, (Guest, CancellationToken)>,
    count: BTreeMap<Guest, usize>,
}

impl Guests {
    fn remove(&mut self, number: u64) -> Option<CancellationToken> {
        let (guest, cut) = self.all.remove(&number)?;
        if let Some(count) = self.count.get_mut(&guest) {
            *count -= 1;
            if *count == 0 {
                self.count.remove(&guest);
            }
        }
        Some(cut)
    }

    /// Cuts off whoever must make room for one more connection of `guest`.
    fn make_room(&mut self, limit: Limit, guest: Guest) {
        let here = self.count.get(&guest).copied().unwrap_or_default();
        let oldest = if here >= limit.each {
            self.all.iter().find(|(_, (of, _))| *of == guest)
        } else if self.all.len() >= limit.total {
            // Of those who have most: in a flood from many addresses all have one, and what an
            // address reads must not decide whose turn it is.
            let most = self.count.values().max();
            self.all.iter().find(|(_, (of, _))| self.count.get(of) == most)
        } else {
            None
        };
        if let Some(cut) = oldest.map(|(number, _)| *number).and_then(|n| self.remove(n)) {
            cut.cancel();
        }
    }

    fn add(&mut self, limit: Limit, number: u64, guest: Guest, cut: CancellationToken) {
        self.make_room(limit, guest);
        self.all.insert(number, (guest, cut));
        *self.count.entry(guest).or_default() += 1;
    }
}

#[derive(Debug, Default)]
struct Inside {
    rooms: BTreeMap<Room, Guests>,
    /// Numbers connections and addresses in the order they came.
    next: u64,
    /// Known addresses, and when each was last of use.
    known: BTreeMap<Guest, u64>,
    by_age: BTreeSet<(u64, Guest)>,
}

/// All connections of this node. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<Mutex<Inside>>);

impl Gate {
    /// Nobody connected, nobody known.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A member may come from this address.
    pub fn knows(&self, address: IpAddr) {
        self.lock().remember(group(address));
    }

    /// Gives a new connection a place; whoever is cut off for it learns that by its own token.
    #[must_use]
    pub fn enter(&self, address: IpAddr, cut: &CancellationToken) -> Arc<Place> {
        let mut inside = self.lock();
        let guest = group(address);
        let room = if inside.known.contains_key(&guest) { Room::Known } else { Room::Strangers };
        let number = inside.add(room, guest, cut);
        drop(inside);
        let at = Mutex::new((room, number));
        Arc::new(Place { gate: self.clone(), address: guest, cut: cut.clone(), at })
    }

    /// Connections that have a place.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().rooms.values().map(|guests| guests.all.len()).sum()
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        // Each change is whole before the lock is given back, whatever its thread does then.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn add(&mut self, room: Room, guest: Guest, cut: &CancellationToken) -> u64 {
        let number = self.next;
        self.next += 1;
        self.rooms.entry(room).or_default().add(room.limit(), number, guest, cut.clone());
        number
    }

    fn remove(&mut self, (room, number): (Room, u64)) {
        if let Some(guests) = self.rooms.get_mut(&room) {
            guests.remove(number);
        }
    }

    fn remember(&mut self, address: Guest) {
        let now = self.next;
        self.next += 1;
        if let Some(before) = self.known.insert(address, now) {
            self.by_age.remove(&(before, address));
        }
        self.by_age.insert((now, address));
        if self.known.len() > ADDRESSES_MAX
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.known.remove(&oldest);
        }
    }
}

/// One connection's place; given back on drop.
#[derive(Debug)]
pub struct Place {
    gate: Gate,
    address: Guest,
    cut: CancellationToken,
    at: Mutex<(Room, u64)>,
}

impl Place {
    /// It proved the key of a member or governor.
    pub fn is_member(&self, key: PublicKey) {
        let mut inside = self.gate.lock();
        inside.remember(self.address);
        self.go(&mut inside, Room::Members, Guest::Key(key));
    }

    /// It asks for blobs.
    pub fn downloads(&self) {
        self.go(&mut self.gate.lock(), Room::Downloads, self.address);
    }

    fn go(&self, inside: &mut Inside, room: Room, guest: Guest) {
        // Who was told to go has no place to give back, and gets no other.
        if self.cut.is_cancelled() {
            return;
        }
        let mut at = self.at();
        if at.0 != room {
            inside.remove(*at);
            *at = (room, inside.add(room, guest, &self.cut));
        }
    }

    fn at(&self) -> MutexGuard<'_, (Room, u64)> {
        self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let at = *self.at();
        self.gate.lock().remove(at);
    }
}

/// What counts as one address.
fn group(address: IpAddr) -> Guest {
    Guest::Address(match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let prefix = u128::from(address) >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from(prefix))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use borgios_types::SecretKey;

    type Held = (Arc<Place>, CancellationToken);

    fn enter(gate: &Gate, address: &str) -> Held {
        let cut = CancellationToken::new();
        (gate.enter(address.parse().unwrap(), &cut), cut)
    }

    fn still(held: &[Held]) -> usize {
        held.iter().filter(|(_, cut)| !cut.is_cancelled()).count()
    }

    #[test]
    fn a_flood_from_one_address_only_pushes_itself_out() {
        let gate = Gate::new();
        let honest = enter(&gate, "10.0.0.2");
        let flood: Vec<_> = (0..1_000).map(|_| enter(&gate, "10.0.0.1")).collect();
        assert_eq!(still(&flood), STRANGERS.each);
        assert!(flood.last().is_some_and(|(_, cut)| !cut.is_cancelled()), "the newest stays");
        assert!(!honest.1.is_cancelled());
        assert_eq!(gate.count(), STRANGERS.each + 1);
        drop((honest, flood));
        assert_eq!(gate.count(), 0);
        let inside = gate.lock();
        assert!(inside.rooms.values().all(|guests| guests.count.is_empty()));
    }

    #[test]
    fn a_flood_from_many_addresses_leaves_room_for_a_newcomer_and_for_the_known() {
        let gate = Gate::new();
        gate.knows("10.0.0.2".parse().unwrap());
        let known = enter(&gate, "10.0.0.2");
        let flood: Vec<_> = (0..5_000_u32)
            .map(|n| enter(&gate, &format!("10.1.{}.{}", n % 1_250 / 250, n % 250)))
            .collect();
        assert_eq!(still(&flood), STRANGERS.total);
        let newcomer = enter(&gate, "10.0.0.3");
        assert!(!known.1.is_cancelled() && !newcomer.1.is_cancelled());
        assert_eq!(gate.count(), STRANGERS.total + 1);
    }

    /// Among those who have as many the oldest connection goes, whatever its address reads.
    #[test]
    fn a_flood_from_low_addresses_cuts_off_the_oldest_and_not_the_highest() {
        let gate = Gate::new();
        let low = |n: u32| enter(&gate, &format!("10.1.{}.{}", n / 250, n % 250));
        for download in [false, true] {
            let arrive = |held: Held| {
                if download {
                    held.0.downloads();
                }
                held
            };
            let room = u32::try_from(if download { DOWNLOADS } else { STRANGERS }.total).unwrap();
            let before: Vec<_> = (0..room - 1).map(|n| arrive(low(n))).collect();
            let honest = arrive(enter(&gate, "255.0.0.1"));
            let mut after = Vec::new();
            for n in 0..room - 1 {
                after.push(arrive(low(1_000 + n)));
                assert!(!honest.1.is_cancelled(), "cut off by arrival {n}");
            }
            assert_eq!((still(&before), still(&after)), (0, after.len()));
            after.push(arrive(low(2_000)));
            assert!(honest.1.is_cancelled(), "its turn has come");
        }
    }

    #[test]
    fn who_proved_to_be_a_member_is_out_of_reach_and_known_from_then_on() {
        let gate = Gate::new();
        let key = SecretKey::from_seed([1; 32]).public();
        let member = enter(&gate, "10.0.0.1");
        member.0.is_member(key);
        let flood: Vec<_> = (0..1_000).map(|_| enter(&gate, "10.0.0.1")).collect();
        assert!(!member.1.is_cancelled());
        assert_eq!(still(&flood), KNOWN.each, "the address is known now");
        let links: Vec<_> = (0..2 * MEMBERS.each).map(|_| enter(&gate, "10.0.0.4")).collect();
        links.iter().for_each(|(place, _)| place.is_member(key));
        assert!(member.1.is_cancelled(), "one key's oldest link makes room for its newest");
        assert_eq!(still(&links), MEMBERS.each);
    }

    #[test]
    fn one_customer_of_a_provider_is_one_guest_and_memory_of_addresses_is_bounded() {
        let gate = Gate::new();
        let flood: Vec<_> = (0..100).map(|n| enter(&gate, &format!("2001:db8::{n:x}"))).collect();
        assert_eq!(still(&flood), STRANGERS.each);
        assert_eq!(group("::ffff:10.0.0.1".parse().unwrap()), group("10.0.0.1".parse().unwrap()));
        for n in 0..2 * ADDRESSES_MAX {
            gate.knows(IpAddr::from(u32::try_from(n).unwrap().to_be_bytes()));
        }
        let inside = gate.lock();
        assert_eq!((inside.known.len(), inside.by_age.len()), (ADDRESSES_MAX, ADDRESSES_MAX));
    }

    #[test]
    fn downloads_have_a_room_of_their_own() {
        let gate = Gate::new();
        let slow: Vec<_> = (0..STRANGERS.each).map(|_| enter(&gate, "10.0.0.1")).collect();
        slow.iter().for_each(|(place, _)| place.downloads());
        let more: Vec<_> = (0..STRANGERS.each).map(|_| enter(&gate, "10.0.0.1")).collect();
        assert_eq!(still(&slow) + still(&more), 2 * STRANGERS.each);
        assert_eq!(gate.count(), 2 * STRANGERS.each);
    }
}

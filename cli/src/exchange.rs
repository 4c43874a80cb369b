//! Bringing this archive and other places to the same state, and sending single objects.

use std::collections::{BTreeMap, BTreeSet};

use borgios_policy::{Blob, Handback, Name};
use borgios_types::{Digest, Envelope, UnixSeconds};
use rand::RngCore as _;
use rand::rngs::OsRng;

use crate::archive::Archive;
use crate::failure::{Failure, OrFail as _};
use crate::printer::Printer;
use crate::servers::Servers;
use crate::transport::{KINDS, SERVER_KINDS, Transport};

/// Most refused objects said one by one.
const WARNINGS_MAX: usize = 20;

/// Most nodes asked what they know of one's own ballots.
const HANDBACKS_MAX: usize = 3;

/// Most times that one place is asked on in one run, [`crate::transport::FETCH_MAX`] each.
const RUNS_MAX: usize = 4;

/// What broke while a place was read.
enum Broken {
    /// The place: the others may do.
    Place(Failure),
    /// This folder: nothing else would do better.
    Archive(Failure),
}

/// What an exchange moved.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    /// Objects that were new here.
    pub(crate) received: usize,
    /// Offered objects that do not verify.
    pub(crate) refused: usize,
}

/// The open places, and what each is known to have.
pub(crate) struct Exchange {
    places: Vec<(Box<dyn Transport>, BTreeSet<Digest>)>,
    printer: Printer,
}

impl Exchange {
    /// Works with these places.
    pub(crate) fn new(transports: Vec<Box<dyn Transport>>, printer: Printer) -> Self {
        let places = transports.into_iter().map(|place| (place, BTreeSet::new())).collect();
        Self { places, printer }
    }

    /// Whether there is nobody to exchange with.
    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Fetches from every place and admits what verifies. A place that breaks off is said and left
    /// out of this run; with none left, that is the failure.
    ///
    /// What a place offers and the archive refuses does not count as being there, so that a
    /// forgery under a true object's name is overwritten by the true one.
    pub(crate) fn fetch(
        &mut self,
        archive: &mut Archive,
        now: UnixSeconds,
    ) -> Result<Moved, Failure> {
        let mut moved = Moved::default();
        let mut failed = None;
        for (mut place, _) in std::mem::take(&mut self.places) {
            match self.fetch_from(&mut *place, archive, now, &mut moved) {
                Ok(has) => self.places.push((place, has)),
                Err(Broken::Place(failure)) => {
                    self.printer.warn(&failure.summary());
                    failed = Some(failure);
                }
                Err(Broken::Archive(failure)) => return Err(failure),
            }
        }
        match failed {
            Some(failure) if self.places.is_empty() => Err(failure),
            _ => Ok(moved),
        }
    }

    /// Fetches from one place while it has more and brings something; which objects it has.
    fn fetch_from(
        &self,
        place: &mut dyn Transport,
        archive: &mut Archive,
        now: UnixSeconds,
        moved: &mut Moved,
    ) -> Result<BTreeSet<Digest>, Broken> {
        let mut has = BTreeSet::new();
        for _ in 0..RUNS_MAX {
            let held = |id: &Digest| archive.find(id).is_some();
            let fetched = place.fetch(&KINDS, &held).map_err(Broken::Place)?;
            self.warn_of("left out ", &fetched.skipped);
            let admitted =
                archive.admit(now, fetched.envelopes.clone()).map_err(Broken::Archive)?;
            self.warn_of(&format!("refused from {}: ", place.name()), &admitted.refused);
            if admitted.unjudged > 0 {
                let (count, from) = (admitted.unjudged, place.name());
                self.printer.warn(&format!(
                    "{count} objects from {from} wait until a board is known here; the `borgios sync` of any \
                     governor brings it there"
                ));
            }
            moved.received += admitted.new.len();
            moved.refused += admitted.refused.len();
            has.extend(fetched.has);
            let genuine = fetched.envelopes.iter().filter(|envelope| archive.holds(envelope));
            has.extend(genuine.map(Envelope::id));
            if !fetched.more {
                return Ok(has);
            }
            if admitted.new.is_empty() {
                break;
            }
        }
        let hint = "somebody fills it up; run this again, which goes on where it stopped";
        self.printer.warn(&format!("{} has more than one run takes: {hint}", place.name()));
        Ok(has)
    }

    /// The same for what servers say: fetched from every place, and brought where no node tells it.
    pub(crate) fn fetch_servers(
        &mut self,
        servers: &mut Servers,
        archive: &Archive,
        now: UnixSeconds,
    ) -> Result<(), Failure> {
        if archive.board().is_err() {
            // Nothing of it could be judged; it is fetched whole the next time.
            return Ok(());
        }
        for (mut place, mut has) in std::mem::take(&mut self.places) {
            let fetched = match place.fetch(&SERVER_KINDS, &|_| false) {
                Ok(fetched) => fetched,
                Err(failure) => {
                    self.printer.warn(&failure.summary());
                    continue;
                }
            };
            self.warn_of("left out ", &fetched.skipped);
            if fetched.more {
                let what = "has more of what servers say than is taken";
                self.printer.warn(&format!("{} {what}", place.name()));
            }
            // Only a folder is brought any of it.
            let there = if place.wants_servers() { fetched.envelopes.clone() } else { Vec::new() };
            let admitted = servers.admit(archive, now, fetched.envelopes)?;
            self.warn_of(&format!("refused from {}: ", place.name()), &admitted.refused);
            // As with all else, a forgery under a true object's name does not count as being there.
            let own: BTreeMap<Digest, &Envelope> =
                servers.lasting().map(|envelope| (envelope.id(), envelope)).collect();
            let is_genuine = |envelope: &&Envelope| {
                let own = own.get(&envelope.id());
                own.is_some_and(|own| own.sigs.iter().all(|sig| envelope.sigs.contains(sig)))
            };
            has.extend(there.iter().filter(is_genuine).map(Envelope::id));
            self.places.push((place, has));
        }
        for (place, has) in self.places.iter_mut().filter(|(place, _)| place.wants_servers()) {
            for envelope in servers.lasting() {
                if has.insert(envelope.id()) {
                    place.put(envelope)?;
                }
            }
        }
        Ok(())
    }

    /// What nodes sign that they know of a governor's ballots, three of them at most. A node that
    /// does not answer, or answers something else, is said: it cannot warn of a clone.
    pub(crate) fn handbacks(&mut self, network: Digest, governor: &Name) -> Vec<Handback> {
        let mut given = Vec::new();
        for (place, _) in &mut self.places {
            let mut drawn = [0; 32];
            OsRng.fill_bytes(&mut drawn);
            let challenge = Digest(drawn);
            let answer = place.handback(governor, challenge).and_then(|answer| {
                let Some((node, envelope)) = answer else { return Ok(None) };
                Handback::verify(network, &node, governor, challenge, &envelope)
                    .map(Some)
                    .or_fail(|| format!("{} gave no usable handback", place.name()))
            });
            match answer {
                Ok(answer) => given.extend(answer),
                Err(failure) => self.printer.warn(&failure.summary()),
            }
            if given.len() == HANDBACKS_MAX {
                break;
            }
        }
        given
    }

    /// A blob from the first place that has the right one.
    pub(crate) fn blob(&mut self, blob: &Blob, is: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        for (place, _) in &mut self.places {
            match place.blob(blob) {
                Ok(Some(bytes)) if is(&bytes) => return Some(bytes),
                Ok(Some(_)) => {
                    let digest = blob.digest.short();
                    self.printer.warn(&format!("{} has another blob as {digest}", place.name()));
                }
                Ok(None) => {}
                Err(failure) => self.printer.warn(&failure.summary()),
            }
        }
        None
    }

    /// Leaves a blob everywhere. It is enough if one place took it.
    pub(crate) fn put_blob(&mut self, digest: Digest, bytes: &[u8]) -> Result<(), Failure> {
        let (mut failed, mut taken) = (None, false);
        for (place, _) in &mut self.places {
            match place.put_blob(digest, bytes) {
                Ok(()) => taken = true,
                Err(failure) => {
                    self.printer.warn(&failure.summary());
                    failed = Some(failure);
                }
            }
        }
        match failed {
            Some(failure) if !taken => Err(failure),
            _ => Ok(()),
        }
    }

    /// Leaves a blob in every folder, where there is no node to fetch it from.
    pub(crate) fn leave_in_folders(&mut self, digest: Digest, bytes: &[u8]) -> Result<(), Failure> {
        for (place, _) in self.places.iter_mut().filter(|(place, _)| place.wants_servers()) {
            place.put_blob(digest, bytes)?;
        }
        Ok(())
    }

    /// Says the first of many lines: a flood of forgeries must not hide what else is said.
    fn warn_of(&self, what: &str, lines: &[String]) {
        for line in lines.iter().take(WARNINGS_MAX) {
            self.printer.warn(&format!("{what}{line}"));
        }
        if lines.len() > WARNINGS_MAX {
            self.printer.warn(&format!("{what}{} more", lines.len() - WARNINGS_MAX));
        }
    }

    /// Sends every place what it lacks of the archive. Call [`Exchange::fetch`] before.
    ///
    /// A node may refuse what is of no use to it any more: that is said and does no harm.
    pub(crate) fn push(&mut self, archive: &Archive) -> Result<usize, Failure> {
        let (mut sent, spent) = (0, archive.spent());
        let (mut failed, mut through) = (None, false);
        // One place that breaks off keeps nothing from the others. A folder that somebody named must have
        // taken it all.
        'places: for (place, has) in &mut self.places {
            let folder = place.wants_servers();
            // Nodes take nothing of a recovery board from a governor: its policy is brought by itself.
            let apart = archive.recoveries().envelopes().filter(|_| folder);
            for envelope in archive.envelopes().chain(apart.collect::<Vec<_>>()) {
                let id = envelope.id();
                // Nodes let go of what is spent, and would be sent it for ever.
                if (!folder && spent.contains(&id)) || !has.insert(id) {
                    continue;
                }
                match place.put(envelope) {
                    Ok(()) => sent += 1,
                    Err(failure) if failure.is(Failure::NODE_REFUSED) => {
                        self.printer.warn(&failure.summary());
                    }
                    Err(failure) => {
                        self.printer.warn(&failure.summary());
                        // It did not come there: the next run sends it.
                        has.remove(&id);
                        if folder || failed.is_none() {
                            failed = Some((failure, folder));
                        }
                        continue 'places;
                    }
                }
            }
            through = true;
        }
        match failed {
            Some((failure, folder)) if folder || !through => Err(failure),
            _ => Ok(sent),
        }
    }

    /// Sends one object everywhere. It is enough if one place took it; the others get it with
    /// the next sync.
    pub(crate) fn send(&mut self, envelope: &Envelope) -> Result<(), Failure> {
        let mut failed = None;
        let mut taken = false;
        for (place, has) in &mut self.places {
            match place.put(envelope) {
                Ok(()) => {
                    has.insert(envelope.id());
                    taken = true;
                }
                Err(failure) => {
                    self.printer.warn(&failure.summary());
                    failed = Some(failure);
                }
            }
        }
        match failed {
            Some(failure) if !taken => Err(failure),
            _ => Ok(()),
        }
    }

    /// Leaves one object in every folder.
    pub(crate) fn send_to_folders(&mut self, envelope: &Envelope) -> Result<(), Failure> {
        for (place, has) in self.places.iter_mut().filter(|(place, _)| place.wants_servers()) {
            place.put(envelope)?;
            has.insert(envelope.id());
        }
        Ok(())
    }

    /// The names of the places, for messages.
    pub(crate) fn names(&self) -> String {
        self.places.iter().map(|(place, _)| place.name()).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use borgios_policy::Object as _;
    use borgios_types::{NodeId, SecretKey};

    use super::*;
    use crate::transport::Fetched;

    /// A node that keeps every object back, and answers a challenge: with its own key or another's, to
    /// the question or to an earlier one.
    struct Node {
        key: u8,
        signs: u8,
        replays: Option<Digest>,
        asked: Rc<RefCell<Vec<Digest>>>,
    }

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed([seed; 32])
    }

    impl Transport for Node {
        fn name(&self) -> String {
            format!("node {}", self.key)
        }

        fn fetch(&mut self, _: &[&str], _: &dyn Fn(&Digest) -> bool) -> Result<Fetched, Failure> {
            Ok(Fetched::default())
        }

        fn put(&mut self, _: &Envelope) -> Result<(), Failure> {
            Ok(())
        }

        fn wants_servers(&self) -> bool {
            false
        }

        fn blob(&mut self, _: &Blob) -> Result<Option<Vec<u8>>, Failure> {
            Ok(None)
        }

        fn handback(
            &mut self,
            governor: &Name,
            challenge: Digest,
        ) -> Result<Option<(NodeId, Envelope)>, Failure> {
            self.asked.borrow_mut().push(challenge);
            let (node, challenge) = (key(self.key).public(), self.replays.unwrap_or(challenge));
            let handback = Handback {
                network: Digest::of(b"network"),
                node,
                governor: governor.clone(),
                challenge,
                counter: 7,
                ballots: vec![Digest::of(b"ballot")],
                at: UnixSeconds(1),
            };
            Ok(Some((node, handback.to_envelope().sign(&key(self.signs)))))
        }

        fn put_blob(&mut self, _: Digest, _: &[u8]) -> Result<(), Failure> {
            Ok(())
        }
    }

    #[test]
    fn three_nodes_are_asked_and_only_what_they_signed_now_is_believed() {
        let asked = Rc::new(RefCell::new(Vec::new()));
        let node = |number: u8, signs: u8, replays: Option<Digest>| -> Box<dyn Transport> {
            Box::new(Node { key: number, signs, replays, asked: Rc::clone(&asked) })
        };
        let places = vec![
            node(1, 9, None),
            node(2, 2, Some(Digest::of(b"an earlier challenge"))),
            node(3, 3, None),
            node(4, 4, None),
            node(5, 5, None),
            node(6, 6, None),
        ];
        let mut exchange = Exchange::new(places, Printer::new(true));
        let ben = "ben".parse().unwrap();
        let given = exchange.handbacks(Digest::of(b"network"), &ben);
        let by: Vec<_> = given.iter().map(|handback| handback.node).collect();
        assert_eq!(by, [3, 4, 5].map(|number| key(number).public()));
        assert!(given.iter().all(|handback| handback.counter == 7 && handback.governor == ben));
        let asked: BTreeSet<Digest> = asked.borrow().iter().copied().collect();
        assert_eq!(asked.len(), 5, "each is asked with a challenge of its own");
        assert!(exchange.handbacks(Digest::of(b"another network"), &ben).is_empty());
    }
}

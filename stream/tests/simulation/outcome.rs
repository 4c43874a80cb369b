//! What must hold in the end.

use std::collections::BTreeSet;

use borgios_stream::Role;
use rand::Rng as _;

use super::{Event, Fleet, HEAL_MS};

impl Fleet {
    /// Hostile members go, the others form one tree: then everyone must get everything.
    pub(crate) fn heal(&mut self) -> Result<(), String> {
        for at in 0..self.nodes.len() {
            if !self.alive[at] {
                self.happen(Event::Restart { at });
            }
        }
        for link in self.wires.keys().copied().collect::<Vec<_>>() {
            self.close(link);
        }
        let honest: Vec<usize> =
            (0..self.nodes.len()).filter(|at| !self.vices.contains_key(at)).collect();
        for (index, at) in honest.iter().enumerate().skip(1) {
            let parent = honest[self.random.gen_range(0..index)];
            self.open(parent, *at, Role::Tree);
        }
        let end = self.now + HEAL_MS;
        loop {
            self.run_until(self.now + 500)?;
            match self.complete(&honest).and_then(|()| self.agreed(&honest)) {
                Ok(()) => return Ok(()),
                Err(lack) if self.now >= end => return Err(lack),
                Err(_) => {}
            }
        }
    }

    /// Nothing heals and the hostile stay where they are: honest nodes that reach each other over
    /// tree or cross links have everything in two intervals of comparison nevertheless.
    pub(crate) fn endure(&mut self) -> Result<(), String> {
        self.run_until(self.now + 2 * 10_000 + 2_000)?;
        let honest: Vec<usize> =
            (0..self.nodes.len()).filter(|at| !self.vices.contains_key(at)).collect();
        let mut reached = BTreeSet::from([honest[0]]);
        loop {
            let before = reached.len();
            for wire in self.wires.values() {
                let [one, other] = wire.ends;
                if !self.vices.contains_key(&one)
                    && !self.vices.contains_key(&other)
                    && (reached.contains(&one) || reached.contains(&other))
                {
                    reached.extend([one, other]);
                }
            }
            if reached.len() == before {
                break;
            }
        }
        self.complete(&reached.into_iter().collect::<Vec<_>>())
    }

    /// Whether every honest node has the same of every honest origin, with all that was
    /// acknowledged.
    pub(super) fn complete(&self, honest: &[usize]) -> Result<(), String> {
        for at in honest {
            self.nodes[*at].core.check()?;
            for origin_at in honest {
                let origin = self.nodes[*origin_at].origin();
                let none = Vec::new();
                let of = |at: &usize| self.nodes[*at].app.got.get(&origin).map_or(&none, |g| &g.1);
                let (mine, theirs) = (of(at), of(origin_at));
                if mine != theirs {
                    let (have, want) = (mine.len(), theirs.len());
                    return Err(format!("node {at} has {have} of {want} of {origin_at}"));
                }
                let acknowledged = self.acknowledged.get(origin_at).unwrap_or(&none);
                if let Some(lost) = acknowledged.iter().find(|message| !mine.contains(message)) {
                    return Err(format!("node {at} never got {:?}", String::from_utf8_lossy(lost)));
                }
            }
        }
        Ok(())
    }

    /// Whether the honest agree on every origin that equivocated: all hold the proof, or none has
    /// seen more than one history.
    pub(super) fn agreed(&self, honest: &[usize]) -> Result<(), String> {
        for forger in &self.forked {
            let origin = self.nodes[*forger].origin();
            // Who never heard of it has nothing to stop.
            let of = |at: &usize| self.nodes[*at].app.got.get(&origin).map(|(_, all)| all);
            let heard: Vec<usize> = honest.iter().copied().filter(|at| of(at).is_some()).collect();
            let proved = |at: &&usize| self.nodes[**at].core.evidence(&origin).is_some();
            let proofs = heard.iter().filter(proved).count();
            let same = heard.iter().all(|at| of(at) == of(&heard[0]));
            if proofs != heard.len() && (proofs > 0 || !same) {
                return Err(format!("{proofs} of {} hold proof against {forger}", heard.len()));
            }
        }
        Ok(())
    }

    /// How many origins were proved to have equivocated.
    pub(crate) fn proved(&self) -> usize {
        let proved = |forger: &&usize| {
            let origin = self.nodes[**forger].origin();
            self.nodes.iter().any(|node| node.core.evidence(&origin).is_some())
        };
        self.forked.iter().filter(proved).count()
    }

    /// How many messages of a node were acknowledged since its log began.
    pub(crate) fn acknowledged(&self, at: usize) -> usize {
        self.acknowledged.get(&at).map_or(0, Vec::len)
    }

    pub(crate) fn published(&self) -> usize {
        self.acknowledged.values().map(Vec::len).sum()
    }
}

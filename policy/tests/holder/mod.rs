//! A chain and its gate, driven as a keeper drives them, for the tests of both.

#![allow(dead_code, reason = "each test program uses its part")]

use std::collections::BTreeSet;

use borgios_policy::fixture::{Council, NOW, statement};
use borgios_policy::gate::Standing;
use borgios_policy::{
    Beacon, BeaconHead, Chain, Dated, Gate, Lane, Object as _, Objection, Offered, Pause, Policy,
    Refusal, Statement, Submission, Verdict, Veto,
};
use borgios_types::{Envelope, UnixSeconds};

pub(crate) const DAY_S: u64 = 86_400;
pub(crate) const LOCK_S: u64 = 3_600;

/// A chain, its gate, and what a keeper does with the two.
pub(crate) struct Holder {
    pub(crate) chain: Chain,
    pub(crate) gate: Gate,
    /// What was kept as evidence.
    pub(crate) evidence: BTreeSet<&'static str>,
}

impl Holder {
    pub(crate) fn new(first: &Envelope) -> Self {
        let mut chain = Chain::new(Some(first.id()));
        let Verdict::New(verified) = chain.verify(NOW, first, &[]).unwrap() else { panic!() };
        chain.apply(*verified);
        Self { chain, gate: Gate::default(), evidence: BTreeSet::new() }
    }

    pub(crate) fn offer(
        &mut self,
        now: UnixSeconds,
        envelope: &Envelope,
    ) -> Result<Offered, Refusal> {
        self.offer_with(now, envelope, Vec::new())
    }

    pub(crate) fn offer_with(
        &mut self,
        now: UnixSeconds,
        envelope: &Envelope,
        ballots: Vec<Envelope>,
    ) -> Result<Offered, Refusal> {
        let submission = Submission { statement: envelope.clone(), ballots };
        let offered = self.gate.offer(now, &self.chain, &submission, Dated::Asked)?;
        if let Offered::Apply(verified) = &offered {
            self.chain.apply((**verified).clone());
            self.tick(now);
        }
        Ok(offered)
    }

    /// Ticks until nothing more happens; what a crash would leave is what goes on.
    pub(crate) fn tick(&mut self, now: UnixSeconds) {
        loop {
            let tick = self.gate.tick(now, &self.chain);
            self.evidence.extend(tick.dropped.iter().map(|(_, refusal)| refusal.code()));
            let changed = tick.changed;
            if let Some(verified) = tick.apply {
                let id = verified.id();
                if self.gate.ripe().any(|ripe| ripe == id) {
                    self.chain.ripen(id);
                }
                self.chain.apply(*verified);
            } else if !changed {
                return;
            }
        }
    }

    /// As after a restart: from what was stored.
    pub(crate) fn restart(&mut self) {
        let text = serde_json::to_string(&self.gate).unwrap();
        let read: Gate = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
        self.gate = read;
    }

    pub(crate) fn standing(&self, now: UnixSeconds, envelope: &Envelope) -> Option<Standing> {
        self.gate.standing(now, &self.chain, &envelope.id())
    }

    pub(crate) fn head(&self, lane: Lane) -> u64 {
        self.chain.head_seq(lane).0
    }
}

/// Looks every ten minutes, as somebody who was never away.
pub(crate) fn run(holder: &mut Holder, from: UnixSeconds, until: UnixSeconds) {
    let mut now = from;
    while now < until {
        holder.tick(now);
        now = now.plus(600).min(until);
    }
    holder.tick(until);
}

/// 2 of 3, with a lock on releases and on policies, as `rules` change it.
pub(crate) fn board(rules: impl FnOnce(&mut Policy)) -> (Council, Envelope) {
    let council = Council::new(3, 2, 1, 1);
    let mut policy = council.policy(2);
    policy.classes.release.lock_s = Some(LOCK_S);
    rules(&mut policy);
    let body = policy.to_body();
    policy.validate().unwrap();
    let first = council.sign(&statement(Lane::Policy, 1, None, None, None, body));
    (council, first)
}

pub(crate) fn next(chain: &Chain, lane: Lane, body: serde_json::Value) -> Statement {
    let prev = chain.tip(lane).map(|tip| tip.id);
    let policy = Some(chain.head_seq(Lane::Policy).0);
    statement(lane, chain.head_seq(lane).next().0, chain.network(), prev, policy, body)
}

pub(crate) fn release(holder: &Holder, council: &Council, version: &str) -> Envelope {
    let body = borgios_policy::fixture::release_body(version);
    council.sign(&next(&holder.chain, Lane::Release, body))
}

pub(crate) fn objection(
    holder: &Holder,
    council: &Council,
    at: usize,
    against: &Envelope,
) -> Objection {
    let statement = Statement::parse(against).unwrap();
    Objection {
        network: holder.chain.network().unwrap(),
        group: council.board.group(),
        governor: council.name(at),
        statement: against.id(),
        lane: statement.lane,
        seq: statement.seq,
        reason: "it deletes /etc".to_owned(),
        at: NOW,
    }
}

pub(crate) fn veto(holder: &Holder, council: &Council, at: usize, against: &Envelope) -> Envelope {
    let veto = Veto(objection(holder, council, at, against));
    veto.to_envelope().sign(&council.keys[&council.name(at)])
}

pub(crate) fn pause(holder: &Holder, council: &Council, at: usize, against: &Envelope) -> Envelope {
    let pause = Pause(objection(holder, council, at, against));
    pause.to_envelope().sign(&council.keys[&council.name(at)])
}

pub(crate) fn beacon(holder: &Holder, council: &Council, at: usize, time: UnixSeconds) -> Envelope {
    let heads = Lane::ALL.into_iter().filter_map(|lane| {
        let tip = holder.chain.tip(lane)?;
        Some((lane, BeaconHead { seq: tip.seq, id: tip.id }))
    });
    let beacon = Beacon {
        network: holder.chain.network().unwrap(),
        group: council.board.group(),
        governor: council.name(at),
        time,
        heads: heads.collect(),
        counter: 1,
    };
    beacon.to_envelope().sign(&council.keys[&council.name(at)])
}

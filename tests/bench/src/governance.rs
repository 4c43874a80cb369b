//! What it costs a board to make a key, publish nonces, vote and count, beside FROST driven plainly.
//!
//! *Ours* is the whole thing through the real core: a founding over files with sealed papers, signed
//! pools and ballots, a tally by anybody, with and without liars. *Plainly* is the same library
//! (`frost-ed25519`) with a fixed set of the first t signers, everyone online, two rounds, bare
//! structures in memory and no signatures around them: the least that FROST itself costs.
//!
//! Times are CPU time of this process, so that whatever else runs on the machine disturbs little.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use borgios_policy::founding::{Ceremony, Files, Founded, Me, Plan, Status, step};
use borgios_policy::session::{Bound, Session, Table};
use borgios_policy::{
    Board, Card, Intent, Lane, Name, Object as _, OpenRound, Pool, Seed, Slot, Statement, tally,
};
use borgios_types::{Digest, Envelope, Round, SecretKey, Seq, Threshold, UnixSeconds};
use frost_ed25519 as frost;
use rand::{RngCore as _, SeedableRng as _};
use rand_chacha::ChaCha20Rng;
use serde::Serialize;

use crate::machine::cpu;

/// One board's figures. Times in milliseconds of CPU, of one governor unless said; `None` is what
/// this board has not: large ones make no pools.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Row {
    /// `5/9`: 5 of 9 must sign.
    pub board: String,
    /// Signing sets of one governor.
    pub sets: u64,
    /// Touches that a vote takes.
    pub touches: u8,
    /// A founding, first pools included: all governors' time, divided by them.
    pub keygen_ms: Option<f64>,
    /// What one governor writes in it, first pools left out.
    pub keygen_bytes: Option<f64>,
    /// One governor's first pools, which cover eight places of each lane.
    pub first_pools_bytes: Option<f64>,
    /// Making and signing a pool of one slot.
    pub pool_ms: Option<f64>,
    /// Its envelope.
    pub pool_bytes: Option<f64>,
    /// Making and signing an approval, all pools at hand.
    pub vote_ms: Option<f64>,
    /// Its envelope.
    pub ballot_bytes: Option<f64>,
    /// Large boards: binding, signing and answering in one session, the second touch.
    pub second_touch_ms: Option<f64>,
    /// Its envelope.
    pub second_touch_bytes: Option<f64>,
    /// Counting to a signature: t honest approvals.
    pub tally_ms: Option<f64>,
    /// The same with n approvals of which n−t, those tried first, have bad shares.
    pub tally_saboteurs_ms: Option<f64>,
    /// Plainly: key generation of one governor.
    pub plain_keygen_ms: f64,
    /// Plainly: what one governor sends in it.
    pub plain_keygen_bytes: f64,
    /// Plainly: the first round of one signer.
    pub plain_commit_ms: f64,
    /// Plainly: the second round of one signer.
    pub plain_sign_ms: f64,
    /// Plainly: what one signer sends in both rounds.
    pub plain_sign_bytes: f64,
    /// Plainly: adding up t shares.
    pub plain_aggregate_ms: f64,
    /// Ours over plainly, taken in this run.
    pub ratios: BTreeMap<String, f64>,
}

/// A date for everything.
const NOW: UnixSeconds = UnixSeconds(1_795_000_000);

/// Measures `t` of `n`.
///
/// # Errors
/// A step of ours or of the library that fails, which none should.
pub fn measure(t: u16, n: u16, rounds: usize) -> Result<Row> {
    let mut rng = ChaCha20Rng::seed_from_u64(u64::from(t) << 16 | u64::from(n));
    let mut row = Row {
        board: format!("{t}/{n}"),
        sets: borgios_policy::slot::binomial(n - 1, t - 1),
        ..Row::default()
    };
    plain(&mut row, t, n, rounds, &mut rng)?;
    ours(&mut row, t, n, rounds, &mut rng)?;
    // In two touches a vote is both of them.
    let vote = row.vote_ms.map(|ms| ms + row.second_touch_ms.unwrap_or_default());
    let bytes = row.ballot_bytes.map(|bytes| bytes + row.second_touch_bytes.unwrap_or_default());
    let pairs = [
        ("keygen_time", row.keygen_ms, row.plain_keygen_ms),
        ("vote_time_vs_both_rounds", vote, row.plain_commit_ms + row.plain_sign_ms),
        ("tally_time", row.tally_ms, row.plain_aggregate_ms),
        ("vote_bytes", bytes, row.plain_sign_bytes),
    ];
    for (name, ours, plain) in pairs {
        if let Some(ours) = ours {
            row.ratios.insert(name.to_owned(), ours / plain);
        }
    }
    Ok(row)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The median of what `act` takes, and what it made last.
fn timed<T>(rounds: usize, mut act: impl FnMut() -> Result<T>) -> Result<(f64, T)> {
    let mut times = Vec::new();
    let mut last = None;
    for _ in 0..rounds.max(1) {
        let start = cpu();
        last = Some(act()?);
        times.push(ms(cpu() - start));
    }
    times.sort_by(f64::total_cmp);
    Ok((times[times.len() / 2], last.context("one round at least")?))
}

fn plain(row: &mut Row, t: u16, n: u16, rounds: usize, rng: &mut ChaCha20Rng) -> Result<()> {
    use frost::keys::dkg;
    let ids: Vec<frost::Identifier> =
        (1..=n).map(frost::Identifier::try_from).collect::<Result<_, _>>()?;
    // Key generation, all parties in one thread.
    let start = cpu();
    let (mut first, mut secrets, mut bytes) = (BTreeMap::new(), BTreeMap::new(), 0);
    for id in &ids {
        let (secret, package) = dkg::part1(*id, n, t, &mut *rng)?;
        bytes += package.serialize()?.len();
        secrets.insert(*id, secret);
        first.insert(*id, package);
    }
    let (mut second, mut secrets2) = (BTreeMap::new(), BTreeMap::new());
    for id in &ids {
        let mut others = first.clone();
        others.remove(id);
        let secret = secrets.remove(id).context("made above")?;
        let (secret, packages) = dkg::part2(secret, &others)?;
        for (to, package) in packages {
            bytes += package.serialize()?.len();
            second.entry(to).or_insert_with(BTreeMap::new).insert(*id, package);
        }
        secrets2.insert(*id, secret);
    }
    let (mut shares, mut public) = (BTreeMap::new(), None);
    for id in &ids {
        let mut others = first.clone();
        others.remove(id);
        let (share, package) = dkg::part3(&secrets2[id], &others, &second[id])?;
        shares.insert(*id, share);
        public = Some(package);
    }
    let public = public.context("two governors at least")?;
    row.plain_keygen_ms = ms(cpu() - start) / f64::from(n);
    row.plain_keygen_bytes = bytes as f64 / f64::from(n);
    // A signature by the first t.
    let message = vec![7; 300];
    let mut commit = Vec::new();
    let mut sign = Vec::new();
    let mut aggregate = Vec::new();
    for _ in 0..rounds.max(1) {
        let (mut nonces, mut commitments) = (BTreeMap::new(), BTreeMap::new());
        for id in ids.iter().take(usize::from(t)) {
            let start = cpu();
            let (nonce, commitment) = frost::round1::commit(shares[id].signing_share(), &mut *rng);
            commit.push(ms(cpu() - start));
            nonces.insert(*id, nonce);
            commitments.insert(*id, commitment);
        }
        let package = frost::SigningPackage::new(commitments, &message);
        let mut made = BTreeMap::new();
        for id in ids.iter().take(usize::from(t)) {
            let start = cpu();
            let share = frost::round2::sign(&package, &nonces[id], &shares[id])?;
            sign.push(ms(cpu() - start));
            made.insert(*id, share);
        }
        let start = cpu();
        let signature = frost::aggregate(&package, &made, &public)?;
        aggregate.push(ms(cpu() - start));
        public.verifying_key().verify(&message, &signature)?;
    }
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    row.plain_commit_ms = median(&mut commit);
    row.plain_sign_ms = median(&mut sign);
    row.plain_aggregate_ms = median(&mut aggregate);
    row.plain_sign_bytes = 64.0 + 32.0;
    Ok(())
}

/// A governor of the measured board.
struct Member {
    card: Card,
    key: SecretKey,
    identity: String,
}

fn ours(row: &mut Row, t: u16, n: u16, rounds: usize, rng: &mut ChaCha20Rng) -> Result<()> {
    let (members, founded, spent, files) = found(t, n, rng)?;
    row.keygen_ms = Some(ms(spent) / f64::from(n));
    let written = |pools: bool| {
        let of = files.iter().filter(|(name, _)| name.contains(".pool") == pools);
        let bytes: usize = of.map(|(_, bytes)| bytes.len()).sum();
        bytes as f64 / f64::from(n)
    };
    row.keygen_bytes = Some(written(false));
    row.first_pools_bytes = Some(written(true)).filter(|bytes| *bytes > 0.0);
    let board = founded[0].board.clone();
    let network = founded[0].network;
    let body = serde_json::json!({
        "version": "1.0", "components": [], "urls": [], "floor": 1, "notes": "",
        "installer": {"digest": Digest::of(b"x"), "size": 1},
    });
    let statement = Statement {
        network: Some(network),
        lane: Lane::Release,
        seq: Seq(1),
        round: Round(0),
        prev: None,
        policy: Some(Seq(1)),
        issued: NOW,
        expires: NOW.plus(86_400),
        critical: Vec::new(),
        body,
    };
    let (epoch, lane) = (board.epoch(), statement.lane);
    let slot = Slot { epoch, lane, seq: statement.seq, round: statement.round };
    if board.one_touch().is_err() {
        row.touches = 2;
        let text = statement.to_payload();
        return Large { board: &board, slot, text, members: &members, founded: &founded }.measure(
            row,
            usize::from(n - t),
            rounds,
        );
    }
    row.touches = 1;
    // A pool of one slot for each; the first one's is timed.
    let seeds: Vec<Seed> = members.iter().map(|_| Seed::random(rng)).collect();
    let make = |at: usize| -> Result<Envelope> {
        let pool = Pool::make(&board, &founded[at].key, &[(slot, seeds[at].clone())])?;
        Ok(pool.to_envelope().sign(&members[at].key))
    };
    let (time, pool) = timed(rounds, || make(0))?;
    row.pool_ms = Some(time);
    row.pool_bytes = Some(pool.to_json().len() as f64);
    let pools: Vec<Envelope> = (0..members.len()).map(make).collect::<Result<_>>()?;
    let text = statement.to_payload();
    let vote = |at: usize| -> Result<Envelope> {
        let open = OpenRound::check(&board, slot, &[])?;
        let (name, none) = (&members[at].card.name, [].into());
        let intent = Intent::approve(&board, name, &open, &text, &pools, &none, None, 1)?;
        let ballot = intent.ballot(&board, &founded[at].key, Some(&seeds[at]), &pools)?;
        Ok(ballot.to_envelope().sign(&members[at].key))
    };
    let (time, ballot) = timed(rounds, || vote(0))?;
    row.vote_ms = Some(time);
    row.ballot_bytes = Some(ballot.to_json().len() as f64);
    let ballots: Vec<Envelope> = (0..members.len()).map(vote).collect::<Result<_>>()?;
    // Counting: t honest ones, then everyone with n−t liars in front.
    let count = |ballots: &[Envelope]| -> Result<()> {
        let counted = tally(&board, slot, std::slice::from_ref(&text), &pools, ballots);
        ensure!(counted.signed().is_some(), "no signature came of it: {:?}", counted.culprits);
        Ok(())
    };
    let honest = &ballots[..usize::from(t)];
    row.tally_ms = Some(timed(rounds, || count(honest))?.0);
    let liars = usize::from(n - t);
    let mixed: Vec<Envelope> = ballots
        .iter()
        .enumerate()
        .map(
            |(at, ballot)| {
                if at < liars { spoil(ballot, &members[at].key) } else { Ok(ballot.clone()) }
            },
        )
        .collect::<Result<_>>()?;
    row.tally_saboteurs_ms = Some(timed(rounds, || count(&mixed))?.0);
    check_culprits(&board, slot, &text, &pools, &mixed, liars)
}

/// A board that votes in two touches.
struct Large<'a> {
    board: &'a Board,
    slot: Slot,
    text: String,
    members: &'a [Member],
    founded: &'a [Founded],
}

impl Large<'_> {
    /// The seed of a member's nonces for one session after the other.
    fn seed(&self, at: usize, number: u32) -> Seed {
        Seed::from_bytes(Digest::of(format!("{at} {number}").as_bytes()).0)
    }

    fn vote(&self, at: usize) -> Result<Envelope> {
        let open = OpenRound::check(self.board, self.slot, &[])?;
        let (key, seed) = (&self.founded[at].key, self.seed(at, 0));
        let intent = Intent::commit(self.board, key, &open, &self.text, &seed, None, 1)?;
        let ballot = intent.ballot(self.board, key, Some(&seed), &[])?;
        Ok(ballot.to_envelope().sign(&self.members[at].key))
    }

    fn answer(&self, at: usize, number: u32, session: &Envelope, lie: bool) -> Result<Envelope> {
        let (seed, next) = (self.seed(at, number), self.seed(at, number + 1));
        let key = &self.founded[at].key;
        let bound = Bound::to(self.board, key, session, &self.text, number, &seed, &next)?;
        let mut share = bound.share(self.board, key, &seed)?;
        if lie {
            share.share.0[0] ^= 1;
        }
        Ok(share.to_envelope().sign(&self.members[at].key))
    }

    fn measure(&self, row: &mut Row, liars: usize, rounds: usize) -> Result<()> {
        let (time, ballot) = timed(rounds, || self.vote(0))?;
        (row.vote_ms, row.ballot_bytes) = (Some(time), Some(ballot.to_json().len() as f64));
        let ballots: Vec<Envelope> =
            (0..self.members.len()).map(|at| self.vote(at)).collect::<Result<_>>()?;
        for lying in [0, liars] {
            let papers = self.sessions(&ballots, lying)?;
            let count = || -> Result<()> {
                let texts = [self.text.clone()];
                let counted = tally(self.board, self.slot, &texts, &papers, &ballots);
                ensure!(counted.signed().is_some(), "no signature came of it");
                Ok(())
            };
            let time = Some(timed(rounds, count)?.0);
            if lying == 0 {
                row.tally_ms = time;
                let first = papers.first().context("a session was opened")?;
                let session = Session::parse(first)?;
                let named = session.members.keys().next().context("t members")?;
                let at = self.members.iter().position(|member| member.card.name == *named);
                let at = at.context("on the board")?;
                let (time, share) = timed(rounds, || self.answer(at, 0, first, false))?;
                row.second_touch_ms = Some(time);
                row.second_touch_bytes = Some(share.to_json().len() as f64);
            }
            if lying == liars {
                row.tally_saboteurs_ms = time;
            }
        }
        check_culprits(
            self.board,
            self.slot,
            &self.text,
            &self.sessions(&ballots, liars)?,
            &ballots,
            liars,
        )
    }

    /// Sessions and shares until one ends, the first `liars` members giving garbage.
    fn sessions(&self, ballots: &[Envelope], liars: usize) -> Result<Vec<Envelope>> {
        let mut papers: Vec<Envelope> = Vec::new();
        let mut numbers = vec![0; self.members.len()];
        let table =
            |papers: &[Envelope]| Table::of(self.board, self.slot, &self.text, ballots, papers);
        for _ in 0..4 * self.members.len() {
            let now = table(&papers);
            if now.signed().is_some() {
                return Ok(papers);
            }
            let opened = self.members.iter().find_map(|member| {
                let session = now.next(&member.card.name)?;
                Some(session.to_envelope().sign(&member.key))
            });
            papers.extend(opened);
            for (at, member) in self.members.iter().enumerate() {
                let now = table(&papers);
                let due = now.due(&member.card.name).map(|(session, _)| session.clone());
                if let Some(session) = due {
                    papers.push(self.answer(at, numbers[at], &session, at < liars)?);
                    numbers[at] += 1;
                }
            }
        }
        bail!("no session ended")
    }
}

/// All liars are named that stood in the way, and nobody else.
fn check_culprits(
    board: &Board,
    slot: Slot,
    text: &str,
    pools: &[Envelope],
    ballots: &[Envelope],
    liars: usize,
) -> Result<()> {
    let counted = tally(board, slot, &[text.to_owned()], pools, ballots);
    let lied: Vec<&Name> = board.governors().iter().take(liars).map(|g| &g.name).collect();
    match counted.culprits.iter().find(|culprit| !lied.contains(&&culprit.name)) {
        Some(innocent) => bail!("{} was named and is innocent", innocent.name),
        None => Ok(()),
    }
}

/// The same ballot with every share off by one bit.
fn spoil(ballot: &Envelope, key: &SecretKey) -> Result<Envelope> {
    let mut spoilt = borgios_policy::Ballot::parse(ballot)?;
    if let borgios_policy::Choice::Approve { shares, .. } = &mut spoilt.choice {
        shares.0.iter_mut().step_by(32).for_each(|byte| *byte ^= 1);
    }
    Ok(spoilt.to_envelope().sign(key))
}

/// A whole founding: everyone's steps until all have a key.
fn found(
    t: u16,
    n: u16,
    rng: &mut ChaCha20Rng,
) -> Result<(Vec<Member>, Vec<Founded>, Duration, Files)> {
    use age::secrecy::ExposeSecret as _;
    let mut members = Vec::new();
    for at in 0..n {
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        let key = SecretKey::from_seed(seed);
        let identity = age::x25519::Identity::generate();
        let name: Name = format!("g{at:02}").parse()?;
        let recipient = identity.to_public().to_string();
        let card = Card { name, key: key.public(), recipient };
        members.push(Member {
            card,
            key,
            identity: identity.to_string().expose_secret().to_owned(),
        });
    }
    let cards = members.iter().map(|member| member.card.clone()).collect();
    let plan = Plan::new(cards, Threshold(t), 4, NOW, NOW.plus(86_400 * 365))?;
    let roster = plan.roster();
    let mut files = Files::new();
    let signed = plan.to_envelope().sign(&members[0].key);
    files.insert("founding.json".to_owned(), signed.to_json().into_bytes());
    let mut states: Vec<Option<Ceremony>> = members.iter().map(|_| None).collect();
    let start = cpu();
    for _ in 0..8 {
        let mut founded = Vec::new();
        for (member, state) in members.iter().zip(&mut states) {
            let Member { card, key, identity } = member;
            let me = Me { card, key, identity };
            let done = step(&me, state.take(), &files, Some(roster), rng)?;
            *state = done.state;
            files.extend(done.write);
            if let Status::Founded(one) = done.status {
                founded.push(*one);
            }
        }
        if founded.len() == members.len() {
            return Ok((members, founded, cpu() - start, files));
        }
    }
    bail!("not founded after eight rounds")
}

/// The table for people.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let number = |value: Option<f64>| match value {
        None => "-".to_owned(),
        Some(value) if value >= 100.0 => format!("{value:.0}"),
        Some(value) => format!("{value:.2}"),
    };
    let mut text = format!(
        "{:<7} {:>7} | {:>9} {:>7} {:>11} | {:>8} {:>7} | {:>8} {:>7} | {:>8} {:>9} | {:>9} {:>7} {:>9} {:>7} {:>8}\n",
        "t/n",
        "sets",
        "keygen ms",
        "bytes",
        "first pools",
        "pool ms",
        "bytes",
        "vote ms",
        "bytes",
        "tally ms",
        "n-t liars",
        "keygen ms",
        "bytes",
        "commit ms",
        "sign ms",
        "aggr. ms"
    );
    for row in rows {
        text += &format!(
            "{:<7} {:>7} | {:>9} {:>7} {:>11} | {:>8} {:>7} | {:>8} {:>7} | {:>8} {:>9} | {:>9} {:>7} {:>9} {:>7} {:>8}\n",
            row.board,
            row.sets,
            number(row.keygen_ms),
            number(row.keygen_bytes),
            number(row.first_pools_bytes),
            number(row.pool_ms),
            number(row.pool_bytes),
            number(row.vote_ms),
            number(row.ballot_bytes),
            number(row.tally_ms),
            number(row.tally_saboteurs_ms),
            number(Some(row.plain_keygen_ms)),
            number(Some(row.plain_keygen_bytes)),
            number(Some(row.plain_commit_ms)),
            number(Some(row.plain_sign_ms)),
            number(Some(row.plain_aggregate_ms)),
        );
    }
    for row in rows {
        if let (Some(ms), Some(bytes)) = (row.second_touch_ms, row.second_touch_bytes) {
            let board = &row.board;
            text +=
                &format!("{board:<7} second touch               {ms:>8.2} ms, {bytes:.0} bytes\n");
        }
        for (name, ratio) in &row.ratios {
            text += &format!("{:<7} {name:<26} {ratio:>8.2} times the plain one\n", row.board);
        }
    }
    text
}

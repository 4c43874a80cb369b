//! The papers of a repair and of a change of the board: a whole course is recorded, one paper is
//! changed and signed anew, and whoever waits for it goes on.
//!
//! What is sealed to a governor is reached too: an input of its own kind is the plaintext, which is
//! sealed here.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use borgios_policy::change::{self, Change, Standing};
use borgios_policy::fixture::Council;
use borgios_policy::keygen::{Ceremony, Files, Me};
use borgios_policy::repair::{ask, finish, free, help};
use borgios_policy::{Card, Lane, Name, Object as _};
use borgios_types::{Digest, Envelope, Seq, Threshold};
use rand::SeedableRng as _;
use rand_chacha::ChaCha20Rng;

use crate::governance::{text, word};
use crate::recorded::Course;

/// First byte of an input that is the plaintext of a sealed value, and not a paper.
const SEALED: u8 = 0x80;

struct Repair {
    council: Council,
    cards: Vec<Card>,
    /// One moment: all papers are there.
    files: Files,
    /// Every paper, with its author.
    papers: Vec<(String, Name)>,
}

fn me<'a>(council: &'a Council, cards: &'a [Card], name: &Name) -> Option<Me<'a>> {
    let card = cards.iter().find(|card| card.name == *name)?;
    Some(Me { card, key: council.keys.get(name)?, identity: council.identities.get(name)? })
}

fn repair() -> &'static Repair {
    static REPAIR: OnceLock<Repair> = OnceLock::new();
    REPAIR.get_or_init(|| {
        let (council, cards) = ward();
        let course = Course::of(include_str!("../recorded/repair.json"));
        let files = course.moments.last().map(|moment| course.at(moment)).unwrap_or_default();
        let [ann, ben, cleo] = [0, 1, 2].map(|at| council.name(at));
        let author = |file: &String| {
            let of = |name: &Name| file.contains(&format!(".{name}."));
            let helper = [&ann, &cleo].into_iter().find(|name| of(name));
            (file.clone(), helper.unwrap_or(&ben).clone())
        };
        let papers = files.keys().map(author).collect();
        Repair { council, cards, files, papers }
    })
}

fn ward() -> (Council, Vec<Card>) {
    let council = Council::new(3, 2, 1, 21);
    let cards = council.keys.keys().map(|name| council.card(name)).collect();
    (council, cards)
}

/// Plays a repair, to be recorded: ben's share, by ann and cleo.
#[must_use]
pub fn record_repair() -> Course {
    let (council, cards) = ward();
    let [ann, ben, cleo] = [0, 1, 2].map(|at| council.name(at));
    let mut files = Files::new();
    let mut rng = ChaCha20Rng::seed_from_u64(21);
    let asker = me(&council, &cards, &ben).expect("ben has a card");
    let asked = ask(&council.board, &asker, 0, &[ann.clone(), cleo.clone()]);
    let (file, request) = asked.expect("two others help");
    files.insert(file.clone(), request.to_json().into_bytes());
    for helper in [&ann, &cleo, &ann] {
        let who = me(&council, &cards, helper).expect("a helper has a card");
        let done = help(&council.board, &who, &council.shares[helper], &ben, &files, &mut rng);
        let (written, _) = done.expect("an honest step");
        files.extend(written);
    }
    let mut course = Course::default();
    course.note(&files, None, &file);
    course
}

/// The payload of each paper, with its place in front; and a value that was sealed.
#[must_use]
pub fn repair_seeds() -> Vec<Vec<u8>> {
    let Repair { files, papers, council, .. } = repair();
    let mut seeds: Vec<Vec<u8>> = (0..)
        .zip(papers)
        .filter_map(|(at, (file, _))| {
            let payload = Envelope::parse(files.get(file)?).ok()?.payload;
            Some(std::iter::once(at).chain(payload.into_bytes()).collect())
        })
        .collect();
    for (at, (file, _)) in (0..).zip(papers) {
        if file.ends_with("sigma.json") || file.ends_with("delta.json") {
            let scalar = council.shares[&council.name(0)].to_scalar();
            seeds.push([&[SEALED | at], scalar.expose()].concat());
        }
    }
    seeds
}

/// The first byte says which paper. The rest is its payload, or what is sealed in it.
pub fn repair_paper(bytes: &[u8]) -> String {
    let Repair { council, cards, files, papers } = repair();
    let Some((at, rest)) = bytes.split_first() else { return "empty".to_owned() };
    let Some((file, author)) = papers.get(usize::from(at & !SEALED) % papers.len().max(1)) else {
        return "nothing is recorded".to_owned();
    };
    let Some(Ok(old)) = files.get(file).map(|bytes| Envelope::parse(bytes)) else {
        return "no paper".to_owned();
    };
    let payload = if at & SEALED == 0 { text(rest) } else { resealed(council, &old.payload, rest) };
    let Some(payload) = payload else { return "not text".to_owned() };
    let signed = Envelope::unsigned(old.kind, payload).sign(&council.keys[author]);
    let mut files = files.clone();
    files.insert(file.clone(), signed.to_json().into_bytes());
    let [ann, ben, cleo] = [0, 1, 2].map(|at| council.name(at));
    let mut said = String::new();
    let _ = free(&council.board, &ben, &files);
    for helper in [&ann, &cleo] {
        // What this helper has said is not there yet, so that it reads what the others said.
        let mut seen = files.clone();
        seen.retain(|name, _| name == file || !name.contains(&format!(".{helper}.")));
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let Some(who) = me(council, cards, helper) else { continue };
        let helped = help(&council.board, &who, &council.shares[helper], &ben, &seen, &mut rng);
        said.push_str(&word(helped));
    }
    let Some(asker) = me(council, cards, &ben) else { return said };
    match finish(&council.board, &asker, &files) {
        Ok(borgios_policy::repair::Status::Repaired(share)) => {
            let before = council.shares[&ben].to_secret();
            assert_eq!(share.to_secret().expose(), before.expose(), "another share was taken");
            "ok".to_owned()
        }
        other => said + &word(other),
    }
}

/// A paper whose sealed values hold `plain`, for whoever they are sealed to, behind what says of which
/// repair they are.
fn resealed(council: &Council, payload: &str, plain: &[u8]) -> Option<String> {
    let mut paper: serde_json::Value = serde_json::from_str(payload).ok()?;
    let kind = if paper.get("values").is_some() { "delta" } else { "sigma" };
    let helper = paper["helper"].as_str().unwrap_or_default().to_owned();
    let request: Option<Digest> = paper["request"].as_str().and_then(|text| text.parse().ok());
    let group = council.board.group().to_bytes();
    let seal = |name: &Name| {
        let (request, names) = (request?, [helper.as_bytes(), name.as_str().as_bytes()]);
        let way =
            [&b"borgios repair v1"[..], kind.as_bytes(), &group, &request.0, names[0], names[1]];
        let plain = [&Digest::of_parts(&way).0, plain].concat();
        let recipient = council.board.by_name(name)?.recipient.clone();
        let recipient: age::x25519::Recipient = recipient.parse().ok()?;
        let sealed = borgios_policy::Bytes(age::encrypt(&recipient, &plain).ok()?);
        serde_json::to_value(sealed).ok()
    };
    if let Some(values) = paper.get_mut("values").and_then(|values| values.as_object_mut()) {
        for (name, value) in values {
            *value = seal(&name.parse().ok()?)?;
        }
    } else if paper.get("value").is_some() {
        paper["value"] = seal(&council.name(1))?;
    }
    Some(paper.to_string())
}

struct Town {
    council: Council,
    cards: BTreeMap<Name, Card>,
    network: Digest,
    /// With a paper of ben's that ann has not answered.
    course: Course,
}

fn town() -> &'static Town {
    static TOWN: OnceLock<Town> = OnceLock::new();
    TOWN.get_or_init(|| {
        let (council, cards, network) = townspeople();
        let course = Course::of(include_str!("../recorded/change.json"));
        Town { council, cards, network, course }
    })
}

fn townspeople() -> (Council, BTreeMap<Name, Card>, Digest) {
    let council = Council::new(2, 2, 1, 31);
    let network = council.sign(&council.first_policy(2)).id();
    let cards = council.keys.keys().map(|name| (name.clone(), council.card(name))).collect();
    (council, cards, network)
}

/// The plan of a fresh key for both.
fn plan(standing: Standing<'_>) -> Option<Change> {
    let heads = Lane::ALL.map(|lane| (lane, Seq(u64::from(lane == Lane::Policy)))).into();
    Change::new(standing, 0, (&[], &[]), Threshold(2), heads).ok()
}

/// Plays a change, to be recorded: two governors refresh their key.
#[must_use]
pub fn record_change() -> Course {
    let (council, cards, network) = townspeople();
    let standing = Standing { network, board: &council.board, recovery: None };
    let plan = plan(standing).expect("a fresh key");
    let signed = plan.to_envelope().sign(&council.keys[&council.name(1)]);
    let mut files = Files::from([(plan.file(false), signed.to_json().into_bytes())]);
    let mut rng = ChaCha20Rng::seed_from_u64(31);
    let mut states: BTreeMap<Name, String> = BTreeMap::new();
    let mut course = Course::default();
    course.note(&files, None, &plan.file(false));
    for at in (0..2).cycle().take(12) {
        let name = council.name(at);
        let before = files.clone();
        let (key, identity) = (&council.keys[&name], &council.identities[&name]);
        let me = Me { card: &cards[&name], key, identity };
        let state: Option<Ceremony> =
            states.get(&name).and_then(|text| serde_json::from_str(text).ok());
        let agreed = (Some(plan.roster()), false);
        let done = change::step(&me, standing, state, &files, agreed, &mut rng);
        let done = done.expect("an honest step");
        files.extend(done.write);
        if let Some(state) = &done.state {
            states.insert(name, serde_json::to_string(state).unwrap_or_default());
        }
        let state = states.get(&council.name(0)).cloned();
        for file in files.keys().filter(|file| at == 1 && !before.contains_key(*file)) {
            course.note(&files, state.clone(), file);
        }
    }
    course
}

/// The payload of each of ben's papers, with its moment in front.
#[must_use]
pub fn change_seeds() -> Vec<Vec<u8>> {
    let course = &town().course;
    let each = (0..).zip(&course.moments).filter_map(|(at, moment)| {
        let payload = Envelope::parse(course.at(moment).get(&moment.file)?).ok()?.payload;
        Some(std::iter::once(at).chain(payload.into_bytes()).collect())
    });
    each.collect()
}

/// The first byte says which paper of ben's; the rest is its payload.
pub fn change_paper(bytes: &[u8]) -> String {
    let Town { council, cards, network, course } = town();
    let standing = Standing { network: *network, board: &council.board, recovery: None };
    let (Some((at, payload)), Some(plan)) = (bytes.split_first(), plan(standing)) else {
        return "empty".to_owned();
    };
    let Some(moment) = course.moments.get(usize::from(*at) % course.moments.len().max(1)) else {
        return "nothing is recorded".to_owned();
    };
    let mut files = course.at(moment);
    let Some(payload) = text(payload) else { return "not text".to_owned() };
    let Some(Ok(old)) = files.get(&moment.file).map(|bytes| Envelope::parse(bytes)) else {
        return "no paper".to_owned();
    };
    let signed = Envelope::unsigned(old.kind, payload).sign(&council.keys[&council.name(1)]);
    files.insert(moment.file.clone(), signed.to_json().into_bytes());
    let _ = change::plans(&files, false);
    let ann = council.name(0);
    let (key, identity) = (&council.keys[&ann], council.identities[&ann].as_str());
    let me = Me { card: &cards[&ann], key, identity };
    let state: Option<Ceremony> =
        moment.state.as_ref().and_then(|text| serde_json::from_str(text).ok());
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    match change::step(&me, standing, state, &files, (Some(plan.roster()), false), &mut rng) {
        Ok(_) => "ok".to_owned(),
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            format!("{error} {}", cause.unwrap_or_default())
        }
    }
}

/// The state of a ceremony as a governor's folder holds it, and the step after it.
pub fn ceremony_state(bytes: &[u8]) -> String {
    let Town { council, cards, network, course } = town();
    let state: Ceremony = match serde_json::from_slice(bytes) {
        Ok(state) => state,
        Err(error) => return error.to_string(),
    };
    let ann = council.name(0);
    let (key, identity) = (&council.keys[&ann], council.identities[&ann].as_str());
    let me = Me { card: &cards[&ann], key, identity };
    let standing = Standing { network: *network, board: &council.board, recovery: None };
    let Some(plan) = plan(standing) else { return "no plan".to_owned() };
    let files = course.moments.last().map(|moment| course.at(moment)).unwrap_or_default();
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let agreed = (Some(plan.roster()), true);
    word(change::step(&me, standing, Some(state), &files, agreed, &mut rng))
}

/// Every state that ann went through.
#[must_use]
pub fn state_seeds() -> Vec<Vec<u8>> {
    let states = town().course.moments.iter().filter_map(|moment| moment.state.clone());
    let mut states: Vec<Vec<u8>> = states.map(String::into_bytes).collect();
    states.dedup();
    states
}

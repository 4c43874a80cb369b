//! The papers of a founding: a whole ceremony is recorded, one paper is changed and signed anew, and
//! the governor who waits for it takes the next step.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use borgios_policy::fixture::{Council, EXPIRES, ISSUED};
use borgios_policy::founding::{Ceremony, Files, Me, PLAN_FILE, Plan, step};
use borgios_policy::{Card, Name, Object as _};
use borgios_types::{Envelope, Threshold};
use rand::SeedableRng as _;
use rand_chacha::ChaCha20Rng;

use crate::recorded::Course;

struct Recorded {
    council: Council,
    cards: BTreeMap<Name, Card>,
    /// With a paper of ben's that ann has not answered.
    course: Course,
}

fn recorded() -> &'static Recorded {
    static RECORDED: OnceLock<Recorded> = OnceLock::new();
    RECORDED.get_or_init(|| {
        let (council, cards) = people();
        Recorded { council, cards, course: Course::of(include_str!("../recorded/founding.json")) }
    })
}

fn people() -> (Council, BTreeMap<Name, Card>) {
    let council = Council::new(2, 2, 1, 7);
    let cards = council.keys.keys().map(|name| (name.clone(), council.card(name))).collect();
    (council, cards)
}

/// The plan of both; its id is what they compared.
fn plan(cards: &BTreeMap<Name, Card>) -> Option<Plan> {
    Plan::new(cards.values().cloned().collect(), Threshold(2), 4, ISSUED, EXPIRES).ok()
}

/// Plays a founding, to be recorded.
#[must_use]
pub fn record() -> Course {
    let (council, cards) = people();
    let mut rng = ChaCha20Rng::seed_from_u64(7);
    let plan = plan(&cards).expect("two governors");
    let roster = plan.roster();
    let mut files = Files::new();
    let signed = plan.to_envelope().sign(&council.keys[&council.name(0)]);
    files.insert(PLAN_FILE.to_owned(), signed.to_json().into_bytes());
    let mut states: BTreeMap<Name, String> = BTreeMap::new();
    let mut course = Course::default();
    for _ in 0..6 {
        for at in 0..2 {
            let name = council.name(at);
            let before = files.clone();
            let card = &cards[&name];
            let me = Me { card, key: &council.keys[&name], identity: &council.identities[&name] };
            let state: Option<Ceremony> =
                states.get(&name).and_then(|text| serde_json::from_str(text).ok());
            let done = step(&me, state, &files, Some(roster), &mut rng).expect("an honest step");
            files.extend(done.write);
            if let Some(state) = &done.state {
                states.insert(name, serde_json::to_string(state).unwrap_or_default());
            }
            if at == 1 {
                let state = states.get(&council.name(0)).cloned();
                for file in files.keys().filter(|file| !before.contains_key(*file)) {
                    course.note(&files, state.clone(), file);
                }
            }
        }
    }
    course
}

/// The payload of each paper, with its moment in front.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let course = &recorded().course;
    let each = (0..).zip(&course.moments).filter_map(|(at, moment)| {
        let envelope = Envelope::parse(course.at(moment).get(&moment.file)?).ok()?;
        Some(std::iter::once(at).chain(envelope.payload.into_bytes()).collect())
    });
    each.collect()
}

/// The first byte says which paper; the rest is its payload.
pub fn paper(bytes: &[u8]) -> String {
    let Recorded { council, cards, course } = recorded();
    let (Some((at, payload)), Some(plan)) = (bytes.split_first(), plan(cards)) else {
        return "empty".to_owned();
    };
    let Some(moment) = course.moments.get(usize::from(*at) % course.moments.len().max(1)) else {
        return "nothing is recorded".to_owned();
    };
    let (mut files, file) = (course.at(moment), &moment.file);
    let Ok(payload) = String::from_utf8(payload.to_vec()) else { return "not text".to_owned() };
    let Some(Ok(old)) = files.get(file).map(|bytes| Envelope::parse(bytes)) else {
        return "no paper".to_owned();
    };
    let signed = Envelope::unsigned(old.kind, payload).sign(&council.keys[&council.name(1)]);
    files.insert(file.clone(), signed.to_json().into_bytes());
    let ann = council.name(0);
    let (key, identity) = (&council.keys[&ann], council.identities[&ann].as_str());
    let me = Me { card: &cards[&ann], key, identity };
    let state: Option<Ceremony> =
        moment.state.as_ref().and_then(|text| serde_json::from_str(text).ok());
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    match step(&me, state, &files, Some(plan.roster()), &mut rng) {
        Ok(_) => "ok".to_owned(),
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            format!("{error} {}", cause.unwrap_or_default())
        }
    }
}

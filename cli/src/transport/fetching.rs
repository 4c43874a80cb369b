//! What a node has, through either of its doors: what is held here is not sent again.
//!
//! ```text
//! get ids ──▶ some are held here ──▶ get objects by ids, those that are not ─┐
//!    │  └───▶ none is ─────────────▶ get objects, whole pages ───────────────┼─▶ Fetched
//!    └──────▶ the node does not know the question ─▶ whole pages ────────────┘
//! ```
//!
//! A node may lie about what it has, as it may keep back what it has: nothing here believes it, and
//! other nodes are asked too. It can neither make this run last for ever nor fill the memory: what came
//! until it is too late counts, and the next run asks for the rest.

use std::collections::BTreeSet;
use std::time::Instant;

use borgios_policy::Lane;
use borgios_types::limits::ENVELOPE_MAX;
use borgios_types::{Digest, Envelope};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::Door;
use super::{FETCH_MAX, Fetched, patience};
use crate::failure::{Failure, OrFail as _};

/// Most pages asked for of one kind; a node that never stops answering is not followed for ever.
const PAGES_MAX: usize = 10_000;

/// Most ids of one kind: far more than governors' quotas allow, 32 MB of memory.
const IDS_MAX: usize = 1_000_000;

/// Objects asked for in one request: 38 KB of ids.
const ASKED: usize = 512;

/// One page of objects.
#[derive(Deserialize)]
struct Page {
    objects: Vec<Value>,
    #[serde(default)]
    next: Option<Digest>,
}

/// One page of ids.
#[derive(Deserialize)]
struct Ids {
    ids: Vec<Digest>,
    #[serde(default)]
    next: Option<Digest>,
}

impl Fetched {
    /// Whether nothing more is asked for: more came than one run takes, or it is too late.
    fn ends(&mut self, until: Instant) -> bool {
        self.late |= patience::is_past(until);
        self.more |= self.late;
        self.more
    }
}

/// Everything that this node has of these kinds and that `held` does not know, or what of it comes until
/// it is too late.
pub(crate) fn fetch(
    door: &mut dyn Door,
    kinds: &[&str],
    held: &dyn Fn(&Digest) -> bool,
    until: Instant,
) -> Result<Fetched, Failure> {
    let mut fetched = Fetched::default();
    for kind in kinds {
        // A statement comes whole each time: which signatures a node has on it counts, and they are few.
        let listed = if kind.parse::<Lane>().is_ok() {
            None
        } else {
            ids(door, kind, held, (&mut fetched, until))?
        };
        match listed {
            Some(listed) => {
                let (has, lacks): (BTreeSet<_>, BTreeSet<_>) =
                    listed.into_iter().partition(|id| held(id));
                fetched.has.extend(has);
                chosen(door, kind, &Vec::from_iter(lacks), (&mut fetched, until))?;
            }
            None => all(door, kind, (&mut fetched, until))?,
        }
        if fetched.more {
            break;
        }
    }
    if fetched.late {
        // Ahead of what it sent that is of no use, of which only the first lines are said.
        let minutes = patience::FETCHING_MAX.as_secs() / 60;
        let why =
            format!("it took over {minutes} minutes; run this again, which goes on from there");
        fetched.skipped.insert(0, format!("the rest of what {} has: {why}", door.name()));
    }
    Ok(fetched)
}

/// The ids of a kind's objects there; `None` where whole pages are better: the node does not know the
/// question, or nothing of the first page is held here.
fn ids(
    door: &mut dyn Door,
    kind: &str,
    held: &dyn Fn(&Digest) -> bool,
    (fetched, until): (&mut Fetched, Instant),
) -> Result<Option<Vec<Digest>>, Failure> {
    let mut all = Vec::new();
    let mut request = json!({"get": "ids", "kind": kind});
    for page in 0..PAGES_MAX {
        if fetched.ends(until) {
            break;
        }
        let answer = match door.ask(&request) {
            Err(failure) if page == 0 && failure.is(Failure::NODE_REFUSED) => return Ok(None),
            answer => answer?,
        };
        let Ids { ids, next } =
            serde_json::from_value(answer).or_fail(|| format!("{} sent no ids", door.name()))?;
        if page == 0 && !ids.is_empty() && !ids.iter().any(held) {
            return Ok(None);
        }
        if all.len() + ids.len() > IDS_MAX {
            return Err(Failure::new(format!("{} lists over {IDS_MAX} of {kind}", door.name())));
        }
        let ended = ids.is_empty();
        all.extend(ids);
        match next {
            Some(next) if !ended => request = json!({"get": "ids", "kind": kind, "after": next}),
            _ => break,
        }
    }
    Ok(Some(all))
}

/// Takes these objects of a kind.
fn chosen(
    door: &mut dyn Door,
    kind: &str,
    ids: &[Digest],
    (fetched, until): (&mut Fetched, Instant),
) -> Result<(), Failure> {
    for ids in ids.chunks(ASKED) {
        let mut rest = ids;
        while !rest.is_empty() && !fetched.ends(until) {
            let answer = door.ask(&json!({"get": "objects", "ids": rest}))?;
            let next = take(door, kind, answer, Some(rest), fetched)?;
            // An answer that goes no further is the last one.
            let at = next.and_then(|next| rest.iter().position(|id| *id == next)).unwrap_or(0);
            rest = if at == 0 { &[] } else { &rest[at..] };
        }
    }
    Ok(())
}

/// Takes all objects of a kind.
fn all(
    door: &mut dyn Door,
    kind: &str,
    (fetched, until): (&mut Fetched, Instant),
) -> Result<(), Failure> {
    let mut request = json!({"get": "objects", "kind": kind});
    for _ in 0..PAGES_MAX {
        if fetched.ends(until) {
            break;
        }
        let answer = door.ask(&request)?;
        match take(door, kind, answer, None, fetched)? {
            Some(next) if !fetched.more => {
                request = json!({"get": "objects", "kind": kind, "after": next});
            }
            _ => break,
        }
    }
    Ok(())
}

/// Takes one page, and returns where the next one begins, if there is one.
fn take(
    door: &dyn Door,
    kind: &str,
    answer: Value,
    asked: Option<&[Digest]>,
    fetched: &mut Fetched,
) -> Result<Option<Digest>, Failure> {
    let from = door.name();
    let page: Page =
        serde_json::from_value(answer).or_fail(|| format!("{from} sent no page of objects"))?;
    let ended = page.objects.is_empty();
    for object in page.objects {
        let text = object.to_string();
        if text.len() > ENVELOPE_MAX {
            fetched.skip(&from, format!("{from}: a {kind} that is too long"))?;
            continue;
        }
        let envelope = match Envelope::parse(text.as_bytes()) {
            Ok(envelope) => envelope,
            Err(error) => {
                fetched.skip(&from, format!("{from}: {error}"))?;
                continue;
            }
        };
        if envelope.kind.as_str() != kind {
            let what = format!("a {} among its objects of kind", envelope.kind);
            fetched.skip(&from, format!("{from}: {what} {kind}"))?;
        } else if asked.is_some_and(|asked| !asked.contains(&envelope.id())) {
            fetched.skip(&from, format!("{from}: a {kind} that was not asked for"))?;
        } else if fetched.came.contains(&envelope.id()) {
            // It came already; a node has one of each.
        } else if !fetched.room(&envelope, FETCH_MAX) {
            fetched.more = true;
            return Ok(None);
        } else {
            fetched.came.insert(envelope.id());
            fetched.take(&from, envelope, FETCH_MAX)?;
        }
    }
    Ok(page.next.filter(|_| !ended))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use borgios_types::Kind;

    use super::*;

    /// A node with notes, and what it was asked.
    struct Fake {
        notes: BTreeMap<Digest, Envelope>,
        page: usize,
        knows_ids: bool,
        asked: Vec<Value>,
    }

    fn note(number: u32) -> Envelope {
        Envelope::unsigned(Kind::new("note").unwrap(), format!("{{\"n\":{number}}}"))
    }

    impl Fake {
        fn with(count: u32, page: usize) -> Self {
            let notes = (0..count).map(|number| (note(number).id(), note(number))).collect();
            Self { notes, page, knows_ids: true, asked: Vec::new() }
        }

        fn ids(&self) -> Vec<Digest> {
            self.notes.keys().copied().collect()
        }
    }

    impl Door for Fake {
        fn name(&self) -> String {
            "fake".into()
        }

        fn ask(&mut self, request: &Value) -> Result<Value, Failure> {
            self.asked.push(request.clone());
            let after: Option<Digest> =
                request.get("after").map(|id| serde_json::from_value(id.clone()).unwrap());
            let here = self.notes.iter().filter(|(id, _)| after.is_none_or(|after| **id > after));
            let here: Vec<_> =
                here.filter(|(_, note)| request["kind"] == note.kind.as_str()).collect();
            let next =
                here.get(self.page - 1).filter(|_| here.len() > self.page).map(|(id, _)| **id);
            let page = here.iter().take(self.page);
            if request["get"] == "ids" {
                if !self.knows_ids {
                    return Err(Failure::new("refused").code(Failure::NODE_REFUSED));
                }
                return Ok(
                    json!({"ids": page.map(|(id, _)| id).collect::<Vec<_>>(), "next": next}),
                );
            }
            let Some(ids) = request.get("ids") else {
                return Ok(
                    json!({"objects": page.map(|(_, note)| note).collect::<Vec<_>>(), "next": next}),
                );
            };
            let ids: Vec<Digest> = serde_json::from_value(ids.clone()).unwrap();
            let next = ids.get(self.page);
            let notes: Vec<_> =
                ids.iter().take(self.page).filter_map(|id| self.notes.get(id)).collect();
            Ok(json!({"objects": notes, "next": next}))
        }
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn fetched(fake: &mut Fake, held: &[Digest]) -> Fetched {
        fetch(fake, &["note"], &|id| held.contains(id), later()).unwrap()
    }

    #[test]
    fn only_what_is_not_held_is_sent_however_it_falls_into_pages() {
        for (count, page) in [(1, 1), (7, 3), (9, 3), (40, 7), (1_300, 600)] {
            let mut fake = Fake::with(count, page);
            let ids = fake.ids();
            let held: Vec<Digest> = ids.iter().step_by(3).copied().collect();
            let came = fetched(&mut fake, &held);
            let sent: BTreeSet<Digest> = came.envelopes.iter().map(Envelope::id).collect();
            let lacked: BTreeSet<Digest> =
                ids.iter().filter(|id| !held.contains(id)).copied().collect();
            assert_eq!(sent, lacked, "{count} in pages of {page}");
            assert_eq!(came.envelopes.len(), sent.len(), "each comes once");
            assert_eq!(came.has, held.iter().copied().collect());
            assert!(came.skipped.is_empty() && !came.more);
        }
    }

    #[test]
    fn who_holds_nothing_takes_whole_pages_and_so_does_who_meets_an_older_node() {
        for knows_ids in [true, false] {
            let mut fake = Fake { knows_ids, ..Fake::with(10, 4) };
            let held = if knows_ids { Vec::new() } else { fake.ids() };
            let came = fetched(&mut fake, &held);
            assert_eq!(came.envelopes.len(), 10);
            assert!(fake.asked.iter().all(|request| request.get("ids").is_none()));
        }
        assert!(fetched(&mut Fake::with(0, 4), &[]).envelopes.is_empty());
    }

    /// Answers every request alike.
    struct Parrot(Value, usize);

    impl Door for Parrot {
        fn name(&self) -> String {
            "parrot".into()
        }

        fn ask(&mut self, _: &Value) -> Result<Value, Failure> {
            self.1 += 1;
            Ok(self.0.clone())
        }
    }

    #[test]
    fn a_node_that_lists_for_ever_or_sends_what_was_not_asked_for_is_left() {
        let [held, other] = [note(1).id(), note(2).id()];
        // The same page again and again, and never the object.
        let mut parrot = Parrot(json!({"ids": [held, other], "next": other, "objects": []}), 0);
        let came = fetch(&mut parrot, &["note"], &|id| *id == held, later()).unwrap();
        assert!(came.envelopes.is_empty() && parrot.1 <= PAGES_MAX + 1, "{}", parrot.1);
        let many: Vec<Digest> = vec![held; 1_000];
        let mut parrot = Parrot(json!({"ids": many, "next": held, "objects": []}), 0);
        let failure = fetch(&mut parrot, &["note"], &|id| *id == held, later()).unwrap_err();
        assert!(failure.summary().contains("lists over"), "{}", failure.summary());
        // Another object than the one asked for, and a `next` that goes nowhere.
        let answer = json!({"ids": [held, other], "objects": [note(3)], "next": note(3).id()});
        let mut parrot = Parrot(answer, 0);
        let came = fetch(&mut parrot, &["note"], &|id| *id == held, later());
        let skipped = came.map(|came| (came.envelopes.len(), came.skipped.len()));
        assert!(matches!(skipped, Ok((0, 1)) | Err(_)));
    }

    #[test]
    fn what_comes_again_and_again_is_taken_once() {
        let id = note(1).id();
        let answer = json!({"ids": [id], "objects": [note(1), note(1)], "next": id});
        let came = fetch(&mut Parrot(answer, 0), &["note"], &|_| false, later()).unwrap();
        assert_eq!((came.envelopes.len(), came.skipped.len()), (1, 0));
    }

    /// Answers the requests of whoever asks a node, each after a while.
    struct Slow(Fake);

    impl Door for Slow {
        fn name(&self) -> String {
            "slow".into()
        }

        fn ask(&mut self, request: &Value) -> Result<Value, Failure> {
            std::thread::sleep(Duration::from_millis(20));
            self.0.ask(request)
        }
    }

    /// One fresh id or object a page, each just in time, would last for days.
    #[test]
    fn what_came_until_it_is_too_late_counts_and_the_next_run_goes_on() {
        for knows_ids in [true, false] {
            let mut slow = Slow(Fake { knows_ids, ..Fake::with(2_000, 1) });
            let first = slow.0.ids()[0];
            let until = Instant::now() + Duration::from_millis(200);
            let came = fetch(&mut slow, &["note"], &|id| *id == first, until).unwrap();
            assert!(came.more && came.envelopes.len() < 100, "{}", came.envelopes.len());
            assert!(came.skipped[0].contains("run this again"), "{:?}", came.skipped);
            let asked = slow.0.asked.len();
            assert!((1..100).contains(&asked), "{asked}");
            // Too late from the beginning: nothing is asked.
            slow.0.asked.clear();
            let kinds = ["policy", "note"];
            let came = fetch(&mut slow, &kinds, &|id| *id == first, Instant::now()).unwrap();
            assert!(came.more && came.envelopes.is_empty() && slow.0.asked.is_empty());
        }
        // What came in time is held by the next run, which asks for the rest.
        let mut fake = Fake::with(40, 7);
        let held: Vec<Digest> = fake.ids().into_iter().take(10).collect();
        let came = fetched(&mut fake, &held);
        assert!(!came.more && came.envelopes.len() == 30);
    }
}

//! What tools ask of the objects here: all of a kind in pages, their ids alone, or some of them.
//!
//! ```text
//! {"get":"objects","kind":K,"after":ID}   {"objects":[…],"next":ID}   whole envelopes
//! {"get":"ids","kind":K,"after":ID}       {"ids":[…],"next":ID}       some 7,000 a page
//! {"get":"objects","ids":[…]}             {"objects":[…],"next":ID}   those of them that are here
//! ```
//!
//! A tool asks for ids, and then for what it lacks: what it has once taken is sent to it no more. `next`
//! is what comes after a page in `after`; for a list of ids it is the first one that was not looked at.

use borgios_types::Digest;
use serde_json::{Value, json};

use crate::api::{PAGE_BYTES, ok};
use crate::ledger::Ledger;

/// Bytes of one id in a list: two quotes, `sha256:`, 64 digits and a comma.
const ID_BYTES: usize = 2 + 7 + 64 + 1;

/// One page of the objects of a kind, whole envelopes; `next` goes into `after` for the next one.
pub(crate) fn page(ledger: &Ledger, kind: &str, after: Option<Digest>) -> Value {
    let mut page = Page::default();
    let mut last = None;
    for stored in ledger.store().list(kind, after) {
        if !page.fits(stored.body.as_str().len()) {
            return page.end(last);
        }
        last = Some(stored.id);
        page.objects.push(json!(stored.envelope));
    }
    page.end(None)
}

/// One page of the ids of a kind's objects, in their order.
pub(crate) fn ids(ledger: &Ledger, kind: &str, after: Option<Digest>) -> Value {
    let mut listed = ledger.store().list(kind, after).map(|stored| stored.id);
    let ids: Vec<Digest> = listed.by_ref().take(PAGE_BYTES / ID_BYTES).collect();
    let next = listed.next().and(ids.last());
    ok(json!({"ids": ids, "next": next}))
}

/// Those of these objects that are here, in the order asked for. A request is no longer than a frame,
/// which bounds the list.
pub(crate) fn chosen(ledger: &Ledger, ids: &[Digest]) -> Value {
    let mut page = Page::default();
    for id in ids {
        let Some(stored) = ledger.store().get(id) else { continue };
        if !page.fits(stored.body.as_str().len()) {
            return page.end(Some(*id));
        }
        page.objects.push(json!(stored.envelope));
    }
    page.end(None)
}

/// An answer that grows.
#[derive(Default)]
struct Page {
    objects: Vec<Value>,
    bytes: usize,
}

impl Page {
    /// Whether an object of so many bytes has room; the first one always has.
    fn fits(&mut self, length: usize) -> bool {
        let fits = self.objects.is_empty() || self.bytes + length < PAGE_BYTES;
        self.bytes += length + 1;
        fits
    }

    fn end(self, next: Option<Digest>) -> Value {
        ok(json!({"objects": self.objects, "next": next}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::FRAME_MAX;
    use borgios_types::{Envelope, Kind, SecretKey};
    use std::collections::BTreeSet;

    /// A ledger with so many notes of so many bytes each, and their ids.
    fn with_notes(count: usize, bytes: usize) -> (tempfile::TempDir, Ledger, Vec<Digest>) {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(folder.path(), 0).unwrap();
        let mut ids = Vec::new();
        for number in 0..count {
            let text = format!("{{\"n\":{number},\"text\":\"{}\"}}", "x".repeat(bytes));
            let note: Envelope = Envelope::unsigned(Kind::new("note").unwrap(), text)
                .sign(&SecretKey::from_seed([1; 32]));
            ids.push(note.id());
            // Indexed alone: files are not what is looked at here.
            ledger.store.index(note, "ann".into(), 0);
        }
        ids.sort_unstable();
        (folder, ledger, ids)
    }

    /// Every page of a list, by what `ask` answers after a given id.
    fn pages(list: &str, ask: impl Fn(Option<Digest>) -> Value) -> Vec<Vec<Value>> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let answer = ask(after);
            assert!(answer.to_string().len() < FRAME_MAX, "longer than a frame");
            all.push(answer["ok"][list].as_array().unwrap().clone());
            after = serde_json::from_value(answer["ok"]["next"].clone()).unwrap();
            if after.is_none() {
                return all;
            }
        }
    }

    fn ids_of(objects: &[Value]) -> Vec<Digest> {
        let parse = |one: &Value| Envelope::parse(one.to_string().as_bytes()).unwrap().id();
        objects.iter().map(parse).collect()
    }

    #[test]
    fn ids_come_in_pages_that_miss_none_and_repeat_none() {
        let per_page = PAGE_BYTES / ID_BYTES;
        for count in [0, 1, per_page, per_page + 1] {
            let (_folder, ledger, all) = with_notes(count, 0);
            let pages = pages("ids", |after| ids(&ledger, "note", after));
            let listed: Vec<Digest> =
                pages.iter().flatten().map(|id| id.as_str().unwrap().parse().unwrap()).collect();
            assert_eq!(listed, all);
            assert_eq!(pages.len(), count.max(1).div_ceil(per_page));
        }
        let (_folder, ledger, _) = with_notes(1, 0);
        assert_eq!(ids(&ledger, "ballot", None), ok(json!({"ids": [], "next": null})));
    }

    #[test]
    fn chosen_objects_come_in_pages_and_what_is_not_here_is_left_out() {
        let (_folder, ledger, all) = with_notes(40, 30_000);
        let absent = Digest::of(b"nothing here");
        let mut asked: Vec<Digest> = all.iter().step_by(2).copied().collect();
        asked.insert(3, absent);
        let from = |next: Option<Digest>| {
            let at = next.and_then(|next| asked.iter().position(|id| *id == next)).unwrap_or(0);
            chosen(&ledger, &asked[at..])
        };
        let pages = pages("objects", from);
        assert!(pages.len() > 1, "20 objects of 30 kB in one page");
        asked.remove(3);
        assert_eq!(pages.iter().flat_map(|page| ids_of(page)).collect::<Vec<_>>(), asked);
        assert_eq!(chosen(&ledger, &[absent]), ok(json!({"objects": [], "next": null})));
    }

    #[test]
    fn whole_pages_miss_none_however_large_the_objects() {
        let (_folder, ledger, all) = with_notes(30, 40_000);
        let pages = pages("objects", |after| page(&ledger, "note", after));
        assert!(pages.len() > 1);
        let listed: BTreeSet<Digest> = pages.iter().flat_map(|page| ids_of(page)).collect();
        assert_eq!(Vec::from_iter(listed), all);
    }
}

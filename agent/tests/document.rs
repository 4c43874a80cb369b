//! `docs/protocol/governance.md` lists every error code that the API of a node answers. They stand in
//! private places as texts, so the agent's source is read.

#![allow(clippy::unwrap_used, reason = "all of it is test code; the lint sees only #[test] itself")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const DOCUMENT: &str = include_str!("../../docs/protocol/governance.md");
/// What begins an answer whose first argument is its code.
const CALLS: [&str; 4] = ["error(", "End::Refused(", "Denied::wrong(", "Denied::later("];
/// Files in which codes that are answered stand in the arms of a `match`.
const ARMS: [&str; 3] = ["depot.rs", "frame.rs", "stream_api.rs"];

/// The document's part on codes, without those of tools.
fn codes() -> &'static str {
    let rest = DOCUMENT.split_once("\n## Codes\n").expect("a section on codes").1;
    rest.split_once("\n### Tools\n").expect("those of tools come last").0
}

/// What stands between backticks in a text.
fn named(text: &str) -> BTreeSet<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The code that a text begins with, as a literal.
fn literal(text: &str) -> Option<&str> {
    let code = text.trim_start().strip_prefix('"')?.split('"').next()?;
    let is_code = |c: char| c.is_ascii_lowercase() || c == '_';
    (!code.is_empty() && code.chars().all(is_code)).then_some(code)
}

/// The codes in the files of a folder and of those in it. The keeper's own are not the API's.
fn answered(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            if name != "keeper" {
                answered(&path, found);
            }
            continue;
        }
        if path.extension().is_none_or(|extension| extension != "rs") || name == "tests.rs" {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let source = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let mut starts = CALLS.to_vec();
        if ARMS.contains(&name.as_str()) {
            starts.push("=> ");
        }
        for start in starts {
            for (at, _) in source.match_indices(start) {
                // `#[error("…")]` is a message.
                if !source[..at].ends_with("#[") {
                    found.extend(literal(&source[at + start.len()..]).map(str::to_owned));
                }
            }
        }
    }
}

#[test]
fn every_code_of_an_answer_is_listed_and_no_other() {
    let mut found = BTreeSet::new();
    answered(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert!(found.len() > 30, "found {found:?}");
    let listed = named(codes());
    let missing: Vec<_> = found.difference(&listed).collect();
    assert!(missing.is_empty(), "not in the document: {missing:?}");
    let rows = codes().lines().filter(|line| line.starts_with("| `"));
    let rows: BTreeSet<String> =
        rows.flat_map(|row| named(row.split('|').nth(1).unwrap())).collect();
    let stale: Vec<_> = rows.difference(&found).collect();
    assert!(stale.is_empty(), "in the document alone: {stale:?}");
}

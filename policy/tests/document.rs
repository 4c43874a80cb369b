//! `docs/protocol/governance.md` says what the code does: its codes, and its table of bounds.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may stop")]

use std::collections::BTreeSet;

use borgios_policy::Refusal;

const DOCUMENT: &str = include_str!("../../docs/protocol/governance.md");
const OBJECTS: &str = include_str!("../src/object.rs");

/// The part of the document under a heading, up to the next one.
fn section(heading: &str) -> &'static str {
    let rest = DOCUMENT.split_once(heading).unwrap_or_else(|| panic!("no {heading}")).1;
    rest.split("\n#").next().unwrap()
}

/// What stands between backticks in a text.
fn named(text: &str) -> BTreeSet<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The answers of the one function `code` of a source file: ``=> "malformed",``.
fn answered(source: &str) -> BTreeSet<&str> {
    let function = source.split_once("pub fn code(").unwrap().1;
    let function = function.split("\n    }\n").next().unwrap();
    let arms = function.split("=> \"").skip(1);
    arms.map(|arm| arm.split('"').next().unwrap()).collect()
}

/// Some constants are private, so the source is read.
#[test]
fn bounds_are_listed_with_their_values() {
    let rows: Vec<&str> =
        section("\n## Bounds\n").lines().filter(|line| line.starts_with("| `")).collect();
    assert!(rows.len() > 30);
    for row in rows {
        let mut code = row.split('`').skip(1).step_by(2);
        let (name, file) = (code.next().unwrap(), code.next().unwrap());
        let path = format!("{}/src/{file}", env!("CARGO_MANIFEST_DIR"));
        let source = std::fs::read_to_string(path).unwrap();
        let start = format!("const {name}: ");
        let line = source.lines().find_map(|line| line.split_once(&start)).map(|it| it.1);
        let value = line.and_then(|it| it.split_once(" = ")).map(|it| it.1.trim_end_matches(';'));
        let value = value.unwrap_or_else(|| panic!("{name} in {file}"));
        assert_eq!(row.split('|').nth(2).unwrap().trim(), written(value), "{name} in {file}");
    }
}

/// `16 * 1024 * 1024` as `16 MiB`, `100_000` as `100,000`.
fn written(code: &str) -> String {
    let factors = code.split(" * ").map(|it| it.replace('_', "").parse::<u64>().unwrap());
    let number: u64 = factors.product();
    let mib = 1024 * 1024;
    if number.is_multiple_of(mib) {
        return format!("{} MiB", number / mib);
    }
    let (digits, mut text) = (number.to_string(), String::new());
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[test]
fn every_refusal_of_a_statement_is_listed_and_no_other() {
    let codes: BTreeSet<&str> = Refusal::CODES.into_iter().collect();
    assert_eq!(named(section("\n### Statements\n")), codes);
}

#[test]
fn every_refusal_of_another_object_is_listed() {
    let codes = answered(OBJECTS);
    assert!(codes.contains("bad_body") && codes.len() > 8, "found {codes:?}");
    let listed = named(section("\n### Other objects\n"));
    let missing: Vec<_> = codes.difference(&listed).collect();
    assert!(missing.is_empty(), "not in the document: {missing:?}");
}

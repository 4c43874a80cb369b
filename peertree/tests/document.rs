//! `docs/protocol/peertree.md` says what the code does: its tables of bounds and its example lines.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use borgios_peertree::direct::{Direct, Returned};
use borgios_peertree::question::{Answer, Ask, Question};
use borgios_peertree::{Message, bounds, direct, question};
use serde::Deserialize;

const DOCUMENT: &str = include_str!("../../docs/protocol/peertree.md");
/// The modules whose constants the document lists, and their source.
const SOURCES: [(&str, &str); 3] = [
    ("src/bounds.rs", include_str!("../src/bounds.rs")),
    ("src/question/bounds.rs", include_str!("../src/question/bounds.rs")),
    ("src/direct/bounds.rs", include_str!("../src/direct/bounds.rs")),
];

/// A value as the document writes it.
trait Shown {
    fn shown(&self) -> String;
}

macro_rules! shown_as_number {
    ($($number:ty),*) => {
        $(impl Shown for $number {
            fn shown(&self) -> String {
                let digits = self.to_string();
                let mut text = String::new();
                for (at, digit) in digits.chars().enumerate() {
                    if at > 0 && (digits.len() - at) % 3 == 0 {
                        text.push(',');
                    }
                    text.push(digit);
                }
                text
            }
        })*
    };
}
shown_as_number!(u8, u16, u32, u64, usize);

impl Shown for Duration {
    fn shown(&self) -> String {
        match self.subsec_millis() {
            0 => format!("{} s", self.as_secs()),
            _ => format!("{} ms", self.as_millis()),
        }
    }
}

/// Names and values of constants of one module.
macro_rules! values {
    ($($module:ident)::+; $($name:ident),* $(,)?) => {{
        use $($module)::+ as module;
        BTreeMap::from([$((stringify!($name), module::$name.shown())),*])
    }};
}

fn values() -> [BTreeMap<&'static str, String>; 3] {
    [
        values![bounds;
            FANOUT_DEFAULT, FANOUT_MIN, FANOUT_MAX, ADDRESS_MAX, KIND_MAX, PATH_MAX,
            SIBLINGS_MAX, REDIRECT_MAX, HOPS_MAX, ASKS_PER_ROUND, ASKS_PER_NODE,
            RELATIVES_PER_ROUND, UNREACHABLE_MAX, UNREACHABLE_CLAIMS, REMEMBERED_MAX,
            STRANGERS_PER_ROUND, SEEDS_MAX, LOOSE_LINKS_MAX, SHUNNED_MAX, CROSS_LINKS,
            CROSS_CANDIDATES_MAX, CROSS_ACCEPTED_MAX, CROSS_CHOOSERS_MAX, GAPS_OPEN_MAX, GAPS_TOLD_MAX, EVIDENCE_MAX,
            BLAME_MAX, GAPS_MAX, GAPS_HEARSAY_MAX, GAPS_EXCUSED_MAX, LIVE_MAX, KNOWN_MAX,
            WAITING_MAX, PAGE_IDS_MAX, WANT_IDS_MAX, FETCH_SHARE, FETCH_PATIENCE, FETCH_MAX, FETCH_STRIKES,
            PENDING_MAX, LANES_MAX, LANE_PAGE, FOLLOW_BRINGS, PAGES_MAX, PAGES_PER_SECOND, WALKS_IN_VAIN,
            WALK_AGAIN, SERVED_MAX, OTHERS_MAX, REFUSED_MAX, CHATTER_MAX, USELESS_MAX,
            FRESH_MAX, PENALTY_MAX, HEARTBEAT, SILENCE, STALL, FACTS, URGENT, ATTEMPT, STAGGER,
            HEIR_STAGGER, ASKING_MAX, ROOT_PATIENCE, HEIR_PATIENCE, ORPHAN_JITTER, LOOP_JITTER,
            BACKOFF_MIN, BACKOFF_MAX, ROUNDS_BEFORE_ROOT, FIRST_PROBE, BURIED, PROBE, PROBE_MAX,
            PROBES_WARY, RIVAL_PAUSE_MIN, RIVAL_PAUSE_MAX, RIVAL_STAY, RIVALS_MAX, COMPARE, COMPARE_MIN, FORGIVE, CROSS_IDLE,
            CROSS_ANSWER, CROSS_SILENCE, GAP_GRACE, LEAVE_PAUSE_MIN, LEAVE_PAUSE_MAX, WANT_TIMEOUT,
            LOOSE_TIMEOUT, RIVAL_PACE, CLIMB_LEVELS, CLIMB_PACE, CLIMB_FAILURES, CLIMB_CLAIMS_MAX,
            CLIMB_PAUSE_MAX, SHUN,
        ],
        values![question::bounds;
            LABELS_MAX, LABEL_MAX, EXCEPTIONS_MAX, SILENT_MAX, MEASURES_MAX, MEASURE_MAX,
            ROLL_MAX, NODES_MAX, PLACES_MAX, PLACES_BYTES, CLAIMS_MAX, VERSION_MAX, WITHIN_MAX,
            HOP, ASKS_MAX, OPEN_MAX, TOOLS_MAX, ASK_BURST, ASK_PACE, SEEN_MAX, MEMBERS_SLACK,
        ],
        values![direct::bounds;
            BODY_MAX, HOPS_MAX, WAITING_MAX, DIRECT_BURST, DIRECT_PACE, RECEIPT, RECEIPT_HOP,
            ROUTES_MAX, ROUTE_LIFE,
        ],
    ]
}

/// What a source file defines.
fn defined(source: &str) -> BTreeSet<&str> {
    let lines = source.lines().filter_map(|line| line.strip_prefix("pub const "));
    lines.filter_map(|line| line.split(':').next()).collect()
}

/// The rows ``| `NAME` | value | … |`` of the table whose heading names this file.
fn listed(file: &str) -> BTreeMap<&'static str, String> {
    let heading = format!("(`peertree/{file}`)");
    let after = DOCUMENT.split_once(&heading).expect("a table for every file").1;
    let table = after.split("\n#").next().expect("the first part of a split");
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| {
        let (name, rest) = row.split_once('`').expect("a name ends");
        let value = rest.split('|').nth(1).expect("a second cell").trim();
        (name, value.to_owned())
    })
    .collect()
}

#[test]
fn every_bound_is_listed_with_its_value() {
    for ((file, source), values) in SOURCES.into_iter().zip(values()) {
        let here: BTreeSet<&str> = values.keys().copied().collect();
        assert_eq!(here, defined(source), "{file}: constants this test knows");
        let listed = listed(file);
        for (name, value) in &values {
            assert_eq!(listed.get(name), Some(value), "{file}: {name} in the document");
        }
        assert_eq!(listed.len(), values.len(), "{file}: rows without a constant");
    }
}

/// Lines of the fences marked `jsonl`.
fn examples() -> Vec<&'static str> {
    let fences = DOCUMENT.split("```jsonl\n").skip(1);
    fences.flat_map(|rest| rest.split("\n```").next().into_iter().flat_map(str::lines)).collect()
}

/// What is no message of the tree's own; `hello` and `bye` are the agent's.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Other {
    Ask(Ask),
    Answer(Answer),
    Direct(Direct),
    Returned(Returned),
}

#[test]
fn every_example_is_a_line_that_is_understood() {
    let mut names = BTreeSet::new();
    for line in examples() {
        if line.starts_with("{\"hello\"") || line.starts_with("{\"bye\"") {
            let any: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(any.is_object());
            continue;
        }
        if let Ok(message) = serde_json::from_str::<Message>(line) {
            assert!(message.bounded(), "{line}");
            assert_eq!(serde_json::to_string(&message).unwrap(), line);
            names.insert(message.name());
            continue;
        }
        match serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")) {
            Other::Ask(ask) => {
                assert!(ask.question.bounded() && ask.question != Question::Unknown);
                assert_eq!(format!("{{\"ask\":{}}}", serde_json::to_string(&ask).unwrap()), line);
                names.insert("ask");
            }
            Other::Answer(answer) => {
                assert!(answer.bounded());
                let text = serde_json::to_string(&answer).unwrap();
                assert_eq!(format!("{{\"answer\":{text}}}"), line);
                names.insert("answer");
            }
            Other::Direct(direct) => {
                assert!(direct.bounded());
                names.insert("direct");
            }
            Other::Returned(returned) => {
                assert_eq!(returned.error, None);
                names.insert("returned");
            }
        }
    }
    let expected = "accept answer ask compare cross direct follow found heartbeat ids join lacking \
                    leave missing object page redirect report returned rival same summary want";
    assert_eq!(names.into_iter().collect::<Vec<_>>().join(" "), expected);
}

#[test]
fn every_question_is_listed() {
    let rows = DOCUMENT.lines().filter_map(|line| line.strip_prefix("| `{\"about\""));
    let mut names = BTreeSet::new();
    for row in rows {
        let text = format!("{{\"about\"{}", row.split('`').next().unwrap());
        let question: Question = serde_json::from_str(&text).unwrap();
        assert_ne!(question, Question::Unknown, "{text}");
        assert_eq!(serde_json::to_string(&question).unwrap(), text);
        let value = serde_json::to_value(&question).unwrap();
        names.insert(value["about"].to_string());
    }
    assert_eq!(names_of_questions(), names.len());
}

/// How many questions there are; a new one fails to compile here until the document has it.
fn names_of_questions() -> usize {
    match Question::Tree {
        Question::Tree
        | Question::Versions { .. }
        | Question::Epochs
        | Question::Load { .. }
        | Question::Disk { .. }
        | Question::Received { .. }
        | Question::Find { .. }
        | Question::Unknown => 7,
    }
}

/// The shell's constants are private to the agent, so its source is read.
#[test]
fn the_shells_bounds_are_listed_with_their_values() {
    let after = DOCUMENT.split_once("### The shell (`agent/src/`)").expect("the shell's table").1;
    let rows: Vec<&str> = after.lines().filter(|line| line.starts_with("| `")).collect();
    assert!(rows.len() > 10);
    for row in rows {
        let mut code = row.split('`').skip(1).step_by(2);
        let (name, file) = (code.next().unwrap(), code.next().unwrap());
        let path = format!("{}/../agent/src/{file}", env!("CARGO_MANIFEST_DIR"));
        let source = std::fs::read_to_string(path).unwrap();
        let start = format!("const {name}: ");
        let line = source.lines().find_map(|line| line.split_once(&start)).map(|it| it.1);
        let value = line.and_then(|it| it.split_once(" = ")).map(|it| it.1.trim_end_matches(';'));
        let value = value.unwrap_or_else(|| panic!("{name} in {file}"));
        assert_eq!(row.split('|').nth(2).unwrap().trim(), written(value), "{name} in {file}");
    }
}

/// `16 * 1024 * 1024` as `16 MiB`, `Duration::from_secs(2)` as `2 s`.
fn written(code: &str) -> String {
    let inner = |start: &str| Some(code.strip_prefix(start)?.trim_end_matches(')').to_owned());
    if let Some(secs) = inner("Duration::from_secs(") {
        return format!("{secs} s");
    }
    if let Some(ms) = inner("Duration::from_millis(") {
        return format!("{ms} ms");
    }
    let factors = code.split(" * ").map(|it| it.replace('_', "").parse::<u64>().expect("digits"));
    let number: u64 = factors.product();
    let mib = 1024 * 1024;
    if number.is_multiple_of(mib) { format!("{} MiB", number / mib) } else { number.shown() }
}

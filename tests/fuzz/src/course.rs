//! One target under fire: seeds, changes, outcomes, findings.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use borgios_types::Digest;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha20Rng;

use crate::Target;
use crate::mutate::mutate;
use crate::seeds;

/// Longest one input may take: the slowest honest one, a paper of a key ceremony, took 4 s on a
/// computer with eight times the load it can bear.
const SLOW: Duration = Duration::from_secs(20);

/// Most inputs kept in memory for one target.
const KEPT_MAX: usize = 2_000;

/// Longest name of an outcome, in characters.
const OUTCOME_MAX: usize = 60;

/// What became of one target.
#[derive(Debug)]
pub struct Outcome {
    /// Which.
    pub target: &'static str,
    /// Inputs tried.
    pub runs: u64,
    /// Different outcomes seen.
    pub outcomes: usize,
    /// Inputs that were taken.
    pub taken: u64,
    /// The slowest input's time.
    pub slowest: Duration,
    /// Inputs that broke it, with what it said; at most one.
    pub finding: Option<(Vec<u8>, String)>,
}

/// What panicked first since that was last asked, in whatever thread.
static PANICKED: Mutex<Option<String>> = Mutex::new(None);

/// Notes every panic from now on: those of other threads are findings too, and are caught by nobody.
/// `aloud` lets them be printed as well.
pub fn listen(aloud: bool) {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let payload = panic.payload();
        let said = payload.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or_default();
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        panicked().get_or_insert_with(|| format!("it panics at {place}: {said}"));
        if aloud {
            before(panic);
        }
    }));
}

fn panicked() -> MutexGuard<'static, Option<String>> {
    PANICKED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long, from where, and where to.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Time for this target.
    pub time: Duration,
    /// Most inputs beside the seeds and the kept ones, which are all tried.
    pub runs: u64,
    /// Begins the random numbers.
    pub seed: u64,
    /// Inputs kept from earlier runs, a folder for each target.
    pub corpus: PathBuf,
    /// Whether what is new is kept there.
    pub keep: bool,
}

/// Runs one target; stops at its first finding.
#[must_use]
pub fn run(target: &'static Target, plan: &Plan) -> Outcome {
    let mut rng =
        ChaCha20Rng::seed_from_u64(plan.seed ^ Digest::of(target.name.as_bytes()).0[0] as u64);
    let mut kept = seeds::of(target.name);
    kept.extend(read_corpus(&plan.corpus.join(target.name)));
    if kept.is_empty() {
        kept.push(Vec::new());
    }
    let mut outcome = Outcome {
        target: target.name,
        runs: 0,
        outcomes: 0,
        taken: 0,
        slowest: Duration::ZERO,
        finding: None,
    };
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let (began, count) = (Instant::now(), kept.len());
    let most = plan.runs.saturating_add(count as u64);
    while outcome.runs < most && (began.elapsed() < plan.time || outcome.runs < count as u64) {
        // First every seed as it is.
        let input = match kept.get(outcome.runs as usize) {
            Some(seed) if outcome.runs < count as u64 => seed.clone(),
            _ => {
                let pick = |rng: &mut ChaCha20Rng| kept.choose(rng).cloned().unwrap_or_default();
                let (one, other) = (pick(&mut rng), pick(&mut rng));
                if rng.gen_ratio(1, 200) { noise(&mut rng) } else { mutate(&mut rng, &one, &other) }
            }
        };
        outcome.runs += 1;
        let start = Instant::now();
        let said = catch_unwind(AssertUnwindSafe(|| (target.run)(&input)));
        let took = start.elapsed();
        outcome.slowest = outcome.slowest.max(took);
        let (noted, panics) = (panicked().take(), || "it panics".to_owned());
        let word = match (said, noted) {
            (Ok(word), None) => word,
            (Ok(_) | Err(_), noted) => {
                outcome.finding = Some((input, noted.unwrap_or_else(panics)));
                return outcome;
            }
        };
        if took > SLOW {
            outcome.finding = Some((input, format!("it takes {took:?}")));
            return outcome;
        }
        outcome.taken += u64::from(word == "ok");
        if seen.insert(plain(&word)) && outcome.runs > count as u64 && kept.len() < KEPT_MAX {
            if plan.keep {
                keep(&plan.corpus.join(target.name), &input);
            }
            kept.push(input);
        }
    }
    outcome.outcomes = seen.len();
    outcome
}

fn noise(rng: &mut ChaCha20Rng) -> Vec<u8> {
    let length = rng.gen_range(0..4096);
    (0..length).map(|_| rng.r#gen()).collect()
}

/// An outcome without the values in it: two inputs refused by one rule are one outcome.
fn plain(word: &str) -> String {
    let mut text = String::new();
    let mut quoted = false;
    for c in word.chars() {
        match c {
            '"' | '`' => quoted = !quoted,
            _ if quoted || c.is_ascii_digit() => {}
            c => text.push(c),
        }
    }
    text.chars().take(OUTCOME_MAX).collect()
}

/// The inputs of a folder, in order of name.
#[must_use]
pub fn read_corpus(folder: &Path) -> Vec<Vec<u8>> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths.iter().filter_map(|path| std::fs::read(path).ok()).collect()
}

/// Keeps an input under the first digits of its digest, if it is small enough for a repository.
fn keep(folder: &Path, input: &[u8]) {
    if input.len() <= 4096 && std::fs::create_dir_all(folder).is_ok() {
        let name = &Digest::of(input).hex()[..16];
        // Not kept is found again.
        let _ = std::fs::write(folder.join(name), input);
    }
}

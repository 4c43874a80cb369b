//! Scenarios side by side: each lane is a thread with a lab of its own.
//!
//! Most of a story is waiting for servers, so two at once take little more than half of the time. A story
//! that measures times or processors runs with nothing beside it.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use crate::scenario::{self, Outcome, Scenario};

/// Most lanes: their labs are named by a letter, and each has a net of its own.
pub const LANES_MAX: usize = 4;

/// What the name of each lane's lab ends in.
const SUFFIXES: [&str; LANES_MAX] = ["", "b", "c", "d"];

thread_local! {
    static LANE: Cell<usize> = const { Cell::new(0) };
}

/// Name and net of this lane's lab, of those of the first one: `test` and `10.78`, `testb` and `10.79`.
pub(crate) fn lab_of(name: &str, net: &str) -> (String, String) {
    let lane = LANE.get();
    let net = match net.rsplit_once('.') {
        Some((first, second)) => {
            let second = second.parse::<usize>().map_or(0, |second| (second + lane) % 256);
            format!("{first}.{second}")
        }
        None => net.to_owned(),
    };
    (format!("{name}{}", SUFFIXES.get(lane).unwrap_or(&"")), net)
}

/// Runs scenarios in so many lanes, those that are `alone` one after the other at the end.
/// `say(name, milestone)` and `ended` are called from several threads.
pub fn run(
    scenarios: &[Scenario],
    lanes: usize,
    say: fn(&str, &str),
    ended: &(dyn Fn(&Outcome) + Sync),
) -> Vec<Outcome> {
    let (alone, beside): (VecDeque<_>, VecDeque<_>) =
        scenarios.iter().copied().partition(|scenario| lanes <= 1 || scenario.alone);
    let outcomes = Mutex::new(Vec::new());
    for (queue, lanes) in [(beside, lanes.min(LANES_MAX)), (alone, 1)] {
        let queue = Mutex::new(queue);
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        std::thread::scope(|scope| {
            for lane in 0..lanes {
                let (next, outcomes) = (&next, &outcomes);
                scope.spawn(move || {
                    LANE.set(lane);
                    while let Some(story) = next() {
                        say(story.name, story.about);
                        let outcome =
                            scenario::run(story, &move |milestone| say(story.name, milestone));
                        ended(&outcome);
                        outcomes.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
                    }
                });
            }
        });
    }
    outcomes.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn each_lane_has_a_lab_of_its_own() {
        assert_eq!(lab_of("test", "10.78"), ("test".to_owned(), "10.78".to_owned()));
        LANE.set(1);
        assert_eq!(lab_of("test", "10.255"), ("testb".to_owned(), "10.0".to_owned()));
        LANE.set(0);
    }

    #[test]
    fn every_story_is_told_once_and_who_must_be_alone_is() {
        static RUNNING: AtomicUsize = AtomicUsize::new(0);
        static LABS: Mutex<Vec<String>> = Mutex::new(Vec::new());
        fn tell(_: &scenario::Say) -> anyhow::Result<()> {
            RUNNING.fetch_add(1, Ordering::SeqCst);
            LABS.lock().unwrap().push(lab_of("test", "10.78").0);
            // Both lanes are in here at once, so that neither tells both stories.
            crate::wait::until_true("two labs", crate::wait::SOON, || {
                Ok(LABS.lock().unwrap().len() > 1)
            })?;
            RUNNING.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        }
        fn measure(_: &scenario::Say) -> anyhow::Result<()> {
            anyhow::ensure!(RUNNING.load(Ordering::SeqCst) == 0, "not alone");
            Ok(())
        }
        let story = |name, alone, run| Scenario { name, about: "", alone, run };
        let all = [
            story("quiet", true, measure as fn(&scenario::Say) -> anyhow::Result<()>),
            story("one", false, tell),
            story("two", false, tell),
        ];
        let told = Mutex::new(Vec::new());
        let outcomes = run(&all, 2, |_, _| (), &|outcome| told.lock().unwrap().push(outcome.name));
        assert!(outcomes.iter().all(|outcome| outcome.failure.is_none()), "{outcomes:?}");
        let mut labs = LABS.lock().unwrap().clone();
        labs.sort();
        assert_eq!(labs, ["test", "testb"]);
        assert_eq!(told.lock().unwrap()[2], "quiet");
    }
}

//! Traps: states that can be reached, and from which steps that are no faults never lead to the goal.
//!
//! stateright checks `eventually` on acyclic paths only, and a tree that heals has cycles everywhere (ask, fail, ask
//! again). So the whole graph is built here, and the goal is followed backwards.

use std::collections::{BTreeMap, VecDeque};

use stateright::Model as _;

use crate::rules::Rules;
use crate::rules::state::Fleet;
use crate::rules::step::Step;

/// Everything that a fleet can come to.
pub struct Graph {
    states: Vec<Fleet>,
    /// How each state was reached first.
    from: Vec<Option<(usize, Step)>>,
    /// Whence a step that is no fault leads here.
    before: Vec<Vec<u32>>,
}

/// A story that ends in a trap: the first state, then each step and what it led to.
pub type Story = Vec<(Option<Step>, Fleet)>;

impl Graph {
    /// All states, or nothing if there are more than `most`.
    #[must_use]
    pub fn explore(rules: &Rules, most: usize) -> Option<Self> {
        let mut index: BTreeMap<Fleet, usize> = BTreeMap::new();
        let mut graph = Self { states: Vec::new(), from: Vec::new(), before: Vec::new() };
        let mut queue = VecDeque::new();
        for state in rules.init_states() {
            queue.push_back(graph.add(&mut index, state, None));
        }
        while let Some(at) = queue.pop_front() {
            for (step, next) in rules.next_steps(&graph.states[at]) {
                let to = match index.get(&next) {
                    Some(to) => *to,
                    None => {
                        let to = graph.add(&mut index, next, Some((at, step)));
                        queue.push_back(to);
                        to
                    }
                };
                if !step.is_fault() {
                    graph.before[to].push(at as u32);
                }
            }
            if graph.states.len() > most {
                return None;
            }
        }
        Some(graph)
    }

    fn add(
        &mut self,
        index: &mut BTreeMap<Fleet, usize>,
        state: Fleet,
        from: Option<(usize, Step)>,
    ) -> usize {
        let at = self.states.len();
        index.insert(state.clone(), at);
        self.states.push(state);
        self.from.push(from);
        self.before.push(Vec::new());
        at
    }

    /// How many states there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// How many states have reached the goal.
    pub fn reached(&self, goal: impl Fn(&Fleet) -> bool) -> usize {
        self.states.iter().filter(|state| goal(state)).count()
    }

    /// The shortest story into a state from which the goal is out of reach without faults.
    pub fn trap(&self, goal: impl Fn(&Fleet) -> bool) -> Option<Story> {
        let mut leads: Vec<bool> = self.states.iter().map(goal).collect();
        let mut queue: VecDeque<usize> = (0..leads.len()).filter(|at| leads[*at]).collect();
        while let Some(at) = queue.pop_front() {
            for before in &self.before[at] {
                let before = *before as usize;
                if !std::mem::replace(&mut leads[before], true) {
                    queue.push_back(before);
                }
            }
        }
        // States are numbered in the order of their distance from the beginning.
        leads.iter().position(|leads| !leads).map(|at| self.story(at))
    }

    fn story(&self, end: usize) -> Story {
        let mut story = Vec::new();
        let mut at = Some(end);
        while let Some(here) = at {
            let from = self.from[here];
            story.push((from.map(|(_, step)| step), self.states[here].clone()));
            at = from.map(|(before, _)| before);
        }
        story.reverse();
        story
    }
}

//! The rules of the tree as a model: join, heal, succession, merge and climb, checked in every state of small fleets.
//!
//! | file | holds |
//! |---|---|
//! | [`state`] | what a fleet is in the model, and when it is whole |
//! | [`step`] | the rules, each naming the function of the core that it abstracts |
//! | [`mutant`] | rules left out on purpose: the checker must find what breaks |
//! | [`trap`] | states from which no fair run leads to a whole tree |
//!
//! What the model leaves out:
//!  - time: a timer is a step that may be taken at any moment or never; pauses and back-offs do not exist;
//!  - the order of candidates, redirects and memory: an orphan may ask anyone, in any order, once a round;
//!  - heartbeats carry the sender's path and heirs as they are when heard, not as they were when sent; an `accept`
//!    carries what was true when it was given, and may arrive arbitrarily late;
//!  - the `rival` message climbs to the root at once; sizes, free places, penalties, objects do not exist;
//!  - nodes that cannot be dialled, hostile nodes, fan-out that changes.
//!
//! What is checked:
//!  - *always*, by stateright, with the shortest counterexample: fan-out; no node is its own parent or child, none
//!    has its parent for a child; no path leads through the node itself. Where nothing fails, two trees become one
//!    without ever being a cycle or lacking a root; where only nodes die and answers come
//!    in time, their heirs never make two roots;
//!  - *eventually*, by [`trap`]: from every state that can be reached, steps that are no faults lead to a tree
//!    without cycles, whose two ends agree everywhere, and that is one. In a finite graph this means: a schedule
//!    that gives every possible step some chance (timers here are jittered) gets there with certainty.

pub mod mutant;
pub mod state;
pub mod step;
pub mod trap;

use stateright::{Model, Property};

pub use mutant::Mutant;
use state::{Fleet, Place};
use step::Step;

/// How a story begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// One whole tree: node `n` hangs below `(n - 1) / fanout`.
    Whole,
    /// Two whole trees, of even and of odd nodes.
    Two,
    /// Node 0 is the root, the others seek.
    Joining,
}

/// Which fleets are checked.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// How they begin.
    pub beginning: Beginning,
    /// Nodes, 2..=5.
    pub nodes: u8,
    /// Most children.
    pub fanout: u8,
    /// Deaths and restarts in one story.
    pub deaths: u8,
    /// Links broken in one story.
    pub breaks: u8,
    /// Whether every answer comes in time, and before a node that nobody takes makes itself a root.
    pub timely: bool,
    /// The rule left out.
    pub mutant: Mutant,
}

impl Rules {
    /// A small fleet with all rules.
    #[must_use]
    pub fn new(beginning: Beginning, nodes: u8) -> Self {
        Self {
            beginning,
            nodes,
            fanout: 2,
            deaths: 0,
            breaks: 0,
            timely: false,
            mutant: Mutant::None,
        }
    }

    /// Whether nothing can fail in this story.
    fn undisturbed(&self) -> bool {
        self.deaths == 0 && self.breaks == 0
    }
}

impl Model for Rules {
    type State = Fleet;
    type Action = Step;

    fn init_states(&self) -> Vec<Fleet> {
        vec![Fleet::begin(self)]
    }

    fn actions(&self, state: &Fleet, actions: &mut Vec<Step>) {
        state.steps(self, actions);
    }

    fn next_state(&self, last: &Fleet, step: Step) -> Option<Fleet> {
        let mut next = last.clone();
        next.take(self, step);
        (next != *last).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("fan-out", |rules, fleet: &Fleet| {
                fleet.nodes.iter().all(|node| node.children.len() <= usize::from(rules.fanout))
            }),
            Property::always("no own relative", |_, fleet: &Fleet| {
                fleet.ids().all(|at| {
                    let node = fleet.node(at);
                    let parent = fleet.parent(at);
                    parent != Some(at)
                        && !node.children.contains(&at)
                        && parent.is_none_or(|parent| !node.children.contains(&parent))
                })
            }),
            Property::always("no path through itself", |rules, fleet: &Fleet| {
                // A node without this check has such paths and believes them: that shows in the next one.
                rules.mutant == Mutant::NoPathCheck
                    || fleet.ids().all(|at| match &fleet.node(at).place {
                        Place::Attached { word, .. } => !word.path.contains(&at),
                        Place::Down | Place::Seeking(_) | Place::Root => true,
                    })
            }),
            Property::always("undisturbed trees are never a cycle", |rules, fleet: &Fleet| {
                !rules.undisturbed() || fleet.cycle().is_none()
            }),
            Property::always("undisturbed trees never lack a root", |rules, fleet: &Fleet| {
                !rules.undisturbed() || fleet.roots() >= 1
            }),
            Property::always("a dead root has one heir", |rules, fleet: &Fleet| {
                let orderly = rules.beginning == Beginning::Whole && rules.breaks == 0;
                !orderly || !rules.timely || fleet.roots() <= 1
            }),
        ]
    }
}

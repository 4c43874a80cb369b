//! The real core under the checker: every order of messages, timers and faults, to a bounded depth.
//!
//! | file | holds |
//! |---|---|
//! | [`network`] | links, their queues, their ends |
//! | [`fleet`] | machines that run [`borgios_peertree::Node`], and the steps that can happen next |
//! | [`settle`] | the fair end of every story, and what a whole tree is |
//!
//! Two properties are checked in every state that is reached:
//!  1. what always holds (`Node::check`: fan-out, no own ancestor, bounds);
//!  2. *heals*: if faults stop right now, messages arrive and timers fire when due, the running nodes become one
//!     tree within [`settle::SETTLE_MAX`] and stay one.
//!
//! Left out: objects and summaries (`flood.rs`, `catchup.rs` have the simulator), latency between arrival and
//! handling, nodes that cannot be dialled, hostile nodes (`peertree/tests/hostile.rs`, the simulator).

pub mod fleet;
pub mod network;
pub mod settle;

use stateright::{Model, Property};

use crate::real::fleet::{Fleet, Step};

/// How a story begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// All have just started; the first knows nobody, the others know it.
    Cold,
    /// One whole tree.
    Whole,
    /// Two whole trees whose nodes remember each other and want cross links to each other, as a partition leaves them.
    Two,
}

/// Which stories are told.
#[derive(Clone, Copy, Debug)]
pub struct Stories {
    /// How they begin.
    pub beginning: Beginning,
    /// Machines, 2..=8.
    pub machines: usize,
    /// Most children.
    pub fanout: u16,
    /// Faults in one story.
    pub faults: u8,
}

impl Stories {
    fn begin(&self) -> Fleet {
        let mut fleet = Fleet::new(self.machines, self.fanout, self.faults);
        let half = if self.beginning == Beginning::Two { self.machines / 2 } else { self.machines };
        for at in 0..self.machines {
            // The first of each tree founds it; the others' invitations name everyone in it.
            let tree = if at < half { 0..half } else { half..self.machines };
            let founder = at == tree.start;
            let seeds: Vec<_> = tree.filter(|seed| !founder && *seed != at).collect();
            fleet.start(at, &seeds);
        }
        if self.beginning != Beginning::Cold {
            let alone = fleet.settle();
            if self.beginning == Beginning::Two {
                let everyone: Vec<_> = (0..self.machines).map(|at| fleet.contact(at)).collect();
                for at in 0..self.machines {
                    fleet.input(at, borgios_peertree::Input::Contacts(everyone.clone()));
                    fleet.input(at, borgios_peertree::Input::Cross(everyone.clone()));
                }
            } else {
                assert_eq!(alone, Ok(()), "an undisturbed start makes a tree");
            }
        }
        fleet.faults = self.faults;
        (fleet.dice, fleet.settling) = (1, false);
        fleet
    }
}

impl Model for Stories {
    type State = Fleet;
    type Action = Step;

    fn init_states(&self) -> Vec<Fleet> {
        vec![self.begin()]
    }

    fn actions(&self, state: &Fleet, actions: &mut Vec<Step>) {
        state.steps(actions);
    }

    fn next_state(&self, last: &Fleet, step: Step) -> Option<Fleet> {
        let mut next = last.clone();
        next.take(step);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("rules", |_, fleet: &Fleet| {
                fleet.running().all(|(_, node)| node.check().is_ok())
            }),
            Property::always("heals", |_, fleet: &Fleet| fleet.clone().settle().is_ok()),
        ]
    }
}

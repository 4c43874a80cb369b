//! A root looks for other trees: often where something hints at one, ever more rarely where every
//! answer names the root itself.
//!
//! ```text
//!  a new root, a child lost, a dial in vain,        a contact not known before
//!  another root named                                        │
//!        │                                                   │
//!        ▼         PROBES_WARY answers name this root        ▼
//!      PROBE ─────────────────────────────────────────▶ PROBE, 2 PROBE, 4 PROBE … PROBE_MAX
//!        ▲                                                       one more with each such answer
//!        └───────────────────── any of the above ─────────────────────────┘
//! ```
//!
//! What is found is for [`crate::merge`]. Cross links that name another root tell it as well.

use std::time::Duration;

use borgios_types::NodeId;

use crate::bounds;
use crate::io::{Output, Timer};
use crate::node::{Node, Phase};

/// How often a root looks for other trees.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pace {
    /// Answers in a row that named this root, until the pause is the longest; below zero after a hint
    /// of another.
    alone: i32,
}

impl Pace {
    /// After a hint of another tree.
    fn wary() -> i32 {
        -i32::from(bounds::PROBES_WARY)
    }

    fn pause(&self) -> Duration {
        let doubled = u32::try_from(self.alone).map_or(1, |times| 1 << times);
        (bounds::PROBE * doubled).min(bounds::PROBE_MAX)
    }
}

impl Node {
    /// This node became a root.
    pub(crate) fn begin_probing(&mut self) {
        // Who remembers nobody founds the network.
        let alone = if self.memory.is_empty() { 0 } else { Pace::wary() };
        self.rivals.pace = Pace { alone };
        self.set_timer(Timer::Probe, bounds::FIRST_PROBE);
    }

    /// Time for a root to look for other trees.
    pub(crate) fn on_probe_due(&mut self) {
        if !matches!(self.phase, Phase::Root) {
            return;
        }
        self.set_timer(Timer::Probe, self.probe_pause());
        if let Some(peer) = self.rivals.probing.take() {
            // The last one never answered.
            self.release(peer);
            self.on_rival_silent(peer);
            if self.rivals.probing.is_some() {
                return;
            }
        }
        let links = &self.links;
        let suspects = std::mem::take(&mut self.rivals.suspects);
        let mut suspects = suspects.into_iter().filter(|one| !links.contains_key(&one.id));
        let suspect = suspects.next();
        self.rivals.suspects = suspects.collect();
        let outsiders = self.memory.sample(&mut self.rng, 1, |id| !links.contains_key(id));
        // Now and then a seed, even where the memory has been filled with others.
        let seed = self.seeds.first().filter(|seed| !self.links.contains_key(&seed.id)).cloned();
        if let Some(contact) = suspect.or(outsiders.into_iter().next()).or(seed) {
            self.rivals.probing = Some(contact.id);
            self.out.push(Output::Dial(contact));
        }
    }

    fn probe_pause(&self) -> Duration {
        if self.rivals.suspects.is_empty() { self.rivals.pace.pause() } else { bounds::FIRST_PROBE }
    }

    /// The remembered node answered the dial.
    pub(crate) fn on_outsider_connected(&mut self, peer: NodeId) {
        self.compare(peer, true);
    }

    /// It named its root, which is this node or is not.
    pub(crate) fn on_probe_answered(&mut self, same: bool) {
        if !same {
            self.hint_of_another_tree();
        } else if self.rivals.pace.pause() < bounds::PROBE_MAX {
            self.rivals.pace.alone += 1;
        }
    }

    /// Another tree may have come to be: somebody is missing, or another root was named.
    pub(crate) fn hint_of_another_tree(&mut self) {
        self.hasten(Pace::wary());
    }

    /// Somebody can be asked who never was.
    pub(crate) fn on_new_contact(&mut self) {
        self.hasten(0);
    }

    /// Looks for other trees again as if no more than so many answers had named this root. A pause
    /// that was meant to be longer is shortened; one that is short stays as it is, so that a stream of
    /// hints puts off nothing.
    fn hasten(&mut self, alone: i32) {
        let before = self.probe_pause();
        let pace = &mut self.rivals.pace;
        pace.alone = pace.alone.min(alone);
        let after = self.probe_pause();
        // While a rival is asked, the timer is for its answer.
        if after < before && matches!(self.phase, Phase::Root) && self.rivals.check.is_none() {
            self.set_timer(Timer::Probe, after);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Input;
    use crate::message::Message;
    use crate::stage::{Stage, contact, dialled, key, me};

    /// Something happens to a root; returns the pause that it sets then.
    type Hint<'a> = &'a dyn Fn(&mut Stage) -> Option<Duration>;

    /// The pause that the outputs set for the next look.
    fn pause(out: &[Output]) -> Option<Duration> {
        out.iter().rev().find_map(|output| match output {
            Output::SetTimer(Timer::Probe, after) => Some(*after),
            _ => None,
        })
    }

    fn between(pause: Option<Duration>, most: Duration) -> bool {
        pause.is_some_and(|pause| pause >= most / 2 && pause <= most)
    }

    fn names(root: u8) -> Message {
        let address = Some(contact(root).address);
        Message::Compare { root: key(root), address, asks: false }
    }

    /// A root whose child 5 told of members 6 to 9, of whom none is linked.
    fn root() -> Stage {
        let mut root = Stage::root(4);
        root.joins(5, true);
        root.step(Input::Contacts((6..10).map(contact).collect()));
        root
    }

    /// The timer fires; whoever is dialled names `root` as its root, and hangs up. Returns the pause
    /// that was set.
    fn look(stage: &mut Stage, root: u8) -> Option<Duration> {
        let out = stage.step(Input::TimerFired(Timer::Probe));
        let peer = dialled(&out).first().copied();
        let n = (5..10).find(|n| Some(key(*n)) == peer).expect("somebody is dialled");
        stage.link(n, true);
        let answered = stage.says(n, names(root));
        stage.step(Input::LinkDown(key(n)));
        pause(&answered).or(pause(&out))
    }

    /// Looks until the pause is the longest there is.
    fn calm() -> Stage {
        let mut root = root();
        for doubled in 0..5 {
            let most = bounds::PROBE * (1 << doubled);
            assert!(between(look(&mut root, 200), most), "look {doubled}");
        }
        assert!(between(look(&mut root, 200), bounds::PROBE_MAX), "the bound");
        root
    }

    #[test]
    fn a_root_that_everybody_names_looks_for_others_ever_more_rarely() {
        assert_eq!(key(200), me());
        assert!(bounds::PROBE * (1 << 4) == bounds::PROBE_MAX);
        let mut root = calm();
        for _ in 0..40 {
            assert!(between(look(&mut root, 200), bounds::PROBE_MAX));
        }
    }

    #[test]
    fn a_child_lost_a_dial_in_vain_silence_and_another_root_make_it_look_soon_and_for_long() {
        let lose = |root: &mut Stage| pause(&root.step(Input::LinkDown(key(5))));
        let in_vain = |root: &mut Stage| {
            let out = root.step(Input::TimerFired(Timer::Probe));
            pause(&root.step(Input::DialFailed(dialled(&out)[0])))
        };
        let silent = |root: &mut Stage| {
            root.step(Input::TimerFired(Timer::Probe));
            let out = root.step(Input::TimerFired(Timer::Probe));
            assert_eq!(dialled(&out).len(), 1, "somebody else is asked at once");
            // The one that is asked now hangs up; its answer is not waited for here.
            root.step(Input::DialFailed(dialled(&out)[0]));
            pause(&out)
        };
        let after = (30..190).find(|n| key(*n) > me()).unwrap();
        let other = |root: &mut Stage| look(root, after);
        let hints: [Hint<'_>; 4] = [&lose, &in_vain, &silent, &other];
        for (which, hint) in hints.into_iter().enumerate() {
            let mut root = calm();
            assert!(between(hint(&mut root), bounds::PROBE), "hint {which}");
            for answer in 0..=bounds::PROBES_WARY {
                assert!(between(look(&mut root, 200), bounds::PROBE), "hint {which}, {answer}");
            }
            assert!(between(look(&mut root, 200), bounds::PROBE * 2), "hint {which}");
        }
    }

    #[test]
    fn a_new_member_is_asked_soon_and_a_known_one_changes_nothing() {
        let mut root = calm();
        assert_eq!(pause(&root.step(Input::Contacts(vec![contact(7)]))), None);
        assert!(between(pause(&root.step(Input::Contacts(vec![contact(11)]))), bounds::PROBE));
        // A crowd of them puts off nothing.
        assert_eq!(pause(&root.step(Input::Contacts(vec![contact(12)]))), None);
    }

    #[test]
    fn who_took_a_dead_roots_place_is_wary_and_a_founder_is_not() {
        assert_eq!(Stage::root(4).node.rivals.pace.alone, 0);
        let mut heir = Stage::attached(4, &[1]);
        let me = heir.node.contact().unwrap();
        heir.parent_says(&[1], vec![me], Vec::new());
        heir.step(Input::LinkDown(key(1)));
        let out = heir.step(Input::TimerFired(Timer::Retry));
        heir.fail_all_dials(out);
        assert_eq!(heir.node.state(), crate::State::Root);
        assert_eq!(heir.node.rivals.pace.alone, Pace::wary());
    }
}

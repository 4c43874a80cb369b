//! A fleet as the model sees it: places, children, answers on their way, and what may still fail.

use std::collections::BTreeSet;
use std::fmt;

use crate::rules::{Beginning, Rules};

/// A node; smaller ids come first where two roots meet.
pub type Id = u8;

/// What a parent last told a child (`Down` in the core).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Word {
    /// From the root (first) to the parent (last).
    pub path: Vec<Id>,
    /// The parent's children in the order they came.
    pub heirs: Vec<Id>,
}

/// Why a node seeks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// It started, or was in a loop: nobody's word counts.
    Afresh,
    /// It lost the parent that said this.
    Orphan(Word),
    /// It met the tree of this root, which comes first.
    Merge(Id),
}

/// One search for a parent (`Seek` in the core).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Search {
    /// Why.
    pub why: Why,
    /// Asked in this round.
    pub tried: BTreeSet<Id>,
    /// Being asked.
    pub asking: Option<Id>,
    /// An heir before this node is alive and seeks itself.
    pub heir_seeks: bool,
}

/// Where a node stands (`Phase` in the core).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// Dead.
    Down,
    /// Looking for a parent.
    Seeking(Search),
    /// Has a parent, the last of the path.
    Attached {
        /// What the parent last said.
        word: Word,
        /// Asked for a shallower place while the parent holds.
        climbing: Option<Id>,
    },
    /// Topmost.
    Root,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// Where it stands.
    pub place: Place,
    /// In the order they came.
    pub children: Vec<Id>,
}

/// All of them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fleet {
    /// By id.
    pub nodes: Vec<Node>,
    /// `accept`s on their way: from, to, what they say.
    pub accepts: BTreeSet<(Id, Id, Word)>,
    /// Deaths and restarts that may still happen.
    pub deaths: u8,
    /// Links that may still break.
    pub breaks: u8,
}

impl Place {
    pub(crate) fn seeking(why: Why) -> Self {
        Self::Seeking(Search { why, tried: BTreeSet::new(), asking: None, heir_seeks: false })
    }
}

impl Fleet {
    /// The first state of a story.
    #[must_use]
    pub fn begin(rules: &Rules) -> Self {
        let step = if rules.beginning == Beginning::Two { 2 } else { 1 };
        // Number `n` of its tree is node `n * step + first`; its parent is number (n - 1) / fanout.
        let parent = |at: Id| {
            let number = at / step;
            (number > 0).then(|| (number - 1) / rules.fanout * step + at % step)
        };
        let children =
            |at: Id| (0..rules.nodes).filter(|child| parent(*child) == Some(at)).collect();
        let node = |at: Id| match parent(at) {
            None => Node { place: Place::Root, children: children(at) },
            Some(_) if rules.beginning == Beginning::Joining => {
                Node { place: Place::seeking(Why::Afresh), children: Vec::new() }
            }
            Some(up) => {
                let mut path = vec![up];
                while let Some(higher) = parent(path[0]) {
                    path.insert(0, higher);
                }
                let word = Word { path, heirs: children(up) };
                Node { place: Place::Attached { word, climbing: None }, children: children(at) }
            }
        };
        let mut nodes: Vec<Node> = (0..rules.nodes).map(node).collect();
        if rules.beginning == Beginning::Joining {
            nodes[0].children.clear();
        }
        Self { nodes, accepts: BTreeSet::new(), deaths: rules.deaths, breaks: rules.breaks }
    }

    /// All ids.
    pub fn ids(&self) -> impl Iterator<Item = Id> + use<> {
        0..self.nodes.len() as Id
    }

    /// One node.
    #[must_use]
    pub fn node(&self, at: Id) -> &Node {
        &self.nodes[usize::from(at)]
    }

    pub(crate) fn node_mut(&mut self, at: Id) -> &mut Node {
        &mut self.nodes[usize::from(at)]
    }

    /// Whether it lives.
    #[must_use]
    pub fn up(&self, at: Id) -> bool {
        self.node(at).place != Place::Down
    }

    /// Its parent.
    #[must_use]
    pub fn parent(&self, at: Id) -> Option<Id> {
        match &self.node(at).place {
            Place::Attached { word, .. } => word.path.last().copied(),
            Place::Down | Place::Seeking(_) | Place::Root => None,
        }
    }

    /// What it tells a child now (`Node::down`).
    #[must_use]
    pub fn word(&self, at: Id) -> Word {
        let mut path = match &self.node(at).place {
            Place::Attached { word, .. } => word.path.clone(),
            Place::Down | Place::Seeking(_) | Place::Root => Vec::new(),
        };
        path.push(at);
        Word { path, heirs: self.node(at).children.clone() }
    }

    /// Roots that live.
    #[must_use]
    pub fn roots(&self) -> usize {
        self.nodes.iter().filter(|node| node.place == Place::Root).count()
    }

    /// A node that is its own ancestor.
    #[must_use]
    pub fn cycle(&self) -> Option<Id> {
        self.ids().find(|start| {
            let mut at = *start;
            // Longer than every path without a cycle.
            for _ in self.ids() {
                match self.parent(at).filter(|parent| self.up(*parent)) {
                    Some(parent) if parent == *start => return true,
                    Some(parent) => at = parent,
                    None => return false,
                }
            }
            false
        })
    }

    /// Whether every living parent and child know of each other, and nobody waits for anybody.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.accepts.is_empty()
            && self.ids().filter(|at| self.up(*at)).all(|at| {
                let children = self.node(at).children.iter();
                let parent = self.parent(at);
                children.clone().all(|child| self.parent(*child) == Some(at))
                    && parent.is_none_or(|parent| self.node(parent).children.contains(&at))
            })
    }

    /// Whether the living nodes are one tree and every path is true.
    #[must_use]
    pub fn whole(&self) -> bool {
        let living = self.ids().filter(|at| self.up(*at)).count();
        let placed = self.ids().filter(|at| self.parent(*at).is_some()).count();
        self.agrees()
            && self.cycle().is_none()
            && (living == 0 || (self.roots() == 1 && placed + 1 == living))
            && self.ids().all(|at| {
                self.parent(at).is_none_or(|parent| {
                    let mut path = self.word(parent).path;
                    path.push(at);
                    path == self.word(at).path
                })
            })
    }
}

/// One line: each node with its path or its search, and its children; then the answers on their way.
impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for at in self.ids() {
            let node = self.node(at);
            match &node.place {
                Place::Down => write!(f, "{at} down; ")?,
                Place::Root => write!(f, "{at} root {:?}; ", node.children)?,
                Place::Attached { word, climbing } => {
                    write!(f, "{at} under {:?} {:?}", word.path, node.children)?;
                    climbing.map_or(Ok(()), |to| write!(f, " climbs to {to}"))?;
                    write!(f, "; ")?;
                }
                Place::Seeking(search) => {
                    write!(
                        f,
                        "{at} seeks ({:?}), asks {:?} {:?}; ",
                        search.why, search.asking, node.children
                    )?;
                }
            }
        }
        self.accepts.iter().try_for_each(|(from, to, word)| {
            write!(f, "{from} accepts {to} below {:?}; ", word.path)
        })
    }
}

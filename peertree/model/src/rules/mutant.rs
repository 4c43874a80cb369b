//! Rules left out on purpose: if the checker finds nothing wrong with one of these, it cannot find anything.

/// A rule of the core that a mutant lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// All rules are there.
    None,
    /// A path that leads through the node itself is believed (`seek.rs`: `Node::usable`).
    NoPathCheck,
    /// Of two roots that meet, both yield (`merge.rs`: the order of ids in `on_compare`).
    NoIdOrder,
    /// An heir does not ask those before it (`seek.rs`: `heirs_before_me`, `heir_seeks`).
    NoHeirRule,
    /// A report of a node that is no child is not answered with `leave` (`host.rs`: `on_report`).
    NoLeave,
    /// Roots do not look for other trees (`merge.rs`: `on_probe_due`).
    NoProbe,
    /// A full node takes one more child (`host.rs`: the fan-out in `on_join`).
    NoFanout,
}

impl Mutant {
    /// All that the checker must refute.
    pub const ALL: [Self; 6] = [
        Self::NoPathCheck,
        Self::NoIdOrder,
        Self::NoHeirRule,
        Self::NoLeave,
        Self::NoProbe,
        Self::NoFanout,
    ];
}

//! The scenarios that come with the program: the files of `peertree/scenarios`.

/// Names and texts.
pub(crate) const ALL: [(&str, &str); 11] = [
    ("churn", include_str!("../../../scenarios/churn.sim")),
    ("hostile-flood", include_str!("../../../scenarios/hostile-flood.sim")),
    ("hostile-lie", include_str!("../../../scenarios/hostile-lie.sim")),
    ("hostile-mute", include_str!("../../../scenarios/hostile-mute.sim")),
    ("hostile-sybil", include_str!("../../../scenarios/hostile-sybil.sim")),
    ("hostile-withhold", include_str!("../../../scenarios/hostile-withhold.sim")),
    ("hostile", include_str!("../../../scenarios/hostile.sim")),
    ("partition", include_str!("../../../scenarios/partition.sim")),
    ("root-death", include_str!("../../../scenarios/root-death.sim")),
    ("slow", include_str!("../../../scenarios/slow.sim")),
    ("spine", include_str!("../../../scenarios/spine.sim")),
];

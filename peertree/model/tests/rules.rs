//! The rules in every state of small fleets; and each rule left out, to see that the checker would notice.

use borgios_model::rules::state::Fleet;
use borgios_model::rules::trap::Graph;
use borgios_model::rules::{Beginning, Mutant, Rules};
use stateright::{Checker, HasDiscoveries, Model};

/// More than any fleet here has.
const STATES_MAX: usize = 400_000;

/// Names of what always holds and does not here.
fn broken(rules: Rules) -> Vec<&'static str> {
    let checker = rules.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    checker.discoveries().into_keys().collect()
}

/// What some reachable state cannot come to without faults.
fn trapped(rules: Rules) -> Vec<&'static str> {
    let graph = Graph::explore(&rules, STATES_MAX).expect("a small fleet");
    let goals: [(&str, fn(&Fleet) -> bool); 3] = [
        ("no cycle", |fleet| fleet.cycle().is_none()),
        ("both ends agree", Fleet::agrees),
        ("one whole tree", Fleet::whole),
    ];
    let traps = goals.into_iter().filter(|(_, goal)| graph.trap(goal).is_some());
    traps.map(|(name, _)| name).collect()
}

fn holds(rules: Rules) {
    assert_eq!(broken(rules), [""; 0], "{rules:?}");
    assert_eq!(trapped(rules), [""; 0], "{rules:?}");
}

#[test]
fn a_tree_survives_two_deaths_or_restarts() {
    holds(Rules { deaths: 2, ..Rules::new(Beginning::Whole, 3) });
}

#[test]
fn a_tree_survives_a_death_and_a_broken_link() {
    holds(Rules { deaths: 1, breaks: 1, ..Rules::new(Beginning::Whole, 3) });
}

#[test]
fn newcomers_make_one_tree_whatever_link_breaks() {
    holds(Rules { breaks: 1, ..Rules::new(Beginning::Joining, 3) });
}

#[test]
fn two_trees_become_one_without_ever_lacking_a_root() {
    holds(Rules::new(Beginning::Two, 4));
}

#[test]
fn of_the_heirs_of_a_dead_root_one_follows_it() {
    holds(Rules { deaths: 1, timely: true, ..Rules::new(Beginning::Whole, 3) });
}

#[test]
fn without_the_path_check_a_cycle_lasts() {
    let rules = Rules { deaths: 2, ..Rules::new(Beginning::Whole, 3) };
    assert!(trapped(Rules { mutant: Mutant::NoPathCheck, ..rules }).contains(&"no cycle"));
}

#[test]
fn without_the_order_of_ids_two_roots_that_meet_make_a_cycle() {
    let rules = Rules::new(Beginning::Two, 4);
    let broken = broken(Rules { mutant: Mutant::NoIdOrder, ..rules });
    assert!(broken.iter().any(|name| name.starts_with("undisturbed")), "{broken:?}");
}

#[test]
fn without_the_rule_for_heirs_a_dead_root_has_two() {
    let rules = Rules { deaths: 1, timely: true, ..Rules::new(Beginning::Whole, 3) };
    let broken = broken(Rules { mutant: Mutant::NoHeirRule, ..rules });
    assert_eq!(broken, ["a dead root has one heir"]);
}

#[test]
fn without_leave_a_node_believes_for_ever_that_it_is_attached() {
    let rules = Rules { breaks: 1, ..Rules::new(Beginning::Whole, 3) };
    let trapped = trapped(Rules { mutant: Mutant::NoLeave, ..rules });
    assert_eq!(trapped, ["both ends agree", "one whole tree"]);
}

#[test]
fn without_probes_two_trees_stay_two() {
    let rules = Rules::new(Beginning::Two, 4);
    assert_eq!(trapped(Rules { mutant: Mutant::NoProbe, ..rules }), ["one whole tree"]);
}

#[test]
fn without_its_bound_the_fan_out_is_exceeded() {
    let rules = Rules::new(Beginning::Joining, 4);
    assert_eq!(broken(Rules { mutant: Mutant::NoFanout, ..rules }), ["fan-out"]);
}

//! Draws a fleet's tree and the coverage of a broadcast as SVG.

use std::f64::consts::TAU;
use std::fmt::Write as _;

use crate::sim::fleet::Fleet;
use crate::sim::play::Outcome;
use crate::sim::wire::Index;

/// Half the width of the tree's picture.
const HALF: f64 = 480.0;
/// Colours of the levels, from the root outwards, and of those who keep to no rules.
const LEVELS: [&str; 6] = ["#1b4965", "#2a6f97", "#468faf", "#61a5c2", "#89c2d9", "#a9d6e5"];
const HOSTILE: &str = "#d1495b";

/// The tree seen from above: the root in the middle, each level a ring.
#[must_use]
pub fn tree(fleet: &Fleet, title: &str) -> String {
    let mut svg = head(2.0 * HALF, 2.0 * HALF, title);
    let rings = fleet.height().max(1);
    for ring in 1..=rings {
        let radius = radius(ring, rings);
        let _ = writeln!(svg, r##"<circle r="{radius:.1}" fill="none" stroke="#eef2f4"/>"##);
    }
    let roots: Vec<Index> =
        fleet.nodes().filter(|(_, node)| node.parent().is_none()).map(|(at, _)| at).collect();
    let (mut lines, mut dots) = (String::new(), String::new());
    let leaves: f64 = roots.iter().map(|root| leaves(fleet, *root, 0)).sum();
    let mut begun = 0.0;
    for root in roots {
        let width = TAU * leaves_or_one(fleet, root) / leaves.max(1.0);
        branch(fleet, root, 0, rings, (begun, width), (&mut lines, &mut dots));
        begun += width;
    }
    svg.push_str(&lines);
    svg.push_str(&dots);
    let running = fleet.running().len();
    let _ = writeln!(
        svg,
        r##"<text x="-{0}" y="-{0}" dy="22" dx="14" fill="#1b4965" font-size="17">{1}</text>
<text x="-{0}" y="-{0}" dy="42" dx="14" fill="#6b7a85">{running} nodes, depth {rings}</text>
</svg>"##,
        HALF,
        text(title)
    );
    svg
}

fn radius(depth: usize, rings: usize) -> f64 {
    (HALF - 30.0) * depth as f64 / rings as f64
}

fn children(fleet: &Fleet, at: Index) -> Vec<Index> {
    let node = fleet.machines[at].node.as_ref();
    let children = node.map(crate::Node::children).unwrap_or_default();
    let me = fleet.machines[at].id;
    let mine = |child: &Index| {
        fleet.machines[*child].node.as_ref().is_some_and(|node| node.parent() == Some(me))
    };
    children.iter().filter_map(|id| fleet.position(id)).filter(mine).collect()
}

/// Leaves below, at least one; a fleet that is no tree is drawn down to a bounded depth.
fn leaves(fleet: &Fleet, at: Index, depth: usize) -> f64 {
    if depth > crate::bounds::PATH_MAX {
        return 1.0;
    }
    let below: f64 = children(fleet, at).into_iter().map(|one| leaves(fleet, one, depth + 1)).sum();
    below.max(1.0)
}

fn leaves_or_one(fleet: &Fleet, at: Index) -> f64 {
    leaves(fleet, at, 0)
}

fn branch(
    fleet: &Fleet,
    at: Index,
    depth: usize,
    rings: usize,
    (begun, width): (f64, f64),
    (lines, dots): (&mut String, &mut String),
) {
    let place = |depth: usize, angle: f64| {
        let radius = radius(depth, rings);
        (radius * angle.cos(), radius * angle.sin())
    };
    let middle = begun + width / 2.0;
    let (x, y) = place(depth, middle);
    let colour = match fleet.machines[at].vice {
        Some(_) => HOSTILE,
        None => LEVELS[depth.min(LEVELS.len() - 1)],
    };
    let size = (9.0 - depth as f64 * 1.2).max(2.5);
    let vice = fleet.machines[at].vice.map(|vice| format!(", {vice:?}")).unwrap_or_default();
    let _ = writeln!(
        dots,
        r#"<circle cx="{x:.1}" cy="{y:.1}" r="{size:.1}" fill="{colour}"><title>n{at}{vice}</title></circle>"#
    );
    if depth > crate::bounds::PATH_MAX {
        return;
    }
    let total = leaves_or_one(fleet, at);
    let mut from = begun;
    for child in children(fleet, at) {
        let share = width * leaves_or_one(fleet, child) / total;
        let angle = from + share / 2.0;
        let (to_x, to_y) = place(depth + 1, angle);
        // Bent, so that what leaves one node leaves it in one direction.
        let half = (radius(depth, rings) + radius(depth + 1, rings)) / 2.0;
        let (bend_x, bend_y) = (half * middle.cos(), half * middle.sin());
        let (turn_x, turn_y) = (half * angle.cos(), half * angle.sin());
        let _ = writeln!(
            lines,
            r##"<path d="M{x:.1} {y:.1}C{bend_x:.1} {bend_y:.1} {turn_x:.1} {turn_y:.1} {to_x:.1} {to_y:.1}" fill="none" stroke="#b8c9d3"/>"##
        );
        branch(fleet, child, depth + 1, rings, (from, share), (&mut *lines, &mut *dots));
        from += share;
    }
}

/// The share of the machines that had the last broadcast, over time.
#[must_use]
pub fn coverage(outcome: &Outcome, running: usize) -> String {
    let (width, height, left, below) = (760.0, 380.0, 60.0, 46.0);
    let mut svg = head(width, height, "coverage");
    let last = outcome.coverage.iter().copied().max().unwrap_or(0).max(1) as f64;
    let x = |ms: f64| -width / 2.0 + left + (width - left - 24.0) * ms / last;
    let y = |share: f64| height / 2.0 - below - (height - below - 56.0) * share;
    for share in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let (from, to, at) = (x(0.0), x(last), y(share));
        let _ = writeln!(
            svg,
            r##"<path d="M{from:.1} {at:.1}H{to:.1}" stroke="#eef2f4"/>
<text x="{:.1}" y="{:.1}" text-anchor="end" fill="#6b7a85">{:.0} %</text>"##,
            from - 8.0,
            at + 4.0,
            share * 100.0
        );
    }
    let mut times = outcome.coverage.clone();
    times.sort_unstable();
    let mut path = format!("M{:.1} {:.1}", x(0.0), y(0.0));
    for (index, ms) in times.iter().enumerate() {
        let share = (index + 1) as f64 / running.max(1) as f64;
        let _ = write!(path, "H{:.1}V{:.1}", x(*ms as f64), y(share.min(1.0)));
    }
    let _ = writeln!(
        svg,
        r##"<path d="{path}H{:.1}V{:.1}Z" fill="#a9d6e5" fill-opacity="0.45"/>
<path d="{path}" fill="none" stroke="#1b4965" stroke-width="2"/>
<text x="{:.1}" y="{:.1}" fill="#1b4965" font-size="17">{}, seed {}: who has the last broadcast</text>
<text x="{:.1}" y="{:.1}" text-anchor="end" fill="#6b7a85">{last} ms</text>
<text x="{:.1}" y="{:.1}" fill="#6b7a85">0</text>
</svg>"##,
        x(last),
        y(0.0),
        -width / 2.0 + left,
        -height / 2.0 + 30.0,
        text(&outcome.scenario),
        outcome.seed,
        x(last),
        height / 2.0 - below + 20.0,
        x(0.0),
        height / 2.0 - below + 20.0,
    );
    svg
}

fn head(width: f64, height: f64, title: &str) -> String {
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="{} {} {width} {height}" width="{width}" height="{height}" font-family="sans-serif" font-size="12">
<title>{}</title>
<rect x="{}" y="{}" width="100%" height="100%" fill="#fff"/>
"##,
        -width / 2.0,
        -height / 2.0,
        text(title),
        -width / 2.0,
        -height / 2.0
    )
}

/// A scenario's name comes from a file's name, which may hold anything.
fn text(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#!/usr/bin/env bash
# run.sh - the one door to all checks of BorgIOS.
#
# Without arguments every stage runs, in this order, and the last line is
# `N passed, N failed, N skipped`.  Exit code 0 means nothing failed.
#
#   fmt     rustfmt
#   lint    clippy without warnings, shellcheck, tidy (what no tool checks)
#   unit    every cargo test of the workspace
#   doc     rustdoc without warnings, and the examples in the documentation
#   sim     the tree's simulator: scenario `spine`, 50 seeds of 100 nodes, and a few seeds of each other
#   fuzz    hostile bytes against every parser that sees the network or a file, 20 s
#   fleet   the real programs on real servers in the lab (needs root)
#   deny    licences, sources, bans and, when they can be had, advisories
#
# Usage: tests/run.sh                       all of it
#        tests/run.sh STAGE...              some stages of the list above
#        tests/run.sh fleet NAME...         fleet scenarios by name; `fleet list` names them
#        tests/run.sh sim SCENARIO [--seed N] [--seeds N] [--json]   a scenario or a file; `sim list` names them
#        tests/run.sh sim million [--nodes N] [--json]    a million nodes (release build, some minutes)
#        tests/run.sh fuzz --seconds N [--target NAME] [--seed N] [--keep] [--json]    for longer; `--input FILE`
#                                           replays a finding; `--keep` adds what is new to tests/fuzz/corpus
#        tests/run.sh fuzz --guided [--seconds N] [--target NAME] [--keep]    the same under libFuzzer, which
#                                           sees what an input reaches (needs a C++ compiler; tests/fuzz/README.md)
#        tests/run.sh bench NAME [--json]   a measurement; without a name: lists them (`bench tree --peers`
#                                           builds other people's programs and measures them too)
#        tests/run.sh lab COMMAND ...       the lab itself; `lab help` explains it
#        tests/run.sh setup                 install what the checks need, and stop
#
# As root it installs missing Debian packages; otherwise it says which are missing.
# Environment: LAB_NAME (test), LAB_NET (10.78), LAB_DIR: where the fleet stage works, so that
# a demo may run beside it.  FLEET_LANES (2): how many scenarios at once, in LAB_NAME, LAB_NAMEb, ...
# SIM_SEEDS (50), SIM_OTHER_SEEDS (3).
# FUZZ_SECONDS (20): how long stage fuzz runs.
set -uo pipefail
export LC_ALL=C

ROOT=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd) || exit 2
cd "$ROOT" || exit 2
TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
OUT=${BORGIOS_CHECKS:-$TARGET/checks}     # what the stages said, one file each
LAB=$ROOT/tests/lab/lab.sh
export LAB_NAME=${LAB_NAME:-test} LAB_NET=${LAB_NET:-10.78}
command -v cargo >/dev/null || PATH=$PATH:$HOME/.cargo/bin

# shellcheck source=lib/report.sh
. "$ROOT/tests/lib/report.sh"
# shellcheck source=lib/setup.sh
. "$ROOT/tests/lib/setup.sh"
# shellcheck source=lib/lint.sh
. "$ROOT/tests/lib/lint.sh"
# shellcheck source=lib/tidy.sh
. "$ROOT/tests/lib/tidy.sh"
# shellcheck source=lib/cargo.sh
. "$ROOT/tests/lib/cargo.sh"
# shellcheck source=lib/sim.sh
. "$ROOT/tests/lib/sim.sh"
# shellcheck source=lib/fuzz.sh
. "$ROOT/tests/lib/fuzz.sh"
# shellcheck source=lib/fleet.sh
. "$ROOT/tests/lib/fleet.sh"
# shellcheck source=lib/deny.sh
. "$ROOT/tests/lib/deny.sh"

STAGES=(fmt lint unit doc sim fuzz fleet deny)
usage() { sed -n '2,/^set -uo/p' "$ROOT/tests/run.sh" | grep '^#' | sed 's/^# \{0,1\}//'; }

# Runs the stages named, prints the closing line; exit code 1 when anything failed.
run_stages() {
    local s
    report_begin "$#"
    trap cleanup EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    setup_all || { fail setup; report_end; return 1; }
    for s in "$@"; do stage "$s"; done
    report_end
}
cleanup() {                         # whatever way we end: no process, no lab of ours is left
    trap '' INT TERM HUP
    stage_kill
    fleet_cleanup
    report_cleanup
}

case ${1:-all} in
    all) run_stages "${STAGES[@]}" ;;
    -h|--help|help) usage ;;
    setup) setup_all ;;
    lab) shift; exec "$LAB" "$@" ;;
    bench) shift; bench "$@" ;;
    sim) if [[ $# -gt 1 && ! " ${STAGES[*]} " == *" $2 "* ]]; then shift; sim_one "$@"; else run_stages "$@"; fi ;;
    fuzz) if [[ $# -gt 1 && $2 == --* ]]; then shift; fuzz_some "$@"; else run_stages "$@"; fi ;;
    fleet) if [[ $# -gt 1 && ! " ${STAGES[*]} " == *" $2 "* ]]; then shift; fleet_some "$@"; else run_stages "$@"; fi ;;
    _stage) STAGE=$2; "stage_$STAGE"; exit 0 ;;      # (internal) one stage, in a session of its own
    *)
        for s in "$@"; do
            [[ " ${STAGES[*]} " == *" $s "* ]] || { echo "run.sh: unknown stage '$s'; one of: ${STAGES[*]}, or see --help" >&2; exit 2; }
        done
        run_stages "$@" ;;
esac

#!/usr/bin/env bash
# Stage fleet: scenarios of the real programs on real servers, two at a time, in labs of their own that end with us.

stage_fleet() {
    local why
    why=$(fleet_cannot) && { skip fleet "$why"; return; }
    check "build the programs" programs || return
    fleet_begin || { fail "fleet: lab"; return; }
    # shellcheck disable=SC2086 # one word per name
    fleet_scenarios run --lanes "$FLEET_LANES" ${FLEET_NAMES:-}
    each_lab down || fail "fleet: lab down"
    check "the labs leave nothing" each_lab check
}
# each_lab COMMAND..: in the lab of every lane (tests/fleet/src/lane.rs names them).
FLEET_LANES=${FLEET_LANES:-2}
LANES=('' b c d)
each_lab() {
    local lane rc=0
    for lane in "${LANES[@]:0:FLEET_LANES}"; do LAB_NAME=$LAB_NAME$lane "$LAB" "$@" || rc=1; done
    return "$rc"
}
fleet_some() {                      # fleet NAME.. | fleet list
    if [[ $1 == list ]]; then setup_all && programs && "$TARGET/debug/borgios-fleet" list; return; fi
    export FLEET_NAMES=$*
    run_stages fleet
}
fleet_cannot() { [[ $EUID != 0 ]] && echo "the lab boots real servers and needs root: sudo ./tests/run.sh fleet"; }

# Only one run may use a lab of this name; what a run that was killed left behind goes first.
fleet_begin() {
    local dir=${LAB_DIR:-/var/tmp/borgios-lab}
    # What is opened in it next must not lead elsewhere.
    # shellcheck source=../lab/lib/folder.sh
    (die() { echo "fleet: $*" >&2; exit 1; }; . "$ROOT/tests/lab/lib/folder.sh"; make_folder "$dir") || return 1
    [[ $FLEET_LANES =~ ^[1-4]$ ]] || { echo "fleet: FLEET_LANES=$FLEET_LANES: 1 to 4" >&2; return 1; }
    local lane fd=8                # 7 and below: those that the lab's servers do not inherit
    for lane in "${LANES[@]:0:FLEET_LANES}"; do
        fd=$((fd - 1))
        eval "exec $fd>\"\$dir/.run-\$LAB_NAME\$lane.lock\"" || return 1
        flock -n "$fd" || { echo "fleet: another run works in the lab '$LAB_NAME$lane'; set LAB_NAME and LAB_NET (each lane takes one net more) to have one beside it, or FLEET_LANES=1" >&2; return 1; }
    done
    : >"$OUT/lab-is-ours"
    each_lab down && "$LAB" base
}
fleet_scenarios() {
    local log=$OUT/fleet.log rc line
    "$TARGET/debug/borgios-fleet" "$@" 2>&1 | tee "$log" | sed -u 's/^/  /'
    rc=${PIPESTATUS[0]}
    while read -r line; do pass "$line"; done < <(grep -E '^PASS ' "$log")
    while read -r line; do fail "fleet: ${line#FAIL }"; done < <(grep -E '^FAIL ' "$log")
    while read -r line; do line=${line#SKIP }; skip "fleet: ${line%%: *}" "${line#*: }"; done < <(grep -E '^SKIP ' "$log")
    ((rc == 0)) || grep -q '^FAIL ' "$log" || fail "fleet: borgios-fleet ended with code $rc"
}
fleet_cleanup() { [[ ! -e $OUT/lab-is-ours ]] || { each_lab down; rm -f "$OUT/lab-is-ours"; }; }

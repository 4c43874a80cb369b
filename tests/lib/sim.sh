#!/usr/bin/env bash
# Stage sim: the tree's simulator, one check per seed; a failing seed says how to replay it.

SIM_SEEDS=${SIM_SEEDS:-50}

stage_sim() {
    local seed log shown=0
    check "build the programs" programs || return
    [[ -x $TARGET/debug/borgios-sim ]] || { fail "sim: the workspace built no borgios-sim"; return; }
    mkdir -p "$OUT/sim"
    # shellcheck disable=SC2016 # for the inner shell
    seq 0 $((SIM_SEEDS - 1)) | xargs -P "$(nproc)" -I{} sh -c \
        'timeout 600 "$0" spine --seed "$2" --json >"$1/$2.json" 2>"$1/$2.err" && : >"$1/$2.ok"' "$TARGET/debug/borgios-sim" "$OUT/sim" {}
    for seed in $(seq 0 $((SIM_SEEDS - 1))); do
        log=$OUT/sim/$seed
        if [[ -e $log.ok ]]; then pass "spine seed $seed"; continue; fi
        fail "sim: spine seed $seed (replay: ./tests/run.sh sim spine --seed $seed)"
        ((shown++ >= 3)) || tail -qn 8 "$log.json" "$log.err" 2>/dev/null | cut -c1-400 | sed 's/^/       /'
    done
    echo "  spine: $(find "$OUT/sim" -name '*.ok' | wc -l) of $SIM_SEEDS seeds hold every invariant"
}
sim_one() { setup_rust && cargo build --workspace --bins --locked -q && "$TARGET/debug/borgios-sim" "$@"; }

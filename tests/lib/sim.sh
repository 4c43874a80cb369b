#!/usr/bin/env bash
# Stage sim: the tree's simulator, one check per scenario and seed; a failing seed says how to replay it.

SIM_SEEDS=${SIM_SEEDS:-50}          # of the spine
SIM_OTHER_SEEDS=${SIM_OTHER_SEEDS:-3}     # of each other scenario

stage_sim() {
    local name listed names files
    check "build the programs" programs || return
    [[ -x $TARGET/debug/borgios-sim ]] || { fail "sim: the workspace built no borgios-sim"; return; }
    mkdir -p "$OUT/sim"
    sim_seeds spine "$SIM_SEEDS"
    # A list that ends early must not pass for a short one.
    listed=$("$TARGET/debug/borgios-sim" list) || { fail "sim: borgios-sim list ended with code $?"; return; }
    files=(peertree/scenarios/*.sim)
    mapfile -t names < <(cut -d' ' -f1 <<<"$listed")
    ((${#names[@]} >= ${#files[@]})) || fail "sim: borgios-sim list names ${#names[@]} of ${#files[@]} scenarios"
    for name in "${names[@]}"; do
        [[ $name == spine ]] || sim_seeds "$name" "$SIM_OTHER_SEEDS"
    done
}
# Seeds 0 to COUNT-1 of one scenario, as many at a time as there are cores.
sim_seeds() {
    local name=$1 count=$2 seed log shown=0
    # shellcheck disable=SC2016 # for the inner shell
    seq 0 $((count - 1)) | xargs -P "$(nproc)" -I{} sh -c \
        'timeout 600 "$0" "$3" --seed "$2" --json >"$1/$3-$2.json" 2>"$1/$3-$2.err" && : >"$1/$3-$2.ok"' \
        "$TARGET/debug/borgios-sim" "$OUT/sim" {} "$name"
    for seed in $(seq 0 $((count - 1))); do
        log=$OUT/sim/$name-$seed
        if [[ -e $log.ok ]]; then pass "$name seed $seed"; continue; fi
        fail "sim: $name seed $seed (replay: ./tests/run.sh sim $name --seed $seed --trace)"
        ((shown++ >= 3)) || tail -qn 8 "$log.json" "$log.err" 2>/dev/null | cut -c1-400 | sed 's/^/       /'
    done
    echo "  $name: $(find "$OUT/sim" -name "$name-*.ok" | grep -cE "/$name-[0-9]+\.ok$") of $count seeds hold every invariant"
}
sim_one() {                         # a million nodes need a build that is optimised
    setup_rust || return
    if [[ $1 == million ]]; then
        cargo build -p borgios-peertree --bin borgios-sim --release --locked -q && "$TARGET/release/borgios-sim" "$@"
    else
        programs && "$TARGET/debug/borgios-sim" "$@"
    fi
}

#!/usr/bin/env bash
# Stage fuzz: hostile bytes against every parser, for a bounded time; by hand for as long as is wanted.

FUZZ_SECONDS=${FUZZ_SECONDS:-20}
GUIDED=$ROOT/tests/fuzz/guided
GUIDED_OUT=$TARGET/fuzz-guided       # its build, the inputs found so far, what was found
GUIDED_SECONDS=1800                  # for all targets together, unless --seconds says otherwise
GUIDED_LENGTH=65536                  # longest input, in bytes
GUIDED_KEPT=4096                     # longest input that is kept in the repository, in bytes

stage_fuzz() {
    check "build the fuzzer" programs || return
    check "fuzz every parser for $FUZZ_SECONDS s" "$TARGET/debug/borgios-fuzz" --seconds "$FUZZ_SECONDS" --findings "$OUT/fuzz"
}
fuzz_some() {                       # [--seconds N] [--target NAME] [--seed N] [--keep] [--input FILE] [--json]; --guided first
    setup_rust || return
    if [[ $1 == --guided ]]; then shift; fuzz_guided "$@"; return; fi
    programs && "$TARGET/debug/borgios-fuzz" --findings "$TARGET/fuzz" "$@"
}

# fuzz_guided [--seconds N] [--target NAME]... [--keep]: the same targets and inputs under libFuzzer,
# one after the other. --keep lays what is new, minimised, beside the kept inputs.
fuzz_guided() {
    local seconds=$GUIDED_SECONDS keep='' wanted=() name failed=0
    while (($#)); do
        case $1 in
            --seconds) seconds=$2; shift 2 ;;
            --target) wanted+=(--target "$2"); shift 2 ;;
            --keep) keep=1; shift ;;
            *) echo "fuzz --guided: unknown word '$1'; [--seconds N] [--target NAME] [--keep]" >&2; return 2 ;;
        esac
    done
    guided_build && programs || return 1
    local targets; mapfile -t targets < <("$TARGET/debug/borgios-fuzz" --list "${wanted[@]}")
    ((${#targets[@]})) || return 2
    "$TARGET/debug/borgios-fuzz" --lay "$GUIDED_OUT/seeds" "${wanted[@]}" || return 1
    local each=$((seconds / ${#targets[@]}))
    ((each)) || each=1
    echo "$each s for each of ${#targets[@]} targets"
    printf '%-18s %12s %10s %9s %8s\n' '' inputs 'a second' reached kept
    GUIDED_RUNS=0 GUIDED_CPU=0
    for name in "${targets[@]}"; do
        guided_run "$name" "$each" || failed=1
        [[ -z $keep ]] || guided_keep "$name" || failed=1
    done
    echo "$GUIDED_RUNS inputs in $GUIDED_CPU s of CPU time"
    return "$failed"
}
guided_build() {
    command -v c++ >/dev/null || { echo "fuzz --guided: libFuzzer is C++; install a compiler (Debian: g++)" >&2; return 1; }
    local host; host=$(rustc -vV | sed -n 's/^host: //p')
    cp "$ROOT/Cargo.lock" "$GUIDED/Cargo.lock" || return
    # What `cargo fuzz` passes with `--sanitizer none`. With --target, programs of the build get none of it.
    (cd "$GUIDED" && RUSTFLAGS="-C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=4 \
        -C llvm-args=-sanitizer-coverage-inline-8bit-counters -C llvm-args=-sanitizer-coverage-pc-table \
        -C llvm-args=-sanitizer-coverage-trace-compares -C llvm-args=-simplifycfg-branch-fold-threshold=0" \
        RUSTC=$GUIDED/rustc.sh CARGO_TARGET_DIR=$GUIDED_OUT cargo build --release --target "$host" -q) || return
    GUIDED_BIN=$GUIDED_OUT/$host/release/borgios-guided
}
guided_run() {                      # TARGET SECONDS: one row; a finding is shown with what replays it
    local work=$GUIDED_OUT/corpus/$1 log=$GUIDED_OUT/$1.log scratch found rc cpu0 cpu1
    mkdir -p "$work" "$GUIDED_OUT/findings" "$ROOT/tests/fuzz/corpus/$1"
    cpu0=$(guided_cpu)
    # A process that was cut off leaves its files; these are ours to remove.
    scratch=$(guided_scratch) || return
    TMPDIR=$scratch FUZZ_TARGET=$1 "$GUIDED_BIN" -max_total_time="$2" -timeout=20 -rss_limit_mb=2048 -max_len=$GUIDED_LENGTH \
        -len_control=20 -use_value_profile=1 -print_final_stats=1 -dict="$GUIDED_OUT/seeds/$1.dict" \
        -artifact_prefix="$GUIDED_OUT/findings/$1-" "$work" "$ROOT/tests/fuzz/corpus/$1" "$GUIDED_OUT/seeds/$1" >"$log" 2>&1
    rc=$?
    rm -rf "$scratch"
    cpu1=$(guided_cpu)
    awk -v name="$1" -v kept="$(find "$work" -type f | wc -l)" '
        /^stat::number_of_executed_units/ { runs = $2 } /^stat::average_exec_per_sec/ { pace = $2 } / cov: / { for (i = 1; i < NF; i++) if ($i == "cov:") reached = $(i + 1) }
        END { printf "%-18s %12d %10d %9d %8d\n", name, runs, pace, reached, kept }' "$log"
    GUIDED_RUNS=$((GUIDED_RUNS + $(awk '/^stat::number_of_executed_units/ { n = $2 } END { print n + 0 }' "$log")))
    GUIDED_CPU=$((GUIDED_CPU + cpu1 - cpu0))
    ((rc == 0)) && return
    found=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
    echo "  FINDING $(grep -m 1 -E "panicked at|ERROR: libFuzzer|ALARM" "$log" | cut -c1-200): $(grep -m 1 -A 1 'panicked at' "$log" | tail -n 1 | cut -c1-300)"
    echo "  replay: tests/run.sh fuzz --target $1 --input ${found:-: none was written, see $log}"
    return 1
}
guided_scratch() { if [[ -d /dev/shm ]]; then mktemp -d -p /dev/shm; else mktemp -d; fi; }
guided_cpu() {                      # seconds that the programs which this shell has waited for took
    local fields; read -r -a fields <"/proc/$$/stat"
    echo $(((fields[15] + fields[16]) / $(getconf CLK_TCK)))
}
guided_keep() {                     # TARGET: what reaches something that no kept input reaches, the shortest of each
    local kept=$ROOT/tests/fuzz/corpus/$1 new scratch; new=$(mktemp -d) || return
    scratch=$(guided_scratch) || return
    find "$GUIDED_OUT/corpus/$1" -type f -size "-$((GUIDED_KEPT + 1))c" -exec cp -t "$new" {} +
    # The seeds are made at each start: what they reach is no reason to keep anything.
    cp -n "$GUIDED_OUT/seeds/$1"/* "$kept"/
    TMPDIR=$scratch FUZZ_TARGET=$1 "$GUIDED_BIN" -merge=1 -set_cover_merge=1 -timeout=20 -rss_limit_mb=2048 "$kept" "$new" >"$GUIDED_OUT/$1.merge.log" 2>&1
    local rc=$? seed
    for seed in "$GUIDED_OUT/seeds/$1"/*; do rm -f "$kept/${seed##*/}"; done
    rm -rf "$new" "$scratch"
    return "$rc"
}

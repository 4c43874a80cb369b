#!/usr/bin/env bash
# Stages unit and doc, the programs that later stages run, and benches: what cargo does.

stage_unit() {
    # What the tests write is thrown away: where memory has room for it, nothing waits for a disk (what must
    # outlive a power cut is shown by stage fleet).  More threads than cores, for many tests wait.
    local room; room=$(df --output=avail -k /dev/shm 2>/dev/null | tail -n 1)
    if [[ -w /dev/shm && ${room:-0} -gt 2000000 ]]; then
        IN_MEMORY=$(mktemp -d /dev/shm/borgios-tests.XXXXXX) && trap 'rm -rf "$IN_MEMORY"' EXIT
        # Tests write programs too, and not every such memory lets them run.
        install -m 755 /bin/true "$IN_MEMORY/true" && "$IN_MEMORY/true" || IN_MEMORY=
    fi
    TMPDIR=${IN_MEMORY:-${TMPDIR:-/tmp}} RUST_TEST_THREADS=${RUST_TEST_THREADS:-$((2 * $(nproc)))} cargo_test --lib --bins --tests
    local script
    for script in tests/bootstrap/*.sh; do
        [[ "$(head -c 2 "$script" 2>/dev/null)" != '#!' ]] || shell_test "$script"
    done
}
# A shell test prints `ok NAME`, `FAIL NAME: why` or `skip NAME: why` for each of its checks.
shell_test() {
    local log rc n name line; log=$OUT/$STAGE.$(basename "$1").log
    timeout 900 bash "$1" >"$log" 2>&1; rc=$?
    n=$(grep -c '^ok ' "$log"); tally pass "$n"
    echo "  $1: $n ok"
    while read -r line; do fail "$1: ${line#FAIL }"; done < <(grep '^FAIL ' "$log")
    while read -r _ name line; do skip "$1: ${name%:}" "$line"; done < <(grep '^skip ' "$log")
    ((rc == 0 && n > 0)) || grep -q '^FAIL ' "$log" || { fail "$1: code $rc, $n checks"; tail -n 30 "$log" | sed 's/^/       /'; }
}
stage_doc() {
    RUSTDOCFLAGS="-D warnings" check rustdoc cargo doc --workspace --no-deps --locked -q
    cargo_test --doc
}

# cargo_test ARGS..: counts every test, shows cargo's own closing lines and whatever failed.
cargo_test() {
    local log=$OUT/$STAGE.log rc p f i name named=0
    cargo test --workspace --locked --no-fail-fast "$@" 2>&1 | tee "$log" |
        grep --line-buffered -E '^test result: |^ +(Running|Doc-tests) |^test .* FAILED$|^error'
    rc=${PIPESTATUS[0]}
    read -r p f i < <(awk '/^test result: /{p+=$4; f+=$6; i+=$8} END{print p+0, f+0, i+0}' "$log")
    tally pass "$p"; tally skip "$i"
    while read -r name; do fail "$STAGE: $name"; named=$((named + 1)); done < <(failed_tests "$log")
    if ((rc != 0 || f > 0)); then
        ((named > 0)) || fail "$STAGE: cargo test (code $rc, $f failed without a name)"
        grep -nE -A 25 '^error|^---- .* stdout ----|^failures:' "$log" | head -n 150
        echo "       all of it: $log"
    fi
}

# The names of the tests that failed. What another program wrote without an end of line may stand in
# front of `test`, and behind its dots.
failed_tests() {
    sed -nE 's/^test (.+) \.\.\. .*FAILED$/\1/p; t; s/^.*test (.+) \.\.\. .*FAILED$/\1/p' "$1" | sort -u
}

# The programs, built once for simulation and fleet, in the very profile of the tests.
programs() { cargo build --workspace --bins --locked -q; }

# bench NAME [--json] [--peers]: a binary of the workspace called bench-NAME.
bench() {
    local names name=${1:-}
    setup_rust || return 1
    names=$(cargo metadata --no-deps --format-version 1 --locked 2>/dev/null | grep -oE '"name":"bench-[a-z0-9-]+"' | cut -d'"' -f4 | sed 's/^bench-//' | sort -u)
    if [[ -z $name ]]; then echo "${names:-no benches yet}"; return 0; fi
    grep -qx -- "$name" <<<"$names" || { echo "bench: there is no bench '$name'; there are: ${names:-none yet}" >&2; return 2; }
    shift
    # `--peers`: build other people's programs first; they are a workspace of their own.
    if [[ " $* " == *" --peers "* ]]; then
        (cd tests/bench/peers && cargo build --release --locked -q) || return 1
        local word words=()
        for word in "$@"; do [[ $word == --peers ]] || words+=("$word"); done
        set -- "${words[@]}"
    fi
    cargo run --release --locked -q --bin "bench-$name" -- "$@"
}

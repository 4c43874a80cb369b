#!/usr/bin/env bash
# Stage fuzz: hostile bytes against every parser, for a bounded time; by hand for as long as is wanted.

FUZZ_SECONDS=${FUZZ_SECONDS:-20}

stage_fuzz() {
    check "build the fuzzer" cargo build -p borgios-fuzz --locked -q || return
    check "fuzz every parser for $FUZZ_SECONDS s" "$TARGET/debug/borgios-fuzz" --seconds "$FUZZ_SECONDS" --findings "$OUT/fuzz"
}
fuzz_some() {                       # [--seconds N] [--target NAME] [--seed N] [--keep] [--input FILE] [--json]
    setup_rust || return
    cargo build -p borgios-fuzz --locked -q && "$TARGET/debug/borgios-fuzz" --findings "$TARGET/fuzz" "$@"
}

#!/usr/bin/env bash
# The compiler of the guided build: rustc. Some build scripts link a small program, with the flags of the build, to see
# whether a library is there: that one gets no counters, for nothing links their runtime to it. Cargo's own calls all say --emit.
if [[ " $* " == *" --emit"* || $# -lt 3 ]]; then exec rustc "$@"; fi
words=()
while (($#)); do
    if [[ $1 == -C && ($2 == passes=sancov-module || $2 == llvm-args=*) ]]; then shift 2; else words+=("$1"); shift; fi
done
exec rustc "${words[@]}"

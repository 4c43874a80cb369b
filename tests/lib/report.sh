#!/usr/bin/env bash
# Counting and saying: checks are counted in a file, so that stages may run in processes of their own.

report_begin() {                    # HOW MANY stages come
    mkdir -p "$TARGET" && exec 8>"$TARGET/.checks.lock" || exit 2
    # Whoever runs some stages while another run works here keeps to a folder, and to a lab, of its own.
    flock -n 8 || OUT=$TARGET/checks-$$
    export BORGIOS_CHECKS=$OUT
    rm -rf "$OUT"; mkdir -p "$OUT" || exit 2
    : >"$OUT/counts"
    STAGE_NR=0 STAGE_OF=$1 STAGE_PID='' BEGAN=$SECONDS
}
# A folder of its own stays only where somebody will want to read in it.
report_cleanup() { [[ $OUT != "$TARGET/checks-$$" || $(count fail) != 0 ]] || rm -rf "$OUT"; }
pass() { printf 'pass\t%s\n' "$1" >>"$OUT/counts"; }
fail() { printf 'fail\t%s\n' "$1" >>"$OUT/counts"; echo "  FAIL $1"; }
skip() { printf 'skip\t%s\t%s\n' "$1" "$2" >>"$OUT/counts"; echo "  skip $1: $2"; }
tally() {                           # KIND HOW MANY: for tools that count themselves
    local k; for ((k = 0; k < $2; k++)); do printf '%s\t%s\n' "$1" "$STAGE"; done >>"$OUT/counts"
}
count() { grep -c "^$1"$'\t' "$OUT/counts"; }

# check NAME CMD..: one check that is quiet when it passes, and shows the end of its output
# and returns 1 when not.
check() {
    local name=$1 log t0=$SECONDS; log=$OUT/$STAGE.${1//[^a-z0-9]/-}.log; shift
    if "$@" >"$log" 2>&1; then
        pass "$name"; printf '  ok   %s (%s s)\n' "$name" $((SECONDS - t0))
    else
        fail "$name"; tail -n 60 "$log" | sed 's/^/       /'; echo "       all of it: $log"
        return 1
    fi
}

# stage NAME: runs it in a session of its own, so that an interrupt can end all of it: the fleet's
# commands have process groups of their own, but not sessions (only the lab's machines do).
stage() {
    STAGE=$1; STAGE_NR=$((STAGE_NR + 1))
    local t0=$SECONDS p f s word=ok
    p=$(count pass) f=$(count fail) s=$(count skip)
    printf '[%s/%s] %s ...\n' "$STAGE_NR" "$STAGE_OF" "$STAGE"
    setsid "$ROOT/tests/run.sh" _stage "$STAGE" </dev/null & STAGE_PID=$!
    wait "$STAGE_PID" || fail "$STAGE: the stage ended with code $?"
    STAGE_PID=''
    p=$(($(count pass) - p)) f=$(($(count fail) - f)) s=$(($(count skip) - s))
    ((f == 0)) || word=FAILED
    printf '[%s/%s] %s %s: %s passed, %s failed, %s skipped in %s s\n' "$STAGE_NR" "$STAGE_OF" "$STAGE" "$word" "$p" "$f" "$s" $((SECONDS - t0))
}
stage_kill() {                      # ends what an interrupted stage still runs
    [[ -n ${STAGE_PID:-} ]] || return 0
    pkill -TERM -s "$STAGE_PID"
    timeout 10 tail --pid="$STAGE_PID" -s 0.1 -f /dev/null
    pkill -KILL -s "$STAGE_PID"
    STAGE_PID=''
}

report_end() {
    local f; f=$(count fail)
    echo
    ((f == 0)) || { echo "failed:"; sed -n 's/^fail\t/  /p' "$OUT/counts" | sort -u | head -n 40; }
    sed -n 's/^skip\t\([^\t]*\)\t/skipped: \1: /p' "$OUT/counts"
    echo "all stages took $((SECONDS - BEGAN)) s"
    echo "$(count pass) passed, $f failed, $(count skip) skipped"
    ((f == 0))
}

#!/bin/sh
# How the demo talks: a headed step with its seconds; what was done, what was checked, how to check
# it yourself. Programs' own output goes to .demo/log/STEP.log and is shown when a step fails.
# shellcheck disable=SC2154  # count, total: set by demo.sh

# run_step NAME: runs do_NAME unless it is recorded as done.
run_step() {
    if [ -e "$DEMO/steps/$1" ]; then
        printf '[%2d/%d] %-15s done before\n' "$count" "$total" "$1"
        return 0
    fi
    printf '\n[%2d/%d] %s\n' "$count" "$total" "$(title_of "$1")"
    LOG=$DEMO/log/$1.log
    : >"$LOG"
    from=$(date +%s)
    "do_$1" || step_failed "$1"
    : >"$DEMO/steps/$1"
    printf '        %d s\n' $(($(date +%s) - from))
}

title_of() {
    case $1 in
        packages) echo 'Packages this computer needs' ;;
        build) echo 'Building BorgIOS from this checkout' ;;
        servers) echo 'Five fresh Debian servers, each with its own systemd and sshd' ;;
        governors) echo 'Three governors: ann, ben and cleo' ;;
        ceremony) echo 'The key ceremony: a key that nobody holds, 2 of 3 must agree' ;;
        first_release) echo 'release/1: the agent itself is voted' ;;
        first_server) echo 'The first server checks the release with its own tools, then hands its root over' ;;
        adopt_two) echo 'Two more are adopted from a laptop, at once' ;;
        more_servers) echo 'The last two join, each from its own prompt' ;;
        old_ways) echo 'The old ways in are shut' ;;
        broadcast) echo 'A note to every server' ;;
        rotation) echo 'credential/1: a root password that renews itself everywhere, without a server' ;;
        second_release) echo 'release/2: a service is voted, one governor rejects' ;;
        bad_release) echo 'release/3: a release that does not work takes itself back' ;;
        mended_release) echo 'release/4: the next number mends it' ;;
        access) echo 'access/1: the board opens one server, for minutes' ;;
        forgeries) echo 'What was tampered with is refused' ;;
        evict) echo 'member/1: one server is put out, for good' ;;
        reinstall) echo 'Another is reinstalled and joins again; nobody cleans up' ;;
    esac
}

# fail TEXT: the step ends here.
fail() {
    printf 'demo: %s\n' "$*" >&2
    step_failed ''
}
step_failed() {
    [ ! -s "$LOG" ] || { printf 'demo: the last lines of %s:\n' "$LOG" >&2; tail -n 20 "$LOG" >&2; }
    printf 'demo: stopped in this step; mend the cause and run ./bootstrap.sh demo again, it goes on here\n' >&2
    exit 1
}

did()      { printf '        did      %s\n' "$*"; }
checked()  { printf '        checked  %s\n' "$*"; }
yourself() { printf '        yourself %s\n' "$*"; }
shown()    { sed 's/^/          | /'; }

# quiet COMMAND…: runs it with its output in the step's log; the step fails with it.
quiet() { printf '$ %s\n' "$*" >>"$LOG"; "$@" >>"$LOG" 2>&1 </dev/null 9>&- || fail "failed: $*"; }

# eventually SECONDS WHAT COMMAND…: until the command succeeds, or the step fails saying WHAT.
eventually() {
    until_s=$(($(date +%s) + $1)) what=$2
    shift 2
    until "$@" >>"$LOG" 2>&1 </dev/null 9>&-; do
        [ "$(date +%s)" -lt "$until_s" ] || fail "waited too long: $what"
        sleep 1
    done
}

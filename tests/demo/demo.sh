#!/bin/sh
# `./bootstrap.sh demo`: three governors, five servers, the whole story on one computer.
#
# Sourced by bootstrap.sh, from a checkout only. The story is a list of steps; each runs once, is
# recorded when it is done, and is skipped the next time, so a demo that was cut off goes on and a
# demo that is running shows its state. Everything lies in .demo/ and in the lab named `demo`:
#
#   .demo/ann, ben, cleo      runs `borgios` as that governor, on the laptop of the lab
#   .demo/ann.home …          that governor's BORGIOS_HOME     .demo/ann.passphrase …
#   .demo/exchange/           the folder the key ceremony exchanges files through
#   .demo/parts/, release-N/  components before and after `borgios release build`
#   .demo/steps/, log/        what is done, and what each step's programs printed
#
# Files: narrate.sh (how it talks), prepare.sh (packages, build), board.sh (governors), fleet.sh
# (servers), releases.sh (what is voted and installed), root.sh (whose root it is, and how it is left),
# attacks.sh (what is refused).
# shellcheck disable=SC2154  # here: set by bootstrap.sh, which sources this

DEMO=$here/.demo
LAB=$here/tests/lab/lab.sh
LAB_NAME=demo LAB_NET=10.77
export LAB_NAME LAB_NET
SERVERS='1 2 3 4 5'                  # who is a member; fewer once one was evicted
GOVERNORS='ann ben cleo'

# shellcheck source=tests/demo/narrate.sh
. "$here/tests/demo/narrate.sh"
# shellcheck source=tests/demo/prepare.sh
. "$here/tests/demo/prepare.sh"
# shellcheck source=tests/demo/board.sh
. "$here/tests/demo/board.sh"
# shellcheck source=tests/demo/fleet.sh
. "$here/tests/demo/fleet.sh"
# shellcheck source=tests/demo/releases.sh
. "$here/tests/demo/releases.sh"
# shellcheck source=tests/demo/root.sh
. "$here/tests/demo/root.sh"
# shellcheck source=tests/demo/attacks.sh
. "$here/tests/demo/attacks.sh"

# The story, in order: a step's name is its function's name without `do_`.
STORY='packages build servers governors ceremony first_release first_server adopt_two more_servers old_ways broadcast rotation second_release bad_release mended_release access forgeries evict reinstall'

demo_main() {
    case ${1:-} in
        '') [ $# -le 1 ] || demo_usage ;;
        --down | status) [ $# = 1 ] || demo_usage ;;
        *) demo_usage ;;
    esac
    [ "$(id -u)" = 0 ] || die "$EX_PREFLIGHT" "the demo boots servers and needs root: sudo ./bootstrap.sh demo${1:+ $1}"
    umask 022
    case ${1:-} in
        --down) demo_down ;;
        status) demo_status ;;
        *) demo_run ;;
    esac
}

demo_usage() { die "$EX_USAGE" "usage: ./bootstrap.sh demo [--down | status]"; }

demo_run() {
    mkdir -p "$DEMO/steps" "$DEMO/log" || die "$EX_PREFLIGHT" "cannot make $DEMO"
    exec 9>"$DEMO/lock"
    flock -n 9 || die "$EX_PREFLIGHT" "another demo is running here (it holds $DEMO/lock)"
    if demo_complete && fleet_up; then
        say "The demo is complete and its fleet is running."
        demo_status
        return 0
    fi
    # Servers live in memory and processes: after a reboot of this computer the story begins anew.
    if [ -e "$DEMO/steps/servers" ] && ! fleet_up; then
        say "The servers of an earlier demo are gone (a reboot?); beginning anew, the build is kept."
        demo_clear
        mkdir -p "$DEMO/steps" "$DEMO/log"
    fi
    began=$(date +%s)
    total=0
    for name in $STORY; do total=$((total + 1)); done
    count=0
    for name in $STORY; do
        count=$((count + 1))
        run_step "$name"
    done
    say ''
    say "Done in $(($(date +%s) - began)) s. The fleet is running; play with it:"
    demo_status
}

demo_complete() {
    for name in $STORY; do [ -e "$DEMO/steps/$name" ] || return 1; done
}

# The governors, the ceremony and the servers go; build, packages and base image stay.
demo_clear() {
    "$LAB" down 2>/dev/null
    for entry in "$DEMO"/* "$DEMO"/.[!.]*; do
        case ${entry##*/} in bin | lock | base-image) ;; *) rm -rf --one-file-system -- "$entry" ;; esac
    done
}

demo_status() {
    if ! fleet_up; then
        say "No demo is running. Steps recorded in $DEMO: $(find "$DEMO/steps" -type f 2>/dev/null | wc -l)"
        return 0
    fi
    "$LAB" list
    [ ! -x "$DEMO/ann" ] || [ ! -e "$DEMO/steps/more_servers" ] || "$DEMO/ann" tree 9>&-
    cat <<TEXT

  .demo/ann status | tree | nodes | log        the fleet as a governor sees it (also .demo/ben, .demo/cleo)
  .demo/ann broadcast 'hello'                  a note to every server
  .demo/server 1                               a server's console, as its hypervisor has it
  ./bootstrap.sh demo status                   this again
  ./bootstrap.sh demo --down                   removes all of it
TEXT
}

demo_down() {
    [ -d "$DEMO" ] || [ -d "${LAB_DIR:-/var/tmp/borgios-lab}/demo" ] || { say "There is no demo here."; return 0; }
    "$LAB" down || die "$EX_JOIN" "the lab did not go down; see tests/lab/lab.sh check (LAB_NAME=demo)"
    "$LAB" check || die "$EX_JOIN" "something of the lab is left, named above"
    images=${LAB_DIR:-/var/tmp/borgios-lab}
    # The base image goes if the demo built it and no other lab stands on it.
    if [ -e "$DEMO/base-image" ] && ! find "$images" -mindepth 2 -maxdepth 2 -name m | grep -q .; then
        rm -rf --one-file-system -- "$images"
        say "removed $images: the base image, which this demo had built"
    elif [ -d "$images" ]; then
        say "kept    $images: the base image was there before, or another lab uses it"
    fi
    rm -rf --one-file-system -- "$DEMO"
    say "removed $DEMO: governors, keys, components, logs; the servers and their network"
    say "kept    $here/target: cargo's build folder (cargo clean removes it)"
    say "kept    the Debian packages that were installed (./bootstrap.sh demo names them when it installs them)"
}

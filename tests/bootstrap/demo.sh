#!/bin/bash
# The demo's servers are booted by root from a folder that every local account could have made first:
# the lab takes only one that is root's own.
# shellcheck source=tests/bootstrap/fixture.sh
. "$(dirname "${BASH_SOURCE[0]}")/fixture.sh"

# takes NAME yes|no FOLDER: whether the lab's own check takes it. Needs no root: who runs it is its owner.
takes() {
    local said
    said=$(bash -uc 'die() { echo "lab: $*"; exit 1; }; . "$0" && make_folder "$1" && echo taken' "$top/tests/lab/lib/folder.sh" "$3" 2>&1)
    case $2:$said in
        yes:taken | no:lab:*) echo "ok $1" ;;
        *) echo "FAIL $1: said '$said'"; failures=$((failures + 1)) ;;
    esac
}
mkdir -m 755 "$box/own"; takes a_folder_of_its_own yes "$box/own"
mkdir -m 700 "$box/closed"; takes a_closed_folder yes "$box/closed"
takes none_yet yes "$box/new"
check is_made_for_its_owner_alone_to_write [ "$(stat -c %a "$box/new")" = 755 ]
mkdir -m 777 "$box/open"; takes a_folder_for_all_to_write no "$box/open"
mkdir -m 1777 "$box/sticky"; takes a_folder_like_tmp no "$box/sticky"
mkdir "$box/group"; chmod 775 "$box/group"; takes a_folder_for_a_group_to_write no "$box/group"
ln -s "$box/own" "$box/link"; takes a_link no "$box/link"; takes a_link_with_a_slash no "$box/link/"
ln -s "$box/nowhere" "$box/dangling"; takes a_link_to_nothing no "$box/dangling"
check nothing_is_made_through_a_link [ ! -e "$box/nowhere" ]
: >"$box/file"; takes a_file no "$box/file"
theirs=/
if [ "$EUID" = 0 ]; then theirs=$box/theirs; mkdir "$theirs"; chown 1000 "$theirs"; fi
takes a_folder_of_another_account no "$theirs"

# The whole of it, where another account made the lab beforehand, with a disk that leads out of it.
# Nothing may come so far as to boot, mount or build: such programs only note that they were called.
if [ "$EUID" = 0 ]; then
    for program in systemd-nspawn ip nft unshare nsenter setpriv mount debootstrap; do
        stub "$program" "echo $program >>'$box/ran'; exit 1"
    done
    refused() { # NAME TEXT COMMAND…
        local name=$1 text=$2; shift 2
        rm -f "$box/ran"
        out=$(PATH=$box/bin:$PATH LAB_NAME=canary LAB_NET=10.254 LAB_DIR=$box/lab "$top/tests/lab/lab.sh" "$@" 2>&1 </dev/null)
        rc=$?
        expect "$name" 1 "$text" not-run
        check "$name: and touches nothing" [ "$(ls -A "$box/canary"):$(ls -A "$box/theirs/canary"):$(cat "$box/ran" 2>/dev/null)" = 'file:m:' ]
    }
    mkdir "$box/canary"; echo untouched >"$box/canary/file"
    mkdir -p "$box/theirs/canary/m/1/disk" "$box/theirs/canary/m/1/root" "$box/theirs/canary/m/1/seed"
    ln -s "$box/canary" "$box/theirs/canary/m/1/disk/upper"
    : >"$box/theirs/canary/m/1/seed/from-the-seed"
    chown -hR 1000 "$box/theirs"
    ln -s "$box/theirs" "$box/lab"; refused a_lab_that_is_a_link 'is a link' up 1
    refused a_lab_that_is_a_link_goes_down 'is a link' down
    rm "$box/lab"; mv "$box/theirs" "$box/lab"; ln -s "$box/lab" "$box/theirs"
    for command in 'up 1' 'start 1' 'list' 'down' 'base'; do
        # shellcheck disable=SC2086 # words on purpose
        refused "another account's lab: $command" "not a folder of root's own" $command
    done
fi
finish

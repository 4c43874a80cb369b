#!/usr/bin/env bash
# The lab's folder: root mounts, copies and runs what lies in it, so nobody else may have had a hand in it.
#
# By default it lies in /var/tmp, where every local account can make that name before root does.

# own_folder PATH: ends the lab if PATH is there and is not a real folder of ours that only we can write to.
own_folder() {
    local d=${1%/} mode                          # behind a slash a link looks like its folder
    d=${d:-/}
    [[ -e $d || -L $d ]] || return 0
    [[ ! -L $d ]] || die "$d is a link, and must be a folder of root's own: set LAB_DIR to another one"
    [[ -d $d && -O $d ]] || die "$d is not a folder of root's own: set LAB_DIR to another one, or remove it"
    mode=$(stat -c %a -- "$d") || die "cannot look at $d"
    (( (8#$mode & 8#022) == 0 )) || die "$d can be written to by others than root (mode $mode): set LAB_DIR to another one, or remove it"
}
# make_folder PATH: makes it, or finds it made by ourselves. Without -p: of two who make it one fails.
make_folder() {
    [[ -e ${1%/} || -L ${1%/} ]] || (umask 022; mkdir -- "$1") || die "cannot make $1: is the folder above it there?"
    own_folder "$1"
}

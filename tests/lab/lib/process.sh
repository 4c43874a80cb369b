#!/usr/bin/env bash
# Processes, time and machine numbers of the lab: who is who, and is it still that one.
#
# A pid is only ours while its start time is the recorded one: pid numbers are used
# again, and ending a stranger's process would be worse than leaving our own.

ms()   { local t=${EPOCHREALTIME/[.,]/}; echo $((t / 1000)); }
num()  { [[ ${1:-} =~ ^[1-9][0-9]{0,2}$ ]] && ((10#$1 <= 250)) || die "bad machine number: '${1:-}' (1 to 250)"; }
m()    { echo "$ST/m/$1"; }                      # state folder of machine $1
addr() { echo "$NET.1.$1"; }
host() { printf 'vps-%02d' "$1"; }
all()  { local d; for d in "$ST"/m/*; do [[ -d $d ]] && echo "${d##*/}"; done | sort -n; }
lock() { make_folder "$DIR"; mkdir -p "$ST"; exec 9>"$ST/.lock"; flock -w 300 9 || die "the lab '$NAME' is busy"; }

stime() {                                        # start time of process $1, in clock ticks since boot
    local s; s=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    s=${s##*) }; local f; read -ra f <<<"$s"; echo "${f[19]}"
}
save_pid() { echo "$2 $(stime "$2")" >"$1"; }
live_pid() {                                     # FILE -> pid, if it is still that very process
    local p t; read -r p t 2>/dev/null <"$1" || return 1
    [[ -n ${t:-} && "$(stime "$p")" == "$t" ]] || return 1
    [[ "$(sed 's/.*) //; s/ .*//' "/proc/$p/stat" 2>/dev/null)" != Z ]] || return 1
    echo "$p"
}
gone() {                                         # FILE SECONDS: wait till that process has ended
    local end=$(( $(ms) + $2 * 1000 ))
    while live_pid "$1" >/dev/null; do (( $(ms) < end )) || return 1; sleep 0.05; done
}
leader() {                                       # pid (host view) of machine $1's systemd
    local f p; f=$(m "$1")/leader
    if p=$(live_pid "$f"); then echo "$p"; return; fi
    local ns; ns=$(live_pid "$(m "$1")/nspawn") || return 1
    for p in $(ps -o pid= --ppid "$ns"); do      # nspawn's child that is pid 1 of a pid namespace
        # the last NSpid of a nested process is its pid inside; a lab in a container is nested deeper
        if [[ "$(awk '/^NSpid:/{print $NF, (NF > 2)}' "/proc/$p/status" 2>/dev/null)" == "1 1" ]] &&
           [[ "$(cat "/proc/$p/comm" 2>/dev/null)" == systemd ]]; then
            save_pid "$f" "$p"; echo "$p"; return
        fi
    done
    return 1
}
need_leader() { leader "$1" || die "machine $1 is not running"; }

#!/usr/bin/env bash
# A cgroup of its own for every machine, or the systemds would fight over one tree.
#
# Hierarchies we use: v2 (alone, or beside v1), v1 name=systemd, and, for limits and for
# measuring, v1 memory, cpu and devices (as children of OUR OWN cgroup, never a way out of it).
# On a pure v2 host all machines live in /sys/fs/cgroup/borgios-lab-NAME/N.

CG=borgios-lab-$NAME

cg_plan() {                                      # prints one folder per hierarchy for machine $1
    local ctl path root
    while IFS=: read -r _ ctl path; do
        case $ctl in
            name=systemd) root=/sys/fs/cgroup/systemd ;;
            '') if [[ -d /sys/fs/cgroup/unified ]]; then root=/sys/fs/cgroup/unified; else root=/sys/fs/cgroup; fi ;;
            memory|*,memory|memory,*) root=/sys/fs/cgroup/memory ;;
            cpu|cpu,*|*,cpu) root=/sys/fs/cgroup/cpu ;;
            devices) root=/sys/fs/cgroup/devices ;;
            *) continue ;;
        esac
        [[ -w $root/cgroup.procs ]] || continue
        # v2 forbids processes in inner nodes once controllers are on: take the root there
        [[ $root == /sys/fs/cgroup ]] && path=/
        echo "$root${path%/}/$CG/$1"
    done </proc/self/cgroup
}
cg_enter() {                                     # put this shell into machine $1's cgroups
    local d r; cg_plan "$1" >"$(m "$1")/cgroups"
    [[ -s $(m "$1")/cgroups ]] || die "no cgroup hierarchy can be written here: in a container, mount /sys/fs/cgroup read-write"
    while read -r d; do
        mkdir -p "$d" || die "cannot make cgroup $d"
        case $d in
            /sys/fs/cgroup/memory/*) [[ -z ${LAB_MEM:-} ]] || echo "$LAB_MEM" >"$d/memory.limit_in_bytes" ;;
            /sys/fs/cgroup/cpu/*)    [[ -z ${LAB_CPU:-} ]] || echo $((LAB_CPU * 1000)) >"$d/cpu.cfs_quota_us" ;;
            /sys/fs/cgroup/devices/*) # no real device: a machine's root may mknod, but not open, the host's disk
                echo a >"$d/devices.deny"
                for r in 'c *:* m' 'b *:* m' 'c 1:3 rwm' 'c 1:5 rwm' 'c 1:7 rwm' 'c 1:8 rwm' 'c 1:9 rwm' 'c 5:0 rwm' 'c 5:1 rwm' \
                    'c 5:2 rwm' 'c 136:* rwm' 'c 10:200 rwm'; do echo "$r" >"$d/devices.allow"; done ;;
            "/sys/fs/cgroup/$CG"/*)  # pure v2 host: limits live in the same folder
                for r in memory cpu pids; do     # one by one: a controller the host lacks must not cost the others
                    echo "+$r" >/sys/fs/cgroup/cgroup.subtree_control
                    echo "+$r" >"${d%/*}/cgroup.subtree_control"
                done 2>/dev/null
                [[ -z ${LAB_MEM:-} ]] || echo "$LAB_MEM" >"$d/memory.max"
                [[ -z ${LAB_CPU:-} ]] || echo "$((LAB_CPU * 1000)) 100000" >"$d/cpu.max" ;;
        esac
        echo $$ >"$d/cgroup.procs" || die "cannot enter cgroup $d"
    done <"$(m "$1")/cgroups"
}
# Where no devices cgroup stands guard, the machine gets no way to make a device node.
cg_guards_devices() { grep -q '^/sys/fs/cgroup/devices/' "$(m "$1")/cgroups"; }
cg_join() {                                      # put this subshell beside machine $1's own processes
    local d; while read -r d; do
        case $d in */devices/*|*/memory/*|*/cpu/*) echo "$BASHPID" >"$d/cgroup.procs" ;; esac
    done <"$(m "$1")/cgroups"
}
cg_v2() {                                        # the v2 folder of machine $1
    grep -m1 -e '^/sys/fs/cgroup/unified/' -e "^/sys/fs/cgroup/$CG/" "$(m "$1")/cgroups" 2>/dev/null
}
cg_freeze() {                                    # N 0|1
    local d; d=$(cg_v2 "$1") || return 0
    [[ -f $d/payload/cgroup.freeze ]] && d=$d/payload
    [[ -f $d/cgroup.freeze ]] && echo "$2" >"$d/cgroup.freeze"
    return 0
}
cg_frozen() { local d; d=$(cg_v2 "$1") && [[ "$(cat "$d/payload/cgroup.freeze" 2>/dev/null)" == 1 ]]; }
cg_memory() {                                    # what machine $1 holds in memory, as far as the host counts it
    local d
    if d=$(grep -m1 '^/sys/fs/cgroup/memory/' "$(m "$1")/cgroups" 2>/dev/null) && [[ -f $d/memory.stat ]]; then
        awk '$1=="total_rss"{r=$2}$1=="total_cache"{c=$2}END{printf "rss=%.1fM,cache=%.1fM",r/1e6,c/1e6}' "$d/memory.stat"
    elif d=$(cg_v2 "$1") && [[ -f $d/memory.stat ]]; then
        awk '$1=="anon"{r=$2}$1=="file"{c=$2}END{printf "rss=%.1fM,cache=%.1fM",r/1e6,c/1e6}' "$d/memory.stat"
    else echo -; fi
}
cg_kill() { local d; d=$(cg_v2 "$1") && [[ -f $d/payload/cgroup.kill ]] && echo 1 >"$d/payload/cgroup.kill"; return 0; }
# What the last boot left below machine $1's own folder goes before the next one: on kernels from 6.15
# on, a folder that cgroup.kill was once used on kills what a newer systemd spawns from it (exit 9).
cg_wipe() {
    local d; while read -r d; do
        for _ in 1 2 3 4 5 6 7 8 9 10; do
            [[ -n "$(find "$d" -mindepth 1 -type d -print -quit)" ]] || break
            find "$d" -mindepth 1 -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.1
        done
    done <"$(m "$1")/cgroups"
}
cg_clean() {                                     # remove the (empty) cgroups of machine $1
    local d; [[ -f $(m "$1")/cgroups ]] || return 0
    while read -r d; do
        for _ in 1 2 3 4 5 6 7 8 9 10; do        # a cgroup stays busy for a moment after its last process
            [[ -d $d ]] || break
            find "$d" -depth -type d -exec rmdir {} + 2>/dev/null
            [[ -d $d ]] && sleep 0.1
        done
        rmdir "${d%/*}" 2>/dev/null
    done <"$(m "$1")/cgroups"
    return 0
}

#!/usr/bin/env bash
# The lab as a whole: up, list, down, and the proof that nothing is left.

# Each systemd takes ~6 inotify instances, all counted on uid 0; the default of 128 is gone at ~16
# machines. The limit is raised by the first lab and put back by the last one that goes.
INOTIFY=/proc/sys/fs/inotify/max_user_instances
inotify_raise() (
    flock -w 300 8 || exit 1
    (( $(cat $INOTIFY) >= 8192 )) || { cat $INOTIFY >"$DIR/.inotify.before" && echo 8192 >$INOTIFY; }
) 8>"$DIR/.inotify.lock"
inotify_restore() (
    flock -w 300 8 || exit 1
    [[ -f $DIR/.inotify.before ]] || exit 0
    for f in "$DIR"/*/m/*/sup; do [[ $f == "$ST"/* ]] || ! live_pid "$f" >/dev/null || exit 0; done
    cat "$DIR/.inotify.before" >$INOTIFY && rm -f "$DIR/.inotify.before"
) 8>"$DIR/.inotify.lock"

cmd_up() {
    num "${1:-}"; local n=$1 i t t0; t0=$(ms)
    for t in systemd-nspawn ip nft unshare nsenter setpriv ssh-keygen setsid flock; do
        command -v $t >/dev/null || die "$t is missing: apt-get install systemd-container iproute2 nftables openssh-client util-linux"; done
    cmd_base
    lock
    echo "$NET" >"$ST/net"; echo "$BASE" >"$ST/base"
    inotify_raise || note "cannot raise $INOTIFY: more than about 18 machines will not boot"
    [[ -f $ST/id_ed25519 ]] || ssh-keygen -q -t ed25519 -N '' -C lab-owner -f "$ST/id_ed25519" </dev/null
    net_switch
    for i in $(seq 1 "$n"); do
        mkdir -p "$(m "$i")"; net_machine "$i"
        [[ -d $(m "$i")/disk ]] || make_disk "$i"
    done
    for i in $(seq 1 "$n"); do power_on "$i"; done
    for i in $(seq 1 "$n"); do wait_ssh "$i"; done
    note "$n machines up in $(( $(ms) - t0 )) ms"
}
cmd_list() {
    local i p state
    for i in $(all); do
        state=off
        if p=$(leader "$i"); then state=on; cg_frozen "$i" && state=frozen; fi
        printf '%s\t%s\t%s\t%s\tpid=%s\tboots=%s\t%s\tdisk=%sK\n' "$i" "$(host "$i")" "$(addr "$i")" "$state" "${p:--}" \
            "$(cat "$(m "$i")/boots" 2>/dev/null)" "$(cg_memory "$i")" "$(disk_used "$i")"
    done
}
cmd_down() {
    local i p keep=${1:-}; [[ -z $keep || $keep == --keep ]] || die "usage: down [--keep]"
    [[ -d $ST ]] || has_netns "$SW" || return 0
    lock
    for i in $(all); do cg_freeze "$i" 0; done
    # a lab is thrown away: cut the power of all at once (--keep: shut down cleanly, keep the disks)
    for i in $(all); do
        if [[ $keep == --keep ]]; then p=$(live_pid "$(m "$i")/sup") && kill -TERM "$p"
        else p=$(leader "$i") && kill -KILL "$p"; fi
    done
    for i in $(all); do power_off "$([[ $keep == --keep ]] && echo clean || echo cut)" "$i"; done
    delayd_stop
    net_down
    for i in $(all); do cg_clean "$i"; done
    for i in $(all); do rmdir "/run/systemd/nspawn/propagate/$NAME-$(host "$i")" 2>/dev/null; done
    inotify_restore
    if [[ $keep != --keep ]]; then rm -rf --one-file-system "$ST"; fi
    return 0
}
cmd_check() {
    local bad=0 x f
    left() { [[ -z $2 ]] || { note "$1 left: $2"; bad=1; }; }
    x=$(for f in "/run/netns/$NAME"-*; do [[ ${f##*/} =~ ^$NAME-([0-9]+|sw)$ ]] && echo "$f"; done); left netns "$x"
    left mounts "$(grep -F " $ST/" /proc/self/mounts)"
    left loops "$(losetup -nO NAME,BACK-FILE -l 2>/dev/null | grep -F "$ST/")"
    left cgroups "$(find /sys/fs/cgroup -type d -name "$CG" 2>/dev/null)"
    left processes "$(ps -eo pid=,args= | awk -v a="$ST/" -v b="--machine=$NAME-vps" '(index($0, a) || index($0, b)) && !/awk -v a=/')"
    [[ ! -e $ST/m ]] || left state "$ST"
    return $bad
}

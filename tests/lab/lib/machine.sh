#!/usr/bin/env bash
# One machine's life: power, boot, reboot, reinstall, and the supervisor that plays its hardware.
#
#   power_on ──▶ supervisor (own session, private mounts, own cgroup)
#                   └─ loop: systemd-nspawn ─▶ the machine's systemd; exit 133 = reboot, else = off

power_on() {                                     # start machine $1, do not wait for its sshd
    local i=$1 d; d=$(m "$i")
    live_pid "$d/sup" >/dev/null && return 0
    kill_os "$i"; gone "$d/leader" 5; rm -f "$d/leader" "$d/nspawn" "$d/rc"
    # own session, no tty, none of our files open: nobody's lock lives on in a machine
    LAB_DIR=$DIR LAB_NET=$NET LAB_BASE=$BASE setsid unshare --mount --propagation private \
        bash "$SELF" _sup "$i" "$ST/" </dev/null >>"$d/console.log" 2>&1 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&- &
    disown
    for _ in $(seq 3000); do live_pid "$d/sup" >/dev/null && return 0; sleep 0.02; done
    die "supervisor of machine $i did not start, see $d/console.log"
}
cmd__sup() {                                     # (internal) supervisor of machine $1; $2 only shows whose it is in ps
    local i=$1 d up child='' rc off=0 keep=(); d=$(m "$i"); up=$d/disk
    save_pid "$d/sup" $$
    [[ -f $d/disk.img ]] && { mount -o loop "$d/disk.img" "$d/disk" || die "mount of $d/disk.img failed"; }
    mkdir -p "$up/upper" "$up/work"
    [[ -d $d/seed ]] && { cp -a "$d/seed/." "$up/upper/" && rm -rf "$d/seed"; }
    mount -t overlay "$NAME-$i" -o "nodev,lowerdir=$BASE,upperdir=$up/upper,workdir=$up/work" "$d/root" || die "overlay mount failed"
    cg_enter "$i"                                # after the mounts: no block device is open to us from here on
    cg_guards_devices "$i" || keep+=(--drop-capability=CAP_MKNOD)
    trap 'off=1; [[ -n $child ]] && kill -TERM "$child" 2>/dev/null' TERM
    # the machine sees a pure cgroup v2 tree, like a stock Debian server
    export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 UNIFIED_CGROUP_HIERARCHY=1 SYSTEMD_LOG_TARGET=console
    while :; do
        echo "=== $(date -u +%FT%TZ) power on $(host "$i")"
        rm -f "$d/leader"; cg_wipe "$i"; net_reset "$i"; net_power "$i" on
        echo $(( $(cat "$d/boots" 2>/dev/null || echo 0) + 1 )) >"$d/boots"
        systemd-nspawn --quiet --directory="$d/root" --machine="$NAME-$(host "$i")" --hostname="$(host "$i")" \
            --uuid="$(cat "$d/root/etc/machine-id" 2>/dev/null)" \
            --network-namespace-path="/run/netns/$NAME-$i" --capability=CAP_NET_ADMIN "${keep[@]}" \
            --register=no --keep-unit --link-journal=no --resolv-conf=off --timezone=off \
            --console=read-only --boot &
        child=$!; save_pid "$d/nspawn" "$child"
        for _ in $(seq 3000); do leader "$i" >/dev/null && break; kill -0 "$child" 2>/dev/null || break; sleep 0.02; done
        while :; do wait "$child"; rc=$?; kill -0 "$child" 2>/dev/null || break; done
        kill_os "$i"                             # if nspawn itself was killed, its container lives on: end it
        echo "=== $(date -u +%FT%TZ) nspawn ended rc=$rc"; echo "$rc" >"$d/rc"
        # 133: the OS asked for a reboot (nspawn --keep-unit leaves the restart to us); all else = power off
        [[ $rc == 133 && $off == 0 ]] || break
    done
    net_power "$i" off
    rm -f "$d/nspawn" "$d/leader"
}
kill_os() {                                      # SIGKILL machine $1's pid 1 and all that is in its cgroup
    local p; p=$(leader "$1") && kill -KILL "$p" 2>/dev/null
    cg_kill "$1"
}
wait_ssh() {                                     # machine $1's sshd says hello
    local end=$(( $(ms) + TIMEOUT * 1000 )) b
    while (( $(ms) < end )); do
        b=$(sw timeout 2 bash -c "exec 3<>/dev/tcp/$(addr "$1")/22 && head -c 4 <&3" 2>/dev/null)
        [[ $b == SSH- ]] && { leader "$1" >/dev/null && return 0; }
        live_pid "$(m "$1")/sup" >/dev/null || die "machine $1 went off while booting, see $(m "$1")/console.log"
        sleep 0.1
    done
    die "machine $1: no sshd after $TIMEOUT s, see $(m "$1")/console.log"
}
power_off() {                                    # HOW(clean|cut) N
    local how=$1 i=$2 d p; d=$(m "$i")
    if [[ $how == clean ]]; then
        p=$(live_pid "$d/sup") && kill -TERM "$p"
        gone "$d/sup" 30 || how="cut"
    fi
    if [[ $how == "cut" ]]; then
        # kill the machine's pid 1: the kernel then kills all its processes at once; nspawn sees it and ends
        kill_os "$i"
        gone "$d/sup" 5 || { p=$(live_pid "$d/nspawn") && kill -KILL "$p"; p=$(live_pid "$d/sup") && kill -KILL "$p"; }
        gone "$d/sup" 5; gone "$d/nspawn" 5; gone "$d/leader" 5
    fi
    net_power "$i" off
    live_pid "$d/leader" >/dev/null && die "machine $i would not go off"
    live_pid "$d/sup" >/dev/null && die "machine $i's supervisor would not end"
    rm -f "$d/leader" "$d/nspawn" "$d/sup"
    return 0
}

need_disk()  { num "$1"; [[ -d $(m "$1")/disk ]] || die "no machine $1: bring it up first"; }
cmd_start()  { need_disk "${1:-}"; power_on "$1"; wait_ssh "$1"; }
cmd_stop()   { need_disk "${1:-}"; cg_freeze "$1" 0; power_off clean "$1"; }
cmd_kill()   { need_disk "${1:-}"; cg_freeze "$1" 0; power_off cut "$1"; }
cmd_freeze() { num "${1:-}"; need_leader "$1" >/dev/null || exit 1; cg_freeze "$1" 1; }
cmd_thaw()   { num "${1:-}"; cg_freeze "$1" 0; }
cmd_reboot() {
    need_disk "${1:-}"; local d b t0; d=$(m "$1"); b=$(cat "$d/boots"); t0=$(ms)
    inside "$1" systemctl --no-block reboot || die "reboot refused"
    while (( $(cat "$d/boots") == b )); do
        (( $(ms) - t0 < TIMEOUT * 1000 )) || die "machine $1 did not reboot in $TIMEOUT s"; sleep 0.05; done
    wait_ssh "$1"; note "machine $1 rebooted in $(( $(ms) - t0 )) ms"
}
cmd_reinstall() {
    need_disk "${1:-}"; local t0; t0=$(ms); lock; cg_freeze "$1" 0
    power_off cut "$1"; make_disk "$1"; power_on "$1"; wait_ssh "$1"
    note "machine $1 reinstalled in $(( $(ms) - t0 )) ms"
}
cmd_log()  { num "${1:-}"; cat "$(m "$1")/console.log"; }
cmd_ip()   { num "${1:-}"; addr "$1"; }
cmd_pid()  { num "${1:-}"; need_leader "$1"; }
cmd_root() { num "${1:-}"; local p; p=$(need_leader "$1") || exit 1; echo "/proc/$p/root"; }

#!/usr/bin/env bash
# Delay where the kernel has no sch_netem: NFQUEUE in the switch, and delayd.py behind it.

delayd_apply() {                                 # (re)load the delay table, start or end the daemon
    local f i p; cat "$ST"/m/*/netem >"$ST/delays.tmp" 2>/dev/null; mv "$ST/delays.tmp" "$ST/delays"
    [[ -s $ST/delays ]] || { delayd_stop; return; }
    for p in iptables python3; do command -v $p >/dev/null || die "$p is missing: delays on this kernel need it"; done
    sw iptables -w -F FORWARD
    for f in "$ST"/m/*/netem; do
        i=${f%/netem}; i=${i##*/}
        sw iptables -w -A FORWARD -m physdev --physdev-is-bridged --physdev-in "v$i" -j NFQUEUE --queue-num 7 --queue-bypass &&
            sw iptables -w -A FORWARD -m physdev --physdev-is-bridged --physdev-out "v$i" -j NFQUEUE --queue-num 7 --queue-bypass ||
            die "iptables refused the delay of machine $i"
    done
    if p=$(live_pid "$ST/delayd"); then kill -HUP "$p"; return; fi
    rm -f "$ST/delayd"
    setsid ip netns exec "$SW" python3 "$HERE/delayd.py" "$ST/delays" </dev/null >"$ST/delayd.log" 2>&1 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&- &
    save_pid "$ST/delayd" $!; disown
    for _ in $(seq 1200); do grep -q ready "$ST/delayd.log" && return; sleep 0.05; done
    die "delayd did not start: $(cat "$ST/delayd.log")"
}
delayd_stop() {
    local p; has_netns "$SW" && sw iptables -w -F FORWARD 2>/dev/null
    p=$(live_pid "$ST/delayd") && { kill -TERM "$p"; gone "$ST/delayd" 3 || kill -KILL "$p"; }
    rm -f "$ST/delayd" "$ST/delays"
    return 0
}

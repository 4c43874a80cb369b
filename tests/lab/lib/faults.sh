#!/usr/bin/env bash
# Faults of network and clock: partition, cable, loss, rate, a shifted wall clock; and heal.

expand() {                                       # "1-3,7" -> 1 2 3 7
    local p; for p in ${1//,/ }; do
        if [[ $p =~ ^([0-9]+)-([0-9]+)$ ]]; then seq "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}"
        elif [[ $p =~ ^[0-9]+$ ]]; then echo "$p"; else die "bad group '$1', e.g. 1-3,7"; fi; done
}
# shellcheck disable=SC2086 # one word per machine
nftset() { local s; s=$(expand "$1") || exit 1; s=$(printf '"v%s",' $s); echo "{${s%,}}"; }

cmd_partition() {
    [[ $# == 2 ]] || die "usage: partition A B, e.g. partition 1-3 4,5"
    local a b; a=$(nftset "$1") || exit 1; b=$(nftset "$2") || exit 1
    sw nft "add rule bridge borgios_lab part iifname $a oifname $b drop; add rule bridge borgios_lab part iifname $b oifname $a drop" ||
        die "the switch refused the partition"
}
cmd_link() {
    num "${1:-}"; [[ ${2:-} == up || ${2:-} == down ]] || die "usage: link N up|down"
    ip -n "$SW" link set "v$1" "$2"
}
cmd_heal() {
    local i; nft_init
    for i in $(all); do ip -n "$SW" link set "v$i" up; netem_clear "$i"; done
    delayd_stop
}
netem_clear() {
    local i=$1 h; rm -f "$(m "$i")/netem"
    sw tc qdisc del dev "v$i" root 2>/dev/null; ip netns exec "$NAME-$i" tc qdisc del dev eth0 root 2>/dev/null
    for h in $(sw nft -a list chain bridge borgios_lab loss 2>/dev/null | sed -n "s/.*\"v$i\" .*# handle \([0-9]*\)/\1/p"); do
        sw nft delete rule bridge borgios_lab loss handle "$h"; done
    return 0
}
# netem: kernel sch_netem where there is one; else loss = nft random drop, rate = tbf,
# delay/jitter = NFQUEUE + a small user-space daemon (delayd.py) that holds the verdicts back.
cmd_netem() {
    num "${1:-}"; local i=$1 kv loss='' delay='' jit='' rate='' net=() t; shift
    netem_clear "$i"
    for kv in "$@"; do case $kv in
        loss=*) loss=${kv#*=}; loss=${loss%\%} ;; delay=*) delay=${kv#*=}; delay=${delay%ms} ;;
        jitter=*) jit=${kv#*=}; jit=${jit%ms} ;; rate=*) rate=${kv#*=} ;; *) die "netem: unknown '$kv'" ;; esac; done
    if [[ $# -gt 0 && -z ${LAB_NO_NETEM:-} ]] && sw tc qdisc add dev "v$i" root netem delay 0ms 2>/dev/null; then
        [[ -n $delay || -n $jit ]] && net+=(delay "${delay:-0}ms" ${jit:+"${jit}ms"})
        [[ -n $loss ]] && net+=(loss "$loss%"); [[ -n $rate ]] && net+=(rate "$rate")
        sw tc qdisc replace dev "v$i" root netem "${net[@]}" &&
            ip netns exec "$NAME-$i" tc qdisc replace dev eth0 root netem "${net[@]}" || die "netem refused: ${net[*]}"
        return
    fi
    if [[ -n $loss ]]; then
        t=$(awk -v l="$loss" 'BEGIN{printf "%d",l*100}')
        sw nft "add rule bridge borgios_lab loss iifname \"v$i\" numgen random mod 10000 < $t drop; add rule bridge borgios_lab loss oifname \"v$i\" numgen random mod 10000 < $t drop" ||
            die "the switch refused loss=$loss"
    fi
    if [[ -n $rate ]]; then
        sw tc qdisc replace dev "v$i" root tbf rate "$rate" burst 32k latency 200ms &&
            ip netns exec "$NAME-$i" tc qdisc replace dev eth0 root tbf rate "$rate" burst 32k latency 200ms || die "tbf refused rate=$rate"
    fi
    if [[ -n $delay || -n $jit ]]; then
        echo "$(ip -n "$SW" -o link show "v$i" | cut -d: -f1) ${delay:-0} ${jit:-0}" >"$(m "$i")/netem"
    fi
    delayd_apply
}

cmd_skew() {
    num "${1:-}"; [[ $# == 3 ]] || die "usage: skew N UNIT OFFSET, e.g. skew 1 borgiosd +3600s"
    local u=$2; [[ $u == *.* ]] || u+=.service
    # shellcheck disable=SC2016 # for the machine's shell
    inside "$1" sh -c '
        d=/etc/systemd/system/$1.d
        if [ "$2" = 0 ]; then rm -f "$d/99-skew.conf"
        else
            lib=$(ls /usr/lib/*/faketime/libfaketime.so.1) || exit 1
            mkdir -p "$d" && printf "[Service]\nEnvironment=LD_PRELOAD=%s\nEnvironment=FAKETIME=%s FAKETIME_DONT_FAKE_MONOTONIC=1 FAKETIME_DONT_RESET=1\n" "$lib" "$2" >"$d/99-skew.conf"
        fi
        systemctl daemon-reload && systemctl restart "$1"' - "$u" "$3"
}

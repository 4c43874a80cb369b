#!/usr/bin/env bash
# The lab's network: one netns with a bridge (the switch, and the owner's laptop), one netns per machine.
#
# Nothing here touches the host's own network: every link is made inside the lab's namespaces.

sw()        { ip netns exec "$SW" "$@"; }
has_netns() { [[ -e /run/netns/$1 ]]; }

net_switch() {
    has_netns "$SW" && return
    ip netns add "$SW" || die "cannot make netns $SW"
    ip -n "$SW" link set lo up
    ip -n "$SW" link add br0 type bridge forward_delay 0 || die "cannot make a bridge: does the kernel have it?"
    ip -n "$SW" addr add "$NET.0.1/16" dev br0
    ip -n "$SW" link set br0 up
    nft_init
}
net_machine() {                                  # netns + veth + address for machine $1
    local i=$1 ns=$NAME-$1
    has_netns "$ns" && return
    ip netns add "$ns" || die "cannot make netns $ns"
    ip link add eth0 netns "$ns" address "$(printf '02:77:00:00:01:%02x' "$i")" type veth peer name "v$i" netns "$SW" ||
        die "cannot make the cable of machine $i"
    ip -n "$SW" link set "v$i" up                # joins br0 when the machine gets power
}
net_reset() {                                    # a boot starts with a clean network stack
    local ns=$NAME-$1
    ip netns exec "$ns" nft flush ruleset 2>/dev/null
    ip -n "$ns" addr flush dev eth0; ip -n "$ns" route flush table main
    ip -n "$ns" link set lo up; ip -n "$ns" link set eth0 up
    ip -n "$ns" addr add "$(addr "$1")/16" dev eth0
    ip -n "$ns" route add default via "$NET.0.1" # leads nowhere: the switch does not forward
}
net_power() {                                    # N on|off: a powered-off machine answers no ping
    if [[ $2 == on ]]; then ip -n "$SW" link set "v$1" master br0
    else ip -n "$SW" link set "v$1" nomaster 2>/dev/null; fi
    return 0
}
nft_init() {                                     # empty rule set of the switch
    command -v nft >/dev/null || die "nft is missing: apt-get install nftables"
    sw nft -f - <<-NFT || die "nft refused the switch's rule set"
	table bridge borgios_lab
	delete table bridge borgios_lab
	table bridge borgios_lab {
	    chain loss { type filter hook forward priority -10; }
	    chain part { type filter hook forward priority 0; }
	}
	NFT
}
net_down() {                                     # the namespaces, and with them bridge, cables and rules
    local f; for f in "/run/netns/$NAME"-*; do
        [[ ${f##*/} =~ ^$NAME-([0-9]+|sw)$ ]] && ip netns del "${f##*/}"
    done
    return 0
}

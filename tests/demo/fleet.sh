#!/bin/sh
# The demo's servers: booted by the lab, adopted or joined with bootstrap.sh, asked over their sockets.
#
# Once its root is handed over nobody logs in to a server any more; what is looked at from then on is
# looked at as the hypervisor of a machine can, through its console.
# shellcheck disable=SC2154  # here, DEMO, LAB, SERVERS: set by bootstrap.sh and demo.sh

SERVER_CLI=/opt/borgios/current/agent/files/bin/borgios

address() { printf '%s.1.%s' "$LAB_NET" "$1"; }
hostname_of() { printf 'vps-%02d' "$1"; }

# on N COMMAND: a line for the shell of server N's console.
on() { "$LAB" exec "$1" sh -c "$2" 9>&-; }

# All five answer as running machines.
fleet_up() { [ "$("$LAB" list 2>/dev/null | cut -f4 | grep -cx on)" = 5 ]; }

# status_of N FILTER: a value of the agent's own status on server N.
status_of() { on "$1" "$SERVER_CLI status --json" </dev/null | jq -r "$2"; }
# status_is N FILTER: whether the filter is true of it.
status_is() { on "$1" "$SERVER_CLI status --json" </dev/null | jq -e "$2"; }

# everywhere SECONDS WHAT FILTER: until the filter is true on every server.
everywhere() {
    for n in $SERVERS; do eventually "$1" "$2 on $(hostname_of "$n")" status_is "$n" "$3"; done
}

do_servers() {
    images=${LAB_DIR:-/var/tmp/borgios-lab}
    [ -d "$images" ] || : >"$DEMO/base-image"
    did "tests/lab/lab.sh up 5 (the first time it makes a Debian image with debootstrap, about a minute)"
    quiet "$LAB" up 5
    for n in $SERVERS; do
        checked "$(hostname_of "$n") at $(address "$n"): $(on "$n" 'systemctl --version | head -n 1; systemctl is-system-running' </dev/null | tr '\n' ' ')"
    done
    for n in $SERVERS; do
        by_key "$n" >>"$LOG" 2>&1 || fail "the owner's key does not open $(hostname_of "$n")"
        su_opens "$n" original || fail "su does not take the owner's password on $(hostname_of "$n")"
    done
    checked "their owner's key and password open root on each, by ssh and by su"
    cat >"$DEMO/server" <<TEXT
#!/bin/sh
# \`server N [COMMAND]\`: the console of server N of the demo; made by ./bootstrap.sh demo.
# One word goes to the server's shell as it is; of several, each is an argument.
export LAB_NAME=$LAB_NAME LAB_NET=$LAB_NET LAB_DIR='${LAB_DIR:-/var/tmp/borgios-lab}'
number=\${1:-1}
[ \$# = 0 ] || shift
case \$# in
    0) exec '$LAB' exec "\$number" sh -il ;;
    1) exec '$LAB' exec "\$number" sh -c "\$1" ;;
    *) exec '$LAB' exec "\$number" "\$@" ;;
esac
TEXT
    chmod 755 "$DEMO/server"
    yourself ".demo/server 1 systemctl list-units"
}

# join_server N [FLAGS]: pushes script and invitation to it and joins as its owner would.
join_server() {
    name=$(hostname_of "$1")
    for file in "$here/bootstrap.sh" "$DEMO/invite.json"; do
        quiet "$LAB" cp "$file" "$1:/root/${file##*/}"
    done
    # --yes: that it is a container, whose host is root in it, is a warning of the plan.
    line="./bootstrap.sh join --invite invite.json ${2:+$2 }--hand-over $name --yes --advertise $(address "$1"):7117"
    did "on $name: $line"
    code=0
    try_join "$1" || code=$?
    if grep -q 'another bootstrap.sh is running' "$DEMO/log/join-$1.log"; then
        # That of an earlier run of this step, which was cut off; it ends by itself.
        eventually 240 "the end of an earlier join on $name" on "$1" 'flock -n /var/lib/borgios-bootstrap/lock true'
        code=0
        try_join "$1" || code=$?
    fi
    cat "$DEMO/log/join-$1.log" >>"$LOG"
    # 10: joined by an earlier run of this step that was cut off.
    case $code in 0 | 10) ;; *) fail "join on $name ended with exit code $code" ;; esac
    quiet "$LAB" exec "$1" rm -f /root/invite.json /root/bundle.tar
}

do_first_server() {
    as ann invite --first --uses 1 --for 12h --out "$DEMO/invite.json" --exchange "$DEMO/exchange"
    did "ann: borgios invite --first --uses 1 --for 12h: nobody is there to join through yet"
    quiet "$LAB" cp "$DEMO/bundle.tar" 1:/root/bundle.tar
    join_server 1 '--bundle bundle.tar'
    shown_part '/^== verify/,/^$/p' "$DEMO/log/join-1.log"
    shown_part '/^RECEIPT/,/^  now/p' "$DEMO/log/join-1.log"
    for who in $GOVERNORS; do
        as "$who" connect "$(address 1):7117"
        as "$who" sync
    done
    checked "vps-01 is the root of a tree of one, which gives it no say in anything"
    checked "its keeper verified the chain itself: $(status_of 1 '"policy/\(.keeper.heads.policy.seq), release/\(.keeper.heads.release.seq)"')"
    yourself ".demo/server 1 systemctl status borgiosd borgios-keeper"
}

try_join() { on "$1" "cd /root && $line" </dev/null >"$DEMO/log/join-$1.log" 2>&1; }

shown_part() { sed -n "$1" "$2" | shown; }

# From their owner's laptop, over ssh: the script, the invitation and the bundle go along, so that
# the servers need no Internet.
do_adopt_two() {
    as ann invite --uses 2 --for 12h --out "$DEMO/invite.json"
    did "ann: borgios invite --uses 2 --for 12h"
    laptop_ssh
    set -- adopt "root@$(address 2)" "root@$(address 3)" --advertise dialled --invite "$DEMO/invite.json" --bundle "$DEMO/bundle.tar"
    did "ann: borgios $*"
    adopt "$@" --hand-over "$(address 2)=vps-02" --hand-over "$(address 3)=vps-03" --yes
    shown <"$DEMO/answer"
    quiet rm -f "$DEMO/invite.json"
    eventually 60 "three servers in one tree" tree_of 3
    checked "both are in the tree, and their roots are the network's"
    yourself ".demo/ann nodes; .demo/server 2 cat /var/lib/borgios-bootstrap/receipt.txt"
}

do_more_servers() {
    as ann blob put "$DEMO/bundle.tar"
    url=http://$(address 1):7117/blobs/$(sha256sum <"$DEMO/bundle.tar" | cut -d' ' -f1)
    did "ann: borgios blob put bundle.tar: vps-01 hands the bundle on, and need not be trusted with it"
    as ann invite --uses 2 --for 12h --url "$url" --out "$DEMO/invite.json"
    did "ann: borgios invite --uses 2 --for 12h --url $url"
    for n in 4 5; do join_server "$n"; done
    everywhere 60 "a place in the tree" '.tree.state == "attached"'
    eventually 60 "five servers in one tree" tree_of 5
    checked "one tree, five servers:"
    "$DEMO/ann" tree </dev/null 9>&- 2>>"$LOG" | shown
    # From now on each governor talks to another server: which one makes no difference.
    n=0
    for who in $GOVERNORS; do
        n=$((n + 1))
        as "$who" connect "$(address "$n"):7117"
    done
    did "ann, ben and cleo each talk to another server from now on: borgios connect HOST:7117"
    yourself ".demo/ann tree; .demo/ben nodes; .demo/server 4 ./bootstrap.sh status"
}

# tree_of N: the tree as ann sees it has so many servers.
tree_of() { [ "$("$DEMO/ann" tree --json 2>/dev/null | jq '.nodes | length')" = "$1" ]; }

do_broadcast() {
    words="hello from ann at $(date -u '+%F %T') UTC"
    as ann broadcast "$words"
    did "ann, through vps-01: borgios broadcast '$words'"
    for n in $SERVERS; do
        eventually 30 "the note on $(hostname_of "$n")" has_note "$n" "$words"
        checked "$(hostname_of "$n") has it"
    done
    yourself ".demo/server 3 curl -s --unix-socket /run/borgios/api.sock -d '{\"get\":\"objects\",\"kind\":\"note\"}' http://agent/v1"
}

has_note() {
    on "$1" "curl -s --unix-socket /run/borgios/api.sock -d '{\"get\":\"objects\",\"kind\":\"note\"}' http://agent/v1" </dev/null | grep -qF "$2"
}

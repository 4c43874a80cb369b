#!/bin/sh
# The demo's servers: booted by the lab, joined over ssh with bootstrap.sh, asked over their sockets.
# shellcheck disable=SC2154  # here: set by bootstrap.sh

address() { printf '%s.1.%s' "$LAB_NET" "$1"; }
hostname_of() { printf 'vps-%02d' "$1"; }

# on N COMMAND…: as root on server N, over ssh.
on() { "$LAB" sshkey "$@" 9>&-; }

# All three answer as running machines.
fleet_up() { [ "$("$LAB" list 2>/dev/null | cut -f4 | grep -cx on)" = 3 ]; }

do_servers() {
    images=${LAB_DIR:-/var/tmp/borgios-lab}
    [ -d "$images" ] || : >"$DEMO/base-image"
    did "tests/lab/lab.sh up 3 (the first time it makes a Debian image with debootstrap, about a minute)"
    quiet "$LAB" up 3
    for n in $SERVERS; do
        checked "$(hostname_of "$n") at $(address "$n"): $(on "$n" 'systemctl --version | head -n 1; systemctl is-system-running' </dev/null | tr '\n' ' ')"
    done
    yourself "LAB_NAME=demo tests/lab/lab.sh ssh 1 systemctl list-units   (password: original)"
}

do_join() {
    for n in $SERVERS; do
        name=$(hostname_of "$n")
        for file in "$here/bootstrap.sh" "$DEMO/bundle.tar" "$DEMO/invite.json"; do
            quiet "$LAB" cp "$file" "$n:/root/${file##*/}"
        done
        # --yes: a container, whose host is root in it, is one of the things plan warns about.
        did "on $name: ./bootstrap.sh join --invite invite.json --bundle bundle.tar --hand-over $name --yes --advertise $(address "$n"):7117"
        printf '$ join on %s\n' "$name" >>"$LOG"
        on "$n" "cd /root && ./bootstrap.sh join --invite invite.json --bundle bundle.tar --hand-over $name --yes --advertise $(address "$n"):7117" \
            </dev/null >"$DEMO/log/join-$n.log" 2>&1 ||
            { cat "$DEMO/log/join-$n.log" >>"$LOG"; fail "join on $name ended with exit code $?"; }
        cat "$DEMO/log/join-$n.log" >>"$LOG"
        [ "$n" != 1 ] || sed -n '/^== verify/,/^$/p; /^== done/,$p' "$DEMO/log/join-1.log" | shown
        quiet "$LAB" exec "$n" rm -f /root/invite.json /root/bundle.tar
    done
    eventually 60 "three servers in one tree" tree_has 3
    checked "one tree, three servers:"
    "$DEMO/ann" tree 9>&- </dev/null | shown
    yourself ".demo/ann tree; LAB_NAME=demo tests/lab/lab.sh ssh 2 ./bootstrap.sh status"
}

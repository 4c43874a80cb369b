#!/bin/sh
# Whose root it is: the old ways in, the password that renews itself, the board's door, and leaving.
# shellcheck disable=SC2154  # DEMO, LAB, SERVERS, GOVERNORS: set by demo.sh

# laptop_ssh: how the owner's laptop reaches fresh servers: their keys known, their owner's key used.
laptop_ssh() {
    mkdir -p "$DEMO/laptop/.ssh" && chmod 700 "$DEMO/laptop" "$DEMO/laptop/.ssh"
    lab_state=${LAB_DIR:-/var/tmp/borgios-lab}/$LAB_NAME
    cat >"$DEMO/laptop/.ssh/config" <<TEXT
Host $LAB_NET.1.*
    IdentityFile $lab_state/id_ed25519
    IdentitiesOnly yes
    UserKnownHostsFile $lab_state/known_hosts
    StrictHostKeyChecking yes
TEXT
}

# adopt ARGS…: `borgios adopt` on the laptop, whose ssh reads .demo/laptop/.ssh/config.
adopt() {
    printf '$ ann %s\n' "$*" >>"$LOG"
    "$LAB" run env HOME="$DEMO/laptop" BORGIOS_SSH_CONFIG="$DEMO/laptop/.ssh/config" BORGIOS_HOME="$DEMO/ann.home" "$DEMO/bin/borgios" "$@" \
        --ssh-config "$DEMO/laptop/.ssh/config" </dev/null 9>&- >"$DEMO/answer" 2>"$DEMO/talk" || {
        cat "$DEMO/answer" "$DEMO/talk" >>"$LOG"
        fail "ann: borgios $*"
    }
    cat "$DEMO/answer" "$DEMO/talk" >>"$LOG"
}

# by_key N: a login with the key that opened it before, whatever its host key is now.
by_key() {
    "$LAB" run ssh -o BatchMode=yes -o IdentitiesOnly=yes -o ConnectTimeout=10 -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
        -o LogLevel=ERROR -i "${LAB_DIR:-/var/tmp/borgios-lab}/$LAB_NAME/id_ed25519" "root@$(address "$1")" hostname </dev/null 9>&-
}

# refused_by_sshd N: neither the old password nor the owner's key opens it any more.
refused_by_sshd() {
    if by_key "$1" >>"$LOG" 2>&1; then fail "the owner's key still opens $(hostname_of "$1")"; fi
    if "$LAB" ssh "$1" true </dev/null 9>&- >>"$LOG" 2>&1; then fail "the old password still opens $(hostname_of "$1")"; fi
}

# su_opens N PASSWORD: whether the password opens root for an unprivileged user on the server's console.
su_opens() {
    printf '%s\n' "$2" | "$LAB" exec "$1" runuser -u nobody -- su root -c 'id -u' 9>&- 2>>"$LOG" | grep -qx 0
}

do_old_ways() {
    for n in $SERVERS; do
        refused_by_sshd "$n"
        if su_opens "$n" original; then fail "su still takes the old password on $(hostname_of "$n")"; fi
        checked "$(hostname_of "$n"): the old password and the owner's key are refused by sshd, the password by su too"
    done
    yourself "LAB_NAME=demo tests/lab/lab.sh ssh 3   (asks with the old password)"
}

# vote_place WHO WHO PLACE: two governors look at it and approve; then it is signed.
vote_place() {
    place=$3
    for who in "$1" "$2"; do
        eventually 60 "$place in $who's inbox" place_reviewed "$who" "$place"
        place_signed "$who" "$place" >>"$LOG" 2>&1 || as "$who" vote "$place" approve
        did "$who: borgios review $place; borgios vote $place approve"
    done
    eventually 60 "$place signed" place_signed "$2" "$place"
}
place_reviewed() { "$DEMO/$1" review "$2" || place_signed "$1" "$2"; }
place_signed() {
    "$DEMO/$1" sync </dev/null 9>&- && "$DEMO/$1" --json log "${2%/*}" </dev/null 9>&- | jq -e "any(.[]; .place == \"$2\")"
}
# place_open WHO PLACE: proposed or signed by an earlier run of the step.
place_open() {
    "$DEMO/$1" --json inbox </dev/null 9>&- 2>>"$LOG" | jq -e --arg place "$2" 'any(.open[]; .place == $place)' >/dev/null || place_signed "$1" "$2" >>"$LOG" 2>&1
}

epoch_of() { status_of "$1" .keeper.credential.epoch; }
epoch_is_past() { [ "$(epoch_of "$1")" -gt "$2" ]; }

do_rotation() {
    place_open ann credential/1 || as ann credential schedule --every 60s --epochs 240 --jitter 5s --note 'a new root password every minute, so that you can watch'
    did "ann: borgios credential schedule --every 60s --epochs 240 --jitter 5s"
    eventually 60 "the proposal at ben's server" place_reviewed ben credential/1
    "$DEMO/ben" review credential/1 </dev/null 9>&- 2>>"$LOG" | shown
    vote_place ann ben credential/1
    everywhere 60 "a verifier of the schedule" '.keeper.credential.epoch >= 1'
    first=$(epoch_of 1)
    checked "every server carries the verifier of epoch $first; none of them knows the password"
    for n in $SERVERS; do eventually 90 "the next epoch on $(hostname_of "$n")" epoch_is_past "$n" "$first"; done
    checked "a minute later every server has moved on, each by itself: epoch $(epoch_of 1)"
    as cleo credential status
    shown <"$DEMO/answer"
    yourself ".demo/cleo credential status; .demo/server 2 journalctl -o cat BORGIOS_EVENT=rotated"
}

# enter N: stock ssh with ann's key and the board's certificate.
enter() {
    # shellcheck disable=SC2016 # read by ssh
    "$LAB" run ssh -o BatchMode=yes -o IdentitiesOnly=yes -o ConnectTimeout=10 -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
        -o LogLevel=ERROR -i "$DEMO/door/id" -o CertificateFile="$DEMO/door/id-cert.pub" "root@$(address "$1")" 'id -un; hostname' </dev/null 9>&-
}

do_access() {
    mkdir -p "$DEMO/door"
    [ -s "$DEMO/door/id" ] || quiet ssh-keygen -q -t ed25519 -N '' -C 'ann, for an hour' -f "$DEMO/door/id"
    place_open ann access/1 || as ann access request --node vps-03 --for 15m --key "$DEMO/door/id.pub" --reason 'the shop says it is slow'
    did "ann: borgios access request --node vps-03 --for 15m --key id.pub --reason 'the shop says it is slow'"
    if enter 3 >>"$LOG" 2>&1; then fail "vps-03 is open before anybody voted"; fi
    eventually 60 "the request at cleo's server" place_reviewed cleo access/1
    "$DEMO/cleo" review access/1 </dev/null 9>&- 2>>"$LOG" | shown
    vote_place cleo ben access/1
    as ann sync
    as ann access cert access/1 --out "$DEMO/door"
    eventually 60 "the door of vps-03" enter 3
    checked "stock ssh with the board's certificate: $(enter 3 2>>"$LOG" | tr '\n' ' ')"
    for n in 1 2 4 5; do
        if enter "$n" >>"$LOG" 2>&1; then fail "the certificate for vps-03 opens $(hostname_of "$n")"; fi
    done
    checked "the same certificate is refused by every other server"
    ssh-keygen -L -f "$DEMO/door/id-cert.pub" 2>>"$LOG" | sed -n '2,12p' | shown
    place_open ben access/2 || as ben access revoke 1 --reason 'it was the disk; done'
    did "ben: borgios access revoke 1 --reason 'it was the disk; done'"
    vote_place ann ben access/2
    eventually 60 "the closed door of vps-03" shut 3
    checked "revoked before its time: vps-03 refuses it"
    yourself "ssh-keygen -L -f .demo/door/id-cert.pub; .demo/ann access list; .demo/server 3 journalctl -u ssh -o cat"
}
shut() { ! enter "$1"; }

do_evict() {
    place_open ann member/1 || as ann evict vps-05 --reason 'its hypervisor was broken into'
    did "ann: borgios evict vps-05 --reason 'its hypervisor was broken into'"
    vote_place ann ben member/1
    SERVERS='1 2 3 4'
    eventually 90 "a tree of four" tree_of 4
    checked "every member has cut its links to vps-05:"
    "$DEMO/ann" tree </dev/null 9>&- 2>>"$LOG" | shown
    quiet on 5 'systemctl restart borgiosd'
    eventually 60 "word of the eviction in the journal of vps-05" evicted_refused
    checked "started again it stays out: its own journal says that it was evicted. It holds nothing that opens another server"
    yourself ".demo/ann nodes; .demo/server 5 journalctl -u borgiosd -n 20 -o cat"
}
evicted_refused() { on 5 'journalctl -u borgiosd -o cat' | grep -q evicted; }

do_reinstall() {
    SERVERS='1 2 3 4'
    as ann invite --uses 1 --for 12h --out "$DEMO/invite.json"
    as ann bundle --blobs "$DEMO/blobs" --installer "$DEMO/bin/borgios-keeper" --out "$DEMO/bundle.tar"
    did "ann: borgios bundle: with release/4 in it, for a fresh server begins with the newest"
    quiet "$LAB" reinstall 4
    did "vps-04 is reinstalled: its owner's key opens it again, and it is a member of nothing: $(by_key 4 2>>"$LOG")"
    quiet "$LAB" cp "$DEMO/bundle.tar" 4:/root/bundle.tar
    join_server 4 '--bundle bundle.tar'
    eventually 90 "four servers in one tree" tree_of 4
    everywhere 120 "release/4 installed" '.keeper.installed == 4'
    refused_by_sshd 4
    checked "it joined as a new node, caught up with everything, and its root is the network's again"
    eventually 60 "the epoch of the others on vps-04" same_epoch 4 1
    checked "it carries the root credential of the same epoch as the others"
    yourself ".demo/ann nodes   (the old vps-04 lapses by itself)"
}
same_epoch() { [ "$(epoch_of "$1")" = "$(epoch_of "$2")" ]; }

#!/bin/sh
# The demo's governors: their folders and passphrases, the key ceremony, and how they vote.
#
# Each is a folder with the share encrypted in it and a script that runs `borgios` as that governor
# on the lab's laptop. A real governor types the passphrase; here it comes from a file, through a
# file descriptor, so that it stands in no argument and in no environment.
# shellcheck disable=SC2154  # DEMO, LAB, GOVERNORS: set by demo.sh

EXCHANGE='' # where there is no server yet: the folder that objects are exchanged through

# as NAME ARGS…: runs borgios as that governor and shows its answer; the step fails with it.
as() {
    who=$1
    shift
    printf '$ %s %s\n' "$who" "$*" >>"$LOG"
    "$DEMO/$who" "$@" </dev/null 9>&- >"$DEMO/answer" 2>"$DEMO/talk" || {
        cat "$DEMO/answer" "$DEMO/talk" >>"$LOG"
        fail "$who: borgios $*"
    }
    cat "$DEMO/answer" "$DEMO/talk" >>"$LOG"
}
# answer FILTER: one value of the last answer, which was asked for with --json.
answer() { jq -er "$1" "$DEMO/answer" || fail "the last answer has no $1"; }

do_governors() {
    for who in $GOVERNORS; do
        [ -s "$DEMO/$who.passphrase" ] ||
            (umask 077; head -c 20 /dev/urandom | base32 >"$DEMO/$who.passphrase") || fail "cannot write $DEMO/$who.passphrase"
        cat >"$DEMO/$who" <<TEXT
#!/bin/sh
# Runs borgios as the governor $who, on the lab's laptop; made by ./bootstrap.sh demo.
export LAB_NAME=$LAB_NAME LAB_NET=$LAB_NET LAB_DIR='${LAB_DIR:-/var/tmp/borgios-lab}' BORGIOS_HOME='$DEMO/$who.home'
exec '$LAB' run '$DEMO/bin/borgios' --passphrase-fd 3 "\$@" 3<'$DEMO/$who.passphrase'
TEXT
        chmod 755 "$DEMO/$who"
        did "$who: borgios governor init --name $who"
        if [ ! -e "$DEMO/$who.home/governor/card.json" ]; then
            rm -rf -- "$DEMO/$who.home" # what an init that was cut off left
            as "$who" governor init --name "$who"
        fi
        [ "$(head -n 1 "$DEMO/$who.home/governor/identity.age")" = age-encryption.org/v1 ] || fail "$who's identity is not encrypted"
    done
    checked "each identity is age-encrypted under its governor's passphrase"
    yourself "head -n 1 .demo/ann.home/governor/identity.age; .demo/ann governor card"
}

# Everyone runs the same command until it says `founded`; nobody waits for anybody to be online.
do_ceremony() {
    mkdir -p "$DEMO/exchange"
    did "each, again and again until it says founded: borgios governor found --exchange .demo/exchange"
    roster='' turn=0 founded=''
    until [ "$founded" = 'ann ben cleo ' ]; do
        turn=$((turn + 1)) founded=''
        [ "$turn" -le 12 ] || fail "the founding did not end after 12 turns"
        for who in $GOVERNORS; do
            set -- --json governor found --exchange "$DEMO/exchange" --name demo
            # From the second turn on all cards are there: ann proposes who governs, 2 of 3.
            [ "$who$turn" != ann2 ] || set -- "$@" --threshold 2 --governors 3
            [ -z "$roster" ] || set -- "$@" --accept-roster "$roster"
            as "$who" "$@"
            case $(answer .status) in
                confirm)
                    new=$(answer .roster)
                    [ -z "$roster" ] || [ "$roster" = "$new" ] || fail "$who sees another roster than the others: $new"
                    roster=$new
                    ;;
                founded) founded="$founded$who " ;;
            esac
        done
    done
    did "they compared the roster by voice: $roster"
    network=$(answer .network) group=$(answer .fingerprint)
    for who in $GOVERNORS; do
        as "$who" --json log
        [ "$(jq -r '.[0].id // .[0].statement // empty' "$DEMO/answer")" = "$network" ] || fail "$who has another policy/1 than $network"
    done
    checked "all three hold policy/1, signed by the group key $group; its digest is the network's id:"
    checked "$network"
    as ann export policy/1 --out "$DEMO/export"
    sh -c "$(cat "$DEMO/answer")" >"$DEMO/talk" 2>&1 || fail "ssh-keygen does not take policy/1"
    checked "stock ssh-keygen: $(cat "$DEMO/talk")"
    yourself ".demo/ann export policy/1 --out .demo/export   (prints the ssh-keygen line)"
}

# propose WHO SEQ ARGS…: through EXCHANGE if it is set; unless an earlier run of the step has proposed that release already.
propose() {
    by=$1 seq=$2
    shift 2
    # The inbox first: looking at it completes what has enough votes, and then the log has it.
    as "$by" --json inbox ${EXCHANGE:+--exchange "$EXCHANGE"}
    cat "$DEMO/answer" >"$DEMO/open"
    as "$by" --json log release
    if jq -es --arg place "release/$seq" '[.[0].open[].place, .[1][].place] | index($place)' "$DEMO/open" "$DEMO/answer" >/dev/null; then return 0; fi
    as "$by" propose release --version "$seq" "$@" ${EXCHANGE:+--exchange "$EXCHANGE"}
}

# approve_and_wait SEQ FIRST SECOND: two governors approve; the second one's vote completes the
# signature as soon as the first one's ballot has come to their server.
approve_and_wait() {
    for who in "$2" "$3"; do
        eventually 30 "release/$1 in $who's inbox" reviewed "$who" "$1"
        signed "$who" "$1" >>"$LOG" 2>&1 || as "$who" vote "release/$1" approve ${EXCHANGE:+--exchange "$EXCHANGE"}
        did "$who: borgios review release/$1; borgios vote release/$1 approve"
    done
    eventually 60 "release/$1 signed" signed "$3" "$1"
}
# reviewed WHO SEQ: looked at, or decided by an earlier run of the step.
reviewed() { "$DEMO/$1" review "release/$2" ${EXCHANGE:+--exchange "$EXCHANGE"} || signed "$1" "$2"; }
# signed WHO SEQ: that governor knows the signed statement.
signed() {
    "$DEMO/$1" sync ${EXCHANGE:+--exchange "$EXCHANGE"} </dev/null 9>&- &&
        "$DEMO/$1" --json log release </dev/null 9>&- | jq -e "any(.[]; .place == \"release/$2\")"
}

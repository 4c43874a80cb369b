#!/bin/sh
# What the demo's servers refuse: each forgery is brought where it could do harm, and the server's
# own journal says why it did none.
# shellcheck disable=SC2154  # DEMO, SERVERS: set by demo.sh

# refusal N SINCE CODE: the newest journal line on server N with this refusal, or nothing.
refusal() { on "$1" "journalctl -q --no-pager -o cat --since=@$2 BORGIOS_REFUSAL=$3 | tail -n 1" </dev/null; }

# put N FILE: brings the request in FILE to the agent of server N and prints the answer.
put() { on "$1" "curl -s --unix-socket /run/borgios/api.sock --data-binary @- http://agent/v1" <"$2"; }

# To the keeper's own socket, as the user that borgiosd runs as: what a taken-over borgiosd could do.
put_keeper() {
    on "$1" "runuser -u borgios -- perl -MIO::Socket::UNIX -e '
        my \$s = IO::Socket::UNIX->new(Peer => q(/run/borgios/keeper.sock)) or die q(no keeper);
        \$s->print(do { local \$/; <STDIN> }); \$s->flush; print scalar <\$s>'" <"$2"
}

# refused N CODE SINCE: the last answer was an error with this code, and the journal has it too.
refused() {
    [ "$(jq -r .error.code "$DEMO/answer")" = "$2" ] || fail "expected the refusal $2, the answer was $(cut -c1-200 "$DEMO/answer")"
    eventually 10 "the refusal in the journal of $(hostname_of "$1")" sh -c "[ -n \"\$('$DEMO/server' $1 journalctl -q --since=@$3 BORGIOS_REFUSAL=$2)\" ]"
    checked "refused with $2; the journal of $(hostname_of "$1"): $(refusal "$1" "$3" "$2" | cut -c1-120)"
}

# changed FILTER: release/2 as it was signed, altered by a jq filter, as a request for the API.
changed() {
    id=$("$DEMO/ann" --json log release 2>>"$LOG" </dev/null 9>&- | jq -r '.[] | select(.place == "release/2").id')
    [ -n "$id" ] || fail "ann's log has no release/2"
    jq -c "{put: \"envelope\", envelope: ($1)}" "$DEMO/ann.home/objects/release/${id#sha256:}.json" >"$DEMO/request" || fail "cannot alter release/2"
}

do_forgeries() {
    since=$(date +%s)
    changed '.payload |= sub("\"version\":\"2\""; "\"version\":\"9\"")'
    put 1 "$DEMO/request" >"$DEMO/answer" || fail "no answer from vps-01"
    did "release/2 with one character of its payload changed, brought to vps-01"
    refused 1 bad_signature "$since"

    changed '.sigs[0].sig |= (if startswith("A") then "B" else "A" end) + .[1:]'
    put 2 "$DEMO/request" >"$DEMO/answer" || fail "no answer from vps-02"
    did "release/2 with its signature changed, brought to vps-02"
    refused 2 bad_signature "$since"

    changed '.payload |= sub("\"version\":\"2\""; "\"version\":\"9\"")'
    jq -c '{verb: "submit", statement: .envelope, ballots: []}' "$DEMO/request" >"$DEMO/request.keeper"
    put_keeper 3 "$DEMO/request.keeper" >"$DEMO/answer" 2>>"$LOG" || fail "no answer from the keeper of vps-03"
    did "the same, straight to the keeper of vps-03, as the user borgios: a borgiosd that was taken over"
    refused 3 bad_signature "$since"

    real=$(sha256sum <"$DEMO/blobs/hello-1.tar.zst" | cut -d' ' -f1)
    fake=$(printf '%s' "$real" | tr '0-9a-f' '1-9a-f0')
    on 1 "curl -s --unix-socket /run/borgios/api.sock -X PUT --data-binary @- http://agent/blobs/$fake" \
        <"$DEMO/blobs/hello-1.tar.zst" >"$DEMO/answer" || fail "no answer from vps-01"
    did "a component under the digest of another, put into the depot of vps-01"
    refused 1 bad_digest "$since"

    for n in $SERVERS; do
        status_is "$n" '.keeper.installed == 4' >>"$LOG" || fail "$(hostname_of "$n") does not run release/4 any more"
    done
    checked "release/4 runs everywhere, as before"
    yourself ".demo/server 1 journalctl -o verbose BORGIOS_REFUSAL=bad_signature"
}

#!/bin/sh
# What the demo's board votes: the agent, a service, and a release that does not work.
#
# Components are folders of files and systemd units; `borgios release build` makes the same bytes of
# the same folder on every computer, so that a governor can build what is voted and compare.
# shellcheck disable=SC2154,SC2034  # EXCHANGE: read in board.sh; here, DEMO, SERVERS: set by bootstrap.sh and demo.sh

# component NAME: builds .demo/parts/NAME into .demo/blobs/NAME.tar.zst.
component() {
    mkdir -p "$DEMO/blobs"
    as ann --json release build "$DEMO/parts/$1" --out "$DEMO/blobs/$1.tar.zst"
    did "borgios release build .demo/parts/$1: $(answer .digest)"
}

do_first_release() {
    for part in agent keeper; do
        rm -rf "$DEMO/parts/$part"
        mkdir -p "$DEMO/parts/$part"
        cp -R "$here/agent/component-$part/." "$DEMO/parts/$part/" || fail "no agent/component-$part in this checkout"
        mkdir -p "$DEMO/parts/$part/files/bin"
    done
    # The agent's unit stands beside its component, where packagers find it too.
    if [ -d "$here/agent/units" ]; then
        mkdir -p "$DEMO/parts/agent/units"
        cp "$here"/agent/units/borgiosd.* "$DEMO/parts/agent/units/" || fail "cannot copy the agent's unit"
    fi
    install -m 755 "$DEMO/bin/borgiosd" "$DEMO/bin/borgios" "$DEMO/parts/agent/files/bin/" || fail "cannot copy the programs"
    install -m 755 "$DEMO/bin/borgios-keeper" "$DEMO/parts/keeper/files/bin/" || fail "cannot copy the keeper"
    component agent
    component keeper
    as ben --json release build "$DEMO/parts/agent" --out "$DEMO/again.tar.zst"
    cmp -s "$DEMO/again.tar.zst" "$DEMO/blobs/agent.tar.zst" || fail "ben's build of the agent differs from ann's"
    checked "ben built the agent too, from the same folder: the same bytes"
    EXCHANGE=$DEMO/exchange
    propose ann 1 --component "$DEMO/blobs/agent.tar.zst" "$DEMO/blobs/keeper.tar.zst" \
        --installer "$DEMO/bin/borgios-keeper" --note 'the agent itself'
    EXCHANGE='' # from here on servers carry what is said
    did "ann: borgios propose release --version 1 --component agent.tar.zst keeper.tar.zst --installer borgios-keeper"
    for who in ann cleo; do
        as "$who" review release/1 --exchange "$DEMO/exchange"
        as "$who" vote release/1 approve --exchange "$DEMO/exchange"
        did "$who: borgios review release/1; borgios vote release/1 approve"
    done
    as cleo log release
    shown <"$DEMO/answer"
    as ann sync --exchange "$DEMO/exchange"
    as ann export release/1 --out "$DEMO/export"
    sh -c "$(cat "$DEMO/answer")" >"$DEMO/talk" 2>&1 || fail "ssh-keygen does not take release/1"
    checked "stock ssh-keygen: $(cat "$DEMO/talk")"
    as ann bundle --blobs "$DEMO/blobs" --installer "$DEMO/bin/borgios-keeper" --out "$DEMO/bundle.tar"
    did "ann: borgios bundle: what a fresh server needs in one tar, $(du -h "$DEMO/bundle.tar" | cut -f1)"
    yourself "tar -tvf .demo/bundle.tar; .demo/ann log"
}

# hello N WORDS: the folder of the demo's service. A socket unit of systemd listens on 8080 and
# starts one short-lived, unprivileged process for each visitor.
hello() {
    part=$DEMO/parts/hello-$1
    rm -rf "$part"
    mkdir -p "$part/files" "$part/units"
    cat >"$part/component.json" <<TEXT
{
  "name": "hello", "version": "$1", "arch": "any",
  "health": {"command": ["/usr/bin/curl", "-fsS", "-m", "3", "-o", "/dev/null", "http://127.0.0.1:8080/"], "deadline_s": 15, "stable_s": 2},
  "restart": ["hello.socket"]
}
TEXT
    cat >"$part/units/hello.socket" <<TEXT
[Unit]
Description=hello, a service the board voted for

[Socket]
ListenStream=8080
Accept=yes

[Install]
WantedBy=sockets.target
TEXT
    cat >"$part/units/hello@.service" <<TEXT
[Unit]
Description=one visitor of hello

[Service]
ExecStart=/bin/sh /opt/borgios/current/hello/files/hello.sh
StandardInput=socket
StandardError=journal
DynamicUser=yes
ProtectHome=yes
PrivateDevices=yes
TEXT
    {
        echo '# Answers one HTTP request on stdin with one line on stdout.'
        # shellcheck disable=SC2016 # for the server's shell
        printf '%s\n' 'while read -r line && [ "$line" != "$(printf "\r")" ]; do :; done' "$2"
    } >"$part/files/hello.sh"
}

# approve_and_wait SEQ FIRST SECOND: two governors approve; the second one's vote completes the
# signature as soon as the first one's ballot has come to their server.
approve_and_wait() {
    for who in "$2" "$3"; do
        eventually 30 "release/$1 in $who's inbox" reviewed "$who" "$1"
        as "$who" vote "release/$1" approve
        did "$who: borgios review release/$1; borgios vote release/$1 approve"
    done
    eventually 60 "release/$1 signed" signed "$3" "$1"
}
# Looked at, or decided by an earlier run of the step.
reviewed() { "$DEMO/$1" review "release/$2" || signed "$1" "$2"; }
signed() { "$DEMO/$1" sync && "$DEMO/$1" --json log release | jq -e "any(.[]; .place == \"release/$2\")"; }

do_second_release() {
    # shellcheck disable=SC2016 # for the server's shell
    hello 1 'printf "HTTP/1.0 200 OK\r\n\r\nhello, version 1, from %s\n" "$(uname -n)"'
    component hello-1
    as ann blob put "$DEMO/blobs/hello-1.tar.zst"
    did "ann, through vps-01: borgios blob put hello-1.tar.zst"
    propose ann 2 --keep --component "$DEMO/blobs/hello-1.tar.zst" --note 'a greeting on port 8080'
    did "ann: borgios propose release --version 2 --keep --component hello-1.tar.zst"
    eventually 30 "the proposal on vps-02" reviewed ben 2
    "$DEMO/ben" review release/2 </dev/null 9>&- 2>>"$LOG" | shown
    as ben vote release/2 reject --reason 'port 8080 is for the shop'
    did "ben, through vps-02: borgios vote release/2 reject --reason 'port 8080 is for the shop'"
    if ! signed ben 2 >>"$LOG" 2>&1; then
        [ "$(status_of 1 .keeper.installed)" = 1 ] || fail "vps-01 runs release/$(status_of 1 .keeper.installed), which nobody approved"
        checked "nothing is signed, nothing is installed: release/1 runs on vps-01"
    fi
    approve_and_wait 2 ann cleo
    everywhere 120 "release/2 installed" '.keeper.installed == 2'
    "$DEMO/cleo" log release </dev/null 9>&- 2>>"$LOG" | awk '/^release/ { show = $1 == "release/2" } show' | shown
    for n in $SERVERS; do
        checked "http://$(address "$n"):8080/ says: $(greeting "$n")"
        case $(greeting "$n") in 'hello, version 1, from '*) ;; *) fail "hello does not answer on $(hostname_of "$n")" ;; esac
    done
    yourself "LAB_NAME=demo tests/lab/lab.sh run curl http://$(address 2):8080/; .demo/ben log"
}

greeting() { "$LAB" run curl -fsS -m 5 "http://$(address "$1"):8080/" 2>>"$LOG" 9>&-; }

do_bad_release() {
    hello 2 'exit 1 # a mistake: no visitor gets an answer'
    component hello-2
    as ben blob put "$DEMO/blobs/hello-2.tar.zst"
    propose ben 3 --keep --component "$DEMO/blobs/hello-2.tar.zst" --note 'a faster greeting'
    did "ben, through vps-02: borgios propose release --version 3, whose hello answers nobody"
    approve_and_wait 3 ann ben
    everywhere 180 "release/3 rolled back" '.keeper.last.release == 3 and .keeper.last.outcome == "rolled_back"'
    for n in $SERVERS; do
        checked "$(hostname_of "$n"): release/3 $(status_of "$n" '.keeper.last | "\(.outcome): \(.reason)"' | cut -c1-110)"
        case $(greeting "$n") in 'hello, version 1, from '*) ;; *) fail "hello 1 does not answer on $(hostname_of "$n") after the rollback" ;; esac
        checked "$(hostname_of "$n"): release/$(status_of "$n" .keeper.installed) runs, $(greeting "$n")"
    done
    eventually 60 "three reports of release/3" three_reports
    checked "each keeper's signed report is known to the whole fleet:"
    "$DEMO/cleo" nodes </dev/null 9>&- 2>>"$LOG" | shown
    yourself ".demo/cleo nodes; .demo/server 2 journalctl -u borgios-keeper -o cat"
}

three_reports() { [ "$("$DEMO/cleo" --json nodes | jq '[.nodes[] | select(.report.release == 3 and .report.outcome == "rolled_back")] | length')" = 3 ]; }

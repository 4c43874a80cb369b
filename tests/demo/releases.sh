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
    did "ann: borgios propose release --version 1 --component agent.tar.zst keeper.tar.zst --installer borgios-keeper"
    approve_and_wait 1 ann cleo
    as cleo log release
    shown <"$DEMO/answer"
    as ann sync --exchange "$DEMO/exchange"
    EXCHANGE='' # from here on servers carry what is said
    as ann export release/1 --out "$DEMO/export"
    sh -c "$(cat "$DEMO/answer")" >"$DEMO/talk" 2>&1 || fail "ssh-keygen does not take release/1"
    checked "stock ssh-keygen: $(cat "$DEMO/talk")"
    as ann bundle --blobs "$DEMO/blobs" --installer "$DEMO/bin/borgios-keeper" --out "$DEMO/bundle.tar"
    did "ann: borgios bundle: what a fresh server needs in one tar, $(du -h "$DEMO/bundle.tar" | cut -f1)"
    yourself "tar -tvf .demo/bundle.tar; .demo/ann log"
}

# hello N: the folder of the demo's service, tests/demo/hello, as version N. A socket unit of systemd
# listens on 8080 and starts one short-lived, unprivileged process for each visitor.
hello() {
    rm -rf "$DEMO/parts/hello-$1"
    mkdir -p "$DEMO/parts"
    cp -R "$here/tests/demo/hello" "$DEMO/parts/hello-$1" || fail "cannot copy tests/demo/hello"
    sed -i "s/\"version\": \"1\"/\"version\": \"$1\"/" "$DEMO/parts/hello-$1/component.json"
    sed -i "s/version 1/version $1/" "$DEMO/parts/hello-$1/files/hello.sh"
}

do_second_release() {
    hello 1
    component hello-1
    as ann blob put "$DEMO/blobs/hello-1.tar.zst"
    did "ann, through vps-01: borgios blob put hello-1.tar.zst"
    propose ann 2 --keep --component "$DEMO/blobs/hello-1.tar.zst" --note 'a greeting on port 8080'
    did "ann: borgios propose release --version 2 --keep --component hello-1.tar.zst"
    eventually 30 "the proposal on vps-02" reviewed ben 2
    "$DEMO/ben" review release/2 </dev/null 9>&- 2>>"$LOG" | shown
    signed ben 2 >>"$LOG" 2>&1 || as ben vote release/2 reject --reason 'port 8080 is for the shop'
    did "ben, through vps-02: borgios vote release/2 reject --reason 'port 8080 is for the shop'"
    if ! signed ben 2 >>"$LOG" 2>&1; then
        [ "$(status_of 1 .keeper.installed)" = 1 ] || fail "vps-01 runs release/$(status_of 1 .keeper.installed), which nobody approved"
        checked "nothing is signed, nothing is installed: release/1 runs on vps-01"
    fi
    approve_and_wait 2 ann cleo
    everywhere 120 "release/2 installed" '.keeper.installed == 2'
    "$DEMO/cleo" log release </dev/null 9>&- 2>>"$LOG" | awk '/^release/ { show = $1 == "release/2" } show' | shown
    greets_everywhere 1
    yourself "LAB_NAME=demo tests/lab/lab.sh run curl http://$(address 2):8080/; .demo/ben log"
}

# greets_everywhere VERSION: every server's hello answers with it.
greets_everywhere() {
    for n in $SERVERS; do
        words=$(greeting "$n")
        [ "$words" = "hello, version $1, from $(hostname_of "$n")" ] || fail "hello $1 does not answer on $(hostname_of "$n"), but: $words"
        checked "http://$(address "$n"):8080/ says: $words"
    done
}
greeting() { "$LAB" run curl -fsS -m 5 "http://$(address "$1"):8080/" 2>>"$LOG" 9>&-; }

do_bad_release() {
    hello 2
    echo 'exit 1 # a mistake: no visitor gets an answer' >"$DEMO/parts/hello-2/files/hello.sh"
    component hello-2
    as ben blob put "$DEMO/blobs/hello-2.tar.zst"
    propose ben 3 --keep --component "$DEMO/blobs/hello-2.tar.zst" --note 'a faster greeting'
    did "ben, through vps-02: borgios propose release --version 3, whose hello answers nobody"
    approve_and_wait 3 ann ben
    everywhere 180 "release/3 rolled back" '.keeper.last.release == 3 and .keeper.last.outcome == "rolled_back"'
    for n in $SERVERS; do
        checked "$(hostname_of "$n"): release/3 $(status_of "$n" '.keeper.last | "\(.outcome): \(.reason)"' | cut -c1-110)"
        [ "$(status_of "$n" .keeper.installed)" = 2 ] || fail "$(hostname_of "$n") did not go back to release/2"
    done
    greets_everywhere 1
    eventually 60 "a report of release/3 from each" all_report
    checked "each keeper's signed report is known to the whole fleet:"
    "$DEMO/cleo" nodes </dev/null 9>&- 2>>"$LOG" | shown
    yourself ".demo/cleo nodes; .demo/server 2 journalctl -u borgios-keeper -o cat"
}

all_report() { [ "$("$DEMO/cleo" --json nodes | jq '[.nodes[] | select(.report.release == 3 and .report.outcome == "rolled_back")] | length')" = 5 ]; }

do_mended_release() {
    hello 3
    component hello-3
    as cleo blob put "$DEMO/blobs/hello-3.tar.zst"
    propose cleo 4 --keep --component "$DEMO/blobs/hello-3.tar.zst" --note 'the greeting, mended'
    did "cleo, through vps-03: borgios propose release --version 4 --keep --component hello-3.tar.zst"
    approve_and_wait 4 ben cleo
    everywhere 120 "release/4 installed" '.keeper.installed == 4'
    greets_everywhere 3
    yourself ".demo/cleo nodes; .demo/cleo log release"
}

#!/bin/sh
# What the demo's board votes: the agent, a service, and a release that does not work.
#
# Components are folders of files and systemd units; `borgios release build` makes the same bytes of
# the same folder on every computer, so that a governor can build what is voted and compare.
# shellcheck disable=SC2154  # here, DEMO, SERVERS: set by bootstrap.sh and demo.sh

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
    install -m 755 "$DEMO/bin/borgiosd" "$DEMO/bin/borgios" "$DEMO/parts/agent/files/bin/" || fail "cannot copy the programs"
    install -m 755 "$DEMO/bin/borgios-keeper" "$DEMO/parts/keeper/files/bin/" || fail "cannot copy the keeper"
    component agent
    component keeper
    as ben --json release build "$DEMO/parts/agent" --out "$DEMO/again.tar.zst"
    cmp -s "$DEMO/again.tar.zst" "$DEMO/blobs/agent.tar.zst" || fail "ben's build of the agent differs from ann's"
    checked "ben built the agent too, from the same folder: the same bytes"
    as ann propose release --version 1 --component "$DEMO/blobs/agent.tar.zst" "$DEMO/blobs/keeper.tar.zst" \
        --installer "$DEMO/bin/borgios-keeper" --note 'the agent itself' --exchange "$DEMO/exchange"
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

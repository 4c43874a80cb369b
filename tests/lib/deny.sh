#!/usr/bin/env bash
# Stage deny: licences, sources and bans always; advisories when their database can be had.

DENY_VERSION=0.20.2

stage_deny() {
    deny_tool || { fail "deny: cargo-deny $DENY_VERSION"; return; }
    local what
    for what in bans licenses sources; do check "$what" cargo deny --locked check -s "$what"; done
    if deny_database; then check advisories cargo deny --locked check -s --disable-fetch advisories
    else skip advisories "the advisory database cannot be had now: $(grep . "$OUT/deny.fetch.log" | tail -n 1 | cut -c1-160)"; fi
}
deny_tool() {
    [[ "$(cargo deny --version 2>/dev/null)" == "cargo-deny 0.20."* ]] && return
    check "install cargo-deny $DENY_VERSION" cargo install --locked --quiet cargo-deny --version "$DENY_VERSION"
    cargo deny --version >/dev/null 2>&1
}
deny_database() { timeout 120 cargo deny --locked fetch db >"$OUT/deny.fetch.log" 2>&1; }

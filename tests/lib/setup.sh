#!/usr/bin/env bash
# What a fresh machine needs before the checks: Debian packages and a Rust toolchain.

RUST_MIN=1.95
PACKAGES=(
    gcc libc6-dev pkg-config libsystemd-dev git curl ca-certificates        # to build
    debootstrap systemd-container iproute2 nftables iptables python3        # the lab
    util-linux procps openssh-client sshpass                                # the lab, and the ways into it
    zstd strace shellcheck busybox                                          # tests and lints
)

setup_all() { setup_packages && setup_rust; }

setup_packages() {
    local p missing=()
    command -v dpkg-query >/dev/null || { echo "setup: this is no Debian; needed are the equivalents of: ${PACKAGES[*]}" >&2; return 0; }
    for p in "${PACKAGES[@]}"; do
        [[ "$(dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null)" == installed ]] || missing+=("$p")
    done
    ((${#missing[@]})) || return 0
    if [[ $EUID != 0 ]]; then
        echo "setup: missing packages; run as root: apt-get install -y --no-install-recommends ${missing[*]}" >&2
        return 1
    fi
    echo "setup: installing ${missing[*]}"
    setup_apt install -y --no-install-recommends "${missing[@]}" ||
        { setup_apt update && setup_apt install -y --no-install-recommends "${missing[@]}"; } ||
        { echo "setup: apt-get could not install: ${missing[*]}" >&2; tail -n 15 "$TARGET/apt.log" >&2; return 1; }
}
setup_apt() { mkdir -p "$TARGET"; DEBIAN_FRONTEND=noninteractive apt-get -q "$@" >"$TARGET/apt.log" 2>&1 </dev/null; }

setup_rust() {
    local get="curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal -c rustfmt -c clippy"
    local have; have=$(rustc --version 2>/dev/null | cut -d' ' -f2)
    if [[ -z $have ]]; then
        echo "setup: no Rust toolchain on the PATH; $RUST_MIN or newer is needed. To get one: $get" >&2; return 1
    fi
    if [[ "$(printf '%s\n' "$RUST_MIN" "$have" | sort -V | head -1)" != "$RUST_MIN" ]]; then
        echo "setup: rustc $have is older than $RUST_MIN. To update: rustup update stable (or: $get)" >&2; return 1
    fi
    cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 ||
        { echo "setup: rustfmt or clippy is missing. To add them: rustup component add rustfmt clippy" >&2; return 1; }
}

#!/bin/sh
# What the demo needs of this computer: Debian packages, a Rust toolchain, the built programs.
# shellcheck disable=SC2154  # here: set by bootstrap.sh

PACKAGES='gcc libc6-dev pkg-config libsystemd-dev debootstrap systemd-container openssh-client sshpass iproute2 nftables util-linux jq curl ca-certificates'
RUST_MIN=1.95

do_packages() {
    command -v apt-get >/dev/null 2>&1 || fail "this computer has no apt-get; install by hand what these Debian packages hold: $PACKAGES"
    missing=''
    for package in $PACKAGES; do
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
    done
    if [ -n "$missing" ]; then
        did "installing$missing"
        quiet env DEBIAN_FRONTEND=noninteractive apt-get update -q
        # shellcheck disable=SC2086 # a list
        quiet env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $missing
    fi
    checked "all there: $PACKAGES"
    find_cargo
    checked "Rust $cargo_version, $RUST_MIN or newer is wanted"
}

# Sets $cargo_version, and $build_user and $build_home. Under sudo the toolchain is usually the
# user's: where the checkout is theirs too it builds as that user, so that nothing there or in
# ~/.cargo becomes root's; else as root, with their toolchain.
find_cargo() {
    build_user='' build_home=''
    if [ -n "${SUDO_USER:-}" ] && [ "$SUDO_USER" != root ]; then
        build_home=$(getent passwd "$SUDO_USER" | cut -d: -f6)
        [ "$(stat -c %U "$here")" != "$SUDO_USER" ] || build_user=$SUDO_USER
    fi
    cargo_version=$(as_builder 'cargo --version' 2>/dev/null | cut -d' ' -f2)
    [ -n "$cargo_version" ] || fail "no Rust toolchain found; get one (https://rustup.rs) and run this again:
        curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal --default-toolchain 1.95.0 -c clippy -c rustfmt"
    [ "$(printf '%s\n' "$RUST_MIN" "$cargo_version" | sort -V | head -n 1)" = "$RUST_MIN" ] ||
        fail "Rust $cargo_version is too old, $RUST_MIN or newer is wanted: rustup toolchain install 1.95.0 && rustup default 1.95.0"
}

# as_builder COMMAND: in the checkout, with the builder's ~/.cargo/bin on the PATH.
as_builder() {
    # shellcheck disable=SC2016 # for the builder's shell
    run='cd "$1" && PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH && export PATH && '$1
    if [ -n "$build_user" ]; then
        runuser -u "$build_user" -- env HOME="$build_home" sh -c "$run" sh "$here" </dev/null 9>&-
    elif [ -n "$build_home" ] && ! sh -c "PATH=\$HOME/.cargo/bin:\$PATH command -v cargo" >/dev/null 2>&1; then
        env PATH="$build_home/.cargo/bin:$PATH" RUSTUP_HOME="$build_home/.rustup" sh -c "$run" sh "$here" </dev/null 9>&-
    else
        sh -c "$run" sh "$here" </dev/null 9>&-
    fi
}

do_build() {
    find_cargo
    did "cargo build --workspace --bins (the profile that the tests use too; minutes when it is cold)"
    # Progress goes to the terminal: a cold build is the one long wait of the demo.
    as_builder 'cargo build --workspace --bins --locked' || fail "cargo build failed, see above (after a build that was killed: cargo clean, then again)"
    target=$(as_builder 'cargo metadata --format-version 1 --no-deps --locked' 2>>"$LOG" | jq -r .target_directory)
    mkdir -p "$DEMO/bin"
    for program in borgios borgiosd borgios-keeper; do
        [ -x "$target/debug/$program" ] || fail "the build made no $target/debug/$program"
        strip -o "$DEMO/bin/$program.new" "$target/debug/$program" && mv "$DEMO/bin/$program.new" "$DEMO/bin/$program" ||
            fail "cannot strip $program: is the disk full?"
    done
    checked "three programs: $(cd "$DEMO/bin" && du -h borgios borgiosd borgios-keeper | awk '{ printf "%s %s  ", $2, $1 }')"
}

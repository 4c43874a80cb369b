# A pretend server and a pretend board for the tests of bootstrap.sh; sourced, not run.
#
# The board is an ordinary ssh-keygen key: a threshold signature is an Ed25519 signature, so a key
# of one holder makes the same files. The installer is a script that records that it ran. The
# machine's facts (uid, name, systemd, listeners) come from stubs in front of the PATH, the rest is
# real: sh, awk, tar, sha256sum, ssh-keygen.
# shellcheck shell=bash disable=SC2016

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
script=$top/bootstrap.sh
box=$(mktemp -d) || exit 1
trap 'rm -rf "$box"' EXIT
failures=0
now=$(date +%s)
network=sha256:$(printf 'network' | sha256sum | cut -d' ' -f1)
secret=THE-INVITATIONS-SECRET

mkdir -p "$box/bin" "$box/keys" "$box/state"
for key in board other; do
    ssh-keygen -q -t ed25519 -N '' -C '' -f "$box/keys/$key" </dev/null
done
board_key=$(cut -d' ' -f1,2 "$box/keys/board.pub")

stub() { printf '#!/bin/sh\n%s\n' "$2" >"$box/bin/$1"; chmod +x "$box/bin/$1"; }
machine() { # the stubs of a machine that may join
    stub id 'echo 0'
    stub uname 'case ${1:-} in -n) echo web-3 ;; -m) echo x86_64 ;; *) echo Linux ;; esac'
    stub systemctl 'case $1 in --version) echo "systemd 252 (252.1)" ;; is-system-running) echo running ;; esac'
    stub systemd-detect-virt 'echo none; exit 1'
    stub ss 'echo "LISTEN 0 128 0.0.0.0:22 0.0.0.0:*"'
    stub who ':'
    stub getent 'echo root:x:0:0::/root:/bin/sh'
    stub timedatectl 'echo yes'
    stub journalctl ':'
    stub sleep ':'
    # `borgios status --json` of a node that is in the tree
    stub borgios 'echo "{\"node\":\"ssh-ed25519 AAAAnode\",\"tree\":{\"state\":\"attached\"}}"'
    rm -rf "$box/state" "$box/keeper"
    rm -f "$box/installed"
}

# invitation [KEY=JSON…] -> $box/invite.json; KEY= (empty) leaves the field out.
invitation() {
    local pair key
    declare -A field=(
        [invitation]="{\"type\":\"invitation\",\"payload\":\"{\\\"network\\\":\\\"$network\\\",\\\"token\\\":\\\"ssh-ed25519 AAAA\\\",\\\"uses\\\":3,\\\"issued\\\":$now,\\\"expires\\\":$((now + 3600))}\",\"sigs\":[]}"
        [token]="\"-----BEGIN OPENSSH PRIVATE KEY-----\\n$secret\\n\""
        [network]="\"$network\"" [name]='"demo"' [members]='[]' [chain]='[]'
        [allowed_signers]="\"governors namespaces=\\\"borgios-*@v1\\\" $board_key\""
    )
    for pair in "$@"; do field[${pair%%=*}]=${pair#*=}; done
    {
        printf '{'
        local first=1
        for key in invitation token network name members allowed_signers chain urls; do
            [ -n "${field[$key]:-}" ] || continue
            [ "$first" = 1 ] || printf ','
            first=0
            printf '"%s":%s' "$key" "${field[$key]}"
        done
        printf '}\n'
    } >"$box/invite.json"
}

digest() { printf 'sha256:%s' "$(sha256sum <"$1" | cut -d' ' -f1)"; }

# release [NETWORK LANE EXPIRES] -> $box/b/: a bundle's files, signed by the board.
release() {
    local b=$box/b blob
    rm -rf "$b"; mkdir -p "$b/blobs"
    cat >"$b/installer" <<INSTALLER
#!/bin/sh
printf '%s\n' "\$*" >"$box/installed"
cat "/proc/\$\$/cmdline" "/proc/\$PPID/cmdline" >>"$box/argv"
[ ! -e "$box/installer-does" ] || . "$box/installer-does"
exit \$(cat "$box/installer-exit" 2>/dev/null || echo 0)
INSTALLER
    : >"$box/argv"; rm -f "$box/installer-exit" "$box/installer-does"
    for blob in agent keeper; do
        echo "component $blob" >"$box/$blob.tar.zst"
        cp "$box/$blob.tar.zst" "$b/blobs/$(sha256sum <"$box/$blob.tar.zst" | cut -d' ' -f1)"
    done
    printf '{"network":"%s","lane":"%s","seq":1,"round":0,"policy":1,"issued":%s,"expires":%s,"body":{"version":"0.1.0","components":[{"name":"agent","digest":"%s","size":16},{"name":"keeper","digest":"%s","size":17}],"installer":{"digest":"%s","size":9},"urls":[],"floor":1,"notes":""}}' \
        "${1:-$network}" "${2:-release}" "$now" "${3:-$((now + 3600))}" \
        "$(digest "$box/agent.tar.zst")" "$(digest "$box/keeper.tar.zst")" "$(digest "$b/installer")" >"$b/release.json"
    echo '[]' >"$b/chain.json"
    sign board borgios-release@v1
}
sign() { # KEY NAMESPACE
    rm -f "$box/b/release.json.sig"
    ssh-keygen -q -Y sign -f "$box/keys/$1" -n "$2" "$box/b/release.json" 2>/dev/null
}
pack() { tar -cf "$box/bundle.tar" -C "$box/b" release.json release.json.sig chain.json blobs installer; }

# bootstrap ARGS…: runs the script on the pretend server without a terminal; sets $rc, $out.
bootstrap() {
    out=$(cd "$box" && BORGIOS_BOOTSTRAP_DIR=$box/state BORGIOS_KEEPER_DIR=$box/keeper BORGIOS_CLI=$box/bin/borgios \
        PATH=$box/bin:$PATH timeout 60 setsid -w "${SHELL_UNDER_TEST:-/bin/sh}" "$script" "$@" 2>&1 </dev/null)
    rc=$?
}
# --yes, because the distribution is the one fact no stub replaces.
join() { bootstrap join --invite "$box/invite.json" --bundle "$box/bundle.tar" --hand-over web-3 --yes; }

# expect NAME CODE TEXT ran|not-run: the last run ended so, said so, and ran the installer or not.
expect() {
    local why=''
    [ "$rc" = "$2" ] || why="exit code $rc, expected $2"
    [[ $out == *"$3"* ]] || why="${why:+$why; }did not say '$3'"
    case $4 in
        ran) [ -e "$box/installed" ] || why="${why:+$why; }the installer did not run" ;;
        not-run) [ ! -e "$box/installed" ] || why="${why:+$why; }THE INSTALLER RAN" ;;
    esac
    [[ $out != *"$secret"* ]] || why="${why:+$why; }the invitation's secret was printed"
    [ -z "$(ls -d "$box"/state/borgios-bootstrap.* 2>/dev/null)" ] || why="${why:+$why; }a work folder was left"
    if [ -z "$why" ]; then echo "ok $1"
    else echo "FAIL $1: $why"; printf '%s\n' "$out" | tail -n 8 | sed 's/^/     | /'; failures=$((failures + 1)); fi
}
# check NAME COMMAND…: a fact that must hold.
check() {
    local name=$1; shift
    if "$@"; then echo "ok $name"; else echo "FAIL $name: $*"; failures=$((failures + 1)); fi
}
finish() { [ "$failures" -eq 0 ]; }

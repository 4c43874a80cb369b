# A pretend server and a pretend board for the tests of bootstrap.sh; sourced, not run.
#
# The board is an ordinary ssh-keygen key: a threshold signature is an Ed25519 signature, so a key
# of one holder makes the same files. The installer is a script that records what it was asked for
# and keeps the state that the keeper's take-over would. The machine's facts (uid, name, systemd,
# listeners, sshd) come from stubs in front of the PATH, the rest is real: sh, awk, tar, sha256sum,
# ssh-keygen, flock.
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
for key in board other keeper owner; do
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
    stub sshd ':'
    stub systemd-run ':'
    stub getent 'echo root:x:0:0::/root:/bin/sh'
    stub timedatectl 'echo yes'
    stub journalctl ':'
    stub sleep ':'
    stub chown 'echo "$*" >>'"'$box/chowned'"
    # `borgios status --json` of a node that is in the tree
    stub borgios 'echo "{\"node\":\"ssh-ed25519 AAAAnode\",\"tree\":{\"state\":\"attached\"}}"'
    printf 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n' >"$box/os-release"
    rm -rf "$box/state" "$box/keeper" "$box/software" "$box/agent" "$box/board.pub"
    rm -f "$box"/{installed,asked,taken,goes-wrong,left,chowned} "$box"/*-does
}

# invitation [KEY=JSON…] -> $box/invite.json; KEY= (empty) leaves the field out.
invitation() {
    local pair key
    declare -A field=(
        [invitation]="{\"type\":\"invitation\",\"payload\":\"{\\\"network\\\":\\\"$network\\\",\\\"token\\\":\\\"ssh-ed25519 AAAA\\\",\\\"uses\\\":3,\\\"issued\\\":$now,\\\"expires\\\":$((now + 3600))}\",\"sigs\":[]}"
        [token]="\"-----BEGIN OPENSSH PRIVATE KEY-----\\n$secret\\n\""
        [members]='[{"address":"web-1.example:7117","key":"ssh-ed25519 AAAA"}]'
        [network]="\"$network\"" [name]='"demo"' [chain]='[]'
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
    pretend_keeper >"$b/installer"
    : >"$box/argv"
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
# A keeper that takes nothing, and remembers in $box/taken that it did. `VERB CODE` in $box/goes-wrong
# makes a verb fail; $box/VERB-does is done first.
pretend_keeper() {
    printf '#!/bin/sh\nbox=%s\n' "$box"
    cat <<'KEEPER'
printf '%s\n' "$*" >>"$box/asked"
cat "/proc/$$/cmdline" "/proc/$PPID/cmdline" >>"$box/argv"
verb=$1; [ "$verb" != takeover ] || verb=$2
wrong=$(sed -n "s/^$verb //p" "$box/goes-wrong" 2>/dev/null)
state=$(cat "$box/taken" 2>/dev/null || echo none)
[ ! -e "$box/$verb-does" ] || . "$box/$verb-does"
if [ -n "$wrong" ]; then
    echo "pretend: $verb goes wrong" >&2
    [ "$verb:$wrong" != apply:6 ] || { echo aborted >"$box/taken"; rm -rf "$box/keeper" "$box/software" "$box/agent"; }
    exit "$wrong"
fi
case $verb:$state in
    install:*)
        printf '%s\n' "$*" >"$box/installed"; mkdir -p "$box/keeper" "$box/software" "$box/agent"
        : >"$box/keeper/keeper.key"; : >"$box/software/store"; : >"$box/agent/node.key" ;;
    plan:*) echo "sudo             1  who may become root" ;;
    begin:none | begin:aborted)
        echo open >"$box/taken"; rm -f "$box/left"; echo 'open until 1790000000'
        while [ $# -gt 0 ]; do [ "$1" != --sealed ] || echo sealed >"$2"; shift; done ;;
    trial:open) echo 'ok  a login ended as uid 0' ;;
    apply:open | apply:purging | apply:done) echo done >"$box/taken"; cp "$box/keys/board.pub" "$box/board.pub"; echo 'ok  sudo 1' ;;
    rotate:done | verify:done) ;;
    receipt:done) cat "$box/handover" ;;
    end-sessions:done) echo 'ended 0' ;;
    abort:open) echo aborted >"$box/taken"; rm -rf "$box/keeper" "$box/software" "$box/agent" ;;
    resume:purging) echo done >"$box/taken" ;;
    status:*)
        left=null; [ "$state" != open ] || left=$(cat "$box/left" 2>/dev/null || echo 800)
        echo "{\"state\":\"$state\",\"remaining_s\":$left,\"why\":\"said \\\"so\\\"\"}" ;;
    *) echo "pretend: $verb is refused while $state" >&2; exit 1 ;;
esac
KEEPER
}
# The receipt it gives, signed by the keeper's key: the last 64 bytes of a signature file.
handed='{"network":"'$network'","name":"web-3","host_keys":["'$board_key'"],"taken":{"sudo":1},"at":1790000000}'
printf '%s' "$handed" >"$box/payload"
ssh-keygen -q -Y sign -f "$box/keys/keeper" -n borgios-handover@v1 "$box/payload" 2>/dev/null
printf '{"type":"handover","payload":"%s","sigs":[{"by":"%s","sig":"%s"}]}\n' "${handed//\"/\\\"}" \
    "$(cut -d' ' -f1,2 "$box/keys/keeper.pub")" \
    "$(sed '1d;$d' "$box/payload.sig" | base64 -d | tail -c 64 | base64 -w 0)" >"$box/handover"

sign() { # KEY NAMESPACE
    rm -f "$box/b/release.json.sig"
    ssh-keygen -q -Y sign -f "$box/keys/$1" -n "$2" "$box/b/release.json" 2>/dev/null
}
pack() { tar -cf "$box/bundle.tar" -C "$box/b" release.json release.json.sig chain.json blobs installer; }

# on_server COMMAND…: with the pretend server's folders and programs.
on_server() {
    (cd "$box" && exec env BORGIOS_BOOTSTRAP_DIR="$box/state" BORGIOS_KEEPER_DIR="$box/keeper" BORGIOS_CLI="$box/bin/borgios" \
        BORGIOS_INSTALLED="$box/none" BORGIOS_OS_RELEASE="$box/os-release" BORGIOS_SOFTWARE_DIR="$box/software" \
        BORGIOS_AGENT_DIR="$box/agent" BORGIOS_BOARD_KEY="$box/board.pub" PATH="$box/bin:$PATH" timeout 300 "$@")
}
# at_rest: what runs in its unit has ended too.
at_rest() { [ ! -e "$box/state/lock" ] || flock -w 300 "$box/state/lock" true; }
# bootstrap ARGS…: runs the script on the pretend server without a terminal; sets $rc, $out.
bootstrap() {
    # shellcheck disable=SC2086 # `busybox sh` is two words
    out=$(on_server setsid -w ${SHELL_UNDER_TEST:-/bin/sh} "$script" "$@" 2>&1 </dev/null)
    rc=$?
    at_rest
}
# --yes, because what this computer is used for shows as warnings.
join() { bootstrap join --invite "$box/invite.json" --bundle "$box/bundle.tar" --hand-over web-3 --yes; }

# expect NAME CODE TEXT ran|not-installed|looked|not-run: the last run ended so, said so, and the
# installer ran, or did not, or the keeper was asked only to look, or nothing was executed at all. An
# attack that gets through leaves $box/installed, even one that is not the fixture's own keeper.
expect() {
    local why=''
    [ "$rc" = "$2" ] || why="exit code $rc, expected $2"
    [[ $out == *"$3"* ]] || why="${why:+$why; }did not say '$3'"
    case $4 in
        ran) [ -e "$box/installed" ] || why="${why:+$why; }the installer did not run" ;;
        not-installed) [ ! -e "$box/installed" ] || why="${why:+$why; }THE INSTALLER RAN" ;;
        looked)
            [ ! -e "$box/installed" ] || why="${why:+$why; }THE INSTALLER RAN"
            [ "$(sort -u "$box/asked")" = 'takeover plan' ] || why="${why:+$why; }asked the keeper for $(tr '\n' ';' <"$box/asked")" ;;
        not-run) [ ! -e "$box/asked" ] && [ ! -e "$box/installed" ] || why="${why:+$why; }THE INSTALLER RAN" ;;
        *) why="${why:+$why; }the test asks for '$4', which is no outcome" ;;
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
# said NAME TEXT: the last run also said this.
said() { if [[ $out == *"$2"* ]]; then echo "ok $1"; else echo "FAIL $1: did not say '$2'"; failures=$((failures + 1)); fi; }
finish() { [ "$failures" -eq 0 ]; }

#!/usr/bin/env bash
# Ways into a machine: ssh from the laptop's namespace, the provider's console (exec), files (cp).

SSHO=(-o LogLevel=ERROR -o ConnectTimeout=60 -o ServerAliveInterval=20)
cmd_ssh() {
    num "${1:-}"; local i=$1; shift
    command -v sshpass >/dev/null || die "sshpass is missing: apt-get install sshpass"
    SSHPASS=$PASS sw sshpass -e ssh "${SSHO[@]}" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
        -o PubkeyAuthentication=no -o NumberOfPasswordPrompts=1 "root@$(addr "$i")" "$@"
}
cmd_sshkey() {
    num "${1:-}"; local i=$1; shift
    sw ssh "${SSHO[@]}" -o BatchMode=yes -o IdentitiesOnly=yes -i "$ST/id_ed25519" -o StrictHostKeyChecking=yes \
        -o UserKnownHostsFile="$ST/known_hosts" -o GlobalKnownHostsFile=/dev/null "root@$(addr "$i")" "$@"
}
cmd_run() { has_netns "$SW" || die "the lab '$NAME' is not up"; sw "$@"; }

caps() {                                         # setpriv list: exactly the capabilities machine-pid $1 may have
    local bound k l=-all; bound=$((16#$(awk '/^CapBnd:/{print $2}' "/proc/$1/status"))) || return 1
    for k in $(seq 0 40); do (( bound >> k & 1 )) && l+=,+cap_$k; done; echo "$l"
}
# setpriv FIRST: a bare nsenter would keep the host root's capabilities, and e.g. `date -s`
# "inside the machine" would then set the clock of the HOST.
inside() (
    i=$1; p=$(need_leader "$1") || exit 1; c=$(caps "$p") || exit 1; shift
    cg_join "$i"
    setpriv --bounding-set="$c" --inh-caps=-all -- nsenter -t "$p" -m -u -i -n -p -C -r -w -- \
        env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 TERM=dumb "$@"
)
cmd_exec() { num "${1:-}"; [[ $# -ge 2 ]] || die "usage: exec N CMD.."; inside "$@"; }

# Through a pipe into the machine's own namespaces: no symlink inside can lead out.
cmd_cp() {
    [[ $# == 2 ]] || die "usage: cp SRC N:DST | cp N:SRC DST"
    local a=$1 b=$2 i path
    if [[ $b =~ ^([0-9]+):(.+)$ ]]; then
        i=${BASH_REMATCH[1]} path=${BASH_REMATCH[2]}; num "$i"
        [[ -e $a ]] || die "cp: there is no $a"
        # shellcheck disable=SC2016 # for the machine's shell
        if [[ -d $a ]]; then
            tar -C "$a" -cf - . | inside "$i" sh -c 'mkdir -p "$1" && tar -C "$1" -xf - --no-same-owner' - "$path"
        else
            [[ $path == */ ]] && path+=$(basename "$a")
            # shellcheck disable=SC2094,SC2016 # the file read is the host's, the one written is the machine's
            inside "$i" sh -c 'mkdir -p "$(dirname "$1")" && cat >"$1.lab" && chmod "$2" "$1.lab" && mv -f "$1.lab" "$1"' - "$path" "$(stat -c %a "$a")" <"$a"
        fi
    elif [[ $a =~ ^([0-9]+):(.+)$ ]]; then
        i=${BASH_REMATCH[1]} path=${BASH_REMATCH[2]}; num "$i"
        if inside "$i" test -d "$path"; then
            mkdir -p "$b"; inside "$i" tar -C "$path" -cf - . | tar -C "$b" -xf - --no-same-owner
        else
            [[ -d $b ]] && b+=/$(basename "$path")
            inside "$i" cat "$path" >"$b"
        fi
    else die "usage: cp SRC N:DST | cp N:SRC DST"; fi
}

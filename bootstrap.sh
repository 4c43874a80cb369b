#!/bin/sh
# bootstrap.sh: hands root on this server to a BorgIOS network.
#
# Without arguments it explains itself and changes nothing. `plan` looks at the machine and changes
# nothing. `join` verifies the governors' release with ssh-keygen and sha256sum, shows what will be
# taken, asks for consent, and takes it. Order of `join`, each stage a function below:
#
#   preflight -> fetch -> verify -> catalogue -> consent -> backup          in the caller's session
#     -> install -> join -> trial -> PURGE -> rotate -> check -> receipt -> sessions -> check   in a unit
#
# What always holds:
#  1. The whole file is one brace group: a shell that received only a part of it runs none of it.
#  2. Nothing from a bundle is executed before the board's signature over release.json holds and
#     the executable's own digest stands in that release.json.
#  3. Nothing outside the script's own folder changes before the host's name was given as consent.
#  4. No secret is ever an argument; consent is read from the terminal, never from a piped script.
#  5. Before the purge every failure ends in the old state: `abort` here, and behind it a timer and
#     a boot unit that the keeper arms before anything is changed. After the purge it goes on, and
#     so do they: they stay until there is a receipt, and need nobody to run this again.
#  6. Once consent is given, a closed terminal ends only what is shown, not the join. Only where an
#     Enter is asked for, it must be pressed: a terminal that closes there hands nothing over.
#  7. Nothing is installed unless the take-over is open and in time. A join that was cut off goes on
#     only with what was agreed to; with anything else the open one is taken back first.
#
# Needs: POSIX sh, awk, tar, sha256sum, OpenSSH 8.1 or newer; curl only to download a bundle.
#
# For shellcheck: the brace group ends in exit, which it takes for unreachable code, and
# `a && b || die` is meant so, because die never returns.
# shellcheck disable=SC2317,SC2015
{
set -u
umask 077
LC_ALL=C
export LC_ALL
PATH=${PATH:-/usr/bin:/bin}:/usr/sbin:/sbin
HOME=${HOME:-/root}
export PATH HOME

# ---- constants -------------------------------------------------------------------------------
# The files and folders can be moved by tests, the deadline and a bundle's bound set; nobody else needs to.
STATE=${BORGIOS_BOOTSTRAP_DIR:-/var/lib/borgios-bootstrap} # what this script remembers
KEEPER=${BORGIOS_KEEPER_DIR:-/var/lib/borgios-keeper} # exists from the first install on
CLI=${BORGIOS_CLI:-/opt/borgios/current/agent/files/bin/borgios}
OS_RELEASE=${BORGIOS_OS_RELEASE:-/etc/os-release}
SOFTWARE=${BORGIOS_SOFTWARE_DIR:-/opt/borgios} # the signed software
AGENT=${BORGIOS_AGENT_DIR:-/var/lib/borgios} # the agent's own
BOARD_KEY=${BORGIOS_BOARD_KEY:-/etc/borgios/ssh/board.pub} # whose certificates sshd takes, by the keeper's chain
DEADLINE_S=${BORGIOS_DEADLINE_S:-900} # seconds until the keeper's timer brings everything back
INSTALLED=${BORGIOS_INSTALLED:-/opt/borgios/current/borgios-keeper/files/bin/borgios-keeper}
TAKER=$STATE/keeper                 # the verified keeper, where its timer and boot unit expect it
UNIT=borgios-join                   # the unit in which everything after the consent runs
PORT=7117                           # the agent's one TCP port, unless --listen says otherwise
INVITE_MAX=8388608                  # bytes of an invitation file: years of statements
RELEASE_MAX=65536                   # bytes of release.json: the bound on every signed payload
SIG_MAX=4096                        # bytes of release.json.sig
BUNDLE_MAX=${BORGIOS_BUNDLE_MAX:-2147483648} # bytes of a bundle
FREE_KIB=524288                     # disk wanted before anything starts: store, depot, staging
JOIN_WAIT=180                       # seconds an installed agent gets to find its place in the tree
LEFT_S=420                          # seconds before the deadline that install, join and trial may need
[ "$LEFT_S" -le $((DEADLINE_S / 2)) ] || LEFT_S=$((DEADLINE_S / 2)) # a test's deadline is shorter than that
CLOCK_SLACK=600                     # seconds this clock may lag behind the invitation's maker

EX_USAGE=2 EX_PREFLIGHT=3 EX_VERIFY=4 EX_JOIN=5 EX_ROLLED_BACK=6 EX_MEMBER=10

WORK=''

# ---- talking ---------------------------------------------------------------------------------
say()  { printf '%s\n' "$*"; }
step() { printf '\n== %s\n' "$*"; }
die()  { # CODE TEXT...
    code=$1; shift
    printf 'bootstrap.sh: %s\n' "$*" >&2
    exit "$code"
}

explain() {
    cat <<'TEXT'
BorgIOS bootstrap: hands root on this server to a BorgIOS network.

A network has governors. What a threshold of them signs (say 2 of 3), every member obeys, and
nothing else; no single governor and no single server can decide.

What joining means
  the network gets  root: the board decides which software runs here with root's rights, and who
                    may log in. One process without privileges talks to the network on TCP port
                    7117, one as root without any network obeys what the board signed
  you lose          every way into root: passwords, keys, sudo, agents of the provider. Afterwards
                    sshd takes only certificates that the board signed, and no key file of anybody
  you keep          files, services, packages, addresses and ports stay as they are
  way back          until the purge `abort`, a timer of 15 minutes and a reboot bring everything
                    back bit by bit; afterwards only reinstalling the operating system does

Commands (as root, on the server)
  ./bootstrap.sh plan [--invite FILE [--bundle FILE]] [--owner-key FILE]
                      [--listen ADDR:PORT] [--advertise HOST:PORT]
        looks at this machine and says what join would do; with both files it verifies the
        release and shows everything that would be taken; changes nothing
  ./bootstrap.sh join --invite FILE [--bundle FILE] [--hand-over HOSTNAME] [--yes]
                      [--owner-key FILE] [--listen ADDR:PORT] [--advertise HOST:PORT]
        verifies the release with stock ssh-keygen and sha256sum, shows what is taken, asks you
        to type this machine's name, and hands root over; goes on if your terminal closes
          --invite FILE      the invitation a governor gave you; it holds a secret, and is removed
                             here once root is handed over and all is done
          --bundle FILE      the release bundle; without it the first url the invitation names
          --hand-over NAME   consent without a terminal; must equal this machine's name
          --yes              go on in spite of warnings when there is no terminal to ask on
          --owner-key FILE   your public ssh-ed25519 key: a backup of what is taken is sealed to
                             it, and its holder may take the machine out of the network; on a
                             terminal you get some minutes to copy the backup away
          --listen ADDR:PORT where the agent listens              (default [::]:7117)
          --advertise H:P    where other members reach this one; the first server of a network must
                             have it, and one without it can be nobody's parent in the tree
        run again, it shows the join that runs, or goes on with one that was cut off
  ./bootstrap.sh abort
        until the purge: ends the join and brings everything back; afterwards it says no
  ./bootstrap.sh status
        says how far a join is, whether this machine is a member, and how its agent is doing

On your own computer (from a checkout of the source, as root)
  ./bootstrap.sh demo        throw-away servers, three governors, the whole story
  ./bootstrap.sh demo --down removes every trace of it

Exit codes: 0 done, 2 usage, 3 refused before anything changed, 4 verification failed,
            5 join failed, 6 rolled back: everything is as it was, 10 already a member
Nothing was changed.
TEXT
}

# ---- reading JSON ----------------------------------------------------------------------------
# json_get FILE PATH: the scalar at PATH (`body.installer.digest`), or, where PATH holds `[]`, one
# line for each element. Fails when the text is not one JSON object, when the value is missing,
# stands there twice, is longer than 8 KiB, or holds an escape other than \" \\ \/ (so a value is
# always one line). The file is split at its quotes, so strings are never looked into for syntax.
json_get() {
    awk -v want="$2" '
    function bad() { failed = 1; exit 1 }
    function found(value) {
        if (path() != want) return
        if (hits++ && index(want, "[]") == 0) bad()
        hit[hits] = value
    }
    function path(  i, p) {
        p = ""
        for (i = 1; i <= depth; i++)
            p = p (type[i] == "[" ? "[]" : (p == "" ? "" : ".") key[i])
        return p
    }
    function plain(s,  out, p, c) {
        out = ""
        sub(/\\n$/, "", s) # the newline that ends a line of a file
        while ((p = index(s, "\\")) > 0) {
            c = substr(s, p + 1, 1)
            if (c != "\"" && c != "\\" && c != "/") bad()
            out = out substr(s, 1, p - 1) c
            s = substr(s, p + 2)
        }
        return out s
    }
    function value_done() { state = depth ? "more" : "end" }
    function outside(s,  c) {
        if (length(s) > 4096) bad()
        while (s != "") {
            c = substr(s, 1, 1)
            if (c ~ /[ \t\r\n]/) { s = substr(s, 2); continue }
            if (c == "{" || c == "[") {
                if (state != "value" && state != "first" || ++depth > 16) bad()
                if (depth == 1 && c == "[") bad()
                type[depth] = c; key[depth] = ""
                state = c == "{" ? "firstkey" : "first"
            } else if (c == "}") {
                if (type[depth] != "{" || state != "firstkey" && state != "more") bad()
                depth--; value_done()
            } else if (c == "]") {
                if (type[depth] != "[" || state != "first" && state != "more") bad()
                depth--; value_done()
            } else if (c == ":") {
                if (state != "colon") bad()
                state = "value"
            } else if (c == ",") {
                if (state != "more") bad()
                state = type[depth] == "{" ? "key" : "value"
            } else if (match(s, /^(-?[0-9][0-9.eE+-]*|true|false|null)/)) {
                if (state != "value" && state != "first" || !depth) bad()
                found(substr(s, 1, RLENGTH)); value_done()
                s = substr(s, RLENGTH + 1); continue
            } else bad()
            s = substr(s, 2)
        }
    }
    function string(s, long) {
        if (state == "firstkey" || state == "key") {
            key[depth] = long || s !~ /^[A-Za-z0-9_-]+$/ ? "?" : s
            state = "colon"
        } else if ((state == "value" || state == "first") && depth) {
            if (path() == want) { if (long) bad(); found(plain(s)) }
            value_done()
        } else bad()
    }
    BEGIN { RS = "\""; state = "value"; depth = 0; inside = 0 }
    {
        if (!inside) { outside($0); inside = 1; text = ""; long = 0; next }
        if ($0 ~ /[\t\r\n]/) bad() # a string holds no raw control character (RFC 8259 section 7)
        if (long || length(text) + length($0) > 8192) long = 1
        else text = text $0
        if (match($0, /\\+$/) && RLENGTH % 2) { if (!long) text = text "\""; next }
        string(text, long); inside = 0
    }
    END {
        if (failed || state != "end" || !hits) exit 1
        for (i = 1; i <= hits; i++) print hit[i]
    }' "$1"
}

# bounded FILE MAX: a regular file of at most MAX bytes.
bounded() { [ -f "$1" ] && [ "$(head -c "$(($2 + 1))" -- "$1" | wc -c)" -le "$2" ]; }

# clean_text FILE: no control characters but the whitespace JSON allows.
clean_text() { [ "$(tr -d '\011\012\015\040-\176\200-\377' <"$1" | wc -c)" -eq 0 ]; }

number() { case $1 in '' | *[!0-9]* | ????????????????*) return 1 ;; esac; }

sha256() { sha256sum <"$1" | cut -d' ' -f1; }

# ---- the invitation --------------------------------------------------------------------------
# Reads the invitation into invite_* variables; every value is checked against its exact form.
read_invitation() { # FILE
    bounded "$1" "$INVITE_MAX" ||
        die "$EX_PREFLIGHT" "invitation $1 is missing, no regular file, or longer than $INVITE_MAX bytes"
    cp -- "$1" "$WORK/invite.json" || die "$EX_PREFLIGHT" "cannot copy $1 to $WORK"
    invite=$WORK/invite.json
    invite_digest=$(sha256 "$invite")
    bounded "$invite" "$INVITE_MAX" && clean_text "$invite" ||
        die "$EX_PREFLIGHT" "invitation $1 is not JSON text; ask the governor for the file again"

    line=$(json_get "$invite" allowed_signers) ||
        die "$EX_PREFLIGHT" "invitation $1 names no allowed_signers, or is not one JSON object"
    # The line is taken apart and made anew, so nothing in it can add a signer or an option.
    blob=$(printf '%s\n' "$line" | sed -n \
        's#^governors namespaces="[a-z0-9@*,-]*" ssh-ed25519 \(AAAAC3NzaC1lZDI1NTE5AAAAI[A-Za-z0-9+/]\{43\}\)$#\1#p')
    [ -n "$blob" ] ||
        die "$EX_PREFLIGHT" "invitation $1: allowed_signers is not 'governors namespaces=\"…\" ssh-ed25519 AAAA…'"
    printf 'governors namespaces="borgios-release@v1" ssh-ed25519 %s\n' "$blob" >"$WORK/allowed_signers"
    invite_board=$(printf 'ssh-ed25519 %s\n' "$blob" | ssh-keygen -lf - 2>/dev/null | cut -d' ' -f2)
    [ -n "$invite_board" ] || die "$EX_PREFLIGHT" "invitation $1: ssh-keygen does not take the board's key"

    invite_network=$(json_get "$invite" network) || invite_network=''
    printf '%s\n' "$invite_network" | grep -Eqx 'sha256:[0-9a-f]{64}' ||
        die "$EX_PREFLIGHT" "invitation $1: network is not sha256:<64 hex digits>"
    invite_name=$(json_get "$invite" name) || invite_name=''
    printf '%s\n' "$invite_name" | grep -Eqx '[A-Za-z0-9][A-Za-z0-9._-]{0,62}' ||
        die "$EX_PREFLIGHT" "invitation $1: the network's name is missing or has other characters than A-Z a-z 0-9 . _ -"

    json_get "$invite" invitation.payload >"$WORK/payload.json" ||
        die "$EX_PREFLIGHT" "invitation $1 holds no signed invitation"
    [ "$(json_get "$WORK/payload.json" network)" = "$invite_network" ] ||
        die "$EX_PREFLIGHT" "invitation $1: its signed part is for another network than $invite_network"
    invite_issued=$(json_get "$WORK/payload.json" issued) || invite_issued=''
    invite_expires=$(json_get "$WORK/payload.json" expires) || invite_expires=''
    number "$invite_issued" && number "$invite_expires" ||
        die "$EX_PREFLIGHT" "invitation $1: issued or expires is missing or not a number"
    invite_url=$(json_get "$invite" 'urls[]' 2>/dev/null | head -n 1)
    invite_members=$(json_get "$invite" 'members[].address' 2>/dev/null | row)
    # The highest release of its chain, empty if there is none: by the bytes in which each begins, for
    # payloads may be longer than json_get reads. What a policy rules on begins otherwise.
    invite_release=$(grep -o \
        "\"payload\":\"{\\\\\"network\\\\\":\\\\\"$invite_network\\\\\",\\\\\"lane\\\\\":\\\\\"release\\\\\",\\\\\"seq\\\\\":[0-9]*," \
        "$invite" | sed 's/,$//; s/.*://' | sort -n | tail -n 1)
}

# In whose tree it will be: a network's first server begins one.
joins_how() {
    if [ -n "$invite_members" ]; then say "through $invite_members"; else say "as the FIRST server of this network"; fi
}

# ---- preflight -------------------------------------------------------------------------------
stops=0 warnings=0
fact() { # ok|note|warn|STOP NAME TEXT
    case $1 in STOP) stops=$((stops + 1)) ;; warn) warnings=$((warnings + 1)) ;; esac
    printf '  %-5s %-11s %s\n' "$1" "$2" "$3"
}

preflight() {
    host=$(uname -n)
    listen_port=${listen##*:}
    : "${listen_port:=$PORT}"
    step "this machine: $host"
    printf '%s\n' "$host" | grep -Eqx '[A-Za-z0-9][A-Za-z0-9._-]{0,62}' ||
        fact STOP name "the host's name must be 1 to 63 of A-Z a-z 0-9 . _ -; set one with hostnamectl"

    if [ "$(id -u)" = 0 ]; then fact ok root "running as root"
    else fact STOP root "not root (uid $(id -u)); run this as root"; fi

    preflight_system
    preflight_sshd
    preflight_names
    free=$(df -Pk /opt 2>/dev/null | awk 'NR == 2 { print $4 }')
    [ -n "$free" ] || free=$(df -Pk / | awk 'NR == 2 { print $4 }')
    if [ "${free:-0}" -ge "$FREE_KIB" ]; then fact ok disk "$((free / 1024)) MiB free under /opt"
    else fact STOP disk "$((${free:-0} / 1024)) MiB free under /opt, $((FREE_KIB / 1024)) MiB wanted"; fi
    now=$(date +%s)
    if [ -n "${invite_issued:-}" ] && [ "$now" -lt $((invite_issued - CLOCK_SLACK)) ]; then
        fact STOP clock "$(date -u '+%F %T') UTC is before the invitation was made; set the clock (timedatectl set-ntp true)"
    elif [ -n "${invite_expires:-}" ] && [ "$now" -ge "$invite_expires" ]; then
        fact STOP clock "the invitation expired at $(date -u -d "@$invite_expires" '+%F %T') UTC; ask for a new one"
    else
        synced=$(timedatectl show -p NTPSynchronized --value 2>/dev/null)
        [ "$synced" = yes ] && fact ok clock "$(date -u '+%F %T') UTC, synchronised" ||
            fact note clock "$(date -u '+%F %T') UTC, not known to be synchronised"
    fi
    preflight_network
    preflight_use
}

os_field() { sed -n "s/^$1=//p" "$OS_RELEASE" 2>/dev/null | head -n 1 | tr -d '"' | tr -cd '\040-\176'; }

preflight_system() {
    os=$(os_field PRETTY_NAME)
    case $(os_field ID):$(os_field VERSION_ID):$(os_field ID_LIKE) in
        debian:12:*) fact ok system "$os" ;;
        debian:* | ubuntu:* | *:*debian*) fact warn system "${os:-unknown}: only Debian 12 is tested" ;;
        *) fact STOP system "${os:-unknown}: what is taken over is known for Debian and its kin only" ;;
    esac
    case $(uname -m) in
        x86_64) fact ok processor x86_64 ;;
        *) fact STOP processor "$(uname -m): releases are built for x86_64" ;;
    esac
    version=$(systemctl --version 2>/dev/null | awk 'NR == 1 { print $2 + 0 }')
    running=$(systemctl is-system-running 2>/dev/null)
    if [ "${version:-0}" -lt 252 ]; then fact STOP systemd "version ${version:-none} found, 252 or newer wanted"
    else case $running in
        running | degraded | starting | initializing | maintenance) fact ok systemd "$version, $running" ;;
        *) fact STOP systemd "$version is installed but does not run this machine (${running:-no answer})" ;;
    esac; fi
    for tool in awk tar sha256sum ssh-keygen flock prlimit systemd-run base64 timeout; do
        command -v "$tool" >/dev/null 2>&1 ||
            fact STOP tools "$tool is missing; apt-get install openssh-client coreutils tar util-linux systemd"
    done
    virt=$(systemd-detect-virt 2>/dev/null) || virt=${virt:-none}
    case $virt in
        none | '') fact ok kind "physical machine" ;;
        lxc* | docker | podman | openvz | systemd-nspawn | wsl | proot | rkt)
            fact warn kind "container ($virt): whoever runs its host is root in it" ;;
        *) fact note kind "virtual machine ($virt): its provider can read its memory and disk" ;;
    esac
}

# The board's way in will be this sshd; one that would not start again is no base for it.
preflight_sshd() {
    if ! command -v sshd >/dev/null 2>&1; then
        fact STOP sshd "not installed; apt-get install openssh-server"
    elif [ "$(id -u)" != 0 ]; then fact note sshd "installed; its configuration is for root to look at"
    else
        wrong=$(sshd -t 2>&1 </dev/null | head -n 1 | tr -cd '\040-\176' | cut -c1-160)
        case $wrong in
            '') fact ok sshd "installed, its configuration is clean (sshd -t)" ;;
            # Made by its unit when it starts: a socket may be all that runs now.
            *'privilege separation directory'*) fact note sshd "installed, does not run now" ;;
            *) fact STOP sshd "its configuration is not clean, mend it first (sshd -t): $wrong" ;;
        esac
    fi
}

# What an install makes must be its own: agents and secrets live there, and the way back removes it.
preflight_names() {
    [ "$(id -u)" = 0 ] && ! is_member || return 0
    # An earlier join made them, and what it began is open still.
    case $(takeover_state) in none | aborted) ;; *) return 0 ;; esac
    taken=0
    for folder in "$SOFTWARE" "$AGENT" "$KEEPER"; do
        is_free "$folder" || {
            taken=1
            fact STOP names "$folder is there already: join would use it and the way back would remove it; move it away"
        }
    done
    if own_account; then taken=1; fact STOP names "a user or group borgios is there already, and not as join makes it; rename or remove it"; fi
    [ "$taken" = 1 ] || fact ok names "folders and account of BorgIOS are not taken"
}

# is_free FOLDER: not there, or an empty folder.
is_free() {
    [ ! -L "$1" ] || return 1
    [ -e "$1" ] || return 0
    [ -d "$1" ] && [ -z "$(ls -A "$1" 2>/dev/null)" ]
}

# Somebody's own borgios: another user than systemd-sysusers makes from the release, or more groups.
own_account() {
    ! getent passwd borgios | awk -F: '
        $1 == "borgios" && !($3 > 0 && $3 < 1000 && $4 > 0 && $4 < 1000 &&
            $6 == "/var/lib/borgios" && $7 == "/usr/sbin/nologin") { exit 1 }' ||
        ! getent group | awk -F: '
            $1 == "borgios" && $4 != "" || $1 != "borgios" && ("," $4 ",") ~ /,borgios,/ { exit 1 }'
}

preflight_network() {
    if command -v ss >/dev/null 2>&1; then
        if ss -Hltn 2>/dev/null | awk '{ print $4 }' | grep -q ":$listen_port\$" && ! is_member; then
            fact STOP port "TCP $listen_port is in use; give another with --listen ADDR:PORT"
        else fact ok port "TCP $listen_port is free"; fi
    else fact note port "cannot look (ss is missing); TCP $listen_port must be free"; fi
    if [ -n "${advertise:-}" ]; then fact note reach "members will dial $advertise; whether it can be reached shows only after the join"
    elif [ -z "${invite_file:-}" ]; then fact note reach "no --advertise HOST:PORT: nobody could dial this machine, and a network's first server must have it"
    # Every other one joins through it, and nobody can be sent to an address that it does not have.
    elif [ -z "$invite_members" ]; then
        fact STOP reach "the invitation is for the first server of its network, and without --advertise HOST:PORT no other can join it; give where others reach this machine"
    # No warning: it is right behind NAT, and a join that nobody watches would end with it.
    else fact note reach "no --advertise HOST:PORT: nobody dials this machine, so it can be nobody's parent, for good; give it unless nobody can reach this machine"; fi
}

# What shows that somebody still uses this machine for something else: the wrong machine, perhaps.
preflight_use() {
    used=0
    in_use() { [ -z "$2" ] || { used=1; fact warn use "$1 $2"; }; }
    in_use "other programs listen on TCP:" "$(listeners | row)"
    in_use "accounts of people:" "$(getent passwd | awk -F: '$3 >= 1000 && $3 < 60000 { print $1 }' | row)"
    logins=$(who 2>/dev/null | awk '{ print $1 " on " $2 }')
    case $logins in
        *"
"*) in_use "logged in now:" "$(say "$logins" | row)" ;;
        ?*) fact note use "logged in now: $(say "$logins" | row)" ;;
    esac
    in_use "files in home folders:" "$(homes | row)"
    in_use "data of services:" "$(services | row)"
    [ "$used" = 1 ] || fact ok use "no listeners but ssh, no accounts of people, no data of services"
    up=$(cut -d. -f1 /proc/uptime 2>/dev/null)
    [ -z "$up" ] || fact note uptime "up for $((up / 86400)) days and $((up % 86400 / 3600)) hours"
}

# row: lines, of whatever others named so, as one line that is fit for a terminal.
row() { head -n 12 | tr '\n' ',' | tr -cd '\040-\176' | sed 's/,$//; s/,/, /g' | cut -c1-160; }

listeners() {
    ss -Hltnp 2>/dev/null | awk -v mine="$listen_port" '
    {
        port = $4; sub(/.*:/, "", port)
        name = $0
        if (sub(/.*users:\(\("/, "", name)) sub(/".*/, "", name); else name = ""
        if (port == mine || name ~ /^sshd/ || port == 22 && (name == "" || name == "systemd")) next
        if (name == "systemd-resolve" || seen[port]++) next
        print port (name == "" ? "" : " " name)
    }'
}

homes() {
    for home in /root /home/*; do
        [ -d "$home" ] || continue
        count=0
        for entry in "$home"/*; do
            case ${entry##*/} in
                # What was brought here for this very script is no use of the machine.
                '*' | bootstrap.sh | "${invite_file##*/}" | "${bundle##*/}" | "${owner_key##*/}") ;;
                *) count=$((count + 1)) ;;
            esac
        done
        [ "$count" = 0 ] || say "$home ($count)"
    done
}

services() {
    for folder in /var/lib/mysql /var/lib/postgresql /var/lib/mongodb /var/lib/redis /var/lib/docker/containers \
        /var/lib/containers/storage /var/lib/lxc /var/lib/machines /var/lib/libvirt/images /var/www /srv /var/mail; do
        empty "$folder" || say "$folder"
    done
}

empty() { set -- "$1"/*; [ ! -e "$1" ]; }

is_member() { [ -e "$KEEPER/keeper.key" ]; }

what_goes_where() {
    cat <<TEXT

== what join would put on this machine
  files   /opt/borgios/            root     the signed software: store/<digest>/, current/<name>
          /var/lib/borgios-keeper/ root     keeper's key, the chain of signed statements, journal
          /var/lib/borgios/        borgios  node's key, objects, downloaded blobs
          /etc/borgios/            root     agent.json; ssh/: the board's key, principals, revoked
          /var/lib/borgios-bootstrap/ root  this script's log and receipt
          /run/borgios/            borgios  two sockets: keeper.sock, api.sock
  user    borgios                  system account, no shell, no password, no sudo
  units   borgiosd.service         user borgios, all of the network, no privileges
          borgios-keeper.service   root, no network; obeys only what the board signed
          and the units of the services that the board's release names
  port    TCP $listen_port                 members over SSH with their own keys; public blobs over HTTP
TEXT
}

# The verified keeper's own list of what it would take; it changes nothing.
catalogue() {
    step "what is taken over here, as the verified keeper finds it"
    "$WORK/bundle/installer" takeover plan >"$WORK/catalogue" </dev/null 9>&-
    case $? in
        0) ;;
        126) die "$EX_PREFLIGHT" "no program may be executed in $WORK; set TMPDIR to a folder where one may" ;;
        *) die "$EX_PREFLIGHT" "the keeper cannot tell what it would take over here, see above; nothing was changed" ;;
    esac
    tr -d '\000-\010\013-\037\177' <"$WORK/catalogue" | sed 's/^/  /'
}

what_it_means() {
    cat <<TEXT

== what you give, and what you keep
  taken   every way into root: passwords, keys, sudo, agents, logins that are open. The SSH host
          key is made anew. sshd then takes no password and no key file from anybody, only
          certificates that the board signed; console logins have a password that changes by itself
  stays   files, services, packages, accounts without root's rights, addresses and ports
  can     the board (so many governors as its threshold says, together) can run anything here as
          root, read whatever this machine can read, and open root to one person for a while.
          It cannot do so secretly: every member keeps each signed statement
  cannot  fewer governors can order nothing, and no other member can; nothing that is found on
          this machine opens another one
  honest  whoever has the disk, the console or the hypervisor can always take this one machine:
          that only reinstalling gives it back is a rule of membership, not physics
  until   the purge: ./bootstrap.sh abort, a timer ($((DEADLINE_S / 60)) min) or a reboot brings everything back
  after   no login of yours opens root. The way out is to reinstall the operating system; the
          network notices by itself
TEXT
    if [ -n "$owner_key" ]; then cat <<TEXT
  key     its owner can take the machine out of the network (borgios depart); root stays closed
  backup  of what is taken, sealed to the owner's key: $STATE/owner-backup.age
TEXT
    else cat <<TEXT
  backup  NONE leaves this machine, and none is kept after the hand-over; --owner-key FILE makes one
TEXT
    fi
}

# ---- fetch and verify ------------------------------------------------------------------------
fetch() {
    step "fetch"
    if [ -n "$bundle" ]; then
        bounded_size "$bundle" || die "$EX_PREFLIGHT" "bundle $bundle is missing, no regular file, or longer than $BUNDLE_MAX bytes"
        cp -- "$bundle" "$WORK/bundle.tar" || die "$EX_PREFLIGHT" "cannot copy $bundle to $WORK: is the disk full?"
        say "  bundle $bundle, $(wc -c <"$WORK/bundle.tar") bytes"
    elif [ -n "$invite_url" ]; then
        case $invite_url in
            http://* | https://*) ;;
            *) die "$EX_PREFLIGHT" "the invitation's url is not http or https; give the bundle with --bundle FILE" ;;
        esac
        command -v curl >/dev/null 2>&1 || die "$EX_PREFLIGHT" "curl is missing: apt-get install curl, or give --bundle FILE"
        room
        # curl alone bounds only what says its length beforehand; prlimit bounds what it writes.
        prlimit --fsize=$((room + 1)) --core=0 \
            curl --globoff --proto '=http,https' --fail --silent --show-error --location --max-redirs 3 --retry 3 \
            --connect-timeout 20 --max-time 1800 --max-filesize "$room" \
            --output "$WORK/bundle.tar" -- "$invite_url" </dev/null && got=1 || got=0
        [ ! -e "$WORK/bundle.tar" ] || [ "$(wc -c <"$WORK/bundle.tar")" -le "$room" ] ||
            die "$EX_PREFLIGHT" "the bundle from $invite_url is longer than $room bytes, which is what a bundle may have here"
        [ "$got" = 1 ] || die "$EX_PREFLIGHT" "cannot download $invite_url within $room bytes; give the bundle with --bundle FILE"
        bounded_size "$WORK/bundle.tar" || die "$EX_PREFLIGHT" "there is no bundle at $invite_url; give it with --bundle FILE"
        say "  downloaded $invite_url"
    else
        die "$EX_PREFLIGHT" "no --bundle FILE, and the invitation names no url to download one from"
    fi
}

# Sets $room: bytes that a download may take in $WORK. What join wants of the disk stays free; plan,
# whose folder may be a small one in memory, leaves half.
room() {
    free=$(df -Pk "$WORK" 2>/dev/null | awk 'NR == 2 { print $4 }')
    number "$free" || free=0
    if [ "$command" = plan ]; then room=$((free / 2)); else room=$((free - FREE_KIB)); fi
    [ "$room" -gt 0 ] || die "$EX_PREFLIGHT" "$((free / 1024)) MiB free in $WORK are too few to download a bundle"
    room=$((room * 1024))
    [ "$room" -le "$BUNDLE_MAX" ] || room=$BUNDLE_MAX
}

bounded_size() { [ -f "$1" ] && [ "$(wc -c <"$1")" -le "$BUNDLE_MAX" ]; }

unpack() {
    # Uncompressed only: tar would unpack what is compressed unasked, however much comes out.
    case $(head -c 4 "$WORK/bundle.tar" | tr -d '\000') in
        rele | chai | inst | blob) ;;
        *) die "$EX_VERIFY" "the bundle is not an uncompressed tar archive" ;;
    esac
    tar -tf "$WORK/bundle.tar" >"$WORK/names" 2>/dev/null </dev/null ||
        die "$EX_VERIFY" "the bundle is not a tar archive"
    if grep -Evx 'release\.json|release\.json\.sig|chain\.json|installer|blobs/?|blobs/[0-9a-f]{64}' "$WORK/names" >"$WORK/odd"; then
        die "$EX_VERIFY" "the bundle holds $(head -n 1 "$WORK/odd" | tr -cd 'A-Za-z0-9._/-' | cut -c1-80), which no bundle has"
    fi
    [ -z "$(sort "$WORK/names" | uniq -d)" ] || die "$EX_VERIFY" "the bundle holds a name twice"
    # Owners as numbers: a name with a space in it would put something else into the size's column.
    tar --numeric-owner -tvf "$WORK/bundle.tar" >"$WORK/sizes" 2>/dev/null </dev/null
    if grep -qv '^[-d]' "$WORK/sizes"; then die "$EX_VERIFY" "the bundle holds something else than plain files"; fi
    awk -v max="$BUNDLE_MAX" '{ sum += $3 } END { exit sum > max }' "$WORK/sizes" ||
        die "$EX_VERIFY" "the bundle's files are longer than $BUNDLE_MAX bytes"
    mkdir "$WORK/bundle" &&
        tar -xf "$WORK/bundle.tar" -C "$WORK/bundle" --no-same-owner --no-same-permissions 2>/dev/null </dev/null ||
        die "$EX_VERIFY" "the bundle cannot be unpacked: cut short, or the disk is full"
    for name in release.json release.json.sig chain.json installer; do
        [ -f "$WORK/bundle/$name" ] || die "$EX_VERIFY" "the bundle has no $name"
    done
}

# Every check uses programs that this machine had before.
verify() {
    step "verify, with this machine's own ssh-keygen and sha256sum"
    unpack
    release=$WORK/bundle/release.json
    bounded "$release" "$RELEASE_MAX" && bounded "$release.sig" "$SIG_MAX" && clean_text "$release" ||
        die "$EX_VERIFY" "release.json or its signature is too long or not text"
    ssh-keygen -Y verify -f "$WORK/allowed_signers" -I governors -n borgios-release@v1 \
        -s "$release.sig" <"$release" >"$WORK/verdict" 2>&1 ||
        die "$EX_VERIFY" "release.json is NOT signed by the board $invite_board: $(head -n 1 "$WORK/verdict" | tr -cd 'A-Za-z0-9 ._:/@-' | cut -c1-120)"
    say "  ok    release.json is signed by the board $invite_board"

    [ "$(json_get "$release" lane)" = release ] || die "$EX_VERIFY" "release.json is signed, but is no release"
    [ "$(json_get "$release" network)" = "$invite_network" ] ||
        die "$EX_VERIFY" "release.json is of another network than $invite_network"
    release_seq=$(json_get "$release" seq) && number "$release_seq" || die "$EX_VERIFY" "release.json has no number"
    release_version=$(json_get "$release" body.version | tr -cd 'A-Za-z0-9._+-' | cut -c1-63)
    release_expires=$(json_get "$release" expires) && number "$release_expires" || die "$EX_VERIFY" "release.json has no expiry"
    [ "$(date +%s)" -lt "$release_expires" ] ||
        die "$EX_VERIFY" "release/$release_seq expired at $(date -u -d "@$release_expires" '+%F %T') UTC; ask for a newer bundle"
    say "  ok    release/$release_seq, version $release_version, of network $invite_network"
    # The installer would refuse it too, but only after the consent. What the bundle's own chain may
    # rule on is for the installer to judge.
    if number "$invite_release" && [ "$release_seq" -lt "$invite_release" ] &&
        ! head -c "$INVITE_MAX" "$WORK/bundle/chain.json" | grep -q '"rulings\\":\['; then
        die "$EX_VERIFY" "the bundle's release/$release_seq is older than release/$invite_release, which the invitation knows; ask for a newer bundle"
    fi

    found=sha256:$(sha256 "$WORK/bundle/installer")
    [ "$(json_get "$release" body.installer.digest)" = "$found" ] ||
        die "$EX_VERIFY" "installer has $found, which is not what release.json names: it was tampered with"
    say "  ok    installer      $found"
    json_get "$release" 'body.components[].digest' >"$WORK/digests" &&
        json_get "$release" 'body.components[].name' | tr -cd 'a-z0-9\n-' >"$WORK/names" &&
        paste "$WORK/digests" "$WORK/names" >"$WORK/components" ||
        die "$EX_VERIFY" "release.json names no components"
    for blob in "$WORK"/bundle/blobs/*; do
        [ -f "$blob" ] || continue
        found=sha256:$(sha256 "$blob")
        [ "sha256:${blob##*/}" = "$found" ] && grep -Fqx "$found" "$WORK/digests" ||
            die "$EX_VERIFY" "blob ${blob##*/} has $found, which release.json does not name: it was tampered with"
        say "  ok    $(awk -v want="$found" '$1 == want { printf "%-14s", $2; exit }' "$WORK/components") $found"
    done
    while read -r want; do
        [ -f "$WORK/bundle/blobs/${want#sha256:}" ] || die "$EX_VERIFY" "the bundle lacks component $want"
    done <"$WORK/digests"
    chmod 700 "$WORK/bundle/installer" || die "$EX_PREFLIGHT" "cannot make the installer executable"
}

# ---- consent ---------------------------------------------------------------------------------
consent() {
    step "consent"
    cat <<TEXT
This hands root on $host to the network $invite_name
  ($invite_network, board $invite_board),
release/$release_seq first. It joins $(joins_how).
No login of the owner will open root afterwards; the only way back is to reinstall the operating system.
TEXT
    typed=''
    if [ -n "$hand_over" ]; then
        [ "$warnings" = 0 ] || [ "$yes" = 1 ] ||
            die "$EX_PREFLIGHT" "there are warnings above ($warnings); without a terminal they need --yes"
        say "Consent: --hand-over $hand_over"
    else
        # The script itself may be what stands on stdin, so only the terminal can say yes.
        ( : </dev/tty ) 2>/dev/null ||
            die "$EX_PREFLIGHT" "no terminal to ask on; give --hand-over $host to consent without one"
        printf 'Type %s to continue: ' "$host" >/dev/tty
        read -r typed </dev/tty || typed=''
        [ "$typed" = "$host" ] || die "$EX_PREFLIGHT" "that is not $host; nothing was changed"
    fi
    # From here on a closed terminal must not end what was begun.
    trap '' HUP PIPE
}

# ---- what is remembered ----------------------------------------------------------------------
# In $STATE: lock (held while a join runs), abort.lock (while it is aborted), shell (which one runs
# it), stage, inputs (what the open take-over was agreed to with), join.log and join.exit (of the
# unit), keeper and takeover/ (the take-over's own), node and owner.pub (the keeper makes the receipt
# from them, if the power goes before this script does), owner-backup.age, receipt.txt, handover.*,
# invitation (digest and path of the file that is removed at the very end, until it is)

# Root runs what lies there, and somebody may have made the folder before.
own_folder() {
    no_link
    mkdir -p "$STATE" && no_link && chown -h 0:0 "$STATE" && chmod 700 "$STATE" || die "$EX_PREFLIGHT" "cannot make $STATE root's own"
}
no_link() { [ ! -L "$STATE" ] || die "$EX_PREFLIGHT" "$STATE is a link, and must be root's own folder; nothing was changed"; }

# durable FILE…: on the disk now, whatever becomes of the power. An old sync knows no files.
durable() { sync "$@" 2>/dev/null || sync; }

# What is agreed to. A join that was cut off goes on only with the very same.
inputs() {
    cat <<TEXT
network $invite_network
board $invite_board
invitation $(sha256 "$WORK/invite.json")
bundle $(sha256 "$WORK/bundle.tar")
owner $(cat "$WORK/owner.pub" 2>/dev/null || say none)
name $host listen ${listen:-default} advertise ${advertise:-none}
TEXT
}

# Notes this shell as the one that runs the join, so that abort can end it outside of the unit too.
# Its start says whether the number is still its own.
note_shell() {
    read -r self _ </proc/self/stat
    printf '%s %s\n' "$self" "$(started "$self")" >"$STATE/shell.new" && mv -f "$STATE/shell.new" "$STATE/shell"
}
started() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

stage() {
    printf '%s %s\n' "$1" "$(date -u +%FT%TZ)" >"$STATE/stage.new" && mv -f "$STATE/stage.new" "$STATE/stage" || return 1
}

# takeover VERB…: the verified keeper's take-over, from where its timer and boot unit run it too.
takeover() { "$TAKER" takeover "$@" </dev/null; }

takeover_state() { # none|open|purging|done|aborting|aborted, by the keeper's own journal
    [ -x "$TAKER" ] || { say none; return; }
    takeover_says state || say unknown
}
takeover_says() { takeover status --json 2>/dev/null | json_get - "$1"; }

# Whether the take-over is open, and for as long as what is still to come may need; sets $left. The
# timer may have been first: then nothing may be changed any more.
time_left() {
    left=0
    [ "$(takeover_state)" = open ] || return 1
    left=$(takeover_says remaining_s) && number "$left" || left=0
    [ "$left" -ge "$LEFT_S" ]
}

# Before the purge: takes everything back, then ends. Whoever fails calls this, and so nobody
# forgets it; what it cannot do now, the timer and the boot unit do.
undo() { # CODE-IF-ALL-IS-BACK TEXT…
    back=$1; shift
    printf 'bootstrap.sh: %s\n' "$*" >&2
    step "bringing everything back"
    rm -rf -- "$WORK" # a full disk may be what failed
    takeover abort >&2 || :
    case $(takeover_state) in
        none | aborted)
            if is_member; then die "$EX_JOIN" "no take-over is open any more, but this machine is a member all the same; look at ./bootstrap.sh status"; fi
            forget aborted
            say "  everything is as it was before; nothing of BorgIOS runs here"
            exit "$back" ;;
        *) die "$EX_JOIN" "not everything could be brought back, see above; the keeper's timer tries again, and so does ./bootstrap.sh abort" ;;
    esac
}

forget() { # STAGE: what only an open take-over needs
    stage "$1" || :
    rm -f "$TAKER" "$STATE/owner.pub" "$STATE/node" "$STATE/inputs" "$STATE/shell"
}

# ---- backup: the take-over is open from here on ----------------------------------------------
backup() {
    step "backup of everything that will change"
    stage backup && note_shell && inputs >"$WORK/inputs" ||
        die "$EX_JOIN" "cannot write to $STATE: is the disk full? Nothing was changed"
    if goes_on; then say "  still open since the join that was cut off, for $left s"
    else open_takeover; fi
    copy_away
}

# Whether a join that was cut off left open what this one can go on with. What it agreed to with
# other inputs, or with a deadline that is near, is taken back: this one begins anew.
goes_on() {
    case $(takeover_state) in
        open) why='its deadline is near' ;;
        aborting) why='it was on its way back' ;;
        *) return 1 ;;
    esac
    if [ "$(cat "$WORK/inputs")" != "$(cat "$STATE/inputs" 2>/dev/null)" ]; then why='it was for other inputs than this one'
    elif [ -n "$owner_key" ] && [ ! -s "$STATE/owner-backup.age" ]; then why='its sealed backup is gone'
    elif time_left; then return 0; fi
    say "  what an earlier join left open is taken back first: $why"
    takeover abort || undo "$EX_ROLLED_BACK" "what an earlier join left could not be taken back, see above"
    return 1
}

open_takeover() {
    again=0
    # Of a join that the timer took back, perhaps.
    rm -f "$STATE/owner.pub" "$STATE/node" "$STATE/inputs"
    cp -- "$WORK/bundle/installer" "$TAKER.new" && chmod 755 "$TAKER.new" && durable "$TAKER.new" &&
        mv -f "$TAKER.new" "$TAKER" ||
        die "$EX_JOIN" "cannot write $TAKER: is the disk full? Nothing was changed"
    # Before it is open: an open one without its inputs is nobody's to go on with.
    cp -- "$WORK/inputs" "$STATE/inputs.new" && durable "$STATE/inputs.new" && mv -f "$STATE/inputs.new" "$STATE/inputs" ||
        undo "$EX_ROLLED_BACK" "cannot write $STATE/inputs: is the disk full?"
    set -- --deadline-s "$DEADLINE_S"
    if [ -n "$owner_key" ]; then
        rm -f "$STATE/owner-backup.age"
        cp -- "$WORK/owner.pub" "$STATE/owner.pub" || undo "$EX_ROLLED_BACK" "cannot write $STATE/owner.pub"
        set -- "$@" --owner-key "$STATE/owner.pub" --sealed "$STATE/owner-backup.age"
    fi
    takeover begin "$@" >"$WORK/open" || undo "$EX_ROLLED_BACK" "the keeper could not make the backup, see above"
    until=$(sed -n 's/^open until \([0-9]*\)$/\1/p' "$WORK/open")
    say "  made; unless root was handed over by then, it is put back at $(date -u -d "@${until:-0}" '+%F %T') UTC or at the next boot"
}

# The owner's own copy of the backup. Only a line from the terminal is an Enter: one that closes hands
# nothing over. The deadline runs meanwhile, and who needs longer begins anew.
copy_away() {
    [ -n "$owner_key" ] || return 0
    say "  sealed to the owner's key: $STATE/owner-backup.age ($(wc -c <"$STATE/owner-backup.age") bytes)"
    [ -n "$typed" ] || return 0
    in_time
    say "  there are $(((left - LEFT_S) / 60)) minutes to copy it; ./bootstrap.sh abort, in another login, ends this"
    printf 'Copy it off this machine now, then press Enter to hand root over: ' >/dev/tty
    read -r _ </dev/tty || undo "$EX_ROLLED_BACK" "the terminal was closed before Enter was pressed"
    in_time
}

in_time() {
    time_left || undo "$EX_ROLLED_BACK" "the deadline has passed or is too near ($left s left, $LEFT_S wanted); run join again"
}

# ---- in a unit of its own, whatever becomes of the terminal ----------------------------------
# The rest runs as a fork of this shell, so that it also works when the script came by a pipe, and
# moves itself into a unit below the system: the purge ends logins, and with them what they run.
run_apart() {
    : >"$STATE/join.log" || undo "$EX_ROLLED_BACK" "cannot write $STATE/join.log"
    trap - EXIT INT TERM # the work folder is the other one's from here on
    ( rest ) </dev/null >>"$STATE/join.log" 2>&1 &
    exec 9>&-
    trap 'exit 129' HUP
    trap - PIPE
    say ''
    say "From here on it runs in the unit $UNIT.scope, also without this terminal; its log: $STATE/join.log"
    follow
}

# Shows the log from its beginning to its end, then ends with the exit code of what wrote it.
follow() {
    seen=0 gone=0 over=''
    while [ -z "$over" ]; do
        # Looked at before the log is: what is written before the end is shown before the end.
        if [ -e "$STATE/join.exit" ]; then over=ended
        # Nobody holds the locks, and after a second still nobody: nor did an abort end it.
        elif flock -s -n "$STATE/lock" flock -s -n "$STATE/abort.lock" true 2>/dev/null; then
            gone=$((gone + 1))
            [ "$gone" -lt 5 ] || over=killed
        else gone=0; fi
        size=$(wc -c <"$STATE/join.log" 2>/dev/null) || size=0
        if [ "$size" -gt "$seen" ]; then
            tail -c "+$((seen + 1))" "$STATE/join.log" | head -c "$((size - seen))"
            seen=$size
        fi
        [ -n "$over" ] || sleep 0.2
    done
    code=$(cat "$STATE/join.exit" 2>/dev/null) || code=''
    number "$code" && exit "$code"
    die "$EX_JOIN" "the join was cut off at: $(cat "$STATE/stage" 2>/dev/null). Run it again to go on; ./bootstrap.sh status says what will happen otherwise"
}

leave() { # CODE: the last words to whoever follows
    rm -rf -- "$WORK"
    printf '%s\n' "$1" >"$STATE/join.exit.new" && mv -f "$STATE/join.exit.new" "$STATE/join.exit"
}

own_unit() {
    read -r self _ </proc/self/stat
    # systemd makes the scope around the program it starts; that program moves this shell into it.
    # shellcheck disable=SC2016
    systemd-run --quiet --scope --collect --slice=system.slice --unit="$UNIT" \
        --description="BorgIOS: root changes hands" -- /bin/sh -c '
            while IFS=: read -r number names path; do
                case $number:$names in
                    0:) folders="/sys/fs/cgroup /sys/fs/cgroup/unified" ;;
                    *:name=systemd) folders=/sys/fs/cgroup/systemd ;;
                    *) continue ;;
                esac
                for folder in $folders; do
                    [ ! -w "$folder$path/cgroup.procs" ] || echo "$1" >"$folder$path/cgroup.procs"
                done
            done </proc/self/cgroup
            grep -q "/$2.scope\$" "/proc/$1/cgroup"' - "$self" "$UNIT" 9>&-
}

rest() {
    trap 'leave $?' EXIT
    trap 'exit 143' TERM
    if [ "$handed" = 0 ]; then
        # Until then the unit is not there, and the shell that was noted only shows the log from here on.
        note_shell || undo "$EX_ROLLED_BACK" "cannot write $STATE/shell: is the disk full?"
        own_unit || undo "$EX_ROLLED_BACK" "cannot leave this login for a unit of its own, and the purge ends logins"
        install_agent
        wait_for_tree
        try_out
        purge
    else
        own_unit || die "$EX_JOIN" "cannot leave this login for a unit of its own, and what is left to do ends logins"
        purge
        wait_for_agent
    fi
    rotate
    check
    receipt
    end_sessions
}

# ---- until the purge -------------------------------------------------------------------------
at_stage() { stage "$1" || undo "$EX_ROLLED_BACK" "cannot write $STATE/stage: is the disk full?"; }

install_agent() {
    step "install: running the verified installer"
    at_stage install
    # Looked at here, whatever was waited for before: once the timer has taken back what it had to,
    # nothing would bring back what is installed after it.
    in_time
    set -- install --bundle "$WORK/bundle.tar" --invite "$WORK/invite.json" --name "$host"
    [ -z "$listen" ] || set -- "$@" --listen "$listen"
    [ -z "$advertise" ] || set -- "$@" --advertise "$advertise"
    # It ends before the deadline does: nothing may be installed while the timer takes things back.
    [ -z "$owner_key" ] || set -- "$@" --owner "$(cat "$WORK/owner.pub")"
    # What it installs is for every service to read; its own secrets it closes itself.
    (umask 022 && exec timeout -s KILL "$((left * 9 / 10))" "$WORK/bundle/installer" "$@" </dev/null 9>&-)
    case $? in
        0) ;;
        "$EX_VERIFY") undo "$EX_VERIFY" "the installer found what this script could not look into, above" ;;
        # The run that was cut off had come that far; what is left is the wait for the tree.
        "$EX_MEMBER") [ "$again" = 1 ] || undo "$EX_ROLLED_BACK" "the installer takes this machine for a member already" ;;
        "$EX_ROLLED_BACK") undo "$EX_ROLLED_BACK" "the release did not pass its health check and was rolled back" ;;
        *) undo "$EX_ROLLED_BACK" "the installer failed; run join again when its complaint above is mended" ;;
    esac
}

agent_answers() { # the agent's own word, over its local socket
    "$CLI" status --json >"$WORK/status.json" 2>/dev/null </dev/null 9>&- || return 1
    node=$(json_get "$WORK/status.json" node 2>/dev/null) || return 1
}

in_tree() {
    agent_answers || return 1
    # The first server of a network is the tree's root; every other one hangs below a parent.
    case $(json_get "$WORK/status.json" tree.state) in attached | root) ;; *) return 1 ;; esac
}

wait_for_tree() {
    step "join: waiting until $host has its place in the tree"
    at_stage join
    waited=0
    until in_tree; do
        if [ "$waited" -ge "$JOIN_WAIT" ]; then
            journalctl -q --no-pager -n 15 -u borgiosd -u borgios-keeper 2>/dev/null
            undo "$EX_ROLLED_BACK" "not in the tree after $JOIN_WAIT s"
        fi
        # The timer may have been first.
        [ $((waited % 10)) != 9 ] || [ "$(takeover_state)" = open ] || undo "$EX_ROLLED_BACK" "the deadline has passed"
        waited=$((waited + 1))
        sleep 1
    done
    say "  in the tree after $waited s"
}

try_out() {
    step "trial: a login over the final sshd configuration, while the old ways in still work"
    at_stage trial
    takeover trial || undo "$EX_ROLLED_BACK" "the trial failed, see above"
}

# ---- the purge, and after it -----------------------------------------------------------------
# From here on there is no way back, only forward: what fails is said, and done by the next join.
onward() { die "$EX_JOIN" "$*. Root is handed over; run join again to do the rest, or the keeper does it at its deadline or the next boot"; }

purge() {
    step "purge: every other way into root is closed"
    stage purge && note_node || [ "$handed" = 1 ] || undo "$EX_ROLLED_BACK" "cannot write to $STATE: is the disk full?"
    takeover apply && return
    case $(takeover_state) in
        purging | done) onward "the purge is not complete, see above" ;;
        *) undo "$EX_ROLLED_BACK" "the purge failed, see above" ;;
    esac
}

# What the receipt needs: the timer or the next boot makes it, should this end before it does.
note_node() {
    [ "$handed" = 0 ] || return 0
    printf '%s\n' "$node" >"$STATE/node.new" && durable "$STATE/node.new" && mv -f "$STATE/node.new" "$STATE/node" || return 1
    [ ! -e "$STATE/owner.pub" ] || durable "$STATE/owner.pub" || return 1
    durable "$STATE"
}

after_purge() { # STAGE TEXT
    step "$2"
    stage "$1" || onward "cannot write $STATE/stage: is the disk full?"
}

wait_for_agent() {
    waited=0
    until agent_answers; do
        [ "$waited" -lt "$JOIN_WAIT" ] || onward "the agent does not answer: journalctl -u borgiosd"
        waited=$((waited + 1))
        sleep 1
    done
}

rotate() {
    after_purge rotate "first rotation of the root credential"
    "$TAKER" rotate --once </dev/null || onward "the root credential could not be changed, see above"
    say "  ok    no password of the owner opens root"
}

check() {
    after_purge verify "check: is anything left of the old ways in?"
    takeover verify || onward "something is left, see above"
}

# The keeper's signed word on what it took, in files that stock ssh-keygen checks.
receipt() {
    after_purge receipt "receipt"
    set -- --node "$node" --name "$host"
    [ ! -e "$STATE/owner.pub" ] || set -- "$@" --owner-key "$STATE/owner.pub"
    takeover receipt "$@" >"$WORK/handover" && payload=$(json_get "$WORK/handover" payload) &&
        signer=$(json_get "$WORK/handover" 'sigs[].by') && signature=$(json_get "$WORK/handover" 'sigs[].sig') ||
        onward "the keeper made no receipt, see above"
    printf '%s' "$payload" >"$STATE/handover.json" && sshsig borgios-handover@v1 >"$STATE/handover.json.sig" &&
        printf 'keeper namespaces="borgios-handover@v1" %s\n' "$signer" >"$STATE/handover.signers" ||
        onward "cannot write the receipt to $STATE: is the disk full?"
    proof="ssh-keygen -Y verify -f handover.signers -I keeper -n borgios-handover@v1 -s handover.json.sig <handover.json"
    (cd "$STATE" && eval "$proof") >"$WORK/verdict" 2>&1 ||
        onward "ssh-keygen does not take the receipt: $(head -n 1 "$WORK/verdict" | tr -cd '\040-\176' | cut -c1-120)"
    receipt_text >"$STATE/receipt.txt" || onward "cannot write $STATE/receipt.txt: is the disk full?"
    cat "$STATE/receipt.txt"
}

# sshsig NAMESPACE: $signature, 64 bytes in base64 by the key $signer, as the file that ssh-keygen
# reads (PROTOCOL.sshsig): every field is a length of four bytes and that many bytes.
sshsig() {
    say '-----BEGIN SSH SIGNATURE-----'
    {
        printf 'SSHSIG\000\000\000\001'
        printf '\000\000\000\063'; printf '%s' "${signer#ssh-ed25519 }" | base64 -d
        printf "\\000\\000\\000\\$(printf %03o ${#1})%s" "$1"
        printf '\000\000\000\000\000\000\000\006sha512\000\000\000\123\000\000\000\013ssh-ed25519\000\000\000\100'
        printf '%s' "$signature" | base64 -d
    } | base64 -w 70
    say '-----END SSH SIGNATURE-----'
}

receipt_text() {
    release=${release_seq:-$(json_get "$WORK/status.json" keeper.installed 2>/dev/null)}
    cat <<TEXT
RECEIPT of $(date -u '+%F %T') UTC: root on $host was handed over

  network     $(receipt_network)
  board       $(receipt_board)
  node        $node
  release     ${release:-unknown}${release_version:+, version $release_version}
  host key    $(host_keys)
              of this machine's sshd from now on; the old one is gone
  running     borgiosd.service (user borgios), borgios-keeper.service (root, no network)
  files       /opt/borgios, $KEEPER, /var/lib/borgios, /etc/borgios, $STATE
  ways in     certificates that the board signs; at the console the network's password, once it has one
  the way out reinstall the operating system; the network notices by itself
  now         $(leftover)

What the keeper took over and signed (handover.json):
$payload
$(cat "$STATE/handover.json.sig")
handover.signers: $(cat "$STATE/handover.signers")
check it, also elsewhere, with these three as files ($STATE has them):
  $proof
TEXT
}

# What is left to do about the invitation: nobody can log in to remove it once this has ended.
leftover() {
    if is_ours; then say "delete every other copy of the invitation: it holds a secret; the one given here goes by itself"
    else say "delete the invitation file: it holds a secret"; fi
}

# Whether the file given with --invite is still there, a plain one, and what was read from it.
is_ours() { [ -f "$invite_file" ] && [ ! -L "$invite_file" ] && [ "$(sha256 "$invite_file")" = "$invite_digest" ]; }

# Notes it as one that is to go, so that whoever runs join again where that was cut off ends it.
note_invitation() {
    is_ours || return 0
    case $invite_file in /*) path=$invite_file ;; *) path=$PWD/$invite_file ;; esac
    printf '%s\n%s\n' "$invite_digest" "$path" >"$STATE/invitation.new" &&
        durable "$STATE/invitation.new" && mv -f "$STATE/invitation.new" "$STATE/invitation"
}

# Removes what an earlier join noted.
drop_noted() {
    [ -s "$STATE/invitation" ] || return 0
    invite_digest=$(sed -n 1p "$STATE/invitation") invite_file=$(sed 1d "$STATE/invitation")
    gone=$STATE/borgios-bootstrap.invitation
    # It was moved already, and may be half overwritten.
    if [ -f "$gone" ] && [ ! -L "$gone" ]; then overwrite "$gone"; fi
    drop_invitation
}

# Removes it. It is moved into root's own folder first, where nobody can put another file in its place
# between look and overwriting.
drop_invitation() {
    if is_ours; then
        gone=$STATE/borgios-bootstrap.invitation
        mv -f -- "$invite_file" "$gone" 2>/dev/null || return 0
        if [ -f "$gone" ] && [ ! -L "$gone" ] && [ "$(sha256 "$gone")" = "$invite_digest" ]; then overwrite "$gone"
        else mv -n -- "$gone" "$invite_file"; fi
    fi
    rm -f "$STATE/invitation"
}
overwrite() { shred -u -- "$1" 2>/dev/null || rm -f -- "$1"; }

# By what the keeper signed and what its doors are open to: this run's invitation may be another one.
receipt_network() {
    signed=$(json_get "$STATE/handover.json" network) || signed=unknown
    if [ "$signed" = "$invite_network" ]; then say "$invite_name, $signed"; else say "$signed"; fi
}
receipt_board() {
    board=$(ssh-keygen -lf "$BOARD_KEY" 2>/dev/null | awk 'NR == 1 { print $2 }')
    say "${board:-unknown}"
}

host_keys() {
    json_get "$STATE/handover.json" 'host_keys[]' | while read -r key; do
        say "$key" | ssh-keygen -lf - | awk '{ print $2, $NF }'
    done | row
}

# Last, for it may end the very login that shows this: whoever follows is given time to.
end_sessions() {
    after_purge sessions "logins that are still open, this one too, end in a moment"
    leave 0
    sleep 2
    takeover end-sessions || onward "a login could not be ended, see above"
    # Until it ended, such a login could open again what was found shut, and give root a password.
    "$TAKER" rotate --once </dev/null || onward "the root credential could not be changed, see above"
    takeover apply && takeover verify || onward "something came back before the last login ended, see above"
    note_invitation
    forget joined
    # Not before: a join that was cut off needs it to go on.
    drop_invitation
}

# ---- commands --------------------------------------------------------------------------------
work_folder() { # in FOLDER
    WORK=$(mktemp -d "$1/borgios-bootstrap.XXXXXX") || die "$EX_PREFLIGHT" "cannot make a work folder in $1"
    trap 'rm -rf -- "$WORK"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}

plan() {
    [ -z "$bundle" ] || [ -n "$invite_file" ] || die "$EX_USAGE" "plan --bundle needs --invite FILE, to check it against"
    work_folder "${TMPDIR:-/tmp}"
    read_owner_key
    if [ -n "$invite_file" ]; then
        read_invitation "$invite_file"
        step "the invitation"
        say "  network     $invite_name, $invite_network"
        say "  board's key $invite_board   (compare it with what a governor tells you in person)"
        say "  valid until $(date -u -d "@$invite_expires" '+%F %T') UTC"
        say "  joins       $(joins_how)"
    fi
    preflight
    if [ -n "$bundle" ]; then
        fetch
        verify
        if [ "$(id -u)" = 0 ]; then catalogue; else say "  what is taken over here is for root to see"; fi
    fi
    what_goes_where
    what_it_means
    say ''
    if is_member; then say "plan: this machine is a member already (see ./bootstrap.sh status); nothing was changed"; exit "$EX_MEMBER"; fi
    if [ "$stops" -gt 0 ]; then say "plan: join would refuse (marked STOP: $stops); nothing was changed"; exit "$EX_PREFLIGHT"; fi
    say "plan: join would go on (warnings: $warnings); nothing was changed"
}

join() {
    [ -n "$invite_file" ] || die "$EX_USAGE" "join needs --invite FILE"
    host=$(uname -n)
    [ -z "$hand_over" ] || [ "$hand_over" = "$host" ] ||
        die "$EX_USAGE" "--hand-over $hand_over, but this machine is $host; nothing was changed"
    [ "$(id -u)" = 0 ] || die "$EX_PREFLIGHT" "join needs root (uid 0), this is uid $(id -u)"
    own_folder
    exec 9>"$STATE/lock"
    # Whoever only looks whether it is held, holds it for a moment.
    flock -w 0.2 9 || attach
    where_it_stopped
    # What an earlier join left; nobody else makes such folders, and we hold the lock.
    rm -rf "$STATE"/borgios-bootstrap.* "$STATE/join.log" "$STATE/join.exit"
    work_folder "$STATE"
    read_invitation "$invite_file"
    if [ "$handed" = 0 ]; then
        read_owner_key
        preflight
        [ "$stops" = 0 ] || die "$EX_PREFLIGHT" "refused (marked STOP above: $stops); nothing was changed"
        fetch
        verify
        catalogue
        what_goes_where
        what_it_means
        consent
        backup
    fi
    run_apart
}

# Somebody else holds the lock: a join that has its own unit is shown, any other is left alone.
attach() {
    exec 9>&-
    [ "$(cat "$STATE/join.exit" 2>/dev/null)" != 0 ] ||
        die "$EX_MEMBER" "this machine is a member already; see ./bootstrap.sh status"
    [ -e "$STATE/join.log" ] || die "$EX_PREFLIGHT" "another bootstrap.sh is running on this machine"
    say "a join runs on this machine already; this is its log from the beginning"
    follow
}

# A join that was cut off goes on; what was taken back begins anew; any other member stays one.
where_it_stopped() {
    again=0 handed=0
    last=$(cat "$STATE/stage" 2>/dev/null)
    case $(takeover_state):${last%% *} in
        done:joined) ;;
        purging:* | done:*) handed=1 ;;
        open:* | aborting:*) again=1 ;;
        *:install | *:join | *:rolled-back) if is_member; then again=1; fi ;;
    esac
    if [ "$again$handed" != 00 ]; then say "an earlier join stopped at: ${last:-its beginning}; going on"
    elif is_member; then
        drop_noted
        die "$EX_MEMBER" "this machine is a member already; see ./bootstrap.sh status"
    fi
}

read_owner_key() {
    [ -n "$owner_key" ] || return 0
    bounded "$owner_key" 16384 && [ "$(grep -c '' <"$owner_key")" = 1 ] &&
        grep -Eqx 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI[A-Za-z0-9+/]{43}( .*)?' "$owner_key" ||
        die "$EX_PREFLIGHT" "--owner-key $owner_key is not one line 'ssh-ed25519 AAAA…', a public key as in id_ed25519.pub"
    cut -d' ' -f1,2 "$owner_key" >"$WORK/owner.pub"
    ssh-keygen -lf "$WORK/owner.pub" >/dev/null 2>&1 || die "$EX_PREFLIGHT" "ssh-keygen does not take the key in $owner_key"
}

# Before the purge all of it comes back; the keeper's journal decides which it is.
abort() {
    [ "$(id -u)" = 0 ] || die "$EX_PREFLIGHT" "abort needs root (uid 0), this is uid $(id -u)"
    no_link
    [ -d "$STATE" ] || { say "no join has begun here; nothing to bring back"; return 0; }
    # Held from before the kill to the end, so that whoever follows the join never finds nobody at work.
    exec 8>"$STATE/abort.lock"
    flock -w 30 8 || die "$EX_PREFLIGHT" "another ./bootstrap.sh abort is running on this machine"
    exec 9>"$STATE/lock"
    if ! flock -w 0.2 9; then
        case $(takeover_state) in
            open) ;;
            purging | done | aborting) too_late ;;
            *) die "$EX_PREFLIGHT" "a bootstrap.sh is running that has changed nothing yet; end it where it runs" ;;
        esac
        # More than once: what waited for its owner may just have been on its way into the unit.
        tries=0
        while end_join && ! flock -w 1 9; do
            tries=$((tries + 1))
            [ "$tries" -lt 30 ] || die "$EX_PREFLIGHT" "a join is running that does not end; look at $STATE/join.log"
        done
    fi
    case $(takeover_state) in
        none | aborted)
            if is_member; then too_late; fi
            rm -rf "$STATE"/borgios-bootstrap.*
            [ ! -x "$TAKER" ] || forget aborted
            say "nothing to bring back: no join has changed anything here" ;;
        # What was killed in the middle of it must not stay there.
        purging) takeover apply; too_late ;;
        done) too_late ;;
        *)
            takeover abort || die "$EX_JOIN" "not everything could be brought back, see above; the keeper's timer tries again, and so does ./bootstrap.sh abort"
            rm -rf "$STATE"/borgios-bootstrap.*
            forget aborted
            [ -e "$STATE/join.exit" ] || say "$EX_ROLLED_BACK" >"$STATE/join.exit"
            say "everything is as it was before the join; nothing of BorgIOS runs here" ;;
    esac
}

# Ends whatever runs the join: its unit, and the shell that is not in it yet. Only while all of it can
# be brought back.
end_join() {
    [ "$(takeover_state)" = open ] || return 0
    systemctl kill -s KILL "$UNIT.scope" 2>/dev/null
    # shellcheck disable=SC2046 # two words
    set -- $(cat "$STATE/shell" 2>/dev/null)
    [ $# != 2 ] || [ "$(started "$1")" != "$2" ] || kill -s KILL "$1" 2>/dev/null || :
}

too_late() {
    die "$EX_PREFLIGHT" "no: root is handed over. The old ways in are gone and no copy of them is kept here, so only reinstalling the operating system gives this machine back"
}

status() {
    [ "$(id -u)" = 0 ] || die "$EX_PREFLIGHT" "status needs root: the keeper's folder is closed to uid $(id -u)"
    no_link
    case $(takeover_state) in
        open | aborting) say "a join is under way; root is not handed over yet" ;;
        purging) say "root is handed over; what is left goes on with join, the keeper's timer or the next boot" ;;
        *) if is_member; then say "member"; else say "not a member: $KEEPER/keeper.key does not exist"; fi ;;
    esac
    say "  last stage of bootstrap: $(cat "$STATE/stage" 2>/dev/null || say none)"
    keeper=$TAKER
    [ -x "$keeper" ] || keeper=$INSTALLED
    [ ! -x "$keeper" ] || say "  take-over: $("$keeper" takeover status </dev/null 2>&1 | head -n 1)"
    is_member || return 0
    for unit in borgiosd borgios-keeper; do
        say "  $unit.service: $(systemctl is-active "$unit.service" 2>/dev/null)"
    done
    [ ! -x "$CLI" ] || "$CLI" status </dev/null
}

demo() {
    here=$(CDPATH='' cd -- "$(dirname -- "$0")" 2>/dev/null && pwd) || here=''
    [ -n "$here" ] && [ -f "$here/tests/demo/demo.sh" ] ||
        die "$EX_USAGE" "demo runs from a checkout of the source: git clone it, then ./bootstrap.sh demo"
    # shellcheck disable=SC1091
    . "$here/tests/demo/demo.sh"
    demo_main "$@"
}

main() {
    command=${1:-}
    [ $# = 0 ] || shift
    invite_file='' bundle='' hand_over='' owner_key='' listen='' advertise='' yes=0
    case $command in
        '' | help | --help | -h) explain; return 0 ;;
        demo) demo "$@"; return $? ;;
        plan | join | abort | status) ;;
        *) die "$EX_USAGE" "unknown command; ./bootstrap.sh without arguments explains" ;;
    esac
    while [ $# -gt 0 ]; do
        flag=$1; shift
        case $command:$flag in
            join:--yes) yes=1; continue ;;
            plan:--invite | join:--invite | plan:--bundle | join:--bundle | join:--hand-over | plan:--owner-key | join:--owner-key | plan:--listen | join:--listen | plan:--advertise | join:--advertise) ;;
            *) die "$EX_USAGE" "$command takes no argument $flag" ;;
        esac
        [ $# -gt 0 ] || die "$EX_USAGE" "$flag needs a value"
        case $1 in '' | -*) die "$EX_USAGE" "$flag: '$1' is not a value" ;; esac
        case $flag in
            --invite) invite_file=$1 ;;
            --bundle) bundle=$1 ;;
            --hand-over) hand_over=$1 ;;
            --owner-key) owner_key=$1 ;;
            --listen) endpoint "$flag" "$1"; listen=$1 ;;
            --advertise) endpoint "$flag" "$1"; advertise=$1 ;;
        esac
        shift
    done
    "$command"
}

endpoint() { # FLAG HOST:PORT
    printf '%s\n' "$2" | grep -Eqx '([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}' ||
        die "$EX_USAGE" "$1: '$2' is not HOST:PORT or [IPV6]:PORT"
}

main "$@"
exit $?
}

#!/bin/sh
# bootstrap.sh: makes this server a member of a BorgIOS network.
#
# Without arguments it explains itself and changes nothing. `plan` looks at the machine and changes
# nothing. `join` verifies the governors' release with ssh-keygen and sha256sum, asks for consent,
# and only then runs the first byte of BorgIOS. Order of `join`, each stage a function below:
#
#   preflight -> fetch -> verify -> consent -> install -> wait for the tree -> receipt
#
# What always holds:
#  1. The whole file is one brace group: a shell that received only a part of it runs none of it.
#  2. Nothing from a bundle is executed before the board's signature over release.json holds and
#     the executable's own digest stands in that release.json.
#  3. Nothing outside the script's own folder changes before the host's name was given as consent.
#  4. No secret is ever an argument; consent is read from the terminal, never from a piped script.
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
# The three folders can be moved by tests; nobody else needs to.
STATE=${BORGIOS_BOOTSTRAP_DIR:-/var/lib/borgios-bootstrap} # what this script remembers
KEEPER=${BORGIOS_KEEPER_DIR:-/var/lib/borgios-keeper} # exists from the first install on
CLI=${BORGIOS_CLI:-/opt/borgios/current/agent/files/bin/borgios}
PORT=7117                           # the agent's one TCP port, unless --listen says otherwise
INVITE_MAX=8388608                  # bytes of an invitation file: years of statements
RELEASE_MAX=65536                   # bytes of release.json: the bound on every signed payload
SIG_MAX=4096                        # bytes of release.json.sig
BUNDLE_MAX=2147483648               # bytes of a bundle
FREE_KIB=524288                     # disk wanted before anything starts: store, depot, staging
JOIN_WAIT=180                       # seconds an installed agent gets to find its place in the tree
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
BorgIOS bootstrap: makes this server a member of a BorgIOS network.

A network has governors. What a threshold of them signs (say 2 of 3), every member installs, and
nothing else; no single governor and no single server can decide. By joining, you let the board
of that network decide which BorgIOS software runs on this machine with root's rights.

What joining takes
  now         the governors' agent: one process without privileges that talks to the network on
              TCP port 7117, and one process as root without any network that obeys only what
              the board signed
  not yet     root's existing ways in (passwords, keys, sudo) STAY OPEN in this version. Taking
              them over is the next step of the project; when it comes, it comes as a release
              that the board signs, and only reinstalling will give the machine back

Commands (as root, on the server)
  ./bootstrap.sh plan [--invite FILE]
        looks at this machine and says what join would do; changes nothing
  ./bootstrap.sh join --invite FILE [--bundle FILE] [--hand-over HOSTNAME] [--yes]
                      [--listen ADDR:PORT] [--advertise HOST:PORT]
        verifies the release with stock ssh-keygen and sha256sum, asks you to type this
        machine's name, installs, and waits until the machine is in the network's tree
          --invite FILE      the invitation a governor gave you; it holds a secret
          --bundle FILE      the release bundle; without it the first url the invitation names
          --hand-over NAME   consent without a terminal; must equal this machine's name
          --yes              go on in spite of warnings when there is no terminal to ask on
          --listen ADDR:PORT where the agent listens              (default [::]:7117)
          --advertise H:P    how other members can reach this one (absent: it stays a leaf)
  ./bootstrap.sh status
        says whether this machine is a member and how its agent is doing

On your own computer (from a checkout of the source, as root)
  ./bootstrap.sh demo        three throw-away servers, three governors, the whole story
  ./bootstrap.sh demo --down removes every trace of it

Exit codes: 0 done, 2 usage, 3 refused before anything changed, 4 verification failed,
            5 join failed, 6 rolled back, 10 already a member
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

    os=$(sed -n 's/^PRETTY_NAME="\(.*\)"$/\1/p' /etc/os-release 2>/dev/null)
    case $os in
        'Debian GNU/Linux 12'*) fact ok system "$os" ;;
        *) fact warn system "${os:-unknown}: only Debian 12 is tested" ;;
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
    for tool in awk tar sha256sum ssh-keygen flock; do
        command -v "$tool" >/dev/null 2>&1 || fact STOP tools "$tool is missing; apt-get install openssh-client coreutils tar util-linux"
    done
    virt=$(systemd-detect-virt 2>/dev/null) || virt=${virt:-none}
    case $virt in
        none | '') fact ok kind "physical machine" ;;
        lxc* | docker | podman | openvz | systemd-nspawn | wsl | proot | rkt)
            fact warn kind "container ($virt): whoever runs its host is root in it" ;;
        *) fact note kind "virtual machine ($virt): its provider can read its memory and disk" ;;
    esac
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

preflight_network() {
    if command -v ss >/dev/null 2>&1; then
        if ss -Hltn 2>/dev/null | awk '{ print $4 }' | grep -q ":$listen_port\$" && ! is_member; then
            fact STOP port "TCP $listen_port is in use; give another with --listen ADDR:PORT"
        else fact ok port "TCP $listen_port is free"; fi
    else fact note port "cannot look (ss is missing); TCP $listen_port must be free"; fi
    if [ -n "${advertise:-}" ]; then fact note reach "members will dial $advertise; whether it can be reached shows only after the join"
    else fact note reach "no --advertise: nobody dials this machine, so it joins outward and stays a leaf"; fi
}

# What shows that somebody still uses this machine for something else.
preflight_use() {
    others=$(ss -Hltn 2>/dev/null | awk '{ print $4 }' | sed 's/.*://' | sort -un | grep -vx -e 22 -e "$listen_port" | tr '\n' ' ')
    [ -z "$others" ] || fact warn use "other programs listen on TCP $others"
    people=$(getent passwd | awk -F: '$3 >= 1000 && $3 < 60000 { print $1 }' | tr '\n' ' ')
    [ -z "$people" ] || fact warn use "accounts of people: $people"
    sessions=$(who 2>/dev/null | wc -l)
    [ "$sessions" -le 1 ] || fact warn use "$sessions login sessions are open"
    [ -n "$others$people" ] || fact ok use "no other listeners than ssh, no accounts of people"
}

is_member() { [ -e "$KEEPER/keeper.key" ]; }

what_goes_where() {
    cat <<TEXT

== what join would put on this machine
  files   /opt/borgios/            root     the signed software: store/<digest>/, current/<name>
          /var/lib/borgios-keeper/ root     keeper's key, the chain of signed statements, journal
          /var/lib/borgios/        borgios  node's key, objects, downloaded blobs
          /etc/borgios/agent.json  root     {listen, advertise, name}
          /var/lib/borgios-bootstrap/ root  this script's receipt
          /run/borgios/            borgios  two sockets: keeper.sock, api.sock
  user    borgios                  system account, no shell, no password, no sudo
  units   borgiosd.service         user borgios, all of the network, no privileges
          borgios-keeper.service   root, no network; obeys only what the board signed
          and the units of the services that the board's release names
  port    TCP $listen_port                 members over SSH with their own keys; public blobs over HTTP
  stays   root's passwords, keys and every other way in stay as they are. Taking them over is
          the project's next step and will need a release the board signs.
  back    reinstall the operating system; the network notices by itself
TEXT
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
        curl --globoff --proto '=http,https' --fail --silent --show-error --location --max-redirs 3 --retry 3 \
            --connect-timeout 20 --max-time 1800 --max-filesize "$BUNDLE_MAX" \
            --output "$WORK/bundle.tar" -- "$invite_url" </dev/null ||
            die "$EX_PREFLIGHT" "cannot download $invite_url; give the bundle with --bundle FILE"
        bounded_size "$WORK/bundle.tar" || die "$EX_PREFLIGHT" "the bundle from $invite_url is longer than $BUNDLE_MAX bytes"
        say "  downloaded $invite_url"
    else
        die "$EX_PREFLIGHT" "no --bundle FILE, and the invitation names no url to download one from"
    fi
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
}

# ---- consent ---------------------------------------------------------------------------------
consent() {
    step "consent"
    cat <<TEXT
This makes $host a member of the network $invite_name
  ($invite_network, board $invite_board).
From now on the board decides which BorgIOS software runs here with root's rights, release/$release_seq
first. Root's existing ways in stay open in this version; the next versions will close them, as a
release the board signs, and then reinstalling is the only way back.
TEXT
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
}

# ---- install, join, receipt ------------------------------------------------------------------
stage() {
    printf '%s %s\n' "$1" "$(date -u +%FT%TZ)" >"$STATE/stage.new" && mv -f "$STATE/stage.new" "$STATE/stage" ||
        die "$EX_JOIN" "cannot write $STATE/stage: is the disk full?"
}

install_agent() {
    step "install: running the verified installer"
    stage install
    chmod 700 "$WORK/bundle/installer" || die "$EX_JOIN" "cannot make the installer executable"
    set -- install --bundle "$WORK/bundle.tar" --invite "$WORK/invite.json" --name "$host"
    [ -z "$listen" ] || set -- "$@" --listen "$listen"
    [ -z "$advertise" ] || set -- "$@" --advertise "$advertise"
    # What it installs is for every service to read; its own secrets it closes itself.
    (umask 022 && exec "$WORK/bundle/installer" "$@" </dev/null 9>&-)
    case $? in
        0) ;;
        "$EX_VERIFY") die "$EX_VERIFY" "the installer found what this script could not look into, above; nothing runs" ;;
        # The run that was cut off had come that far; what is left is the wait for the tree.
        "$EX_MEMBER") [ "$again" = 1 ] || die "$EX_MEMBER" "this machine is a member already; see ./bootstrap.sh status" ;;
        "$EX_ROLLED_BACK") stage rolled-back
            die "$EX_ROLLED_BACK" "the release did not pass its health check and was rolled back; see journalctl -u 'borgios*'" ;;
        *) die "$EX_JOIN" "the installer failed; run join again when its complaint above is mended" ;;
    esac
}

in_tree() { # the agent's own word, over its local socket
    "$CLI" status --json >"$WORK/status.json" 2>/dev/null </dev/null || return 1
    # The first server of a network is the tree's root; every other one hangs below a parent.
    case $(json_get "$WORK/status.json" tree.state) in attached | root) ;; *) return 1 ;; esac
}

wait_for_tree() {
    step "join: waiting until $host has its place in the tree"
    stage join
    waited=0
    until in_tree; do
        [ "$waited" -lt "$JOIN_WAIT" ] || {
            journalctl -q --no-pager -n 15 -u borgiosd -u borgios-keeper 2>/dev/null
            die "$EX_JOIN" "not in the tree after $JOIN_WAIT s; the agent keeps trying. Look: $CLI status, journalctl -u borgiosd"
        }
        waited=$((waited + 1))
        sleep 1
    done
    say "  in the tree after $waited s"
}

receipt() {
    stage joined
    cat >"$STATE/receipt.txt" <<TEXT
RECEIPT of $(date -u '+%F %T') UTC

  $host is a member of the network $invite_name
  network     $invite_network
  board       $invite_board
  release     $release_seq, version $release_version
  node        $(json_get "$WORK/status.json" node 2>/dev/null || say unknown)

  running     borgiosd.service (user borgios), borgios-keeper.service (root, no network)
  files       /opt/borgios, $KEEPER, /var/lib/borgios, /etc/borgios, $STATE
  still open  root's passwords, keys and every other way in: nothing of them was changed
  the way out reinstall the operating system; the network notices by itself
  look        $CLI status      ./bootstrap.sh status      journalctl -u borgiosd
  now         delete the invitation file: it holds a secret
TEXT
    step "done"
    cat "$STATE/receipt.txt"
}

# ---- commands --------------------------------------------------------------------------------
work_folder() { # in FOLDER
    WORK=$(mktemp -d "$1/borgios-bootstrap.XXXXXX") || die "$EX_PREFLIGHT" "cannot make a work folder in $1"
    trap 'rm -rf -- "$WORK"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}

plan() {
    work_folder "${TMPDIR:-/tmp}"
    if [ -n "$invite_file" ]; then
        read_invitation "$invite_file"
        step "the invitation"
        say "  network     $invite_name, $invite_network"
        say "  board's key $invite_board   (compare it with what a governor tells you in person)"
        say "  valid until $(date -u -d "@$invite_expires" '+%F %T') UTC"
    fi
    preflight
    what_goes_where
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
    mkdir -p "$STATE" && chmod 700 "$STATE" || die "$EX_PREFLIGHT" "cannot make $STATE"
    again=0
    # A join that was cut off goes on; any other machine with a keeper is a member.
    if is_member; then
        case $(cut -d' ' -f1 "$STATE/stage" 2>/dev/null) in
            install | join | rolled-back) again=1; say "an earlier join stopped at: $(cat "$STATE/stage"); going on" ;;
            *) die "$EX_MEMBER" "this machine is a member already; see ./bootstrap.sh status" ;;
        esac
    fi
    exec 9>"$STATE/lock"
    flock -n 9 || die "$EX_PREFLIGHT" "another bootstrap.sh is running on this machine"
    work_folder "$STATE"
    read_invitation "$invite_file"
    preflight
    [ "$stops" = 0 ] || die "$EX_PREFLIGHT" "refused (marked STOP above: $stops); nothing was changed"
    fetch
    verify
    what_goes_where
    consent
    install_agent
    wait_for_tree
    receipt
}

status() {
    if ! is_member; then
        [ "$(id -u)" = 0 ] || die "$EX_PREFLIGHT" "status needs root: the keeper's folder is closed to uid $(id -u)"
        say "not a member: $KEEPER/keeper.key does not exist"
        exit 0
    fi
    say "member; last stage of bootstrap: $(cat "$STATE/stage" 2>/dev/null || say none)"
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
    invite_file='' bundle='' hand_over='' listen='' advertise='' yes=0
    case $command in
        '' | help | --help | -h) explain; return 0 ;;
        demo) demo "$@"; return $? ;;
        plan | join | status) ;;
        *) die "$EX_USAGE" "unknown command; ./bootstrap.sh without arguments explains" ;;
    esac
    while [ $# -gt 0 ]; do
        flag=$1; shift
        case $command:$flag in
            join:--yes) yes=1; continue ;;
            plan:--invite | join:--invite | join:--bundle | join:--hand-over | plan:--listen | join:--listen | plan:--advertise | join:--advertise) ;;
            *) die "$EX_USAGE" "$command takes no argument $flag" ;;
        esac
        [ $# -gt 0 ] || die "$EX_USAGE" "$flag needs a value"
        case $1 in '' | -*) die "$EX_USAGE" "$flag: '$1' is not a value" ;; esac
        case $flag in
            --invite) invite_file=$1 ;;
            --bundle) bundle=$1 ;;
            --hand-over) hand_over=$1 ;;
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

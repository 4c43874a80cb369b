#!/usr/bin/env bash
# lab.sh - a lab of real, fresh, throw-away servers on one Linux computer.
#
# Every machine is a systemd-nspawn container that boots a REAL systemd as its
# PID 1 (Debian), with its own hostname, machine-id, ssh host key, root
# password, IP address, cgroup, process tree and disk.  Nothing is registered
# with the host's init, so PID 1 of the host need not be systemd.
#
#   disk      overlayfs: one shared read-only base + one private "upper" each.
#             A fresh machine costs ~0 bytes; "reinstall the OS" = drop the upper.
#   network   each machine lives in its own netns (veth "eth0"); all the veths
#             meet on a bridge in one more netns, the "switch".  The switch has
#             no uplink, so no packet can leave the lab.  The owner's laptop is
#             the switch netns itself (10.77.0.1): `lab.sh run CMD` runs there.
#   mounts    made inside a private mount namespace per machine: nothing ever
#             shows in the host's mount table and nothing is left if we die.
#   faults    power cut, freeze, partition, loss/delay/rate, clock skew, full disk.
#
# Usage: lab.sh COMMAND ...       (machines are named by number: 1, 2, ...)
#   base [--force]         build the cached base image (debootstrap)
#   up N                   bring machines 1..N up, wait till sshd answers (idempotent)
#   list                   one line per machine: n name ip state pid boots mem disk
#   ssh N [CMD..]          ssh as root by password ($LAB_PASS, default 'original')
#   sshkey N [CMD..]       ssh as root by the lab's key, host key checked
#   exec N CMD..           run inside, not over the network (the provider's console)
#   cp SRC N:DST | cp N:SRC DST     copy a file or a directory in or out
#   start N | stop N       power on | clean shutdown (ACPI button)
#   kill N                 power cut (SIGKILL, disk kept)
#   reboot N               ask the OS to reboot, wait till sshd answers again
#   reinstall N            provider's "reinstall OS": drop the disk, boot fresh
#   freeze N | thaw N      hang every process of the machine, and let go again
#   partition A B          drop all packets between groups, e.g. partition 1-3 4,5-8
#   link N up|down         pull / plug the network cable
#   netem N [loss=5%] [delay=50ms] [jitter=10ms] [rate=10mbit]   (no args: clear)
#   heal                   undo every partition, link and netem
#   skew N UNIT OFFSET     run systemd UNIT with a shifted wall clock, e.g. +3600s
#                          (OFFSET 0 = undo).  Needs libfaketime; glibc programs only
#   fill N [LEAVE_KB]      fill the machine's disk;   unfill N
#   log N                  the machine's console output
#   ip N | pid N | root N  address | pid of its systemd | path to its live root
#   run CMD..              run CMD in the switch netns (reaches all machines)
#   check                  fail if anything of this lab is left on the host
#   down [--keep]          end all that we started; --keep keeps the disks
#
# Environment:
#   LAB_NAME  (lab)        several labs may live side by side, each with a name ...
#   LAB_NET   (10.77)      ... and a net (first two octets) of its own; kept by `up`
#   LAB_DIR   (/var/tmp/borgios-lab)  state + base image (must be on a real fs, not overlay, and
#                          root's own: what lies in it is mounted and run by root)
#   LAB_SUITE              Debian release; default: the oldest that runs programs built here
#   LAB_BASE  (in $LAB_DIR)  base rootfs     LAB_INCLUDE  extra packages for it
#   LAB_MIRROR (debootstrap's default)       LAB_PASS     what `ssh` logs in with
#   LAB_DISK  e.g. 256M: disk size limit per machine (loop ext4 upper)
#   LAB_MEM   e.g. 512M: memory limit        LAB_CPU  e.g. 50: percent of one core
#   LAB_TIMEOUT (120)      seconds to wait for boots
#   LAB_NO_NETEM           delay and loss without the kernel's sch_netem
set -uo pipefail
export LC_ALL=C

SELF=$(readlink -f "${BASH_SOURCE[0]}")
HERE=${SELF%/*}
die()  { echo "lab: $*" >&2; exit 1; }
note() { echo "lab: $*" >&2; }

NAME=${LAB_NAME:-lab}
[[ $NAME =~ ^[a-z][a-z0-9]{0,15}$ ]] || die "bad LAB_NAME '$NAME': a letter, then at most 15 letters or digits"
# Links are followed above it, and it is none itself (lib/folder.sh).
DIR=$(realpath -ms -- "${LAB_DIR:-/var/tmp/borgios-lab}")
ABOVE=$(realpath -m -- "${DIR%/*}/")
DIR=${ABOVE%/}/${DIR##*/}
ST=$DIR/$NAME                       # state of this lab
NET=${LAB_NET:-$(cat "$ST/net" 2>/dev/null || echo 10.77)}
[[ $NET =~ ^[0-9]{1,3}\.[0-9]{1,3}$ ]] || die "bad LAB_NET '$NET': the first two octets of a private net, e.g. 10.77"
PASS=${LAB_PASS:-original}
TIMEOUT=${LAB_TIMEOUT:-120}
SW=$NAME-sw                         # name of the switch netns

# shellcheck source=lib/folder.sh
. "$HERE/lib/folder.sh"
# shellcheck source=lib/process.sh
. "$HERE/lib/process.sh"
# shellcheck source=lib/cgroup.sh
. "$HERE/lib/cgroup.sh"
# shellcheck source=lib/image.sh
. "$HERE/lib/image.sh"
# shellcheck source=lib/disk.sh
. "$HERE/lib/disk.sh"
# shellcheck source=lib/net.sh
. "$HERE/lib/net.sh"
# shellcheck source=lib/machine.sh
. "$HERE/lib/machine.sh"
# shellcheck source=lib/reach.sh
. "$HERE/lib/reach.sh"
# shellcheck source=lib/faults.sh
. "$HERE/lib/faults.sh"
# shellcheck source=lib/delay.sh
. "$HERE/lib/delay.sh"
# shellcheck source=lib/fleet.sh
. "$HERE/lib/fleet.sh"

c=${1:-help}; shift || true
case $c in
    help) ;;
    ip|log) ;;
    *) [[ $EUID == 0 ]] || die "needs root, try: sudo $0 $c $*"
       own_folder "$DIR" ;;
esac
case $c in
    base|up|list|ssh|sshkey|exec|cp|start|stop|kill|reboot|reinstall|freeze|thaw|partition|link|netem|heal|skew|fill|unfill|log|ip|pid|root|run|check|down|_sup)
        "cmd_$c" "$@"; exit ;;      # a supervisor lives long: it must not read on in a file that changed
    *) sed -n '2,/^set -uo/p' "$SELF" | grep '^#' | sed 's/^# \{0,1\}//'; [[ $c == help || $c == --help ]] ;;
esac

#!/usr/bin/env bash
# The base image: one Debian root folder, built once by debootstrap, shared read-only by all machines.

PKGS=systemd,systemd-sysv,dbus,libpam-systemd,openssh-server,curl,ca-certificates,iproute2,iputils-ping,procps,libfaketime${LAB_INCLUDE:+,$LAB_INCLUDE}

# The oldest Debian whose C library is not older than this computer's: what is built here runs there.
suite_for_here() {
    local v; v=$(getconf GNU_LIBC_VERSION 2>/dev/null); v=${v##* }
    [[ $v =~ ^2\.([0-9]+) ]] || { echo bookworm; return; }
    if   (( BASH_REMATCH[1] <= 36 )); then echo bookworm
    elif (( BASH_REMATCH[1] <= 41 )); then echo trixie
    else echo sid; fi
}
SUITE=${LAB_SUITE:-$(suite_for_here)}
STAMP=$(echo "$SUITE $PKGS recipe3" | sha256sum | cut -c1-16)
# A lab with extra packages or of another release has an image of its own: labs side by side share the rest.
if [[ -n ${LAB_BASE:-} ]]; then BASE=$LAB_BASE
elif [[ -n ${LAB_INCLUDE:-}${LAB_SUITE:-} ]]; then BASE=$DIR/base-$STAMP
else BASE=$DIR/base; fi

base_in_use() {                                  # a machine of some lab runs on this image: it must not move
    local f; for f in "$DIR"/*/m/*/sup; do
        [[ "$(cat "${f%/m/*}/base" 2>/dev/null)" == "$BASE" ]] && live_pid "$f" >/dev/null && return 0
    done
    return 1
}
cmd_base() {
    make_folder "$DIR"
    [[ "$(stat -f -c %T "$DIR")" != overlayfs ]] || die "$DIR is on an overlay, where no overlay can stand: set LAB_DIR to a folder on a real file system"
    (
        flock -w 900 8 || die "another lab has been building the base image for 15 minutes"
        if [[ ${1:-} != --force && "$(cat "$BASE.stamp" 2>/dev/null)" == "$STAMP" && -d $BASE/etc ]]; then exit 0; fi
        ! base_in_use || die "the base image must be built anew, but machines run on it: take every lab down first"
        base_build
    ) 8>"$DIR/.base.lock" || exit 1
}
base_build() {
    command -v debootstrap >/dev/null || die "debootstrap is missing: apt-get install debootstrap"
    local t="$BASE.new.$$" t0 log=$DIR/debootstrap.log; t0=$(ms)
    rm -rf --one-file-system "$BASE".new.*       # what a build that was cut off left behind
    note "building the base image ($SUITE) ..."
    debootstrap --variant=minbase --include="$PKGS" "$SUITE" "$t" \
        ${LAB_MIRROR:+"$LAB_MIRROR"} >"$log" 2>&1 </dev/null ||
        { tail -5 "$log" >&2; rm -rf --one-file-system "$t"; die "debootstrap failed, see $log"; }
    echo "root:original" | chroot "$t" chpasswd || die "chpasswd failed"
    rm -f "$t"/etc/ssh/ssh_host_*                # every machine gets its own
    rm -f "$t/etc/hostname" "$t/etc/resolv.conf"; : >"$t/etc/machine-id"
    # what a provider ships: root may log in by password
    printf 'PermitRootLogin yes\nPasswordAuthentication yes\nUseDNS no\n' >"$t/etc/ssh/sshd_config.d/50-provider.conf"
    # jobs that want the Internet or a block device have no use here
    local u; for u in apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service; do
        ln -sf /dev/null "$t/etc/systemd/system/$u"; done
    rm -rf "$t"/var/cache/apt/archives/*.deb "$t"/var/lib/apt/lists/* "$t"/usr/share/{doc,man,locale}/*
    rm -rf --one-file-system "$BASE"
    mv "$t" "$BASE" && echo "$STAMP" >"$BASE.stamp" || die "cannot put the base image at $BASE"
    note "base image built in $(( ($(ms) - t0) / 1000 )) s, $(du -sh "$BASE" | cut -f1): $BASE"
}

#!/usr/bin/env bash
# One machine's disk: a private overlay upper, seeded with what a provider writes at first boot.

make_disk() {                                    # a blank disk for machine $1
    local i=$1 d s k; d=$(m "$i")
    rm -rf --one-file-system "$d/disk" "$d/disk.img" "$d/leader"; mkdir -p "$d/disk" "$d/root"
    if [[ -n ${LAB_DISK:-} ]]; then
        truncate -s "$LAB_DISK" "$d/disk.img"
        mkfs.ext4 -q -F -m 0 -O ^has_journal -E lazy_itable_init=1 "$d/disk.img" || die "mkfs failed"
    fi
    # seed/ is copied into the upper by the supervisor, once, at first boot
    s=$d/seed; rm -rf "$s"; mkdir -p "$s/etc/ssh" "$s/root/.ssh"; chmod 700 "$s/root" "$s/root/.ssh"
    host "$i" >"$s/etc/hostname"
    tr -d - </proc/sys/kernel/random/uuid >"$s/etc/machine-id"
    { echo "127.0.0.1 localhost $(host "$i")"; echo "$NET.0.1 admin"
      for k in $(seq 1 64); do echo "$(addr "$k") $(host "$k")"; done; } >"$s/etc/hosts"
    ssh-keygen -q -t ed25519 -N '' -C "root@$(host "$i")" -f "$s/etc/ssh/ssh_host_ed25519_key" </dev/null
    cp "$ST/id_ed25519.pub" "$s/root/.ssh/authorized_keys"; chmod 600 "$s/root/.ssh/authorized_keys"
    { grep -v "^$(addr "$i") " "$ST/known_hosts" 2>/dev/null
      echo "$(addr "$i") $(cut -d' ' -f1,2 "$s/etc/ssh/ssh_host_ed25519_key.pub")"; } >"$ST/known_hosts.$i.tmp"
    mv "$ST/known_hosts.$i.tmp" "$ST/known_hosts"
}
disk_used() {                                    # kilobytes that machine $1 wrote
    local d; d=$(m "$1")
    if [[ -f $d/disk.img ]]; then du -sk "$d/disk.img"; else du -sk "$d/disk" 2>/dev/null; fi | cut -f1
}
cmd_fill() { num "$1"; [[ -f $(m "$1")/disk.img || -n ${LAB_FORCE:-} ]] || die "machine $1 has no disk limit (bring it up with LAB_DISK=256M)"
    # shellcheck disable=SC2016 # for the machine's shell
    inside "$1" sh -c 'f=$(df -k --output=avail / | tail -1); n=$((f - $1)); [ $n -gt 0 ] && dd if=/dev/zero of=/var/fill.lab bs=1k count=$n 2>/dev/null; df -k / | tail -1' - "${2:-0}"; }
cmd_unfill() { num "$1"; inside "$1" rm -f /var/fill.lab; }

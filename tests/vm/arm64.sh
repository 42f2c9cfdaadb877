#!/usr/bin/env bash
# arm64.sh root             makes the root of the aarch64 machine, once
# arm64.sh cargo ARG...     is cargo for aarch64: what it builds is in target/arm64, and runs in that machine
#
# Both are Debian 13: its backports have a current Rust with a standard library for aarch64. The compiler is one of x86-64
# and lives in a chroot, so that nothing is installed here. Neither needs this machine to run aarch64's programs.
# It takes 2 GB in target/vm/arm64, 3 GB in target/arm64, and two minutes for the downloads.
#
# It needs root, x86-64, and the packages mmdebstrap, busybox-static and xz-utils.
#
# VM_DIR        the two are kept in arm64/ below it      target/vm
# VM_MIRROR     where Debian comes from                  http://deb.debian.org/debian
set -euo pipefail

fail() { echo "arm64: $*" >&2; exit 125; }
repository=$(realpath "$(dirname "$0")/../..")
cache=$(realpath -m "${VM_DIR:-$repository/target/vm}")/arm64
mirror=${VM_MIRROR:-http://deb.debian.org/debian}

[ "$(id -u)" = 0 ] || fail "run it as root (sudo)"
command -v mmdebstrap >/dev/null || fail "mmdebstrap is missing: apt-get install mmdebstrap"

# debian DIRECTORY ARGUMENT...    makes a Debian 13 there, or nothing at all
debian() {
    local directory=$1
    shift
    [ ! -e "$directory" ] || return 0
    echo "arm64: fetching what belongs in $directory, once" >&2
    rm -rf "$directory.new"
    # A mirror may lag behind.
    mmdebstrap --quiet --mode=root --format=directory --aptopt='Acquire::Check-Valid-Until "false"' \
        --aptopt='APT::Install-Recommends "false"' "$@" trixie "$directory.new" "deb $mirror trixie main" \
        "deb $mirror trixie-backports main" >&2 || fail "could not make it"
    if [ -e "$directory.new/lib/modules" ]; then finish "$directory.new"; fi
    mv "$directory.new" "$directory"
}

# finish ROOT    does what the packages' scripts would have done: they are unpacked and no more, because the scripts
#                call programs of aarch64
finish() {
    local root=$1
    cp "$root/usr/share/base-passwd/passwd.master" "$root/etc/passwd"
    cp "$root/usr/share/base-passwd/group.master" "$root/etc/group"
    cp "$root/usr/share/libc-bin/nsswitch.conf" "$root/etc/"
    ln -s mawk "$root/usr/bin/awk"
    mkdir -p "$root/mnt" "$root/media" "$root/opt" "$root/srv"
    echo 127.0.0.1 localhost vm >"$root/etc/hosts"
    : >"$root/etc/resolv.conf"
    # What the first process needs: no libraries, and modules that it can read.
    find "$root/lib/modules" -name '*.ko.xz' -exec xz -d {} +
    command -v busybox >/dev/null || fail "busybox is missing: apt-get install busybox-static"
    busybox depmod -b "$root" "$(ls "$root/lib/modules")"
    mkdir "$root/usr/lib/vm"
    ln -s /usr/bin/busybox "$root/usr/lib/vm/busybox"
    ln -s /usr/bin/busybox "$root/usr/lib/vm/modprobe"
}

case ${1:-} in
    root)
        mkdir -p "$cache"
        debian "$cache/root" --variant=extract --architectures=arm64 --include='?essential' \
            --include=busybox-static,iproute2,iputils-ping,mawk,nftables,procps,python3,strace,linux-image-cloud-arm64
        ;;
    cargo)
        shift
        mkdir -p "$cache" "$repository/target/arm64"
        new=trixie-backports
        debian "$cache/tools" --variant=apt --architectures=amd64,arm64 \
            --include="rustc/$new,cargo/$new,libstd-rust-dev/$new,libstd-rust-dev:arm64/$new" \
            --include=gcc,libc6-dev,gcc-aarch64-linux-gnu,libc6-dev-arm64-cross
        # This machine's cargo downloads the crates, since it may know a proxy or a certificate that the other does not.
        cargo fetch --locked --quiet --manifest-path "$repository/Cargo.toml" >&2 || fail "could not download the crates"
        # The repository under its own name, and the crates. Only the compiler sees these mounts.
        # shellcheck disable=SC2016 # for the inner shell
        exec unshare --mount --propagation private bash -euc '
            tools=$1 repository=$2 crates=$3
            shift 3
            mkdir -p "$tools$repository" "$tools/cargo/registry"
            mount --bind "$repository" "$tools$repository"
            mount --bind "$crates" "$tools/cargo/registry"
            mount -t proc proc "$tools/proc"
            exec chroot "$tools" env -C "$repository" -i PATH=/usr/bin:/bin HOME=/root TERM="${TERM:-dumb}" \
                CARGO_HOME=/cargo CARGO_NET_OFFLINE=true CARGO_TARGET_DIR=target/arm64 \
                CARGO_BUILD_TARGET=aarch64-unknown-linux-gnu \
                CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc cargo "$@"' \
            bash "$cache/tools" "$repository" "${CARGO_HOME:-$HOME/.cargo}/registry" "$@"
        ;;
    *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac

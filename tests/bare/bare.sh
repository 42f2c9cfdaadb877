#!/usr/bin/env bash
# bare.sh SUITE WHO [COMMAND...]    runs a command on a bare machine: Debian's minbase and a C compiler, and nothing for us
#
# SUITE is bookworm or trixie, WHO is root, user or a number. The command is `cargo test` if there is none; it starts in the
# checkout. No busybox, strace, nft, ping, ip, ps, git or Python is there, unless Debian's smallest system has it.
#
# What the machine lends: its kernel, its Rust (read-only), the crates that it has downloaded (read-only), and the files of this
# checkout without their history. Mounts, processes, network and names are the bare machine's own; / is a real root, by
# pivot_root(2), and not a chroot. Run as root, with mmdebstrap. The userlands are kept in target/bare/, or $BARE_CACHE.
#
# BARE_HOME=DIR     the checkout's place there, in place of /home/reader/cooperage
# BARE_TARGET=DIR   cargo's target directory out here, mounted as target/ in there; by default one for each user below $BARE_CACHE
# BARE_CHECKOUT=DIR the checkout to take, in place of a copy of this one
# BARE_READ_ONLY=1  the checkout is read-only there, and cargo's target directory is elsewhere
# BARE_NOEXEC=1     /tmp is noexec
# BARE_PACKAGES=... more packages than a bare machine has
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
suite=$1 who=$2
shift 2
[ $# -gt 0 ] || set -- cargo test --no-fail-fast
[ "$(id -u)" = 0 ] || { echo "bare.sh: it mounts things: run it as root" >&2; exit 1; }

cache=${BARE_CACHE:-$root/target/bare}
packages=gcc,libc6-dev,ca-certificates${BARE_PACKAGES:+,$BARE_PACKAGES}
tree=$cache/$suite-$(printf %s "$packages" | cksum | cut -d' ' -f1)
mkdir -p "$cache"
if [ ! -e "$tree/etc/debian_version" ]; then
    # Under another name until it is whole. One that an interrupted run left is in nobody's way.
    new=$(mktemp -d "$cache/new.XXXXXX")
    mmdebstrap --quiet --variant=minbase --include="$packages" --aptopt='APT::Install-Recommends "false"' \
        "$suite" "$new/tree.tar" "${BARE_MIRROR:-http://deb.debian.org/debian}" >&2
    mkdir "$new/tree"
    tar -xf "$new/tree.tar" -C "$new/tree" --exclude='./dev/*'
    mv -T "$new/tree" "$tree" 2>/dev/null || :
    rm -rf "$new"
fi

case $who in
root) uid=0 ;;
user) uid=1000 ;;
*) uid=$who ;;
esac
files=${BARE_CHECKOUT:-$cache/checkout-$uid}
if [ -z "${BARE_CHECKOUT:-}" ]; then
    # Only what has changed is written, so that cargo sees what is new by its time.
    mkdir -p "$files"
    (cd "$root" && git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
        [ -e "$file" ] || continue
        cmp -s "$file" "$files/$file" || { mkdir -p "$files/$(dirname "$file")" && cp -p "$file" "$files/$file"; }
    done)
    (cd "$files" && find . -type f ! -path './target/*' | while IFS= read -r file; do
        [ -e "$root/$file" ] || rm -f "$file"
    done)
fi
target=${BARE_TARGET:-$cache/target-$suite-$uid}
mkdir -p "$target" "$files/target"
# What somebody else has built stays theirs.
[ -n "${BARE_CHECKOUT:-}" ] || chown -R "$uid:$uid" "$files"
[ -n "${BARE_CHECKOUT:-}" ] || chown "$uid:$uid" "$target"

rust=$(rustc --print sysroot)
registry=${CARGO_HOME:-$HOME/.cargo}/registry
export tree files target rust registry uid
BARE_PLACE=${BARE_HOME:-/home/reader/cooperage}
export BARE_PLACE BARE_READ_ONLY=${BARE_READ_ONLY:-} BARE_NOEXEC=${BARE_NOEXEC:-}
exec unshare --mount --pid --fork --kill-child --net --uts --ipc --propagation private -- \
    bash "$root/tests/bare/machine.sh" "$@"

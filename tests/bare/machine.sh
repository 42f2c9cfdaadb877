#!/usr/bin/env bash
# The second half of bare.sh, in new namespaces: builds the bare machine, and becomes the command in it.
set -euo pipefail

# The network of a machine with a card: a loopback device and a default route, to nowhere.
ip link set lo up
ip link add eth0 type veth peer name world
ip link set world up
ip addr add 192.0.2.2/24 dev eth0
ip link set eth0 up
ip route add default via 192.0.2.1
hostname bare

# Cgroups are named after processes, and these are the machine's own: its processes are to have other numbers than those of a
# bare machine beside it.
mount -t proc proc /proc
echo $((RANDOM % 30000 + 1000)) >/proc/sys/kernel/ns_last_pid

mount --bind "$tree" "$tree"
cd "$tree"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount --rbind /sys/fs/cgroup sys/fs/cgroup
mount --rbind /dev dev
for fresh in run var/tmp home root; do mount -t tmpfs -o mode=755 tmpfs "$fresh"; done
mount -t tmpfs -o "mode=1777${BARE_NOEXEC:+,noexec}" tmpfs tmp
chmod 1777 var/tmp
chmod 711 root # the checkout may be there

home=$tree/home/reader
[ "$uid" != 0 ] || home=$tree/root
mkdir -p "$home/.cargo/registry" "$home/.rust" ".$BARE_PLACE"
chown -R "$uid:$uid" "$home" ".$BARE_PLACE"
mount --bind "$rust" "$home/.rust"
mount -o remount,ro,bind "$home/.rust"
mount --bind "$registry" "$home/.cargo/registry"
mount -o remount,ro,bind "$home/.cargo/registry"
mount --bind "$files" ".$BARE_PLACE"
[ ! -d ".$BARE_PLACE/.git" ] || mount -t tmpfs tmpfs ".$BARE_PLACE/.git" # no history either
if [ -n "$BARE_READ_ONLY" ]; then
    mount -o remount,ro,bind ".$BARE_PLACE"
    mkdir "$home/target"
    mount --bind "$target" "$home/target"
    elsewhere=${home#"$tree"}/target
else
    mount --bind "$target" ".$BARE_PLACE/target"
fi
export elsewhere=${elsewhere:-}

# A real machine's user has a name.
grep -q "^reader:" etc/passwd || echo "reader:x:1000:1000::/home/reader:/bin/sh" >>etc/passwd
grep -q "^reader:" etc/group || echo "reader:x:1000:" >>etc/group

pivot_root . mnt
cd /
exec /bin/sh -c '
    umount -l /mnt
    cd "$1" && shift && uid=$1 home=$2 && shift 2
    ids= ; [ "$uid" = 0 ] || ids="setpriv --reuid $uid --regid $uid --clear-groups"
    exec $ids env -i PATH="$home/.rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" HOME="$home" \
        TERM="${TERM:-dumb}" LANG=C.UTF-8 CARGO_NET_OFFLINE=true ${elsewhere:+CARGO_TARGET_DIR="$elsewhere"} ${COOPERAGE_REQUIRE:+COOPERAGE_REQUIRE="$COOPERAGE_REQUIRE"} "$@"
' sh "$BARE_PLACE" "$uid" "${home#"$tree"}" "$@"

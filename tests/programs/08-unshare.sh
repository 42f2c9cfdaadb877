#!/bin/sh
# passes: 8.1 8.2
#
# Chapter 8 as a shell script: unshare(1) makes the user namespace, this shell writes its maps from outside, and nsenter(1)
# becomes its root. Ranges are files that flock(1) has locked.
set -eu

# Mounts of its own: a place where the container's users may go, whatever the directories above the root filesystem allow.
[ "${apart:-}" ] || exec env apart=yes unshare --mount --propagation private -- sh "$0" "$@"

rootfs=/ map='' pool=''
while [ $# -gt 0 ]; do
    case $1 in
        --rootfs) rootfs=$2; shift 2 ;;
        --map) map=$2; shift 2 ;;
        --pool) pool=$2; shift 2 ;;
        --network) shift 2 ;;
        --) shift; break ;;
        -*) echo "unknown option $1" >&2; exit 125 ;;
        *) break ;;
    esac
done
[ $# -gt 0 ] || set -- /bin/sh
mount --rbind "$rootfs" /mnt

if [ -n "$pool" ]; then
    first=${pool%:*} left=${pool#*:}
    mkdir -p /run/ranges-sh
    while :; do
        # The lock goes with the last process that has the file open: with the container.
        exec 9>"/run/ranges-sh/$first"
        flock -n 9 && break
        first=$((first + 65536)) left=$((left - 1))
        [ $left -gt 0 ] || { echo "no range is left" >&2; exit 125; }
    done
    map=0:$first:65536
fi

# A user namespace has to have a process as long as nobody has it open.
unshare --user -- sleep 100 </dev/null >/dev/null 2>&1 9>&- &
holder=$!
while [ "$(readlink /proc/$holder/ns/user)" = "$(readlink /proc/$$/ns/user)" ]; do :; done
exec 7</proc/$holder/ns/user
line=$(echo "$map" | tr : ' ')
echo "$line" >/proc/$holder/uid_map
echo "$line" >/proc/$holder/gid_map
kill $holder

exec nsenter --user=/proc/self/fd/7 --setuid 0 --setgid 0 -- \
    unshare --mount --uts --ipc --net --pid --fork --kill-child -- sh -eu -c '
        mount -t proc proc /mnt/proc
        mount -t tmpfs tmpfs /mnt/tmp
        exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb HOME=/root chroot /mnt "$@"
    ' sh "$@"

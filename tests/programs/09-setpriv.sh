#!/bin/sh
# passes: 9.4
# needs: setpriv chroot
#
# The last task of chapter 9 by two programs that every Debian has: setpriv(1) sees to it that nothing gives more, and
# chroot(1) knows users by number.
set -eu

[ "${apart:-}" ] || exec env apart=yes unshare --mount --propagation private -- sh "$0" "$@"

rootfs=/ user=0
while [ $# -gt 0 ]; do
    case $1 in
        --rootfs) rootfs=$2; shift 2 ;;
        --user) user=$2; shift 2 ;;
        --network) shift 2 ;;
        --) shift; break ;;
        -*) echo "unknown option $1" >&2; exit 125 ;;
        *) break ;;
    esac
done
[ $# -gt 0 ] || set -- /bin/sh
mount --rbind "$rootfs" /mnt

exec unshare --mount --uts --ipc --net --pid --fork --kill-child -- sh -eu -c '
    user=$1; shift
    mount -t proc proc /mnt/proc
    mount -t tmpfs tmpfs /mnt/tmp
    exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb HOME=/root \
        setpriv --no-new-privs chroot --userspec="$user:$user" --groups= /mnt "$@"
' sh "$user" "$@"

#!/bin/bash
# passes: 1.1 1.2
# chapter01 as a shell script around chroot(1) and env(1).
while [ $# -gt 0 ]; do
    case "$1" in
    --rootfs) rootfs=$2; shift 2 ;;
    --) shift; break ;;
    --*) echo "unknown option $1" >&2; exit 2 ;;
    *) break ;;
    esac
done
[ $# -gt 0 ] || set -- /bin/sh
for fd in /proc/self/fd/*; do
    fd=${fd##*/}
    [ "$fd" -le 2 ] || eval "exec $fd<&-"
done
# GNU chroot(1) changes the working directory too.
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM="${TERM:-dumb}" \
    container=cooperage chroot "$rootfs" "$@"

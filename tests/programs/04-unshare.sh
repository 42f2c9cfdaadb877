#!/bin/sh
# passes: 4.1 4.2 4.3
# Chapter 4 as a shell script around unshare(1), mount(8) and nsenter(1).
set -eu

rootfs='' name='' join=''
while [ $# -gt 0 ]; do
    case $1 in
        --rootfs) rootfs=$2; shift 2 ;;
        --rootfs=*) rootfs=${1#*=}; shift ;;
        --hostname) name=$2; shift 2 ;;
        --hostname=*) name=${1#*=}; shift ;;
        --join) join=$2; shift 2 ;;
        --join=*) join=${1#*=}; shift ;;
        --) shift; break ;;
        -*) echo "unknown option $1" >&2; exit 125 ;;
        *) break ;;
    esac
done
[ $# -gt 0 ] || set -- /bin/sh

if [ -n "$join" ]; then
    # nsenter makes the child that is born into the PID namespace, and ends as that one ends.
    exec env -i PATH="$PATH" TERM="${TERM:-dumb}" HOME=/root container=script \
        nsenter --target "$join" --mount --uts --ipc --pid --root --wd -- "$@"
fi

name=${name:-box$$}
export rootfs name
exec unshare --mount --uts --ipc --pid --fork --kill-child -- sh -eu -c '
    mount --make-rprivate /
    mount -t tmpfs tmpfs /mnt
    mkdir /mnt/upper /mnt/work /mnt/root
    mount -t overlay -o lowerdir="$rootfs",upperdir=/mnt/upper,workdir=/mnt/work overlay /mnt/root
    cd /mnt/root
    hostname "$name"
    mkdir -p etc proc dev tmp
    echo "$name" > etc/hostname
    printf "127.0.0.1 localhost\n127.0.1.1 %s\n" "$name" > etc/hosts
    mount -t proc proc proc
    mount -t tmpfs tmpfs dev
    : > dev/null
    mount --bind /dev/null dev/null
    mkdir dev/mqueue dev/shm
    mount -t mqueue mqueue dev/mqueue
    mount -t tmpfs tmpfs dev/shm
    mkdir -p old
    pivot_root . old
    cd /
    umount -l /old
    exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb HOME=/root container=script "$@"
' sh "$@"

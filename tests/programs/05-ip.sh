#!/bin/sh
# passes: 5.1 5.2 5.3
# needs: ip
# Chapter 5 as a shell script around unshare(1), nsenter(1) and ip(8). Which address is free it asks of the kernel:
# the place of a port at the bridge is taken as long as the cable is there.
set -eu

rootfs='' network=bridge
while [ $# -gt 0 ]; do
    case $1 in
        --rootfs) rootfs=$2; shift 2 ;;
        --network) network=$2; shift 2 ;;
        --hostname) shift 2 ;;
        --) shift; break ;;
        -*) echo "unknown option $1" >&2; exit 125 ;;
        *) break ;;
    esac
done
[ $# -gt 0 ] || set -- /bin/sh

pipe=$(mktemp -d)
mkfifo "$pipe/go"
export rootfs pipe
exec 3<&0
unshare --mount --uts --ipc --pid --net --fork --kill-child -- sh -eu -c '
    mount --make-rprivate /
    mount -t tmpfs tmpfs /mnt
    mkdir /mnt/upper /mnt/work /mnt/root
    mount -t overlay -o lowerdir="$rootfs",upperdir=/mnt/upper,workdir=/mnt/work overlay /mnt/root
    mount -t proc proc /mnt/root/proc
    read line < "$pipe/go"
    cd /mnt/root
    exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb HOME=/root chroot . "$@"
' sh "$@" <&3 3<&- &
runtime=$!
trap 'kill $runtime; rm -r "$pipe"' TERM INT HUP

# unshare has a child as soon as the namespaces are there.
inner=''
while [ -z "$inner" ]; do inner=$(cat /proc/$runtime/task/$runtime/children); done
inner=${inner% }
inside() { nsenter --target "$inner" --net -- "$@"; }
inside ip link set lo up

if [ "$network" = bridge ]; then
    mkdir -p /run/ip-sh
    exec 4> /run/ip-sh/lock
    flock 4
    ip link show ipsh0 >/dev/null 2>&1 || ip link add ipsh0 type bridge
    ip addr replace 192.168.77.1/24 dev ipsh0
    ip link set ipsh0 up
    number=2
    while ip link show "ipsh0-$number" >/dev/null 2>&1; do number=$((number + 1)); done
    ip link add "ipsh0-$number" type veth peer name eth0 netns "$inner"
    ip link set "ipsh0-$number" master ipsh0 up
    inside ip addr add "192.168.77.$number/24" dev eth0
    inside ip link set eth0 up
    exec 4>&-
fi
echo go > "$pipe/go"
status=0
wait $runtime || status=$?
rm -r "$pipe"
exit $status

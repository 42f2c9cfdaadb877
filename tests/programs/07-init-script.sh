#!/bin/sh
# passes: 7.1 7.2 7.3 7.4
#
# Another road to chapter 7: both the runtime and process 1 are POSIX shells. A shell's wait reaps whoever has
# ended, orphans included; its traps pass signals on.

# What process 1 does. A background job would have no stdin, and ignore SIGINT and SIGQUIT: the first is helped,
# the second a shell cannot help.
INIT='
    command=
    for signal in TERM HUP USR1 USR2 ALRM; do
        trap "[ -z \"\$command\" ] || kill -$signal \$command 2>/dev/null" $signal
    done
    exec 3<&0
    (trap - TERM HUP USR1 USR2 ALRM; exec "$@" <&3 3<&-) &
    command=$!
    exec 3<&-
    # A trap interrupts wait: its status is above 128 then, and the command still there.
    while wait $command; status=$?; [ $status -gt 128 ] && kill -0 $command 2>/dev/null; do :; done
    wait $command
    again=$?
    [ $again = 127 ] || status=$again
    exit $status
'

case ${1-} in
    --between)
        # In the new namespaces but for that of the processes, which begins with its first child: process 1.
        shift
        sh "$0" --first "$@"
        exit $?
        ;;
    --first)
        rootfs=$2
        shift 2
        mount -t proc proc "$rootfs/proc"
        mount --rbind /dev "$rootfs/dev"
        exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
            container=cooperage chroot "$rootfs" sh -c "$INIT" init "$@"
        ;;
esac

rootfs=/ grace=10
while [ $# -gt 0 ]; do
    case $1 in
        --rootfs) rootfs=$2; shift 2 ;;
        --stop-timeout) grace=$2; shift 2 ;;
        --memory|--cpus|--pids-limit|--network|--hostname|--volume|--upper) shift 2 ;;
        --init) shift ;;
        --) shift; break ;;
        -*) echo "script: unknown option $1" >&2; exit 125 ;;
        *) break ;;
    esac
done
[ $# -gt 0 ] || set -- /bin/sh

child='' killer=''
# Process 1 is the only child of the shell between.
first() { sed 's/ .*//' "/proc/$child/task/$child/children" 2>/dev/null; }
send() { kill "-$1" "$(first)" 2>/dev/null; }
stop() {
    send "$1"
    if [ -z "$killer" ]; then
        (sleep "$grace"; send KILL) </dev/null >/dev/null 2>&1 &
        killer=$!
    fi
}
trap 'stop TERM' TERM
trap 'stop HUP' HUP
for signal in USR1 USR2 ALRM; do
    # shellcheck disable=SC2064
    trap "send $signal" $signal
done

exec 3<&0
unshare --pid --mount --uts --ipc --net -- sh "$0" --between "$rootfs" "$@" <&3 3<&- &
child=$!
exec 3<&-
while wait $child; status=$?; [ $status -gt 128 ] && kill -0 $child 2>/dev/null; do :; done
wait $child
again=$?
[ $again = 127 ] || status=$again
[ -z "$killer" ] || kill "$killer" 2>/dev/null
exit $status

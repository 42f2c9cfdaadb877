#!/bin/sh
# passes: 6.1 6.2 6.3 6.4
#
# Another road to chapter 6: a POSIX shell script around unshare(1) and the files of the cgroups. The container's
# half is a second shell, which enters the cgroup and only then becomes the command. Limits are computed by
# the shell and awk(1).

set -eu

if [ "${1-}" = --between ]; then
    # In the new namespaces but for that of the processes, which begins with its first child: process 1. (Not
    # unshare --fork: several versions of it lose the status of a child that SIGKILL has ended.)
    shift
    status=0
    sh "$0" --enter "$@" || status=$?
    exit "$status"
fi

if [ "${1-}" = --enter ]; then
    # The container's half: process 1 of its namespace.
    rootfs=$2 directories=$3
    shift 3
    for directory in $directories; do echo 0 > "$directory/cgroup.procs"; done
    mount -t proc proc "$rootfs/proc"
    mount --rbind /dev "$rootfs/dev"
    exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root container=cooperage \
        chroot "$rootfs" "$@"
fi

fail() { echo "script: $*" >&2; exit 125; }

rootfs=/ memory='' cpus='' pids='' stats=''
while [ $# -gt 0 ]; do
    case $1 in
        --rootfs) rootfs=$2; shift 2 ;;
        --memory) memory=$2; shift 2 ;;
        --cpus) cpus=$2; shift 2 ;;
        --pids-limit) pids=$2; shift 2 ;;
        --stats) stats=$2; shift 2 ;;
        --network|--hostname|--volume|--upper) shift 2 ;;
        --) shift; break ;;
        -*) fail "unknown option $1" ;;
        *) break ;;
    esac
done
[ $# -gt 0 ] || set -- /bin/sh

# One directory for each controller, or one for all.
name=script-$$ directories=''
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    echo '+memory +cpu +pids' > /sys/fs/cgroup/cgroup.subtree_control
    memory_dir=/sys/fs/cgroup/$name cpu_dir=$memory_dir pids_dir=$memory_dir
    directories=$memory_dir version=2
else
    memory_dir=/sys/fs/cgroup/memory/$name cpu_dir=/sys/fs/cgroup/cpu/$name pids_dir=/sys/fs/cgroup/pids/$name
    cpuacct_dir=/sys/fs/cgroup/cpuacct/$name
    directories="$memory_dir $cpu_dir $pids_dir $cpuacct_dir" version=1
fi
for directory in $directories; do [ -d "$directory" ] || mkdir "$directory"; done
trap 'for directory in $directories; do rmdir "$directory" 2>/dev/null || :; done' EXIT

if [ -n "$memory" ]; then
    number=${memory%[bkmg]}
    case $number in ''|*[!0-9]*) fail "$memory is not a size" ;; esac
    case $memory in *k) factor=1024 ;; *m) factor=1048576 ;; *g) factor=1073741824 ;; *) factor=1 ;; esac
    limit=$((number * factor))
    if [ $version = 1 ]; then echo $limit > $memory_dir/memory.limit_in_bytes; else echo $limit > $memory_dir/memory.max; fi
fi
if [ -n "$cpus" ]; then
    # Another period than the usual one: half as long.
    quota=$(awk "BEGIN { printf \"%d\", $cpus * 50000 + 0.5 }")
    if [ $version = 1 ]; then
        echo 50000 > $cpu_dir/cpu.cfs_period_us
        echo "$quota" > $cpu_dir/cpu.cfs_quota_us
    else
        echo "$quota 50000" > $cpu_dir/cpu.max
    fi
fi
[ -z "$pids" ] || echo "$pids" > $pids_dir/pids.max

status=0
unshare --pid --mount --uts --ipc --net -- sh "$0" --between "$rootfs" "$directories" "$@" || status=$?

word() { sed -n "s/^$1 //p" "$2"; }
if [ $version = 1 ]; then kills=$(word oom_kill $memory_dir/memory.oom_control); else kills=$(word oom_kill $memory_dir/memory.events); fi
[ "$status" != 137 ] || [ "$kills" = 0 ] || echo 'script: out of memory' >&2

if [ -n "$stats" ]; then
    if [ $version = 1 ]; then
        peak=$(cat $memory_dir/memory.max_usage_in_bytes) usage=$(($(cat $cpuacct_dir/cpuacct.usage) / 1000))
    else
        peak=$(cat $memory_dir/memory.peak) usage=$(word usage_usec $cpu_dir/cpu.stat)
    fi
    printf 'peak_memory %s\ncpu_usec %s\nnr_throttled %s\n' "$peak" "$usage" "$(word nr_throttled $cpu_dir/cpu.stat)" > "$stats"
fi
exit "$status"

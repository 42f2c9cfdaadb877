#!/bin/sh
# passes: 3.1 3.2 3.3
# chapter03 as a shell script around unshare(1), mount(8) and pivot_root(8). It has no --diff.
if [ "$1" != inside ]; then
    exec unshare --mount --propagation private --pid --fork --kill-child "$0" inside "$@"
fi
shift
set -e
work=/run/script03
mkdir -p $work
mount -t tmpfs script03 $work
mkdir $work/upper $work/work $work/root
new=$work/root
volumes=
while [ $# -gt 0 ]; do
    case "$1" in
    --rootfs) rootfs=$2; shift 2 ;;
    --volume | -v) volumes="$volumes $2"; shift 2 ;;
    --) shift; break ;;
    --*) echo "unknown option $1" >&2; exit 2 ;;
    *) break ;;
    esac
done
[ $# -gt 0 ] || set -- /bin/sh
chmod 755 $work/upper
mount -t overlay overlay -o "lowerdir=$rootfs,upperdir=$work/upper,workdir=$work/work" $new
mkdir -p $new/proc $new/dev $new/tmp
mount -t proc proc $new/proc
mount -t tmpfs tmpfs $new/dev
: >$new/dev/null
mount --bind /dev/null $new/dev/null
for volume in $volumes; do
    read_only=
    case "$volume" in *:ro) read_only=yes; volume=${volume%:ro} ;; esac
    source=${volume%%:*}
    target=$new${volume#*:}
    mkdir -p "$target"
    mount --rbind "$source" "$target"
    [ -n "$read_only" ] || continue
    # One remount for each mount below it.
    while read -r _ _ _ _ point _; do
        case "$point" in
        "$target" | "$target"/*) mount -o remount,bind,ro "$point" ;;
        esac
    done </proc/self/mountinfo
done
mkdir $new/.old
cd $new
pivot_root . .old
exec chroot . /bin/sh -c 'umount -l /.old && rmdir /.old && exec "$@"' sh "$@"

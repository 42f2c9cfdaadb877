#!/usr/bin/env bash
# systemd.sh    chapter 10 with --systemd-cgroup, below a systemd of its own
#
# systemd is process 1 of namespaces that are made for it, on a root that is this machine's below an overlay: all that it writes is gone
# when it ends. It needs root, systemd and dbus, and version 2 of cgroups; a machine that has both versions will do, but for the limits.
# On version 2 alone: tests/vm/vm.sh tests/vm/systemd.sh
#
# VM_BUILT    the program, if it is built    target/debug/chapter10
set -euo pipefail
repository=$(realpath "$(dirname "$0")/../..")
program=${VM_BUILT:-$repository/target/debug/chapter10}
fail() { echo "systemd.sh: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || fail "run it as root"
[ -x /lib/systemd/systemd ] && command -v dbus-daemon >/dev/null || fail "apt install systemd dbus"
[ -x "$program" ] || fail "cargo build first"
top=$(findmnt -n -t cgroup2 -o TARGET | tail -n 1)
[ -n "$top" ] || fail "version 2 of cgroups is not mounted"

scratch=$(mktemp -d)
own=$top/cooperage-systemd-$$
end() {
    # The namespaces end with their process 1.
    [ -z "${init:-}" ] || kill -KILL "$init" 2>/dev/null || :
    wait 2>/dev/null || :
    echo $$ >"$top/cgroup.procs" 2>/dev/null || :
    find "$own" -depth -type d -exec rmdir {} \; 2>/dev/null || :
    rm -rf "$scratch"
}
trap end EXIT
mkdir "$own"
# What there is of controllers, its systemd shall have.
for controller in $(cat "$top/cgroup.controllers"); do echo "+$controller" >"$top/cgroup.subtree_control" 2>/dev/null || :; done
echo $$ >"$own/cgroup.procs"

cat >"$scratch/inside" <<'INSIDE'
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mount -t tmpfs tmpfs dev
for name in null zero full random urandom tty; do touch "dev/$name"; mount --bind "/dev/$name" "dev/$name"; done
mkdir dev/pts dev/shm
mount -t devpts devpts dev/pts
mount -t cgroup2 cgroup2 sys/fs/cgroup
mkdir -p run/program && touch run/program/chapter10
mount --bind "$2" run/program/chapter10
pivot_root . mnt
umount -l /mnt
export container=other
exec /lib/systemd/systemd --system --unit=dbus.service --log-target=console --show-status=0
INSIDE
mkdir "$scratch/m"
unshare --mount --pid --fork --uts --ipc --cgroup --net sh "$scratch/inside" "$scratch/m" "$program" >"$scratch/log" 2>&1 </dev/null &
outside=$!
for _ in $(seq 600); do
    init=$(pgrep -P "$outside" | head -n 1 || :)
    [ -n "$init" ] && nsenter -t "$init" -m -r test -S /run/dbus/system_bus_socket 2>/dev/null && break
    sleep 0.1
done
inside() { nsenter -t "$init" -m -p -u -i -n -C -r -w -- "$@"; }
inside systemctl is-active dbus.service >/dev/null || { tail "$scratch/log"; fail "systemd did not come up"; }

# A bundle of busybox alone.
cat >"$scratch/story" <<'STORY'
set -eu
is() { [ "$2" = "$3" ] || { echo "$1: $2, and not $3" >&2; exit 1; }; }
runtime="/run/program/chapter10 --systemd-cgroup"
mkdir -p /tmp/web/rootfs/bin && cd /tmp/web
cp "$(command -v busybox)" rootfs/bin/busybox
for name in sh sleep cat ls; do ln -s busybox rootfs/bin/$name; done
$runtime spec
sed -i 's/"terminal": true/"terminal": false/; s/"sh"/"sleep", "1000"/; s|"linux": {|"linux": {"cgroupsPath": "machine.slice:cooperage:web",|' config.json
$runtime create web </dev/null >/tmp/said 2>&1 || { cat /tmp/said; exit 1; }
is "the unit" "$(systemctl show cooperage-web.scope -p ActiveState --value)" active
is "its slice" "$(systemctl show cooperage-web.scope -p Slice --value)" machine.slice
is "delegated" "$(systemctl show cooperage-web.scope -p Delegate --value)" yes
is "its cgroup" "$(systemctl show cooperage-web.scope -p ControlGroup --value)" /machine.slice/cooperage-web.scope
$runtime start web
is "seen from inside" "$($runtime exec web cat /proc/self/cgroup | tail -n 1)" 0::/
is "two processes" "$($runtime ps web -f json | tr -cd , | wc -c)" 0
if grep -qw pids /sys/fs/cgroup/cgroup.controllers; then
    $runtime update --pids-limit 77 --memory 67108864 web
    is "what systemd knows" "$(systemctl show cooperage-web.scope -p TasksMax --value)" 77
    is "the file" "$(cat /sys/fs/cgroup/machine.slice/cooperage-web.scope/pids.max)" 77
    is "the file" "$(cat /sys/fs/cgroup/machine.slice/cooperage-web.scope/memory.max)" 67108864
    systemctl daemon-reload
    is "after a reload" "$(cat /sys/fs/cgroup/machine.slice/cooperage-web.scope/memory.max)" 67108864
else
    echo "no controllers here: limits were not tried"
fi
$runtime pause web
is paused "$($runtime list | grep -c paused)" 1
$runtime resume web
$runtime delete --force web
[ ! -e /sys/fs/cgroup/machine.slice/cooperage-web.scope ] || { echo "the cgroup is left" >&2; exit 1; }
is "units left" "$(systemctl list-units --all --plain --no-legend 'cooperage-*' | wc -l)" 0
# What makes no sense is refused, and leaves nothing.
sed -i 's/machine.slice:cooperage:web/nonsense/' config.json
! $runtime create web </dev/null >/tmp/said 2>&1 || exit 1
grep -q SLICE:PREFIX:NAME /tmp/said
is "containers left" "$($runtime list -q | wc -l)" 0
echo "systemd made the cgroup, and removed it"
STORY
inside sh -s <"$scratch/story"

#!/usr/bin/env bash
# What the virtual machine runs: every test program as root, then as an ordinary user to whom a cgroup was delegated.
# tests/vm/test.sh starts it. Arguments: who ("root", "user" or "both"), then the arguments of the test programs.
# TEST_PROGRAMS names the programs.
set -uo pipefail
who=$1
shift

# A host that can do all that the tests ask for. A default route, so that containers have somewhere to be sent to:
# nothing answers there. And nothing that says that the machine below is a container.
ip link add world type dummy
ip address add 192.0.2.2/24 dev world
ip link set world up
ip route add default via 192.0.2.1
rm -f /.dockerenv /run/.containerenv

# All that the doctor knows, but version 1. Nothing that is needed may be skipped.
doctor=target/debug/doctor
features=$($doctor --json | tr ',{' '\n\n' | sed -n 's/.*"name": *"\([^"]*\)".*/\1/p' | grep -vx cgroup-v1 | paste -sd,)
[ -n "$features" ] || { echo "the doctor names no feature" >&2; exit 1; }
export COOPERAGE_REQUIRE=$features INSTA_WORKSPACE_ROOT=$PWD INSTA_UPDATE=${INSTA_UPDATE:-no}
failed=0
started=$(mktemp)

# as NAME COMMAND...    runs every test program by COMMAND
as() {
    local name=$1
    shift
    for program in $TEST_PROGRAMS; do
        local start=$SECONDS
        printf '\n== %s, as %s\n' "$(basename "${program%-*}")" "$name"
        "$@" "$program" "${arguments[@]}" || failed=1
        echo "== took $((SECONDS - start)) s"
    done
}
arguments=("$@")

if [ "$who" != user ]; then
    as root env
fi

# As `systemd-run --user --scope -p Delegate=yes` does it: the directory and three files are the user's.
if [ "$who" != root ]; then
    delegated=/sys/fs/cgroup/delegated
    mkdir $delegated
    chown 1000:1000 $delegated $delegated/cgroup.procs $delegated/cgroup.threads $delegated/cgroup.subtree_control
    mkdir -p /run/user/1000
    chown 1000:1000 /run/user/1000
    # What builds left here belongs to whoever built it.
    chown -R 1000:1000 target/cooperage 2>/dev/null
    as "an ordinary user" sh -c "echo \$\$ >$delegated/cgroup.procs; exec \"\$@\"" sh \
        setpriv --reuid 1000 --regid 1000 --clear-groups env HOME=/tmp USER=reader XDG_RUNTIME_DIR=/run/user/1000
fi

# Snapshots that were accepted here go back to the machine below.
if [ "$INSTA_UPDATE" = always ]; then
    find tests/snapshots -type f -newer "$started" -print0 | tar -c -f /dev/ttyS3 --null -T -
fi

if dmesg | grep -E 'BUG:|WARNING:|soft lockup|rcu.*stall'; then
    echo "the kernel complained" >&2
    failed=1
fi
printf '\n== the machine was up for %.0f s\n' "$(cut -d ' ' -f 1 /proc/uptime)"
exit $failed

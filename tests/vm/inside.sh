#!/usr/bin/env bash
# What the virtual machine runs: the tests as root, then as an ordinary user to whom a cgroup was delegated, each with
# COOPERAGE_REQUIRE demanding all that such a host has. tests/vm/test.sh starts it.
# Arguments: who ("root", "user" or "both"), then those of the test programs. TEST_PROGRAMS names the programs, each as
# PATH or PATH:FILTER, and USER_PROGRAMS those that the ordinary user runs, if not all. BUILT is where the crate's programs are,
# and GRADED names the chapters whose answers the grader judges. VM_PREPARE is a command that is run first, and VM_LACKS names
# features that may be missing: by default those that lsm.sh has a machine for.
set -uo pipefail
who=$1
shift
arguments=("$@")

# A host that can do all that the tests ask for. A default route, so that containers have somewhere to be sent to:
# nothing answers there. And nothing that says that the machine below is a container.
ip link add world type dummy
ip address add 192.0.2.2/24 dev world
ip link set world up
ip route add default via 192.0.2.1
rm -f /.dockerenv /run/.containerenv

if [ "${VM_PREPARE:-}" ]; then
    $VM_PREPARE || exit 125
fi

# Nothing may be skipped but what needs version 1, or another security module.
export COOPERAGE_REQUIRE=all,-cgroup-v1,${VM_LACKS:--apparmor,-apparmor-profile,-selinux} INSTA_WORKSPACE_ROOT=$PWD INSTA_UPDATE=${INSTA_UPDATE:-no}
failed=0
started=$(mktemp)

# as NAME COMMAND...    runs every test program by COMMAND
as() {
    local name=$1 program filter start
    shift
    for program in $programs; do
        filter=${program#"${program%%:*}"}
        program=${program%%:*}
        printf '\n== %s, as %s\n' "$(basename "${program%-*}") ${filter#:}" "$name"
        start=$SECONDS
        # shellcheck disable=SC2086 # there may be no filter
        "$@" "$program" ${filter#:} "${arguments[@]}" || failed=1
        echo "== took $((SECONDS - start)) s"
    done
}

programs=$TEST_PROGRAMS
if [ "$who" != user ]; then
    as root env
    # Told and not judged: where everything takes ten times as long, 6.4 may not end within the grader's 10 s.
    for chapter in $GRADED; do
        printf '\n== the grader judges the answers of chapter %s, as root\n' "$chapter"
        "$BUILT/grade" "$chapter" --program "$BUILT/solution0$chapter" || echo "== not all of it"
    done
fi

# As `systemd-run --user --scope -p Delegate=yes` does it: the directory and three files are the user's.
if [ "$who" != root ]; then
    delegated=/sys/fs/cgroup/delegated
    programs=${USER_PROGRAMS:-$TEST_PROGRAMS}
    # The repository may be where only root may go. (What is changed here is in memory.)
    for ((place = 1; place <= ${#PWD}; place++)); do
        case ${PWD:place:1} in / | '') chmod a+rx "${PWD:0:place}" ;; esac
    done
    mkdir $delegated
    chown 1000:1000 $delegated $delegated/cgroup.procs $delegated/cgroup.threads $delegated/cgroup.subtree_control
    target=${BUILT%/*}
    mkdir -p /run/user/1000 "$target/tmp"
    chown 1000:1000 /run/user/1000 "$target/tmp"
    # The root filesystem that the chapters made is the user's, as if the user had made it.
    chown -R 1000:1000 "$target/cooperage"
    [ "$INSTA_UPDATE" = no ] || chown -R 1000:1000 tests/snapshots
    # The first program makes room in the cgroup: the next is started in the leaf.
    # shellcheck disable=SC2016 # for the inner shell
    as "an ordinary user" sh -c 'cd "$0"; [ -d runtimes ] && cd runtimes; echo $$ >cgroup.procs; exec "$@"' \
        $delegated env -C "$PWD" \
        setpriv --reuid 1000 --regid 1000 --clear-groups env COOPERAGE_REQUIRE=$COOPERAGE_REQUIRE,-another-user,-root-itself \
        HOME=/tmp USER=reader XDG_RUNTIME_DIR=/run/user/1000
fi

# Snapshots that were accepted here go back to the machine below.
if [ "$INSTA_UPDATE" = always ]; then
    find tests/snapshots -type f -newer "$started" -print0 | tar -c -f /dev/ttyS3 --null -T -
fi

# A stall says that the machine below was busy, and nothing about the containers.
if dmesg | grep -E 'BUG:|WARNING:' | grep -v 'soft lockup'; then
    echo "the kernel complained" >&2
    failed=1
fi
printf '\n== the machine was up for %.0f s\n' "$(cut -d ' ' -f 1 /proc/uptime)"
exit $failed

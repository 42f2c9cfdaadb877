#!/usr/bin/env bash
# test.sh [arm64] [WHO [ARGUMENT...]]    runs the tests in a virtual machine whose only cgroups are version 2
#
# With arm64 it is an aarch64 machine. That takes hours: run it once in a while, and after changes to system calls.
# WHO is root, user or both (the default). The arguments are those of a test program: a filter, --skip and so on.
# The programs are built here, where it is fast, and run there. See vm.sh for what is needed.
#
# VM_TESTS         the test programs, each as NAME or NAME:FILTER; "cooperage" are the unit tests. By default all but those
#                  that compile programs (exercises) or have nothing to do with the host (book, overlay), and of the book's
#                  sessions those of chapter 6. (On aarch64 no sessions: some build programs first.)
# VM_BUILT         1: the programs are built already
# VM_USER_TESTS    the same for the ordinary user, if not all
# VM_GRADED        the chapters whose answers are graded by root: 6, and on aarch64 all
# INSTA_UPDATE     always: accept snapshots, as outside
# COOPERAGE_SWEEP  all: every behaviour at every chapter that has it, as outside
set -euo pipefail
cd "$(dirname "$0")/../.."
export VM_ARCH BUILT GRADED
if [ "${1:-}" = arm64 ]; then
    shift
    VM_ARCH=arm64 BUILT=target/arm64/aarch64-unknown-linux-gnu/debug GRADED=${VM_GRADED:-1 2 3 4 5 6 7}
    export VM_TIMEOUT=${VM_TIMEOUT:-20000}
    tests=${VM_TESTS:-cooperage cli lab chapters breakouts}
    cargo() { tests/vm/arm64.sh cargo "$@"; }
else
    VM_ARCH=amd64 BUILT=target/debug GRADED=${VM_GRADED:-6}
    tests=${VM_TESTS:-cooperage cli lab chapters breakouts pages:page06}
fi
who=${1:-both}
shift || :

# `cargo test` builds the programs with other features of their dependencies than `cargo build`. Each puts its own into
# target/debug, which a test that is running meanwhile would notice.
[ "${VM_BUILT:-}" ] || cargo build --locked --bins

# programs TEST...    where cargo has built them, each with its filter
programs() {
    local test name select said program
    for test in "$@"; do
        name=${test%%:*} select=(--test "${test%%:*}")
        [ "$name" != cooperage ] || select=(-p cooperage --lib)
        said=$(cargo test --locked --no-run "${select[@]}" 2>&1) || { echo "$said" >&2; exit 1; }
        program=$(sed -n 's/^ *Executable .*(\(.*\))$/\1/p' <<<"$said")
        printf ' %s' "$program${test#"$name"}"
        # Some sessions are of a program in which something is broken, and build it before they begin.
        if [ "$name" = pages ]; then
            "$program" "${test#"$name":}" >/dev/null 2>&1 || :
        fi
    done
}
# shellcheck disable=SC2086 # they are words
TEST_PROGRAMS=$(programs $tests)
# shellcheck disable=SC2086
USER_PROGRAMS=$(programs ${VM_USER_TESTS:-})
export TEST_PROGRAMS USER_PROGRAMS
VM_FILES=$PWD exec tests/vm/vm.sh tests/vm/inside.sh "$who" "$@"

#!/usr/bin/env bash
# test.sh [WHO [ARGUMENT...]]    runs the tests in a virtual machine whose only cgroups are version 2
#
# WHO is root, user or both (the default). The arguments are those of a test program: a filter, --skip and so on.
# The programs are built here, where it is fast, and run there. See vm.sh for what is needed.
#
# VM_TESTS         the test programs, each as NAME or NAME:FILTER; "cooperage" are the unit tests. By default all but those
#                  that compile programs (exercises) or have nothing to do with the host (book, overlay), and of the book's
#                  sessions those of chapter 6.
# VM_USER_TESTS    the same for the ordinary user, if not all
# INSTA_UPDATE     always: accept snapshots, as outside
# COOPERAGE_SWEEP  all: every behaviour at every chapter that has it, as outside
set -euo pipefail
cd "$(dirname "$0")/../.."
who=${1:-both}
shift || :
tests=${VM_TESTS:-cooperage cli lab chapters breakouts pages:page06}

cargo build --locked --bins

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

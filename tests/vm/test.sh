#!/usr/bin/env bash
# test.sh [WHO [ARGUMENT...]]    runs the test programs in a virtual machine whose only cgroups are version 2
#
# WHO is root, user or both (the default). The arguments are those of a test program: a filter, --test-threads and so on.
# The programs are built here, where it is fast, and run there. See vm.sh for what is needed.
# INSTA_UPDATE=always accepts snapshots, as it does outside.
# VM_TESTS names some of the test programs, in place of all that `cargo test` runs.
set -euo pipefail
cd "$(dirname "$0")/../.."
who=${1:-both}
shift || :

cargo build --locked --bins
select=()
for name in ${VM_TESTS:-}; do select+=(--test "$name"); done
built=$(cargo test --locked --no-run "${select[@]}" 2>&1) || { echo "$built" >&2; exit 1; }
TEST_PROGRAMS=$(sed -n 's/^ *Executable .*(\(.*\))$/\1/p' <<<"$built" | paste -sd' ')
export TEST_PROGRAMS
VM_FILES=$PWD exec tests/vm/vm.sh tests/vm/inside.sh "$who" "$@"

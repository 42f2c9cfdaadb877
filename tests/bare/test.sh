#!/usr/bin/env bash
# test.sh [WHAT...]    runs the README's commands on bare machines, and `cargo test`; see bare.sh
#
#   root      Debian 12 as root, everything
#   user      Debian 13 as an ordinary user, everything
#   odd       Debian 12 as an ordinary user, where much is unusual at once: a path with spaces and an umlaut, a checkout that is
#             read-only, a target directory elsewhere, no HOME, a /tmp without programs, a terminal of 60 columns
#   second    what one user has built, another runs: root what a user has built, and a user what root has
#   podman    in a container of Podman's, without rights and with --privileged
#   ci        what is cheap, with what has been built out here: cli, lab and chapters, on Debian 12 as root and on Debian 13 as a
#             user, for whom it is somebody else's
#
# All of them but the last if none is named. BARE_FILTER is handed on to the test programs of `odd`, `second` and `podman`.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export BARE_CACHE=${BARE_CACHE:-$(cd "$here/../.." && pwd)/target/bare}
step() { printf '\n== bare: %s\n' "$*"; }
failed=()
run() { "$@" || failed+=("$step"); }

# A container with its own network, told by whatever `ip` there is.
readme='cargo run -q --bin chapter05 -- ip addr | grep -q "inet 10.83.0.2/16" && cargo run -q --bin doctor'
# `lab` is a program besides: the newest file of that name which lists tests is the test program.
programs='for test in cli lab chapters; do
    program=
    for built in $(ls -t "$0"/debug/deps/$test-* | grep -v "\.d$"); do
        "$built" --list </dev/null 2>/dev/null | grep -q ": test$" && program=$built && break
    done
    "${program:?$test is not built}" "$@" || exit 1
done'

one() {
    step=$1
    case $1 in
    root)
        step "Debian 12, root"
        run "$here/bare.sh" bookworm root sh -c "$readme && cargo test --no-fail-fast"
        ;;
    user)
        step "Debian 13, an ordinary user"
        # The doctor is not content: version 1 of cgroups is for root alone.
        run "$here/bare.sh" trixie user sh -c "{ $readme || :; } && cargo test --no-fail-fast"
        ;;
    odd)
        step "Debian 12, a user, and much that is unusual"
        BARE_HOME="/home/reader/Käse und Brot/cooperage" BARE_READ_ONLY=1 BARE_NOEXEC=1 BARE_TARGET=$BARE_CACHE/target-odd \
            run "$here/bare.sh" bookworm user env -u HOME CARGO_HOME=/home/reader/.cargo COLUMNS=60 \
            cargo test --no-fail-fast --test cli --test lab --test chapters -- ${BARE_FILTER:-}
        ;;
    second)
        step "Debian 12, root, what a user has built"
        "$here/bare.sh" bookworm user cargo build --tests
        BARE_CHECKOUT=$BARE_CACHE/checkout-1000 BARE_TARGET=$BARE_CACHE/target-bookworm-1000 \
            run "$here/bare.sh" bookworm root sh -c "$programs" target ${BARE_FILTER:-}
        step "Debian 12, a user, what root has built"
        "$here/bare.sh" bookworm root cargo build --tests
        BARE_CHECKOUT=$BARE_CACHE/checkout-0 BARE_TARGET=$BARE_CACHE/target-bookworm-0 \
            run "$here/bare.sh" bookworm 1001 sh -c "$programs" target ${BARE_FILTER:-}
        ;;
    podman)
        "$here/bare.sh" trixie root cargo build --tests
        for kind in plain privileged; do
            step "Debian 13, a container: $kind"
            run "$here/podman.sh" trixie "$kind" sh -c "cargo run -q --bin doctor; $programs" target ${BARE_FILTER:-}
        done
        ;;
    ci)
        root=$(cd "$here/../.." && pwd)
        export BARE_CHECKOUT=$root BARE_HOME=$root BARE_TARGET=$root/target
        step "Debian 12, root"
        run "$here/bare.sh" bookworm root sh -c "target/debug/chapter05 -- ip addr && $programs" target
        step "Debian 13, an ordinary user"
        run "$here/bare.sh" trixie user sh -c "target/debug/chapter05 -- ip addr && $programs" target
        ;;
    *)
        echo "test.sh: there is no $1" >&2
        exit 2
        ;;
    esac
}

[ $# -gt 0 ] || set -- root user odd second podman
for what in "$@"; do one "$what"; done
if [ ${#failed[@]} -gt 0 ]; then
    echo "bare: failed: ${failed[*]}" >&2
    exit 1
fi

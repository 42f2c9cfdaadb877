#!/usr/bin/env bash
# old-submissions.sh REVISION [CHAPTER...]    does what passed at an older revision pass now?
#
# Takes the answers and the untouched exercises of that revision as if students had handed them in, and has today's
# grader judge them: every answer has to earn all its points, every untouched exercise none.
set -euo pipefail
cd "$(dirname "$0")/.."
revision=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cargo build -q --locked --bins
failed=0
for folder in $(git ls-tree --name-only "$revision" chapters/); do
    number=$(basename "$folder" | sed 's/^0*\([0-9]*\)-.*/\1/')
    if [ $# -gt 0 ] && ! [[ " $* " = *" $number "* ]]; then continue; fi
    for kind in solution exercise; do
        mkdir -p "$work/$number/$kind"
        git show "$revision:$folder/$kind.rs" >"$work/$number/$kind/exercise.rs"
    done
    target/debug/grade "$number" --submissions "$work/$number" --output "$work/grades-$number" >/dev/null
    echo "chapter $number:"
    sed 's/^/    /' "$work/grades-$number/results.csv"
    grep -qE '^exercise,[0-9]+,0,' "$work/grades-$number/results.csv" || failed=1
    grep -qE '^solution,[0-9]+,20,20,' "$work/grades-$number/results.csv" || failed=1
done
exit $failed

#!/usr/bin/env bash
# podman.sh SUITE plain|privileged [COMMAND...]    the same bare system as a container of Podman's: what a dev container or a CI job is
#
# The image is the tree that bare.sh makes, with the same Rust, crates, checkout and target directory.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
suite=$1 kind=$2
shift 2
[ $# -gt 0 ] || set -- cargo test --no-fail-fast
cache=${BARE_CACHE:-$here/../../target/bare}
"$here/bare.sh" "$suite" root true # which makes the tree, and brings the checkout up to date
tree=$(ls -d "$cache/$suite"-* | head -n 1)
image=cooperage-bare-$suite
podman image exists "$image" || tar -C "$tree" -c . | podman import -q - "$image" >/dev/null

options=()
[ "$kind" = plain ] || options+=("--$kind")
place=${BARE_HOME:-/home/reader/cooperage}
options+=(
    --rm --network none --workdir "$place"
    --volume "${BARE_CHECKOUT:-$cache/checkout-0}:$place" --volume "${BARE_TARGET:-$cache/target-$suite-0}:$place/target"
    --volume "$(rustc --print sysroot):/root/.rust:ro" --volume "${CARGO_HOME:-$HOME/.cargo}/registry:/root/.cargo/registry:ro"
    --env PATH=/root/.rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    --env CARGO_NET_OFFLINE=true --env HOME=/root --env LANG=C.UTF-8
)
# A root without CAP_SYS_RESOURCE can't raise limits; and crun refuses a host with both versions of cgroups.
limits=$(mktemp)
trap 'rm -f "$limits"' EXIT
printf '[containers]\ndefault_ulimits = []\n' >"$limits"
CONTAINERS_CONF=$limits unshare --mount sh -c '
    ! mountpoint -q /sys/fs/cgroup/unified || umount /sys/fs/cgroup/unified
    exec podman run "$@"
' sh "${options[@]}" "$image" "$@"

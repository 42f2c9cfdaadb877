#!/usr/bin/env bash
# oldest.sh    is what Cargo.toml says true, that Rust 1.88 (`rust-version`) suffices?
#
# Where that compiler can be had, it is the one to ask: `rustup run 1.88 cargo check --workspace --all-targets`. No package
# of Debian has it. So this asks Debian 13's, which is 1.85, and turns on what has been stable since then and is used
# here. It reads the newer language and library, or refuses: whatever it accepts, 1.88 does. The crates that this one
# depends on are compiled by it as they are. What 1.85 does not know at all is written in the older way, such as
# `std::str::from_utf8` for `str::from_utf8`.
#
# It needs root and mmdebstrap. The compiler is fetched once and kept in target/oldest.
set -euo pipefail
cd "$(dirname "$0")/.."

# What is used here, and the first Rust in which it is stable. None may be newer than rust-version.
features='let_chains, os_str_display, unsigned_is_multiple_of' # 1.88, 1.87, 1.87
[ "$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)" = 1.88 ] || {
    echo "rust-version is another one now: which features does this script turn on?" >&2
    exit 1
}

kept=$PWD/target/oldest
if [ ! -e "$kept/ready" ]; then
    rm -rf "$kept"
    mkdir -p "$kept/target"
    mmdebstrap --quiet --variant=minbase --include=rustc,cargo,gcc,libc6-dev trixie "$kept/tree" \
        "${BARE_MIRROR:-http://deb.debian.org/debian}"
    mkdir -p "$kept/tree/src" "$kept/tree/target" "$kept/tree/root/.cargo/registry"
    # Only for the crates of this workspace: others do not know the library's features.
    cat >"$kept/tree/compiler" <<'END'
#!/bin/sh
exec "$@" "-Zcrate-attr=feature($FEATURES)" --cap-lints=allow
END
    chmod +x "$kept/tree/compiler"
    touch "$kept/ready"
fi
cargo fetch --locked
export kept features registry=${CARGO_HOME:-$HOME/.cargo}/registry
# shellcheck disable=SC2016 # for the inner shell
unshare --mount --propagation private bash -euc '
    tree=$kept/tree
    mount -t proc proc "$tree/proc"
    mount --bind "$PWD" "$tree/src"
    mount -o remount,ro,bind "$tree/src"
    mount --bind "$kept/target" "$tree/target"
    mount --bind "$registry" "$tree/root/.cargo/registry"
    mount -o remount,ro,bind "$tree/root/.cargo/registry"
    run() {
        chroot "$tree" env -i PATH=/usr/bin:/bin HOME=/root CARGO_NET_OFFLINE=true CARGO_TARGET_DIR=/target \
            RUSTC_BOOTSTRAP=1 FEATURES="$features" "$@"
    }
    run rustc --version
    # Not by the wrapper: build.rs calls the compiler itself.
    run /compiler rustc --edition 2024 --crate-name applets --emit metadata -o /target/applets /src/src/applets/main.rs
    run env -C /src RUSTC_WORKSPACE_WRAPPER=/compiler \
        cargo check --quiet --locked --ignore-rust-version --workspace --all-targets
'

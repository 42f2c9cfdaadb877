# What one does in this workshop. `just` alone lists it.

_default:
    @just --list --unsorted

# try every feature of this machine
doctor *ARGS:
    cargo run -q --bin doctor -- {{ARGS}}

# run a chapter: just run 5 ip addr
run N *ARGS:
    cargo run -q --bin chapter{{ if N =~ '^\d$' { "0" + N } else { N } }} -- {{ARGS}}

# a shell on a throw-away host
lab *ARGS:
    cargo build -q --bins
    cargo run -q --bin lab -- {{ARGS}}

# what is new in a chapter: just new 5
new N:
    #!/bin/sh
    set -- chapters/[0-9]*/main.rs
    shift $(( {{N}} - 2 ))
    diff -u "$1" "$2"

# which tasks of a chapter are done: just grade 5
grade *ARGS:
    cargo run -q --bin grade -- {{ARGS}}

# cut every exercise.rs from its solution.rs; --check only compares
handout *ARGS:
    cargo run -q --bin handout -- {{ARGS}}

# every chapter, verified
test *ARGS:
    cargo test {{ARGS}}

# every behaviour at every chapter that has it, and not only at the one that brings it and the newest
sweep *ARGS:
    COOPERAGE_SWEEP=all cargo test {{ARGS}}

# the same on a virtual machine whose only cgroups are version 2: just test-vm root memory; aarch64: just test-vm arm64
test-vm *ARGS:
    tests/vm/test.sh {{ARGS}}

# chapter 9's labels on a virtual machine with AppArmor, or one with SELinux: just test-lsm apparmor, just test-lsm selinux
test-lsm MODULE *ARGS:
    tests/vm/lsm.sh {{MODULE}} {{ARGS}}

# chapter 10 below a systemd of its own; on a machine with cgroup version 2 alone: tests/vm/vm.sh tests/vm/systemd.sh
test-systemd:
    cargo build --bin chapter10
    tests/vm/systemd.sh

# the same on bare Debian 12 and 13, with a C compiler and nothing else: just test-bare, just test-bare odd
test-bare *ARGS:
    tests/bare/test.sh {{ARGS}}

# a shell in that machine, or a command
vm *ARGS:
    tests/vm/vm.sh {{ARGS}}

# is rust-version in Cargo.toml true? With the older compiler of Debian 13
oldest:
    tests/oldest.sh

# format, clippy, documentation: no warning
lint:
    cargo fmt --check
    cargo clippy --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items -q

# what CI runs
ci:
    .ci/run

# attack the chapters: just breakout chroot --chapter 1, just breakout matrix
breakout *ARGS:
    cargo run -q --bin breakout -- {{ARGS}}

# read the book in a browser
book:
    mdbook serve --open book

# open every page of the book in a headless browser; `just look DIR 05-` also makes pictures of pages
look DIR="" *PAGES:
    mdbook build book -d target/book
    node tests/browser/check.mjs target/book {{ if DIR == "" { "" } else { "--pictures " + DIR } }} {{PAGES}}

# write the snapshots of a page's sessions anew: just page 05
page N:
    INSTA_UPDATE=always cargo test --test pages page{{N}}
    INSTA_UPDATE=always cargo test --test book made::

# what a container costs, against other runtimes: just bench start --rounds 100
bench *ARGS:
    cargo bench --bench start -- {{ARGS}}

# chapter 7 as small as it gets: static, by musl and with a small standard library where these can be had
# (rustup target add x86_64-unknown-linux-musl; rustup component add rust-src)
small:
    #!/bin/sh
    set -eu
    target=$(uname -m)-unknown-linux-gnu
    flags="-C target-feature=+crt-static -C relocation-model=static"
    standard=
    rust=$(rustc --print sysroot)/lib/rustlib
    if [ -d "$rust/$(uname -m)-unknown-linux-musl" ]; then
        target=$(uname -m)-unknown-linux-musl
        # Built anew, it has no tables for unwinding and no reader of backtraces. Cargo calls that unstable.
        if [ -d "$rust/src/rust/library" ]; then
            export RUSTC_BOOTSTRAP=1
            flags="$flags -Z unstable-options -C panic=immediate-abort -C force-unwind-tables=no"
            standard="-Z build-std=std -Z build-std-features=optimize_for_size"
        fi
    fi
    RUSTFLAGS=$flags cargo build --profile small $standard --target "$target" --bin chapter07 --bin floor
    ls -l "target/$target/small/chapter07"

# is what passed at an older revision still judged so? just old-submissions 134f480
old-submissions revision *chapters:
    tests/old-submissions.sh {{revision}} {{chapters}}

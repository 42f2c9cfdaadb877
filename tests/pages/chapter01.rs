//! What the page of chapter 1 shows.

use crate::support::session::Session;

pub const SESSIONS: &[Session] = &[
    Session::new("page01-finished", &["cargo run --bin chapter01 -- ls /"]),
    Session::new("page01-explain", &["cargo run --bin chapter01 -- --explain -- pwd"]),
    Session::new("page01-two-places", &["readlink /proc/self/root", "readlink /proc/self/cwd"]),
    Session::new(
        "page01-predict",
        &[
            "sleep 1000 &",
            "cargo run --bin chapter01 -- ps",
            "cargo run --bin chapter01 -- kill $!",
            "wait $!; echo $?",
        ],
    ),
    Session::new(
        "page01-writes",
        &[
            "cargo run --bin chapter01 -- sh -c 'echo I was here > /tmp/note'",
            "cat target/cooperage/rootfs-*/tmp/note",
            "cargo run --bin chapter01 -- cat /tmp/note",
        ],
    ),
    Session::new(
        "page01-error",
        &["setpriv --bounding-set=-sys_chroot cargo run --bin chapter01 -- ls /", "echo $?"],
    ),
    Session::new(
        "page01-pockets",
        &[
            "SECRET=hunter2 cargo run --bin chapter01 -- env",
            "cargo run --bin chapter01 -- sh -c 'cat <&7' 7</etc/hosts",
        ],
    ),
    Session::new(
        "page01-run",
        &[
            "ls $PWD/Cargo.toml",
            "cargo run --bin chapter01 -- ls $PWD/Cargo.toml",
            "cargo run --bin chapter01",
            "> cd ..",
            "> pwd",
            "> exit 3",
            "echo $?",
            "cargo run --bin chapter01 -- sh -c 'kill -9 $$'; echo $?",
            "cargo run --bin chapter01 -- nonsense; echo $?",
        ],
    ),
    Session::new(
        "page01-outside",
        &[
            "cargo run --bin chapter01 -- sleep 1000 &",
            "~ wait_for pgrep -x sleep",
            "ps -o ppid,pid,args -C chapter01,sleep",
            "cd /proc/$(pgrep -x sleep)",
            "readlink root cwd",
            "readlink exe",
            "readlink ns/mnt /proc/self/ns/mnt",
        ],
    ),
    Session::new(
        "page01-strace",
        &["strace -f -qq -e trace=clone,chroot,chdir,close_range target/debug/chapter01 true"],
    )
    .needs(&["strace"]),
    // One call removed: without chdir("/") the command stands outside.
    Session::new(
        "page01-no-chdir",
        &[
            "cargo run --bin chapter01 -- ls -d /bin /Cargo.toml",
            "cargo run --bin chapter01 -- head -2 Cargo.toml",
            "cargo run --bin chapter01 -- ls -d ../../../proc/1",
            "cargo run --bin chapter01 -- pwd",
        ],
    )
    .broken(
        1,
        "root::chroot_into(rootfs.path())?;",
        "cooperage::container::sys::chroot(\"make this directory the root of all paths\", rootfs.path())?;",
    ),
    // Two calls exchanged.
    Session::new(
        "page01-swapped",
        &["cargo run --bin chapter01 -- ls -d /proc/1", "cargo run --bin chapter01 -- ls -d proc/1"],
    )
    .broken(
        1,
        "        root::chroot_into(rootfs.path())?;\n",
        "        cooperage::container::sys::chdir(\"come inside\", std::path::Path::new(\"/\"))?;\n        \
         cooperage::container::sys::chroot(\"make this directory the root of all paths\", rootfs.path())?;\n",
    ),
    Session::new(
        "page01-coreutils",
        &["SECRET=hunter2 chroot target/cooperage/rootfs-* /bin/sh -c 'pwd; echo $SECRET'"],
    ),
];

//! What the page of chapter 1 shows.

use crate::support::session::Session;

pub const SESSIONS: &[Session] = &[
    // An example of everything; the page's author replaces it.
    Session::new(
        "page01-example",
        &[
            "cargo run --bin chapter01 -- ls /",
            "cargo run --bin chapter01",
            "> pwd",
            "> cd /tmp",
            "@ ls -d /tmp/you*/cooperage/target",
            "> false",
            "> echo $?",
            "> exit 3",
            "echo $?",
            "# a container in the background",
            "cargo run --bin chapter01 -- sleep 1000 &",
            "~ wait_for pgrep -P $! sleep",
            "readlink /proc/$!/ns/pid",
            "kill $!; wait",
            "cargo run --bin chapter01 -- --explain -- nonsense",
        ],
    ),
    // One call removed: without chdir("/") the command stands outside.
    Session::new("page01-no-chdir", &["cargo run --bin chapter01 -- ls"]).broken(
        1,
        "root::chroot_into(rootfs.path())?;",
        "cooperage::container::sys::chroot(\"make this directory the root of all paths\", rootfs.path())?;",
    ),
];

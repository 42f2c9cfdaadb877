//! What the page of chapter 2 shows.

use crate::support::session::Session;

pub const SESSIONS: &[Session] = &[
    Session::new("page02-finished", &["cargo run --bin chapter02 -- ps"]),
    Session::new("page02-explain", &["cargo run --bin chapter02 -- --explain -- true"]),
    Session::new(
        "page02-problem",
        &["sleep 1000 &", "cargo run --bin chapter01 -- kill -0 $! && echo it could"],
    ),
    Session::new("page02-predict", &["cargo run --bin chapter02 -- sh -c 'kill -9 $$; echo still here'"]),
    Session::new(
        "page02-names",
        &[
            "cargo run --bin chapter02 -- sleep 1000 &",
            "~ wait_for pgrep -x sleep",
            "pgrep -x sleep",
            "grep NSpid /proc/$(pgrep -x sleep)/status",
            "readlink /proc/$(pgrep -x sleep)/ns/pid",
            "readlink /proc/self/ns/pid",
        ],
    ),
    Session::new(
        "page02-end",
        &[
            "cargo run --bin chapter01 -- sh -c 'sleep 1000; true' &",
            "~ wait_for pgrep -x sleep",
            "kill -9 $(ps -o ppid= -C sleep)",
            "~ wait $!; true",
            "pgrep -x sleep || echo it is gone",
            "~ pkill -x sleep; wait_for sh -c '! pgrep -x sleep'",
            "cargo run --bin chapter02 -- sh -c 'sleep 1000; true' &",
            "~ wait_for pgrep -x sleep",
            "kill -9 $(ps -o ppid= -C sleep)",
            "~ wait $!; true",
            "pgrep -x sleep || echo it is gone",
        ],
    ),
    Session::new(
        "page02-run",
        &[
            "sleep 1000 &",
            "cargo run --bin chapter02 -- kill $!",
            "cargo run --bin chapter02",
            "> echo $$ $PPID",
            "> sh -c 'ps; true'",
        ],
    ),
    Session::new(
        "page02-outside",
        &[
            "cargo run --bin chapter02 -- sh -c 'sleep 1000; true' &",
            "~ wait_for pgrep -x sleep",
            "ps --forest -o pid,args -C chapter02,sh,sleep",
            "grep -c rootfs /proc/self/mountinfo",
            "ls -d target/cooperage/rootfs-*/proc/[0-9]*",
        ],
    ),
    Session::new(
        "page02-nsenter",
        &[
            "cargo run --bin chapter02 -- sleep 1000 &",
            "~ wait_for pgrep -x sleep",
            "nsenter --target $(pgrep -x sleep) --pid --root --wd ps",
        ],
    ),
    // One call removed: a new numbering without a /proc that shows it.
    Session::new(
        "page02-no-proc",
        &["cargo run --bin chapter02 -- ps", "cargo run --bin chapter02 -- sh -c 'echo $$'"],
    )
    .broken(2, "        pid::mount_proc()?;\n", ""),
    Session::new("page02-no-fork", &["unshare --pid bash -c 'echo $$; /bin/true; /bin/true; /bin/true'"]),
    Session::new(
        "page02-killed",
        &[
            "cargo run --bin chapter02 -- sleep 1000 &",
            "~ wait_for pgrep -x sleep",
            "kill -9 $!",
            "~ wait $!; wait_for sh -c '! pgrep -x sleep'",
            "grep -o 'rootfs-.*' /proc/self/mountinfo",
            "cargo run --bin chapter02 -- --explain -- true 2>&1 | grep -e umount2 -e swept",
            "grep -o 'rootfs-.*' /proc/self/mountinfo || echo nothing is left",
        ],
    ),
    Session::new("page02-unshare", &["unshare --pid --fork --mount-proc ps"]),
];

//! What the page of chapter 7 shows.

use crate::support::session::Session;

/// The tests may run at a lower priority, which ps shows as an N.
const NICE: &[(&str, &str)] = &[("\\b([DRSZ])N\\b", "$1 ")];

pub const SESSIONS: &[Session] = &[
    Session::new(
        "page07-first",
        &[
            "cargo run --bin chapter07",
            "> ps -o pid,ppid,comm",
            "> exit 3",
            "echo $?",
            "cargo run --bin chapter07 -- sleep 1000 &",
            "~ wait_for pgrep -x sleep",
            "kill $!; wait $!; echo $?",
        ],
    ),
    // An orphan that ends after a second; a look at it a second later; and a process 1 that waits for nobody.
    Session::new(
        "page07-zombie",
        &["cargo run --bin chapter06 -- \\\n    sh -c '(sleep 1 &); (sleep 2; ps -o pid,ppid,stat,comm) & exec sleep 3'"],
    )
    .filters(NICE),
    Session::new(
        "page07-reaped",
        &["cargo run --bin chapter07 -- \\\n    sh -c '(sleep 1 &); (sleep 2; ps -o pid,ppid,stat,comm) & exec sleep 3'"],
    )
    .filters(NICE),
    Session::new(
        "page07-deaf",
        &[
            "cargo run --bin chapter07 -- --no-init --stop-timeout 2 -- sleep 1000 &",
            "~ wait_for pgrep -x sleep",
            "kill $!; wait $!; echo $?",
        ],
    ),
    // The shell runs its trap when the sleep in front has ended, or immediately if it waits itself.
    Session::new(
        "page07-trap",
        &[
            "cargo run --bin chapter07 -- --stop-timeout 2 -- \\\n    sh -c 'trap \"echo bye; exit 0\" TERM; sleep 1000' &",
            "~ wait_for pgrep -x sleep",
            "kill $!; wait $!; echo $?",
            "cargo run --bin chapter07 -- --stop-timeout 2 -- \\\n    sh -c 'trap \"echo bye; exit 0\" TERM; sleep 1000 & wait' &",
            "~ wait_for pgrep -x sleep",
            "kill $!; wait $!; echo $?",
        ],
    ),
    Session::new(
        "page07-status",
        &[
            "cargo run --bin chapter07 -- sh -c 'exit 3'; echo $?",
            "cargo run --bin chapter07 -- sh -c 'kill -SEGV $$'; echo $?",
            "cargo run --bin chapter07 -- nonsense; echo $?",
        ],
    ),
    Session::new(
        "page07-grace",
        &[
            "cargo run --bin chapter07 -- \\\n    sh -c 'trap \"echo saved; exit 5\" TERM; while :; do sleep 0.1; done' &",
            "~ wait_for pgrep -x sleep",
            "kill $!; wait $!; echo $?",
            "cargo run --bin chapter07 -- --stop-timeout 1 -- sh -c 'trap \"\" TERM; sleep 1000' &",
            "~ wait_for pgrep -x sleep",
            "kill $!; wait $!; echo $?",
        ],
    ),
    Session::new(
        "page07-ends",
        &[
            "cargo run --bin chapter07 -- sh -c 'sleep 1000 & sleep 1000 & echo done'",
            "pgrep sleep || echo no sleep is left",
        ],
    ),
    Session::new(
        "page07-outside",
        &[
            "cargo run --bin chapter07 -- sleep 1000 > /dev/null 2>&1 &",
            "~ wait_for pgrep -x sleep",
            "init=$(pgrep -P $!)",
            "command=$(pgrep -P $init)",
            "grep -hE '^(Name|NSpid):' /proc/$!/status /proc/$init/status /proc/$command/status",
            "for fd in /proc/$init/fd/*; do readlink $fd; done",
            "kill $!; wait",
        ],
    )
    .filters(&[("(pipe|socket):\\[[0-9]+\\]", "$1:[N]")]),
    Session::new(
        "page07-explain",
        &["cargo run --bin chapter07 -- --explain -- true 2>&1 | grep -E 'container.*(clone|execve)'"],
    ),
    Session::new(
        "page07-strace",
        &[
            "strace -f -e trace=kill,waitid -e signal=none -o /tmp/calls target/debug/chapter07 -- sleep 1000 &",
            "~ wait_for pgrep -x sleep",
            "kill $(pgrep -ox chapter07); wait",
            "grep -E 'kill|waitid' /tmp/calls",
        ],
    )
    .needs(&["strace"])
    .filters(&[
        ("si_utime=[0-9]+, si_stime=[0-9]+", "si_utime=0, si_stime=0"),
        ("0x[0-9a-f]+", "0x7ffd0c1e2a80"),
    ]),
    // Without the grace: the container is killed immediately.
    Session::new(
        "page07-no-grace",
        &[
            "cargo run --bin chapter07 -- \\\n    sh -c 'trap \"echo saved; exit 5\" TERM; while :; do sleep 0.1; done' &",
            "~ wait_for pgrep -x sleep",
            "kill $!; wait $!; echo $?",
        ],
    )
    .broken(7, "wait_or_stop(args.ending.grace(), || cgroup.thaw())", "wait_or_kill(|| cgroup.thaw())"),
    // Without close_range(2) init keeps what the runtime had open, the rootfs among it.
    Session::new(
        "page07-leak",
        &[
            "strace -f -o /dev/null -e inject=close_range:retval=0 target/debug/chapter07",
            "> ls /Cargo.toml",
            "> head -n 3 /proc/1/fd/*/../../../Cargo.toml",
        ],
    )
    .needs(&["strace"]),
    Session::new(
        "page07-no-leak",
        &["cargo run --bin chapter07", "> head -n 3 /proc/1/fd/*/../../../Cargo.toml"],
    ),
];

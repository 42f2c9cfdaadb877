//! What the page of chapter 6 shows. Sessions that name files of a cgroup show those of version 2, as the page teaches.

use crate::support::session::Session;

const V2: &[&str] = &["cgroup-v2", "cgroup-memory", "cgroup-cpu", "cgroup-pids"];

pub const SESSIONS: &[Session] = &[
    Session::new(
        "page06-first",
        &[
            "cargo run --bin chapter06 -- --memory 32m -- dd if=/dev/zero of=/dev/null bs=200M count=1",
            "echo $?",
            "cargo run --bin chapter06 -- --pids-limit 5 -- sh -c 'for i in 1 2 3 4 5; do sleep 1 & done'",
        ],
    )
    .needs(&["cgroup-memory", "cgroup-pids"]),
    Session::new(
        "page06-greedy",
        &["cargo run --bin chapter05 -- dd if=/dev/zero of=/dev/null bs=200M count=1"],
    ),
    Session::new(
        "page06-meminfo",
        &[
            "grep MemTotal /proc/meminfo > /tmp/outside",
            "cargo run --bin chapter06 -- --memory 64m -- grep MemTotal /proc/meminfo > /tmp/inside",
            "cmp /tmp/outside /tmp/inside && echo the same",
        ],
    )
    .needs(&["cgroup-memory"]),
    Session::new(
        "page06-by-hand",
        &[
            "mkdir /sys/fs/cgroup/mine",
            "cd /sys/fs/cgroup/mine",
            "cat memory.max cpu.max pids.max",
            "sh -c 'echo 0 > cgroup.procs; cat /proc/self/cgroup'",
            "cd ..; rmdir mine",
        ],
    )
    .needs(V2),
    Session::new(
        "page06-internal",
        &[
            "mkdir /sys/fs/cgroup/mine",
            "cd /sys/fs/cgroup/mine",
            "sh -c 'echo 0 > cgroup.procs; echo +memory | tee cgroup.subtree_control >/dev/null'",
            "echo +memory | tee cgroup.subtree_control",
        ],
    )
    .needs(V2),
    Session::new(
        "page06-survivor",
        &[
            "cargo run --bin chapter06 -- --memory 32m -- \\\n    sh -c 'dd if=/dev/zero of=/dev/null bs=200M count=1; echo still here'",
            "echo $?",
        ],
    )
    .needs(&["cgroup-memory"]),
    Session::new(
        "page06-bomb",
        &[
            "cargo run --bin chapter06 -- --pids-limit 40 -- sh -c 'b() { b & b & wait; }; b' 2> /tmp/said",
            "grep -o \"can't fork: [A-Z][a-z]* [a-z]* unavailable\" /tmp/said | sort -u",
        ],
    )
    .needs(&["cgroup-pids"]),
    Session::new(
        "page06-refused",
        &["cargo run --bin chapter06 -- --memory 1m", "cargo run --bin chapter06 -- --cpus half", "echo $?"],
    ),
    Session::new(
        "page06-throttled",
        &["cargo run --bin chapter06 -- --cpus 0.1 -- \\\n    sh -c 'yes > /dev/null & sleep 1; grep -E \"periods|throttled\" /sys/fs/cgroup/cpu.stat'"],
    )
    .needs(V2)
    .filters(&[("(nr_periods|nr_throttled|throttled_usec) [0-9]+", "$1 N")]),
    Session::new(
        "page06-inside",
        &[
            "cargo run --bin chapter06 -- --memory 64m --cpus 0.5 --pids-limit 100",
            "> cat /proc/self/cgroup",
            "> cd /sys/fs/cgroup",
            "> cat memory.max cpu.max pids.max",
            "> echo max > memory.max",
        ],
    )
    .needs(V2)
    .filters(&[("eval: line [0-9]+: ", "")]),
    Session::new(
        "page06-outside",
        &[
            "cargo run --bin chapter06 -- --memory 64m --cpus 0.5 --pids-limit 100 -- sleep 1000 &",
            "~ wait_for pgrep -x sleep",
            "cat /proc/$(pgrep -P $!)/cgroup",
            "cd /sys/fs/cgroup/cooperage-$!",
            "cat cgroup.procs memory.max cpu.max pids.max",
            "kill $!; wait",
            "cat memory.max",
        ],
    )
    .needs(V2),
    Session::new(
        "page06-explain",
        &["cargo run --bin chapter06 -- --explain --memory 64m --cpus 0.5 --pids-limit 100 -- true 2>&1 |\n    grep -E 'cooperage-[0-9]|CGROUP|cgroup2'"],
    )
    .needs(V2)
    .filters(&[("/proc/self/fd/[0-9]+", "/proc/self/fd/9"), ("cgroup=[0-9]+", "cgroup=5")]),
    Session::new("page06-denied", &["cargo run --bin chapter06 -- --memory 64m -- true", "echo $?"])
        .user()
        .needs(V2),
    Session::new(
        "page06-not-entered",
        &["cargo run --bin chapter06 -- --memory 32m -- dd if=/dev/zero of=/dev/null bs=200M count=1"],
    )
    .needs(&["cgroup-memory"])
    .broken(
        6,
        "process::spawn_into(cgroup.open()?, namespaces, |parent| {\n        cgroup.enter(parent)?;\n",
        "process::spawn(namespaces, |parent| {\n",
    ),
    Session::new(
        "page06-no-namespace",
        &[
            "strace -f -o /dev/null -e inject=unshare:retval=0 target/debug/chapter06 --memory 64m",
            "> cat /proc/self/cgroup",
            "> ls -d /sys/fs/cgroup/cooperage-*",
        ],
    )
    .needs(&["cgroup-v2", "cgroup-memory", "strace"]),
];

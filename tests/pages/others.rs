//! What the pages that are no chapter's show.

use cooperage::workshop::lab::Layout;

use crate::support::session::Session;

const V1: &[&str] = &["cgroup-v1", "cgroup-memory", "cgroup-cpu", "cgroup-pids"];

pub const SESSIONS: &[Session] = &[
    // What a container is.
    Session::new(
        "page00-process",
        &[
            "cargo run --bin chapter05 -- sleep 1000 &",
            "~ wait_for pgrep -P $! sleep",
            "ps -o pid,ppid,args -C chapter05,sleep",
            "pkill -KILL sleep; wait $!; echo $?",
        ],
    ),
    Session::new(
        "page00-uts",
        &["~ hostname desk", "hostname", "unshare --uts sh -c 'hostname web; hostname'", "hostname"],
    ),
    Session::new(
        "page00-overlay",
        &[
            "cd /tmp && mkdir lower upper work merged",
            "echo one > lower/changed; echo two > lower/deleted; echo three > lower/untouched",
            "mount -t overlay demo -o lowerdir=lower,upperdir=upper,workdir=work merged",
            "ls merged",
            "# the container at work",
            "echo ONE > merged/changed; rm merged/deleted; echo four > merged/new",
            "ls merged",
            "ls lower; cat lower/changed",
            "ls -l upper",
        ],
    )
    .filters(&[(r"[A-Z][a-z]{2} +\d+ \d\d:\d\d", "Nov 23 18:30")]),
    // Setting up.
    Session::new(
        "page00-lab",
        &[
            "~ hostname desk",
            "hostname",
            "cargo run --bin lab -- sh -c 'hostname oops; mount -t tmpfs none /home; ps; touch /etc/passwd'",
            "hostname; ls -d /home",
        ],
    ),
    // Troubleshooting.
    Session::new("page00-trouble-bridge", &["ip link add cooperage0 type bridge", "cargo run --bin chapter05 -- true"])
        .needs(&["bridge"]),
    Session::new(
        "page00-trouble-subnets",
        &[
            "ip link add wan0 type veth peer name world; ip link set wan0 up",
            "for net in 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 198.18.0.0/15; do ip route add $net dev wan0; done",
            "cargo run --bin chapter05 -- true",
        ],
    )
    .needs(&["veth"]),
    Session::new("page00-trouble-volume", &["cargo run --bin chapter03 -- --volume /no/such:/data true"]),
    Session::new(
        "page00-trouble-upper",
        &[
            "mkdir /tmp/layer",
            "cargo run --bin chapter03 -- --upper /tmp/layer sleep 1000 &",
            "~ wait_for pgrep -P $! sleep",
            "cargo run --bin chapter03 -- --upper /tmp/layer true",
        ],
    ),
    Session::new(
        "page00-trouble-script",
        &[
            "echo 'echo hello' > /tmp/script; chmod +x /tmp/script",
            "cargo run --bin chapter03 -- --volume /tmp/script:/bin/script script",
            "echo $?",
        ],
    ),
    Session::new(
        "page00-trouble-loader",
        &[
            "printf '#!/bin/no-such-shell\\necho hello\\n' > /tmp/script; chmod +x /tmp/script",
            "cargo run --bin chapter03 -- --volume /tmp/script:/bin/script script",
        ],
    ),
    Session::new(
        "page00-trouble-masked",
        &[
            "# a part of /proc is hidden, as a container engine does it",
            "mount --bind /dev/null /proc/cpuinfo",
            "unshare --user --map-root-user cargo run --bin chapter03 -- true",
        ],
    ),
    Session::new(
        "page00-trouble-idmap",
        &["cargo run --bin chapter08 -- --volume /proc/sys:/mnt:ro,idmap true"],
    )
    // Who has how many files open differs with the version of cgroups.
    .filters(&[(r"mount_setattr\(\d+, (.*)userns_fd=\d+", "mount_setattr(8, ${1}userns_fd=13")]),
    Session::new("page00-trouble-one-user", &["cargo run --bin chapter08 -- --user 33 id"]).user(),
    Session::new(
        "page00-trouble-range",
        &[
            "~ echo root:100000:1000 > /tmp/subid; mount --bind /tmp/subid /etc/subuid",
            "cat /etc/subuid",
            "cargo run --bin chapter08 -- id",
        ],
    ),
    Session::new("page00-trouble-name", &["cargo run --bin chapter08 -- --user alice id"]),
    Session::new(
        "page00-trouble-names",
        &["cargo run --bin chapter05 -- --network none wget -q -O - http://example.org/"],
    ),
    // Cgroups, version 1.
    Session::new(
        "page00-v1-files",
        &[
            "cargo run --bin chapter06 -- --memory 64m --cpus 0.5 --pids-limit 100",
            "> cd /sys/fs/cgroup; ls",
            "> cat memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes pids/pids.max",
            "> cat cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us",
            "> grep -E 'freezer|memory|pids' /proc/self/cgroup | sort -t: -k 2",
        ],
    )
    .needs(V1)
    .lab(Layout::V1)
    .filters(&[(r"(?m)^\d+:(freezer|memory|pids):", "N:$1:")]),
    Session::new(
        "page00-v1-explain",
        &["cargo run --bin chapter06 -- --explain --memory 64m --network none -- true 2>&1 |\n    grep -E 'cooperage-[0-9]|CGROUP|clone'"],
    )
    .needs(V1)
    .lab(Layout::V1),
    Session::new(
        "page00-v1-out-of-memory",
        &["cargo run --bin chapter06 -- --memory 32m -- dd if=/dev/zero of=/dev/null bs=200M count=1", "echo $?"],
    )
    .needs(V1)
    .lab(Layout::V1),
];

//! What the page of chapter 9 shows.

use crate::support::session::Session;

const PROFILE: &str = r#"echo '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
      {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 30},
      {"names": ["ioctl"], "action": "SCMP_ACT_ERRNO", "args": [
         {"index": 1, "value": 4294967295, "valueTwo": 21522, "op": "SCMP_CMP_MASKED_EQ"}]}]}' > /tmp/profile.json"#;

pub const SESSIONS: &[Session] = &[
    Session::new(
        "page09-first",
        &[
            "cargo run --bin chapter09",
            "> grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status",
            "> unshare --user id",
            "> wc -c < /proc/interrupts",
            "> mount -t tmpfs none /mnt",
            "> echo 1 > /proc/sys/net/ipv4/ip_forward",
        ],
    ),
    // The five sets, for three kinds of users.
    Session::new(
        "page09-sets",
        &[
            "cargo run --bin chapter09 -- grep ^Cap /proc/self/status",
            "cargo run --bin chapter09 -- --user 33 grep ^Cap /proc/self/status",
            "cargo run --bin chapter09 -- --user 33 --cap-add NET_BIND_SERVICE grep ^Cap /proc/self/status",
        ],
    )
    .needs(&["many-users"]),
    Session::new(
        "page09-predict",
        &[
            "cargo run --bin chapter09 -- --cap-drop ALL",
            "> id -u; touch /etc/mine && echo made",
            "> chown 33 /etc/mine",
            "> exit",
        ],
    )
    .needs(&["many-users"]),
    // A program of the kernel's, written out.
    Session::new(
        "page09-filter",
        &[
            PROFILE,
            "cargo run --bin chapter09 -- --explain --security-opt seccomp=/tmp/profile.json mkdir /tmp/x 2>&1 |\n    \
             sed -n -E '/the filter, as/,/unshare/s/.*\\]  *([0-9t].*)/\\1/p' | grep -v unshare",
        ],
    ),
    Session::new(
        "page09-masked",
        &[
            "cargo run --bin chapter09 -- sh -c 'wc -c < /proc/keys; ls -ln /proc/interrupts; ls /sys/firmware'",
            "cargo run --bin chapter09 -- --security-opt systempaths=unconfined head -c 15 /proc/interrupts",
        ],
    )
    .filters(&[(r"[A-Z][a-z]{2} +\d+ \d\d:\d\d", "Nov 20 21:44")]),
    Session::new(
        "page09-own-program",
        &[
            "cargo run --bin chapter09 -- --userns host --cap-add SYS_PTRACE sh -c 'readlink /proc/1/exe; chmod u+s /proc/1/exe'",
            "cargo run --bin chapter09 -- --cap-add SYS_PTRACE readlink /proc/1/exe || echo no",
        ],
    ),
    // script(1) gives what it runs a terminal, as the one that you sit at. At the end of its own input it would type a
    // character, so it has one without an end.
    Session::new(
        "page09-terminal",
        &[
            "~ mkfifo /tmp/keyboard",
            "script -q -c 'target/debug/chapter09 -it sh -c \"tty; stat -c %n,%t:%T /dev/pts/0 /dev/console\"' /dev/null <>/tmp/keyboard",
        ],
    )
    .filters(&[(" <>/tmp/keyboard", "")]),
    Session::new(
        "page09-read-only",
        &[
            "cargo run --bin chapter09 -- --read-only --tmpfs /run:size=1m",
            "> touch /etc/mine",
            "> touch /run/mine && df -h /run | tail -1",
        ],
    ),
    Session::new(
        "page09-device",
        &[
            "cargo run --bin chapter09 -- --device /dev/zero:/dev/nothing ls -l /dev/nothing /dev/zero",
            "cargo run --bin chapter09 -- --device /etc/passwd true",
        ],
    )
    .filters(&[(r"[A-Z][a-z]{2} +\d+ \d\d:\d\d", "Nov 25 10:30")])
    .needs(&["many-users"]),
    Session::new(
        "page09-sysctl",
        &[
            "cargo run --bin chapter09 -- --sysctl net.ipv4.ip_forward=1 cat /proc/sys/net/ipv4/ip_forward",
            "cargo run --bin chapter09 -- --sysctl kernel.core_pattern=/tmp/x true",
        ],
    ),
    Session::new(
        "page09-explain",
        &["cargo run --bin chapter09 -- --explain --network none -- true 2>&1 |\n    \
           grep -E 'prctl|capset|seccomp|prlimit|landlock|interrupts|execve|CLONE_VM'"],
    )
    .filters(&[
        (r"(open_tree|openat2|move_mount)\(\d+", "$1(12"),
        (r#", "", \d+, """#, r#", "", 17, """#),
        (r"rlim_max=\d+\}, NULL\) = 0 +limit nofile", "rlim_max=524288}, NULL) = 0  limit nofile"),
        (r"handled_access_fs=0x[0-9a-f]+", "handled_access_fs=0xffff"),
        (r"= \d+ +(find|have)", "= 17  $1"),
    ]),
    Session::new(
        "page09-privileged",
        &[
            "cargo run --bin chapter09 -- --privileged",
            "> grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status",
            "> unshare --user true && mount -t tmpfs none /mnt && echo both",
            "> mknod /tmp/disk b 8 0",
        ],
    )
    .filters(&[(r"CapEff:\s+[0-9a-f]+", "CapEff:\t000001ffffffffff")])
    .needs(&["many-users"]),
    Session::new(
        "page09-outside",
        &[
            "cargo run --bin chapter09 -- sleep 1000 &",
            "~ wait_for pgrep -x sleep",
            "~ wait_for grep -q 'NoNewPrivs:.1' /proc/$(pgrep -x chapter09 | tail -1)/status",
            "for pid in $(pgrep -x chapter09 | tail -1) $(pgrep -x sleep); do\n    \
             grep -E '^(Name|CapPrm|NoNewPrivs|Seccomp):' /proc/$pid/status; done",
            "kill $!; wait",
        ],
    )
    .needs(&["many-users"]),
    Session::new("page09-uncovered", &["cargo run --bin chapter09 -- head -c 15 /proc/interrupts"]).broken(
        9,
        "        args.restrictions.cover(&root)?;\n",
        "",
    ),
    Session::new(
        "page09-all-power",
        &["cargo run --bin chapter09 -- sh -c 'unshare --user true && echo made; grep Seccomp: /proc/self/status'"],
    )
    .broken(9, ".with_power(kept.clone());", ";")
];

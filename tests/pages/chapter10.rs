//! What the page of chapter 10 shows.

use crate::support::session::Session;

/// A bundle with this command, made as a reader makes one.
const BUNDLE: &str = "~ mkdir -p /tmp/web/rootfs && cp -a target/cooperage/rootfs-*/. /tmp/web/rootfs && target/debug/chapter10 spec --bundle /tmp/web && sed -i 's/\"terminal\": true/\"terminal\": false/; s/\"sh\"/\"sleep\", \"1000\"/' /tmp/web/config.json";

/// Times, which are never the same.
const TIMES: (&str, &str) = (r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", "2026-11-25T22:12:28.477179788Z");

pub const SESSIONS: &[Session] = &[
    Session::new(
        "page10-first",
        &[
            "# a bundle: a directory with a root filesystem and a config.json",
            "mkdir -p /tmp/web/rootfs && cp -a target/cooperage/rootfs-*/. /tmp/web/rootfs",
            "cargo run --bin chapter10 -- spec --bundle /tmp/web",
            "sed -i 's/\"terminal\": true/\"terminal\": false/; s/\"sh\"/\"sleep\", \"1000\"/' /tmp/web/config.json",
            "cargo run --bin chapter10 -- create --bundle /tmp/web web",
            "cargo run --bin chapter10 -- list",
            "cargo run --bin chapter10 -- start web",
            "cargo run --bin chapter10 -- exec web ps",
            "cargo run --bin chapter10 -- kill web KILL",
            "~ wait_for sh -c 'target/debug/chapter10 state web | grep -q stopped'",
            "cargo run --bin chapter10 -- state web",
            "cargo run --bin chapter10 -- delete web",
        ],
    )
    .filters(&[TIMES]),
    // What waits.
    Session::new(
        "page10-outside",
        &[
            BUNDLE,
            "cargo run --bin chapter10 -- create --bundle /tmp/web web",
            "cargo run --bin chapter10 -- ps web -o pid,ppid,args",
            "ls /run/cooperage/oci/web",
            "cargo run --bin chapter10 -- start web",
            "ls /run/cooperage/oci/web",
            "cargo run --bin chapter10 -- ps web -o pid,ppid,args",
            "~ target/debug/chapter10 delete --force web",
        ],
    ),
    // A number that has been given to somebody else.
    Session::new(
        "page10-number",
        &[
            BUNDLE,
            "cargo run --bin chapter10 -- create --bundle /tmp/web web",
            "kill -KILL $(cargo run --bin chapter10 -- list -f json | sed -E 's/.*\"pid\":([0-9]+).*/\\1/')",
            "~ wait_for sh -c 'target/debug/chapter10 state web | grep -q stopped'",
            "cargo run --bin chapter10 -- start web",
            "cargo run --bin chapter10 -- list",
            "cargo run --bin chapter10 -- delete web",
        ],
    )
    .filters(&[TIMES]),
    // Programs of others.
    Session::new(
        "page10-hooks",
        &[
            BUNDLE,
            "~ printf '#!/bin/sh\\n{ echo \"$0 in the network $(readlink /proc/self/ns/net), and reads:\"; cat; echo; } >> /tmp/told\\n' > /tmp/hook && chmod +x /tmp/hook && cp /tmp/hook /tmp/web/rootfs/bin/hook",
            "readlink /proc/self/ns/net",
            "sed -i 's|^  \"linux\"|  \"hooks\": {\"createRuntime\": [{\"path\": \"/tmp/hook\"}], \"poststop\": [{\"path\": \"/tmp/hook\"}]},\\n  \"linux\"|' /tmp/web/config.json",
            "cargo run --bin chapter10 -- create --bundle /tmp/web web",
            "cargo run --bin chapter10 -- delete web",
            "cat /tmp/told",
        ],
    ),
    // What is wrong is said before anything is made.
    Session::new(
        "page10-wrong",
        &[
            BUNDLE,
            "~ cp /tmp/web/config.json /tmp/config.json",
            "sed -i 's/\"type\": \"mount\"/\"type\": \"ipc\"/' /tmp/web/config.json",
            "cargo run --bin chapter10 -- create --bundle /tmp/web web",
            "~ cp /tmp/config.json /tmp/web/config.json",
            "sed -i 's/\"sleep\"/\"slep\"/' /tmp/web/config.json",
            "cargo run --bin chapter10 -- create --bundle /tmp/web web",
            "cargo run --bin chapter10 -- list",
        ],
    ),
];

//! What the page of chapter 4 shows.

use crate::support::session::Session;

/// ipcmk(1) chooses a random key.
const KEY: (&str, &str) = (r"0x[0-9a-f]{8}", "0x5ca1ab1e");

pub const SESSIONS: &[Session] = &[
    Session::new(
        "page04-run",
        &[
            "hostname",
            "cargo run --bin chapter04 -- --hostname web",
            "> hostname",
            "> cat /etc/hostname",
            "> cat /etc/hosts",
            "> exit",
            "hostname",
        ],
    ),
    Session::new("page04-renames", &["hostname", "cargo run --bin chapter03 -- hostname gone", "hostname"]),
    Session::new("page04-shared", &["ipcmk -M 4096 -Q", "cargo run --bin chapter03 -- witness ipc"]),
    Session::new(
        "page04-outlives",
        &[
            "unshare --fork --pid --mount-proc ipcmk -M 4096",
            "ipcs -m",
            "unshare --fork --pid --mount-proc --ipc ipcmk -M 4096",
            "ipcs -m",
        ],
    )
    .filters(&[KEY]),
    Session::new(
        "page04-bad-name",
        &["cargo run --bin chapter04 -- --hostname 'web server' hostname", "echo $?"],
    ),
    Session::new(
        "page04-disagree",
        &[
            "cargo run --bin chapter04 -- --hostname web",
            "> hostname db",
            "> hostname",
            "> cat /etc/hostname",
            "> cat /proc/sys/kernel/hostname",
        ],
    ),
    Session::new(
        "page04-explain",
        &[
            "cargo run --bin chapter04 -- --explain --hostname web true 2>&1 | grep -e clone -e '[st]hostname' -e '\"mqueue' -e etc-",
        ],
    ),
    Session::new(
        "page04-apart",
        &[
            "ipcmk -M 4096 -Q",
            "cargo run --bin chapter04",
            "> witness ipc",
            "> touch /dev/mqueue/orders",
            "> ls /dev/mqueue",
            "@ mkdir /tmp/queues && mount -t mqueue none /tmp/queues",
            "@ ls /tmp/queues | wc -l",
        ],
    ),
    Session::new(
        "page04-outside",
        &[
            "cargo run --bin chapter04 -- --hostname web sleep 1000 &",
            "~ wait_for pgrep -P $! sleep",
            "pid=$(pgrep -P $!)",
            "lsns -p $pid -o TYPE,NS,NPROCS >/tmp/ns; sort /tmp/ns",
            "readlink /proc/self/ns/uts /proc/$pid/ns/uts",
        ],
    ),
    Session::new(
        "page04-nsenter",
        &[
            "cargo run --bin chapter04 -- --hostname web sleep 1000 &",
            "~ wait_for pgrep -P $! sleep",
            "pid=$(pgrep -P $!)",
            "nsenter --target $pid --uts sh -c 'hostname; pwd'",
            "nsenter --target $pid --mount --uts --ipc --pid ps",
        ],
    ),
    // Break it.
    Session::new(
        "page04-no-uts",
        &[
            "hostname",
            "cargo run --bin chapter04 -- --hostname web true",
            "hostname",
            "# as root of a user namespace, which is what an ordinary user can be",
            "unshare --user --map-root-user cargo run --bin chapter04 -- --hostname db true",
        ],
    )
    .broken(4, "        | CloneFlags::CLONE_NEWUTS\n", ""),
    Session::new(
        "page04-queues-first",
        &[
            "mkdir /tmp/queues && mount -t mqueue none /tmp/queues",
            "touch /tmp/queues/of-the-host",
            "cargo run --bin chapter04 -- ls /dev/mqueue",
        ],
    )
    .broken(
        4,
        "        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC;
    let child = process::spawn(namespaces, |_| {
        mount::make_private()?;
        let root = overlay.mount()?;
        mount::furnish(&root)?;
        ipc::mount_mqueue(&root)?;
",
        "        | CloneFlags::CLONE_NEWUTS;
    let child = process::spawn(namespaces, |_| {
        mount::make_private()?;
        let root = overlay.mount()?;
        mount::furnish(&root)?;
        ipc::mount_mqueue(&root)?;
        cooperage::container::sys::unshare(\"too late\", CloneFlags::CLONE_NEWIPC)?;
",
    ),
    Session::new(
        "page04-by-hand",
        &["ipcmk -Q", "unshare --uts --ipc sh -c 'hostname web; hostname; ipcs -q'", "hostname"],
    ),
];

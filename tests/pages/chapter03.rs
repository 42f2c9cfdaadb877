//! What the page of chapter 3 shows.

use crate::support::session::Session;

pub const SESSIONS: &[Session] = &[
    Session::new(
        "page03-finished",
        &[
            "cargo run --bin chapter03",
            "> rm -r /etc",
            "> echo mine > /note",
            "> ls -d /etc /note",
            "cargo run --bin chapter03 -- ls -d /etc /note",
        ],
    ),
    Session::new(
        "page03-explain",
        &[
            "cargo run --bin chapter03 -- --explain -- true 2>&1 | grep -vE 'openat2|mknod|open_tree|move_mount' | sed 's/.*  //'",
        ],
    ),
    Session::new(
        "page03-problem",
        &[
            "cargo run --bin chapter02 -- sh -c 'echo 6.6.6.6 bank >> /etc/hosts'",
            "cargo run --bin chapter02 -- tail -1 /etc/hosts",
        ],
    ),
    Session::new(
        "page03-predict",
        &[
            "cargo run --bin chapter03 -- --upper /tmp/layer -- rm /etc/profile",
            "find /tmp/layer -printf '%M %P\\n'",
            "stat -c '%F, device %t,%T' /tmp/layer/etc/profile",
        ],
    ),
    Session::new(
        "page03-layer",
        &[
            "cargo run --bin chapter03 -- --upper /tmp/layer -- sh -c 'echo x > /etc/new; chmod 600 /etc/hosts; rm -r /home; mkdir /home'",
            "find /tmp/layer -printf '%M %P\\n' | sort -k 2",
            "ls -d target/cooperage/rootfs-*/etc/new",
            "cargo run --bin chapter03 -- --upper /tmp/layer -- cat /etc/new",
        ],
    ),
    Session::new(
        "page03-volume",
        &[
            "mkdir -p /tmp/data/deep; mount -t tmpfs tmpfs /tmp/data/deep",
            "cargo run --bin chapter03 -- -v /tmp/data:/data -- sh -c 'echo from inside > /data/deep/note'",
            "cat /tmp/data/deep/note",
            "cargo run --bin chapter03 -- -v /tmp/data:/data:ro -- touch /data/x /data/deep/x",
        ],
    ),
    Session::new(
        "page03-ro-above",
        &[
            "mkdir -p /tmp/data/deep /tmp/copy; mount -t tmpfs tmpfs /tmp/data/deep",
            "mount --rbind /tmp/data /tmp/copy",
            "mount -o remount,bind,ro /tmp/copy",
            "touch /tmp/copy/x",
            "touch /tmp/copy/deep/x && echo written",
        ],
    ),
    Session::new(
        "page03-run",
        &[
            "cargo run --bin chapter03",
            "> mount | grep -v /dev/ | cut -d ' ' -f 1-5",
            "> mount -t tmpfs mine /mnt && echo mounted",
            "@ grep -c mine /proc/self/mountinfo",
            "> ls -C /dev",
        ],
    ),
    Session::new(
        "page03-outside",
        &[
            "cargo run --bin chapter03 -- sleep 1000 &",
            "~ wait_for pgrep -x sleep",
            "cd /proc/$(pgrep -x sleep)",
            "readlink ns/mnt /proc/self/ns/mnt",
            "findmnt -r -N $(pgrep -x sleep) -o TARGET,FSTYPE,PROPAGATION | grep -v /dev/",
            "readlink root",
            "ls root/etc/profile",
            "grep -c overlay /proc/self/mountinfo",
        ],
    ),
    Session::new(
        "page03-killed",
        &[
            "cargo run --bin chapter03 -- sleep 1000 &",
            "~ wait_for pgrep -x sleep",
            "kill -9 $!",
            "~ wait $!; wait_for sh -c '! pgrep -x sleep'",
            "grep -e overlay -e rootfs /proc/self/mountinfo || echo nothing is left",
        ],
    ),
    // One call removed: what is mounted inside is mounted outside as well.
    Session::new(
        "page03-no-private",
        &[
            "mount --make-rshared /",
            "cargo run --bin chapter03 -- true",
            "findmnt -o TARGET,FSTYPE /run/cooperage; findmnt -o TARGET,FSTYPE /run/cooperage/root",
        ],
    )
    .broken(3, "        mount::make_private()?;\n", ""),
    // One call not made: the old root stays, on top of the new one.
    Session::new(
        "page03-no-detach",
        &[
            "alias without=\"strace -f -o /dev/null -e inject=umount2:retval=0\"",
            "without target/debug/chapter03 ls -d /Cargo.toml",
            "without target/debug/chapter03 ls -d /..$PWD/Cargo.toml",
            "target/debug/chapter03 ls -d /..$PWD/Cargo.toml",
        ],
    )
    .needs(&["strace"]),
    Session::new(
        "page03-no-mount-point",
        &["cd target/cooperage/rootfs-*", "unshare --mount pivot_root . ."],
    ),
    Session::new(
        "page03-by-hand",
        &[
            "mkdir /tmp/demo; cd /tmp/demo; mkdir lower upper work merged; echo below > lower/file",
            "unshare --mount sh",
            "> mount -t overlay demo -o lowerdir=lower,upperdir=upper,workdir=work merged",
            "> echo above > merged/file",
            "> cat lower/file upper/file merged/file",
            "> exit",
            "ls merged",
        ],
    ),
];

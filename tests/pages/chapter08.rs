//! What the page of chapter 8 shows.

use crate::support::session::Session;

/// Root's ranges begin where they do on a machine that has given root none.
const NOTHING_GIVEN: &str =
    "~ for file in /etc/subuid /etc/subgid; do [ ! -e $file ] || mount --bind /dev/null $file; done";

/// What the ordinary user number 1000 may hand out.
const GIVEN: &str = "~ echo 1000:100000:65536 > /tmp/subid; for kind in uid gid; do mount --bind /tmp/subid /etc/sub$kind; done";

/// The ordinary user.
const ALICE: &str = "alice='setpriv --reuid 1000 --regid 1000 --clear-groups'";

const DATE: (&str, &str) = (r"[A-Z][a-z]{2} +\d+ \d\d:\d\d", "Nov 23 18:30");
const DATES: &[(&str, &str)] = &[DATE];

pub const SESSIONS: &[Session] = &[
    Session::new(
        "page08-first",
        &[
            NOTHING_GIVEN,
            "cargo run --bin chapter08",
            "> id",
            "> echo mine > /root/file; ls -ln /root",
            "> hostname web; hostname",
            "> mknod /tmp/disk b 8 0",
            "> cat /proc/self/uid_map",
        ],
    )
    .filters(DATES),
    // The same number, the same user.
    Session::new(
        "page08-same",
        &[
            "mkdir -m 700 /tmp/safe; echo 'open sesame' > /tmp/safe/key",
            "cargo run --bin chapter07 -- --volume /tmp/safe:/mnt cat /mnt/key",
        ],
    ),
    Session::new(
        "page08-nobody",
        &[
            "id -u",
            "unshare --user sh -c 'id -u; cat /proc/self/uid_map'",
            "unshare --user --map-root-user sh -c 'id -u; cat /proc/self/uid_map'",
        ],
    ),
    // Which capabilities hold for what.
    Session::new(
        "page08-capabilities",
        &[
            "cargo run --bin chapter08",
            "> grep CapEff /proc/self/status",
            "> mount -t tmpfs none /mnt && echo mounted",
            "> ip link set lo down && echo switched off",
            "> chown 33 /root && echo given away",
            "> echo '|/tmp/mine' > /proc/sys/kernel/core_pattern",
            "> hostname web && echo renamed",
            "> date -s 2001-01-01 > /dev/null",
        ],
    ),
    // A volume that everybody may write to: who is who in it?
    Session::new(
        "page08-predict",
        &[
            NOTHING_GIVEN,
            "mkdir -m 777 /tmp/shared; echo host > /tmp/shared/theirs",
            "cargo run --bin chapter08 -- --volume /tmp/shared:/mnt",
            "> echo container > /mnt/ours; ls -ln /mnt",
            "> cat /mnt/theirs; chown 0 /mnt/theirs",
            "> exit",
            "ls -ln /tmp/shared",
        ],
    )
    .filters(DATES),
    // The rules of uid_map. tee(1) says the errno, which a shell's echo does not.
    Session::new(
        "page08-maps",
        &[
            "# root, for a namespace in which somebody waits",
            "unshare --user sleep 1000 &",
            "~ wait_for pgrep -x sleep",
            "echo 0 100000 65536 | tee /proc/$!/uid_map",
            "echo 0 100000 65536 | tee /proc/$!/uid_map",
            "# an ordinary user, and a namespace of his own",
            ALICE,
            "$alice unshare --user sleep 1001 &",
            "~ wait_for pgrep -fx 'sleep 1001'",
            "echo 0 100000 65536 | $alice tee /proc/$!/uid_map",
            "echo 0 0 1 | $alice tee /proc/$!/uid_map",
            "echo 0 1000 1 | $alice tee /proc/$!/uid_map",
            "echo 0 1000 1 | $alice tee /proc/$!/gid_map",
            "echo deny | $alice tee /proc/$!/setgroups; echo 0 1000 1 | $alice tee /proc/$!/gid_map",
        ],
    )
    .needs(&["program-setpriv"]),
    // From inside nobody may name others.
    Session::new(
        "page08-inside",
        &[
            "unshare --user --keep-caps sh -c 'echo 0 100000 65536 | tee /proc/self/uid_map'",
            "unshare --user --keep-caps sh -c 'id -u; echo 0 0 1 | tee /proc/self/uid_map; id -u'",
        ],
    ),
    Session::new(
        "page08-two",
        &[
            NOTHING_GIVEN,
            "cargo run --bin chapter08 -- sleep 1000 &",
            "~ wait_for pgrep -x sleep",
            "cargo run --bin chapter08 -- cat /proc/self/uid_map",
            "ls /run/cooperage/uids",
            "kill $!; wait; ls /run/cooperage/uids",
        ],
    ),
    // A mount that covers something, and one that is read-only.
    Session::new(
        "page08-locked",
        &[
            "mkdir -p /tmp/site/keys; echo secret > /tmp/site/keys/key",
            "# covered, so that no container sees it",
            "mount -t tmpfs none /tmp/site/keys",
            "cargo run --bin chapter07 -- --volume /tmp/site:/mnt:ro",
            "> umount /mnt/keys; cat /mnt/keys/key",
            "> mount -o remount,rw,bind /mnt; echo mine > /mnt/file && echo written",
            "> exit",
            "cargo run --bin chapter08 -- --volume /tmp/site:/mnt:ro",
            "> umount /mnt/keys; cat /mnt/keys/key",
            "> mount -o remount,rw,bind /mnt; echo mine > /mnt/file && echo written",
        ],
    ),
    Session::new(
        "page08-plant",
        &[
            "mkdir /tmp/plain; cargo run --bin chapter08 -- --volume /tmp/plain:/mnt:idmap true",
            "mkdir -m 700 /tmp/safe; mkdir /tmp/safe/data; echo host > /tmp/safe/data/theirs",
            "cargo run --bin chapter08 -- --volume /tmp/safe/data:/mnt:idmap",
            "> ls -ln /mnt; cp /bin/true /mnt/planted; chmod u+s /mnt/planted",
            "> exit",
            "ls -ln /tmp/safe/data",
        ],
    )
    .needs(&["idmap"])
    .filters(&[DATE, (r"(\d 0 +0) +\d{4,} ", "$1  1982256 "), (r"total \d{4,}", "total 1940")]),
    Session::new(
        "page08-names",
        &[
            "echo 'web:x:33:33::/srv/web:/bin/sh' > /tmp/passwd; echo 'log:x:4:web' > /tmp/group",
            "files='--volume /tmp/passwd:/etc/passwd --volume /tmp/group:/etc/group'",
            "cargo run --bin chapter08 -- $files --user web sh -c 'id; echo $HOME'",
            "cargo run --bin chapter08 -- $files --user 1234:log --group-add 5 sh -c 'id; echo $HOME'",
            "cargo run --bin chapter08 -- --user 70000 id",
            "echo 'evil:x:0x0:0::/:/bin/sh' >> /tmp/passwd",
            "cargo run --bin chapter08 -- $files --user evil id; echo $?",
        ],
    ),
    // An ordinary user to whom root has given a range.
    Session::new(
        "page08-subordinate",
        &[
            GIVEN,
            ALICE,
            "cat /etc/subuid",
            "$alice cargo run --bin chapter08 -- --user 33 sleep 1000 &",
            "~ wait_for pgrep -x sleep",
            "ps -o uid:6,args -C chapter08,sleep",
            "cat /proc/$(pgrep -x sleep)/uid_map",
            "$alice cargo run --bin chapter08 -- cat /proc/self/uid_map",
            "kill $!; wait",
        ],
    )
    .needs(&["program-setpriv", "program-newuidmap", "program-newgidmap"]),
    Session::new(
        "page08-scribes",
        &[
            GIVEN,
            ALICE,
            "$alice cargo run --bin chapter08 -- --explain true 2>&1 |\n    grep -E 'somebody|NEWUSER|idmap|_map'",
        ],
    )
    .needs(&["program-setpriv", "program-newuidmap", "program-newgidmap"]),
    Session::new(
        "page08-kept",
        &[
            NOTHING_GIVEN,
            "cargo run --bin chapter08 -- sleep 1000 &",
            "~ wait_for pgrep -x sleep",
            "cargo run --bin chapter08 -- --upper /tmp/layer -- \\\n    sh -c 'echo mine > /root/file; chown 33 /root/file; cat /proc/self/uid_map'",
            "ls -ln /tmp/layer/root",
            "kill $!; wait",
            "cargo run --bin chapter08 -- --upper /tmp/layer -- sh -c 'ls -ln /root; cat /proc/self/uid_map'",
        ],
    )
    .needs(&["idmap"])
    .filters(DATES),
    Session::new(
        "page08-outside",
        &[
            NOTHING_GIVEN,
            "cargo run --bin chapter08 -- --user 33 sleep 1000 &",
            "~ wait_for pgrep -x sleep",
            "ps -o uid:10,pid,args -C chapter08,sleep",
            "command=$(pgrep -x sleep)",
            "cat /proc/$command/uid_map",
            "grep -E '^(Uid|CapEff|CapBnd):' /proc/$command/status",
            "readlink /proc/$$/ns/user /proc/$command/ns/user",
            "# as root of the container sees it",
            "nsenter --target $command --user --pid --mount ps -o user,pid,args",
            "kill $!; wait",
        ],
    ),
    Session::new(
        "page08-explain",
        &[
            NOTHING_GIVEN,
            "cargo run --bin chapter08 -- --explain --network none -- true 2>&1 |\n    grep -E '_map|IDMAP|open_tree.*rootfs|empty stage|on the stage|NEWUSER|NEWNS|setres|setgroups|keyctl|overlay'",
        ],
    )
    .needs(&["idmap"])
    .filters(&[
        (r#"[^"=, ]*/rootfs-\w+-[0-9a-f]+"#, "ROOTFS"),
        (r"keyctl\((.*)\) = \d+ +", "keyctl($1) = 204512345         "),
        // Who has how many files open differs with the version of cgroups.
        (r"mount_setattr\(\d+, (.*)userns_fd=\d+", "mount_setattr(5, ${1}userns_fd=9"),
        (r"move_mount\(\d+, (.*), \d+, ", "move_mount(5, $1, 12, "),
    ]),
    // What the chapter before could read.
    Session::new(
        "page08-other",
        &[
            "mkdir -m 700 /tmp/safe; echo 'open sesame' > /tmp/safe/key",
            "cargo run --bin chapter08 -- --volume /tmp/safe:/mnt",
            "> ls -lnd /mnt; cat /mnt/key",
            "> exit",
            "cargo run --bin chapter08 -- --userns host --volume /tmp/safe:/mnt cat /mnt/key",
        ],
    )
    .filters(DATES),
    // Without an id-mapped mount, nothing in the root filesystem has an owner.
    Session::new(
        "page08-unmapped",
        &[
            "strace -f -o /dev/null -e inject=mount_setattr:retval=0 target/debug/chapter08",
            "> id -u; ls -lnd /root /tmp",
            "> touch /root/file",
        ],
    )
    .needs(&["strace"])
    .filters(DATES),
    // The same on a filesystem that has no such mounts.
    Session::new(
        "page08-copy",
        &[
            "strace -f -o /dev/null -e inject=mount_setattr:error=EINVAL \\\n    target/debug/chapter08 --explain --network none -- sh -c 'ls -lnd /root /tmp' 2>&1 | grep -E 'IDMAP|copying|^d'",
        ],
    )
    .needs(&["strace"])
    .filters(&[
        DATE,
        (r#"[^"=, ]*/rootfs-\w+-[0-9a-f]+"#, "ROOTFS"),
        (r"mount_setattr\(\d+, (.*)userns_fd=\d+", "mount_setattr(5, ${1}userns_fd=9"),
    ]),
    Session::new("page08-no-maps", &["cargo run --bin chapter08 -- id"]).broken(
        8,
        "stage.set(&users, users.write_maps(&mut child)?)?;",
        "stage.set(&users, None)?;",
    ),
    Session::new("page08-not-root", &["cargo run --bin chapter08 -- id"]).broken(
        8,
        "        users.become_root(parent)?;\n",
        "",
    ),
    Session::new("page08-too-early", &["cargo run --bin chapter08 -- id"]).broken(
        8,
        "        | users.namespace();",
        "        | users.namespace()\n        | CloneFlags::CLONE_NEWNS;",
    ),
];

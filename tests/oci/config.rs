//! The fields of config.json, each seen from inside, and where the host can see it, from outside.

use std::fs;
use std::io::{IoSliceMut, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::{Value, json};

use crate::kit::{Bundle, give, oci, pid, say};
use crate::support::run::namespaces;
use crate::support::{BOTH, Case, ROOT, USER, Who};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("a_root_that_is_read_only", BOTH, a_root_that_is_read_only),
        Case::new("options_of_mounts", BOTH, options_of_mounts),
        Case::new("mounts_below_mounts", BOTH, mounts_below_mounts),
        Case::new("how_mounts_spread", ROOT, how_mounts_spread),
        Case::new("tmpcopyup", BOTH, tmpcopyup),
        Case::new("cgroups_as_files", ROOT, cgroups_as_files),
        Case::new("a_process_as_it_is_described", BOTH, a_process_as_it_is_described),
        Case::new("another_user", ROOT, another_user),
        Case::new("five_sets", ROOT, five_sets),
        Case::new("how_it_is_scheduled", ROOT, how_it_is_scheduled),
        Case::new("names", BOTH, names),
        Case::new("namespaces_new_and_inherited", ROOT, namespaces_new_and_inherited),
        Case::new("namespaces_by_path", ROOT, namespaces_by_path),
        Case::new("users_of_its_own", ROOT, users_of_its_own),
        Case::new("clocks", USER, clocks),
        Case::new("devices", ROOT, devices),
        Case::new("default_devices", BOTH, default_devices),
        Case::new("where_its_cgroups_are", ROOT, where_its_cgroups_are).needs(&["cgroup-pids"]),
        Case::new("what_it_may_use", ROOT, what_it_may_use).needs(&[
            "cgroup-pids",
            "cgroup-memory",
            "cgroup-cpu",
        ]),
        Case::new("paths_hidden_and_read_only", BOTH, paths_hidden_and_read_only),
        Case::new("sysctls", BOTH, sysctls),
        Case::new("personality", BOTH, personality),
        Case::new("seccomp_actions", BOTH, seccomp_actions),
        Case::new("seccomp_asks", BOTH, seccomp_asks),
    ]
}

fn a_root_that_is_read_only(who: Who) {
    let script = "echo x > /file && echo WRITTEN; echo y > /dev/shm/file && cat /dev/shm/file";
    let bundle = Bundle::sh(who, "a", script);
    assert_eq!(bundle.says("one"), "WRITTEN\ny\n");
    let said = bundle.set("/root/readonly", json!(true)).run("one");
    assert_eq!((said.status, said.out.as_str()), (0, "y\n"));
    assert!(said.err.contains("Read-only file system"), "{}", said.err);
    fs::remove_file("/tmp/rootfs/file").expect("there");
}

/// The flags of the mount as the kernel lists them.
fn options_of_mounts(who: Who) {
    fs::create_dir_all("/tmp/source").expect("new");
    give(Path::new("/tmp/source"), who);
    for (options, with, without) in [
        (&["bind"][..], &["rw"][..], &["nosuid", "noexec"][..]),
        (&["bind", "ro"], &["ro"], &[]),
        (&["bind", "ro", "rw"], &["rw"], &[]),
        (&["bind", "nosuid", "nodev", "noexec"], &["nosuid", "nodev", "noexec"], &["ro"]),
        (&["bind", "noexec", "exec"], &[], &["noexec"]),
        (&["rbind", "rro"], &["ro"], &[]),
        (&["bind", "noatime"], &["noatime"], &[]),
        (&["bind", "nodiratime"], &["nodiratime"], &[]),
        (&["bind", "strictatime"], &[], &["noatime", "relatime"]),
        (&["bind", "nosymfollow"], &["nosymfollow"], &[]),
    ] {
        // Times of access are not an ordinary user's to change.
        if who == Who::User && options.iter().any(|option| option.contains("atime")) {
            continue;
        }
        // The lab's /tmp is nosuid and nodev, and what is locked stays so for an ordinary user.
        let bundle = Bundle::sh(who, "a", "grep ' /mnt ' /proc/self/mountinfo").mount(
            "/tmp/source",
            "/mnt",
            "none",
            options,
        );
        let said = bundle.says("one");
        let flags: Vec<&str> = said.split(' ').nth(5).expect("flags").split(',').collect();
        assert!(with.iter().all(|flag| flags.contains(flag)), "{options:?}: {said}");
        let lab = ["nosuid", "nodev"];
        assert!(
            without.iter().filter(|flag| !lab.contains(flag)).all(|flag| !flags.contains(flag)),
            "{options:?}: {said}"
        );
    }
    for (options, words) in [(&["size=1m", "mode=700"][..], "size=1024k,mode=700"), (&["ro"], "ro")] {
        let bundle = Bundle::sh(who, "a", "grep ' /mnt ' /proc/self/mountinfo")
            .mount("tmpfs", "/mnt", "tmpfs", options);
        let said = bundle.says("one");
        assert!(said.contains(words), "{said}");
    }
    // A file on a file, a source below the bundle, a place that was not there.
    let bundle =
        Bundle::sh(who, "a", "cat /mnt-new/deep/file; rm -r /mnt-new 2>/dev/null; true").own_rootfs();
    fs::write(bundle.directory.join("file"), "of the bundle\n").expect("written");
    let bundle = bundle.mount("file", "/mnt-new/deep/file", "none", &["bind", "ro"]);
    assert_eq!(bundle.says("one"), "of the bundle\n");
}

/// In the order of the list, one in another; bind takes one, rbind those below, and rro holds for all of them.
fn mounts_below_mounts(who: Who) {
    let bundle = |bind: &str, more: &[&str]| {
        Bundle::sh(who, "a", "cat /mnt/below/file 2>/dev/null; echo x > /mnt/below/new && echo WRITTEN; true")
            .mount("tmpfs", "/tmp", "tmpfs", &[])
            .mount("/tmp/outer", "/mnt", "none", &[&[bind][..], more].concat())
    };
    fs::create_dir_all("/tmp/outer/below").expect("new");
    give(Path::new("/tmp/outer"), who);
    give(Path::new("/tmp/outer/below"), who);
    let mount = |source: &str, target: &str| {
        nix::mount::mount(
            Some(source),
            target,
            Some("tmpfs"),
            nix::mount::MsFlags::empty(),
            Some("mode=777"),
        )
        .expect("root's");
    };
    mount("tmpfs", "/tmp/outer/below");
    fs::write("/tmp/outer/below/file", "below\n").expect("written");
    assert_eq!(bundle("rbind", &[]).run("one").out, "below\nWRITTEN\n");
    assert_eq!(bundle("rbind", &["ro"]).run("one").out, "below\nWRITTEN\n");
    assert_eq!(bundle("rbind", &["rro"]).run("one").out, "below\n");
    if who == Who::Root {
        // An ordinary user may not uncover what is below a mount.
        assert_eq!(bundle("bind", &[]).run("one").out, "WRITTEN\n");
    }
    let order = Bundle::sh(who, "b", "ls /mnt /mnt/b")
        .mount("tmpfs", "/mnt", "tmpfs", &[])
        .mount("tmpfs", "/mnt/b", "tmpfs", &[])
        .mount("/tmp/outer/below", "/mnt/b/c", "none", &["rbind"]);
    assert_eq!(order.says("one"), "/mnt:\nb\n\n/mnt/b:\nc\n");
    let hidden = Bundle::sh(who, "b", "ls /mnt").mount("tmpfs", "/mnt/b", "tmpfs", &[]).mount(
        "tmpfs",
        "/mnt",
        "tmpfs",
        &[],
    );
    assert_eq!(hidden.says("one"), "");
    nix::mount::umount("/tmp/outer/below").expect("there");
}

fn how_mounts_spread(who: Who) {
    fs::create_dir_all("/tmp/source").expect("new");
    for (name, words) in [
        ("private", ""),
        ("rprivate", ""),
        ("shared", "shared:"),
        ("rshared", "shared:"),
        ("unbindable", "unbindable"),
    ] {
        let bundle = Bundle::sh(who, "a", "grep ' /mnt ' /proc/self/mountinfo").mount(
            "/tmp/source",
            "/mnt",
            "none",
            &["bind", name],
        );
        let said = bundle.says("one");
        let fields: String = said.split(' ').skip(6).take_while(|word| *word != "-").collect();
        assert!(
            if words.is_empty() { !fields.contains("shared") } else { fields.contains(words) },
            "{name}: {said}"
        );
    }
    for (name, words) in
        [("private", None), ("shared", Some("shared:")), ("slave", None), ("unbindable", Some("unbindable"))]
    {
        let bundle = Bundle::sh(who, "a", "awk '$5 == \"/\"' /proc/self/mountinfo");
        let said = bundle.set("/linux/rootfsPropagation", json!(name)).says("one");
        if let Some(words) = words {
            assert!(said.contains(words), "{name}: {said}");
        }
    }
}

fn tmpcopyup(who: Who) {
    let script =
        "cat /etc/passwd | head -n1; stat -c %a /etc; echo x > /etc/new; ls -ld /etc/new > /dev/null";
    let bundle = Bundle::sh(who, "a", script).own_rootfs();
    let mode = fs::metadata(bundle.rootfs().join("etc")).expect("there");
    let mode = std::os::unix::fs::MetadataExt::mode(&mode) & 0o7777;
    let first = fs::read_to_string(bundle.rootfs().join("etc/passwd")).expect("there");
    let first = first.lines().next().unwrap_or_default().to_string();
    let bundle = bundle.mount("tmpfs", "/etc", "tmpfs", &["tmpcopyup"]);
    assert_eq!(bundle.says("one"), format!("{first}\n{mode:o}\n"));
    assert!(!bundle.rootfs().join("etc/new").exists(), "it is the image's own");
}

/// With a cgroup namespace, and without one: its own cgroup is what is there.
fn cgroups_as_files(who: Who) {
    let script = "cat /sys/fs/cgroup/pids/cgroup.procs /sys/fs/cgroup/cgroup.procs 2>/dev/null | head -n1; cat /proc/self/cgroup";
    let with = Bundle::sh(who, "a", script).says("one");
    assert!(with.starts_with("1\n"), "{with}");
    assert!(with.lines().skip(1).all(|line| line.ends_with(":/") || line.starts_with("0::")), "{with}");
    let without = Bundle::sh(who, "a", script).without_namespace("cgroup").says("one");
    assert!(without.starts_with("1\n") && without.contains("/one"), "{without}");
}

fn a_process_as_it_is_described(who: Who) {
    let script = "pwd; umask; tr '\\0' '\\n' < /proc/1/environ; echo \"$0 $1\"; ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj; \
                  grep NoNewPrivs /proc/self/status";
    let bundle = Bundle::new(who, "a", &["/bin/sh", "-c", script, "zero", "one two"])
        .own_rootfs()
        .set("/process/cwd", json!("/made/when/missing"))
        .set("/process/env", json!(["PATH=/bin", "A=b=c", "EMPTY="]))
        .set("/process/user/umask", json!(0o27))
        .set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 55, "hard": 66}]))
        .set("/process/oomScoreAdj", json!(777))
        .set("/process/noNewPrivileges", json!(false));
    let said = bundle.says("one");
    let expected = "/made/when/missing\n0027\nPATH=/bin\nA=b=c\nEMPTY=\nHOME=/root\nzero one two\n55\n66\n777\nNoNewPrivs:\t0\n";
    let home = said.lines().find(|line| line.starts_with("HOME=")).unwrap_or("HOME=").to_string();
    assert_eq!(said, expected.replace("HOME=/root", &home));
    assert!(Bundle::sh(who, "b", "grep NoNewPrivs /proc/self/status").says("one").contains('1'));
    // Relative to the working directory, and by PATH.
    let bundle = Bundle::new(who, "b", &["./busybox", "echo", "here"]).set("/process/cwd", json!("/usr/bin"));
    assert_eq!(bundle.says("one"), "here\n");
    assert_eq!(Bundle::new(who, "b", &["echo", "by PATH"]).says("one"), "by PATH\n");
    // What nobody has said is left as it is.
    let own = fs::read_to_string("/proc/self/oom_score_adj").expect("readable");
    assert_eq!(Bundle::sh(who, "b", "cat /proc/self/oom_score_adj").says("one"), own);
}

fn another_user(who: Who) {
    let bundle = Bundle::sh(who, "a", "id; grep Cap /proc/self/status")
        .set("/process/user", json!({"uid": 1000, "gid": 2000, "additionalGids": [3000, 3001]}));
    let said = bundle.says("one");
    assert!(
        said.starts_with("uid=1000 gid=2000 groups=2000,3000,3001\n") || said.contains("groups=3000,3001"),
        "{said}"
    );
    let up = Bundle::idle(who, "b").set("/process/user", json!({"uid": 1234, "gid": 0})).up("two");
    let status = fs::read_to_string(format!("/proc/{}/status", up.pid())).expect("it runs");
    assert!(status.contains("Uid:\t1234\t1234\t1234\t1234"), "{status}");
}

fn five_sets(who: Who) {
    let sets = json!({
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID"], "permitted": ["CAP_CHOWN", "CAP_KILL"], "effective": ["CAP_CHOWN"],
        "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"],
    });
    for uid in [0, 1000] {
        let bundle = Bundle::sh(who, "a", "grep Cap /proc/self/status")
            .set("/process/capabilities", sets.clone())
            .set("/process/user", json!({"uid": uid, "gid": uid}));
        let said = bundle.says("one");
        let line = |name: &str, value: u64| {
            assert!(said.contains(&format!("{name}:\t{value:016x}\n")), "{uid} {name}: {said}")
        };
        line("CapBnd", 1 | 1 << 5 | 1 << 7);
        line("CapInh", 1 << 5);
        line("CapAmb", 1 << 5);
        // With no_new_privs root gains nothing by execve(2), and keeps what is permitted; others keep what is ambient.
        line("CapEff", if uid == 0 { 1 | 1 << 5 } else { 1 << 5 });
    }
    let none = Bundle::sh(who, "a", "grep CapBnd /proc/self/status").set("/process/capabilities", json!({}));
    assert_eq!(none.says("one"), "CapBnd:\t0000000000000000\n");
}

fn how_it_is_scheduled(who: Who) {
    let up = Bundle::idle(who, "a")
        .set("/process/scheduler", json!({"policy": "SCHED_BATCH", "nice": 5}))
        .set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 6}))
        .up("one");
    let number = up.pid();
    // SAFETY: numbers are all that these take.
    let (policy, nice, io) = unsafe {
        (
            libc::sched_getscheduler(number),
            libc::getpriority(libc::PRIO_PROCESS, number as libc::id_t),
            libc::syscall(libc::SYS_ioprio_get, 1, number),
        )
    };
    assert_eq!((policy, nice, io), (libc::SCHED_BATCH, 5, 2 << 13 | 6));
}

fn names(who: Who) {
    let bundle = Bundle::sh(who, "a", "hostname; cat /proc/sys/kernel/domainname")
        .set("/hostname", json!("some-name"))
        .set("/domainname", json!("some.domain"));
    let before = (
        nix::unistd::gethostname().expect("a name"),
        fs::read("/proc/sys/kernel/domainname").expect("readable"),
    );
    assert_eq!(bundle.says("one"), "some-name\nsome.domain\n");
    let after = (
        nix::unistd::gethostname().expect("a name"),
        fs::read("/proc/sys/kernel/domainname").expect("readable"),
    );
    assert_eq!(before, after);
    bundle.without_namespace("uts").create("one").bad(125, "hostname");
}

/// New where it is asked for, and else the runtime's own.
fn namespaces_new_and_inherited(who: Who) {
    let own = namespaces(nix::unistd::Pid::this());
    for (kind, name) in [
        ("pid", "pid"),
        ("network", "net"),
        ("ipc", "ipc"),
        ("uts", "uts"),
        ("cgroup", "cgroup"),
        ("time", "time"),
    ] {
        let bundle = || {
            let bundle = Bundle::idle(who, "a")
                .without_mount("/proc")
                .set("/linux/maskedPaths", json!([]))
                .set("/linux/readonlyPaths", json!([]));
            bundle
                .without("/hostname")
                .without_mount("/sys")
                .without_mount("/sys/fs/cgroup")
                .without_mount("/dev/mqueue")
        };
        let up = bundle().without_namespace(kind).up("one");
        let found = namespaces(nix::unistd::Pid::from_raw(up.pid()));
        assert_eq!(found[name], own[name], "{kind} is not the runtime's");
        assert_ne!(found["mnt"], own["mnt"]);
        drop(up);
        let up = bundle().namespace(kind, None).up("one");
        let found = namespaces(nix::unistd::Pid::from_raw(up.pid()));
        assert_ne!(found[name], own[name], "{kind} is not new");
    }
}

/// Those of another container, each alone and all together.
fn namespaces_by_path(who: Who) {
    let one = Bundle::idle(who, "a").own_users().namespace("time", None).up("one");
    let first = one.pid();
    let its = namespaces(nix::unistd::Pid::from_raw(first));
    let kinds = [
        ("network", "net"),
        ("ipc", "ipc"),
        ("uts", "uts"),
        ("pid", "pid"),
        ("cgroup", "cgroup"),
        ("user", "user"),
        ("time", "time"),
    ];
    let path = |name: &str| format!("/proc/{first}/ns/{name}");
    let plain =
        || Bundle::idle(who, "b").without("/hostname").without_mount("/dev/mqueue").without_mount("/sys");
    for (kind, name) in kinds {
        let mut bundle = plain().without_mount("/sys/fs/cgroup").namespace(kind, Some(&path(name)));
        if kind == "user" {
            // Users without the rest of their namespaces may mount no /sys.
            bundle = bundle.without("/linux/resources");
        }
        let up = bundle.up("two");
        let found = namespaces(nix::unistd::Pid::from_raw(up.pid()));
        assert_eq!(found[name], its[name], "{kind}");
        for (_, other) in
            kinds.iter().filter(|(_, other)| *other != name && *other != "time" && *other != "user")
        {
            assert_ne!(found[*other], its[*other], "{kind} and {other}");
        }
    }
    let mut bundle = plain().without_mount("/sys/fs/cgroup").without("/linux/resources");
    for (kind, name) in kinds {
        bundle = bundle.namespace(kind, Some(&path(name)));
    }
    let up = bundle.up("two");
    let mut found = namespaces(nix::unistd::Pid::from_raw(up.pid()));
    found.remove("mnt");
    let mut its = its;
    its.remove("mnt");
    assert_eq!(found, its);
    drop(one);
}

fn users_of_its_own(who: Who) {
    let script =
        "cat /proc/self/uid_map; id -u; stat -c %u /dev/null /proc/1; touch /tmp/made-by-root; sleep 1000";
    let bundle = Bundle::sh(who, "a", script).own_users().own_rootfs();
    let status =
        std::process::Command::new("chown").args(["-R", "100000:100000"]).arg(bundle.rootfs()).status();
    assert!(status.expect("chown").success());
    let up = bundle.up("one");
    let status = fs::read_to_string(format!("/proc/{}/status", up.pid())).expect("it runs");
    assert!(status.contains("Uid:\t100000\t100000\t100000\t100000"), "{status}");
    let made = bundle.rootfs().join("tmp/made-by-root");
    crate::support::run::eventually("its file", || made.exists());
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&fs::metadata(&made).expect("there")), 100_000);
    let words: Vec<String> = up.said.out_now().split_whitespace().map(str::to_string).collect();
    assert_eq!(words[..4], ["0", "100000", "65536", "0"].map(str::to_string));
}

fn clocks(who: Who) {
    let bundle =
        Bundle::sh(who, "a", "cat /proc/uptime; cat /proc/self/timens_offsets").namespace("time", None).set(
            "/linux/timeOffsets",
            json!({"boottime": {"secs": 1_000_000}, "monotonic": {"secs": 5, "nanosecs": 7}}),
        );
    let said = bundle.says("one");
    let seconds: f64 = said.split(' ').next().and_then(|word| word.parse().ok()).expect("a number");
    assert!(seconds > 1_000_000.0, "{said}");
    let words: Vec<&str> = said.split_whitespace().collect();
    assert!(words.windows(3).any(|three| three == ["monotonic", "5", "7"]), "{said}");
}

fn devices(who: Who) {
    let device = |path: &str| json!({"path": path, "type": "c", "major": 1, "minor": 3, "fileMode": 0o600, "uid": 7, "gid": 8});
    let bundle = Bundle::sh(who, "a", "stat -c '%n %F %t:%T %a %u %g' /dev/mine /tmp/elsewhere /dev/pipe")
        .add("/linux/devices", device("/dev/mine"))
        .add("/linux/devices", device("/tmp/elsewhere"))
        .add("/linux/devices", json!({"path": "/dev/pipe", "type": "p", "fileMode": 0o644}));
    let said = bundle.says("one");
    assert_eq!(
        said,
        "/dev/mine character special file 1:3 600 7 8\n/tmp/elsewhere character special file 1:3 600 7 8\n/dev/pipe fifo 0:0 644 0 0\n"
    );
    // It is there already, and it is another one.
    let bundle = bundle
        .set("/linux/devices/0", json!({"path": "/tmp/elsewhere", "type": "c", "major": 1, "minor": 5}));
    bundle.create("one").bad(125, "something else is there");
    fs::remove_file("/tmp/rootfs/tmp/elsewhere").expect("there");
}

fn default_devices(who: Who) {
    let script = "for name in null zero full random urandom tty; do stat -c '%n %t:%T %a' /dev/$name; done; readlink /dev/ptmx; readlink /dev/fd; \
                  head -c 2 /dev/zero | wc -c; echo x > /dev/null && echo fine";
    let said = Bundle::sh(who, "a", script).says("one");
    let expected = "/dev/null 1:3 666\n/dev/zero 1:5 666\n/dev/full 1:7 666\n/dev/random 1:8 666\n/dev/urandom 1:9 666\n/dev/tty 5:0 666\n\
                    pts/ptmx\n/proc/self/fd\n2\nfine\n";
    assert_eq!(said, expected);
}

fn where_its_cgroups_are(who: Who) {
    let find = |pid: i32| fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it runs");
    for (path, words) in [("/test/deep/one", "/test/deep/one\n"), ("relative/two", "/relative/two\n")] {
        let up = Bundle::idle(who, "a").set("/linux/cgroupsPath", json!(path)).up("one");
        assert!(find(up.pid()).contains(words), "{path}: {}", find(up.pid()));
    }
    let up = Bundle::idle(who, "a").up("one");
    assert!(find(up.pid()).contains("/one\n"));
}

/// What is written, as the kernel has it; `update` changes it; what is above a limit fails.
fn what_it_may_use(who: Who) {
    let resources = json!({
        "memory": {"limit": 64 << 20, "reservation": 32 << 20}, "pids": {"limit": 17}, "cpu": {"shares": 512, "quota": 50000, "period": 100000},
        "devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 7, "access": "r"}],
    });
    let up = Bundle::idle(who, "a").set("/linux/resources", resources).up("one");
    let read = |names: [&str; 2]| -> String {
        let text = fs::read_to_string(format!("/proc/{}/cgroup", up.pid())).expect("it runs");
        for line in text.lines() {
            let parts: Vec<&str> = line.splitn(3, ':').collect();
            for (mount, file) in
                [(format!("/sys/fs/cgroup/{}", parts[1]), names[0]), ("/sys/fs/cgroup".to_string(), names[1])]
            {
                if let Ok(text) = fs::read_to_string(format!("{mount}{}/{file}", parts[2])) {
                    return text.trim().to_string();
                }
            }
        }
        panic!("{names:?} is nowhere: {text}");
    };
    assert_eq!(read(["memory.limit_in_bytes", "memory.max"]), (64 << 20).to_string());
    assert_eq!(read(["memory.soft_limit_in_bytes", "memory.low"]), (32 << 20).to_string());
    assert_eq!(read(["pids.max", "pids.max"]), "17");
    assert!(["50000", "50000 100000"].contains(&read(["cpu.cfs_quota_us", "cpu.max"]).as_str()));
    assert!(["512", "20"].contains(&read(["cpu.shares", "cpu.weight"]).as_str()));
    assert_eq!(up.says("head -c 1 /dev/full | wc -c; head -c1 /dev/urandom | wc -c"), "1\n1\n");
    let update = [
        "update",
        "--memory",
        "33554432",
        "--pids-limit",
        "19",
        "--cpu-quota",
        "20000",
        "--cpu-share",
        "256",
        "one",
    ];
    oci(who, &update).good();
    assert_eq!(read(["memory.limit_in_bytes", "memory.max"]), (32 << 20).to_string());
    assert_eq!(read(["pids.max", "pids.max"]), "19");
    assert!(["20000", "20000 100000"].contains(&read(["cpu.cfs_quota_us", "cpu.max"]).as_str()));
    fs::write("/tmp/resources", r#"{"pids": {"limit": -1}}"#).expect("written");
    oci(who, &["update", "--resources", "/tmp/resources", "one"]).good();
    assert_eq!(read(["pids.max", "pids.max"]), "max");
    let events: Value =
        serde_json::from_str(&oci(who, &["events", "--stats", "one"]).good().out).expect("JSON");
    assert_eq!((&events["id"], &events["type"]), (&json!("one"), &json!("stats")));
    assert_eq!(events["data"]["memory"]["usage"]["limit"], json!(32 << 20));
    drop(up);
    let few = Bundle::sh(who, "b", "sleep 1 & sleep 1 & sleep 1 & wait")
        .set("/linux/resources", json!({"pids": {"limit": 2}}));
    assert!(few.run("two").err.contains("fork"), "more than two");
    let much = Bundle::sh(who, "b", "head -c 100m /dev/zero | tail -n1 | wc -c")
        .set("/linux/resources", json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}}));
    assert!(!much.run("two").out.starts_with("104857600"), "more than 16 MiB");
}

fn paths_hidden_and_read_only(who: Who) {
    let script =
        "cat /etc/hidden; ls /usr/hidden; echo x > /etc/fixed; echo y > /usr/fixed/new; cat /etc/fixed; true";
    let bundle = Bundle::sh(who, "a", script)
        .own_rootfs()
        .set("/linux/maskedPaths", json!(["/etc/hidden", "/usr/hidden", "/no/such"]))
        .set("/linux/readonlyPaths", json!(["/etc/fixed", "/usr/fixed", "/no/such"]));
    let root = bundle.rootfs();
    for name in ["etc/hidden", "etc/fixed"] {
        fs::write(root.join(name), "from the image\n").expect("written");
        give(&root.join(name), who);
    }
    for name in ["usr/hidden", "usr/fixed"] {
        fs::create_dir(root.join(name)).expect("new");
        fs::write(root.join(name).join("file"), "").expect("written");
        give(&root.join(name), who);
    }
    let said = bundle.run("one");
    assert_eq!((said.status, said.out.as_str()), (0, "from the image\n"), "{}", said.err);
    assert_eq!(said.err.matches("Read-only file system").count(), 2, "{}", said.err);
}

fn sysctls(who: Who) {
    let bundle = Bundle::sh(who, "a", "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax")
        .namespace("network", None)
        .set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1", "kernel.msgmax": "4321"}));
    let before = fs::read("/proc/sys/kernel/msgmax").expect("readable");
    assert_eq!(bundle.says("one"), "1\n4321\n");
    assert_eq!(fs::read("/proc/sys/kernel/msgmax").expect("readable"), before);
    bundle.without_namespace("ipc").create("one").bad(125, "kernel.msgmax");
}

fn personality(who: Who) {
    let bundle = Bundle::sh(who, "a", "cat /proc/self/personality 2>/dev/null; uname -m");
    let plain = bundle.says("one");
    let other = bundle.set("/linux/personality", json!({"domain": "LINUX32"})).says("one");
    assert_ne!(plain, other);
}

/// What is forbidden, with which error, for which arguments, and what happens to who does it.
fn seccomp_actions(who: Who) {
    let bundle = |script: &str, calls: Value| {
        Bundle::sh(who, "a", script)
            .set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": calls}))
    };
    let said = bundle("mkdir /tmp/x", json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]))
        .run("one");
    assert!(said.err.contains("Operation not permitted"), "{}", said.err);
    let said = bundle(
        "mkdir /tmp/x",
        json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]),
    )
    .run("one");
    assert!(said.err.contains("No space left"), "{}", said.err);
    for (action, status) in
        [("SCMP_ACT_KILL_PROCESS", 128 + 31), ("SCMP_ACT_KILL", 128 + 31), ("SCMP_ACT_TRAP", 128 + 31)]
    {
        let calls = json!([{"names": ["mkdir", "mkdirat"], "action": action}]);
        assert_eq!(bundle("mkdir /tmp/x; exit $?", calls).run("one").status, status, "{action}");
    }
    let calls = json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_LOG"}, {"names": ["no_such_call"], "action": "SCMP_ACT_ERRNO"}]);
    bundle("mkdir /tmp/x && rmdir /tmp/x", calls).run("one").good();
    // kill(1, 0) is forbidden, and any other signal is not.
    let calls = json!([{"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 22, "args": [{"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}]}]);
    let said = bundle("kill -CONT 1 && echo one; kill -USR1 1 || echo two", calls).run("one");
    assert_eq!(said.out, "one\ntwo\n", "{}", said.err);
    let up =
        bundle("sleep 1000", json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}])).up("one");
    assert!(
        oci(who, &["exec", "one", "mkdir", "/tmp/x"]).err.contains("not permitted"),
        "exec has no filter"
    );
    drop(up);
}

/// SCMP_ACT_NOTIFY: whoever listens is given the descriptor, and told whom it is about.
fn seccomp_asks(who: Who) {
    let place = Path::new("/tmp/agent");
    let listener = UnixListener::bind(place).expect("new");
    give(place, who);
    let bundle = Bundle::idle(who, "a").set("/annotations", json!({"a.b": "c"})).set(
        "/linux/seccomp",
        json!({
            "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/tmp/agent", "listenerMetadata": "some words",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}],
        }),
    );
    let told = || -> (Value, OwnedFd) {
        let (mut socket, _) = listener.accept().expect("the runtime connects");
        let mut text = [0; 65536];
        let mut room = nix::cmsg_space!([RawFd; 2]);
        let mut parts = [IoSliceMut::new(&mut text)];
        let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut room), MsgFlags::empty())
            .expect("a message");
        let mut fds = Vec::new();
        for control in message.cmsgs().expect("whole") {
            if let ControlMessageOwned::ScmRights(more) = control {
                fds.extend(more);
            }
        }
        let count = message.bytes;
        let mut all = text[..count].to_vec();
        socket.read_to_end(&mut all).expect("readable");
        assert_eq!(fds.len(), 1);
        // SAFETY: the message has made the descriptor, and nobody else has it.
        (serde_json::from_slice(&all).expect("JSON"), unsafe { OwnedFd::from_raw_fd(fds[0]) })
    };
    bundle.create("one").good();
    oci(who, &["start", "one"]).good();
    let (message, fd) = told();
    let number = pid(who, "one");
    assert_eq!(message["ociVersion"], bundle.config["ociVersion"]);
    assert_eq!((&message["fds"], &message["metadata"]), (&json!(["seccompFd"]), &json!("some words")));
    assert_eq!(message["pid"], number, "{message}");
    assert_eq!(
        (&message["state"]["id"], &message["state"]["pid"]),
        (&json!("one"), &json!(number)),
        "{message}"
    );
    assert_eq!(message["state"]["annotations"], json!({"a.b": "c"}));
    assert!(
        fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
            .expect("open")
            .to_string_lossy()
            .contains("seccomp")
    );
    let mut line = crate::kit::runtime(who);
    line.args(["exec", "--detach", "--pid-file", "/tmp/bundles/a/pid", "one", "/bin/sleep", "1000"]);
    say(&mut line).good();
    let (message, _fd) = told();
    let added = fs::read_to_string("/tmp/bundles/a/pid").expect("written");
    let command = |pid: &str| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    assert_eq!(command(&added), "/bin/sleep\x001000\0");
    assert_eq!(message["pid"].to_string(), added, "{message} {:?}", command(&message["pid"].to_string()));
    assert_eq!(message["state"]["pid"], number, "{message}");
    oci(who, &["delete", "--force", "one"]).good();
}

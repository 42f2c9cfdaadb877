//! Chapter 6 on a host whose cgroups are version 2 alone: what the kernel does, and what it says about it.
//!
//! The virtual machine of tests/vm is such a host. Elsewhere these cases are ignored, with the reason.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cooperage::container::cgroup;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};

use crate::cgroups::cgroups;
use crate::support::run::{
    Ended, NOBODY, Running, chapter, children, eventually, program, real_root, run, says, sh, volume,
};
use crate::support::sweep::{LESS_POWER, NEWEST, OWN_USERS, from, since};
use crate::support::{ANOTHER_USER, Case, ROOT, ROOT_ITSELF, USER, Who, binary, is_snapshot};

pub fn cases() -> Vec<Case> {
    const V2: &[&str] = &["cgroup-v2", "cgroup-memory", "cgroup-cpu", "cgroup-pids"];
    const TRACED: &[&str] = &["cgroup-v2", "cgroup-memory", "strace"];
    vec![
        Case::new("v2_memory_is_counted_and_ends_in_a_kill", ROOT, memory).needs(V2),
        Case::new("v2_container_reads_its_own_counters", ROOT, own_counters).needs(V2),
        Case::new("v2_processor_is_throttled", ROOT, processor).needs(V2),
        Case::new("v2_forks_are_refused_and_counted", ROOT, processes).needs(V2),
        Case::new("v2_writes_to_a_disk_are_slowed", ROOT, disk).needs(&["cgroup-v2", ROOT_ITSELF]),
        Case::new("disk_limits_that_cannot_be", ROOT, disk_errors).needs(&["cgroup-memory"]),
        Case::new("v2_kills_a_fork_bomb_at_once", ROOT, fork_bomb).needs(V2),
        Case::new("v2_frozen_can_be_killed", ROOT, frozen).needs(V2),
        Case::new("v2_born_in_its_cgroup", ROOT, born_in_its_cgroup).needs(TRACED),
        Case::new("v2_enters_where_clone3_is_refused", ROOT, clone3_refused).needs(TRACED),
        Case::new("v2_no_internal_processes", ROOT, no_internal_processes).needs(V2),
        Case::new("v2_room_is_made_once", ROOT, room_is_made_once).needs(V2),
        Case::new("v2_delegated_to_an_ordinary_user", USER, delegated).needs(&[
            "cgroup-v2",
            "cgroup-memory",
            ANOTHER_USER,
        ]),
        Case::new("v2_not_delegated", USER, not_delegated).needs(&[
            "cgroup-v2",
            "cgroup-memory",
            ANOTHER_USER,
        ]),
        Case::new("v2_narration_of_limits_reads_well", ROOT, narration).needs(V2),
    ]
}

/// The one cgroup of the one container that is running.
fn cgroup() -> PathBuf {
    let found = cgroups();
    assert_eq!(found.len(), 1, "{found:?}");
    found.into_iter().next().expect("there is one")
}

fn read(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    text.trim().to_string()
}

/// The number after `key` in a file of `key number` lines.
fn value(file: &Path, key: &str) -> u64 {
    let text = read(file);
    let found = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok());
    found.unwrap_or_else(|| panic!("{} has no {key}: {text}", file.display()))
}

fn memory(who: Who) {
    const LIMIT: u64 = 32 << 20;
    for number in since(6) {
        let running = Running::start(number, who, &["--memory", "32m"], "tail /dev/zero; echo killed: $?");
        let cgroup = cgroup();
        assert_eq!(read(&cgroup.join("memory.max")), LIMIT.to_string());
        assert_eq!(read(&cgroup.join("memory.swap.max")), "0");
        let events = cgroup.join("memory.events");
        assert_eq!(value(&events, "oom_kill"), 1, "chapter {number}: {}", read(&events));
        assert!(value(&events, "max") > 0, "chapter {number}: the limit was never met");
        let peak: u64 = read(&cgroup.join("memory.peak")).parse().expect("a number");
        assert!((LIMIT / 2..=LIMIT).contains(&peak), "chapter {number}: {peak}");
        let ended = running.end();
        assert_eq!(ended.status, 0, "only what was too large has died: {}", ended.err);
        let expected = "the kernel killed a process of the container (limit 32 MiB, peak 3";
        assert!(ended.err.contains(expected), "chapter {number}: {}", ended.err);
    }
}

fn own_counters(who: Who) {
    for number in since(6) {
        let options = ["--memory", "32m", "--cpus", "0.5", "--pids-limit", "20"];
        let script = "cd /sys/fs/cgroup; cat memory.max memory.swap.max cpu.max pids.max cgroup.subtree_control; \
                      [ $(cat memory.peak) -gt 0 ] && [ $(cat pids.current) -gt 0 ] && echo counted";
        let seen = says(number, who, &options, script);
        assert_eq!(seen, "33554432\n0\n50000 100000\n20\ncounted\n", "chapter {number}");
    }
}

fn processor(who: Who) {
    for number in since(6) {
        let running = Running::start(number, who, &["--cpus", "0.1"], "while :; do :; done & echo $!");
        let cgroup = cgroup();
        assert_eq!(read(&cgroup.join("cpu.max")), "10000 100000");
        let counters = cgroup.join("cpu.stat");
        eventually("throttling", || value(&counters, "nr_throttled") >= 3);
        assert!(value(&counters, "throttled_usec") > 0, "chapter {number}: {}", read(&counters));
        assert!(value(&counters, "nr_periods") >= value(&counters, "nr_throttled"));
        running.signal(Signal::SIGKILL);
        says(1, who, &[], "true"); // sweeps
    }
}

fn processes(who: Who) {
    for number in since(6) {
        let bomb = "(b() { b & b & wait; }; b) 2>/dev/null; true";
        let running = Running::start(number, who, &["--pids-limit", "30"], bomb);
        let cgroup = cgroup();
        assert_eq!(read(&cgroup.join("pids.max")), "30");
        assert!(value(&cgroup.join("pids.events"), "max") > 0, "chapter {number}: no fork was refused");
        let peak: u64 = read(&cgroup.join("pids.peak")).parse().expect("a number");
        assert!((20..=30).contains(&peak), "chapter {number}: {peak}");
        running.end();
    }
}

/// Runs a shell script on the host; it must succeed.
fn host(script: &str) -> String {
    let ended = run(Command::new("sh").args(["-ec", script]));
    assert_eq!(ended.status, 0, "{script}: {}{}", ended.out, ended.err);
    ended.out.trim().to_string()
}

fn disk(who: Who) {
    // A disk in a file. The lab has no device nodes of disks; where cgroups are version 2 its root can make them.
    let disk = host(
        "mknod /dev/loop-control c 10 237 || :; for n in 0 1 2 3 4 5 6 7; do mknod /dev/loop$n b 7 $n || :; done
         truncate -s 16M /tmp/disk; losetup -f --show /tmp/disk",
    );
    let number = host(&format!("cat /sys/block/{}/dev", disk.trim_start_matches("/dev/")));
    for chapter in since(6) {
        // From chapter 9 on a name is not enough to use a device.
        let device = ["--device".to_string(), format!("{disk}:/disk")];
        let volume = ["--volume".to_string(), volume(chapter, &format!("{disk}:/disk"))];
        let [option, disk_inside] = if chapter >= LESS_POWER { &device } else { &volume };
        let write = |options: &[&str]| {
            let options = [options, &[option, disk_inside]].concat();
            let script =
                "dd if=/dev/zero of=/disk bs=64k count=48 oflag=direct 2>&1 && cat /sys/fs/cgroup/io.max";
            let start = Instant::now();
            let said = says(chapter, who, &options, script);
            (said, start.elapsed())
        };
        let (said, slow) = write(&["--device-write-bps", &format!("{disk}:1mb")]);
        assert!(said.contains(&format!("{number} rbps=max wbps=1048576 riops=max wiops=max")), "{said}");
        // 3 MiB, of which the kernel may let some through before it begins to count.
        assert!(slow >= Duration::from_secs(2), "chapter {chapter}: it was not slowed: {slow:?}");
    }
    host(&format!("losetup -d {disk}"));
}

fn disk_errors(who: Who) {
    for number in since(6) {
        for (disk, reason) in [("/dev/null", "is no disk"), ("/dev/nowhere", "ENOENT")] {
            let ended = sh(number, who, &["--device-write-bps", &format!("{disk}:1mb")], "echo it ran");
            assert_eq!(
                (ended.status, ended.out.as_str()),
                (125, ""),
                "chapter {number} {disk}: {}",
                ended.err
            );
            assert!(ended.err.contains(reason), "chapter {number} {disk}: {}", ended.err);
            assert!(cgroups().is_empty(), "chapter {number} {disk}");
        }
        let ended = sh(number, who, &["--device-write-bps", "sda"], "true");
        assert_eq!(ended.status, 2, "{}", ended.err);
    }
}

fn fork_bomb(_: Who) {
    let directory = Path::new("/sys/fs/cgroup/bomb");
    fs::create_dir(directory).expect("the lab's cgroups are its own");
    fs::write(directory.join("pids.max"), "200").expect("writable");
    let script =
        "echo 0 >/sys/fs/cgroup/bomb/cgroup.procs; b() { while :; do b & sh -c : & done; }; b 2>/dev/null";
    let mut bomb = Command::new("sh").args(["-c", script]).stderr(Stdio::null()).spawn().expect("a shell");
    eventually("the bomb at its limit", || value(&directory.join("pids.events"), "max") > 0);
    // What the sweep after a killed runtime does. It is still forking.
    cgroup::destroy(directory).unwrap_or_else(|error| panic!("{error}"));
    assert!(!directory.exists());
    let status = bomb.wait().expect("it is ours");
    assert_eq!(crate::support::run::code(status), 137);
}

fn frozen(who: Who) {
    for number in since(6) {
        let running = Running::start(number, who, &["--memory", "32m"], "");
        let cgroup = cgroup();
        fs::write(cgroup.join("cgroup.freeze"), "1").expect("writable");
        eventually("frozen", || value(&cgroup.join("cgroup.events"), "frozen") == 1);
        // Version 1 would keep it for ever. Here no thawing is needed.
        let first = running.first();
        kill(first, Signal::SIGKILL).expect("it is alive");
        assert_eq!(running.wait().status, 137, "chapter {number}");
        assert!(!cgroup.exists(), "chapter {number}");
    }
}

/// The runtime under strace(1), which makes clone3(2) fail if it is told to.
fn traced(number: u32, who: Who, inject: &[&str]) -> (Ended, String) {
    let log = format!("/tmp/strace-{number}");
    let mut command = Command::new("strace");
    command.args(["-f", "-y", "-qq", "-o", &log, "-e", "trace=clone,clone3,write"]).args(inject);
    command.arg(binary(&format!("chapter{number:02}"), who));
    command.args(["--network", "none", "--memory", "32m", "--", "cat", "/sys/fs/cgroup/memory.max"]);
    let ended = run(&mut command);
    (ended, fs::read_to_string(log).expect("strace wrote it"))
}

fn born_in_its_cgroup(who: Who) {
    for number in since(6) {
        let (ended, calls) = traced(number, who, &[]);
        assert_eq!((ended.status, ended.out.as_str()), (0, "33554432\n"), "chapter {number}: {}", ended.err);
        assert!(calls.contains("CLONE_INTO_CGROUP"), "chapter {number}: {calls}");
        assert!(!calls.contains("cgroup.procs"), "chapter {number} moves what is there already: {calls}");
    }
}

fn clone3_refused(who: Who) {
    // An old kernel; a container engine's filter; a kernel that knows clone3 but not this flag.
    for errno in ["ENOSYS", "EPERM", "E2BIG"] {
        for number in since(6) {
            let (ended, calls) = traced(number, who, &["-e", &format!("inject=clone3:error={errno}")]);
            assert_eq!(
                (ended.status, ended.out.as_str()),
                (0, "33554432\n"),
                "chapter {number}: {}",
                ended.err
            );
            let entered = calls.lines().filter(|line| line.contains("/cgroup.procs>, \"0\"")).count();
            assert_eq!(entered, 1, "chapter {number} {errno}: {calls}");
        }
    }
}

/// The rule itself, as a reader meets it in a shell; and that the runtimes keep it.
fn no_internal_processes(who: Who) {
    let own = "/sys/fs/cgroup/own";
    fs::create_dir(own).expect("the lab's cgroups are its own");
    let mut inhabitant = Command::new("sleep").arg("1000").spawn().expect("it starts");
    let write = |file: &str, text: &str| {
        let written = fs::write(format!("{own}/{file}"), text);
        written.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or_default()))
    };
    assert_eq!(write("cgroup.procs", &inhabitant.id().to_string()), Ok(()));
    assert_eq!(write("cgroup.subtree_control", "+memory"), Err(Errno::EBUSY), "there is a process in it");
    inhabitant.kill().and_then(|()| inhabitant.wait()).expect("it is ours");
    assert_eq!(write("cgroup.subtree_control", "+memory"), Ok(()), "it is empty now");
    assert_eq!(write("cgroup.procs", "0"), Err(Errno::EBUSY), "what hands on takes no process");
    assert_eq!(write("cgroup.subtree_control", "-memory"), Ok(()));

    // A runtime that is started in such a cgroup, where it can't be at the top, moves its neighbours into a leaf.
    let started = format!(
        "echo 0 >{own}/cgroup.procs; exec unshare --cgroup --mount sh -c \
        'umount /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec \"$@\"' sh \"$@\""
    );
    for number in since(6) {
        let runtime = binary(&format!("chapter{number:02}"), who);
        let script = "cat /sys/fs/cgroup/memory.max";
        let mut command = Command::new("sh");
        command.args(["-c", &started, "sh"]).arg(runtime);
        let ended = run(command.args(["--memory", "32m", "--", "sh", "-c", script]));
        assert_eq!((ended.status, ended.out.as_str()), (0, "33554432\n"), "chapter {number}: {}", ended.err);
        let handed_on = read(&Path::new(own).join("cgroup.subtree_control"));
        assert_eq!(handed_on, "cpu memory pids", "chapter {number}");
        assert!(Path::new(own).join(cgroup::v2::LEAF).is_dir());
        // Back to how it was.
        host(&format!("echo '-cpu -memory -pids' >{own}/cgroup.subtree_control; rmdir {own}/*/"));
    }
}

/// Started from the leaf that was made, a runtime puts its container beside it and not deeper down.
fn room_is_made_once(who: Who) {
    let leaf = format!("/sys/fs/cgroup/{}", cgroup::v2::LEAF);
    assert!(Path::new(&leaf).is_dir(), "the lab's own processes are not in a leaf");
    let first = Running::start(NEWEST, who, &["--memory", "32m"], "");
    let second = Running::start(6, who, &["--memory", "32m"], "");
    let found = cgroups();
    assert_eq!(found.len(), 2, "{found:?}");
    for path in &found {
        assert_eq!(path.parent(), Some(Path::new("/sys/fs/cgroup")), "{}", path.display());
    }
    for running in [first, second] {
        let own = read(&PathBuf::from(format!("/proc/{}/cgroup", running.runtime())));
        assert_eq!(own, format!("0::/{}", cgroup::v2::LEAF));
        assert_eq!(running.end().status, 0);
    }
    assert!(children(nix::unistd::getpid()).is_empty());
}

/// A command that runs as the ordinary user in the cgroup `own`.
fn user_in(own: &str, number: u32) -> Command {
    let mut command = Command::new("sh");
    let enter = format!(
        "echo 0 >{own}/cgroup.procs; cd /tmp; exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups \"$@\""
    );
    command.args(["-c", &enter, "sh"]).arg(binary(&format!("chapter{number:02}"), Who::User));
    command
}

fn delegated(_: Who) {
    // As systemd does it for `systemd-run --user --scope -p Delegate=yes`.
    let own = "/sys/fs/cgroup/scope";
    host(&format!(
        "mkdir {own}; cd {own}; chown {NOBODY}:{NOBODY} . cgroup.procs cgroup.threads cgroup.subtree_control"
    ));
    for number in since(6) {
        let options = ["--memory", "32m", "--cpus", "0.5", "--pids-limit", "20"];
        let mut command = user_in(own, number);
        let running = Running::spawn(command.args(options), "", "");
        let path = cgroup();
        assert_eq!(path.parent(), Some(Path::new(own)), "chapter {number}");
        assert_eq!(read(&path.join("memory.max")), (32 << 20).to_string());
        assert_eq!(read(&path.join("cpu.max")), "50000 100000");
        assert_eq!(read(&path.join("pids.max")), "20");
        assert_eq!(running.end().status, 0, "chapter {number}");
        // The next is started in the leaf: what hands on controllers takes no process any more.
        let leaf = format!("{own}/{}", cgroup::v2::LEAF);
        let ended = run(user_in(&leaf, number).args(["--memory", "32m", "--", "tail", "/dev/zero"]));
        assert_eq!(ended.status, 137, "chapter {number}: {}", ended.err);
        assert!(ended.err.contains("out of memory"), "chapter {number}: {}", ended.err);
        // In the host's network it has the host's /sys, and sees its own cgroup there all the same.
        let script = "cat /sys/fs/cgroup/pids.max; grep -c cgroup2.*ro, /proc/self/mounts";
        let options = ["--network", "host", "--pids-limit", "20", "--", "sh", "-c", script];
        let ended = run(user_in(&leaf, number).args(options));
        assert_eq!((ended.status, ended.out.as_str()), (0, "20\n2\n"), "chapter {number}: {}", ended.err);
        assert!(cgroups().is_empty(), "chapter {number}");
        // Back to how it was.
        host(&format!("echo '-cpu -memory -pids' >{own}/cgroup.subtree_control; rmdir {own}/*/"));
    }
}

fn not_delegated(who: Who) {
    let shown = |name: &str, ended: &Ended| {
        assert_eq!((ended.status, ended.out.as_str()), (125, ""), "{name}: {}", ended.err);
        is_snapshot(name, &[(r"cooperage-\d+", "cooperage-[pid]")], &ended.err);
    };
    // Nobody's: as in a session of ssh(1).
    let ended = run(chapter(6, who).args(["--memory", "32m", "--", "echo", "it ran"]));
    shown("errors/cgroup-v2-not-delegated", &ended);
    // The directory alone is the user's: others' processes in it can't be moved out of the way.
    let own = "/sys/fs/cgroup/half";
    host(&format!("mkdir {own}; cd {own}; chown {NOBODY}:{NOBODY} . cgroup.subtree_control"));
    let ended = run(user_in(own, 6).args(["--memory", "32m", "--", "echo", "it ran"]));
    shown("errors/cgroup-v2-internal-processes", &ended);
    // Nothing is handed on to it from above.
    let own = "/sys/fs/cgroup/poor";
    host(&format!(
        "mkdir {own} {own}/below; cd {own}/below; \
         chown {NOBODY}:{NOBODY} . cgroup.procs cgroup.threads cgroup.subtree_control"
    ));
    let ended = run(user_in(&format!("{own}/below"), 6).args(["--memory", "32m", "--", "echo", "it ran"]));
    shown("errors/cgroup-v2-no-controller", &ended);
}

fn narration(who: Who) {
    for number in from(6) {
        let options = ["--memory", "64m", "--cpus", "0.5", "--pids-limit", "100"];
        let mut command = program(&format!("chapter{number:02}"), who);
        command.args(["--network", "none", "--hostname", "web", "--explain"]).args(options);
        let ended = run(command.args(["--", "true"]));
        assert_eq!(ended.status, 0, "{}", ended.err);
        // What is the same on version 1 is told by its own test.
        let about = ["cgroup", "clone", "pids.max"];
        let mut lines: Vec<&str> =
            ended.err.lines().filter(|line| about.iter().any(|word| line.contains(word))).collect();
        // Two processes tell at once: each for itself, in its own order.
        lines.sort_by_key(|line| line.split(']').next().unwrap_or_default().to_string());
        let filters = [
            (r"\[host \d+\] *", "[host]           "),
            (r"(clone3?\(.*\)) = \d+", "$1 = PID"),
            (r"cgroup=\d+", "cgroup=N"),
            (r"cooperage-\d+", "cooperage-PID"),
            (r"/(proc/self/fd)/\d+", "/$1/N"),
            (r"openat2\(\d+", "openat2(N"),
            (r"= \d+(  +find)", "= N$1"),
            (r" = (-1 \S+|\S+) {2,}", " = $1  "),
        ];
        // Root of an ordinary user's lab gives the container no other users: there is nobody to hand the cgroup on to.
        let whose = if number >= OWN_USERS && !real_root() { "-delegated" } else { "" };
        is_snapshot(&format!("explain/{number:02}-v2{whose}"), &filters, lines.join("\n"));
    }
}

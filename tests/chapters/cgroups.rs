//! Chapter 6: limits that hold, on what this machine has of cgroups.

use std::fs;
use std::path::PathBuf;

use cooperage::workshop::lab::Layout;
use nix::sys::signal::Signal;

use crate::support::run::{Ended, Host, Running, chapter, eventually, real_root, run, says, sh};
use crate::support::sweep::{NEWEST, since};
use crate::support::{BOTH, CGROUP2_MOUNTED, Case, ROOT, USER, Who};

pub fn cases() -> Vec<Case> {
    const V1: &[&str] = &["cgroup-v1", "cgroup-memory", "cgroup-cpu", "cgroup-pids"];
    const HYBRID: &[&str] = &["cgroup-v1", "cgroup-memory", "cgroup-cpu", "cgroup-pids", CGROUP2_MOUNTED];
    vec![
        Case::new("memory_limit_kills", ROOT, memory_limit_kills).needs(&["cgroup-memory"]),
        Case::new("other_kills_are_not_for_memory", ROOT, other_kills_are_not_for_memory)
            .needs(&["cgroup-memory"]),
        Case::new("pids_limit_holds_a_fork_bomb", ROOT, pids_limit_holds_a_fork_bomb).needs(&["cgroup-pids"]),
        Case::new("cpu_quota_throttles", ROOT, cpu_quota_throttles).needs(&["cgroup-cpu"]),
        Case::new("limits_are_in_their_units", ROOT, limits_are_in_their_units).needs(&[
            "cgroup-memory",
            "cgroup-cpu",
            "cgroup-pids",
        ]),
        Case::new("in_the_cgroup_from_the_start", ROOT, in_the_cgroup_from_the_start)
            .needs(&["cgroup-memory"]),
        Case::new("cgroup_namespace_hides_the_rest", ROOT, cgroup_namespace_hides_the_rest)
            .needs(&["cgroup-memory"]),
        Case::new("cgroup_is_removed", ROOT, cgroup_is_removed).needs(&["cgroup-memory"]),
        Case::new("frozen_container_can_be_stopped", ROOT, frozen_container_can_be_stopped)
            .needs(&["cgroup-freezer"]),
        Case::new("bad_limits_are_refused", BOTH, bad_limits_are_refused),
        Case::new("no_writable_cgroup", USER, no_writable_cgroup),
        Case::new("layout_v1", ROOT, each_layout).needs(V1).lab(Layout::V1),
        Case::new("layout_hybrid", ROOT, each_layout).needs(HYBRID).lab(Layout::Hybrid),
        Case::new("layout_v2_without_controllers", ROOT, no_controller)
            .needs(&["cgroup-v1", CGROUP2_MOUNTED])
            .lab(Layout::V2),
        Case::new("layout_none", ROOT, no_controller).lab(Layout::None),
    ]
}

/// The container's cgroups, as the lab sees them.
pub fn cgroups() -> Vec<PathBuf> {
    let all = Host::now().cgroups;
    let is_a_containers = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.strip_prefix("cooperage-").is_some_and(|rest| rest.parse::<u32>().is_ok())
    };
    all.into_iter().filter(is_a_containers).collect()
}

fn read(directory: &str, file: &str) -> String {
    let found = cgroups().into_iter().map(|path| path.join(file)).find(|path| path.exists());
    let path = found.unwrap_or_else(|| panic!("no cgroup of {directory} has {file}"));
    fs::read_to_string(path).expect("readable").trim().to_string()
}

pub fn is_v2() -> bool {
    std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

fn memory_limit_kills(who: Who) {
    for number in since(6) {
        let hog = "tail /dev/zero";
        let killed = sh(number, who, &["--memory", "32m"], hog);
        assert_eq!(killed.status, 137, "chapter {number}: {}", killed.err);
        let expected =
            "cooperage: out of memory: the kernel killed a process of the container (limit 32 MiB, peak ";
        assert!(killed.err.contains(expected), "chapter {number}: {}", killed.err);
        // Where there is enough, up to its limit of data.
        says(number, who, &["--memory", "64m"], "head -c 8000000 /dev/zero | tail | wc -c");
    }
}

fn other_kills_are_not_for_memory(who: Who) {
    for number in since(6) {
        let killed: Ended = sh(number, who, &["--memory", "32m"], "sh -c 'kill -KILL $$'; exit $?");
        assert_eq!(
            (killed.status, killed.err.contains("memory")),
            (137, false),
            "chapter {number}: {}",
            killed.err
        );
    }
}

fn pids_limit_holds_a_fork_bomb(who: Who) {
    for number in since(6) {
        // Every process starts two more, until the limit refuses. The bomb's shells give up; the host does not
        // notice. (What counts them forks no process: there may be none left.)
        let script = "(b() { b & b & wait; }; b) 2>/log; while read line; do n=$((n+1)); done </log; echo $n; echo survived";
        let ended = sh(number, who, &["--pids-limit", "40"], script);
        assert!(ended.out.ends_with("survived\n"), "chapter {number}: {}{}", ended.out, ended.err);
        let refused: u32 = ended.out.lines().next().and_then(|line| line.parse().ok()).expect("a count");
        assert!(refused > 0, "chapter {number}: no fork was refused");
    }
    assert!(cgroups().is_empty());
}

fn cpu_quota_throttles(who: Who) {
    for number in since(6) {
        let running = Running::start(number, who, &["--cpus", "0.1"], "while :; do :; done & echo $!");
        // As counted by the kernel: no clock of ours.
        eventually("throttling", || {
            let text = read("cpu", "cpu.stat");
            let periods =
                text.lines().find_map(|line| line.strip_prefix("nr_throttled ")).expect("the quota is on");
            periods.parse::<u32>().expect("a number") >= 3
        });
        assert_eq!(running.signal(Signal::SIGKILL).status, 137);
        says(1, who, &[], "true"); // sweeps
    }
}

fn limits_are_in_their_units(who: Who) {
    let running =
        Running::start(NEWEST, who, &["--memory", "64m", "--cpus", "0.5", "--pids-limit", "100"], "");
    if is_v2() {
        assert_eq!(read("memory", "memory.max"), (64 << 20).to_string());
        assert_eq!(read("cpu", "cpu.max"), "50000 100000");
    } else {
        assert_eq!(read("memory", "memory.limit_in_bytes"), (64 << 20).to_string());
        assert_eq!(read("cpu", "cpu.cfs_quota_us"), "50000");
        assert_eq!(read("cpu", "cpu.cfs_period_us"), "100000");
    }
    assert_eq!(read("pids", "pids.max"), "100");
    running.end();
}

fn in_the_cgroup_from_the_start(who: Who) {
    for number in since(6) {
        let running = Running::start(number, who, &["--memory", "64m"], "");
        let first = running.first();
        let text = fs::read_to_string(format!("/proc/{first}/cgroup")).expect("readable");
        let runtime = running.runtime();
        assert!(text.contains(&format!("/cooperage-{runtime}")), "chapter {number}: {text}");
        // The runtime itself is outside of it.
        let outside = fs::read_to_string(format!("/proc/{runtime}/cgroup")).expect("readable");
        assert!(!outside.contains(&format!("/cooperage-{runtime}")), "chapter {number}: {outside}");
        running.end();
    }
}

fn cgroup_namespace_hides_the_rest(who: Who) {
    for number in since(6) {
        let seen = says(number, who, &["--memory", "64m"], "grep -E ':(memory|pids|):' /proc/self/cgroup");
        for line in seen.lines().filter(|line| !line.starts_with("0::") || is_v2()) {
            assert!(line.ends_with(":/"), "chapter {number} sees {line}");
        }
        let limit =
            if is_v2() { "/sys/fs/cgroup/memory.max" } else { "/sys/fs/cgroup/memory/memory.limit_in_bytes" };
        let script = format!("cat {limit}; echo 99999999999 > {limit}");
        let ended = sh(number, who, &["--memory", "64m"], &script);
        assert_eq!(ended.out, format!("{}\n", 64 << 20), "chapter {number}: {}", ended.err);
        assert!(ended.err.contains("Read-only file system"), "chapter {number}: {}", ended.err);
    }
}

fn cgroup_is_removed(who: Who) {
    for number in since(6) {
        let running = Running::start(number, who, &["--memory", "64m"], "sleep 1000 & sleep 1000 &");
        assert!(!cgroups().is_empty());
        running.end();
        assert!(cgroups().is_empty(), "chapter {number}");
        // Killed: the next run of any chapter removes it.
        let running = Running::start(number, who, &["--memory", "64m"], "sleep 1000 &");
        running.signal(Signal::SIGKILL);
        assert!(!cgroups().is_empty(), "chapter {number}: nothing to sweep, so nothing is tested");
        says(1, who, &[], "true");
        assert!(cgroups().is_empty(), "chapter {number}");
    }
}

fn freeze() {
    for path in cgroups() {
        let (v1, v2) = (path.join("freezer.state"), path.join("cgroup.freeze"));
        if v1.exists() {
            fs::write(&v1, "FROZEN").expect("writable");
            eventually("FROZEN", || fs::read_to_string(&v1).expect("readable").trim() == "FROZEN");
        } else if v2.exists() && is_v2() {
            fs::write(&v2, "1").expect("writable");
            let events = path.join("cgroup.events");
            eventually("frozen", || fs::read_to_string(&events).expect("readable").contains("frozen 1"));
        }
    }
}

fn frozen_container_can_be_stopped(who: Who) {
    for number in since(6) {
        let running = Running::start(number, who, &["--memory", "64m"], "");
        freeze();
        let ended = running.signal(Signal::SIGTERM);
        assert!([143, 129].contains(&ended.status), "chapter {number}: {}", ended.status);
        assert!(cgroups().is_empty(), "chapter {number}");
        // Frozen, and the runtime killed: on version 1 the container cannot even die before it is thawed.
        let running = Running::start(number, who, &["--memory", "64m"], "");
        let first = running.first();
        freeze();
        nix::sys::signal::kill(running.runtime(), Signal::SIGKILL).expect("it is alive");
        eventually("the runtime's end", || crate::support::run::children(running.runtime()).is_empty());
        says(1, who, &[], "true");
        assert!(cgroups().is_empty(), "chapter {number}");
        eventually("the container's end", || {
            let stat = fs::read_to_string(format!("/proc/{first}/stat")).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z")
        });
        drop(running);
    }
}

fn bad_limits_are_refused(who: Who) {
    for (option, value, word) in [
        ("--memory", "lots", "not a size"),
        ("--memory", "64q", "not a size"),
        ("--memory", "1m", "too little"),
        ("--memory", "-64m", "not a size"),
        ("--cpus", "0", "out of range"),
        ("--cpus", "half", "not a number"),
        ("--cpus", "-1", "not a number"),
        ("--pids-limit", "some", "not a number"),
        ("--pids-limit", "-7", "not a number"),
    ] {
        let ended = run(chapter(6, who).args([&format!("{option}={value}"), "--", "true"]));
        assert_eq!(ended.status, 2, "{option}={value}: {}", ended.err);
        assert!(ended.err.contains(word), "{option}={value}: {}", ended.err);
    }
    let ended = sh(6, who, &["--cpus", "1000"], "true");
    assert_eq!(ended.status, 125);
    assert!(ended.err.contains("this machine has no more"), "{}", ended.err);
    if who == Who::Root {
        says(6, who, &["--pids-limit", "-1"], "true");
    }
}

fn no_writable_cgroup(who: Who) {
    if is_v2() && !real_root() {
        // The lab of an ordinary user to whom a cgroup was delegated: this user's own, whatever its number.
        assert_eq!(says(6, who, &["--memory", "64m"], "echo fine"), "fine\n");
        return;
    }
    for number in since(6) {
        // No limit: no cgroup, no complaint. A limit: an error that says what to do.
        assert_eq!(says(number, who, &[], "echo fine"), "fine\n");
        for option in ["--memory=64m", "--cpus=0.5", "--pids-limit=10"] {
            let ended = sh(number, who, &[option], "echo it ran");
            assert_eq!(
                (ended.status, ended.out.as_str()),
                (125, ""),
                "chapter {number} {option}: {}",
                ended.err
            );
            assert!(ended.err.contains("remedy"), "chapter {number} {option}: {}", ended.err);
            assert!(
                ended.err.contains("could not make a cgroup"),
                "chapter {number} {option}: {}",
                ended.err
            );
        }
    }
}

fn each_layout(who: Who) {
    limits_are_in_their_units(who);
    in_the_cgroup_from_the_start(who);
    cgroup_namespace_hides_the_rest(who);
    memory_limit_kills(who);
    cgroup_is_removed(who);
}

fn no_controller(who: Who) {
    for number in since(6) {
        assert_eq!(says(number, who, &[], "echo fine"), "fine\n");
        let ended = sh(number, who, &["--memory", "64m"], "echo it ran");
        assert_eq!((ended.status, ended.out.as_str()), (125, ""), "chapter {number}: {}", ended.err);
        assert!(ended.err.contains("no cgroup controller is mounted"), "chapter {number}: {}", ended.err);
    }
}

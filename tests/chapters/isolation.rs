//! What each chapter isolates, and what it does not yet.

use std::fmt::Write;
use std::fs;

use cooperage::container::mountinfo::{self, Mounted};
use nix::unistd::Pid;
use serde_json::Value;

use crate::cgroups::is_v2;
use crate::support::run::{KINDS, Running, chapter, eventually, namespaces, real_root, run, says, sh};
use crate::support::sweep::{LESS_POWER, every, has_init, since};
use crate::support::{
    BOTH, Case, DEVTMPFS, ROOT, ROOT_ITSELF, USER, Who, compare_snapshot, is_snapshot, snapshots,
};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("namespaces_of_each_chapter", BOTH, namespaces_of_each_chapter),
        Case::new("witness_of_each_chapter", ROOT, witness_of_each_chapter)
            .needs(&["cgroup-memory", ROOT_ITSELF]),
        Case::new("witness_of_each_chapter", USER, witness_of_each_chapter)
            .needs(&["cgroup-memory", DEVTMPFS]),
        Case::new("chroot_names_nothing_outside", BOTH, chroot_names_nothing_outside),
        Case::new("chroot_hides_no_process", ROOT, chroot_hides_no_process),
        Case::new("pid_namespace_hides_the_host", BOTH, pid_namespace_hides_the_host),
        Case::new("pid_namespace_has_both_numbers", BOTH, pid_namespace_has_both_numbers),
        Case::new("proc_of_chapter_2_is_seen_by_all", ROOT, proc_of_chapter_2_is_seen_by_all),
        Case::new("proc_of_chapter_2_when_two_run", ROOT, proc_of_chapter_2_when_two_run),
    ]
}

fn suffix(who: Who) -> &'static str {
    if who == Who::Root { "root" } else { "user" }
}

/// The table of the README: which namespace is the container's own, chapter by chapter, from outside.
fn namespaces_of_each_chapter(who: Who) {
    let host = namespaces(Pid::this());
    let mut table = format!("{:<11}", "");
    for kind in host.keys() {
        write!(table, "{kind:<8}").expect("a string");
    }
    for number in every() {
        let running = Running::start(number, who, &[], "");
        let container = namespaces(running.first());
        write!(table, "\nchapter{number:02}  ").expect("a string");
        for (kind, link) in &host {
            let same = container[kind] == *link;
            write!(table, "{:<8}", if same { "host's" } else { "own" }).expect("a string");
        }
        assert_eq!(running.end().status, 0);
    }
    let table = table.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    is_snapshot(&format!("namespaces/{}", suffix(who)), &[], table);
}

/// What the witness sees: the same program, run in each chapter.
fn witness_of_each_chapter(who: Who) {
    for number in every() {
        let hostname: &[&str] = if number >= 4 { &["--hostname", "web"] } else { &[] };
        // Without a shell: each has variables of its own.
        let keys = "pid ppid ids root cwd hostname namespaces processes mounts links routes uid_map gid_map environment fds \
                    no_new_privs";
        let ended =
            run(chapter(number, who).args(hostname).args(["--", "witness"]).args(keys.split_whitespace()));
        assert_eq!((ended.status, ended.err.as_str()), (0, ""), "chapter {number}: {}", ended.out);
        // Numbered by first sight, after the lab's own: equal stays equal, and the host's is told apart.
        let mut names: Vec<(String, String)> = namespaces(Pid::this())
            .into_iter()
            .map(|(kind, link)| (link, format!("{kind}:[the host's]")))
            .collect();
        let mut text = ended.out;
        for kind in KINDS {
            let mut count = 0;
            while let Some(start) = find_raw(&text, kind) {
                let link =
                    text[start..].split(']').next().map(|link| format!("{link}]")).expect("it has an end");
                let known = names.iter().find(|(known, _)| *known == link).map(|(_, name)| name.clone());
                let name = known.unwrap_or_else(|| {
                    count += 1;
                    let name = format!("{kind}:[its own {count}]");
                    names.push((link.clone(), name.clone()));
                    name
                });
                text = text.replace(&link, &name);
            }
        }
        if number >= LESS_POWER {
            text = without_covers(&text);
        }
        let mut settings = snapshots(&[
            (r#""(device|inode)": \d+"#, "\"$1\": [varies]"),
            (r#""/[^"]*/rootfs-\w+-[0-9a-f]+([^"]*)""#, "\"[rootfs]$1\""),
            (r#"lowerdir=[^,"]*"#, "lowerdir=[rootfs]"),
            (r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}", "[mac]"),
            (r"fe80::[0-9a-f:]+", "[link-local]"),
            (r"pipe:\[\d+\]", "[pipe]"),
        ]);
        if number == 1 {
            // The host's numbers. From chapter 2 on they are its own, and always the same.
            settings.add_filter(r#""(p?pid)": \d+"#, "\"$1\": [the host's]");
        }
        // Whoever may make a cgroup sees it mounted from chapter 6 on. And an ordinary user's container sees those of
        // the lab, before chapter 5 gives it a /sys of its own.
        let may_make_one = who == Who::Root || !real_root();
        let sees_cgroups =
            if number >= 6 { may_make_one } else { (3..5).contains(&number) && who == Who::User };
        let variant = if sees_cgroups && is_v2() { "-v2" } else { "" };
        let name = format!("witness/{number:02}-{}{variant}", suffix(who));
        compare_snapshot(settings, &name, text);
    }
}

/// Which of the machine's files there are to cover, each machine has its own way: one of each kind shows for all.
fn without_covers(text: &str) -> String {
    let mut seen: Value = serde_json::from_str(text).expect("the witness's own text");
    if let Some(mounts) = seen["mounts"].as_array_mut() {
        let is_cover = |point: &str| {
            point.starts_with("/proc/") || point.starts_with("/sys/") && !point.starts_with("/sys/fs/cgroup")
        };
        let shown = |mount: &Value| {
            let point = mount["mountpoint"].as_str().unwrap_or_default();
            !is_cover(point) || ["/proc/interrupts", "/proc/sys"].contains(&point)
        };
        mounts.retain(shown);
    }
    serde_json::to_string_pretty(&seen).expect("it was text") + "\n"
}

fn find_raw(text: &str, kind: &str) -> Option<usize> {
    let prefix = format!("{kind}:[");
    text.match_indices(&prefix)
        .map(|(at, _)| at)
        .find(|at| text[at + prefix.len()..].starts_with(|c: char| c.is_ascii_digit()))
}

fn chroot_names_nothing_outside(who: Who) {
    fs::write("/tmp/outside", "the host's").expect("the lab's /tmp is writable");
    for number in since(1) {
        for path in ["/tmp/outside", "../../../../../../tmp/outside", "/../tmp/outside"] {
            let ended = sh(number, who, &[], &format!("cat {path}"));
            assert_ne!(ended.status, 0, "chapter {number} reads {path}: {}", ended.out);
            assert_eq!(ended.out, "", "chapter {number} reads {path}");
        }
        assert_eq!(says(number, who, &[], "pwd"), "/\n", "chapter {number}");
    }
}

fn chroot_hides_no_process(who: Who) {
    // There is no /proc, but a signal finds its target: this test.
    let me = Pid::this();
    assert_eq!(sh(1, who, &[], &format!("kill -0 {me}")).status, 0);
}

fn pid_namespace_hides_the_host(who: Who) {
    for number in since(2) {
        let own = if has_init(number) { "2\n" } else { "1\n" };
        assert_eq!(says(number, who, &[], "echo $$"), own, "chapter {number}");
    }
    let mut victim = std::process::Command::new("sleep").arg("1000").spawn().expect("sleep");
    for number in since(2) {
        let script = format!("kill -KILL {}; ls -d /proc/[0-9]* | wc -l", victim.id());
        let ended = sh(number, who, &[], &script);
        let most = if has_init(number) { 4 } else { 3 }; // (init,) the shell, ls, wc
        let seen: u32 = ended.out.trim().parse().expect("a number");
        assert!(seen <= most, "chapter {number} sees {seen} processes");
        assert!(ended.err.to_lowercase().contains("no such process"), "chapter {number}: {}", ended.err);
    }
    assert!(victim.try_wait().expect("a child").is_none(), "a process outside was killed");
    victim.kill().expect("a child");
    victim.wait().expect("a child");
}

fn pid_namespace_has_both_numbers(who: Who) {
    for number in since(2) {
        let running = Running::start(number, who, &[], "");
        let first = running.first();
        let status = fs::read_to_string(format!("/proc/{first}/status")).expect("readable");
        let numbers = status.lines().find(|line| line.starts_with("NSpid:")).expect("since Linux 4.1");
        assert_eq!(numbers, format!("NSpid:\t{first}\t1"), "chapter {number}");
        running.end();
    }
}

fn mounts_of_proc() -> usize {
    let is_it = |mount: &&Mounted| mount.kind == "proc" && mount.point.to_string_lossy().contains("rootfs-");
    mountinfo::here().expect("readable").iter().filter(is_it).count()
}

fn proc_of_chapter_2_is_seen_by_all(who: Who) {
    let running = Running::start(2, who, &[], "");
    assert_eq!(mounts_of_proc(), 1, "chapter 2 mounts /proc where everybody sees it");
    running.end();
    assert_eq!(mounts_of_proc(), 0, "and takes it away again");

    let running = Running::start(2, who, &[], "");
    running.signal(nix::sys::signal::Signal::SIGKILL);
    assert_eq!(mounts_of_proc(), 1, "killed, it leaves it behind");
    // The next run of any chapter; unless the killed container's process 1 is not quite dead yet.
    eventually("a run of another chapter takes it away", || {
        says(1, who, &[], "true");
        mounts_of_proc() == 0
    });

    let running = Running::start(3, who, &[], "");
    assert_eq!(mounts_of_proc(), 0, "chapter 3 mounts it in a mount namespace of its own");
    running.end();
}

fn proc_of_chapter_2_when_two_run(who: Who) {
    let first = Running::start(2, who, &[], "");
    let second = Running::start_then(2, who, &[], "cat /proc/1/comm; true");
    assert_eq!(mounts_of_proc(), 2);
    first.end();
    assert!(mounts_of_proc() >= 1, "the end of the one must not take away the /proc of the other");
    assert_eq!(second.end().out, "sh\n");
    assert_eq!(mounts_of_proc(), 0);
}

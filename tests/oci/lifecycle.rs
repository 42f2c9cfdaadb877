//! The life of a container, by the command line: what each command does in each state, and what is left when something fails.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::kit::{Bundle, give, leaves_nothing, oci, pid, runtime, say, state, status, until_stopped};
use crate::support::run::{Host, eventually};
use crate::support::{BOTH, Case, ROOT, Who};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("a_life", BOTH, a_life),
        Case::new("run_waits_and_removes", BOTH, run_waits_and_removes),
        Case::new("a_command_has_its_states", BOTH, a_command_has_its_states),
        Case::new("paused_and_resumed", ROOT, paused_and_resumed).needs(&["cgroup-freezer"]),
        Case::new("an_id_is_a_name", BOTH, an_id_is_a_name),
        Case::new("a_command_wants_an_id", BOTH, a_command_wants_an_id),
        Case::new("one_id_for_one_container", BOTH, one_id_for_one_container),
        Case::new("two_creates_of_one_id", BOTH, two_creates_of_one_id),
        Case::new("deleted_while_it_starts", BOTH, deleted_while_it_starts),
        Case::new("the_runtime_is_killed", ROOT, the_runtime_is_killed),
        Case::new("the_state_is_the_truth", BOTH, the_state_is_the_truth),
        Case::new("a_number_that_is_anothers_now", ROOT, a_number_that_is_anothers_now),
        Case::new("what_changes_later_is_nothing_to_it", BOTH, what_changes_later_is_nothing_to_it),
        Case::new("every_signal", BOTH, every_signal),
        Case::new("killed_with_all", ROOT, killed_with_all).needs(&["cgroup-pids"]),
        Case::new("list_and_ps", BOTH, list_and_ps),
        Case::new("again_and_again", BOTH, again_and_again),
        Case::new("what_is_wrong_in_config", BOTH, what_is_wrong_in_config),
        Case::new("what_is_not_there", BOTH, what_is_not_there),
        Case::new("somebody_elses_cgroup", ROOT, somebody_elses_cgroup).needs(&["cgroup-pids"]),
        Case::new("errors_in_the_log", BOTH, errors_in_the_log),
    ]
}

/// created, running, stopped, and nothing left.
fn a_life(who: Who) {
    let bundle = Bundle::sh(who, "a", "echo it runs; sleep 1000")
        .set("/annotations", json!({"org.example.key": "value"}));
    leaves_nothing("a life", || {
        let said = bundle.create("one").good();
        let now = state(who, "one");
        assert_eq!(now["ociVersion"], bundle.config["ociVersion"]);
        assert_eq!((&now["id"], &now["status"]), (&"one".into(), &"created".into()));
        assert_eq!(now["bundle"], "/tmp/bundles/a");
        assert_eq!(now["annotations"]["org.example.key"], "value");
        let first = pid(who, "one");
        assert!(Path::new(&format!("/proc/{first}/ns")).exists());
        assert_eq!(said.out_now(), "", "it runs before it was started");

        oci(who, &["start", "one"]).good();
        assert_eq!(status(who, "one"), "running");
        assert_eq!(pid(who, "one"), first, "another process");
        eventually("its word", || said.out_now() == "it runs\n");

        oci(who, &["kill", "one", "KILL"]).good();
        until_stopped(who, "one");
        assert_eq!(state(who, "one")["pid"], 0);
        oci(who, &["delete", "one"]).good();
        oci(who, &["state", "one"]).bad(125, "does not exist");
    });
}

/// `run` has the status of the command, and nothing stays; with --keep it stays.
fn run_waits_and_removes(who: Who) {
    let bundle = Bundle::sh(who, "a", "echo out; echo err >&2; exit 42");
    let other = |name: &str, args: &[&str]| Bundle::new(who, name, args);
    let killed = Bundle::sh(who, "b", "kill -9 $$");
    let (missing, unfound, directory) =
        (other("c", &["/no/such"]), other("d", &["no-such"]), other("e", &["/etc"]));
    leaves_nothing("run", || {
        let said = bundle.run("one");
        assert_eq!((said.status, said.out.as_str(), said.err.as_str()), (42, "out\n", "err\n"));
        let said = say(&mut bundle.command("run", &["--keep"], "one"));
        assert_eq!((said.status, status(who, "one").as_str()), (42, "stopped"));
        oci(who, &["delete", "one"]).good();
        // A shell that is process 1 can't kill itself.
        assert_eq!(killed.run("one").status, 0);
        missing.run("one").bad(127, "no such file or directory");
        unfound.run("one").bad(127, "executable file not found in $PATH");
        directory.run("one").bad(126, "is a directory");
    });
}

/// Each command in each state: what it may not do is an error, and changes nothing.
fn a_command_has_its_states(who: Who) {
    // Of each command: none, created, running, stopped.
    let table: &[(&[&str], [bool; 4])] = &[
        (&["state"], [false, true, true, true]),
        (&["start"], [false, true, false, false]),
        (&["kill", "@", "CONT"], [false, true, true, false]),
        (&["ps"], [false, true, true, true]),
        (&["pause"], [false, who == Who::Root, who == Who::Root, false]),
        (&["resume"], [false, false, false, false]),
        // An ordinary user may not look at a process that still is the runtime's.
        (&["exec", "@", "/bin/true"], [false, who == Who::Root, true, false]),
        (&["update", "@", "--cpu-share", "0"], [false, true, true, false]),
        (&["events", "--stats"], [false, true, true, false]),
        (&["delete"], [false, true, false, true]),
        (&["delete", "--force"], [true, true, true, true]),
    ];
    let bundle = Bundle::idle(who, "a");
    for (line, may) in table {
        for (index, name) in ["none", "created", "running", "stopped"].into_iter().enumerate() {
            if name != "none" {
                bundle.create("one").good();
            }
            if index >= 2 {
                oci(who, &["start", "one"]).good();
            }
            if index >= 3 {
                oci(who, &["kill", "one", "9"]).good();
                until_stopped(who, "one");
            }
            let mut line: Vec<&str> =
                line.iter().map(|word| if *word == "@" { "one" } else { word }).collect();
            if !line.contains(&"one") {
                line.push("one");
            }
            let before = Host::now();
            let said = oci(who, &line);
            assert_eq!(said.status == 0, may[index], "{line:?}, {name}: {} {}", said.status, said.err);
            if !may[index] {
                assert_eq!(said.status, 125, "{line:?}, {name}: {}", said.err);
                assert!(said.err.starts_with("chapter10: "), "{line:?}, {name}: {}", said.err);
                Host::now().must_be(&before, &format!("{line:?}, {name}"));
                if name != "none" {
                    assert_eq!(status(who, "one"), name, "{line:?}");
                }
            }
            oci(who, &["delete", "--force", "one"]).good();
        }
    }
}

/// A paused container stands still; what a paused one can't do is an error; it can be killed and deleted.
fn paused_and_resumed(who: Who) {
    let bundle = Bundle::sh(who, "a", "while :; do echo; sleep 0.01; done");
    leaves_nothing("pause and resume", || {
        let up = bundle.up("one");
        eventually("a line", || !up.said.out_now().is_empty());
        oci(who, &["pause", "one"]).good();
        assert_eq!(status(who, "one"), "paused");
        let lines = up.said.out_now().len();
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(up.said.out_now().len(), lines, "it goes on");
        for line in
            [&["pause", "one"][..], &["start", "one"], &["delete", "one"], &["exec", "one", "/bin/true"]]
        {
            oci(who, line).bad(125, "it is paused");
        }
        oci(who, &["resume", "one"]).good();
        assert_eq!(status(who, "one"), "running");
        eventually("another line", || up.said.out_now().len() > lines);
        oci(who, &["resume", "one"]).bad(125, "it is running");
        oci(who, &["pause", "one"]).good();
        oci(who, &["kill", "one", "KILL"]).good();
        until_stopped(who, "one");
        oci(who, &["delete", "one"]).good();
        let up = bundle.up("two");
        oci(who, &["pause", "two"]).good();
        drop(up);
    });
}

fn an_id_is_a_name(who: Who) {
    let bundle = Bundle::idle(who, "a");
    leaves_nothing("wrong names", || {
        for id in ["", ".", "..", "a/b", "/tmp", "../x", "a b", "a\n", "\u{fc}", &"x".repeat(2000)] {
            for command in ["state", "start", "kill", "delete", "ps", "pause", "resume", "events"] {
                oci(who, &[command, id]).bad(125, "name a container");
            }
            bundle.create(id).bad(125, "name a container");
            bundle.run(id).bad(125, "name a container");
        }
        for id in ["a", "A_b+c.d-e", "0", "..."] {
            bundle.create(id).good();
            assert_eq!(state(who, id)["id"], id);
            oci(who, &["delete", id]).good();
        }
    });
}

fn a_command_wants_an_id(who: Who) {
    for command in
        ["create", "start", "state", "kill", "delete", "run", "exec", "ps", "pause", "resume", "update"]
    {
        let said = oci(who, &[command]);
        assert_eq!(said.status, 2, "{command}: {}", said.err);
        assert!(said.err.contains("<ID>"), "{command}: {}", said.err);
    }
    assert_eq!(oci(who, &[]).status, 2);
    assert_eq!(oci(who, &["no-such-command"]).status, 2);
    oci(who, &["checkpoint", "one"]).bad(125, "does not do that");
}

/// An ID that is taken stays with the container that has it.
fn one_id_for_one_container(who: Who) {
    let (one, other) = (Bundle::idle(who, "a"), Bundle::sh(who, "b", "true"));
    let up = one.up("one");
    let (before, first) = (Host::now(), pid(who, "one"));
    other.create("one").bad(125, "already exists");
    other.run("one").bad(125, "already exists");
    Host::now().must_be(&before, "a second one of that name");
    assert_eq!((pid(who, "one"), status(who, "one").as_str()), (first, "running"));
    drop(up);
    other.run("one").good();
}

/// Of two who create the same at the same time one gets it, and the other leaves nothing.
fn two_creates_of_one_id(who: Who) {
    let bundle = Bundle::idle(who, "a");
    leaves_nothing("20 times two creates", || {
        for _ in 0..20 {
            let all: Vec<_> = std::thread::scope(|scope| {
                let tries: Vec<_> = (0..2).map(|_| scope.spawn(|| bundle.create("one"))).collect();
                tries.into_iter().map(|thread| thread.join().expect("no panic")).collect()
            });
            let good = all.iter().filter(|said| said.status == 0).count();
            let bad = all.iter().find(|said| said.status != 0).expect("one has failed");
            assert_eq!((good, bad.status), (1, 125), "{}", bad.err);
            assert!(bad.err.contains("already exists"), "{}", bad.err);
            assert_eq!(status(who, "one"), "created");
            oci(who, &["start", "one"]).good();
            oci(who, &["delete", "--force", "one"]).good();
        }
    });
}

/// Whoever comes first: no container is left, nobody hangs, and what fails says why.
fn deleted_while_it_starts(who: Who) {
    let bundle = Bundle::idle(who, "a");
    leaves_nothing("20 deletes during start", || {
        for round in 0..20_u64 {
            bundle.create("one").good();
            let (started, deleted) = std::thread::scope(|scope| {
                let starts = scope.spawn(|| oci(who, &["start", "one"]));
                std::thread::sleep(Duration::from_micros(round * 300));
                let deleted = oci(who, &["delete", "--force", "one"]);
                (starts.join().expect("no panic"), deleted)
            });
            deleted.good();
            if started.status != 0 {
                started.bad(125, "one");
            }
            oci(who, &["state", "one"]).bad(125, "does not exist");
        }
    });
}

/// At any moment of `create` the runtime can be killed. What it leaves is removed by `delete --force`, `list` works meanwhile, and
/// nothing of the container goes on.
fn the_runtime_is_killed(who: Who) {
    let bundle = Bundle::idle(who, "a").set("/linux/resources/pids", json!({"limit": 100}));
    let all = std::env::var_os("COOPERAGE_SWEEP").is_some_and(|asked| asked == "all");
    let stride = if all { 1 } else { 23 };
    leaves_nothing("killed runtimes", || {
        let mut moment = 1;
        loop {
            let ended = killed_at_call(bundle.command("create", &[], "one"), moment);
            let list = oci(who, &["list", "--format", "json"]).good();
            let list: Vec<Value> = serde_json::from_str(&list.out).expect("JSON");
            assert!(list.len() <= 1);
            if let Some(found) = list.first() {
                assert!(
                    ["creating", "created", "stopped"].contains(&found["status"].as_str().expect("a text")),
                    "{found}"
                );
            }
            let _ = oci(who, &["state", "one"]);
            oci(who, &["delete", "--force", "one"]).good();
            oci(who, &["state", "one"]).bad(125, "does not exist");
            if ended {
                break;
            }
            moment += stride;
        }
        assert!(moment > 200, "{moment} system calls are too few for all this");
    });
}

/// Runs it up to this stop before or after a system call, and kills it there. Has it come to its end before?
fn killed_at_call(mut command: Command, moment: u32) -> bool {
    use std::os::unix::process::CommandExt;
    command.stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: one system call between fork and exec.
    unsafe { command.pre_exec(|| Ok(ptrace::traceme()?)) };
    #[allow(clippy::zombie_processes)] // waited for below, by its number
    let child = command.spawn().expect("the runtime starts");
    let traced = Pid::from_raw(child.id() as i32);
    let mut signal = None;
    let mut seen = 0;
    waitpid(traced, None).expect("stopped by exec");
    loop {
        ptrace::syscall(traced, signal.take()).expect("it goes on");
        match waitpid(traced, None).expect("it is our child") {
            WaitStatus::Exited(..) => return true,
            WaitStatus::Signaled(..) => return false,
            WaitStatus::Stopped(_, Signal::SIGTRAP) => {
                seen += 1;
                if seen == moment {
                    kill(traced, Signal::SIGKILL).expect("it is there");
                    waitpid(traced, None).expect("it is our child");
                    return false;
                }
            }
            WaitStatus::Stopped(_, other) => signal = Some(other),
            other => panic!("{other:?}"),
        }
    }
}

/// A process that has ended by itself or by others: its container is stopped, whoever asks.
fn the_state_is_the_truth(who: Who) {
    let bundle = Bundle::idle(who, "a");
    for started in [false, true] {
        bundle.create("one").good();
        if started {
            oci(who, &["start", "one"]).good();
        }
        kill(Pid::from_raw(pid(who, "one")), Signal::SIGKILL).expect("it is there");
        until_stopped(who, "one");
        assert_eq!(state(who, "one")["pid"], 0);
        let list = oci(who, &["list", "--format", "json"]).good();
        let list: Value = serde_json::from_str(&list.out).expect("JSON");
        assert_eq!((&list[0]["status"], &list[0]["pid"]), (&json!("stopped"), &json!(0)));
        oci(who, &["kill", "one"]).bad(125, "container not running");
        oci(who, &["start", "one"]).bad(125, "stopped");
        oci(who, &["delete", "one"]).good();
    }
}

/// The number of a process that has ended is given to another one, which is neither shown nor killed.
fn a_number_that_is_anothers_now(who: Who) {
    let bundle = Bundle::idle(who, "a");
    bundle.create("one").good();
    oci(who, &["start", "one"]).good();
    let number = pid(who, "one");
    oci(who, &["kill", "one", "KILL"]).good();
    until_stopped(who, "one");
    eventually("the number is free", || !Path::new(&format!("/proc/{number}")).exists());
    // In the lab's PID namespace nobody else is in a hurry.
    let mut other = loop {
        fs::write("/proc/sys/kernel/ns_last_pid", (number - 1).to_string()).expect("root's to say");
        let mut child = Command::new("/bin/sleep").arg("1000").spawn().expect("sleep");
        if child.id() as i32 == number {
            break child;
        }
        child.kill().and_then(|()| child.wait()).expect("our child");
    };
    assert_eq!(status(who, "one"), "stopped");
    assert_eq!(state(who, "one")["pid"], 0);
    oci(who, &["kill", "one", "KILL"]).bad(125, "container not running");
    let _ = oci(who, &["kill", "--all", "one", "KILL"]);
    oci(who, &["exec", "one", "/bin/true"]).bad(125, "it is stopped");
    oci(who, &["delete", "--force", "one"]).good();
    assert_eq!(other.try_wait().expect("our child"), None, "it was killed");
    other.kill().and_then(|()| other.wait()).expect("our child");
}

/// config.json may change, or go, once a container was created.
fn what_changes_later_is_nothing_to_it(who: Who) {
    let bundle = Bundle::sh(who, "a", "echo as it was; sleep 1000");
    let up = bundle.create("one").good();
    let bundle = bundle
        .set("/process/args", json!(["/bin/sh", "-c", "echo other"]))
        .set("/process/env", json!(["PATH=/no"]));
    oci(who, &["start", "one"]).good();
    eventually("its word", || up.out_now() == "as it was\n");
    assert!(oci(who, &["exec", "one", "env"]).good().out.contains("PATH=/usr/local/sbin"));
    fs::remove_dir_all(&bundle.directory).expect("removed");
    assert!(oci(who, &["exec", "one", "env"]).good().out.contains("PATH=/usr/local/sbin"));
    assert_eq!(status(who, "one"), "running");
    oci(who, &["delete", "--force", "one"]).good();
}

/// By name or by number, with and without SIG, realtime signals as well.
fn every_signal(who: Who) {
    let script = "for s in USR1 HUP TERM 37 64; do trap \"echo $s\" $s; done; echo ready; while :; do sleep 0.01; done";
    let up = Bundle::sh(who, "a", script).up("one");
    up.until("ready");
    for (signal, word) in [
        ("USR1", "USR1"),
        ("SIGUSR1", "USR1"),
        ("usr1", "USR1"),
        ("10", "USR1"),
        ("1", "HUP"),
        ("37", "37"),
        ("SIGRTMIN+3", "37"),
        ("RTMAX", "64"),
    ] {
        let before = up.said.out_now().len();
        oci(who, &["kill", "one", signal]).good();
        eventually(word, || up.said.out_now()[before..].contains(&format!("{word}\n")));
    }
    let before = up.said.out_now().len();
    oci(who, &["kill", "one"]).good(); // SIGTERM is what is meant without a word
    eventually("TERM", || up.said.out_now()[before..].contains("TERM\n"));
    oci(who, &["kill", "one", "0"]).good(); // asks whether it is there
    for signal in ["NOSUCH", "65", "-1", "", "RTMIN+99"] {
        let said = oci(who, &["kill", "one", signal]);
        assert!([2, 125].contains(&said.status), "{signal}: {}", said.err);
    }
    assert_eq!(status(who, "one"), "running");
}

/// Every process of a container without a PID namespace of its own.
fn killed_with_all(who: Who) {
    let bundle = Bundle::sh(who, "a", "sleep 1001 & sleep 1002 & wait")
        .without_namespace("pid")
        .without_mount("/proc");
    let bundle = bundle.mount("/proc", "/proc", "none", &["rbind"]);
    let bundle = bundle.set("/linux/maskedPaths", json!([])).set("/linux/readonlyPaths", json!([]));
    leaves_nothing("kill --all", || {
        let up = bundle.up("one");
        let processes = || -> Vec<i32> {
            let said = oci(who, &["ps", "--format", "json", "one"]).good();
            serde_json::from_str(&said.out).expect("numbers")
        };
        eventually("three processes", || processes().len() == 3);
        oci(who, &["kill", "--all", "one", "KILL"]).good();
        until_stopped(who, "one");
        eventually("nobody", || processes().is_empty());
        drop(up);
        // Without --all the first alone is asked, and delete ends the others.
        let up = bundle.up("one");
        eventually("three processes", || processes().len() == 3);
        oci(who, &["kill", "one", "TERM"]).good();
        until_stopped(who, "one");
        assert_eq!(processes().len(), 2);
        oci(who, &["delete", "one"]).good();
        drop(up);
    });
}

fn list_and_ps(who: Who) {
    let (one, two) = (Bundle::idle(who, "a"), Bundle::idle(who, "b"));
    assert_eq!(oci(who, &["list", "--quiet"]).good().out, "");
    assert_eq!(oci(who, &["list", "--format", "json"]).good().out.trim(), "[]");
    let (_two, _one) = (two.up("two"), one.up("one"));
    assert_eq!(oci(who, &["list", "-q"]).good().out, "one\ntwo\n");
    let list: Value = serde_json::from_str(&oci(who, &["list", "-f", "json"]).good().out).expect("JSON");
    assert_eq!(list.as_array().map(Vec::len), Some(2));
    assert_eq!((&list[0]["id"], &list[0]["bundle"]), (&json!("one"), &json!("/tmp/bundles/a")));
    let table = oci(who, &["list"]).good().out;
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    assert_eq!((rows.len(), rows[1][0], rows[2][0]), (3, "one", "two"));
    let numbers: Vec<i32> =
        serde_json::from_str(&oci(who, &["ps", "-f", "json", "one"]).good().out).expect("numbers");
    assert_eq!(numbers, [pid(who, "one")]);
    let table = oci(who, &["ps", "one"]).good().out;
    assert_eq!(table.lines().count(), 2, "{table}");
    assert!(table.contains("sleep 1000"), "{table}");
    // Elsewhere noted, elsewhere known.
    assert_eq!(oci(who, &["--root", "/tmp/nowhere", "list", "-q"]).good().out, "");
    oci(who, &["--root", "/tmp/nowhere", "state", "one"]).bad(125, "does not exist");
}

/// 1000 of them with COOPERAGE_SWEEP=all.
fn again_and_again(who: Who) {
    let count = if std::env::var_os("COOPERAGE_SWEEP").is_some() { 1000 } else { 30 };
    let bundle = Bundle::new(who, "a", &["/bin/true"]);
    leaves_nothing("many containers", || {
        for _ in 0..count {
            bundle.create("one").good();
            oci(who, &["start", "one"]).good();
            until_stopped(who, "one");
            oci(who, &["delete", "one"]).good();
            bundle.run("two").good();
        }
    });
}

/// Each has one wrong field: its name is in the message, the status is 125, and nothing was made.
fn what_is_wrong_in_config(who: Who) {
    let table: &[(&str, Value, &str)] = &[
        ("/ociVersion", json!("2.0.0"), "ociVersion"),
        ("/ociVersion", json!("one"), "ociVersion"),
        ("/ociVersion", json!(1), "ociVersion"),
        ("/root", json!({"path": "/no/such"}), "root.path"),
        ("/root", json!({"path": "/"}), "root.path"),
        ("/root", json!({"path": "/etc/passwd"}), "root.path"),
        ("/process/args", json!([]), "process.args"),
        ("/process/args", json!([""]), "process.args"),
        ("/process/args", json!("sh"), "args"),
        ("/process/args", json!(["a\u{0}b"]), "zero byte"),
        ("/process/env", json!(["A=\u{0}"]), "zero byte"),
        ("/process/cwd", json!("tmp"), "process.cwd"),
        ("/process/cwd", json!(""), "process.cwd"),
        ("/process/user", json!({"uid": -1, "gid": 0}), "uid"),
        ("/process/rlimits", json!([{"type": "RLIMIT_NOSUCH", "soft": 1, "hard": 1}]), "RLIMIT_NOSUCH"),
        ("/process/rlimits", json!([{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}]), "process.rlimits"),
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_CORE", "soft": 1, "hard": 1}, {"type": "RLIMIT_CORE", "soft": 1, "hard": 1}]),
            "process.rlimits",
        ),
        ("/process/apparmorProfile", json!("no such profile"), "process.apparmorProfile"),
        ("/process/selinuxLabel", json!("u:r:t:s0"), "process.selinuxLabel"),
        ("/process/scheduler", json!({"policy": "SCHED_NOSUCH"}), "SCHED_NOSUCH"),
        ("/process/ioPriority", json!({"class": "NOSUCH", "priority": 1}), "NOSUCH"),
        ("/hostname", json!(5), "hostname"),
        ("/hostname", json!("x".repeat(65)), "name of its own"),
        ("/mounts/0", json!({"destination": ""}), "mounts"),
        ("/mounts/0", json!({"destination": "/tmp", "type": "nosuchfs", "source": "x"}), "/tmp"),
        ("/mounts/0", json!({"destination": "/tmp", "type": "bind", "source": "/no/such"}), "/tmp"),
        ("/mounts/0", json!({"destination": "/tmp", "type": "bind"}), "/tmp"),
        ("/mounts/0", json!({"destination": "/tmp", "type": "tmpfs", "options": ["nosuchoption"]}), "/tmp"),
        ("/linux/namespaces/0", json!({"type": "nosuch"}), "nosuch"),
        ("/linux/namespaces/0", json!({"type": "uts"}), "linux.namespaces: uts"),
        ("/linux/namespaces/0", json!({"type": "pid", "path": "proc/self/ns/pid"}), "linux.namespaces: pid"),
        ("/linux/namespaces/0", json!({"type": "pid", "path": "/no/such"}), "linux.namespaces: pid"),
        ("/linux/namespaces/0", json!({"type": "pid", "path": "/proc/self/ns/net"}), "another kind"),
        ("/linux/namespaces/0", json!({"type": "pid", "path": "/etc/passwd"}), "is no namespace"),
        ("/linux/timeOffsets", json!({"monotonic": {"secs": 1}}), "linux.timeOffsets"),
        ("/linux/devices", json!([{"path": "/dev/x", "type": "a"}]), "linux.devices: /dev/x"),
        (
            "/linux/devices",
            json!([{"path": "/dev/x", "type": "c", "major": -1, "minor": 1}]),
            "linux.devices: /dev/x",
        ),
        ("/linux/cgroupsPath", json!("/a/../../b"), "linux.cgroupsPath"),
        ("/linux/sysctl", json!({"kernel.core_pattern": "|/x"}), "linux.sysctl: kernel.core_pattern"),
        ("/linux/sysctl", json!({"net/../kernel/core_pattern": "|/x"}), "linux.sysctl"),
        ("/linux/sysctl", json!({"kernel.hostname": "x"}), "linux.sysctl"),
        ("/linux/maskedPaths", json!(["proc/x"]), "linux.maskedPaths"),
        ("/linux/readonlyPaths", json!(["proc/x"]), "does not begin with /"),
        ("/linux/rootfsPropagation", json!("sideways"), "linux.rootfsPropagation"),
        ("/linux/intelRdt", json!({"closID": "x"}), "linux.intelRdt"),
        ("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_NOSUCH"}), "SCMP_ACT_NOSUCH"),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]}),
            "linux.seccomp.listenerPath",
        ),
        ("/linux/resources", json!({"pids": {"limit": "many"}}), "limit: invalid type"),
        ("/linux/resources", json!({"unified": {"../x": "1"}}), "linux.resources.unified"),
        (
            "/linux/resources",
            json!({"hugepageLimits": [{"pageSize": "../x", "limit": 1}]}),
            "linux.resources.hugepageLimits",
        ),
    ];
    let bundle = Bundle::idle(who, "a");
    let good = bundle.config.clone();
    for (pointer, value, words) in table {
        let mut bundle = Bundle { who, directory: bundle.directory.clone(), config: good.clone() };
        bundle = bundle.set(pointer, value.clone());
        leaves_nothing(&format!("{pointer} = {value}"), || {
            let said = bundle.create("one");
            assert!(
                said.status == 125 && said.err.contains(words),
                "{pointer} = {value}: {} {}",
                said.status,
                said.err
            );
        });
    }
    for pointer in ["/root", "/process", "/process/cwd", "/ociVersion"] {
        let bundle =
            Bundle { who, directory: bundle.directory.clone(), config: good.clone() }.without(pointer);
        leaves_nothing(pointer, || {
            let name = pointer.rsplit('/').next().expect("a name");
            bundle.create("one").bad(125, name);
        });
    }
    // What nobody knows is passed over.
    let bundle = Bundle { who, directory: bundle.directory.clone(), config: good }
        .set("/org.example", json!({"a": [1, 2]}))
        .set("/process/args", json!(["/bin/true"]))
        .set("/process/noSuchField", json!(1))
        .set("/linux/noSuchField", json!(1))
        .set("/annotations", json!({"": "", "no.such.key": "x"}));
    bundle.run("one").good();
}

/// No config.json, half of one, no bundle.
fn what_is_not_there(who: Who) {
    let bundle = Bundle::idle(who, "a");
    let directory = bundle.directory.to_str().expect("text").to_string();
    fs::create_dir_all("/tmp/bundles/empty").expect("new");
    leaves_nothing("no bundle", || {
        oci(who, &["create", "-b", "/no/such", "one"]).bad(125, "find the bundle");
        oci(who, &["create", "-b", "/tmp/bundles/empty", "one"]).bad(125, "config.json");
        oci(who, &["create", "-b", "/etc/passwd", "one"]).bad(125, "config.json");
        fs::write(bundle.directory.join("config.json"), "{\"ociVersion\": ").expect("written");
        oci(who, &["create", "-b", &directory, "one"]).bad(125, "config.json");
        fs::write(bundle.directory.join("config.json"), "").expect("written");
        oci(who, &["create", "-b", &directory, "one"]).bad(125, "config.json");
    });
}

/// A cgroup that is not empty belongs to others: who is in it stays alive, and the top of all cgroups is nobody's.
fn somebody_elses_cgroup(who: Who) {
    let one = Bundle::idle(who, "a").set("/linux/cgroupsPath", json!("/test/shared"));
    let up = one.up("one");
    let first = up.pid();
    let two = Bundle::idle(who, "b").set("/linux/cgroupsPath", json!("/test/shared"));
    let before = Host::now();
    two.create("two").bad(125, "linux.cgroupsPath");
    // Above another's: to remove it would remove that one.
    two.set("/linux/cgroupsPath", json!("/test")).create("two").bad(125, "linux.cgroupsPath");
    let top = Bundle::idle(who, "b");
    for path in ["/", ".", "//", "/./"] {
        let top = Bundle { who, directory: top.directory.clone(), config: top.config.clone() };
        top.set("/linux/cgroupsPath", json!(path)).create("two").bad(125, "linux.cgroupsPath");
    }
    Host::now().must_be(&before, "containers in others' cgroups");
    assert_eq!((status(who, "one").as_str(), pid(who, "one")), ("running", first));
    drop(up);
}

/// A client reads what went wrong from a file, as text or as JSON, and what is in it stays.
fn errors_in_the_log(who: Who) {
    let log = Path::new("/tmp/log");
    fs::File::create(log).and_then(|mut file| file.write_all(b"before\n")).expect("new");
    give(log, who);
    oci(who, &["--log", "/tmp/log", "--log-format", "json", "start", "no-such"]).bad(125, "does not exist");
    oci(who, &["--log", "/tmp/log", "--log-format=text", "start", "no-such"]).bad(125, "does not exist");
    let text = fs::read_to_string(log).expect("readable");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines.len(), lines[0]), (3, "before"), "{text}");
    let line: Value = serde_json::from_str(lines[1]).expect("JSON");
    assert_eq!(line["level"], "error");
    assert!(line["msg"].as_str().is_some_and(|text| text.contains("does not exist")), "{line}");
    assert!(line["time"].as_str().is_some_and(|text| text.ends_with('Z')), "{line}");
    assert!(lines[2].contains("level=error msg=\"") && lines[2].contains("does not exist"), "{text}");
    // In any place of the line, as clients write them.
    assert_eq!(say(runtime(who).args(["list", "--log", "/tmp/log", "-q"])).good().out, "");
}

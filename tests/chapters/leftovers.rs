//! Nothing stays behind: after a normal end, after SIGKILL at any moment, after many at once.

use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::run::{Host, Running, chapter, eventually, processes, program, run, says};
use crate::support::sweep::{NEWEST, since, since_each_kind_of_root};
use crate::support::{BOTH, Case, Who};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("nothing_is_left_after_a_normal_end", BOTH, nothing_is_left_after_a_normal_end),
        Case::new("nothing_is_left_after_sigterm", BOTH, nothing_is_left_after_sigterm),
        Case::new("nothing_is_left_after_sigkill", BOTH, nothing_is_left_after_sigkill),
        Case::new("sweeping_spares_the_living", BOTH, sweeping_spares_the_living),
        Case::new("twenty_at_once", BOTH, twenty_at_once),
        Case::new("many_dead_among_many_living", BOTH, many_dead_among_many_living),
        Case::new("doctor_cleans", BOTH, doctor_cleans),
    ]
}

/// What a chapter makes once and keeps: the assembled rootfs and the place for notes.
fn settle(who: Who) -> Host {
    for number in since_each_kind_of_root() {
        says(number, who, &[], "true");
    }
    Host::now()
}

fn nothing_is_left_after_a_normal_end(who: Who) {
    let before = settle(who);
    for number in since_each_kind_of_root() {
        // At once: no waiting here.
        says(number, who, &[], "true");
        Host::now().must_be(&before, &format!("chapter {number}"));
    }
}

fn nothing_is_left_after_sigterm(who: Who) {
    let before = settle(who);
    for number in since_each_kind_of_root() {
        Running::start(number, who, &[], "").signal(Signal::SIGTERM);
        eventually("the end of the last process", || Host::now().processes == before.processes);
        Host::now().must_be(&before, &format!("SIGTERM to chapter {number}"));
    }
}

fn nothing_is_left_after_sigkill(who: Who) {
    let before = settle(who);
    for number in since(3) {
        for round in 0..50u64 {
            let mut child = chapter(number, who)
                .args(["--", "sh", "-c", "sleep 1000 & (setsid sleep 1000 &) ; sleep 1000"])
                .stdin(Stdio::null())
                .spawn()
                .expect("the program starts");
            // Spread over the whole start and a bit beyond, in an order that jumps about.
            std::thread::sleep(Duration::from_micros((round * 37 % 50) * 500));
            kill(Pid::from_raw(child.id() as i32), Signal::SIGKILL).expect("it is alive");
            child.wait().expect("it ends");
            // The container dies with its runtime: nobody has to kill it.
            eventually("the container's end", || processes() == before.processes);
        }
        says(1, who, &[], "true");
        eventually("the kernel's own clearing up", || Host::now().links == before.links);
        Host::now().must_be(&before, &format!("50 times SIGKILL to chapter {number} and a run of chapter 1"));
    }
}

fn sweeping_spares_the_living(who: Who) {
    super::mounts::directory("/tmp/work", who);
    let before = settle(who);
    let living = Running::start_then(
        NEWEST,
        who,
        &["--upper", "/tmp/work/upper"],
        "echo still here > /kept; cat /kept; ls -d /proc/1",
    );
    let dead = Running::start(NEWEST, who, &["--upper", "/tmp/work/other"], "");
    dead.signal(Signal::SIGKILL);
    for number in since(1) {
        says(number, who, &[], "true");
    }
    let cleaned = run(program("doctor", who).arg("--clean"));
    assert_eq!(cleaned.status, 0, "{}", cleaned.err);
    let ended = living.end();
    assert_eq!((ended.out.as_str(), ended.status), ("still here\n/proc/1\n", 0), "{}", ended.err);
    std::fs::remove_dir_all("/tmp/work").expect("removable");
    eventually("the kernel's own clearing up", || Host::now().links == before.links);
    let mut before = before;
    before.files.retain(|path| !path.starts_with("/tmp/work"));
    Host::now().must_be(&before, "living and dead containers");
}

fn twenty_at_once(who: Who) {
    let before = settle(who);
    for number in since(3) {
        let mut all: Vec<_> = (0..20)
            .map(|index| {
                chapter(number, who)
                    .args([
                        "--",
                        "sh",
                        "-c",
                        &format!("echo {index} > /own; sleep 0.2; cat /own; hostname > /dev/null"),
                    ])
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .spawn()
                    .expect("the program starts")
            })
            .collect();
        for (index, child) in all.drain(..).enumerate() {
            let output = child.wait_with_output().expect("it ends");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(
                String::from_utf8_lossy(&output.stdout),
                format!("{index}\n"),
                "chapter {number}: {said}"
            );
            assert_eq!(output.status.code(), Some(0), "chapter {number}: {said}");
        }
        // The last container takes the bridge away; the kernel the cables of the others, some moments later.
        eventually("the kernel's own clearing up", || Host::now().links == before.links);
        Host::now().must_be(&before, &format!("twenty of chapter {number}"));
    }
}

/// A start looks at some of the notes only. But the next ones look at others.
fn many_dead_among_many_living(who: Who) {
    let at_rest = settle(who);
    let start = || Running::start(5, who, &[], "");
    let living: Vec<_> = (0..20).map(|_| start()).collect();
    let before = Host::now();
    for dead in (0..20).map(|_| start()).collect::<Vec<_>>() {
        dead.signal(Signal::SIGKILL);
    }
    assert_ne!(Host::now().files, before.files, "the dead have left nothing");
    let starts = (1..=100).find(|_| {
        says(1, who, &[], "true");
        Host::now().files == before.files
    });
    assert!(starts.is_some(), "after 100 starts there still is something of the dead");
    for running in living {
        assert_eq!(running.end().status, 0);
    }
    eventually("the kernel's own clearing up", || Host::now().links == at_rest.links);
    Host::now().must_be(&at_rest, "many dead among many living");
}

fn doctor_cleans(who: Who) {
    let before = settle(who);
    let running = Running::start(NEWEST, who, &[], "");
    running.signal(Signal::SIGKILL);
    eventually("the container's end", || processes() == before.processes);
    let cleaned = run(program("doctor", who).arg("--clean"));
    assert_eq!(cleaned.status, 0, "{}", cleaned.err);
    eventually("the kernel's own clearing up", || Host::now().links == before.links);
    Host::now().must_be(&before, "doctor --clean");
    let again = run(program("doctor", who).arg("--clean"));
    assert!(again.out.contains("nothing"), "{}", again.out);
}

//! The checks of chapter 2.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use cooperage::container::capability::Capability;
use cooperage::container::mountinfo::Mounted;

use crate::check::{Check, Failure, Session, Trial, descendants, namespace, status_of};

/// In the order of the tasks.
pub const CHECKS: &[Check] = &[
    Check {
        task: "2.1",
        explain: "The command prints its own process id, and that of a process that it starts. Then the \
                  command's PID namespace is compared with the program's, from outside in /proc/PID/ns/pid.",
        needs: &["chroot", "pid-namespace"],
        run: number_one,
    },
    Check {
        task: "2.2",
        explain: "The command lists the numbers in its /proc. The host's mounts are compared before and after \
                  four runs: of a command that succeeds, one that fails, one that is not found, and one that \
                  is killed by SIGKILL from outside.",
        needs: &["chroot", "pid-namespace"],
        run: own_proc,
    },
    Check {
        task: "2.3",
        explain: "The grader makes two containers whose processes have random numbers. `--names PID` is asked for \
                  the processes of one of them, by its first process and by another, and what it prints is \
                  compared with NSpid in /proc/PID/status.",
        needs: &["pid-namespace"],
        run: names,
    },
    Check {
        task: "2.4",
        explain: "The program's exit status is looked at after four ends of the command: with 0, with a random \
                  status, killed by SIGKILL from outside, and killed by the kernel with SIGSEGV.",
        needs: &["chroot", "pid-namespace"],
        run: ending,
    },
];

fn number_one(trial: &mut Trial) -> Result<(), Failure> {
    trial.set_variable("COOPERAGE_TASK", "2.1");
    let mut session = trial.start(&[], "echo $$; sleep 0 & echo $!")?;
    let (own, next) = (session.line(), session.line());
    let outside = session.deepest().unwrap_or(session.pid());
    let spaces = (namespace(session.pid(), "pid"), namespace(outside, "pid"));
    if own.trim() != "1" {
        let lesson = if own.trim() == session.pid().to_string() {
            "the command is the very process that was started. unshare(2) with CLONE_NEWPID does not move its caller, \
             as a process keeps its number: its next child is number 1 of the new namespace"
        } else if spaces.0 == spaces.1 {
            "the command is in the same PID namespace as the program that started it. unshare(2) with CLONE_NEWPID \
             does not move the caller, whose number can't change: its next child is number 1 of the new namespace"
        } else {
            "the command is in a PID namespace of its own, but something else is number 1 there: its first process \
             is the one that the namespace was made for"
        };
        let fail = session.fail("the command is process 1", format!("it is process {}", own.trim()), lesson);
        return Err(fail);
    }
    if spaces.0 == spaces.1 || !next.trim().parse::<i32>().is_ok_and(|pid| (2..100).contains(&pid)) {
        return Err(session.fail(
            "what the command starts is number 2 or so, in a PID namespace that is not the host's",
            format!("it is {}, and the namespace is {}", next.trim(), spaces.1.unwrap_or_default()),
            "the command says 1, but its processes are numbered among the host's",
        ));
    }
    session.end().map(drop)
}

fn own_proc(trial: &mut Trial) -> Result<(), Failure> {
    trial.set_variable("COOPERAGE_TASK", "2.2");
    let before = trial.host_mounts();
    let new = |trial: &Trial| {
        let now = trial.host_mounts();
        now.into_iter()
            .find(|line| !before.contains(line) || !same_count(line, &before, &trial.host_mounts()))
    };
    let list = "for p in /proc/[0-9]*; do echo ${p#/proc/}; done";
    let run = trial.sh(&[], list)?;
    let seen: Vec<_> = run.out.split_whitespace().collect();
    let expected = "the command sees itself in /proc: 1, and nothing else";
    match seen.as_slice() {
        ["1"] => {}
        [] | ["[0-9]*"] => {
            let lesson = "nothing is mounted on the container's /proc: ps and many others can't work. A PID namespace \
                          has no /proc until somebody in it mounts one";
            return Err(run.fail(expected, run.said(), lesson));
        }
        _ => {
            let lesson = "/proc shows the PID namespace of the process that mounted it, not of the one that looks. This \
                          one was mounted by a process that is not in the container's namespace";
            return Err(run.fail(expected, format!("{} processes", seen.len()), lesson));
        }
    }
    let expected = "the same mounts on the host as before";
    let lesson = "what is mounted in the host's mount namespace stays until somebody unmounts it; the end of the \
                  processes that it shows does not";
    if let Some(line) = new(trial) {
        return Err(run.fail(expected, format!("there is a new one: {line}"), lesson));
    }
    for (command, how) in [
        (["sh", "-c", "exit 3"].as_slice(), "the command failed"),
        (["/there/is/no/such/program"].as_slice(), "the command was not found"),
    ] {
        let mut args = vec!["--"];
        args.extend(command);
        let run = trial.run(&args)?;
        if let Some(line) = new(trial) {
            return Err(run.fail(
                expected,
                format!("{how}, and there is a new one: {line}"),
                "that the command fails is no failure of yours: /proc is to be unmounted however it ends. Where does the \
                 program leave early (a `?`, a return, an exit) before it does that?",
            ));
        }
    }
    let session = trial.start(&[], "")?;
    kill_first(&session);
    let run = session.wait()?;
    if let Some(line) = new(trial) {
        let saw = format!("process 1 was killed by SIGKILL, and there is a new one: {line}");
        return Err(run.fail(expected, saw, lesson));
    }
    Ok(())
}

fn same_count(mount: &Mounted, before: &[Mounted], now: &[Mounted]) -> bool {
    let count = |all: &[Mounted]| all.iter().filter(|other| *other == mount).count();
    count(before) == count(now)
}

/// Sends SIGKILL to the container's process 1, or to what comes nearest. False if there is none.
fn kill_first(session: &Session) -> bool {
    let all = session.descendants();
    let first = all.iter().find(|pid| {
        let names = status_of(**pid, "NSpid");
        names.len() > 1 && names.last().is_some_and(|name| name == "1")
    });
    let first = first.copied().or(session.deepest());
    first.is_some_and(|pid| kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok())
}

fn names(trial: &mut Trial) -> Result<(), Failure> {
    trial.set_variable("COOPERAGE_TASK", "2.3");
    let mut containers = Vec::new();
    for _ in 0..2 {
        let (skip, processes) = (trial.number(3, 30), 3);
        let script = format!(
            "i=0; while [ $i -lt {skip} ]; do (exit 0) & i=$((i+1)); done; wait; \
             i=0; while [ $i -lt {processes} ]; do sleep 1000 & i=$((i+1)); done; wait"
        );
        let container = container(&script);
        let pid = container.id() as i32;
        let ready = trial.eventually(|| {
            let sleeping = |pid: &i32| status_of(*pid, "Name").first().is_some_and(|name| name == "sleep");
            descendants(pid).iter().filter(|pid| sleeping(pid)).count() == processes
        });
        assert!(ready, "a container of the grader does not start");
        containers.push(container);
    }
    let mut result = Ok(());
    let inhabitants = |container: &Child| {
        let mut all = Vec::new();
        for pid in descendants(container.id() as i32) {
            let names = status_of(pid, "NSpid");
            if let Some(inside) =
                names.last().filter(|_| namespace(pid, "pid") != namespace(container.id() as i32, "pid"))
            {
                all.push((pid, inside.clone()));
            }
        }
        all.sort();
        all
    };
    let (ours, theirs) = (inhabitants(&containers[0]), inhabitants(&containers[1]));
    for pick in [0, ours.len() - 1] {
        let (pid, _) = &ours[pick];
        result = trial.run(&["--names", &pid.to_string()]).and_then(|run| {
            let line = |(host, inside): &(i32, String)| format!("{host} {inside}");
            let expected: Vec<_> = ours.iter().map(line).collect();
            let seen: Vec<_> = run.out.lines().map(|line| line.trim().to_string()).collect();
            if seen == expected {
                return Ok(());
            }
            let has = |host: i32| seen.iter().any(|line| line.split(' ').next() == Some(&host.to_string()));
            let mut sorted = seen.clone();
            sorted.sort_by_key(|line| line.split(' ').next().and_then(|pid| pid.parse::<i32>().ok()));
            let lesson = if run.status != 0 || seen.is_empty() {
                "--names PID runs no command: PID is a process of a container, by the host's number, and the program prints a \
                 line for each process of that container"
            } else if theirs.iter().any(|(host, _)| has(*host)) {
                "some of these processes are in another container: that each has a second name is not enough. \
                 /proc/PID/ns/pid tells which namespace a process is in"
            } else if sorted == expected {
                "the lines are right, but not in the order of the first number"
            } else if ours.iter().all(|(host, _)| has(*host)) && seen.len() == ours.len() {
                "the processes are right, and the names inside are not: the kernel lists all names of a process in \
                 the line NSpid of its status, from the outermost to the innermost namespace"
            } else if ours.iter().any(|(host, _)| !has(*host)) {
                "processes of the container are missing: it has more than the one that was named"
            } else {
                "there are processes that are not in this container"
            };
            Err(run.fail(format!("HOST INSIDE: {}", expected.join(", ")), run.said(), lesson))
        });
        if result.is_err() {
            break;
        }
    }
    for container in &mut containers {
        let _ = container.kill();
        let _ = container.wait();
    }
    result
}

/// A container that the grader itself started, for the submission to look at.
#[allow(clippy::panic)] // the grader reports it as an error of its own
fn container(script: &str) -> Child {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "sh", "-c", script]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: between fork and exec it makes one system call.
    unsafe {
        command.pre_exec(|| {
            // The submission lacks this capability, and may look at nobody who has it.
            let _ = Capability::SYS_PTRACE.drop_from_bounding_set();
            Ok(())
        });
    }
    match command.spawn() {
        Ok(child) => child,
        Err(error) => panic!("can't run unshare(1): {error}"),
    }
}

fn ending(trial: &mut Trial) -> Result<(), Failure> {
    trial.set_variable("COOPERAGE_TASK", "2.4");
    let status = trial.number(1, 120) as i32;
    for expected in [0, status] {
        let run = trial.sh(&[], &format!("exit {expected}"))?;
        if run.status != expected {
            return Err(run.fail(
                format!("status {expected}, the command's own"),
                run.said(),
                "whoever started the container wants to know how the command ended: the status that waitpid(2) gives for it \
                 is to be the program's own, and not 0 or 1 for everything",
            ));
        }
    }
    let session = trial.start(&[], "")?;
    if !kill_first(&session) {
        let lesson = "the program has become the command itself: nobody is left to report how it ended";
        return Err(session.fail("a process in the container", "the program has no child", lesson));
    }
    let run = session.wait()?;
    let say = |number: i32, name: &str, saw: i32| {
        let lesson = match saw {
            0 => String::from(
                "a status of 0 says that all went well, and the command was killed. How it ended is in the status \
                 that waitpid(2) gives: only one that ended by itself has an exit status. For signal N, a shell says 128+N",
            ),
            _ if saw == number => format!(
                "{number} is the number of {name}, but a command can end with status {number} by itself: to tell \
                 the two apart, a shell and Docker say 128+N for signal N"
            ),
            _ => "for a command that was killed by signal N, a shell and Docker say 128+N".to_string(),
        };
        (format!("status {}: 128 + {number}, for {name}", 128 + number), lesson)
    };
    if run.status != 137 {
        let (expected, lesson) = say(9, "SIGKILL", run.status);
        return Err(run.fail(expected, format!("process 1 was killed by SIGKILL; {}", run.said()), lesson));
    }
    // With no memory for the new program, the kernel can't go back to the old one.
    let crash = "ulimit -v 64; exec cat";
    if trial.host(&format!("sh -c '{crash}'")).status == 139 {
        let run = trial.sh(&[], crash)?;
        if run.status != 139 && run.status != 127 && run.status != 126 {
            let (expected, lesson) = say(11, "SIGSEGV", run.status);
            return Err(run.fail(
                expected,
                format!("process 1 was killed by SIGSEGV; {}", run.said()),
                lesson,
            ));
        }
    }
    Ok(())
}

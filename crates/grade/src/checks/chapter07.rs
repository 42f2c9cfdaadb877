//! The checks of chapter 7: what process 1 and the runtime do when something ends, or is told to.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::check::{Check, Failure, Session, Trial, namespace, status_of};

/// In the order of the tasks.
pub const CHECKS: &[Check] = &[
    Check {
        task: "7.1",
        explain: "Makes a random number of orphans in a container, stops its process 1 (SIGSTOP) until all of them \
                  have been killed, and lets it go on (SIGCONT): so one SIGCHLD stands for all. Soon none of them \
                  may be left, not even as a zombie, and the command must still run. Then the same one by one.",
        needs: &[],
        run: no_zombie,
    },
    Check {
        task: "7.2",
        explain: "Sends the runtime SIGUSR1 and SIGUSR2, several times in random order. The command must receive each \
                  exactly once, and another process of the container, which has handlers for them too, none.",
        needs: &[],
        run: signals_arrive,
    },
    Check {
        task: "7.3",
        explain: "Runs commands that end with random statuses and by signals, alone and with an orphan that ends \
                  with another status: the runtime's own status must be the command's, or 128 plus the signal.",
        needs: &[],
        run: status_is_the_commands,
    },
    Check {
        task: "7.4",
        explain: "Sends SIGTERM to a runtime whose command takes its time to end, with a grace that is long enough: it \
                  must end by itself, with its own status; and SIGTERM, then SIGHUP, to one whose command ends only \
                  at the second. Then SIGTERM, again and again, to one whose command ignores it, with a grace of \
                  one second: status 137, after that second.",
        needs: &[],
        run: stop,
    },
];

/// No link to the world: these checks need none, and it takes time.
const ALONE: [&str; 2] = ["--network", "none"];

/// The processes of the container: those in another PID namespace than the runtime.
fn members(session: &Session) -> Vec<i32> {
    let outside = namespace(session.pid(), "pid");
    let mut all = session.descendants();
    // A zombie's namespace can't be looked at, but it is one of these all the same.
    all.retain(|&pid| is_zombie(pid) || namespace(pid, "pid").is_some_and(|inside| Some(inside) != outside));
    all
}

/// The container's process 1.
fn first(session: &Session) -> Result<i32, Failure> {
    let is_first = |pid: &i32| {
        let numbers = status_of(*pid, "NSpid");
        numbers.len() > 1 && numbers.last().is_some_and(|inner| inner == "1")
    };
    members(session).into_iter().find(is_first).ok_or_else(|| {
        session.fail(
            "a process 1 in a PID namespace of its own, below the runtime",
            "none",
            "chapter 2's namespace belongs to every chapter after it",
        )
    })
}

fn state(pid: i32) -> Option<char> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit(") ").next()?.chars().next()
}

fn is_zombie(pid: i32) -> bool {
    state(pid) == Some('Z')
}

fn send(pid: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid), signal);
}

/// A runtime that ended before it was told to. If that was because of a task that is not done, the
/// error says so.
fn ended_early(session: Session, expected: &str, lesson: &str) -> Result<(), Failure> {
    let run = session.end()?;
    Err(run.fail(expected, format!("the container ended: {}", run.said()), lesson))
}

fn no_zombie(trial: &mut Trial) -> Result<(), Failure> {
    const EXPECTED: &str = "every process that has ended is waited for, and the command goes on";
    const GOES_ON: &str = "the container ends with its command, and with nothing else: of the children that have \
                           ended, find out which one is the command";
    let count = trial.number(12, 30) as usize;
    // Each is started by a shell that ends immediately: process 1 inherits it. A minute is never waited for.
    let script = format!("i=0; while [ $i -lt {count} ]; do (sleep 77 &); i=$((i+1)); done");
    let word = trial.word();
    let mut session = trial.start_then(&ALONE, &script, &format!("echo {word}; read line"))?;
    let first = first(&session)?;
    let orphans = |session: &Session| -> Vec<i32> {
        let mut all = members(session);
        let name = |pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        all.retain(|&pid| name(pid).starts_with("sleep\x0077\0"));
        all
    };
    let mut found = Vec::new();
    let born = trial.eventually(|| {
        found = orphans(&session);
        found.len() == count
    });
    if !born {
        if session.ended() {
            return ended_early(session, EXPECTED, GOES_ON);
        }
        let saw = format!("{} of {count} sleeping processes below the runtime", found.len());
        return Err(session.fail("orphans are inherited by process 1 and live on", saw, GOES_ON));
    }

    send(first, Signal::SIGSTOP);
    let stopped = trial.eventually(|| state(first) == Some('T'));
    found.iter().for_each(|&pid| send(pid, Signal::SIGKILL));
    trial.eventually(|| found.iter().all(|&pid| state(pid).is_none_or(|state| state == 'Z')));
    send(first, Signal::SIGCONT);
    gone(trial, &mut session, &found, stopped)?;
    session.tell("");
    if session.line() != word {
        return ended_early(session, EXPECTED, GOES_ON);
    }

    // One after the other, in the time that the shell takes: and the command still answers.
    let last = format!(
        "i=0; while [ $i -lt 20 ]; do (sh -c 'exit 3' &); i=$((i+1)); done; echo {word}; read line; echo {word}; \
         read line"
    );
    let mut session = trial.start_then(&ALONE, "", &last)?;
    session.tell("");
    if session.line() != word {
        return ended_early(session, EXPECTED, GOES_ON);
    }
    let zombies =
        |session: &Session| members(session).into_iter().filter(|&pid| is_zombie(pid)).collect::<Vec<_>>();
    trial.eventually(|| session.descendants().len() < 4);
    let left = zombies(&session);
    gone(trial, &mut session, &left, false)?;
    session.tell("");
    if session.line() != word {
        return ended_early(session, EXPECTED, GOES_ON);
    }
    Ok(())
}

/// Have all these vanished, soon?
fn gone(trial: &Trial, session: &mut Session, pids: &[i32], at_once: bool) -> Result<(), Failure> {
    let start = Instant::now();
    trial.eventually(|| pids.iter().all(|&pid| !is_zombie(pid)) || start.elapsed() > Duration::from_secs(2));
    let left = pids.iter().filter(|&&pid| is_zombie(pid)).count();
    if left == 0 {
        return Ok(());
    }
    let total = pids.len();
    let when = if at_once { "at the same moment" } else { "one after the other" };
    let (saw, lesson) = if left == total {
        (
            "all of them are zombies".to_string(),
            "process 1 inherits every orphan of the container, and must wait for children that it did not start",
        )
    } else {
        (
            format!("zombies among the {total} that ended {when}"),
            "signals do not queue: one SIGCHLD may stand for many children, so one waitpid for each SIGCHLD is too \
             few. Wait until there is nobody left who has ended",
        )
    };
    Err(session.fail("no zombie 2 s after the orphans of a container have ended", saw, lesson))
}

fn signals_arrive(trial: &mut Trial) -> Result<(), Failure> {
    let (one, two, bystander, set, over) =
        (trial.word(), trial.word(), trial.word(), trial.word(), trial.word());
    // The other process has its handlers before it says so. It ends with the container.
    let script = format!(
        "sh -c 'trap \"echo {bystander}\" USR1 USR2; echo {set}; while :; do sleep 0.05; done' &\n\
         trap 'echo {one}' USR1; trap 'echo {two}' USR2"
    );
    // A trap interrupts read: only what it has read counts.
    let last = format!("line=; while [ \"$line\" != stop ]; do read line || :; done; echo {over}; read line");
    let mut session = trial.start_then(&ALONE, &script, &last)?;
    let expected = ONCE;
    if session.line() != set {
        return ended_early(session, "two processes that wait for signals", "the command ended too early");
    }
    session.tell("");
    let mut sent = 0;
    for _ in 0..6 {
        let (signal, word) =
            if trial.number(0, 1) == 0 { (Signal::SIGUSR1, &one) } else { (Signal::SIGUSR2, &two) };
        session.send(signal);
        sent += 1;
        // A shell that is just about to read notices the signal only after a line.
        std::thread::sleep(Duration::from_millis(50));
        session.tell("");
        let line = session.line();
        if line == *word {
            continue;
        }
        if line.is_empty() && has_ended(&mut session) {
            let lesson = "a signal that asks for nothing but attention must end nobody: not the runtime, not \
                          process 1. Its default effect is the end of whoever has no handler";
            return ended_early(session, expected, lesson);
        }
        if !line.is_empty() {
            return Err(sent_too_often(session, &line, &bystander, &over));
        }
        let lesson = "a signal to the runtime is for the command: the runtime sends it to process 1, which has to send \
                      it to the command. Process 1 itself does nothing on a signal that it has no handler for";
        return Err(session.fail(expected, format!("signal number {sent} did not arrive"), lesson));
    }
    // What came twice has come by now.
    std::thread::sleep(Duration::from_millis(150));
    session.tell("stop");
    let line = session.line();
    if line != over {
        if line.is_empty() && has_ended(&mut session) {
            return ended_early(session, expected, "the command had not ended yet");
        }
        return Err(sent_too_often(session, &line, &bystander, &over));
    }
    Ok(())
}

const ONCE: &str = "the command receives each signal that the runtime is sent, once, and nobody else does";

/// One signal, and more than one answer. Whose?
fn sent_too_often(mut session: Session, line: &str, bystander: &str, over: &str) -> Failure {
    session.tell("stop");
    let start = Instant::now();
    let mut line = line.to_string();
    while line != bystander && !line.is_empty() && start.elapsed() < Duration::from_secs(2) {
        if line == over {
            // The other process has had its turn by then; and the command ends, so that there is a last line.
            std::thread::sleep(Duration::from_millis(200));
            session.tell("");
        }
        line = session.line();
    }
    if line == bystander {
        let lesson =
            "kill(-1) and kill(0) send to everyone, or to a whole process group; only the command is meant";
        return session.fail(ONCE, "a signal reached another process of the container as well", lesson);
    }
    let lesson =
        "one of two ways is too many: send to the command alone, not to a group that it is in as well";
    session.fail(ONCE, "a signal arrived a second time", lesson)
}

/// Has the program ended, or is it about to?
fn has_ended(session: &mut Session) -> bool {
    let start = Instant::now();
    while !session.ended() && start.elapsed() < Duration::from_secs(1) {
        std::thread::sleep(Duration::from_millis(5));
    }
    session.ended()
}

fn status_is_the_commands(trial: &mut Trial) -> Result<(), Failure> {
    let (small, large, other) = (trial.number(1, 99), trial.number(130, 255), trial.number(100, 120));
    let mut cases = vec![
        (format!("exit {small}"), small as i32, "the command's exit status was lost on the way out"),
        (
            format!("exit {large}"),
            large as i32,
            "an exit status is a number up to 255, and that of a command of its own",
        ),
        ("exit 0".to_string(), 0, "0 is for success, and the command had it"),
    ];
    for (name, number) in [("TERM", 15), ("KILL", 9), ("SEGV", 11)] {
        let lesson = "a wait status tells either how it exited or which signal killed it: WEXITSTATUS alone is 0 \
                      for a command that was killed, as if all were well. A shell says 128 plus the signal";
        cases.push((format!("ulimit -c 0; kill -{name} $$"), 128 + number, lesson));
    }
    let lesson = "of all the children that process 1 has waited for, the status of one counts: the command's";
    cases.push((
        format!("(sh -c 'exit {other}' &); sleep 0.1; sleep 99 & exit {small}"),
        small as i32,
        lesson,
    ));
    for (script, expected, lesson) in cases {
        let run = trial.sh(&ALONE, &script)?;
        if run.status != expected {
            return Err(run.fail(format!("status {expected}"), run.said(), lesson));
        }
    }
    Ok(())
}

fn stop(trial: &mut Trial) -> Result<(), Failure> {
    // Enough time.
    let mut options = ALONE.to_vec();
    options.extend(["--stop-timeout", "4"]);
    let (asked, done, status) = (trial.word(), trial.word(), trial.number(3, 99));
    let script = format!("trap 'echo {asked}; sleep 0.3; echo {done}; exit {status}' TERM");
    let session = trial.start(&options, &script)?;
    let mut run = session.signal(Signal::SIGTERM)?;
    run.command += " (and SIGTERM to the runtime)";
    let expected = format!("the command clears up, says so, and ends with status {status}");
    if !run.out.contains(&asked) {
        let lesson = "the command was never asked: SIGKILL came immediately, or the signal went to somebody else. First \
                      it is passed on, and only at the end of the grace there is SIGKILL";
        return Err(run.fail(expected, run.said(), lesson));
    }
    if !run.out.contains(&done) || run.status as u64 != status {
        let lesson = "it was asked, and then not given the time: wait for its end, and take its own status";
        return Err(run.fail(expected, run.said(), lesson));
    }

    // Asked twice, in different words.
    let script = format!("trap 'echo {asked}' TERM; trap 'exit {status}' HUP");
    let mut session = trial.start(&options, &script)?;
    session.send(Signal::SIGTERM);
    let answer = session.line();
    let mut run = session.signal(Signal::SIGHUP)?;
    run.command += " (and SIGTERM, then SIGHUP to the runtime)";
    if answer != asked || run.status as u64 != status {
        let expected =
            format!("the command answers SIGTERM, goes on, and ends at SIGHUP with status {status}");
        let answered = if answer == asked { "it answered SIGTERM" } else { "no answer to SIGTERM" };
        let lesson = "while the runtime waits for the end it is still the one that signals are sent to: each that \
                      comes has to be passed on";
        return Err(run.fail(expected, format!("{answered}; then {}", run.said()), lesson));
    }

    // Too little: it would never end. It is asked again and again for four seconds.
    let mut options = ALONE.to_vec();
    options.extend(["--stop-timeout", "1"]);
    let mut session = trial.start(&options, "trap '' TERM")?;
    let start = Instant::now();
    let mut last = None::<Instant>;
    while !session.ended() && start.elapsed() < Duration::from_secs(6) {
        let due = last.is_none_or(|last| last.elapsed() > Duration::from_millis(300));
        if due && start.elapsed() < Duration::from_secs(4) {
            session.send(Signal::SIGTERM);
            last = Some(Instant::now());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let took = start.elapsed().as_secs_f64();
    let expected = "a command that ignores SIGTERM is killed after the second that --stop-timeout 1 gives it";
    if !session.ended() {
        let lesson = "who ignores SIGTERM ends by SIGKILL only: when the grace is over, send it";
        return Err(session.fail(expected, "it still runs after 6 s", lesson));
    }
    let mut run = session.wait()?;
    run.command += " (and SIGTERM to the runtime, every 0.3 s)";
    if took > 3.8 {
        let lesson = "every further signal began the grace anew: it counts from the first, and the deadline is a \
                      moment, not a duration";
        return Err(run.fail(expected, "it was killed only when no more of them came", lesson));
    }
    if took < 0.8 {
        let lesson = "the grace is the command's to use as a whole: wait for its end or for the deadline, whichever \
                      comes first";
        return Err(run.fail(expected, format!("it ended sooner: {}", run.said()), lesson));
    }
    if run.status != 137 {
        let lesson = "SIGKILL has ended it: 128 + 9";
        return Err(run.fail("status 137", run.said(), lesson));
    }
    Ok(())
}

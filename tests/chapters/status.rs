//! Exit statuses, and what belongs to whom: the contract that every chapter keeps.

use std::fs;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use crate::support::run::{Running, chapter, run, says, sh};
use crate::support::sweep::{NEWEST, has_init, since, within};
use crate::support::{BOTH, Case, Who};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("status_is_the_commands", BOTH, status_is_the_commands),
        Case::new("status_of_a_killed_command", BOTH, status_of_a_killed_command),
        Case::new("status_of_a_stopped_runtime", BOTH, status_of_a_stopped_runtime),
        Case::new("command_gets_clean_environment", BOTH, command_gets_clean_environment),
        Case::new("command_gets_no_descriptor", BOTH, command_gets_no_descriptor),
        Case::new("command_gets_default_signals", BOTH, command_gets_default_signals),
        Case::new("streams_belong_to_the_command", BOTH, streams_belong_to_the_command),
        Case::new("default_command_is_a_shell", BOTH, default_command_is_a_shell),
        Case::new("options_end_at_the_command", BOTH, options_end_at_the_command),
    ]
}

fn status_is_the_commands(who: Who) {
    for number in since(1) {
        assert_eq!(sh(number, who, &[], "exit 0").status, 0, "chapter {number}");
        assert_eq!(sh(number, who, &[], "exit 3").status, 3, "chapter {number}");
        assert_eq!(sh(number, who, &[], "exit 255").status, 255, "chapter {number}");
        assert_eq!(run(chapter(number, who).args(["--", "no-such-program"])).status, 127, "chapter {number}");
        assert_eq!(
            run(chapter(number, who).args(["--", "/no/such/program"])).status,
            127,
            "chapter {number}"
        );
        assert_eq!(run(chapter(number, who).args(["--", "/etc/passwd"])).status, 126, "chapter {number}");
        assert_eq!(run(chapter(number, who).args(["--", "/etc"])).status, 126, "chapter {number}");
        assert_eq!(run(chapter(number, who).args(["--rootfs", "/nowhere", "--", "true"])).status, 125);
        assert_eq!(run(chapter(number, who).args(["--no-such-option"])).status, 2, "chapter {number}");
    }
}

fn status_of_a_killed_command(who: Who) {
    for number in since(1) {
        // Process 1 can send itself no signal, so a child does it: the shell shows 128+N of it.
        let killed = sh(number, who, &[], "sh -c 'kill -TERM $$'; exit $?");
        assert_eq!(killed.status, 143, "chapter {number}");
        let killed = sh(number, who, &[], "sh -c 'kill -KILL $$'; exit $?");
        assert_eq!(killed.status, 137, "chapter {number}");
    }
    // In chapter 1 there is no process 1, and where there is an init it is not the command: there it is direct.
    for number in since(1).into_iter().filter(|&number| number == 1 || has_init(number)) {
        assert_eq!(sh(number, who, &[], "kill -TERM $$").status, 143, "chapter {number}");
        assert_eq!(sh(number, who, &[], "kill -KILL $$").status, 137, "chapter {number}");
    }
    // From outside even process 1 can be killed.
    for number in since(1) {
        let running = Running::start(number, who, &[], "");
        let first = running.first();
        nix::sys::signal::kill(first, nix::sys::signal::Signal::SIGKILL).expect("it is alive");
        assert_eq!(running.wait().status, 137, "chapter {number}");
    }
}

fn status_of_a_stopped_runtime(who: Who) {
    use nix::sys::signal::Signal::{SIGHUP, SIGINT, SIGTERM};
    for number in within(1, 6) {
        for (signal, status) in [(SIGTERM, 143), (SIGINT, 130), (SIGHUP, 129)] {
            let ended = Running::start(number, who, &[], "").signal(signal);
            assert_eq!((ended.status, ended.err.as_str()), (status, ""), "chapter {number}, {signal}");
        }
    }
}

fn command_gets_clean_environment(who: Who) {
    for number in since(1) {
        let mut command = chapter(number, who);
        command.env("SECRET", "hunter2").env("LD_PRELOAD", "").env("TERM", "vt100").args(["--", "env"]);
        let ended = run(&mut command);
        let mut lines: Vec<_> = ended.out.lines().collect();
        lines.sort();
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        assert_eq!(lines, ["HOME=/root", path, "TERM=vt100", "container=cooperage"], "chapter {number}");
    }
}

fn command_gets_no_descriptor(who: Who) {
    // Open on purpose, without close-on-exec, at a low and at a high number.
    let secret = fs::File::open("/etc/hostname").expect("readable");
    let low = nix::unistd::dup(&secret).expect("dup");
    for number in since(1) {
        let mut command = chapter(number, who);
        command.args(["--", "sh", "-c"]);
        // Chapter 1 has no /proc: there the shell tries each number.
        command.arg("for fd in 3 4 5 6 7 8 9; do if (: <&$fd) 2>/dev/null; then echo open $fd; fi; done; [ ! -d /proc/self/fd ] || ls /proc/self/fd | wc -l");
        let raw = low.as_raw_fd();
        // SAFETY: dup2 and fcntl are async-signal-safe.
        unsafe {
            command.pre_exec(move || {
                for target in [7, 9, 200] {
                    if libc::dup2(raw, target) < 0 {
                        return Err(std::io::Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
        let ended = run(&mut command);
        // 0, 1, 2 and the directory that ls itself has open.
        let expected = if number == 1 { "" } else { "4\n" };
        assert_eq!((ended.out.as_str(), ended.status), (expected, 0), "chapter {number}: {}", ended.err);
    }
}

fn command_gets_default_signals(who: Who) {
    for number in since(2) {
        let mut command = chapter(number, who);
        command.args(["--", "grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"]);
        // SAFETY: signal(2) is async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                libc::signal(libc::SIGINT, libc::SIG_IGN);
                Ok(())
            });
        }
        let ended = run(&mut command);
        let none = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n";
        assert_eq!(ended.out, none, "chapter {number}: {}", ended.err);
    }
}

fn streams_belong_to_the_command(who: Who) {
    for number in since(1) {
        let mut child = chapter(number, who)
            .args(["--", "sh", "-c", "cat; echo to stderr >&2"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        child.stdin.take().expect("piped").write_all(b"through the pipe\n").expect("writable");
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.stdout, b"through the pipe\n", "chapter {number}");
        assert_eq!(output.stderr, b"to stderr\n", "chapter {number}");
    }
}

fn default_command_is_a_shell(who: Who) {
    for number in since(1) {
        let mut child = chapter(number, who)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        child.stdin.take().expect("piped").write_all(b"echo shell $0\nexit 4\n").expect("writable");
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "shell /bin/sh\n", "chapter {number}");
        assert_eq!(output.status.code(), Some(4), "chapter {number}");
    }
}

fn options_end_at_the_command(who: Who) {
    for number in since(1) {
        let ended = run(chapter(number, who).args(["echo", "--explain", "-x", "--", "y"]));
        assert_eq!(ended.out, "--explain -x -- y\n", "chapter {number}: {}", ended.err);
        assert_eq!(ended.err, "", "chapter {number}");
    }
    assert_eq!(says(NEWEST, who, &["--init", "--no-init"], "echo $$"), "1\n");
    assert_eq!(says(NEWEST, who, &["--no-init", "--init"], "echo $$"), "2\n");
}

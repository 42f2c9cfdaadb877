//! Chapter 7: an init that reaps, forwards, passes on and ends in time; and keys of a real terminal.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use cooperage::container::user::in_first_user_namespace;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};

use crate::support::run::{Running, chapter, children, eventually, real_root, says, sh};
use crate::support::sweep::{OWN_USERS, since};
use crate::support::{BOTH, Case, Who};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("init_reaps_orphans", BOTH, init_reaps_orphans),
        Case::new("without_init_zombies_stay", BOTH, without_init_zombies_stay),
        Case::new("init_forwards_signals", BOTH, init_forwards_signals),
        Case::new("signals_are_delivered_once", BOTH, signals_are_delivered_once),
        Case::new("init_passes_the_status_on", BOTH, init_passes_the_status_on),
        Case::new("stop_with_grace_then_without", BOTH, stop_with_grace_then_without),
        Case::new("signals_during_the_start_are_not_lost", BOTH, signals_during_the_start_are_not_lost),
        Case::new("init_holds_no_file_of_the_hosts", BOTH, init_holds_no_file_of_the_hosts),
        Case::new("init_is_not_looked_into", BOTH, init_is_not_looked_into),
        Case::new("container_ends_with_its_command", BOTH, container_ends_with_its_command),
        Case::new("keys_of_a_terminal", BOTH, keys_of_a_terminal),
    ]
}

/// The chapter that brings an init.
const INIT: u32 = 7;

/// A script that makes `count` orphans, each of which ends immediately.
fn orphans(count: u32) -> String {
    format!("i=0; while [ $i -lt {count} ]; do (sh -c 'exit 7' &); i=$((i+1)); done")
}

const ZOMBIES: &str = "grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l";

fn init_reaps_orphans(who: Who) {
    for number in since(INIT) {
        // Some may still be ending when the shell looks: it looks until there are none, and not for ever.
        let script = format!(
            "{}; n=0; while z=$({ZOMBIES}); p=$(ls -d /proc/[0-9]* | wc -l); [ $n -lt 500 ]; do \
         [ $z -eq 0 ] && [ $p -le 5 ] && break; n=$((n+1)); sleep 0.02; done; echo $z",
            orphans(500)
        );
        assert_eq!(says(number, who, &[], &script), "0\n");
    }
}

fn without_init_zombies_stay(who: Who) {
    for number in since(INIT) {
        // Process 1 is a sleep, which never waits for anybody; its child makes orphans before that.
        let script = format!("({}; sleep 1000) & exec sleep 1000", orphans(20));
        let running = chapter(number, who)
            .args(["--no-init", "--", "sh", "-c", &script])
            .stdin(Stdio::null())
            .spawn()
            .expect("the program starts");
        let runtime = nix::unistd::Pid::from_raw(running.id() as i32);
        let mut first = None;
        eventually("20 zombies", || {
            first = children(runtime).first().copied();
            let Some(first) = first else { return false };
            let zombies = children(first).into_iter().filter(|pid| {
                fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z"))
            });
            zombies.count() == 20
        });
        kill(first.expect("it was seen"), Signal::SIGKILL).expect("it is alive");
        let mut running = running;
        running.wait().expect("it ends");
    }
}

fn init_forwards_signals(who: Who) {
    for number in since(INIT) {
        use Signal::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
        for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH] {
            let name = signal.as_str().trim_start_matches("SIG");
            let trap = format!("trap 'echo got {name}; exit 9' {name}");
            let running = Running::start(number, who, &[], &trap);
            let ended = running.signal(signal);
            assert_eq!(
                (ended.out.as_str(), ended.status),
                (format!("got {name}\n").as_str(), 9),
                "{}",
                ended.err
            );
        }
    }
}

fn signals_are_delivered_once(who: Who) {
    for number in since(INIT) {
        let mut child = chapter(number, who)
        .args([
            "--",
            "sh",
            "-c",
            "trap 'echo one' USR1; trap 'echo end; exit 0' TERM; echo ready; while :; do sleep 0.01; done",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
        let mut out = child.stdout.take().expect("piped");
        let mut seen = String::new();
        let mut byte = [0];
        while !seen.ends_with("ready\n") {
            out.read_exact(&mut byte).expect("readable");
            seen.push(char::from(byte[0]));
        }
        let runtime = nix::unistd::Pid::from_raw(child.id() as i32);
        for _ in 0..3 {
            kill(runtime, Signal::SIGUSR1).expect("it is alive");
            seen.clear();
            while !seen.ends_with("one\n") {
                out.read_exact(&mut byte).expect("readable");
                seen.push(char::from(byte[0]));
            }
        }
        kill(runtime, Signal::SIGTERM).expect("it is alive");
        let mut rest = String::new();
        out.read_to_string(&mut rest).expect("readable");
        assert_eq!(rest, "end\n");
        assert_eq!(child.wait().expect("it ends").code(), Some(0));
    }
}

fn init_passes_the_status_on(who: Who) {
    for number in since(INIT) {
        for status in [0, 1, 3, 126, 127, 200, 255] {
            assert_eq!(sh(number, who, &[], &format!("exit {status}")).status, status);
        }
        for (signal, status) in [("TERM", 143), ("KILL", 137), ("ABRT", 134), ("SEGV", 139)] {
            let ended = sh(number, who, &[], &format!("ulimit -c 0; kill -{signal} $$"));
            assert_eq!((ended.status, ended.err.as_str()), (status, ""), "{signal}");
        }
        // Orphans that end earlier, or later, do not disturb it.
        assert_eq!(sh(number, who, &[], "(sh -c 'exit 9' &); sleep 1000 & exit 3").status, 3);
    }
}

fn stop_with_grace_then_without(who: Who) {
    for number in since(INIT) {
        // Obeys: its own status.
        let ended = Running::start(number, who, &[], "trap 'exit 5' TERM").signal(Signal::SIGTERM);
        assert_eq!(ended.status, 5);
        // Does not handle it: killed by the signal itself, because it is not process 1.
        let ended = Running::start(number, who, &[], "").signal(Signal::SIGTERM);
        assert_eq!(ended.status, 143);
        // Ignores it: killed after the grace.
        for options in [&["--stop-timeout", "0"], &["--stop-timeout", "1"]] {
            let ended = Running::start(number, who, options, "trap '' TERM").signal(Signal::SIGTERM);
            assert_eq!((ended.status, ended.err.as_str()), (137, ""));
        }
        // Without an init it is process 1, which the signal does not reach: always killed.
        let ended =
            Running::start(number, who, &["--no-init", "--stop-timeout", "1"], "").signal(Signal::SIGTERM);
        assert_eq!(ended.status, 137);
    }
}

fn signals_during_the_start_are_not_lost(who: Who) {
    for number in since(INIT) {
        // At once after the start, at moments that differ: before the child is made, while it makes itself a
        // container, when it runs. Whenever it comes, it ends the container.
        for round in 0..30 {
            let mut child =
                chapter(number, who).args(["--", "sleep", "1000"]).spawn().expect("the program starts");
            std::thread::sleep(std::time::Duration::from_micros(400 * round));
            kill(nix::unistd::Pid::from_raw(child.id() as i32), Signal::SIGTERM).expect("it is alive");
            let status = crate::support::run::code(child.wait().expect("it ends"));
            assert_eq!(status, 143, "round {round}");
        }
    }
}

fn init_holds_no_file_of_the_hosts(who: Who) {
    for number in since(INIT) {
        let harmless = |file: &str| {
            ["pipe:[", "socket:[", "anon_inode:", "/dev/null"].iter().any(|kind| file.starts_with(kind))
        };
        let running = Running::start(number, who, &[], "");
        // From outside, where it can be seen by root.
        let init = format!("/proc/{}/fd", running.first());
        if who == Who::User && !in_first_user_namespace().expect("/proc is there") {
            // Only root of the namespace that it comes from may look there at all, even from outside.
            let refused = fs::read_dir(&init).expect_err("init is hidden from its own user").kind();
            assert_eq!(refused, std::io::ErrorKind::PermissionDenied);
            running.end();
            continue;
        }
        let mut count = 0;
        for entry in fs::read_dir(&init).expect("a living process").flatten() {
            let file = fs::read_link(entry.path()).expect("an open file").display().to_string();
            assert!(harmless(&file), "init has {file} open");
            count += 1;
        }
        assert!(count > 2, "init has {count} files open");
        running.end();

        // Nor from inside in the command's first moment. (An ordinary user's command may not look there at all, nor one with users of its own.)
        if who == Who::Root && number < OWN_USERS {
            for _ in 0..30 {
                let files = says(number, who, &[], "for file in /proc/1/fd/*; do readlink $file; done");
                assert!(files.lines().count() > 2 && files.lines().all(harmless), "init has open: {files}");
            }
        }
    }
}

/// /proc/1/exe leads to the runtime's own program. An ordinary user's container may not go there, nor one that has
/// users of its own.
fn init_is_not_looked_into(who: Who) {
    for number in since(INIT) {
        let all = ["readlink /proc/1/exe", "ls /proc/1/root/", "ls /proc/1/fd"];
        // The root of an ordinary user's lab is the one who starts the container and its root at once: the list, which belongs to
        // that user, can be read; what is in it cannot be followed.
        let same_user = who == Who::Root && number >= OWN_USERS && !real_root();
        for what in &all[..if same_user { 2 } else { 3 }] {
            let ended = sh(number, who, &[], what);
            let hidden = who == Who::User || number >= OWN_USERS;
            assert_eq!(ended.status != 0, hidden, "{what}: {}{}", ended.out, ended.err);
        }
        // The command itself is hidden from nobody.
        says(number, who, &[], "readlink /proc/self/exe");
        says(number, who, &["--no-init"], "readlink /proc/1/exe");
    }
}

fn container_ends_with_its_command(who: Who) {
    for number in since(2) {
        let running = Running::start(number, who, &[], "sleep 1000 & (sleep 1000 &) ; setsid sleep 1000 &");
        running.end();
        assert!(!crate::support::run::processes().contains(&"sleep".to_string()), "chapter {number}");
    }
}

/// A chapter on a terminal of its own, as the only job of a session.
pub struct OnTerminal {
    pub child: std::process::Child,
    pub terminal: fs::File,
    said: String,
}

impl OnTerminal {
    pub fn start(number: u32, who: Who, arguments: &[&str]) -> OnTerminal {
        let pty = nix::pty::openpty(None, None).expect("a terminal");
        let slave: OwnedFd = pty.slave;
        // Or the program would have both ends, and nobody could hang up.
        let close = nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC);
        nix::fcntl::fcntl(&pty.master, close).expect("its flags");
        if who == Who::User {
            let _ = nix::unistd::fchown(&slave, Some(crate::support::run::NOBODY.into()), None);
        }
        let raw = slave.as_raw_fd();
        let mut command = chapter(number, who);
        command.args(arguments);
        let copy = || Stdio::from(slave.try_clone().expect("dup"));
        command.stdin(copy()).stdout(copy()).stderr(copy());
        // SAFETY: setsid and ioctl are async-signal-safe.
        unsafe {
            command.pre_exec(move || {
                if libc::setsid() < 0 || libc::ioctl(raw, libc::TIOCSCTTY, 0) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn().expect("the program starts");
        OnTerminal { child, terminal: fs::File::from(pty.master), said: String::new() }
    }

    pub fn types(&mut self, keys: &str) {
        self.terminal.write_all(keys.as_bytes()).expect("writable");
    }

    pub fn until(&mut self, word: &str) {
        self.wait_for(word, 60_000).unwrap_or_else(|()| panic!("it never says {word:?}: {:?}", self.said));
    }

    /// Types ctrl-C until the prompt is back. Once need not be enough: a shell that is just about to start a program
    /// may take it for itself, and then wait for the program.
    pub fn interrupts(&mut self) {
        for _ in 0..300 {
            self.types("\x03");
            if self.wait_for("# ", 200).is_ok() {
                return;
            }
        }
        panic!("ctrl-C ends nothing: {:?}", self.said);
    }

    /// Reads up to the word, if it comes before nothing has been said for so many milliseconds.
    fn wait_for(&mut self, word: &str, patience: u16) -> Result<(), ()> {
        let mut buffer = [0; 1024];
        loop {
            if let Some(at) = self.said.find(word) {
                self.said.drain(..at + word.len());
                return Ok(());
            }
            let mut terminal = [PollFd::new(self.terminal.as_fd(), PollFlags::POLLIN)];
            if poll(&mut terminal, PollTimeout::from(patience)).expect("poll") == 0 {
                return Err(());
            }
            match self.terminal.read(&mut buffer) {
                Ok(count @ 1..) => self.said.push_str(&String::from_utf8_lossy(&buffer[..count])),
                _ => panic!("it ended without saying {word:?}: {}", self.said),
            }
        }
    }
}

fn keys_of_a_terminal(who: Who) {
    for number in since(1) {
        let mut on = OnTerminal::start(number, who, &[]);
        on.types("echo $((40+2)) is ready\n");
        on.until("42 is ready");
        // ctrl-C ends what runs in the foreground, and the shell goes on.
        on.types("sh -c 'echo $((40+3)) sleeps; sleep 1000'\n");
        on.until("43 sleeps");
        on.interrupts();
        on.types("echo rc=$?.\n");
        on.until("rc=130.");
        // ctrl-Z stops it, and fg continues it.
        on.types("sh -c 'echo $((40+4)) runs; read x; echo read $x.'\n");
        on.until("44 runs");
        on.types("\x1a");
        on.until("Stopped");
        on.until("# ");
        on.types("fg\n");
        on.until("read x");
        on.types("back\n");
        on.until("read back.");
        on.types("exit 6\n");
        assert_eq!(on.child.wait().expect("it ends").code(), Some(6), "chapter {number}");
    }
}

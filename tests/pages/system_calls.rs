//! The system calls that no narration tells of: they serve the program, and the book has a table of them all the same.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use crate::support::run::{chapter, run};
use crate::support::sweep::every;
use crate::support::{Case, ROOT, Who, binary, is_snapshot};

pub fn cases() -> Vec<Case> {
    vec![Case::new("page-other-system-calls", ROOT, other_system_calls).needs(&["strace"])]
}

/// Each call, and what it is for.
const OTHERS: [(&str, &str); 17] = [
    (
        "pipe2",
        "two pipes between runtime and container: the one for \"go on\", the other for what went wrong",
    ),
    ("read", "wait on a pipe, read what /proc says"),
    ("poll", "wait for whatever comes first: the child's report, a signal, the end of the grace"),
    ("signalfd4", "read signals like a file, one after the other"),
    ("rt_sigprocmask", "hold signals back until they are read"),
    ("rt_sigaction", "give the command every signal's default back"),
    ("waitid", "learn how a child ended"),
    ("flock", "count the users of a root filesystem, and guard the notes of what must be undone"),
    ("fcntl", "read the child's report without waiting for it"),
    ("unlink", "remove a note when what it tells of is undone"),
    ("mkdirat", "make a directory in the new root, without following a link out of it"),
    ("readlinkat", "tell a symbolic link that stands in the way, in the new root"),
    ("umask", "start the command with the usual 022, whatever the host's shell has"),
    ("symlink", "make the links in /dev: fd, stdin, stdout, stderr"),
    ("setsockopt", "ask netlink for short answers, and for reasons with errors"),
    ("recvfrom", "read the kernel's answers to netlink requests"),
    ("rmdir", "remove a directory of notes that is empty again"),
];

fn other_system_calls(who: Who) {
    run(chapter(1, who).args(["--", "true"])); // makes the rootfs
    let mut seen: Vec<BTreeSet<String>> = Vec::new();
    for number in every() {
        let log = format!("/tmp/strace-{number}");
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-e", "signal=none", "-o", &log]);
        command.arg(binary(&format!("chapter{number:02}"), who)).args(["--", "true"]);
        let ended = run(&mut command);
        assert_eq!(ended.status, 0, "chapter {number}: {}", ended.err);
        let text = fs::read_to_string(&log).expect("strace wrote it");
        let name = |line: &str| {
            let call = line.split_once(' ')?.1.trim_start();
            call.split_once('(').map(|(name, _)| name.to_string())
        };
        seen.push(text.lines().filter_map(name).collect());
    }
    let mut text = String::from("| system call | chapter | what it is for |\n|---|---|---|\n");
    let mut others = OTHERS;
    others.sort_unstable();
    for (name, why) in others {
        // On some machines a call has a newer form only.
        let forms = [name.to_string(), format!("p{name}")];
        let first = seen.iter().position(|calls| forms.iter().any(|form| calls.contains(form)));
        let first = first.unwrap_or_else(|| panic!("no chapter makes {name}"));
        let page = match name {
            "rt_sigprocmask" => "sigprocmask",
            "rt_sigaction" => "sigaction",
            "signalfd4" => "signalfd",
            "pipe2" => "pipe",
            "recvfrom" => "recv",
            "mkdirat" => "mkdir",
            "readlinkat" => "readlink",
            "setsockopt" => "getsockopt",
            name => name,
        };
        let page = format!("https://man7.org/linux/man-pages/man2/{page}.2.html");
        let _ = writeln!(text, "| [{name}(2)]({page}) | {} | {why} |", first + 1);
    }
    is_snapshot("pages/other-system-calls", &[], text);
}

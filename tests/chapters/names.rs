//! Chapter 4: the container's own name, and its own message queues, semaphores and shared memory.

use crate::support::run::{Running, run, says, sh};
use crate::support::sweep::{since, within};
use crate::support::{BOTH, Case, Who};
use std::process::Command;

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("hostname_is_its_own", BOTH, hostname_is_its_own),
        Case::new("hostname_by_default_is_random", BOTH, hostname_by_default_is_random),
        Case::new("bad_hostnames_are_refused", BOTH, bad_hostnames_are_refused),
        Case::new("names_in_etc_agree", BOTH, names_in_etc_agree),
        Case::new("names_are_not_in_the_layer", BOTH, names_are_not_in_the_layer),
        Case::new("ipc_is_not_shared", BOTH, ipc_is_not_shared),
    ]
}

fn hostname_is_its_own(who: Who) {
    let outside = nix::unistd::gethostname().expect("a host has a name");
    for number in since(4) {
        let running = Running::start(number, who, &["--hostname", "web"], "hostname other");
        assert_eq!(nix::unistd::gethostname().expect("a name"), outside, "chapter {number}");
        running.end();
        assert_eq!(says(number, who, &["--hostname", "web-1.example"], "hostname"), "web-1.example\n");
    }
}

fn hostname_by_default_is_random(who: Who) {
    for number in since(4) {
        let (one, other) = (says(number, who, &[], "hostname"), says(number, who, &[], "hostname"));
        assert_ne!(one, other, "chapter {number}");
        assert!(
            one.trim_end().len() == 12 && one.trim_end().bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{one}"
        );
    }
}

fn bad_hostnames_are_refused(who: Who) {
    for name in ["", "a b", "-a", "a_b", "a/b", &"x".repeat(65)] {
        let ended = sh(4, who, &[&format!("--hostname={name}")], "true");
        assert_eq!(ended.status, 2, "{name:?}: {}", ended.err);
        assert!(ended.err.contains("host name"), "{name:?}: {}", ended.err);
    }
}

fn names_in_etc_agree(who: Who) {
    for number in since(4) {
        let script = "cat /etc/hostname; hostname; grep -cw web /etc/hosts; grep -c localhost /etc/hosts";
        assert_eq!(says(number, who, &["--hostname", "web"], script), "web\nweb\n1\n2\n", "chapter {number}");
        let script = "ping -c 1 -W 5 web >/dev/null && echo reached";
        if number < 5 {
            continue; // no network, no ping: its lo is the host's, and an ordinary user's is down
        }
        assert_eq!(says(number, who, &["--hostname", "web"], script), "reached\n", "chapter {number}");
    }
}

fn names_are_not_in_the_layer(who: Who) {
    super::mounts::directory("/tmp/work", who);
    for number in since(4) {
        let upper = format!("/tmp/work/{number}");
        says(number, who, &["--upper", &upper], "echo changed > /etc/hosts");
        let left: Vec<_> =
            std::fs::read_dir(&upper).expect("readable").flatten().map(|entry| entry.path()).collect();
        assert!(left.is_empty(), "chapter {number}: {left:?}");
    }
}

fn ipc_is_not_shared(who: Who) {
    // The host's: one of each kind, and a POSIX shared memory file.
    let made = run(Command::new("ipcmk").args(["-M", "4096", "-S", "1", "-Q"]));
    assert_eq!(made.status, 0, "{}", made.err);
    std::fs::write("/dev/shm/host", "x").expect("writable");
    let script = "witness ipc; ls /dev/shm /dev/mqueue";
    for number in within(1, 3) {
        let seen = sh(number, who, &[], "witness ipc").out;
        if number > 1 {
            // Chapter 1 has no /proc to read them from.
            assert!(seen.contains("\"shm\": 1"), "chapter {number} still shares it: {seen}");
        }
    }
    for number in since(4) {
        let seen = says(number, who, &[], script);
        assert!(
            seen.contains("\"shm\": 0") && seen.contains("\"sem\": 0") && seen.contains("\"msg\": 0"),
            "chapter {number}: {seen}"
        );
        assert!(!seen.contains("host"), "chapter {number}: {seen}");
    }
    let own = "ipcmk -M 4096 >/dev/null 2>&1 || true; witness ipc";
    let _ = sh(4, who, &[], own);
    let outside = std::fs::read_to_string("/proc/sysvipc/shm").expect("readable");
    assert_eq!(outside.lines().count(), 2, "what a container makes is not seen outside");
}

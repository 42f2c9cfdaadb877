//! The root filesystem that is assembled when none is named.

use std::process::Stdio;

use crate::support::run::{Running, chapter, run};
use crate::support::sweep::{NEWEST, has_init, since};
use crate::support::{BOTH, Case, USER, Who};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("rootfs_of_the_machines_programs", BOTH, rootfs_of_the_machines_programs),
        Case::new("rootfs_is_assembled_once_by_many", USER, rootfs_is_assembled_once_by_many),
        Case::new("rootfs_without_any_shell", USER, rootfs_without_any_shell),
    ]
}

const FROM: &str = "COOPERAGE_ROOTFS_FROM";

/// As on a machine without a static busybox: the same chapters, with dynamic programs and their libraries.
fn rootfs_of_the_machines_programs(who: Who) {
    for number in since(1) {
        let script = "for p in sh ls cat id sed grep env sleep mount hostname httpd ip kill nc ping ps; do command -v $p >/dev/null || echo no $p; done; \
                      ls / >/dev/null && id -u && echo a | sed s/a/b/ && witness pid | wc -l";
        let ended = run(chapter(number, who).env(FROM, "machine").args(["--", "sh", "-c", script]));
        assert_eq!((ended.out.as_str(), ended.err.as_str()), ("0\nb\n3\n", ""), "chapter {number}");
    }
    for number in since(2) {
        let ended = run(chapter(number, who).env(FROM, "machine").args(["--", "ps", "-e", "-o", "pid="]));
        let pids: Vec<_> = ended.out.split_whitespace().collect();
        assert_eq!(
            pids,
            if has_init(number) { vec!["1", "2"] } else { vec!["1"] },
            "chapter {number}: {}",
            ended.err
        );
    }
    for number in since(5) {
        let ended = run(chapter(number, who).env(FROM, "machine").args(["--", "ip", "-o", "-4", "addr"]));
        assert!(ended.out.contains("10.83.0.2/16"), "chapter {number}: {}{}", ended.out, ended.err);
    }
    let running = Running::spawn(chapter(NEWEST, who).env(FROM, "machine"), "", "");
    assert_eq!(running.end().status, 0);
}

/// A user whose home is fresh: all assemble at once, and nobody sees a half made one.
fn rootfs_is_assembled_once_by_many(who: Who) {
    for way in ["busybox", "machine"] {
        let busybox = || std::process::Command::new("busybox").arg("true").status();
        if way == "busybox" && !busybox().is_ok_and(|status| status.success()) {
            continue; // this machine has only the other way
        }
        let children: Vec<_> = (0..8)
            .map(|_| {
                let mut command = chapter(3, who);
                command.env(FROM, way).args(["--", "sh", "-c", "ls /bin/sh && witness pid | wc -l"]);
                command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts")
            })
            .collect();
        for child in children {
            let output = child.wait_with_output().expect("it ends");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(
                (String::from_utf8_lossy(&output.stdout).as_ref(), said.as_str()),
                ("/bin/sh\n3\n", ""),
                "{way}"
            );
        }
        let place = format!("/tmp/cooperage-rootfs-{}", crate::support::run::NOBODY);
        let made: Vec<_> = std::fs::read_dir(place)
            .expect("it was made here: nowhere else may this user write")
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with(&format!("rootfs-{way}-")))
            .collect();
        assert_eq!(made.len(), 1, "{made:?}");
    }
}

fn rootfs_without_any_shell(who: Who) {
    let mut command = chapter(3, who);
    command.env(FROM, "brick").args(["--", "true"]);
    let ended = run(&mut command);
    assert_eq!(ended.status, 125, "{}", ended.err);
    assert!(ended.err.contains(FROM) && ended.err.contains("busybox"), "{}", ended.err);
}

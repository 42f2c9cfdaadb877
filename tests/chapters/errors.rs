//! Errors: each names the step, the call, the error in words and a remedy; status 125; nothing is left.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use crate::support::run::{Ended, Host, NOBODY, chapter, eventually, links, real_root, run};
use crate::support::sweep::{NEWEST, OWN_USERS, since, since_each_kind_of_root};
use crate::support::{BOTH, Case, ROOT, ROOT_ITSELF, USER, Who, binary, current_case, is_snapshot};

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("errors_of_the_rootfs", BOTH, errors_of_the_rootfs),
        Case::new("errors_of_the_command", BOTH, errors_of_the_command),
        Case::new("errors_of_options", BOTH, errors_of_options),
        Case::new("errors_of_missing_rights", ROOT, errors_of_missing_rights),
        Case::new("errors_of_cgroups_that_are_read_only", ROOT, errors_of_cgroups_that_are_read_only)
            .needs(&["cgroup-v1", ROOT_ITSELF]),
        Case::new("errors_in_a_chroot", ROOT, errors_in_a_chroot).needs(&[ROOT_ITSELF]),
        Case::new("errors_without_user_namespaces", USER, errors_without_user_namespaces),
        Case::new("childs_failure_is_the_one_reported", ROOT, childs_failure_is_the_one_reported)
            .needs(&["strace"]),
    ];
    for number in since_each_kind_of_root() {
        let name = format!("{FAILED_SETUP}{number}").leak();
        cases.push(Case::new(name, ROOT, failed_setup).needs(&["strace"]));
    }
    cases
}

/// The beginning of the names of cases that are of one chapter each.
const FAILED_SETUP: &str = "failed_setup_at_each_step_of_chapter_";

fn snapshot(name: &str, ended: &Ended, status: i32) {
    assert_eq!((ended.status, ended.out.as_str()), (status, ""), "{name}: {}", ended.err);
    let filters = [
        (r"\[[a-z]+ \d+\]", "[pid]"),
        (r"cooperage-\d+", "cooperage-[pid]"),
        (r#""[^"]*/rootfs-\w+-[0-9a-f]+"#, "\"ROOTFS"),
    ];
    is_snapshot(name, &filters, &ended.err);
}

fn errors_of_the_rootfs(who: Who) {
    fs::create_dir("/tmp/empty").expect("writable");
    fs::write("/tmp/file", "").expect("writable");
    let before = Host::now();
    for number in since(1) {
        for (name, path) in
            [("missing", "/tmp/nowhere"), ("empty", "/tmp/empty"), ("no-directory", "/tmp/file")]
        {
            let ended = run(chapter(number, who).args(["--rootfs", path, "--", "true"]));
            snapshot(&format!("errors/rootfs-{name}"), &ended, 125);
        }
    }
    if who == Who::User && real_root() {
        fs::create_dir("/tmp/closed").expect("writable");
        fs::write("/tmp/closed/x", "").expect("writable");
        fs::set_permissions("/tmp/closed", Permissions::from_mode(0o700)).expect("root may");
        let ended = run(chapter(3, who).args(["--rootfs", "/tmp/closed", "--", "true"]));
        snapshot("errors/rootfs-unreadable", &ended, 125);
        fs::remove_dir_all("/tmp/closed").expect("removable");
    }
    Host::now().must_be(&before, "a bad rootfs");
}

fn errors_of_the_command(who: Who) {
    // The first run makes the rootfs.
    run(chapter(1, who).args(["--", "true"]));
    let before = Host::now();
    for number in since(1) {
        snapshot("errors/command-not-found", &run(chapter(number, who).args(["--", "no-such"])), 127);
        snapshot("errors/command-is-a-directory", &run(chapter(number, who).args(["--", "/etc"])), 126);
        snapshot("errors/command-has-no-name", &run(chapter(number, who).args(["--", ""])), 127);
    }
    Host::now().must_be(&before, "a bad command");
}

fn errors_of_options(who: Who) {
    for (name, option) in [
        ("memory", "--memory=lots"),
        ("memory-too-small", "--memory=1m"),
        ("cpus", "--cpus=half"),
        ("pids", "--pids-limit=x"),
        ("hostname", "--hostname=a_b"),
        ("volume", "--volume=/a"),
        ("volume-option", "--volume=/a:/b:rx"),
        ("network", "--network=wifi"),
        ("unknown", "--gpus"),
        ("stop-timeout", "--stop-timeout=soon"),
    ] {
        let ended = run(chapter(NEWEST, who).args([option, "--", "true"]));
        snapshot(&format!("errors/option-{name}"), &ended, 2);
    }
}

/// Root without rights, as in a container engine.
fn errors_of_missing_rights(who: Who) {
    run(chapter(1, who).args(["--", "true"]));
    let before = Host::now();
    for (name, number, without) in [
        ("chroot", 1, "-sys_chroot"),
        ("pid-namespace", 2, "-sys_admin"),
        ("mount-namespace", 3, "-sys_admin"),
        ("network", 5, "-net_admin"),
    ] {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", without, "--inh-caps", without]);
        command.arg(binary(&format!("chapter{number:02}"), who)).args(["--", "true"]);
        snapshot(&format!("errors/no-right-{name}"), &run(&mut command), 125);
        Host::now().must_be(&before, &format!("no right to {name}"));
    }
}

/// As container engines mount them: "run as root" would be no advice.
fn errors_of_cgroups_that_are_read_only(who: Who) {
    let script = format!(
        "for m in /sys/fs/cgroup/*; do ! mountpoint -q $m || mount -o remount,bind,ro $m; done; exec {} --memory 64m -- true",
        binary("chapter06", who).display()
    );
    let ended = run(Command::new("unshare").args(["--mount", "sh", "-c", &script]));
    assert_eq!(ended.status, 125, "{}", ended.err);
    assert!(ended.err.contains("EROFS") && ended.err.contains("--privileged"), "{}", ended.err);
    assert!(!ended.err.contains("run as root"), "{}", ended.err);
}

/// The root directory is no mount there, and what is no mount cannot be made private.
fn errors_in_a_chroot(who: Who) {
    let script = format!(
        "mkdir /tmp/r; for d in /*; do \
            if [ -L $d ]; then cp -P $d /tmp/r; elif [ -d $d ]; then mkdir /tmp/r$d; [ $d = /tmp ] || mount --rbind $d /tmp/r$d; fi; \
         done; mkdir /tmp/r/tmp/bin; mount --bind {} /tmp/r/tmp/bin; exec chroot /tmp/r /tmp/bin/chapter",
        binary("", who).display()
    );
    let inside = |number: u32| {
        let script = format!("{script}{number:02} -- echo it runs");
        run(Command::new("unshare").args(["--mount", "sh", "-c", &script]))
    };
    let ended = inside(1);
    assert_eq!((ended.status, ended.out.as_str()), (0, "it runs\n"), "{}", ended.err);
    fs::remove_dir_all("/tmp/r").expect("nothing is mounted there any more");
    let ended = inside(3);
    assert_eq!(ended.status, 125, "{}", ended.err);
    assert!(ended.err.contains("EINVAL") && ended.err.contains("this is a chroot"), "{}", ended.err);
}

fn errors_without_user_namespaces(who: Who) {
    if !real_root() {
        return; // only the machine's root can map a second user, whom the lab can forbid something
    }
    // As on a machine whose administrator allows none. This setting belongs to a user namespace, so the
    // machine's own is not touched.
    let script = format!(
        "echo ready; read go; exec sh -c 'echo 0 > /proc/sys/user/max_user_namespaces; \
         exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups {} -- true'",
        binary("chapter03", who).display()
    );
    let mut child = Command::new("unshare")
        .args(["--user", "sh", "-c", &script])
        .current_dir("/tmp")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("unshare");
    let mut ready = [0; 6];
    child.stdout.as_mut().expect("piped").read_exact(&mut ready).expect("it starts");
    for map in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{}/{map}", child.id()), "0 0 65535").expect("root may");
    }
    child.stdin.take().expect("piped").write_all(b"go\n").expect("writable");
    let output = child.wait_with_output().expect("it ends");
    let ended = Ended {
        status: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    snapshot("errors/no-user-namespaces", &ended, 125);
}

/// Makes every system call of the set-up fail in turn, by strace's fault injection, and looks at what is
/// said and what is left.
fn failed_setup(who: Who) {
    let case = current_case().expect("a case of ours");
    let (name, _) = case.split_once("::").expect("a name, and who runs it");
    let number: u32 = name.trim_start_matches(FAILED_SETUP).parse().expect("the chapter's number");
    run(chapter(NEWEST, who).args(["--", "true"]));
    let before = Host::now();
    let calls = [
        "clone,clone3",
        "unshare",
        "mount",
        "umount2",
        "pivot_root",
        "chdir",
        "sethostname",
        "mknod,mknodat",
        "openat2",
        "move_mount",
        "open_tree",
        "mount_setattr",
        "close_range",
        "prctl",
        "sendto",
        "symlink,symlinkat",
        "mkdir,mkdirat",
        "setgroups",
        "setresgid",
        "setresuid",
        "keyctl",
    ];
    for call in calls {
        for when in 1..40 {
            let log = format!("/tmp/strace-{number}-{when}");
            let mut command = Command::new("strace");
            command.args(["-f", "-qq", "-o", &log, "-e", &format!("trace={call}"), "-e"]);
            command.arg(format!("inject={call}:error=EIO:when={when}"));
            command.arg(binary(&format!("chapter{number:02}"), who));
            command.args(match number {
                ..3 => &[][..],
                3..OWN_USERS => &["-v", "/tmp:/mnt/tmp:ro"],
                _ => &["-v", "/tmp:/mnt/tmp:ro,idmap", "--user", "root"],
            });
            command
                .args(["--", "true"])
                .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
            let ended = run(&mut command);
            let trace = fs::read_to_string(&log).unwrap_or_default();
            fs::remove_file(&log).ok();
            if !trace.contains("(INJECTED)") {
                break; // there are not so many calls of this kind
            }
            let what = format!("chapter {number}, {call} number {when}");
            if ended.status == 0 {
                // A call that the container can do without; or one of those that clear up, and then what
                // could not be cleared is noted, and the next run does it.
                run(chapter(1, who).args(["--", "true"]));
                eventually("the kernel's own clearing up", || links() == before.links);
            }
            Host::now().must_be(&before, &what);
            if ended.status == 0 {
                continue;
            }
            assert_eq!(ended.status, 125, "{what}: {}{trace}", ended.err);
            assert!(ended.err.starts_with("cooperage: could not "), "{what}: {}", ended.err);
            assert!(
                ended.err.contains("EIO: I/O error") || ended.err.contains("EIO: Input/output error"),
                "{what}: {}",
                ended.err
            );
        }
    }
}

/// The parent often fails too when its child has: what the child says is what matters.
fn childs_failure_is_the_one_reported(who: Who) {
    for number in since(5) {
        let mut command = Command::new("strace");
        command.args([
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "trace=pivot_root",
            "-e",
            "inject=pivot_root:error=EPERM",
        ]);
        command.arg(binary(&format!("chapter{number:02}"), who)).args(["--", "true"]);
        let ended = run(&mut command);
        assert_eq!(ended.status, 125);
        assert!(
            ended.err.contains("pivot_root(\".\", \".\")") && ended.err.contains("EPERM"),
            "{}",
            ended.err
        );
    }
}

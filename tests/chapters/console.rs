//! Chapter 9: a terminal of its own, seen from inside, from outside, and from the terminal that somebody sits at.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;

use crate::ending::OnTerminal;
use crate::support::run::{Host, chapter, children, eventually, real_root, run};
use crate::support::sweep::{LESS_POWER, since};
use crate::support::{BOTH, Case, ROOT, ROOT_ITSELF, Who};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("terminal_of_its_own", BOTH, terminal_of_its_own),
        Case::new("terminal_passes_keys_on", BOTH, terminal_passes_keys_on),
        Case::new("terminal_has_the_windows_size", BOTH, terminal_has_the_windows_size),
        Case::new("terminal_gets_all_of_the_output", BOTH, terminal_gets_all_of_the_output),
        Case::new("terminal_that_is_hung_up", BOTH, terminal_that_is_hung_up),
        Case::new("terminal_belongs_to_its_user", ROOT, terminal_belongs_to_its_user).needs(&[ROOT_ITSELF]),
        Case::new("terminal_where_there_is_none", BOTH, terminal_where_there_is_none),
    ]
}

const TTY: [&str; 3] = ["--network", "none", "-it"];

fn start(number: u32, who: Who, more: &[&str]) -> OnTerminal {
    OnTerminal::start(number, who, &[&TTY[..], more].concat())
}

/// Those whom the runtime has started, and theirs.
fn inhabitants(runtime: Pid) -> Vec<Pid> {
    children(runtime).into_iter().flat_map(|pid| [vec![pid], inhabitants(pid)].concat()).collect()
}

/// The files that a process has for stdin, stdout and stderr: which file of which filesystem.
fn files(pid: Pid) -> [(u64, u64); 3] {
    [0, 1, 2].map(|fd| {
        let found = fs::metadata(format!("/proc/{pid}/fd/{fd}")).expect("it has it open");
        (found.dev(), found.ino())
    })
}

/// The session that it is in: the sixth field of proc_pid_stat(5).
fn session(pid: Pid) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
    let after = stat.rsplit_once(')').expect("a name").1;
    after.split_whitespace().nth(3).expect("a session").to_string()
}

fn terminal_of_its_own(who: Who) {
    for number in since(LESS_POWER) {
        for init in ["--init", "--no-init"] {
            let mut on = start(number, who, &[init]);
            on.types("echo is $(tty) $(stat -c %t:%T /dev/console | tr : .) and $((40+2))\n");
            on.until("is /dev/pts/0 88.0 and 42");
            // Nobody inside has the terminal outside, or is in its session.
            let runtime = Pid::from_raw(on.child.id() as i32);
            let inside = inhabitants(runtime);
            assert_eq!(inside.len(), if init == "--init" { 2 } else { 1 });
            for pid in inside {
                assert_ne!(session(pid), session(runtime), "{pid}");
                // Which files init has open only the machine's root may see.
                if real_root() {
                    let outside = files(runtime);
                    assert!(files(pid).iter().all(|file| !outside.contains(file)), "{pid}");
                }
            }
            on.types("exit 5\n");
            assert_eq!(on.child.wait().expect("it ends").code(), Some(5), "chapter {number} {init}");
        }
    }
}

fn terminal_passes_keys_on(who: Who) {
    for number in since(LESS_POWER) {
        let mut on = start(number, who, &[]);
        on.types("echo $((40+2)) is ready\n");
        on.until("42 is ready");
        // The one outside makes nothing of keys meanwhile, and all that it did before when the container has ended.
        let keys = |on: &OnTerminal| tcgetattr(on.terminal.as_fd()).expect("a terminal").local_flags;
        let cooked = LocalFlags::ISIG | LocalFlags::ICANON | LocalFlags::ECHO;
        assert!(!keys(&on).intersects(cooked), "chapter {number}");
        on.types("sh -c 'echo $((40+3)) sleeps; sleep 1000'\n");
        on.until("43 sleeps");
        on.interrupts();
        on.types("echo rc=$?.\n");
        on.until("rc=130.");
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
        assert!(keys(&on).contains(cooked), "chapter {number}");
    }
}

fn terminal_has_the_windows_size(who: Who) {
    for number in since(LESS_POWER) {
        let mut on = start(number, who, &[]);
        on.types("echo $((40+2)) is ready\n");
        on.until("42 is ready");
        for (rows, columns) in [(33, 77), (44, 122)] {
            let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
            let fd = std::os::fd::AsRawFd::as_raw_fd(&on.terminal);
            // SAFETY: the size outlives the call.
            assert_eq!(unsafe { libc::ioctl(fd, libc::TIOCSWINSZ, &raw const size) }, 0);
            // The signal and the next line take two ways, so the line waits for the size.
            on.types(&format!(
                "until stty size | grep -q '^{rows} '; do sleep 0.1; done; echo now $(stty size) end\n"
            ));
            on.until(&format!("now {rows} {columns} end"));
        }
        on.types("exit\n");
        assert_eq!(on.child.wait().expect("it ends").code(), Some(0), "chapter {number}");
    }
}

fn terminal_gets_all_of_the_output(who: Who) {
    for number in since(LESS_POWER) {
        let script = "seq 30000; echo to stderr >&2; exit 3";
        let mut on = start(number, who, &["--", "sh", "-c", script]);
        for line in ["1\r\n2\r\n", "\r\n29999\r\n30000\r\n", "to stderr\r\n"] {
            on.until(line);
        }
        assert_eq!(on.child.wait().expect("it ends").code(), Some(3), "chapter {number}");
    }
}

fn terminal_that_is_hung_up(who: Who) {
    for number in since(LESS_POWER) {
        let mut on = start(number, who, &["--", "sh", "-c", "echo $((40+2)) is ready; sleep 1000"]);
        on.until("42 is ready");
        let inside = inhabitants(Pid::from_raw(on.child.id() as i32));
        assert!(!inside.is_empty());
        let OnTerminal { mut child, terminal, .. } = on;
        drop(terminal);
        assert_eq!(child.wait().expect("it ends").code(), Some(128 + libc::SIGHUP), "chapter {number}");
        eventually("the end of all", || {
            inside.iter().all(|pid| !fs::exists(format!("/proc/{pid}")).expect("readable"))
        });
    }
}

fn terminal_belongs_to_its_user(who: Who) {
    for number in since(LESS_POWER) {
        let script = "stat -c 'of %u, %a.' $(tty); echo written > /dev/tty";
        let mut on = start(number, who, &["--user", "1000", "--", "sh", "-c", script]);
        on.until("of 1000, 620.");
        on.until("written");
        assert_eq!(on.child.wait().expect("it ends").code(), Some(0), "chapter {number}");
    }
}

fn terminal_where_there_is_none(who: Who) {
    for number in since(LESS_POWER) {
        let before = Host::now();
        let ended =
            run(chapter(number, who).args(TTY).args(["--", "true"]).stdin(std::process::Stdio::null()));
        assert_eq!(ended.status, 125, "{}", ended.err);
        assert!(ended.err.contains("stdin is none"), "{}", ended.err);
        assert_eq!(Host::now(), before);
    }
}

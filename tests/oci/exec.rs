//! What a command of the container, or one that `exec` adds, is given: numbers in files, terminals, open files, users, rights.

use std::fs::{self, File};
use std::io::{IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::{Value, json};

use crate::kit::{Bundle, give, leaves_nothing, oci, pid, runtime, say};
use crate::support::run::eventually;
use crate::support::{BOTH, Case, ROOT, Who};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("the_pid_file", BOTH, the_pid_file),
        Case::new("a_terminal_for_a_client", BOTH, a_terminal_for_a_client),
        Case::new("a_terminal_without_a_client", BOTH, a_terminal_without_a_client),
        Case::new("files_that_are_handed_on", BOTH, files_that_are_handed_on),
        Case::new("exec_as_the_container", BOTH, exec_as_the_container),
        Case::new("exec_with_options", BOTH, exec_with_options),
        Case::new("exec_as_another_user", ROOT, exec_as_another_user),
        Case::new("exec_with_a_file", BOTH, exec_with_a_file),
        Case::new("exec_detached", BOTH, exec_detached),
        Case::new("exec_that_fails", BOTH, exec_that_fails),
    ]
}

/// A directory that everybody may write to.
fn place(who: Who) -> &'static Path {
    let place = Path::new("/tmp/place");
    fs::create_dir_all(place).expect("new");
    give(place, who);
    place
}

fn the_pid_file(who: Who) {
    let bundle = Bundle::idle(who, "a");
    let file = place(who).join("pid");
    let options = ["--pid-file", file.to_str().expect("text")];
    say(&mut bundle.command("create", &options, "one")).good();
    // The whole number, and no end of line: clients read it as it is.
    assert_eq!(fs::read_to_string(&file).expect("written"), pid(who, "one").to_string());
    oci(who, &["delete", "--force", "one"]).good();
    fs::remove_file(&file).expect("there");
    leaves_nothing("a pid file nowhere", || {
        say(&mut bundle.command("create", &["--pid-file", "/no/such/file"], "one")).bad(125, "/no/such/file");
    });
    say(&mut bundle.command("run", &["--detach", options[0], options[1]], "one")).good();
    assert_eq!(fs::read_to_string(&file).expect("written"), pid(who, "one").to_string());
    oci(who, &["delete", "--force", "one"]).good();
}

/// Takes the terminal that comes by this socket.
fn receive(listener: &UnixListener) -> File {
    let (socket, _) = listener.accept().expect("the runtime connects");
    let mut text = [0; 4096];
    let mut room = nix::cmsg_space!([RawFd; 2]);
    let mut parts = [IoSliceMut::new(&mut text)];
    let message =
        recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut room), MsgFlags::empty()).expect("a message");
    let mut all = Vec::new();
    for control in message.cmsgs().expect("whole") {
        if let ControlMessageOwned::ScmRights(fds) = control {
            all.extend(fds);
        }
    }
    assert_eq!(all.len(), 1, "one terminal");
    assert!(message.bytes > 0, "its name comes along");
    // SAFETY: the message has made the descriptor, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(all[0]) }.into()
}

fn until(terminal: &mut File, last: &str) -> String {
    let mut text = String::new();
    let mut part = [0; 1024];
    while !text.contains(last) {
        match terminal.read(&mut part) {
            Ok(count @ 1..) => text.push_str(&String::from_utf8_lossy(&part[..count])),
            other => panic!("{other:?} before {last:?}: {text}"),
        }
    }
    text
}

/// --console-socket: the other end goes to the client, the container has a size, a controlling terminal and /dev/console.
fn a_terminal_for_a_client(who: Who) {
    let socket = place(who).join("console");
    let listener = UnixListener::bind(&socket).expect("new");
    give(&socket, who);
    let script = "tty; stty size; ls -l /dev/console; test -c /dev/console && echo it is; echo hello > /dev/tty; \
                  read word; echo got $word; sleep 1000";
    let bundle = Bundle::sh(who, "a", script)
        .set("/process/terminal", json!(true))
        .set("/process/consoleSize", json!({"height": 33, "width": 99}));
    let options = ["--console-socket", socket.to_str().expect("text")];
    say(&mut bundle.command("create", &options, "one")).good();
    let mut terminal = receive(&listener);
    oci(who, &["start", "one"]).good();
    let text = until(&mut terminal, "hello");
    assert!(text.contains("/dev/pts/0\r\n") || text.contains("/dev/console\r\n"), "{text}");
    assert!(text.contains("33 99\r\n") && text.contains("it is\r\n"), "{text}");
    terminal.write_all(b"word\n").expect("writable");
    until(&mut terminal, "got word");
    // exec's own, and it is the client's as well.
    let mut line = runtime(who);
    line.args(["exec", "--tty", "--detach"]).args(options).args([
        "one",
        "/bin/sh",
        "-c",
        "tty; read x; echo done $x",
    ]);
    say(&mut line).good();
    let mut other = receive(&listener);
    until(&mut other, "/dev/pts/");
    other.write_all(b"1\n").expect("writable");
    until(&mut other, "done 1");
    oci(who, &["delete", "--force", "one"]).good();
    // Without a terminal, or without a socket, it is a mistake.
    leaves_nothing("half a terminal", || {
        say(&mut bundle.command("create", &[], "one")).bad(125, "--console-socket");
        say(&mut bundle.command("create", &["--console-socket", "/no/such"], "one")).bad(125, "/no/such");
    });
    let bundle = bundle.set("/process/terminal", json!(false));
    leaves_nothing("half a terminal", || {
        say(&mut bundle.command("create", &options, "one")).bad(125, "process.terminal");
    });
    fs::remove_file(&socket).expect("there");
}

/// consoleSize without a terminal is nothing; `run --detach` with one and without a socket is a mistake.
fn a_terminal_without_a_client(who: Who) {
    let bundle = Bundle::sh(who, "a", "tty; ls /dev/console; true")
        .set("/process/consoleSize", json!({"height": 33, "width": 99}));
    let said = bundle.run("one");
    assert_eq!((said.status, said.out.as_str()), (0, "not a tty\n"), "{}", said.err);
    let bundle = bundle.set("/process/terminal", json!(true));
    leaves_nothing("a terminal for nobody", || {
        say(&mut bundle.command("run", &["--detach"], "one")).bad(125, "--console-socket");
    });
}

/// --preserve-fds, and what a service manager hands on. Nothing else that is open reaches the command.
fn files_that_are_handed_on(who: Who) {
    let bundle =
        Bundle::sh(who, "a", "ls /proc/self/fd; echo ${LISTEN_FDS-none} ${LISTEN_PID-none}; cat <&3");
    fs::write("/tmp/three", "three\n").expect("new");
    give(Path::new("/tmp/three"), who);
    let with_fds = |mut command: std::process::Command, variables: &[(&str, &str)]| {
        command.envs(variables.iter().copied());
        // SAFETY: system calls only, between fork and exec.
        unsafe {
            command.pre_exec(|| {
                for fd in 3..=5 {
                    let file = libc::open(c"/tmp/three".as_ptr(), libc::O_RDONLY);
                    libc::dup2(file, fd);
                    if file > 5 {
                        libc::close(file);
                    }
                }
                Ok(())
            });
        }
        say(&mut command).out
    };
    let last = |list: &[i32]| list.iter().map(|fd| format!("{fd}\n")).collect::<String>();
    let out = with_fds(bundle.command("run", &["--preserve-fds", "2"], "one"), &[]);
    // One more is the directory that ls reads.
    assert_eq!(out, last(&[0, 1, 2, 3, 4, 5]) + "none none\nthree\n");
    let out = with_fds(bundle.command("run", &[], "one"), &[]);
    assert!(out.starts_with(&(last(&[0, 1, 2, 3]) + "none none\n")), "{out}");
    let out = with_fds(bundle.command("run", &[], "one"), &[("LISTEN_FDS", "1"), ("LISTEN_PID", "1")]);
    assert_eq!(out, last(&[0, 1, 2, 3, 4]) + "1 1\nthree\n");
    let out = with_fds(bundle.command("run", &["--preserve-fds", "1"], "one"), &[("LISTEN_FDS", "2")]);
    assert_eq!(out, last(&[0, 1, 2, 3, 4, 5, 6]) + "2 1\nthree\n");
    let up = Bundle::idle(who, "b").up("two");
    let mut line = runtime(who);
    line.args(["exec", "--preserve-fds", "1", &up.id, "/bin/sh", "-c", "ls /proc/self/fd; cat <&3"]);
    assert_eq!(with_fds(line, &[]), last(&[0, 1, 2, 3, 4]) + "three\n");
}

/// The same namespaces, the same root, the same cgroups, what the container's process has.
fn exec_as_the_container(who: Who) {
    let bundle = Bundle::idle(who, "a").set("/process/cwd", json!("/tmp")).add("/process/env", json!("A=b"));
    let up = bundle.up("one");
    let links = |pid: &str| -> String {
        let kinds = ["cgroup", "ipc", "mnt", "net", "pid", "uts", "user"];
        kinds.iter().map(|kind| format!("readlink /proc/{pid}/ns/{kind}; ")).collect()
    };
    assert_eq!(up.says(&links("self")), up.says(&links("1")));
    assert_eq!(up.says("cat /proc/self/cgroup"), up.says("cat /proc/1/cgroup"));
    assert_eq!(up.says("cat /proc/self/mountinfo"), up.says("cat /proc/1/mountinfo"));
    assert_eq!(
        up.says("pwd; echo $A; ls -id /"),
        up.says("echo /tmp; echo b; ls -id /proc/1/root/. | sed s,proc/1/root/.,,")
    );
    let sets = "grep -E '^(Cap|NoNewPrivs|Seccomp:|Groups|Uid|Gid)' /proc/PID/status";
    assert_eq!(up.says(&sets.replace("PID", "self")), up.says(&sets.replace("PID", "1")));
    assert_eq!(up.says("ulimit -n"), "1024\n");
}

fn exec_with_options(who: Who) {
    let up = Bundle::idle(who, "a").up("one");
    let exec = |options: &[&str], script: &str| {
        let mut line = runtime(who);
        line.arg("exec").args(options).args(["one", "/bin/sh", "-c", script]);
        say(&mut line)
    };
    assert_eq!(exec(&["--cwd", "/usr"], "pwd").good().out, "/usr\n");
    assert_eq!(exec(&["--env", "A=1", "-e", "B=2 3"], "echo $A $B $TERM").good().out, "1 2 3 xterm\n");
    assert_eq!(exec(&["--env", "PATH=/no"], "echo $PATH").good().out, "/no\n");
    assert_eq!(exec(&[], "exit 7").status, 7);
    assert_eq!(exec(&[], "kill -9 $$").status, 137);
    assert_eq!(exec(&["--no-new-privs"], "grep NoNewPrivs /proc/self/status").good().out, "NoNewPrivs:\t1\n");
    let said = exec(&["--cap", "cap_chown"], "grep Cap /proc/self/status").good().out;
    let set = |name: &str| -> u64 {
        let line = said.lines().find_map(|line| line.strip_prefix(name)).expect("a set");
        u64::from_str_radix(line.trim(), 16).expect("a number")
    };
    for name in ["CapBnd:", "CapPrm:", "CapEff:"] {
        assert_eq!(set(name) & 1, 1, "{name} {said}");
    }
    assert_eq!((set("CapInh:"), set("CapAmb:")), (0, 0), "{said}");
    exec(&["--cap", "CAP_NO_SUCH"], "true").bad(2, "CAP_NO_SUCH");
    exec(&["--user", "x"], "true").bad(2, "--user");
    exec(&["--process", "/no/such"], "true").bad(125, "/no/such");
    drop(up);
}

fn exec_as_another_user(who: Who) {
    let up = Bundle::idle(who, "a").up("one");
    let exec = |options: &[&str]| {
        let mut line = runtime(who);
        line.arg("exec").args(options).args(["one", "/usr/bin/id"]);
        say(&mut line).good().out
    };
    let id = exec(&["--user", "1000:2000", "-g", "3000", "-g", "3001"]);
    assert!(id.starts_with("uid=1000 gid=2000"), "{id}");
    assert!(id.contains("3000") && id.contains("3001"), "{id}");
    let id = exec(&["--user", "1000"]);
    assert!(id.starts_with("uid=1000 gid=0"), "{id}");
    drop(up);
}

/// --process: all that config.json's `process` can say.
fn exec_with_a_file(who: Who) {
    let up = Bundle::idle(who, "a").up("one");
    let file = place(who).join("process.json");
    let process = json!({
        "args": ["/bin/sh", "-c", "pwd; echo $A; umask; ulimit -n; grep -E '^(CapEff|NoNewPrivs)' /proc/self/status"],
        "cwd": "/usr", "env": ["A=b", "PATH=/bin:/usr/bin"], "user": {"uid": 0, "gid": 0, "umask": 0o27},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 78}],
        "capabilities": {"bounding": [], "effective": [], "permitted": []}, "noNewPrivileges": true,
    });
    fs::write(&file, process.to_string()).expect("written");
    let said = oci(who, &["exec", "--process", file.to_str().expect("text"), "one"]).good().out;
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines, ["/usr", "b", "0027", "77", "CapEff:\t0000000000000000", "NoNewPrivs:\t1"]);
    fs::write(&file, "{").expect("written");
    oci(who, &["exec", "--process", file.to_str().expect("text"), "one"]).bad(125, "--process");
    let wrong = Value::Object(
        process
            .as_object()
            .expect("an object")
            .iter()
            .filter(|(key, _)| *key != "args")
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
    );
    fs::write(&file, wrong.to_string()).expect("written");
    oci(who, &["exec", "--process", file.to_str().expect("text"), "one"]).bad(125, "process.args");
    drop(up);
}

/// --detach and --pid-file: the process goes on when the runtime has ended, and ends with the container.
fn exec_detached(who: Who) {
    let bundle = Bundle::idle(who, "a");
    let file = place(who).join("pid");
    leaves_nothing("exec --detach", || {
        let up = bundle.up("one");
        let mut line = runtime(who);
        line.args(["exec", "--detach", "--pid-file"]).arg(&file).args(["one", "/bin/sleep", "1005"]);
        say(&mut line).good();
        let number = fs::read_to_string(&file).expect("written");
        let command = fs::read_to_string(format!("/proc/{number}/cmdline")).expect("it runs");
        assert_eq!(command, "/bin/sleep\x001005\0");
        drop(up);
        eventually("its end", || !Path::new(&format!("/proc/{number}/cmdline")).exists());
        fs::remove_file(&file).expect("there");
    });
}

fn exec_that_fails(who: Who) {
    let bundle = Bundle::idle(who, "a");
    let up = bundle.up("one");
    leaves_nothing("exec of nothing", || {
        oci(who, &["exec", "one", "no-such"]).bad(127, "executable file not found in $PATH");
        oci(who, &["exec", "one", "/no/such"]).bad(127, "no such file");
        oci(who, &["exec", "one", "/etc"]).bad(126, "is a directory");
        oci(who, &["exec", "--cwd", "relative", "one", "/bin/true"]).bad(125, "process.cwd");
        oci(who, &["exec", "one"]).bad(2, "no command");
    });
    drop(up);
}

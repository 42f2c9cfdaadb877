//! The checks of chapter 4.

use std::fs::{self, File};
use std::path::Path;

use nix::sched::CloneFlags;

use crate::check::{Check, Failure, Run, Session, Trial, namespace, status_of};

/// In the order of the tasks.
pub const CHECKS: &[Check] = &[
    Check {
        task: "4.1",
        explain: "starts a container with a random --hostname; compares what uname -n, /etc/hostname and \
                  /etc/hosts say in it; asks the host for its own name meanwhile; then starts one without \
                  --hostname",
        needs: &["uts-namespace"],
        run: names_agree,
    },
    Check {
        task: "4.2",
        explain: "makes System V shared memory, semaphores and a message queue, and a POSIX message queue, on the \
                  host; looks for them inside; makes the same inside; looks for those on the host; makes a file \
                  in /dev/mqueue inside, and opens the queue that it should be",
        needs: &["ipc-namespace"],
        run: ipc_is_apart,
    },
    Check {
        task: "4.3",
        explain: "starts a container; runs commands with --join and the host's number of its first process; compares \
                  their namespaces with the container's; reads a file that only the container has, by its path and \
                  by a relative one; asks for exit statuses; then lets the container end",
        needs: &["pid-namespace"],
        run: join,
    },
];

/// What the exercise looks at: of the tasks that are not written yet only this one matters.
fn looking_at(trial: &mut Trial, task: &str) {
    trial.set_variable("COOPERAGE_TASK", task);
}

/// The container's first process, by the host's number.
fn first(session: &Session) -> Result<i32, Failure> {
    let own = namespace(std::process::id() as i32, "pid");
    let all = session.descendants();
    let is_first = |pid: &i32| {
        namespace(*pid, "pid") != own && status_of(*pid, "NSpid").last().is_some_and(|last| last == "1")
    };
    all.iter().find(|pid| is_first(pid)).or(all.last()).copied().ok_or_else(|| {
        session.fail(
            "a process of the container, as long as its command runs",
            "the program has no child",
            "the runtime stays, and waits for the container: its status is the runtime's",
        )
    })
}

/// The lines that the script printed up to one that only says this.
fn lines_until(session: &mut Session, mark: &str) -> Vec<String> {
    let mut lines = Vec::new();
    while lines.len() < 1000 {
        let line = session.line();
        if line == mark || (line.is_empty() && session.ended()) {
            break;
        }
        lines.push(line);
    }
    lines
}

fn own_name() -> String {
    nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned()
}

fn names_agree(trial: &mut Trial) -> Result<(), Failure> {
    looking_at(trial, "4.1");
    let host = own_name();
    let name = trial.word();
    one_container(trial, &["--hostname", &name], Some(&name), &host)?;
    one_container(trial, &[], None, &host)
}

fn one_container(trial: &mut Trial, args: &[&str], name: Option<&str>, host: &str) -> Result<(), Failure> {
    let mark = "---";
    let script =
        format!("uname -n; echo {mark}; cat /etc/hostname; echo {mark}; cat /etc/hosts; echo {mark}");
    let mut session = trial.start(args, &script)?;
    let now = own_name();
    if now != host {
        let _ = nix::unistd::sethostname(host);
        return Err(session.fail(
            format!("the host is still called {host}"),
            format!("the host is called {now}"),
            "the name was set in the host's own UTS namespace: the new one comes first, then the name",
        ));
    }
    let mut part = || lines_until(&mut session, mark);
    let (uname, file, hosts) = (part(), part(), part());
    let uname = uname.first().map(String::as_str).unwrap_or_default().to_string();
    match name {
        Some(name) if uname != name => {
            return Err(session.fail(
                format!("uname -n says {name}"),
                format!("uname -n says {uname}"),
                "--hostname is what the kernel calls the container: sethostname(2) sets it, in the new UTS namespace",
            ));
        }
        None if uname == host => {
            return Err(session.fail(
                "without --hostname the container has some name of its own",
                format!("it has the host's: {host}"),
                "a copy of a namespace starts with what the original had; the runtime chooses a name",
            ));
        }
        _ => {}
    }
    let written: Vec<&str> = file.iter().map(|line| line.trim()).filter(|line| !line.is_empty()).collect();
    if written != [uname.as_str()] {
        return Err(session.fail(
            format!("/etc/hostname says {uname}, as uname -n does"),
            format!("/etc/hostname says {:?}", written.join(" | ")),
            "the kernel's name and the files are not connected: who sets one has to write the others",
        ));
    }
    for wanted in [uname.as_str(), "localhost"] {
        let knows = hosts.iter().any(|line| {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            words.next().is_some_and(|address| address.parse::<std::net::IpAddr>().is_ok())
                && words.any(|word| word == wanted)
        });
        if !knows {
            return Err(session.fail(
                format!("a line of /etc/hosts with an address and the name {wanted}"),
                format!("/etc/hosts says {:?}", hosts.join(" | ")),
                "a program that looks up its own name finds it in /etc/hosts, or nowhere; and localhost too",
            ));
        }
    }
    let run = session.end()?;
    run.success("the command was to wait for a line and end")
}

/// A System V object of each kind, and what to call it.
const KINDS: [(&str, &str); 3] = [("shm", "shared memory"), ("sem", "semaphores"), ("msg", "message queue")];

/// Makes shared memory, semaphores and a message queue with this key, in the IPC namespace of this thread.
fn make_system_v(key: i32) -> std::io::Result<()> {
    let how = libc::IPC_CREAT | libc::IPC_EXCL | 0o600;
    // SAFETY: numbers are all that these calls take.
    let made = unsafe { [libc::shmget(key, 4096, how), libc::semget(key, 1, how), libc::msgget(key, how)] };
    if made.iter().all(|id| *id >= 0) { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Does something in the IPC namespace of a process.
fn in_ipc_of<T: Send>(pid: i32, what: impl FnOnce() -> std::io::Result<T> + Send) -> std::io::Result<T> {
    let visit = || {
        let theirs = File::open(format!("/proc/{pid}/ns/ipc"))?;
        nix::sched::setns(theirs, CloneFlags::CLONE_NEWIPC)?;
        what()
    };
    std::thread::scope(|scope| {
        let gone = |_| Err(std::io::Error::other("the thread panicked"));
        scope.spawn(visit).join().unwrap_or_else(gone)
    })
}

/// Is there a POSIX message queue of this name, in the IPC namespace of this thread?
fn is_queue(name: &str) -> std::io::Result<bool> {
    let path = std::ffi::CString::new(format!("/{name}"))?;
    // SAFETY: the string outlives the calls, and the descriptor is this function's own.
    unsafe {
        let queue = libc::mq_open(path.as_ptr(), libc::O_RDONLY);
        Ok(queue >= 0 && libc::mq_close(queue) == 0)
    }
}

/// The kinds of System V objects with this key that a reader of /proc/sysvipc sees.
fn found_in(kinds: &[(&str, String)], key: i32) -> Vec<&'static str> {
    let mut found = Vec::new();
    for (kind, called) in KINDS {
        let table = kinds.iter().find(|(name, _)| *name == kind).map(|(_, text)| text.as_str());
        let keys = table.unwrap_or_default().lines().filter_map(|line| line.split_whitespace().next());
        if keys.into_iter().any(|word| word == key.to_string()) {
            found.push(called);
        }
    }
    found
}

fn ipc_is_apart(trial: &mut Trial) -> Result<(), Failure> {
    looking_at(trial, "4.2");
    let (ours, theirs) = (trial.number(1 << 20, 1 << 29) as i32, trial.number(1 << 29, 1 << 30) as i32);
    let (our_queue, their_queue, file, mark) = (trial.word(), trial.word(), trial.word(), "---");
    let cannot = |what: &str, error: std::io::Error| {
        Failure::new("(the check itself)", what, error.to_string(), "this machine could not do it")
    };
    make_system_v(ours).map_err(|error| cannot("System V objects on the host", error))?;
    let queue = Path::new("/dev/mqueue").join(&our_queue);
    fs::write(&queue, "").map_err(|error| cannot("a message queue on the host", error))?;
    fs::write(Path::new("/dev/shm").join(&our_queue), "").map_err(|error| cannot("shared memory", error))?;

    let script = format!(
        "for kind in shm sem msg; do cat /proc/sysvipc/$kind; echo {mark}; done; \
         ls /dev/shm; echo {mark}; ls /dev/mqueue 2>&1; echo {mark}; \
         (: > /dev/shm/{file}); (: > /dev/mqueue/{file}); cat /dev/mqueue/{file} 2>&1; echo {mark}"
    );
    let mut session = trial.start(&[], &script)?;
    let mut part = || lines_until(&mut session, mark).join("\n");
    let tables = KINDS.map(|(kind, _)| (kind, part()));
    let (shm, queues, made) = (part(), part(), part());
    let pid = first(&session)?;

    const SHARED: &str = "System V objects have no path: only an IPC namespace of its own (CLONE_NEWIPC) keeps them \
                          apart";
    let seen = found_in(&tables, ours);
    if !seen.is_empty() {
        let saw = format!("/proc/sysvipc inside lists the host's {}", seen.join(", "));
        return Err(session.fail("nothing of the host's IPC is seen inside", saw, SHARED));
    }
    if tables.iter().any(|(_, table)| !table.contains("key")) {
        let saw = format!("cat /proc/sysvipc/shm says {:?}", tables[0].1);
        return Err(session.fail("a /proc inside, with sysvipc", saw, "the container has its own /proc"));
    }
    if shm.lines().any(|name| name == our_queue) {
        let saw = "a file of the host's /dev/shm is seen inside";
        let lesson = "POSIX shared memory is files in /dev/shm: a tmpfs of its own there keeps it apart";
        return Err(session.fail("nothing of the host's IPC is seen inside", saw, lesson));
    }
    if queues.lines().any(|name| name == our_queue) {
        let saw = "a message queue of the host is in /dev/mqueue inside";
        let lesson = "a mount of mqueue shows the queues of the IPC namespace it was made in: unshare first, mount then";
        return Err(session.fail("nothing of the host's IPC is seen inside", saw, lesson));
    }
    if !made.starts_with("QSIZE") {
        let saw = format!("ls /dev/mqueue says {queues:?}; a new file there, read, says {made:?}");
        let lesson =
            "message queues are seen as files where the filesystem mqueue is mounted: see mq_overview(7)";
        return Err(session.fail("a file made in /dev/mqueue inside is a message queue", saw, lesson));
    }
    if queue.with_file_name(&file).exists() {
        let saw = "a queue made in /dev/mqueue inside is seen in the host's";
        let lesson = "the mount of mqueue in the container is the host's: it shows the queues of the IPC namespace \
                      that it was made in";
        return Err(session.fail("a queue of the container is not seen outside", saw, lesson));
    }

    let own = in_ipc_of(pid, || {
        make_system_v(theirs)?;
        Ok((is_queue(&file)?, is_queue(&our_queue)?, is_queue(&their_queue)?))
    });
    let read = |kind: &str| trial.proc(&format!("sysvipc/{kind}")).unwrap_or_default();
    let outside = KINDS.map(|(kind, _)| (kind, read(kind)));
    let seen = found_in(&outside, theirs);
    if !seen.is_empty() {
        let saw = format!("the host sees the container's {}", seen.join(", "));
        return Err(session.fail("nothing of the container's IPC is seen outside", saw, SHARED));
    }
    match own {
        Ok((true, false, false)) => {}
        Ok(_) => {
            let saw = "mq_open(3) in the container does not find what /dev/mqueue shows";
            let lesson =
                "the mount of mqueue shows the queues of the IPC namespace that it was made in: another one";
            return Err(session.fail("/dev/mqueue shows the queues of the container", saw, lesson));
        }
        Err(error) => return Err(cannot("entering the container's IPC namespace", error)),
    }
    let run = session.end()?;
    run.success("the command was to wait for a line and end")
}

fn join(trial: &mut Trial) -> Result<(), Failure> {
    looking_at(trial, "4.3");
    let (file, secret, host_name) = (trial.word(), trial.word(), trial.word());
    // On the host, too, there is a file of that name: whoever reads this one is in the wrong place.
    let on_host = Path::new("/tmp").join(&file);
    let _ = fs::write(&on_host, "the host's\n");
    let script = format!("echo {secret} > /tmp/{file}");
    let mut session = trial.start(&["--hostname", &host_name], &script)?;
    let pid = first(&session)?;
    let number = pid.to_string();
    let inside = |trial: &mut Trial, script: &str| trial.run(&["--join", &number, "--", "sh", "-c", script]);

    let mark = "---";
    let kinds = ["mnt", "uts", "ipc", "net", "cgroup", "user"];
    let script = format!(
        "cat /tmp/{file}; echo {mark}; cat tmp/{file}; echo {mark}; \
         for kind in {}; do readlink /proc/self/ns/$kind || echo none; done; echo {mark}",
        kinds.join(" ")
    );
    let run = inside(trial, &script)?;
    run_ended(&run)?;
    let parts: Vec<&str> = run.out.split(&format!("{mark}\n")).collect();
    let [by_path, relative, links, _] = parts[..] else {
        return Err(run.fail(
            "a shell runs in the container",
            run.said(),
            "the command is looked for and run with the container's root as its root",
        ));
    };
    if by_path.trim() != secret {
        let expected = format!("/tmp/{file} is the container's: {secret}");
        let lesson = "the command is not among the container's files: enter its mount namespace, too; that makes its \
                      root the root";
        return Err(run.fail(expected, format!("cat says {:?}; {}", by_path.trim(), run.said()), lesson));
    }
    if relative.trim() != secret {
        let expected = format!("started in the container's /, the command finds tmp/{file}");
        let saw = format!("cat says {:?}; {}", relative.trim(), run.said());
        let lesson = "the command's working directory is outside its root: a relative path reaches the host. chroot(2) \
                      does not change the working directory";
        return Err(run.fail(expected, saw, lesson));
    }
    let links: Vec<&str> = links.lines().collect();
    for (kind, link) in kinds.into_iter().zip(links.iter().copied().chain(std::iter::repeat("nothing"))) {
        let Some(container) = namespace(pid, kind) else { continue };
        if link != container {
            let lesson = "a container is all its namespaces: /proc/PID/ns lists them. They are opened by the host's \
                          /proc, so before its mount namespace is entered";
            let expected = format!("the command is in the container's {kind} namespace, {container}");
            return Err(run.fail(expected, format!("it is in {link}"), lesson));
        }
    }
    // Not in a shell: that has children, which are born into the namespace even if it is not in there itself.
    let run = trial.run(&["--join", &number, "--", "readlink", "/proc/self/ns/pid"])?;
    let container = namespace(pid, "pid").unwrap_or_default();
    if run.out.trim() != container {
        let lesson = "setns(2) to a PID namespace does not move the process itself, only the children that it makes \
                      from then on: enter, make a child, and let the child become the command";
        let expected = format!("the command is in the container's list of processes, in {container}");
        let saw = format!("/proc/self is not there for it: {}", run.said());
        return Err(run.fail(expected, saw, lesson));
    }
    let status = trial.number(3, 99) as i32;
    let run = inside(trial, &format!("exit {status}"))?;
    if run.status != status {
        let lesson = "the runtime waits for the command, and ends with its status";
        return Err(run.fail(format!("status {status}, the command's own"), run.said(), lesson));
    }
    let run = inside(trial, "kill -TERM $$")?;
    if run.status != 143 {
        let lesson = "a command that signal N killed has no status: 128+N stands for it";
        return Err(run.fail("status 143: 128 and 15, SIGTERM", run.said(), lesson));
    }
    let run = trial.run(&["--join", &number, "--", &secret])?;
    if run.status != 127 {
        let lesson = "a command that is not found ends with 127, inside as outside";
        return Err(run.fail("status 127: there is no such command", run.said(), lesson));
    }
    if session.ended() {
        return Err(session.fail(
            "the container goes on",
            "it has ended with the command that joined it",
            "who joins is a guest: only the end of process 1 is the container's end",
        ));
    }
    let run = session.end()?;
    run.success("the container was to go on until it is told to end")
}

/// Fails if the runtime could not join at all.
fn run_ended(run: &Run) -> Result<(), Failure> {
    run.success(if run.err.contains("--join") {
        "the program does not take the option --join PID: it stands before the command, as --hostname does"
    } else {
        "open what is needed of /proc/PID first, enter the namespaces then: the host's numbers and paths mean nothing \
         in there"
    })
}

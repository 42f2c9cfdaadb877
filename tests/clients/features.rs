//! What people ask of docker and podman, each seen from inside the container and from outside.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::Pid;

use crate::engine::{Client, Engine, IMAGE, Runtime, calls_since, directory, setting, status, version_1};
use crate::support::run::{NOBODY, eventually, namespaces};
use crate::support::{Who, is_snapshot};

/// A command that is process 1, says that it is there, and ends with status 4 when it is told to.
const OBEDIENT: &str = "trap 'echo bye; exit 4' TERM; echo up; while :; do sleep 0.05; done";
/// One that does not heed it.
const DEAF: &str = "trap '' TERM; echo up; while :; do sleep 0.05; done";

/// Waits until a container's command has said that it is there.
fn is_up(engine: &Engine, name: &str) {
    eventually("up", || engine.ok(&["logs", name]).contains("up\n"));
}

/// The words by which a client knows that there is no such program: runc's, or crun's, which name it in between.
fn is_not_found(text: &str) -> bool {
    text.contains("executable file not found in $PATH")
        || text.contains("executable file `no-such-program` not found in $PATH")
}

/// run, -u, -w, -e, --hostname: the status is the command's, or 126 or 127.
pub fn runs(engine: Engine) {
    assert_eq!(engine.sh(&[], "exit 7").status, 7);
    let ended = engine.run(&[], &["no-such-program"]);
    assert!(is_not_found(&ended.err), "{}", ended.err);
    // Docker goes by the words, and does not know crun's.
    let docker_knows = engine.client == Client::Podman || engine.runtime != Runtime::Crun;
    assert_eq!(ended.status, if docker_knows { 127 } else { 125 }, "{}", ended.err);
    let ended = engine.run(&[], &["/etc/passwd"]);
    assert!(ended.err.contains("ermission denied"), "{}", ended.err);
    assert_eq!(ended.status, if docker_knows { 126 } else { 125 }, "{}", ended.err);

    let ended = engine.sh(&[], "echo to stdout; echo to stderr >&2");
    assert_eq!((ended.out.as_str(), ended.err.as_str()), ("to stdout\n", "to stderr\n"));
    let options = ["-u", "1000:1001", "-w", "/tmp", "-e", "A=b", "--hostname", "web"];
    assert_eq!(
        engine.says(&options, "echo $(id -u) $(id -g) $(pwd) $A $(hostname) $(cat /etc/hostname)"),
        "1000 1001 /tmp b web web\n"
    );
    assert_eq!(engine.says(&["--entrypoint", "echo"], "x").trim(), "sh -c x");

    // Outside: namespaces of its own, and the user that was asked for.
    let first = engine.start("outside", &["-u", "1000:1001"], OBEDIENT);
    let (ours, its) = (namespaces(Pid::this()), namespaces(first));
    for kind in ["ipc", "mnt", "net", "pid", "uts"] {
        assert_ne!(ours[kind], its[kind], "{kind}");
    }
    // An ordinary user's 1000 is the thousandth of those that /etc/subuid gives him, after himself.
    let user = if engine.who == Who::Root { 1000 } else { 200_999 };
    assert_eq!(status(first, "Uid"), format!("{user} {user} {user} {user}"));
    // /proc is the container's own, and process 1 is the command.
    assert_eq!(status(first, "NSpid").split(' ').next_back(), Some("1"));
    engine.remove("outside");
    assert!(!Path::new(&format!("/proc/{first}")).exists());
    engine.nothing_is_left();
}

/// exec, with -u, -e, -w and -t.
pub fn execs(engine: Engine) {
    let first = engine.start("bg", &[], OBEDIENT);
    let ended = engine.ended(&["exec", "bg", "sh", "-c", "echo in; exit 5"]);
    assert_eq!((ended.status, ended.out.as_str()), (5, "in\n"), "{}", ended.err);
    let script = "echo $(id -u) $X $(pwd)";
    let said = engine.ok(&["exec", "-u", "1", "-e", "X=y", "-w", "/tmp", "bg", "sh", "-c", script]);
    assert_eq!(said, "1 y /tmp\n");
    assert_eq!(engine.ok(&["exec", "-t", "bg", "tty"]).trim(), "/dev/pts/0");
    let ended = engine.ended(&["exec", "bg", "no-such-program"]);
    // Docker says 126 here whatever the runtime, as it has not understood why.
    let expected = if engine.client == Client::Docker { 126..=127 } else { 127..=127 };
    assert!(expected.contains(&ended.status), "{} {}", ended.status, ended.err);
    assert!(is_not_found(&format!("{}{}", ended.out, ended.err)), "{}", ended.err);

    // Outside: it is where the container is.
    engine.ok(&["exec", "-d", "bg", "sleep", "1234"]);
    let sleeper = || {
        let is_it = |pid: &Pid| {
            fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.ends_with(b"sleep\x001234\0"))
                && status(*pid, "NSpid").contains(' ')
        };
        let entries = fs::read_dir("/proc").expect("readable").flatten();
        let mut pids =
            entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).map(Pid::from_raw);
        pids.find(is_it)
    };
    eventually("the sleeper", || sleeper().is_some());
    let sleeper = sleeper().expect("as was just seen");
    assert_eq!(namespaces(first), namespaces(sleeper));
    let cgroup = |pid: Pid| fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it lives");
    assert_eq!(cgroup(first), cgroup(sleeper));
    assert_eq!(status(first, "CapBnd"), status(sleeper, "CapBnd"));
    engine.remove("bg");
    assert!(!Path::new(&format!("/proc/{sleeper}")).exists(), "it dies with process 1");
    engine.nothing_is_left();
}

/// -t.
pub fn gives_a_terminal(engine: Engine) {
    let script = "tty; stat -c %t /dev/console; test -t 0 && test -t 1 && test -t 2 && echo all; exit 3";
    let ended = engine.sh(&["-t"], script);
    // 88 is 136, a pseudo-terminal. The terminal turns ends of lines into two characters.
    assert_eq!((ended.status, ended.out.as_str()), (3, "/dev/pts/0\r\n88\r\nall\r\n"), "{}", ended.err);
    assert_eq!(engine.sh(&[], "test -t 1").status, 1);

    // Outside: all three are one pseudo-terminal, and the process leads a session of its own.
    let first = engine.start("bg", &["-t"], OBEDIENT);
    let open = |number: u32| fs::read_link(format!("/proc/{first}/fd/{number}")).expect("open");
    assert_eq!([open(0), open(1), open(2)], ["/dev/pts/0"; 3].map(std::path::PathBuf::from));
    let stat = fs::read_to_string(format!("/proc/{first}/stat")).expect("it lives");
    let fields: Vec<&str> = stat.rsplit_once(") ").expect("a name").1.split(' ').collect();
    assert_eq!(fields[3], first.to_string(), "session of {stat}");
    assert_eq!(fields[4], (136 << 8).to_string(), "terminal of {stat}");
    engine.remove("bg");
    engine.nothing_is_left();
}

/// -v, named volumes, --tmpfs, --shm-size, --device, --read-only.
pub fn mounts(engine: Engine) {
    let shared = directory("shared", engine.who);
    fs::write(shared.join("from-outside"), "outside\n").expect("writable");
    let volume = format!("{}:/v", shared.display());
    let said = engine.says(&["-v", &volume], "cat /v/from-outside; echo inside >/v/from-inside");
    assert_eq!(said, "outside\n");
    let made = shared.join("from-inside");
    assert_eq!(fs::read_to_string(&made).expect("made"), "inside\n");
    // The container's root is an ordinary user's own self.
    let owner = if engine.who == Who::Root { 0 } else { NOBODY };
    assert_eq!(fs::metadata(&made).expect("made").uid(), owner);
    let ended = engine.sh(&["-v", &format!("{volume}:ro")], "cat /v/from-outside; touch /v/x");
    assert_eq!((ended.status, ended.out.as_str()), (1, "outside\n"));
    assert!(ended.err.contains("Read-only file system"), "{}", ended.err);
    assert!(!shared.join("x").exists());

    engine.says(&["-v", "kept:/v"], "echo kept >/v/file");
    assert_eq!(engine.says(&["-v", "kept:/v"], "cat /v/file"), "kept\n");
    engine.ok(&["volume", "rm", "kept"]);

    let script = "grep ' /t tmpfs' /proc/mounts | grep -o size=[0-9]*k; grep ' /dev/shm tmpfs' /proc/mounts | grep -o size=[0-9]*k";
    assert_eq!(
        engine.says(&["--tmpfs", "/t:size=1m", "--shm-size", "2m"], script),
        "size=1024k\nsize=2048k\n"
    );
    // A node of our own: those of the lab are mounted read-only, which no ordinary user's container may change.
    let node = shared.join("node");
    mknod(&node, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 3)).expect("root may");
    fs::set_permissions(&node, fs::Permissions::from_mode(0o666)).expect("ours");
    let device = format!("{}:/dev/nothing", node.display());
    let script = "test -c /dev/nothing && echo >/dev/nothing && echo written";
    assert_eq!(engine.says(&["--device", &device], script), "written\n");

    let ended = engine.sh(&["--read-only", "-v", &volume], "touch /x; touch /v/y && echo v");
    assert_eq!(ended.out, "v\n", "{}", ended.err);
    assert!(ended.err.contains("Read-only file system"), "{}", ended.err);

    // Outside: the mounts of a container are not to be seen; nor can it be reached from it what lies above the volume.
    let first = engine.start("bg", &["-v", &volume], OBEDIENT);
    let lines = |pid: Pid| fs::read_to_string(format!("/proc/{pid}/mountinfo")).expect("it lives");
    assert!(lines(first).lines().any(|line| line.split(' ').nth(4) == Some("/v")));
    assert!(!lines(Pid::this()).lines().any(|line| line.split(' ').nth(4) == Some("/v")));
    assert!(!lines(first).contains(&format!(" {} ", shared.display())));
    engine.remove("bg");
    engine.nothing_is_left();
}

const MEMORY: (&str, &str) = ("memory.limit_in_bytes", "memory.max");
const PIDS: (&str, &str) = ("pids.max", "pids.max");

/// --memory, --pids-limit, --cpus: read inside, read outside, and kept.
pub fn limits(engine: Engine) {
    let options = ["--memory", "64m", "--pids-limit", "30", "--cpus", "0.5"];
    let first = engine.start("bg", &options, OBEDIENT);
    let seen = || {
        let cpu = setting(first, "cpu", ("cpu.cfs_quota_us", "cpu.max"));
        (setting(first, "memory", MEMORY), setting(first, "pids", PIDS), cpu)
    };
    let (v1, v2) = ("50000", "50000 100000");
    let expected = |cpu: &str| ("67108864".to_string(), "30".to_string(), cpu.to_string());
    assert_eq!(seen(), expected(if version_1() { v1 } else { v2 }));
    let inside = if version_1() {
        "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes pids/pids.max cpu/cpu.cfs_quota_us"
    } else {
        "cd /sys/fs/cgroup; cat memory.max pids.max cpu.max"
    };
    let said = engine.ok(&["exec", "bg", "sh", "-c", inside]);
    assert_eq!(said, format!("67108864\n30\n{}\n", if version_1() { v1 } else { v2 }));
    assert_eq!(engine.says(&options, inside), said);
    let ended = engine.ended(&["exec", "bg", "sh", "-c", "echo 1000 >/sys/fs/cgroup/pids/pids.max"]);
    assert_ne!(ended.status, 0, "no container lifts its own limit");
    engine.remove("bg");

    // What it would not be worth to be told if it were not so.
    let ended = engine.sh(&["--memory", "8m"], "head -c 50000000 /dev/zero | tail");
    assert_eq!(ended.status, 137, "{}", ended.err);
    let ended =
        engine.sh(&["--pids-limit", "10"], "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1 & done; wait");
    assert_ne!(ended.status, 0);
    assert!(ended.err.contains("fork"), "{}", ended.err);
    engine.nothing_is_left();
}

/// `docker update`.
pub fn changes_limits(engine: Engine) {
    let first = engine.start("bg", &[], OBEDIENT);
    let pids = || setting(first, "pids", PIDS);
    assert_eq!(pids(), "max");
    let ended = engine.ended(&["update", "--pids-limit", "20", "bg"]);
    // Docker says 0 for each limit that was not named, and Debian's crun takes it for one.
    if engine.runtime == Runtime::Crun && ended.err.contains("memory.limit_in_bytes") {
        engine.remove("bg");
        return engine.nothing_is_left();
    }
    assert_eq!((ended.status, pids().as_str()), (0, "20"), "{}", ended.err);
    engine.ok(&["update", "--memory", "64m", "--memory-swap", "64m", "bg"]);
    assert_eq!((setting(first, "memory", MEMORY), pids()), ("67108864".to_string(), "20".to_string()));
    engine.ok(&["update", "--cpus", "0.25", "bg"]);
    assert_eq!(
        setting(first, "cpu", ("cpu.cfs_quota_us", "cpu.max")).split(' ').next(),
        Some("25000"),
        "a quarter of 100 ms"
    );
    engine.remove("bg");
    engine.nothing_is_left();
}

/// --cap-drop, --cap-add, no-new-privileges, --ulimit, --security-opt seccomp with a profile of one's own.
pub fn takes_power_away(engine: Engine) {
    let script = "grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status | tr -s '\t\n' ' '";
    let options = ["--cap-drop", "all", "--cap-add", "net_raw", "--security-opt", "no-new-privileges"];
    let said = engine.says(&options, script);
    assert_eq!(said.trim(), "CapEff: 0000000000002000 CapBnd: 0000000000002000 NoNewPrivs: 1 Seccomp: 2");
    let first = engine.start("bg", &options, OBEDIENT);
    for name in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(status(first, name), "0000000000002000", "{name}");
    }
    assert_eq!((status(first, "NoNewPrivs"), status(first, "Seccomp")), ("1".to_string(), "2".to_string()));
    engine.remove("bg");
    let ended = engine.sh(&["--cap-drop", "all"], "chown 1 /etc/passwd");
    assert_eq!(ended.status, 1);
    assert!(ended.err.contains("not permitted"), "{}", ended.err);
    // The client's usual filter, and none.
    assert_eq!(engine.sh(&[], "unshare -m true").status, 1);
    assert!(engine.says(&["--security-opt", "seccomp=unconfined"], script).contains("Seccomp: 0"));

    let profile = directory("profile", engine.who).join("no-directories.json");
    let text = r#"{"defaultAction": "SCMP_ACT_ALLOW",
                   "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}"#;
    fs::write(&profile, text).expect("writable");
    let option = format!("seccomp={}", profile.display());
    let ended =
        engine.sh(&["--security-opt", &option], "echo file >/file; mkdir /directory || test ! -e /directory");
    assert_eq!(ended.status, 0, "{}", ended.err);
    assert!(ended.err.contains("not permitted"), "{}", ended.err);
    // With one limit podman no longer has those of its settings, and its own for processes is more than may be given.
    let limits = ["--ulimit", "nofile=100:200", "--ulimit", "nproc=900:1000"];
    assert_eq!(engine.says(&limits, "ulimit -n; ulimit -Hn"), "100\n200\n");
    let first = engine.start("bg", &limits, OBEDIENT);
    let text = fs::read_to_string(format!("/proc/{first}/limits")).expect("it lives");
    let line = text.lines().find(|line| line.starts_with("Max open files")).expect("a line");
    assert_eq!(line.split_whitespace().collect::<Vec<_>>()[3..5], ["100", "200"]);
    engine.remove("bg");
    engine.nothing_is_left();
}

/// --privileged. The lab's root has not all capabilities, and this machine's may have still fewer. Ours passes over what it
/// lacks; Debian's runc and crun fail when they are to give it.
pub fn leaves_all_power(engine: Engine) {
    let script = "grep CapEff /proc/self/status; mount -t tmpfs x /mnt && echo mounted";
    let ended = engine.sh(&["--privileged"], script);
    let refuses = ["unable to apply caps: operation not permitted", "capset: Operation not permitted"];
    let theirs = engine.runtime != Runtime::Chapter10;
    if theirs && ended.status == 125 && refuses.iter().any(|words| ended.err.contains(words)) {
        return engine.nothing_is_left();
    }
    assert_eq!(ended.status, 0, "{}", ended.err);
    assert!(ended.out.ends_with("mounted\n"), "{}", ended.out);
    let ours = status(Pid::this(), "CapBnd");
    let number = |text: &str| u64::from_str_radix(text, 16).expect("a set");
    let set = ended.out.split_whitespace().nth(1).expect("a set");
    // CAP_CHOWN and CAP_SYS_ADMIN, and nothing that the lab does not have.
    assert_eq!(number(set) & 0x20_0001, 0x20_0001, "{set}");
    assert_eq!(number(set) & !number(&ours), 0, "{set} is more than {ours}");
    engine.nothing_is_left();
}

/// stop with its grace, kill, wait, logs, start, restart, --restart.
pub fn stops_and_restarts(engine: Engine) {
    let first = engine.start("bg", &[], OBEDIENT);
    is_up(&engine, "bg");
    engine.ok(&["stop", "-t", "60", "bg"]);
    assert!(!Path::new(&format!("/proc/{first}")).exists());
    let state = || engine.inspect("bg", "{{.State.Status}} {{.State.ExitCode}}");
    assert_eq!((engine.ok(&["wait", "bg"]).trim(), state().as_str()), ("4", "exited 4"));
    assert_eq!(engine.ok(&["logs", "bg"]), "up\nbye\n");

    engine.ok(&["start", "bg"]);
    let second = engine.first("bg");
    assert_ne!(first, second);
    eventually("up again", || engine.ok(&["logs", "bg"]) == "up\nbye\nup\n");
    engine.ok(&["restart", "-t", "60", "bg"]);
    let third = engine.first("bg");
    assert!(!Path::new(&format!("/proc/{second}")).exists());
    eventually("up once more", || engine.ok(&["logs", "bg"]) == "up\nbye\nup\nbye\nup\n");
    engine.ok(&["kill", "-s", "KILL", "bg"]);
    eventually("its end", || state() == "exited 137");
    assert!(!Path::new(&format!("/proc/{third}")).exists());
    engine.remove("bg");

    // After the grace it is killed; and a signal is the one that was asked for.
    engine.start("deaf", &[], DEAF);
    is_up(&engine, "deaf");
    engine.ok(&["stop", "-t", "1", "deaf"]);
    assert_eq!(engine.inspect("deaf", "{{.State.Status}} {{.State.ExitCode}}"), "exited 137");
    engine.remove("deaf");
    engine.start("usr1", &[], "trap 'echo got it; exit 9' USR1; echo up; while :; do sleep 0.05; done");
    is_up(&engine, "usr1");
    engine.ok(&["kill", "-s", "USR1", "usr1"]);
    assert_eq!(engine.ok(&["wait", "usr1"]).trim(), "9");
    assert_eq!(engine.ok(&["logs", "usr1"]), "up\ngot it\n");
    engine.remove("usr1");

    // Killed from outside, behind everybody's back.
    let first = engine.start("victim", &[], DEAF);
    is_up(&engine, "victim");
    kill(first, Signal::SIGKILL).expect("root may");
    assert_eq!(engine.ok(&["wait", "victim"]).trim(), "137");
    engine.remove("victim");

    engine.ok(&[
        "run",
        "-d",
        "--name",
        "re",
        "--restart",
        "on-failure:2",
        "--network",
        "none",
        IMAGE,
        "sh",
        "-c",
        "echo once; exit 3",
    ]);
    eventually("three ends", || engine.ok(&["logs", "re"]) == "once\n".repeat(3));
    eventually("the last end", || {
        engine.inspect("re", "{{.State.Status}} {{.State.ExitCode}}") == "exited 3"
    });
    assert_eq!(engine.inspect("re", "{{.RestartCount}}"), "2");
    engine.remove("re");
    engine.nothing_is_left();
}

/// pause, unpause, top.
pub fn pauses(engine: Engine) {
    let shared = directory("shared", engine.who);
    let volume = format!("{}:/v", shared.display());
    let script = "i=0; while :; do i=$((i + 1)); echo $i >/v/new; mv /v/new /v/count; sleep 0.02; done";
    let first = engine.start("bg", &["-v", &volume], script);
    let count = || fs::read_to_string(shared.join("count")).unwrap_or_default();
    let moves = |than: &str| eventually("the count", || !count().is_empty() && count() != than);
    moves("");
    engine.ok(&["pause", "bg"]);
    assert_eq!(engine.inspect("bg", "{{.State.Status}}"), "paused");
    if version_1() {
        assert_eq!(setting(first, "freezer", ("freezer.state", "")), "FROZEN");
    } else {
        assert_eq!(setting(first, "freezer", ("", "cgroup.freeze")), "1");
    }
    let seen = count();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(count(), seen, "nothing runs");
    engine.ok(&["unpause", "bg"]);
    moves(&seen);
    let listed = engine.ok(&["top", "bg"]);
    assert!(listed.lines().any(|line| line.contains("/v/count")), "{listed}");
    engine.ok(&["pause", "bg"]);
    // What is frozen can be taken away.
    engine.remove("bg");
    engine.nothing_is_left();
}

/// A health check, which is an exec now and then.
pub fn asks_for_health(engine: Engine) {
    let options = ["--health-cmd", "test -e /healthy", "--health-retries", "1", "--health-interval", "500ms"];
    engine.start("sick", &options, OBEDIENT);
    let health = |expected: &str| match engine.client {
        Client::Docker => {
            eventually(expected, || engine.inspect("sick", "{{.State.Health.Status}}") == expected);
        }
        // Without systemd nobody asks now and then, but podman can be told to.
        Client::Podman => {
            let ended = engine.ended(&["healthcheck", "run", "sick"]);
            assert_eq!(ended.status, i32::from(expected == "unhealthy"), "{}", ended.err);
        }
    };
    health("unhealthy");
    engine.ok(&["exec", "sick", "touch", "/healthy"]);
    health("healthy");
    engine.remove("sick");
    engine.nothing_is_left();
}

/// A build of three steps, and one that fails.
pub fn builds(engine: Engine) {
    let context = directory("context", engine.who);
    let steps = "RUN echo one >/one\nRUN cat /one && mkdir /two\nRUN echo two >/two/file && test -e /one\n";
    let write = |name: &str, text: String| fs::write(context.join(name), text).expect("writable");
    write(
        "Dockerfile",
        format!("FROM {IMAGE}\n{steps}WORKDIR /two\nCMD [\"sh\", \"-c\", \"pwd; cat /one file\"]\n"),
    );
    let place = context.display().to_string();
    let build = |tag: &'static str| {
        let name = format!("localhost/{tag}:latest");
        engine.ended(&["build", "--force-rm", "--network", "none", "-t", &name, &place])
    };
    let ended = build("built");
    assert_eq!(ended.status, 0, "{}{}", ended.out, ended.err);
    let ran = engine.ended(&["run", "--rm", "--network", "none", "localhost/built:latest"]);
    assert_eq!((ran.status, ran.out.as_str()), (0, "/two\none\ntwo\n"), "{}", ran.err);
    // Outside: the files are in the layers, not in what it was built from.
    assert_eq!(engine.sh(&[], "test -e /one").status, 1);

    write("Dockerfile", format!("FROM {IMAGE}\nRUN echo before\nRUN exit 9\nRUN echo after\n"));
    let ended = build("broken");
    assert_ne!(ended.status, 0);
    let said = format!("{}{}", ended.out, ended.err);
    assert!(said.contains("before\n") && !said.contains("\nafter\n") && said.contains('9'), "{said}");
    engine.nothing_is_left();
}

/// Root of the container is somebody else outside: dockerd's --userns-remap, podman's --uidmap; or an ordinary user's podman.
pub fn maps_users(engine: Engine) {
    let uidmap: &[&str] = match (engine.client, engine.who) {
        (Client::Podman, Who::Root) => &["--uidmap", "0:200000:65536", "--gidmap", "0:200000:65536"],
        _ => &[],
    };
    // An ordinary user's root is himself, and the rest are those of /etc/subuid.
    let (zero, one) = if engine.who == Who::Root { (200_000, 200_001) } else { (NOBODY, 200_000) };
    let shared = directory("shared", engine.who);
    nix::unistd::chown(&shared, Some(zero.into()), Some(zero.into())).expect("root may");
    let volume = format!("{}:/v", shared.display());
    let options = [uidmap, &["-v", &volume]].concat();
    let script = "echo $(id -u) $(stat -c %u /etc/passwd /v); touch /v/zero /v/one; chown 1:1 /v/one";
    assert_eq!(engine.says(&options, script), "0 0 0\n");
    let owner = |name: &str| fs::metadata(shared.join(name)).expect("made").uid();
    assert_eq!((owner("zero"), owner("one")), (zero, one));
    let map = engine.says(uidmap, "cat /proc/self/uid_map");
    let map: Vec<u32> = map.split_whitespace().map(|word| word.parse().expect("a number")).collect();
    assert_eq!(map[..2], [0, zero], "{map:?}");

    let first = engine.start("bg", uidmap, OBEDIENT);
    assert_eq!(status(first, "Uid"), format!("{zero} {zero} {zero} {zero}"));
    assert_ne!(namespaces(first)["user"], namespaces(Pid::this())["user"]);
    // exec comes into the same users.
    assert_eq!(engine.ok(&["exec", "bg", "id", "-u"]), "0\n");
    engine.remove("bg");
    let said = engine.says(&[uidmap, &["-u", "5"]].concat(), "id -u");
    assert_eq!(said, "5\n");
    engine.nothing_is_left();
}

/// What becomes of Docker's commands, one after the other.
pub fn calls(engine: Engine) {
    calls_since();
    let mut shown = String::new();
    let mut step = |command: &str, words: &[&str]| {
        engine.ok(words);
        if words[0] == "stop" {
            // The shim cleans up when everybody has been told.
            eventually("its end", || engine.inspect("web", "{{.State.Running}}") == "false");
        }
        shown += &format!("$ docker {command}\n");
        calls_since().iter().for_each(|call| shown += &format!("{call}\n"));
    };
    step(
        "run -d --name web --network none debian sleep 1000",
        &["run", "-d", "--name", "web", "--network", "none", IMAGE, "sleep", "1000"],
    );
    step("exec web true", &["exec", "web", "true"]);
    step("pause web", &["pause", "web"]);
    step("unpause web", &["unpause", "web"]);
    step("update --pids-limit 50 web", &["update", "--pids-limit", "50", "web"]);
    step("stop -t 1 web", &["stop", "-t", "1", "web"]);
    is_snapshot("clients/docker-calls", &[], shown);
    engine.remove("web");
    let _ = engine.says(&[], "true"); // which is created and deleted
    engine.nothing_is_left();
}

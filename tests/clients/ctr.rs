//! containerd, by ctr.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::unistd::Pid;

use crate::engine::{
    IMAGE, NODES, Runtime, allow_devices, bounded, daemon, directory, image, must, setting, status, version_1,
};
use crate::left::Left;
use crate::support::Who;
use crate::support::run::{Ended, eventually, run};

const HERE: &str = "/tmp/clients";

struct Containerd {
    runtime: Runtime,
    before: Option<Left>,
}

impl Containerd {
    fn start(runtime: Runtime) -> Containerd {
        allow_devices(NODES);
        runtime.install(Who::Root);
        let config = directory("", Who::Root).join("config.toml");
        let text = format!(
            "version = 2\nroot = \"{HERE}/root\"\nstate = \"{HERE}/state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{HERE}/socket\"\n"
        );
        fs::write(&config, text).expect("writable");
        let mut containerd = Containerd { runtime, before: None };
        let mut command = bounded("containerd", Who::Root);
        daemon(command.arg("--config").arg(config), || {
            run(&mut containerd.command(&["version"])).status == 0
        });
        containerd.ok(&["image", "import", &image().display().to_string()]);
        assert_eq!(containerd.sh(&[], "true").status, 0);
        containerd.before = Some(Left::now(&directories()));
        containerd
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = bounded("ctr", Who::Root);
        command.args(["--address", &format!("{HERE}/socket")]).args(words);
        command
    }

    fn ok(&self, words: &[&str]) -> String {
        must(&mut self.command(words))
    }

    /// Runs the script in a container.
    fn sh(&self, options: &[&str], script: &str) -> Ended {
        self.run(&[&["--rm"], options].concat(), "one", &["sh", "-c", script])
    }

    fn says(&self, options: &[&str], script: &str) -> String {
        let ended = self.sh(options, script);
        assert_eq!(ended.status, 0, "{script}: {}{}", ended.out, ended.err);
        ended.out
    }

    fn run(&self, options: &[&str], name: &str, command: &[&str]) -> Ended {
        let program = format!("{HERE}/{}", self.runtime.name());
        let words = [&["run", "--runc-binary", &program], options, &[IMAGE, name], command].concat();
        run(&mut self.command(&words))
    }

    /// The first process and the state of a container, as `ctr task ls` says.
    fn task(&self, name: &str) -> Option<(Pid, String)> {
        let listed = self.ok(&["task", "ls"]);
        let line = listed.lines().find(|line| line.split_whitespace().next() == Some(name))?;
        let words: Vec<&str> = line.split_whitespace().collect();
        Some((Pid::from_raw(words[1].parse().expect("a number")), words[2].to_string()))
    }

    fn nothing_is_left(self) {
        assert!(self.runtime.was_called_to("create") && self.runtime.was_called_to("delete"));
        assert_eq!(self.ok(&["container", "ls", "-q"]), "");
        self.before.expect("it is ready").must_come_back(&directories());
    }
}

fn directories() -> Vec<std::path::PathBuf> {
    vec![Path::new(HERE).join("state"), Path::new(HERE).join("root/io.containerd.runtime.v2.task")]
}

/// run: the status is the command's; ctr has 1 for all that can't be run.
pub fn runs(runtime: Runtime) {
    let containerd = Containerd::start(runtime);
    assert_eq!(containerd.sh(&[], "exit 7").status, 7);
    let ended = containerd.run(&["--rm"], "one", &["no-such-program"]);
    assert_eq!(ended.status, 1);
    assert!(ended.err.contains("executable file") && ended.err.contains("not found"), "{}", ended.err);
    let said = containerd.says(&["--env", "A=b", "--cwd", "/tmp"], "echo $A $(pwd) $(id -u)");
    assert_eq!(said, "b /tmp 0\n");
    let ended = containerd.sh(&["--read-only"], "touch /x");
    assert!(ended.status == 1 && ended.err.contains("Read-only file system"), "{}", ended.err);
    let shared = directory("shared", Who::Root);
    let mount = format!("type=bind,src={},dst=/mnt,options=rbind:rw", shared.display());
    containerd.says(&["--mount", &mount], "echo inside >/mnt/file");
    assert_eq!(fs::read_to_string(shared.join("file")).expect("made"), "inside\n");
    let ended = containerd.sh(&["--mount", &mount.replace("rbind:rw", "rbind:ro")], "touch /mnt/x");
    assert!(ended.status == 1 && ended.err.contains("Read-only file system"), "{}", ended.err);
    containerd.nothing_is_left();
}

/// The usual capabilities, and --seccomp.
pub fn takes_power_away(runtime: Runtime) {
    let containerd = Containerd::start(runtime);
    let script = "grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status | tr -s '\t\n' ' '";
    assert_eq!(containerd.says(&[], script).trim(), "CapEff: 00000000a80425fb NoNewPrivs: 1 Seccomp: 0");
    assert!(containerd.says(&["--seccomp"], script).contains("Seccomp: 2"));
    assert_eq!(containerd.sh(&["--seccomp"], "unshare -m true").status, 1);
    assert_eq!(containerd.run(&["-d", "--seccomp"], "bg", &["sleep", "1234"]).status, 0);
    let (first, _) = containerd.task("bg").expect("it runs");
    assert_eq!(
        ["CapEff", "CapBnd", "Seccomp"].map(|name| status(first, name)),
        ["00000000a80425fb", "00000000a80425fb", "2"]
    );
    containerd.ok(&["task", "kill", "-s", "KILL", "bg"]);
    containerd.removed("bg");
    containerd.nothing_is_left();
}

/// --memory-limit, from outside: without --cgroup-namespaces the container's /sys/fs/cgroup shows the machine's.
pub fn limits(runtime: Runtime) {
    let containerd = Containerd::start(runtime);
    let ended = containerd.run(&["-d", "--memory-limit", "67108864"], "bg", &["sleep", "1234"]);
    assert_eq!(ended.status, 0, "{}", ended.err);
    let (first, _) = containerd.task("bg").expect("it runs");
    assert_eq!(setting(first, "memory", ("memory.limit_in_bytes", "memory.max")), "67108864");
    let metrics = containerd.ok(&["task", "metrics", "bg"]);
    assert!(metrics.contains("memory."), "{metrics}");
    containerd.ok(&["task", "kill", "-s", "KILL", "bg"]);
    containerd.removed("bg");
    let ended = containerd.sh(&["--memory-limit", "8388608"], "head -c 50000000 /dev/zero | tail");
    assert_eq!(ended.status, 137, "{}", ended.err);
    containerd.nothing_is_left();
}

impl Containerd {
    /// Takes away a container that is about to end.
    fn removed(&self, name: &str) {
        eventually("its end", || self.task(name).is_none_or(|(_, state)| state == "STOPPED"));
        // It says the command's status too.
        run(&mut self.command(&["task", "rm", name]));
        self.ok(&["container", "rm", name]);
    }
}

/// task exec, pause, resume, ps, kill.
pub fn execs_and_kills(runtime: Runtime) {
    let containerd = Containerd::start(runtime);
    let script = "trap 'exit 4' TERM; touch /up; while :; do sleep 0.05; done";
    let ended = containerd.run(&["-d"], "bg", &["sh", "-c", script]);
    assert_eq!(ended.status, 0, "{}", ended.err);
    let exec = |script: &str| {
        run(&mut containerd.command(&["task", "exec", "--exec-id", "x", "bg", "sh", "-c", script]))
    };
    eventually("up", || exec("test -e /up").status == 0);
    let ended = exec("echo in; exit 5");
    assert_eq!((ended.status, ended.out.as_str()), (5, "in\n"), "{}", ended.err);
    let (first, state) = containerd.task("bg").expect("it runs");
    assert_eq!((state.as_str(), status(first, "NSpid").ends_with(" 1")), ("RUNNING", true));
    containerd.ok(&["task", "pause", "bg"]);
    assert_eq!(containerd.task("bg"), Some((first, "PAUSED".to_string())));
    if version_1() {
        assert_eq!(setting(first, "freezer", ("freezer.state", "")), "FROZEN");
    }
    containerd.ok(&["task", "resume", "bg"]);
    assert_eq!(containerd.task("bg"), Some((first, "RUNNING".to_string())));
    let listed = containerd.ok(&["task", "ps", "bg"]);
    assert!(
        listed.lines().any(|line| line.split_whitespace().next() == Some(&first.to_string())),
        "{listed}"
    );
    containerd.ok(&["task", "kill", "-s", "TERM", "bg"]);
    eventually("its end", || containerd.task("bg").is_some_and(|(_, state)| state == "STOPPED"));
    // A task of a command that ended with 4 is taken away with a warning and that status.
    let ended = run(&mut containerd.command(&["task", "rm", "bg"]));
    assert!(format!("{}{}", ended.out, ended.err).contains('4'), "{} {}", ended.status, ended.err);
    containerd.ok(&["container", "rm", "bg"]);
    assert!(!Path::new(&format!("/proc/{first}")).exists());
    containerd.nothing_is_left();
}

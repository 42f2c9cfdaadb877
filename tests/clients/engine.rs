//! docker and podman with one of the runtimes, in the lab. They share a command line, so the features need not know which it is.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cooperage::container::mountinfo;
use cooperage::workshop::rootfs::Rootfs;
use nix::unistd::Pid;

use crate::left::Left;
use crate::support::run::{Ended, NOBODY, as_who, eventually, in_etc, run};
use crate::support::{Who, binary};

/// The image, under a name that no client completes.
pub const IMAGE: &str = "localhost/test:latest";
/// Where everything is that the engines write: the lab's own.
const HERE: &str = "/tmp/clients";

/// Which runtime it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    Chapter10,
    Runc,
    Crun,
}

impl Runtime {
    pub fn name(self) -> &'static str {
        match self {
            Runtime::Chapter10 => "chapter10",
            Runtime::Runc => "runc",
            Runtime::Crun => "crun",
        }
    }

    /// What the machine must have for it.
    pub fn needs(self) -> &'static [&'static str] {
        match self {
            Runtime::Chapter10 => &[],
            Runtime::Runc => &["program-runc"],
            Runtime::Crun => &["program-crun"],
        }
    }

    /// A program that starts it and writes down each call: nobody shall believe in a runtime that was not called.
    pub fn install(self, who: Who) -> PathBuf {
        let program = match self {
            Runtime::Chapter10 => binary("chapter10", who),
            _ => found(self.name()),
        };
        directory("", who);
        let place = Path::new(HERE).join(self.name());
        let calls = Path::new(HERE).join("calls");
        fs::write(&calls, "").expect("writable");
        fs::set_permissions(&calls, Permissions::from_mode(0o666)).expect("ours");
        let script = format!(
            "#!/bin/sh\nread -r by </proc/$PPID/comm\necho \"$by: $*\" >>{}\nexec {} \"$@\"\n",
            calls.display(),
            program.display()
        );
        fs::write(&place, script).expect("writable");
        fs::set_permissions(&place, Permissions::from_mode(0o755)).expect("ours");
        place
    }

    /// Was it called to do this?
    pub fn was_called_to(self, what: &str) -> bool {
        let calls = fs::read_to_string(Path::new(HERE).join("calls")).expect("readable");
        calls.split_whitespace().any(|word| word == what)
    }
}

/// What has been called since the last time, by whom: without the options that are for every command, and without the names of files.
pub fn calls_since() -> Vec<String> {
    let file = Path::new(HERE).join("calls");
    let text = fs::read_to_string(&file).expect("readable");
    fs::write(&file, "").expect("writable");
    let shown = |line: &str| {
        let mut words: Vec<String> = Vec::new();
        let mut all = line.split(' ').peekable();
        while let Some(word) = all.next() {
            match word {
                "--root" | "--log" | "--log-format" => drop(all.next()),
                "--bundle" | "--pid-file" | "--process" | "--console-socket" => {
                    all.next();
                    words.extend([word.to_string(), "...".to_string()]);
                }
                _ if word.len() == 64 => words.push("ID".to_string()),
                _ => words.push(word.to_string()),
            }
        }
        words.join(" ")
    };
    text.lines().map(shown).collect()
}

/// Where a program of this machine is.
fn found(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let directories = std::env::split_paths(&path).chain(sbin);
    directories
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("there is no {program}"))
}

/// A directory of our own for `who`.
pub fn directory(name: &str, who: Who) -> PathBuf {
    let path = Path::new(HERE).join(name);
    fs::create_dir_all(&path).expect("writable");
    if who == Who::User {
        chown(&path, Some(NOBODY), Some(NOBODY)).expect("root may");
    }
    path
}

/// The image as an archive such as `docker save` writes: one layer, of the workbook's root filesystem.
pub fn image() -> PathBuf {
    let archive = Path::new(HERE).join("image.tar");
    let rootfs = Rootfs::find(None).expect("this machine's programs");
    let rootfs = rootfs.path().display();
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let script = format!(
        r#"set -e; mkdir {HERE}/image; cd {HERE}/image
        tar -C {rootfs} --exclude=./usr/bin/witness --owner=0 --group=0 -cf layer.tar .
        sum=$(sha256sum layer.tar | cut -d' ' -f1)
        cat >config.json <<END
        {{"architecture": "{architecture}", "os": "linux",
          "config": {{"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["sh"]}},
          "history": [{{"created_by": "the workbook"}}],
          "rootfs": {{"type": "layers", "diff_ids": ["sha256:$sum"]}}}}
END
        echo '[{{"Config": "config.json", "RepoTags": ["{IMAGE}"], "Layers": ["layer.tar"]}}]' >manifest.json
        tar -cf {archive} manifest.json config.json layer.tar; rm -r {HERE}/image; chmod 644 {archive}"#,
        archive = archive.display()
    );
    must(Command::new("sh").args(["-c", &script]));
    archive
}

/// Runs it, and it must succeed. Returns what it printed.
pub fn must(command: &mut Command) -> String {
    let ended = run(command.stdin(Stdio::null()));
    assert_eq!(ended.status, 0, "{command:?}: {}{}", ended.out, ended.err);
    ended.out
}

/// A program with nothing of the test's environment but PATH, which is ended if it hangs.
pub fn bounded(program: &str, who: Who) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("timeout");
    command.arg("120").arg(found(program)).env_clear().stdin(Stdio::null());
    command.env("PATH", format!("{path}:/usr/local/sbin:/usr/sbin:/sbin"));
    command.env("HOME", Path::new(HERE).join("home"));
    as_who(&mut command, who);
    command
}

/// Starts a daemon, whose words go to a file, and waits until `answers`. It ends with the lab.
pub fn daemon(command: &mut Command, answers: impl Fn() -> bool) {
    let log = Path::new(HERE).join("log");
    let said = fs::File::create(&log).expect("writable");
    command.stdout(said.try_clone().expect("a descriptor")).stderr(said);
    let mut child = command.spawn().expect("it starts");
    eventually("the daemon's answer", || {
        if let Some(status) = child.try_wait().expect("our child") {
            panic!("the daemon ended, {status}: {}", fs::read_to_string(&log).unwrap_or_default());
        }
        answers()
    });
}

/// Block devices that a container may make a node for, and not use: an engine's usual rules say so of all.
pub const NODES: &str = "b *:* m";
/// All devices, as --privileged says.
pub const ALL_DEVICES: &str = "a *:* rwm";

/// The lab forbids block devices, and a cgroup can't be allowed more than the one above it. So the lab's own is allowed this
/// much of them, before there is one below.
pub fn allow_devices(power: &str) {
    let file = Path::new("/sys/fs/cgroup/devices/devices.allow");
    if file.exists() {
        fs::write(file, power).expect("root may");
    }
}

/// docker or podman.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    Docker,
    Podman,
}

/// A client, with its daemon if it has one.
pub struct Engine {
    pub client: Client,
    pub runtime: Runtime,
    pub who: Who,
    program: PathBuf,
    before: Option<Left>,
}

impl Engine {
    /// Starts dockerd, with the runtime as its only one.
    pub fn docker(runtime: Runtime, options: &[&str]) -> Engine {
        allow_devices(NODES);
        let program = runtime.install(Who::Root);
        in_etc("hostname", "lab\n"); // and with that /etc is the lab's, where dockerd writes a key
        let at = |name: &str| Path::new(HERE).join(name).display().to_string();
        let mut command = bounded("dockerd", Who::Root);
        command.args(["--data-root", &at("data"), "--exec-root", &at("exec"), "--pidfile", &at("pid")]);
        command.args(["-H", &format!("unix://{}", at("socket"))]).args(["--storage-driver", "overlay2"]);
        command.args(["--bridge", "none", "--iptables=false", "--ip6tables=false"]);
        command.args(["--add-runtime", &format!("ours={}", program.display()), "--default-runtime", "ours"]);
        let engine = Engine { client: Client::Docker, runtime, who: Who::Root, program, before: None };
        // Not the hour that a daemon may live.
        let mut command = without_bound(command);
        daemon(command.args(options), || run(&mut engine.command(&["version"])).status == 0);
        engine.ready()
    }

    /// As [`Engine::docker`], and root of its containers is another user outside.
    pub fn docker_with_users(runtime: Runtime) -> Engine {
        in_etc("subuid", "nobody:200000:65536\n");
        in_etc("subgid", "nogroup:200000:65536\nnobody:200000:65536\n");
        Engine::docker(runtime, &["--userns-remap", "nobody:nogroup"])
    }

    /// podman has no daemon.
    pub fn podman(runtime: Runtime, who: Who) -> Engine {
        allow_devices(NODES);
        let program = runtime.install(who);
        for name in ["home", "run", "data", "tmp", "home/.config", "home/.config/containers"] {
            directory(name, who);
        }
        in_etc("subuid", "nobody:200000:65536\n");
        in_etc("subgid", "nobody:200000:65536\n");
        let write = |name: &str, text: &str| fs::write(Path::new(HERE).join(name), text).expect("writable");
        write("home/.config/containers/policy.json", r#"{"default": [{"type": "insecureAcceptAnything"}]}"#);
        // More than its own limits nobody can give who has no CAP_SYS_RESOURCE, and podman's default is more.
        write(
            "containers.conf",
            "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1000:1000\"]\n",
        );
        Engine { client: Client::Podman, runtime, who, program, before: None }.ready()
    }

    /// Loads the image and runs a container, after which the engine has all that it keeps.
    fn ready(mut self) -> Engine {
        self.ok(&["load", "-i", &image().display().to_string()]);
        self.says(&[], "true");
        self.before = Some(Left::now(&self.directories()));
        self
    }

    /// Where a container has files while it is there.
    fn directories(&self) -> Vec<PathBuf> {
        let names: &[&str] = match self.client {
            Client::Docker => &["exec", "data/containers"],
            Client::Podman => &["run", "data/overlay-containers", "data/vfs-containers"],
        };
        names.iter().map(|name| Path::new(HERE).join(name)).collect()
    }

    /// Nothing of the containers is left.
    pub fn nothing_is_left(self) {
        assert!(self.runtime.was_called_to("create") && self.runtime.was_called_to("delete"));
        self.before.as_ref().expect("it is ready").must_come_back(&self.directories());
    }

    /// The client with these words.
    pub fn command(&self, words: &[&str]) -> Command {
        let at = |name: &str| Path::new(HERE).join(name).display().to_string();
        match self.client {
            Client::Docker => {
                let mut command = bounded("docker", self.who);
                command.env("DOCKER_HOST", format!("unix://{}", at("socket")));
                // The builder that starts containers as `docker run` does.
                command.env("DOCKER_CONFIG", at("home")).env("DOCKER_BUILDKIT", "0").args(words);
                command
            }
            Client::Podman => {
                let mut command = bounded("podman", self.who);
                command.env("CONTAINERS_CONF", at("containers.conf")).env("XDG_RUNTIME_DIR", at("run"));
                command.args(["--root", &at("data"), "--runroot", &at("run"), "--tmpdir", &at("tmp")]);
                command.args(["--cgroup-manager", "cgroupfs", "--events-backend", "file"]);
                command.arg("--storage-driver").arg(if self.who == Who::Root { "overlay" } else { "vfs" });
                command.arg("--runtime").arg(&self.program).args(words);
                // As its own help says, a build does not heed the one above.
                if words[0] == "build" {
                    command.arg("--runtime").arg(&self.program);
                }
                command
            }
        }
    }

    /// What comes of it.
    pub fn ended(&self, words: &[&str]) -> Ended {
        run(&mut self.command(words))
    }

    /// It must succeed. Returns what it printed.
    pub fn ok(&self, words: &[&str]) -> String {
        must(&mut self.command(words))
    }

    /// Runs a command in a container that is gone afterwards.
    pub fn run(&self, options: &[&str], command: &[&str]) -> Ended {
        self.ended(&[&["run", "--rm", "--network", "none"], options, &[IMAGE], command].concat())
    }

    /// Runs a script in such a container.
    pub fn sh(&self, options: &[&str], script: &str) -> Ended {
        self.run(options, &["sh", "-c", script])
    }

    /// As [`Engine::sh`], but it must succeed. Returns what it printed.
    pub fn says(&self, options: &[&str], script: &str) -> String {
        let ended = self.sh(options, script);
        assert_eq!(ended.status, 0, "{options:?} {script}: {}{}", ended.out, ended.err);
        ended.out
    }

    /// Starts a container in the background. Returns its first process, by the lab's number.
    pub fn start(&self, name: &str, options: &[&str], script: &str) -> Pid {
        let words = ["run", "-d", "--name", name, "--network", "none"];
        self.ok(&[&words, options, &[IMAGE, "sh", "-c", script]].concat());
        self.first(name)
    }

    /// The first process of a container.
    pub fn first(&self, name: &str) -> Pid {
        let pid = self.inspect(name, "{{.State.Pid}}").parse().expect("a number");
        assert!(pid > 1, "{name} is not running: {}", self.ended(&["logs", name]).err);
        Pid::from_raw(pid)
    }

    /// Something that the engine knows about a container.
    pub fn inspect(&self, name: &str, format: &str) -> String {
        self.ok(&["inspect", "-f", format, name]).trim().to_string()
    }

    /// Takes a container away, dead or alive. podman's rm and the cleanup that its conmon starts may be in each other's way.
    pub fn remove(&self, name: &str) {
        match self.client {
            Client::Docker => drop(self.ok(&["rm", "-f", name])),
            Client::Podman => eventually("its removal", || self.ended(&["rm", "-f", name]).status == 0),
        }
    }
}

/// The command without `timeout 120`.
fn without_bound(bounded: Command) -> Command {
    let mut arguments = bounded.get_args().skip(1);
    let mut command = Command::new(arguments.next().expect("a program"));
    command.args(arguments).env_clear();
    command.envs(bounded.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

/// A line of /proc/PID/status, without its name.
pub fn status(pid: Pid, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:"))).expect("a line");
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Does this machine have version 1 of the cgroups for its controllers?
pub fn version_1() -> bool {
    mountinfo::here().expect("readable").iter().any(|mount| mount.kind == "cgroup")
}

/// What the host's cgroup of a process says: `file` is of version 1, or of version 2, of this controller.
pub fn setting(pid: Pid, controller: &str, (v1, v2): (&str, &str)) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it lives");
    let is_it = |line: &&str| {
        let controllers = line.split(':').nth(1).unwrap_or_default();
        if version_1() {
            controllers.split(',').any(|name| name == controller)
        } else {
            controllers.is_empty()
        }
    };
    let line = text.lines().find(is_it).unwrap_or_else(|| panic!("no {controller} in {text}"));
    let path = line.splitn(3, ':').nth(2).expect("a path").trim_start_matches('/');
    let top = Path::new("/sys/fs/cgroup");
    let file = if version_1() { top.join(controller).join(path).join(v1) } else { top.join(path).join(v2) };
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    text.trim().to_string()
}

//! What is measured: the chapters, the floor, and the runtimes that this machine has.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cooperage::container::cgroup::{Mount, membership};
use cooperage::container::ledger;
use cooperage::workshop::rootfs::Rootfs;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};
use serde_json::json;

use super::Outcome;

/// The chapters' programs, as cargo has built them for this benchmark.
pub const CHAPTERS: [&str; 9] = [
    env!("CARGO_BIN_EXE_chapter01"),
    env!("CARGO_BIN_EXE_chapter02"),
    env!("CARGO_BIN_EXE_chapter03"),
    env!("CARGO_BIN_EXE_chapter04"),
    env!("CARGO_BIN_EXE_chapter05"),
    env!("CARGO_BIN_EXE_chapter06"),
    env!("CARGO_BIN_EXE_chapter07"),
    env!("CARGO_BIN_EXE_chapter08"),
    env!("CARGO_BIN_EXE_chapter09"),
];
pub const FLOOR: &str = env!("CARGO_BIN_EXE_floor");

/// What `just small` has made of a program: static, with musl's C library if that could be had.
pub fn small(library: &str, name: &str) -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    let path = target.join(format!("{}-unknown-linux-{library}/small/{name}", std::env::consts::ARCH));
    path.exists().then_some(path)
}
/// The limits that are set where any are.
pub const LIMITS: &str = "--memory 64m --cpus 0.5 --pids-limit 100";

/// One way to start a container.
pub struct Contender {
    pub name: String,
    pub sets_up: &'static str,
    program: PathBuf,
    arguments: Vec<OsString>,
    /// OCI runtimes want a name for each container, as their last argument.
    named: bool,
}

impl Contender {
    fn new(name: &str, sets_up: &'static str, program: impl Into<PathBuf>, arguments: &str) -> Contender {
        let arguments = arguments.split_whitespace().map(OsString::from).collect();
        Contender { name: name.to_string(), sets_up, program: program.into(), arguments, named: false }
    }

    pub fn command(&self) -> Command {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null());
        if self.named {
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            command.arg(format!("cooperage-bench-{}-{number}", std::process::id()));
        }
        command
    }

    /// From start to end.
    pub fn run(&self) -> Outcome {
        let status = self.command().status().map_err(|error| format!("{}: {error}", self.name))?;
        if status.success() { Ok(()) } else { Err(format!("{}: {status}", self.name).into()) }
    }
}

/// What the contenders share: a root filesystem, a bundle, and a container that keeps the bridge.
pub struct Bench {
    rootfs: Rootfs,
    scratch: PathBuf,
    cgroups: Vec<PathBuf>,
    bundle: tempfile::TempDir,
    keeper: Child,
    bridge: u32,
}

/// Leaves the machine alone: the benchmark has its own mounts and its own network. Its /run is empty, so that
/// nobody else's containers are counted. And where a machine has both versions of cgroups it has version 1
/// only, because crun wants no mixture.
pub fn move_out() -> Outcome {
    const NONE: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=755"))?;
    let mounts = Mount::all(&std::fs::read_to_string("/proc/self/mountinfo")?);
    if mounts.iter().any(|mount| mount.kind == "cgroup") {
        for mount in mounts.iter().filter(|mount| mount.kind == "cgroup2") {
            umount2(&mount.point, MntFlags::MNT_DETACH)?;
        }
    }
    Ok(())
}

impl Bench {
    pub fn new() -> Outcome<Bench> {
        let rootfs = Rootfs::find(None)?;
        // As long as a container is there, so are the bridge and the directories of the claims. The first and the last
        // one pay for them.
        let keeper = Command::new(CHAPTERS[7])
            .args(LIMITS.split(' '))
            .args(["--", "sleep", "100000"])
            .stdin(Stdio::null())
            .spawn()?;
        let index = || if_nametoindex("cooperage0");
        for _ in 0..500 {
            if index().is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        std::thread::sleep(Duration::from_millis(200));
        let bridge = index()?;
        let bundle = bundle(rootfs.path(), &["/bin/true"])?;
        let scratch = ledger::state_directory()?.to_path_buf();
        Ok(Bench { rootfs, scratch, cgroups: cgroups()?, bundle, keeper, bridge })
    }

    /// A bundle for another command.
    pub fn bundle_of(&self, command: &[&str]) -> Outcome<tempfile::TempDir> {
        bundle(self.rootfs.path(), command)
    }

    pub fn chapter(&self, number: usize, name: &str, sets_up: &'static str, options: &str) -> Contender {
        Contender::new(name, sets_up, CHAPTERS[number - 1], &format!("{options} -- /bin/true"))
    }

    pub fn floor(&self, bridge: bool) -> Contender {
        self.floor_with("few", bridge)
    }

    fn floor_with(&self, calls: &str, bridge: bool) -> Contender {
        let (name, sets_up) = match (calls, bridge) {
            ("few", false) => ("floor", "the calls of chapter 7 that make the container"),
            ("few", true) => ("floor, bridge", "and a cable to a bridge"),
            ("users", false) => ("floor, users", "the calls of chapter 8 that make the container"),
            ("users", true) => ("floor, users, bridge", "and a cable to a bridge"),
            ("power", false) => ("floor, power", "the calls of chapter 9 that make the container"),
            ("power", true) => ("floor, power, bridge", "and a cable to a bridge"),
            ("power-all", _) => ("floor, power, all calls", "and those that look up, note and report"),
            ("users-all", _) => ("floor, users, all calls", "and those that look up, note and report"),
            _ => ("floor, all calls", "and those that look up, note and report"),
        };
        let cgroups: Vec<_> = self.cgroups.iter().map(|path| path.display().to_string()).collect();
        let bridge = if bridge { self.bridge } else { 0 };
        let (rootfs, scratch) = (self.rootfs.path().display(), self.scratch.display());
        Contender::new(
            name,
            sets_up,
            FLOOR,
            &format!("{calls} {rootfs} {scratch} {bridge} {}", cgroups.join(" ")),
        )
    }

    pub fn oci(&self, name: &'static str) -> Option<Contender> {
        let program = find(name)?;
        let sets_up = "6 namespaces, 7 mounts, limits; no overlay, no init";
        let arguments = format!("run --bundle {}", self.bundle.path().display());
        Some(Contender { named: true, ..Contender::new(name, sets_up, program, &arguments) })
    }

    /// Everything that one start is measured of.
    pub fn contenders(&self) -> Vec<Contender> {
        let rootfs = self.rootfs.path().display();
        let none = "--network none";
        let mut all = vec![
            Contender::new("true", "a process", "/bin/true", ""),
            self.chapter(1, "chapter 1", "chroot", ""),
            self.chapter(2, "chapter 2", "and a PID namespace, /proc", ""),
            self.chapter(3, "chapter 3", "and a mount namespace, overlay, /dev, /sys", ""),
            self.chapter(4, "chapter 4", "and UTS and IPC namespaces", ""),
            self.chapter(5, "chapter 5", "and a network namespace", none),
            self.chapter(6, "chapter 6", "and a cgroup and its namespace", none),
            self.chapter(7, "chapter 7", "and an init", none),
            self.chapter(7, "chapter 7, limits", "and three limits", &format!("{none} {LIMITS}")),
            self.chapter(7, "chapter 7, limits, bridge", "and a cable to a bridge", LIMITS),
            self.chapter(8, "chapter 8, limits", "and users of its own", &format!("{none} {LIMITS}")),
            self.chapter(8, "chapter 8, limits, bridge", "and a cable to a bridge", LIMITS),
            self.chapter(9, "chapter 9, limits", "and less power", &format!("{none} {LIMITS}")),
            self.chapter(9, "chapter 9, limits, bridge", "and a cable to a bridge", LIMITS),
            self.floor(false),
            self.floor_with("all", false),
            self.floor(true),
            self.floor_with("users", false),
            self.floor_with("users", true),
            self.floor_with("users-all", false),
            self.floor_with("power", false),
            self.floor_with("power", true),
            self.floor_with("power-all", false),
        ];
        // Those two as `just small` makes them: no loader, and a smaller C library.
        for library in ["musl", "gnu"] {
            if let (Some(chapter), Some(floor)) = (small(library, "chapter07"), small(library, "floor")) {
                for (bridge, suffix) in [(false, "static"), (true, "bridge, static")] {
                    let limited = if bridge { LIMITS.to_string() } else { format!("{none} {LIMITS}") };
                    all.push(Contender::new(
                        &format!("chapter 7, limits, {suffix}"),
                        "the same, without a loader",
                        &chapter,
                        &format!("{limited} -- /bin/true"),
                    ));
                    let name = format!("floor, {suffix}");
                    all.push(Contender { name, program: floor.clone(), ..self.floor(bridge) });
                }
                let name = "floor, all calls, static".to_string();
                all.push(Contender { name, program: floor, ..self.floor_with("all", false) });
                break;
            }
        }
        if let Some(unshare) = find("unshare") {
            let options = "--mount --uts --ipc --net --pid --cgroup --fork --mount-proc";
            let sets_up = "6 namespaces, chroot, /proc; no limits, no overlay";
            all.push(Contender::new(
                "unshare",
                sets_up,
                unshare,
                &format!("{options} --root {rootfs} /bin/true"),
            ));
        }
        if let Some(bwrap) = find("bwrap") {
            let options =
                "--unshare-all --hostname box --die-with-parent --proc /proc --dev /dev --tmpfs /tmp";
            let sets_up = "6 namespaces, /proc, /dev, an init; no limits, no overlay";
            all.push(Contender::new(
                "bwrap",
                sets_up,
                bwrap,
                &format!("--ro-bind {rootfs} / {options} /bin/true"),
            ));
        }
        all.extend(["crun", "runc"].into_iter().filter_map(|name| self.oci(name)));
        all
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.keeper.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.keeper.wait();
    }
}

pub fn find(name: &str) -> Option<PathBuf> {
    let directories = ["/usr/bin", "/usr/sbin", "/usr/local/bin"];
    directories.iter().map(|directory| Path::new(directory).join(name)).find(|path| path.exists())
}

/// The cgroup directories in which chapter 7 makes its own: its own are given to the floor.
fn cgroups() -> Outcome<Vec<PathBuf>> {
    let memberships = std::fs::read_to_string("/proc/self/cgroup")?;
    let mounts = Mount::all(&std::fs::read_to_string("/proc/self/mountinfo")?);
    let own = |controller: &str| {
        let mount = mounts.iter().find(|mount| {
            mount.kind == "cgroup" && mount.options.iter().any(|option| option == controller)
        })?;
        mount.directory_of(membership(&memberships, Some(controller))?)
    };
    let version_1: Vec<PathBuf> = ["freezer", "memory", "cpu", "pids"].into_iter().filter_map(own).collect();
    if !version_1.is_empty() {
        return Ok(version_1);
    }
    Ok(mounts.iter().filter(|mount| mount.kind == "cgroup2").map(|mount| mount.point.clone()).collect())
}

/// What an OCI runtime takes: a directory with a config.json.
fn bundle(rootfs: &Path, command: &[&str]) -> Outcome<tempfile::TempDir> {
    let directory = tempfile::tempdir()?;
    std::fs::write(directory.path().join("config.json"), oci(rootfs, command).to_string())?;
    Ok(directory)
}

/// A bundle's config.json with the same isolation: what `runc spec` writes, without what chapter 7 does not
/// set up, and with its limits.
pub fn oci(rootfs: &Path, command: &[&str]) -> serde_json::Value {
    let kinds = ["pid", "network", "ipc", "uts", "mount", "cgroup"];
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": kind, "options": options });
    let capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": command,
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
            },
        },
        "root": { "path": rootfs, "readonly": true },
        "hostname": "oci",
        "mounts": [
            mount("/proc", "proc", &[]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
        ],
        "linux": {
            "namespaces": kinds.iter().map(|kind| json!({ "type": kind })).collect::<Vec<_>>(),
            "resources": {
                "memory": { "limit": 64 << 20, "swap": 64 << 20 },
                "cpu": { "quota": 50_000, "period": 100_000 },
                "pids": { "limit": 100 },
            },
        },
    })
}

//! The lab: a throw-away host to experiment on.
//!
//! Whoever practises mounts, links and cgroups as root on a real machine breaks it sooner or later. The
//! lab is made of the same pieces as the containers: its own mount, PID, network, UTS, IPC and cgroup
//! namespaces, and for anyone but root a user namespace. Unlike a container it has the machine's own
//! files, so that a compiler and all other tools are there; but it has them read-only. What is writable
//! vanishes with the lab (/run, /tmp, /var/tmp, /dev/shm), all but the working directory: that is the real
//! one. cargo therefore works as usual: it reads its registry in the home directory, and writes to
//! `target/`, below the working directory.
//!
//! When the command ends, or the runtime is killed, every process in the lab dies with it.
//!
//! The lab protects against accidents, not against malice. An ordinary user's lab holds what a user
//! namespace holds. But root in root's lab is root, and can still
//!
//! - make the machine's files writable again (`mount -o remount,rw /`), or remount a disk's filesystem
//!   as a whole;
//! - write those settings in /proc/sys that are the whole machine's, and /proc/sysrq-trigger. The lab
//!   cannot cover them: parts of /proc being hidden, no user namespace in the lab could mount one;
//! - where cgroups are version 2 only, make a device node of the disk with mknod(1). With version 1 the
//!   lab's devices cgroup forbids it.
//!
//! And a Unix socket outside /run, /tmp and /var/tmp can be connected to: that writes no file.

pub mod harness;

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{ErrorKind, stdin};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::ValueEnum;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag};
use nix::mount::MntFlags;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::stat::{Mode, umask};

use crate::container::capability::Capability;
use crate::container::cgroup::v2::V2;
use crate::container::cgroup::{self, Mount};
use crate::container::host::Host;
use crate::container::mountinfo::{self, Mounted};
use crate::container::netlink::{Message, Netlink};
use crate::container::pid::PROC_FLAGS;
use crate::container::process::{self, Status};
use crate::container::state::ledger::Leftover;
use crate::container::sys::{self, CloneFlags, MsFlags};
use crate::container::{init, mount, user, uts};
use crate::told::errors::{self, Advise, Error, Result};
use crate::told::explain;

/// The variable that tells a program that it runs in the lab.
pub const VARIABLE: &str = "COOPERAGE_LAB";

/// What the lab's /run is called in mountinfo: see [`inside`].
const SOURCE: &str = "cooperage-lab";

/// What the lab has of its own. Most are mounts; what is missing on the machine is missing in the lab.
const FRESH: [&str; 6] = ["/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp"];

/// How long the lab's command has to end by itself when its runtime is told to stop.
const GRACE: Duration = Duration::from_secs(5);

/// What runs in the lab, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// May root do what concerns all of the machine? Only in one that is thrown away: see [`is_thrown_away`].
    pub whole_machine: bool,
    /// The command with its arguments; the user's shell if there is none.
    pub command: Vec<OsString>,
    /// The one directory that stays writable, and where the command starts.
    pub working_directory: PathBuf,
    /// What /sys/fs/cgroup looks like.
    pub cgroups: Layout,
}

/// What /sys/fs/cgroup looks like in the lab. Of what this machine has, that is: version 2 may be there
/// and have no controllers, because version 1 has taken them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Layout {
    /// As on this machine
    #[default]
    Host,
    /// Version 1 only: a tree for each controller
    V1,
    /// Version 1, and version 2 in /sys/fs/cgroup/unified
    Hybrid,
    /// Version 2 only
    V2,
    /// Nothing mounted
    None,
}

/// Is this process in a lab? Asks the variable and then the kernel, because a variable can be set by anyone.
pub fn inside() -> bool {
    let is_ours = |mount: &Mounted| mount.point == Path::new("/run") && mount.source == SOURCE;
    std::env::var_os(VARIABLE).is_some() && mountinfo::here().is_ok_and(|all| all.iter().any(is_ours))
}

/// Makes a lab, runs the command in it, and takes it away.
pub fn run(options: &Options) -> Result<Status> {
    let place = writable_place(&options.working_directory)?;
    let mut host = Host::enter()?;
    let cgroups = Cgroups::new(&mut host)?;

    let new = CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC;
    let child = process::spawn(new, |parent| {
        cgroups.enter()?;
        mount::make_private()?;
        // In hand before their places are covered or read-only.
        let why = "keep the working directory as it is";
        let kept = sys::open_tree(why, AT_FDCWD, &place, true)?;
        let devices = Devices::take()?;

        make_read_only()?;
        mount_fresh(&devices)?;
        cgroups.mount(options.cgroups)?;
        put_back(&kept, &place)?;

        uts::set_hostname(&"lab".parse().map_err(|text: String| Error::new("name the lab", text))?)?;
        // Many a program's tests talk to themselves.
        let why = "bring the lab's loopback device up";
        Netlink::open(why)?.send(why, &[Message::up("lo")])?;
        if !options.whole_machine {
            drop_capabilities()?;
        }
        init::run_in_sight(parent, || become_command(&options.command))
    })?;
    child.release()?.wait_or_stop(GRACE, || cgroups.thaw())
}

/// The working directory without links in its path, if a lab can be made there.
fn writable_place(directory: &Path) -> Result<PathBuf> {
    const STEP: &str = "make a lab in the working directory";
    const REMEDY: &str = "cd into a directory of your own first, such as the one of this crate";
    let place = fs::canonicalize(directory).map_err(|error| Error::io(STEP, directory, &error))?;
    let refused = |why: String| Err(Error::new(STEP, why).remedy(REMEDY));
    if place == Path::new("/") {
        return refused("it is /, and as it stays writable, so would the whole machine".to_string());
    }
    for fresh in FRESH {
        if Path::new(fresh).starts_with(&place) {
            return refused(format!("it is {}, and the lab has {fresh} of its own", place.display()));
        }
    }
    for kernel in ["/proc", "/sys", "/dev"] {
        if place.starts_with(kernel) {
            return refused(format!("it is {}, and the lab has {kernel} of its own", place.display()));
        }
    }
    Ok(place)
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    let how = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    nix::fcntl::open(path, how, Mode::empty()).map_err(|errno| {
        Error::call("open a directory", format!("open({}, O_PATH|O_DIRECTORY)", path.display()), errno)
    })
}

/// Makes every mount of the machine read-only, in one step and with all that is mounted below /.
///
/// The kernel does all or nothing. Should one mount refuse, the lab goes without that mount: it is
/// reported and unmounted, here only. What can be neither is an error.
fn make_read_only() -> Result<()> {
    let all = || {
        let root = open_directory(Path::new("/"))?;
        sys::mount_setattr_read_only("let nothing on this machine be written", root.as_fd())
            .remedy_for(Errno::EINVAL, "the root directory is not a mount: a chroot holds no lab")
    };
    if all().is_ok() {
        return Ok(());
    }
    // From the leaves up, so that what fails is the mount itself and not one below it.
    for Mounted { point, .. } in mounts()?.iter().rev().filter(|mount| mount.point != Path::new("/")) {
        let how = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let Ok(mounted) = nix::fcntl::open(point, how, Mode::empty()) else { continue };
        let why = "let nothing below it be written";
        if let Err(error) = sys::mount_setattr_read_only(why, mounted.as_fd())
            && detach(point)
        {
            let (point, reason) = (point.display(), error.reason());
            eprintln!("cooperage: the lab goes without {point}, which can't be made read-only: {reason}");
        }
    }
    all()
}

fn mounts() -> Result<Vec<Mounted>> {
    mountinfo::here().map_err(|error| Error::io("look at the mounts", "/proc/self/mountinfo", &error))
}

/// Unmounts what is mounted on `point`, with everything below, in the lab only. False if it can't be.
fn detach(point: &Path) -> bool {
    let how = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
    nix::mount::umount2(point, how).is_ok()
}

/// Mounts what the lab has of its own.
fn mount_fresh(devices: &Devices) -> Result<()> {
    // The machine's own /proc is not only covered but let go of: its /proc/1/root leads to files that are
    // not read-only. In a user namespace it can't be let go of, and leads nowhere. (And there it must
    // stay: the kernel allows another /proc only to a process that already sees one.)
    if user::in_first_user_namespace()? {
        for Mounted { point, kind, .. } in mounts()?.iter().rev() {
            if kind == "proc" || FRESH.iter().any(|fresh| point.starts_with(fresh)) {
                detach(point);
            }
        }
    }

    let (proc, sys_dir) = (Path::new("/proc"), Path::new("/sys"));
    let why = "show ps the processes of the lab only";
    sys::mount(why, Some(Path::new("proc")), proc, Some("proc"), PROC_FLAGS, None).remedy_for(
        Errno::EPERM,
        "parts of this machine's own /proc are hidden, as container engines do: run on the host, as root, \
         or in a container started with --privileged",
    )?;
    let how = PROC_FLAGS | MsFlags::MS_RDONLY;
    let why = "show the network devices of the lab, and let nothing be set";
    match sys::mount(why, Some(Path::new("sysfs")), sys_dir, Some("sysfs"), how, None) {
        // The machine's own is still there, read-only by now.
        Err(error) if error.errno() == Some(Errno::EPERM) => {}
        result => result?,
    }

    devices.put_down()?;
    let usual = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    tmpfs("/run", usual, "mode=755")?;
    // Device nodes work in /tmp: that is where a root filesystem that has some may be unpacked.
    for directory in ["/tmp", "/var/tmp"] {
        if fs::symlink_metadata(directory).is_ok_and(|found| found.is_dir()) {
            tmpfs(directory, MsFlags::empty(), "mode=1777")?;
        }
    }
    Ok(())
}

fn tmpfs(point: &str, how: MsFlags, options: &str) -> Result<()> {
    let why = format!("start with an empty {point}");
    let data = Some(options.as_bytes());
    sys::mount(&why, Some(Path::new(SOURCE)), Path::new(point), Some("tmpfs"), how, data)
}

fn make_directory(path: &str) -> Result<()> {
    fs::create_dir(path).map_err(|error| Error::io(format!("make {path}"), path, &error))
}

/// The devices that the lab has. Not the machine's: a read-only mount does not keep a disk from being
/// written through its node.
struct Devices {
    nodes: Vec<(&'static str, OwnedFd)>,
}

impl Devices {
    /// Takes up the machine's own, read-only, so that their permissions can't be changed either. They
    /// are borrowed rather than made, because in a user namespace nobody can make one.
    fn take() -> Result<Devices> {
        let mut nodes = Vec::new();
        for name in ["null", "zero", "full", "random", "urandom", "tty"] {
            nodes.push((name, Path::new("/dev").join(name)));
        }
        // The terminal in use is not in the lab's own /dev/pts. Under this name ttyname(3) finds it.
        if let Ok(terminal) = nix::unistd::ttyname(stdin()) {
            nodes.push(("console", terminal));
        }
        let mut taken = Vec::new();
        for (name, path) in nodes {
            if path.exists() {
                let tree = sys::open_tree("borrow the machine's device", AT_FDCWD, &path, false)?;
                sys::mount_setattr_read_only("let nobody change its permissions", tree.as_fd())?;
                taken.push((name, tree));
            }
        }
        Ok(Devices { nodes: taken })
    }

    /// Makes /dev.
    fn put_down(&self) -> Result<()> {
        let usual = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
        tmpfs("/dev", usual, "mode=755")?;
        for (name, node) in &self.nodes {
            let path = Path::new("/dev").join(name);
            let file = fs::File::create(&path).map_err(|error| Error::io("make /dev", &path, &error))?;
            sys::move_mount("put the device into the lab", node.as_fd(), file.as_fd())?;
        }
        for (name, to) in [
            ("ptmx", "pts/ptmx"),
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
        ] {
            let link = Path::new("/dev").join(name);
            symlink(to, &link).map_err(|error| Error::io("make /dev", &link, &error))?;
        }
        for directory in ["/dev/pts", "/dev/shm", "/dev/mqueue"] {
            make_directory(directory)?;
        }
        let fresh = |kind: &str, point: &str, data: Option<&[u8]>| {
            let why = format!("have a {point} of its own");
            sys::mount(&why, Some(Path::new(kind)), Path::new(point), Some(kind), usual, data)
        };
        fresh("devpts", "/dev/pts", Some(b"newinstance,ptmxmode=0666,mode=0620"))?;
        fresh("mqueue", "/dev/mqueue", None)?;
        tmpfs("/dev/shm", usual | MsFlags::MS_NODEV, "mode=1777")
    }
}

/// Puts the working directory back, writable, where it was; and goes there.
fn put_back(kept: &OwnedFd, place: &Path) -> Result<()> {
    // Below /tmp its path is not there any more. Whoever one becomes in the lab shall find the way.
    let umask = umask(Mode::from_bits_truncate(0o022));
    let made = fs::create_dir_all(place);
    nix::sys::stat::umask(umask);
    made.map_err(|error| Error::io("find the working directory", place, &error))?;
    let target = open_directory(place)?;
    let why = "have the working directory, the one place that stays writable";
    sys::move_mount(why, kept.as_fd(), target.as_fd())?;
    sys::chdir("start there", place)
}

/// The capabilities that reach the whole machine whatever the namespaces. See capabilities(7).
const CAPABILITIES: [Capability; 10] = [
    Capability::SYS_MODULE,
    Capability::SYS_RAWIO,
    Capability::SYS_BOOT,
    Capability::SYS_TIME,
    Capability::AUDIT_CONTROL,
    Capability::MAC_OVERRIDE,
    Capability::MAC_ADMIN,
    Capability::SYSLOG,
    Capability::WAKE_ALARM,
    Capability::BLOCK_SUSPEND,
];

/// Is this a machine that is thrown away after the tests? It says so on its kernel's command line: see tests/vm/vm.sh.
pub fn is_thrown_away() -> bool {
    let line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    line.split_whitespace().any(|word| word == "cooperage.throw_away")
}

/// Keeps these capabilities from every program that is started from here on.
fn drop_capabilities() -> Result<()> {
    for capability in CAPABILITIES {
        explain::call(
            "let nobody in the lab do what concerns the whole machine",
            || format!("prctl(PR_CAPBSET_DROP, {capability})"),
            || capability.drop_from_bounding_set(),
        )?;
    }
    Ok(())
}

/// Becomes the command, with the environment of whoever started the lab. See [`process::exec()`] for how
/// a container does it.
fn become_command(command: &[OsString]) -> Result<Infallible> {
    let shell = || std::env::var_os("SHELL").filter(|shell| !shell.is_empty());
    let program = command.first().cloned().or_else(shell).unwrap_or_else(|| "/bin/sh".into());
    sys::close_range("leave no open file of the machine to the command", 3, u32::MAX, true)?;
    let arguments = command.get(1..).unwrap_or_default();
    let why = "become the command";
    explain::last_call(why, &format!("execve({program:?}, {arguments:?})"));
    // They have been held back since before the lab was made; the command expects none to be.
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
        .map_err(|errno| Error::call("let signals through", "rt_sigprocmask()", errno))?;
    // Temporary files go to the lab's own /tmp.
    let error = Command::new(&program)
        .args(arguments)
        .env(VARIABLE, "1")
        .env_remove("TMPDIR")
        .env_remove("XDG_RUNTIME_DIR")
        .exec();
    let status = match error.kind() {
        ErrorKind::NotFound => errors::NOT_FOUND,
        _ => errors::CANNOT_EXECUTE,
    };
    Err(Error::io(format!("run {program:?} in the lab"), &program, &error).status(status))
}

/// The lab's own cgroups: one in each hierarchy that is mounted on this machine.
struct Cgroups {
    hierarchies: Vec<Hierarchy>,
    /// They could be made. If not, the lab sees the cgroups of whoever started it, and can't change them.
    own: bool,
}

/// One cgroup hierarchy of this machine, and the lab's place in it.
struct Hierarchy {
    mount: Mount,
    /// As in /proc/self/cgroup: "cpu,cpuacct"; "name=systemd"; nothing for version 2.
    controllers: String,
    directory: PathBuf,
}

impl Hierarchy {
    fn is_v2(&self) -> bool {
        self.controllers.is_empty()
    }

    fn has(&self, controller: &str) -> bool {
        self.controllers.split(',').any(|name| name == controller)
    }

    fn make(&self) -> Result<()> {
        let why = "make a cgroup for the lab";
        if self.is_v2() {
            // Without controllers it is a lab all the same: one in which nothing can be limited.
            let above = self.directory.parent().unwrap_or(Path::new("/"));
            if let Err(error) = V2::offer(above, &controllers_of(above)) {
                explain::remark(&format!("no limits in the lab: {}", error.reason()));
            }
        }
        fs::create_dir(&self.directory).map_err(|error| Error::io(why, &self.directory, &error))?;
        let write = |file: &str, text: &str| sys::write_file(why, &self.directory.join(file), text);
        if self.has("cpuset") {
            // A new one has neither processors nor memory, and then no process can enter it.
            let above = self.directory.parent().unwrap_or(Path::new("/"));
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let path = above.join(file);
                let text = fs::read_to_string(&path).map_err(|error| Error::io(why, &path, &error))?;
                write(file, text.trim())?;
            }
        }
        if self.has("devices") {
            // No disk: neither making a node for it nor using one.
            write("devices.deny", "b *:* rwm")?;
        }
        Ok(())
    }
}

impl Cgroups {
    fn new(host: &mut Host) -> Result<Cgroups> {
        let read = |path: &str| {
            fs::read_to_string(path).map_err(|error| Error::io("look for cgroups", path, &error))
        };
        let name = format!("cooperage-lab-{}", std::process::id());
        let mounts = Mount::all(&read("/proc/self/mountinfo")?);
        let memberships = read("/proc/self/cgroup")?;
        let mut hierarchies: Vec<_> =
            memberships.lines().filter_map(|line| find_hierarchy(line, &mounts, &name)).collect();
        // Whoever clears up kills through the first. A frozen process dies only where it can be thawed.
        hierarchies.sort_by_key(|hierarchy| !hierarchy.has("freezer"));

        for hierarchy in &hierarchies {
            host.note(&Leftover::Cgroup(hierarchy.directory.clone()))?;
        }
        let mut cgroups = Cgroups { hierarchies, own: true };
        if let Err(error) = cgroups.hierarchies.iter().try_for_each(Hierarchy::make) {
            explain::remark(&format!("no cgroups of its own for the lab: {}", error.reason()));
            cgroups.clear();
            cgroups.own = false;
        }
        Ok(cgroups)
    }

    /// Called by the lab's first process: from here on its cgroups are the root of all that it can see.
    fn enter(&self) -> Result<()> {
        for hierarchy in self.hierarchies.iter().filter(|_| self.own) {
            let file = if hierarchy.is_v2() { "cgroup.procs" } else { "tasks" };
            let why = "enter the lab's cgroup: 0 is the writer itself";
            sys::write_file(why, &hierarchy.directory.join(file), "0")?;
        }
        sys::unshare("see these cgroups as the root of all cgroups", CloneFlags::CLONE_NEWCGROUP)?;
        for hierarchy in self.hierarchies.iter().filter(|hierarchy| self.own && hierarchy.is_v2()) {
            // Handed on from the start, as systemd does it on a real machine.
            V2::offer(&hierarchy.directory, &controllers_of(&hierarchy.directory))?;
        }
        Ok(())
    }

    /// Mounts /sys/fs/cgroup, read-only where the cgroups are not the lab's own.
    fn mount(&self, layout: Layout) -> Result<()> {
        let top = Path::new("/sys/fs/cgroup");
        let (v2, v1): (Vec<_>, Vec<_>) = self.hierarchies.iter().partition(|hierarchy| hierarchy.is_v2());
        let (v1, v2) = match layout {
            Layout::None => (vec![], vec![]),
            Layout::Host | Layout::Hybrid => (v1, v2),
            Layout::V1 => (v1, vec![]),
            Layout::V2 => (vec![], v2),
        };
        let lacks = |version: &str| {
            Err(Error::new(
                "show the cgroups that were asked for",
                format!("no cgroup hierarchy of {version} is mounted here"),
            )
            .remedy("leave --cgroups away, or mount it first"))
        };
        match layout {
            Layout::V1 | Layout::Hybrid if v1.is_empty() => return lacks("version 1"),
            Layout::V2 | Layout::Hybrid if v2.is_empty() => return lacks("version 2"),
            _ => {}
        }

        let how = if self.own { PROC_FLAGS } else { PROC_FLAGS | MsFlags::MS_RDONLY };
        let mount = |kind: &str, point: &Path, data: Option<&[u8]>| {
            sys::mount("see the lab's cgroups", Some(Path::new(kind)), point, Some(kind), how, data)
        };
        let make_directory = |path: &Path| {
            fs::create_dir(path).map_err(|error| Error::io("make room for a hierarchy", path, &error))
        };
        if v1.is_empty() {
            return if v2.is_empty() { Ok(()) } else { mount("cgroup2", top, None) };
        }
        tmpfs("/sys/fs/cgroup", PROC_FLAGS, "mode=755")?;
        for hierarchy in v1 {
            let controllers = &hierarchy.controllers;
            let point = top.join(hierarchy.mount.point.file_name().unwrap_or(OsStr::new(controllers)));
            make_directory(&point)?;
            let named = if controllers.starts_with("name=") { "none," } else { "" };
            mount("cgroup", &point, Some(format!("{named}{controllers}").as_bytes()))?;
            for controller in controllers.split(',').filter(|_| controllers.contains(',')) {
                // It may be there already. All that use it find it by mountinfo just as well.
                let _ = symlink(&point, top.join(controller));
            }
        }
        if !v2.is_empty() {
            make_directory(&top.join("unified"))?;
            mount("cgroup2", &top.join("unified"), None)?;
        }
        Ok(())
    }

    /// Lets every frozen process in the lab go on, so that it can die.
    fn thaw(&self) -> Result<()> {
        let freezer = self.hierarchies.iter().find(|hierarchy| hierarchy.has("freezer"));
        freezer.filter(|_| self.own).map_or(Ok(()), |freezer| thaw(&freezer.directory))
    }

    /// What can't be removed is noted, and removed by the next run.
    fn clear(&self) {
        for hierarchy in &self.hierarchies {
            if let Err(error) = cgroup::destroy(&hierarchy.directory) {
                explain::remark(&error.to_string());
            }
        }
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        if self.own {
            self.clear();
        }
    }
}

/// The hierarchy of a line of /proc/self/cgroup, `N:CONTROLLERS:PATH`, if it is mounted.
fn find_hierarchy(line: &str, mounts: &[Mount], name: &str) -> Option<Hierarchy> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, own) = (parts.next()?, parts.next()?);
    let is_it = |mount: &&Mount| match controllers {
        "" => mount.kind == "cgroup2",
        _ => {
            let has = |controller| mount.options.iter().any(|option| option == controller);
            mount.kind == "cgroup" && controllers.split(',').all(has)
        }
    };
    let mut seen = mounts.iter().filter(is_it);
    let (mount, above) = seen.find_map(|mount| Some((mount, mount.directory_of(own)?)))?;
    let above = if mount.kind == "cgroup2" { V2::parent(mount, above) } else { above };
    let directory = above.join(name);
    Some(Hierarchy { mount: mount.clone(), controllers: controllers.to_string(), directory })
}

/// The controllers of version 2 that the chapters use, as far as they are to be had in this cgroup.
fn controllers_of(directory: &Path) -> Vec<&'static str> {
    let text = fs::read_to_string(directory.join("cgroup.controllers")).unwrap_or_default();
    let offered = |name: &&str| text.split_whitespace().any(|word| word == *name);
    ["memory", "cpu", "pids", "io"].into_iter().filter(offered).collect()
}

fn thaw(directory: &Path) -> Result<()> {
    let state = directory.join("freezer.state");
    if fs::read_to_string(&state).is_ok_and(|text| text.trim() != "THAWED") {
        sys::write_file("let it go on: a frozen process can't even die", &state, "THAWED")?;
    }
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            thaw(&entry.path())?;
        }
    }
    Ok(())
}

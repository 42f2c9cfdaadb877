//! Chapter 6: cgroups. Namespaces limit what a process can see; a cgroup limits what it can use.
//!
//! A cgroup is a directory that the kernel fills with files: one lists the processes, one sets a limit,
//! one counts what was used. There are two versions. Version 2 ([`v2`]) has one tree for everything, and
//! is what the book teaches. Version 1 ([`v1`]) has a tree for each controller, and is still mounted on
//! some machines; on hybrid ones both are. Which one is in force is looked up, never assumed.
//! See cgroups(7).

pub mod limits;
pub mod v1;
pub mod v2;

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

use super::process::Parent;
use super::root::NewRoot;
use super::state::ledger::{Ledger, Leftover};
use super::{sys, user};
use crate::told::errors::{Advise, Error, Result};
use crate::told::explain;
pub use limits::{Cpus, Limits, Memory, WriteRate};

// ANCHOR: cgroup-hierarchy
/// What the two versions have in common.
pub trait Hierarchy {
    /// The directories of the container's cgroup: one in version 2, one for each controller in version 1.
    fn directories(&self) -> Vec<&Path>;
    /// Makes them and writes the limits. Called by the runtime.
    fn create(&self, limits: &Limits) -> Result<()>;
    /// Its directory, opened, for a child to be born in; `None` for version 1, which has no such thing.
    fn open(&self) -> Result<Option<OwnedFd>>;
    /// Moves the calling process in. Called by the child, before it does anything else.
    fn enter(&self) -> Result<()>;
    /// Lets a frozen container go on, so that it can die.
    fn thaw(&self) -> Result<()>;
    /// How many of its processes the kernel has killed because memory ran out.
    fn oom_kills(&self) -> Option<u64>;
    /// The most memory that it ever used, in bytes.
    fn peak_memory(&self) -> Option<u64>;
    /// Mounts /sys/fs/cgroup as the container may see it. Called inside its cgroup namespace.
    fn mount_view(&self, root: &NewRoot) -> Result<()>;
}
// ANCHOR_END: cgroup-hierarchy

/// A container's cgroup; none where no limit was asked for and none can be made.
pub struct Cgroup {
    hierarchy: Option<Box<dyn Hierarchy>>,
    limits: Limits,
}

impl Cgroup {
    // ANCHOR: cgroup-new
    /// Makes a cgroup with these limits. It is noted, and removed at the end.
    pub fn new(ledger: &mut Ledger, limits: &Limits) -> Result<Cgroup> {
        limits.check()?;
        let limits = limits.clone();
        match Cgroup::make(ledger, &limits) {
            Ok(hierarchy) => Ok(Cgroup { hierarchy: Some(hierarchy), limits }),
            Err(error) if limits.are_none() => {
                explain::remark(&format!("no cgroup, and none is needed: {}", error.reason()));
                Ok(Cgroup { hierarchy: None, limits })
            }
            Err(error) => Err(error),
        }
    }

    fn make(ledger: &mut Ledger, limits: &Limits) -> Result<Box<dyn Hierarchy>> {
        let hierarchy = find(&format!("cooperage-{}", std::process::id()), limits)?;
        for directory in hierarchy.directories() {
            ledger.note(&Leftover::Cgroup(directory.to_path_buf()))?;
        }
        hierarchy.create(limits)?;
        Ok(hierarchy)
    }
    // ANCHOR_END: cgroup-new

    /// For [`process::spawn_into`](super::process::spawn_into): the cgroup, opened, where the child can be
    /// born in it. That is faster than to move there, for which the kernel has to wait until no processor can
    /// still be looking at the old state: some milliseconds.
    pub fn open(&self) -> Result<Option<OwnedFd>> {
        self.hierarchy.as_ref().map_or(Ok(None), |hierarchy| hierarchy.open())
    }

    // ANCHOR: cgroup-enter
    /// The child's first step, if it was not born there: from here on everything that it uses is counted.
    /// And its cgroup becomes the root of all that it can see: a cgroup namespace begins where its maker stands.
    pub fn enter(&self, parent: &Parent) -> Result<()> {
        if let Some(hierarchy) = &self.hierarchy
            && !parent.born_in_cgroup()
        {
            hierarchy.enter()?;
        }
        sys::unshare("see this cgroup as the root of all cgroups", CloneFlags::CLONE_NEWCGROUP)
    }
    // ANCHOR_END: cgroup-enter

    /// Shows the container its own cgroup, read-only.
    pub fn mount_view(&self, root: &NewRoot) -> Result<()> {
        self.hierarchy.as_ref().map_or(Ok(()), |hierarchy| hierarchy.mount_view(root))
    }

    /// Lets a frozen container go on, so that it can die.
    pub fn thaw(&self) -> Result<()> {
        self.hierarchy.as_ref().map_or(Ok(()), |hierarchy| hierarchy.thaw())
    }

    // ANCHOR: memory-report
    /// What to tell the user at the end: that the kernel killed because memory ran out, and at which limit.
    pub fn memory_report(&self) -> Option<String> {
        let hierarchy = self.hierarchy.as_ref()?;
        let kills = hierarchy.oom_kills().filter(|&kills| kills > 0)?;
        let limit = self.limits.memory.map_or("none of its own".to_string(), |limit| limit.to_string());
        let peak = hierarchy
            .peak_memory()
            .map_or("unknown".to_string(), |peak| Memory::from_bytes(peak).to_string());
        let what = if kills == 1 { "a process of the container" } else { "processes of the container" };
        Some(format!("out of memory: the kernel killed {what} (limit {limit}, peak {peak})"))
    }
    // ANCHOR_END: memory-report
}

/// Finds the version in force, and the place for a new cgroup `name` in it.
fn find(name: &str, limits: &Limits) -> Result<Box<dyn Hierarchy>> {
    let memberships = read("/proc/self/cgroup")?;
    let mounts = Mount::all(&read("/proc/self/mountinfo")?);
    if let Some(v2) = v2::V2::find(name, &mounts, &memberships)? {
        return Ok(Box::new(v2));
    }
    if let Some(v1) = v1::V1::find_for(limits, name, &mounts, &memberships)? {
        return Ok(Box::new(v1));
    }
    Err(Error::new("find the cgroups of this machine", "no cgroup controller is mounted")
        .remedy("mount the cgroup2 filesystem: mount -t cgroup2 cgroup2 /sys/fs/cgroup"))
}

fn read(path: &str) -> Result<String> {
    sys::read_file(Path::new(path)).map_err(|error| Error::io("look for cgroups", path, &error))
}

/// A mounted cgroup hierarchy: a line of /proc/self/mountinfo. See proc_pid_mountinfo(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Which directory of the hierarchy is mounted here; not "/" in a container.
    pub root: PathBuf,
    /// Where.
    pub point: PathBuf,
    /// "cgroup2", or "cgroup" for version 1.
    pub kind: String,
    /// Options of the hierarchy; in version 1 the names of its controllers.
    pub options: Vec<String>,
}

impl Mount {
    /// The cgroup mounts in a mountinfo file.
    pub fn all(mountinfo: &str) -> Vec<Mount> {
        let parse = |line: &str| {
            let (before, after) = line.split_once(" - ")?;
            let mut before = before.split(' ').skip(3);
            let (root, point) = (before.next()?, before.next()?);
            let mut after = after.split(' ');
            let kind = after.next()?.to_string();
            let options = after.nth(1)?.split(',').map(str::to_string).collect();
            let plain = |path: &str| PathBuf::from(path.replace("\\040", " "));
            Some(Mount { root: plain(root), point: plain(point), kind, options })
        };
        mountinfo.lines().filter_map(parse).filter(|mount| mount.kind.starts_with("cgroup")).collect()
    }

    /// The directory here of the cgroup that /proc/self/cgroup calls `path`, if it is inside what is
    /// mounted here.
    pub fn directory_of(&self, path: &str) -> Option<PathBuf> {
        let below = Path::new(path).strip_prefix(&self.root).ok()?;
        let outside = below.components().any(|part| part == std::path::Component::ParentDir);
        (!outside).then(|| self.point.join(below))
    }
}

/// The directory of this process's own cgroup, of version 1 with this controller or of version 2 (`None`),
/// and the mount that it is seen in. The last one: what is mounted later covers what was there before.
pub fn own_directory<'a>(
    mounts: &'a [Mount],
    memberships: &str,
    controller: Option<&str>,
) -> Option<(&'a Mount, PathBuf)> {
    let own = membership(memberships, controller)?;
    let has = |mount: &&Mount| match controller {
        None => mount.kind == "cgroup2",
        Some(name) => mount.kind == "cgroup" && mount.options.iter().any(|option| option == name),
    };
    let directory = |mount: &Mount| mount.directory_of(own).filter(|directory| directory.is_dir());
    mounts.iter().rev().filter(has).find_map(|mount| Some((mount, directory(mount)?)))
}

/// The cgroup of this process in a hierarchy: the path in a line of /proc/self/cgroup, which is
/// `0::PATH` for version 2 and `N:CONTROLLERS:PATH` for version 1.
pub fn membership<'a>(memberships: &'a str, controller: Option<&str>) -> Option<&'a str> {
    memberships.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let wanted = match controller {
            None => number == "0" && controllers.is_empty(),
            Some(controller) => controllers.split(',').any(|name| name == controller),
        };
        wanted.then_some(path)
    })
}

/// Makes a cgroup directory.
fn make_directory(path: &Path, remedy: &str) -> Result<()> {
    let shown = || format!("mkdir({})", explain::quote(path.as_os_str().as_encoded_bytes()));
    let make = || match fs::create_dir(path) {
        Err(error) => Err(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))),
        Ok(()) => Ok(()),
    };
    explain::call("make a cgroup: the kernel fills it with files", shown, make).remedy(remedy).map_err(
        |error| {
            let is_root = geteuid().is_root() && user::in_first_user_namespace().unwrap_or(false);
            match error.errno() {
                Some(Errno::EROFS) => error.remedy(READ_ONLY),
                Some(Errno::EACCES | Errno::EPERM) if is_root => error.remedy(POWERLESS),
                _ => error,
            }
        },
    )
}

/// What helps where cgroups cannot be written to; being root does not.
pub const READ_ONLY: &str = "cgroups are mounted read-only here, as container engines do: run on the host, or in a container that was \
                         started with --privileged; without limits everything else works";
/// Where "run as root" is no advice.
const POWERLESS: &str = "this root may make no cgroup, as container engines have it: run on the host, or in a container that was \
                         started with --privileged; without limits everything else works";

/// Writes a limit. A file that is not there means that the kernel lacks the controller.
fn write_limit(why: &str, directory: &Path, file: &str, value: impl std::fmt::Display) -> Result<()> {
    sys::write_file(why, &directory.join(file), value).remedy_for(
        Errno::ENOENT,
        "this kernel or this cgroup lacks the controller: `cargo run --bin doctor` shows which",
    )
}

/// Writes a limit for a disk.
fn write_disk_limit(directory: &Path, file: &str, value: String) -> Result<()> {
    write_limit("limit the bytes written to the disk in a second", directory, file, value)
        .remedy_for(Errno::ENODEV, "that is a part of a disk: name the whole, /dev/sda rather than /dev/sda1")
}

/// The value after `key` in a file of `key value` lines.
fn value_of(file: &Path, key: &str) -> Option<u64> {
    let text = sys::read_file(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The number that a file holds.
fn number_in(file: &Path) -> Option<u64> {
    sys::read_file(file).ok()?.trim().parse().ok()
}

/// Removes a cgroup with everything in it: thaws it, kills what runs in it and below, removes it from
/// the leaves up. It is no error if it is not there.
pub fn destroy(directory: &Path) -> Result<()> {
    // Most often nobody is left in it, and that is all there is to do.
    if fs::remove_dir(directory).is_ok() {
        return Ok(());
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match destroy_once(directory) {
            // A killed process is a member until it has been reaped.
            Err(error) if error.errno() == Some(Errno::EBUSY) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(2));
            }
            result => return result,
        }
    }
}

// ANCHOR: cgroup-destroy
fn destroy_once(directory: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(directory) else { return Ok(()) };
    // A frozen process of version 1 does not even die. On version 2 it does.
    let _ = v1::thaw(directory);
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            destroy_once(&entry.path())?;
        }
    }
    let processes = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    if !processes.is_empty() && directory.join("cgroup.kill").exists() {
        // Version 2, since Linux 5.14. One at a time, a fork bomb could be faster.
        sys::write_file("kill all that is left in it, in one go", &directory.join("cgroup.kill"), "1")?;
    } else {
        for pid in processes.lines().filter_map(|line| line.parse().ok()).filter(|&pid| pid > 0) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    match fs::remove_dir(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("remove a cgroup", directory, &error))
        }
        _ => Ok(()),
    }
}
// ANCHOR_END: cgroup-destroy

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_where_they_are() {
        let mountinfo = "\
30 24 0:26 / /sys/fs/cgroup rw,nosuid - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw,nsdelegate
35 30 0:31 /docker/abc /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
36 30 0:32 / /mnt/with\\040space rw - cgroup cgroup rw,memory
";
        let mounts = Mount::all(mountinfo);
        assert_eq!(mounts.len(), 3);
        assert_eq!((mounts[0].kind.as_str(), mounts[1].kind.as_str()), ("cgroup2", "cgroup"));
        assert_eq!(mounts[1].options, ["rw", "cpu", "cpuacct"]);
        assert_eq!(mounts[2].point, Path::new("/mnt/with space"));
        // In a container the mount shows a part of the tree.
        assert_eq!(mounts[1].directory_of("/docker/abc/x"), Some("/sys/fs/cgroup/cpu,cpuacct/x".into()));
        assert_eq!(mounts[1].directory_of("/elsewhere"), None);
        assert_eq!(mounts[0].directory_of("/../outside"), None);
    }

    #[test]
    fn memberships_of_both_versions() {
        let text = "4:memory:/a\n3:cpu,cpuacct:/b:c\n1:name=systemd:/d\n0::/e\n";
        assert_eq!(membership(text, Some("memory")), Some("/a"));
        assert_eq!(membership(text, Some("cpu")), Some("/b:c"));
        assert_eq!(membership(text, Some("pids")), None);
        assert_eq!(membership(text, None), Some("/e"));
        assert_eq!(membership("4:memory:/a\n", None), None);
    }

    #[test]
    fn a_tree_is_removed_from_the_leaves_up() {
        let tree = tempfile::tempdir().expect("a directory");
        let top = tree.path().join("top");
        fs::create_dir_all(top.join("a/b")).expect("writable");
        fs::create_dir_all(top.join("c")).expect("writable");
        assert!(destroy(&top).is_ok());
        assert!(!top.exists());
        assert!(destroy(&top).is_ok(), "not there is no error");
    }
}

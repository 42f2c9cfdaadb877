//! Chapter 6: cgroups. Namespaces limit what a process can see; a cgroup limits what it can use.
//!
//! A cgroup is a directory that the kernel fills with files: one lists the processes, one sets a limit,
//! one counts what was used. There are two versions. Version 2 ([`v2`]) has one tree for everything, and
//! is what the book teaches. Version 1 ([`v1`]) has a tree for each controller, and is still mounted on
//! some machines; on hybrid ones both are. Which one is in force is looked up, never assumed.
//! See cgroups(7).

pub mod devices;
pub mod hierarchy;
pub mod limits;
pub mod v1;
pub mod v2;

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid};

use super::process::Parent;
use super::root::NewRoot;
use super::state::ledger::{Ledger, Leftover};
use super::sys;
use super::user::maps::Users;
use crate::told::errors::{Error, Result};
use crate::told::explain;
pub use hierarchy::{Hierarchy, Mount, READ_ONLY, membership, own_directory};
pub use limits::{Cpus, Limits, Memory, WriteRate};

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

    // ANCHOR: cgroup-delegate
    /// Chapter 8: lets the container's root make cgroups below its own, where the version can do that safely. Its own limits
    /// stay the host's.
    pub fn delegate(&self, users: &Users) -> Result<()> {
        let owner = || Some((users.uids.outside(0)?, users.gids.outside(0)?));
        match (&self.hierarchy, owner()) {
            (Some(hierarchy), Some((uid, gid))) if users.differ() => {
                hierarchy.delegate(Uid::from_raw(uid), Gid::from_raw(gid))
            }
            _ => Ok(()),
        }
    }
    // ANCHOR_END: cgroup-delegate

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

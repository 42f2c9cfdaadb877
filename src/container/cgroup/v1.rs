//! Cgroups, version 1: a tree for each controller, so a container needs a directory in each.
//!
//! See the kernel's admin-guide/cgroup-v1 documents.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{Gid, Uid};

use super::hierarchy::{
    Hierarchy, Mount, make_directory, number_in, own_directory, value_of, write_disk_limit, write_limit,
};
use super::limits::{Cpus, Limits};
use crate::container::pid::PROC_FLAGS;
use crate::container::power::devices::{Rule, usual_rules};
use crate::container::root::NewRoot;
use crate::container::sys::{self, MsFlags};
use crate::told::errors::{Error, Result};

/// The controllers that a container is put under. The freezer limits nothing: it is there so that the
/// container can be stopped as a whole.
const CONTROLLERS: [&str; 4] = ["freezer", "memory", "cpu", "pids"];

/// Limits what is written to disks. Only those who ask for that need it.
const DISKS: &str = "blkio";

/// Chapter 9: says which devices may be used.
const DEVICES: &str = "devices";

const REMEDY: &str = "run as root: version 1 cannot be given to ordinary users safely (version 2 can)";

/// A container's cgroups, one for each controller.
pub struct V1 {
    cgroups: Vec<(String, PathBuf)>,
}

impl V1 {
    /// Places for the cgroup `name` below this process's own; `None` where no controller is mounted.
    pub fn find(name: &str, mounts: &[Mount], memberships: &str) -> Result<Option<V1>> {
        V1::find_with(&CONTROLLERS, name, mounts, memberships)
    }

    /// Places as [`V1::find`] has them, and those that these limits need besides.
    pub fn find_for(limits: &Limits, name: &str, mounts: &[Mount], memberships: &str) -> Result<Option<V1>> {
        let disks = (!limits.writes.is_empty()).then_some(DISKS);
        let devices = limits.devices.is_some().then_some(DEVICES);
        let controllers: Vec<_> = CONTROLLERS.into_iter().chain(disks).chain(devices).collect();
        V1::find_with(&controllers, name, mounts, memberships)
    }

    fn find_with(
        controllers: &[&str],
        name: &str,
        mounts: &[Mount],
        memberships: &str,
    ) -> Result<Option<V1>> {
        let mut cgroups = Vec::new();
        for &controller in controllers {
            if let Some((_, directory)) = own_directory(mounts, memberships, Some(controller)) {
                cgroups.push((controller.to_string(), directory.join(name)));
            }
        }
        Ok((!cgroups.is_empty()).then_some(V1 { cgroups }))
    }

    fn directory(&self, controller: &str) -> Option<&Path> {
        self.cgroups.iter().find(|(name, _)| name == controller).map(|(_, path)| path.as_path())
    }

    fn need(&self, controller: &str) -> Result<&Path> {
        self.directory(controller).ok_or_else(|| {
            Error::new("set the limit", format!("the {controller} controller is not mounted"))
                .remedy(format!("mount -t cgroup -o {controller} {controller} /sys/fs/cgroup/{controller}"))
        })
    }
}

impl Hierarchy for V1 {
    fn directories(&self) -> Vec<&Path> {
        let mut directories: Vec<&Path> = self.cgroups.iter().map(|(_, path)| path.as_path()).collect();
        // Two controllers may share a hierarchy, as cpu and cpuacct do.
        directories.dedup();
        directories
    }

    // ANCHOR: v1-create
    fn create(&self, limits: &Limits) -> Result<()> {
        for directory in self.directories() {
            make_directory(directory, REMEDY)?;
        }
        if let Some(memory) = limits.memory {
            let directory = self.need("memory")?;
            write_limit("limit the memory", directory, "memory.limit_in_bytes", memory.bytes())?;
            // The sum of memory and swap: the same, so no swap. Not there when the kernel does not count swap.
            let sum = directory.join("memory.memsw.limit_in_bytes");
            match sys::write_file("let it use no swap instead", &sum, memory.bytes()) {
                Err(error) if error.errno() != Some(Errno::ENOENT) => return Err(error),
                _ => {}
            }
        }
        if let Some(cpus) = limits.cpus {
            let directory = self.need("cpu")?;
            write_limit(
                "count processor time in periods (us)",
                directory,
                "cpu.cfs_period_us",
                Cpus::PERIOD,
            )?;
            write_limit("limit the time in each period (us)", directory, "cpu.cfs_quota_us", cpus.quota())?;
        }
        if let Some(pids) = limits.pids {
            write_limit("limit the number of processes", self.need("pids")?, "pids.max", pids)?;
        }
        for rate in &limits.writes {
            let value = format!("{} {}", rate.number()?, rate.bytes());
            write_disk_limit(self.need(DISKS)?, "blkio.throttle.write_bps_device", value)?;
        }
        match (&limits.devices, self.directory(DEVICES)) {
            (Some(rules), Some(directory)) => allow_devices(directory, rules),
            _ => Ok(()),
        }
    }
    // ANCHOR_END: v1-create

    fn open(&self) -> Result<Option<OwnedFd>> {
        Ok(None)
    }

    /// Version 1 cannot be delegated safely: whoever may write to a directory may write every limit in it.
    fn delegate(&self, _: Uid, _: Gid) -> Result<()> {
        Ok(())
    }

    // ANCHOR: v1-enter
    /// Writing 0 to `tasks` moves the writer itself, immediately. (Writing a pid to cgroup.procs waits, for
    /// some milliseconds, until no processor can still be looking at the old state.)
    fn enter(&self) -> Result<()> {
        for directory in self.directories() {
            sys::write_file("enter the cgroup: 0 is the writer itself", &directory.join("tasks"), "0")?;
        }
        Ok(())
    }
    // ANCHOR_END: v1-enter

    fn thaw(&self) -> Result<()> {
        self.directory("freezer").map_or(Ok(()), thaw)
    }

    fn oom_kills(&self) -> Option<u64> {
        value_of(&self.directory("memory")?.join("memory.oom_control"), "oom_kill")
    }

    fn peak_memory(&self) -> Option<u64> {
        number_in(&self.directory("memory")?.join("memory.max_usage_in_bytes"))
    }

    fn mount_view(&self, root: &NewRoot) -> Result<()> {
        let tmpfs = Some(Path::new("tmpfs"));
        let place = root.directory("sys/fs/cgroup")?;
        let why = "have room for a directory for each hierarchy";
        sys::mount(why, tmpfs, place.path(), Some("tmpfs"), PROC_FLAGS, Some(b"mode=755,size=64k"))?;
        let place = root.directory("sys/fs/cgroup")?; // the directory that is there now: the tmpfs
        for (controller, _) in &self.cgroups {
            let why = "see its own limits and counters, and change none";
            let how = PROC_FLAGS | MsFlags::MS_RDONLY;
            let cgroup = Some(Path::new("cgroup"));
            let target = place.make_directory(controller)?;
            sys::mount(why, cgroup, &target, Some("cgroup"), how, Some(controller.as_bytes()))?;
        }
        let how = PROC_FLAGS | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        sys::mount("add nothing there", tmpfs, place.path(), None, how, Some(b"mode=755,size=64k"))
    }
}

// ANCHOR: v1-devices
/// First no device at all, then these. What the cgroup above does not allow, it cannot allow either: of the usual ones
/// that is no loss, since they could not be used before.
pub fn allow_devices(directory: &Path, rules: &[Rule]) -> Result<()> {
    sys::write_file("let it use no device", &directory.join("devices.deny"), "a")?;
    let usual = usual_rules();
    for rule in rules {
        match sys::write_file("let it use this one", &directory.join("devices.allow"), rule) {
            Err(error) if error.errno() == Some(Errno::EPERM) && usual.contains(rule) => {}
            result => result?,
        }
    }
    Ok(())
}
// ANCHOR_END: v1-devices

// ANCHOR: v1-thaw
/// Lets the processes of a freezer cgroup go on, if they are frozen.
pub(super) fn thaw(directory: &Path) -> Result<()> {
    let state = directory.join("freezer.state");
    match sys::read_file(&state) {
        Ok(text) if text.trim() != "THAWED" => {
            sys::write_file("let it go on: a frozen process cannot even die", &state, "THAWED")
        }
        _ => Ok(()),
    }
}
// ANCHOR_END: v1-thaw

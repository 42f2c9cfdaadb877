//! Chapter 6: what the two versions of cgroups have in common.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::geteuid;
use nix::unistd::{Gid, Uid};

use super::limits::Limits;
use crate::container::mountinfo;
use crate::container::root::NewRoot;
use crate::container::sys;
use crate::container::user::namespace;
use crate::told::errors::{Advise, Result};
use crate::told::explain;

// ANCHOR: cgroup-hierarchy
/// What the two versions have in common.
pub trait Hierarchy {
    /// The directories of the container's cgroup: one in version 2, one for each controller in version 1.
    fn directories(&self) -> Vec<&Path>;
    /// Makes them and writes the limits. Called by the runtime.
    fn create(&self, limits: &Limits) -> Result<()>;
    /// Its directory, opened, for a child to be born in; `None` for version 1, which has no such thing.
    fn open(&self) -> Result<Option<OwnedFd>>;
    /// Gives the right to make cgroups below it to somebody else (chapter 8). Called by the runtime.
    fn delegate(&self, uid: Uid, gid: Gid) -> Result<()>;
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

/// A mounted cgroup hierarchy: what a line of mountinfo says of it.
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
    pub fn all(table: &str) -> Vec<Mount> {
        let cgroups =
            mountinfo::parse(table.as_bytes()).into_iter().filter(|it| it.kind.starts_with("cgroup"));
        cgroups
            .map(|it| Mount { root: it.root, point: it.point, kind: it.kind, options: it.filesystem_options })
            .collect()
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
pub(super) fn make_directory(path: &Path, remedy: &str) -> Result<()> {
    let shown = || format!("mkdir({})", explain::quote(path.as_os_str().as_encoded_bytes()));
    let make = || match fs::create_dir(path) {
        Err(error) => Err(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))),
        Ok(()) => Ok(()),
    };
    explain::call("make a cgroup: the kernel fills it with files", shown, make).remedy(remedy).map_err(
        |error| {
            let is_root = geteuid().is_root() && namespace::in_first_user_namespace().unwrap_or(false);
            match error.errno() {
                Some(Errno::EROFS) => error.remedy(READ_ONLY),
                Some(Errno::EACCES | Errno::EPERM) if is_root => error.remedy(POWERLESS),
                _ => error,
            }
        },
    )
}

/// What helps where cgroups cannot be written to; being root does not.
pub const READ_ONLY: &str = "cgroups are mounted read-only here, as container engines do: run on the host, or in a \
     container that was started with --privileged; without limits everything else works";

/// Where "run as root" is no advice.
const POWERLESS: &str = "this root may make no cgroup, as container engines have it: run on the host, or in a \
     container that was started with --privileged; without limits everything else works";

/// Writes a limit. A file that is not there means that the kernel lacks the controller.
pub(super) fn write_limit(
    why: &str,
    directory: &Path,
    file: &str,
    value: impl std::fmt::Display,
) -> Result<()> {
    sys::write_file(why, &directory.join(file), value).remedy_for(
        Errno::ENOENT,
        "this kernel or this cgroup lacks the controller: `cargo run --bin doctor` shows which",
    )
}

/// Writes a limit for a disk.
pub(super) fn write_disk_limit(directory: &Path, file: &str, value: String) -> Result<()> {
    write_limit("limit the bytes written to the disk in a second", directory, file, value)
        .remedy_for(Errno::ENODEV, "that is a part of a disk: name the whole, /dev/sda rather than /dev/sda1")
}

/// The value after `key` in a file of `key value` lines.
pub(super) fn value_of(file: &Path, key: &str) -> Option<u64> {
    let text = sys::read_file(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The number that a file holds.
pub(super) fn number_in(file: &Path) -> Option<u64> {
    sys::read_file(file).ok()?.trim().parse().ok()
}

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
}

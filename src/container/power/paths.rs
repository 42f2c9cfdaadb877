//! Chapter 9: files of /proc and /sys that are in no namespace: hidden, or to be looked at only.
//!
//! To cover a file is one mount. What is hard is to cover the right one: the root filesystem may come from anyone, and a
//! link in it must not make us cover, or open up, something else. (So it was in runc: CVE-2025-31133, where `/dev/null`
//! was a link and what it led to became visible in place of the masked file; CVE-2025-52881, where writes meant for
//! `/proc` went elsewhere.) So nothing here is found by a path that the root filesystem has a say in: the two filesystems
//! are held by descriptors that were seen to be the kernel's, every name below them is looked up without following a
//! link, and what covers is seen to be what it should be.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{SFlag, fstat, major, minor};
use nix::sys::statfs::{FsType, PROC_SUPER_MAGIC, SYSFS_MAGIC, fstatfs};

use crate::container::mount::is_directory;
use crate::container::root::NewRoot;
use crate::container::sys::{self, MsFlags};
use crate::told::errors::{Error, Result};

// ANCHOR: masked-paths
/// Not shown at all. They tell of the whole machine: its memory, its keys, its timers, its disks, how warm it runs (from
/// which a key that is being used can be guessed). Docker's list.
const MASKED: [(Filesystem, &str); 12] = [
    (Filesystem::Proc, "acpi"),
    (Filesystem::Proc, "asound"),
    (Filesystem::Proc, "interrupts"),
    (Filesystem::Proc, "kcore"),
    (Filesystem::Proc, "keys"),
    (Filesystem::Proc, "latency_stats"),
    (Filesystem::Proc, "sched_debug"),
    (Filesystem::Proc, "scsi"),
    (Filesystem::Proc, "timer_list"),
    (Filesystem::Proc, "timer_stats"),
    (Filesystem::Sys, "devices/virtual/powercap"),
    (Filesystem::Sys, "firmware"),
];

/// Each processor has one of these.
const OF_EACH_CPU: &str = "thermal_throttle";

/// Shown, and not to be changed: settings of the whole machine. In /proc, since /sys is read-only as a whole.
const READ_ONLY: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];
// ANCHOR_END: masked-paths

/// The kernel's two filesystems that tell of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filesystem {
    Proc,
    Sys,
}

impl Filesystem {
    fn place(self) -> &'static str {
        match self {
            Filesystem::Proc => "proc",
            Filesystem::Sys => "sys",
        }
    }

    fn magic(self) -> FsType {
        match self {
            Filesystem::Proc => PROC_SUPER_MAGIC,
            Filesystem::Sys => SYSFS_MAGIC,
        }
    }

    // ANCHOR: paths-found
    /// It, wherever the root filesystem's links had it mounted; and seen to be the kernel's.
    fn of(self, root: &NewRoot) -> Result<OwnedFd> {
        let found = root.directory(self.place())?.into_fd();
        let step = format!("find the kernel's /{}", self.place());
        let kind = fstatfs(&found)
            .map_err(|errno| Error::call(&step, format!("fstatfs({})", found.as_raw_fd()), errno))?;
        if kind.filesystem_type() == self.magic() {
            return Ok(found);
        }
        Err(Error::new(step, "something else is mounted there"))
    }
    // ANCHOR_END: paths-found
}

// ANCHOR: paths-mask
/// Hides what tells of the whole machine: a file under `/dev/null`, a directory under an empty one.
pub fn mask(root: &NewRoot) -> Result<()> {
    let (proc, sys) = (Filesystem::Proc.of(root)?, Filesystem::Sys.of(root)?);
    let null = null_device(root)?;
    let empty = root.empty_directory()?;
    let mut masked: Vec<(&OwnedFd, PathBuf)> = MASKED
        .iter()
        .map(|(filesystem, name)| match filesystem {
            Filesystem::Proc => (&proc, PathBuf::from(name)),
            Filesystem::Sys => (&sys, PathBuf::from(name)),
        })
        .collect();
    masked.extend(of_each_cpu(&sys).into_iter().map(|name| (&sys, name)));
    for (filesystem, name) in masked {
        let shown = name.display();
        let Some(target) = if_there(filesystem, &name)? else { continue };
        let cover = if is_directory(&target)? { &empty } else { &null };
        let why = format!("have a cover for {shown}");
        let cover = sys::open_tree(&why, cover.as_fd(), Path::new(""), false)?;
        sys::mount_setattr_read_only("a cover that stays as it is", cover.as_fd())?;
        sys::move_mount(&format!("hide {shown}"), cover.as_fd(), target.as_fd())?;
    }
    Ok(())
}
// ANCHOR_END: paths-mask

// ANCHOR: paths-read-only
/// Makes the machine's settings in /proc read-only. Called after the container has made its own.
pub fn make_read_only(root: &NewRoot) -> Result<()> {
    let proc = Filesystem::Proc.of(root)?;
    for name in READ_ONLY {
        let Some(target) = if_there(&proc, Path::new(name))? else { continue };
        let tree =
            sys::open_tree(&format!("take /proc/{name} in hand"), target.as_fd(), Path::new(""), true)?;
        sys::mount_setattr_read_only("let it be looked at only", tree.as_fd())?;
        sys::move_mount(&format!("put it over /proc/{name}"), tree.as_fd(), target.as_fd())?;
    }
    Ok(())
}
// ANCHOR_END: paths-read-only

/// Makes the root filesystem itself read-only, and none of what is mounted in it.
pub fn make_root_read_only() -> Result<()> {
    let how = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    sys::mount("let nothing be written to the root filesystem", None, Path::new("/"), None, how, None)
}

/// The file or directory below, if this kernel has it.
fn if_there(directory: &OwnedFd, name: &Path) -> Result<Option<OwnedFd>> {
    let why = format!("find {} without following a link", name.display());
    match sys::open_beneath(&why, directory.as_fd(), name, OFlag::O_PATH) {
        // EACCES: a directory on the way that nobody of this user namespace may enter, and nobody has to be kept from.
        Err(error) if matches!(error.errno(), Some(Errno::ENOENT | Errno::EACCES)) => Ok(None),
        found => found.map(Some),
    }
}

/// What covers a file: seen to be the device that gives nothing and takes everything.
fn null_device(root: &NewRoot) -> Result<OwnedFd> {
    const WHY: &str = "find /dev/null without following a link";
    let dev = root.directory("dev")?.into_fd();
    let null = sys::open_beneath(WHY, dev.as_fd(), Path::new("null"), OFlag::O_PATH)?;
    let found =
        fstat(&null).map_err(|errno| Error::call(WHY, format!("fstat({})", null.as_raw_fd()), errno))?;
    let is_device = SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFCHR;
    if is_device && (major(found.st_rdev), minor(found.st_rdev)) == (1, 3) {
        return Ok(null);
    }
    Err(Error::new("hide what tells of the whole machine", "/dev/null is something else"))
}

fn of_each_cpu(sys: &OwnedFd) -> Vec<PathBuf> {
    let cpus = Path::new("devices/system/cpu");
    const WHY: &str = "see which processors there are";
    let how = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let Ok(directory) = sys::open_beneath(WHY, sys.as_fd(), cpus, how) else { return Vec::new() };
    let Ok(mut directory) = nix::dir::Dir::from_fd(directory) else { return Vec::new() };
    let mut found: Vec<PathBuf> = directory
        .iter()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().to_str().ok()?.to_string();
            let number = name.strip_prefix("cpu")?;
            let is_cpu = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
            is_cpu.then(|| cpus.join(name).join(OF_EACH_CPU))
        })
        .collect();
    found.sort();
    found
}

//! Chapter 3: a mount namespace, and what a container expects to find mounted.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{Mode, SFlag, fstat};

use super::pid::{PROC_FLAGS, PROC_REMEDY};
use super::root::NewRoot;
use super::sys::{self, CloneFlags, MsFlags};
use super::user::namespace::in_first_user_namespace;
use crate::told::errors::{Advise, Error, Result};

// ANCHOR: make-private
/// Cuts the tie between this mount namespace and the one that it was copied from.
///
/// A new mount namespace starts as a copy, and where mounts are shared (systemd makes all of them so)
/// what is mounted in the copy appears in the original too. This must come before the first mount.
/// See mount_namespaces(7), "SHARED SUBTREES".
pub fn make_private() -> Result<()> {
    let how = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    sys::mount("let nothing mounted here be seen outside", None, Path::new("/"), None, how, None)
        .remedy_for(Errno::EINVAL, NO_MOUNT)
}
// ANCHOR_END: make-private

// ANCHOR: unshare-mounts
/// Chapter 8: mounts of its own, a copy of those of the runtime. Not at birth, but when the runtime has laid
/// everything out.
pub fn copy_mounts() -> Result<()> {
    sys::unshare("have mounts of its own: a copy of what is laid out", CloneFlags::CLONE_NEWNS)
}
// ANCHOR_END: unshare-mounts

/// What helps where the root directory is one that chroot(2) made out of any directory.
const NO_MOUNT: &str = "the root directory is not a mount: this is a chroot. Run outside of it, or make its directory a mount \
                        before you enter it: mount --rbind DIR DIR && chroot DIR";

// ANCHOR: furnish
/// Mounts /proc, /sys and /dev, and makes /tmp.
pub fn furnish(root: &NewRoot) -> Result<()> {
    furnish_with(root, SHARED_MEMORY)
}

/// Chapter 9: the same, with so many bytes of shared memory.
pub fn furnish_with(root: &NewRoot, shared_memory: u64) -> Result<()> {
    mount_proc(root)?;
    mount_sys(root)?;
    make_dev(root, shared_memory)?;
    make_tmp(root)
}

fn mount_proc(root: &NewRoot) -> Result<()> {
    let (proc, target) = (Path::new("proc"), root.directory("proc")?);
    let why = "show ps the processes of this namespace only";
    sys::mount(why, Some(proc), target.path(), Some("proc"), PROC_FLAGS, None)
        .remedy_for(Errno::EPERM, PROC_REMEDY)
}
// ANCHOR_END: furnish

// ANCHOR: mount-sys
/// Read-only: most of /sys is not in any namespace, and writing there would change the host.
fn mount_sys(root: &NewRoot) -> Result<()> {
    let target = root.directory("sys")?;
    let how = PROC_FLAGS | MsFlags::MS_RDONLY;
    let why = "show the devices of the kernel, to look at only";
    match sys::mount(why, Some(Path::new("sysfs")), target.path(), Some("sysfs"), how, None) {
        // /sys shows the network devices of a network namespace, so only its owner may mount one. With the
        // host's network an ordinary user is not, and gets the host's own /sys instead.
        Err(error) if error.errno() == Some(Errno::EPERM) => {
            let tree = sys::open_tree("take the host's /sys instead", AT_FDCWD, Path::new("/sys"), true)?;
            sys::mount_setattr_read_only("let it be looked at only", tree.as_fd())?;
            sys::move_mount("put it into the new root", tree.as_fd(), target.as_fd())
        }
        result => result,
    }
}
// ANCHOR_END: mount-sys

// ANCHOR: devices
/// Name, major and minor number of the devices that every program may count on.
/// Their numbers are fixed: see the kernel's admin-guide/devices.txt.
pub const DEVICES: [(&str, u64, u64); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
// ANCHOR_END: devices

/// Names that programs count on, and where they lead.
pub const DEV_LINKS: [(&str, &str); 5] = [
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// How much there is of shared memory, unless it is said otherwise: 64 MiB, as with Docker.
pub const SHARED_MEMORY: u64 = 64 << 20;

/// A /dev with a handful of harmless devices. The host's has its disks.
fn make_dev(root: &NewRoot, shared_memory: u64) -> Result<()> {
    let target = root.directory("dev")?;
    let how = MsFlags::MS_NOSUID | MsFlags::MS_STRICTATIME;
    let tmpfs = Some(Path::new("tmpfs"));
    sys::mount(
        "start /dev empty, without the host's disks",
        tmpfs,
        target.path(),
        Some("tmpfs"),
        how,
        Some(&root.options(b"mode=755,size=64k")),
    )?;

    let place = root.directory("dev")?; // the directory that is there now: the tmpfs
    let dev = place.path();
    let may_mknod = in_first_user_namespace()?;
    for (name, major, minor) in DEVICES {
        if may_mknod {
            let file = dev.join(name);
            sys::mknod("make a device that a program may count on", &file, major, minor)?;
        } else {
            // In a user namespace nobody can make a device node, but one that is there can be borrowed.
            let source = Path::new("/dev").join(name);
            let tree = sys::open_tree("borrow the host's device", AT_FDCWD, &source, false)?;
            let file = place.make_file(name)?;
            sys::move_mount("put it into the new /dev", tree.as_fd(), file.as_fd())?;
        }
    }
    for (name, to) in DEV_LINKS {
        let link = dev.join(name);
        symlink(to, &link).map_err(|error| Error::io(format!("make /dev/{name}"), &link, &error))?;
    }

    let how = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let pts = place.make_directory("pts")?;
    let options: &[u8] = b"newinstance,ptmxmode=0666,mode=0620";
    sys::mount(
        "have terminals of its own",
        Some(Path::new("devpts")),
        &pts,
        Some("devpts"),
        how,
        Some(&root.options(options)),
    )?;
    let shm = place.make_directory("shm")?;
    let options = match shared_memory {
        SHARED_MEMORY => "mode=1777,size=64m".to_string(),
        bytes => format!("mode=1777,size={bytes}"),
    };
    let how = how | MsFlags::MS_NODEV;
    sys::mount(
        "have room for shared memory, as shm_open(3) wants it",
        tmpfs,
        &shm,
        Some("tmpfs"),
        how,
        Some(&root.options(options.as_bytes())),
    )
}

fn make_tmp(root: &NewRoot) -> Result<()> {
    let place = root.directory("tmp")?;
    let tmp = place.path();
    let found = nix::sys::stat::stat(tmp)
        .map_err(|errno| Error::call("look at /tmp", format!("stat({})", tmp.display()), errno))?;
    if found.st_mode & 0o7777 == 0o1777 {
        return Ok(());
    }
    set_mode(tmp, 0o1777)
}

/// Is a mount in hand, or a place, that of a directory? By the descriptor: its name may lead somewhere else by now.
pub fn is_directory(tree: &OwnedFd) -> Result<bool> {
    let found = fstat(tree).map_err(|errno| {
        Error::call("see whether it is a directory", format!("fstat({})", tree.as_raw_fd()), errno)
    })?;
    Ok(SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFDIR)
}

pub(super) fn set_mode(path: &Path, mode: u32) -> Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(Mode::from_bits_truncate(mode).bits()))
        .map_err(|error| Error::io("set the permissions", path, &error))
}

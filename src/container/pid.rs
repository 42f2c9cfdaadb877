//! Chapter 2: a /proc for the PID namespace.
//!
//! CLONE_NEWPID makes the child number one of a new numbering. But ps(1) reads /proc, and a mounted
//! /proc shows the namespace of whoever mounted it, for good. So the child mounts a new one. Here, in
//! chapter 2, it does so in the mount namespace of the whole host: everyone sees that mount, and when
//! the runtime is killed nobody takes it away. Chapter 3 does better.

use std::path::Path;

use nix::mount::{MntFlags, MsFlags};
use nix::sys::statfs::{PROC_SUPER_MAGIC, statfs};

use super::state::ledger::{Ledger, Leftover};
use super::sys;
use crate::told::errors::{Advise, Error, Result};

// ANCHOR: proc-flags
/// What a mounted /proc should not do: run programs, honour setuid bits, hold devices.
pub const PROC_FLAGS: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);
// ANCHOR_END: proc-flags

/// What helps when /proc cannot be mounted in a user namespace.
pub(super) const PROC_REMEDY: &str = "parts of this machine's own /proc are hidden, as container engines do, \
     and then the kernel lets no user namespace mount another: run on the host, or with --privileged";

// ANCHOR: note-proc
/// Notes that /proc is going to be mounted in `rootfs`, so that it is taken away at the end.
pub fn note_proc(ledger: &mut Ledger, rootfs: &Path) -> Result<()> {
    const STEP: &str = "find a place for /proc";
    let path = rootfs.join("proc");
    let found = std::fs::symlink_metadata(&path).map_err(|error| {
        Error::io(STEP, &path, &error).remedy("make a directory proc in the root filesystem")
    })?;
    if !found.is_dir() {
        // A link would lead out of the rootfs for us, who stand outside.
        return Err(Error::new(STEP, format!("{} is not a directory", path.display())));
    }
    ledger.note(&Leftover::Mount(path))
}
// ANCHOR_END: note-proc

// ANCHOR: mount-proc
/// Mounts it. Called by the child, with the rootfs as its root.
pub fn mount_proc() -> Result<()> {
    let why = "show ps the processes of this namespace only";
    sys::mount(why, Some(Path::new("proc")), Path::new("/proc"), Some("proc"), PROC_FLAGS, None)
        .remedy_for(nix::errno::Errno::EPERM, PROC_REMEDY)
}
// ANCHOR_END: mount-proc

// ANCHOR: unmount-dead
/// Unmounts every /proc on `path` whose PID namespace is dead.
///
/// Two containers of chapter 2 mount on the same directory, one on top of the other. Whoever ends first
/// must not take the other's away: it is the top one that umount2(2) takes. A dead namespace is known
/// by having no process 1.
pub(super) fn unmount_dead(path: &Path) -> Result<()> {
    while is_mounted(path) && !path.join("1").exists() {
        let how = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
        sys::umount2("take the container's /proc away from the host", path, how)?;
    }
    Ok(())
}
// ANCHOR_END: unmount-dead

/// Is there a /proc on `path` whose process 1 is alive, or not quite dead yet?
pub(super) fn is_alive(path: &Path) -> bool {
    is_mounted(path) && path.join("1").exists()
}

/// Is there a /proc on `path`?
pub(super) fn is_mounted(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == PROC_SUPER_MAGIC)
}

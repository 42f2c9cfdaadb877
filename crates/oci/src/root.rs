//! The container's root directory: taken from the bundle, furnished, and moved into.

use std::path::{Path, PathBuf};

use cooperage::container::root::{NewRoot, chroot_into, pivot_into};
use cooperage::container::sys::{self, MsFlags};
use cooperage::told::errors::Result;
use nix::mount::MntFlags;

use crate::bundle::{Bundle, wrong};

/// How what is mounted in one place appears in others, by the names that the standard has for it.
pub fn propagation(name: &str) -> Option<MsFlags> {
    Some(match name {
        "private" => MsFlags::MS_PRIVATE,
        "rprivate" => MsFlags::MS_PRIVATE | MsFlags::MS_REC,
        "shared" => MsFlags::MS_SHARED,
        "rshared" => MsFlags::MS_SHARED | MsFlags::MS_REC,
        "slave" => MsFlags::MS_SLAVE,
        "rslave" => MsFlags::MS_SLAVE | MsFlags::MS_REC,
        "unbindable" => MsFlags::MS_UNBINDABLE,
        "runbindable" => MsFlags::MS_UNBINDABLE | MsFlags::MS_REC,
        _ => return None,
    })
}

/// Takes the root directory in hand. What is mounted here from now on is seen nowhere else; what the host mounts may be seen here,
/// where a mount is to be a slave of the host's.
pub fn take(bundle: &Bundle) -> Result<NewRoot> {
    let slaves = MsFlags::MS_SLAVE | MsFlags::MS_REC;
    sys::mount("let nothing mounted here be seen outside", None, Path::new("/"), None, slaves, None)?;
    let how = MsFlags::MS_BIND | MsFlags::MS_REC;
    sys::mount(
        "make the root a mount, as pivot_root(2) wants it",
        Some(&bundle.rootfs),
        &bundle.rootfs,
        None,
        how,
        None,
    )?;
    NewRoot::new(bundle.rootfs.clone(), PathBuf::from("/nowhere"))
}

/// Moves in.
pub fn enter(root: &NewRoot, bundle: &Bundle, no_pivot: bool) -> Result<()> {
    if no_pivot {
        // Where / is the kernel's first filesystem there is nothing that it could be exchanged for. The new root is moved over it;
        // and because that leaves the old one below, what tells of the machine is detached first.
        for name in ["/proc", "/sys"] {
            let _ =
                sys::umount2("leave nothing of the machine's below", Path::new(name), MntFlags::MNT_DETACH);
        }
        sys::chdir("stand in the new root", &bundle.rootfs)?;
        sys::mount(
            "move it over the old one",
            Some(Path::new(".")),
            Path::new("/"),
            None,
            MsFlags::MS_MOVE,
            None,
        )?;
        return chroot_into(Path::new("."));
    }
    pivot_into(root)?;
    let propagation = match bundle.linux.rootfs_propagation().as_deref().filter(|name| !name.is_empty()) {
        Some(name) => propagation(name).ok_or_else(|| {
            wrong(
                "linux.rootfsPropagation",
                format!("{name:?} is none of private, shared, slave, unbindable"),
            )
        })?,
        None => return Ok(()),
    };
    sys::mount("mount here as it was asked for", None, Path::new("/"), None, propagation, None)
}

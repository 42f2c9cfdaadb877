//! Mounts whose files belong to somebody else than on disk: what chapter 8 did for the root directory, for single mounts.
//!
//! The kernel takes the mapping from a user namespace, and only from who has rights over the filesystem. So the runtime picks up these
//! mounts before the container is made, outside, and the container puts them down.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use cooperage::container::process::{Parent, bear};
use cooperage::container::sys::{self, CloneFlags};
use cooperage::container::user::map::{Extent, Map};
use cooperage::told::errors::{Error, Result};
use nix::fcntl::AT_FDCWD;
use oci_spec::runtime::{LinuxIdMapping, Mount};

use crate::bundle::{Bundle, wrong};
use crate::mounts::Picked;
use crate::namespaces::Namespaces;

/// Mounts that were picked up, by their places in the list.
pub type Mapped = HashMap<usize, OwnedFd>;

/// Picks up those of a bundle that are to be mapped.
pub fn of(bundle: &Bundle, namespaces: &Namespaces) -> Result<Mapped> {
    let mut mapped = Mapped::new();
    for (index, mount) in bundle.spec.mounts().iter().flatten().enumerate() {
        let Some(recursive) = is_mapped(mount) else { continue };
        let field = || format!("mounts: {}", mount.destination().display());
        let own = (bundle.linux.uid_mappings(), bundle.linux.gid_mappings());
        let (uids, gids) = match (mount.uid_mappings(), mount.gid_mappings()) {
            (Some(uids), Some(gids)) => (uids, gids),
            // Without its own it has the container's.
            (None, None) if namespaces.has_new(CloneFlags::CLONE_NEWUSER) => match own {
                (Some(uids), Some(gids)) => (uids, gids),
                _ => return Err(wrong(field(), "there is no mapping")),
            },
            (None, None) => {
                return Err(wrong(
                    field(),
                    "idmap needs uidMappings and gidMappings, or a new user namespace",
                ));
            }
            _ => return Err(wrong(field(), "uidMappings and gidMappings go together")),
        };
        let Picked { source, recursive: below } =
            Picked::of(mount, bundle).ok_or_else(|| wrong(field(), "only a bind mount has owners to map"))?;
        let tree = sys::open_tree("pick up what is to be seen there", AT_FDCWD, &source, below)?;
        let users = users(uids, gids)?;
        sys::mount_setattr_idmap_of("let its files belong to others", tree.as_fd(), users.as_fd(), recursive)
            .map_err(|error| error.detail(format!("{}: its filesystem may have no such mounts", field())))?;
        mapped.insert(index, tree);
    }
    Ok(mapped)
}

/// Is it to be mapped, and with what is mounted below?
fn is_mapped(mount: &Mount) -> Option<bool> {
    let has = |name: &str| mount.options().iter().flatten().any(|option| option == name);
    match (has("ridmap"), has("idmap") || mount.uid_mappings().is_some() || mount.gid_mappings().is_some()) {
        (true, _) => Some(true),
        (false, true) => Some(false),
        _ => None,
    }
}

/// The map that a list in config.json says.
pub fn map(list: &[LinuxIdMapping]) -> Map {
    let extent = |one: &LinuxIdMapping| Extent {
        inside: one.container_id(),
        outside: one.host_id(),
        count: one.size(),
    };
    Map(list.iter().map(extent).collect())
}

/// A user namespace with these maps. It needs a process to be made, and lives on when that has ended.
fn users(uids: &[LinuxIdMapping], gids: &[LinuxIdMapping]) -> Result<File> {
    let mut newborn = bear(None, CloneFlags::CLONE_NEWUSER, |parent: &Parent| {
        parent.until_released()?;
        Err(Error::new("hold a user namespace", "it is not needed any more"))
    })?;
    let pid = newborn.pid();
    let write = |name: &str, text: String| {
        sys::write_file("say who is who", std::path::Path::new(&format!("/proc/{pid}/{name}")), text)
    };
    let made = write("uid_map", map(uids).text())
        .and_then(|()| write("gid_map", map(gids).text()))
        .and_then(|()| newborn.namespace("user"));
    drop(newborn);
    let _ = nix::sys::wait::waitpid(pid, None);
    made
}

//! Chapter 8: for filesystems without id-mapped mounts: a copy of the files, given to the container's users.
//!
//! So did engines before Linux 5.12, and with every image; it costs time and memory. Nothing is chown-ed where it is.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use crate::container::user::map::Map;
use crate::container::user::maps::Users;
use crate::told::errors::{Error, Result};

const STEP: &str = "copy the root filesystem for the container's users";

/// Who owns what has no owner inside.
const NOBODY: u32 = 65534;

/// Copies the directory `from` onto the directory `to`, which is there. What is mounted below it is left out.
pub fn copy(from: &Path, to: &Path, users: &Users) -> Result<()> {
    let found = from.symlink_metadata().map_err(|error| Error::io(STEP, from, &error))?;
    let mut copier = Copier { users, device: found.dev(), known: HashMap::new() };
    copier.fill(from, to)?;
    copier.finish(&found, to)
}

struct Copier<'a> {
    users: &'a Users,
    device: u64,
    /// Where a file with several names was copied to.
    known: HashMap<u64, PathBuf>,
}

impl Copier<'_> {
    fn fill(&mut self, from: &Path, to: &Path) -> Result<()> {
        for entry in fs::read_dir(from).map_err(|error| Error::io(STEP, from, &error))? {
            let entry = entry.map_err(|error| Error::io(STEP, from, &error))?;
            self.one(&entry.path(), &to.join(entry.file_name()))?;
        }
        Ok(())
    }

    fn one(&mut self, from: &Path, to: &Path) -> Result<()> {
        let found = from.symlink_metadata().map_err(|error| Error::io(STEP, from, &error))?;
        let kind = found.file_type();
        let failed = |error: std::io::Error| {
            Error::io(STEP, from, &error).remedy("keep it on ext4, xfs, btrfs or tmpfs, or use --userns host")
        };
        if kind.is_file() && found.nlink() > 1 {
            if let Some(first) = self.known.get(&found.ino()) {
                return fs::hard_link(first, to).map_err(failed);
            }
            self.known.insert(found.ino(), to.to_path_buf());
        }
        if kind.is_dir() {
            fs::create_dir(to).map_err(failed)?;
            if found.dev() == self.device {
                self.fill(from, to)?;
            }
        } else if kind.is_symlink() {
            fs::read_link(from).and_then(|target| symlink(target, to)).map_err(failed)?;
        } else if kind.is_file() {
            fs::copy(from, to).map_err(failed)?;
        } else if kind.is_fifo() {
            nix::unistd::mkfifo(to, nix::sys::stat::Mode::empty()).map_err(|errno| failed(errno.into()))?;
        } else {
            return Ok(()); // sockets, and devices, which a container does not get from its root filesystem
        }
        self.finish(&found, to)
    }

    /// Owner and permissions, in this order: chown(2) takes set-user-ID bits away.
    fn finish(&self, found: &Metadata, to: &Path) -> Result<()> {
        let owner = |map: &Map, id: u32| map.outside(id).or(map.outside(NOBODY)).unwrap_or(NOBODY);
        let (uid, gid) = (owner(&self.users.uids, found.uid()), owner(&self.users.gids, found.gid()));
        lchown(to, Some(uid), Some(gid)).map_err(|error| Error::io(STEP, to, &error))?;
        if found.file_type().is_symlink() {
            return Ok(());
        }
        fs::set_permissions(to, fs::Permissions::from_mode(found.mode() & 0o7777))
            .map_err(|error| Error::io(STEP, to, &error))
    }
}

//! Chapter 8: the stage, where root lays out what the container's root could not lay out for itself.
//!
//! The container's root is nobody outside: it may not go where only the host's root may go, and may not say that a file of
//! the host's root is its own. So the runtime picks up what the container is to get, before the child is made; says
//! whose it is to be, as soon as the child has its maps; and puts it down in a mount namespace of its own. The child takes
//! a copy of that namespace with everything in it. And because the copy goes from a more privileged user
//! namespace to a less privileged one, the kernel locks what is in it: a mount can't be taken off another there, nor
//! be made writable again. See mount_namespaces(7), "Restrictions on mount namespaces".

mod copy;

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag};
use nix::sys::stat::Mode;

use super::kernel;
use super::mount::{is_directory, make_private};
use super::state::directory::state_directory;
use super::state::ledger::Ledger;
use super::sys::{self, CloneFlags, MsFlags};
use super::user::maps::Users;
use crate::told::errors::{Error, Result};
use crate::told::explain;

const STEP: &str = "lay out the container's files";

/// What to do with a mount whose owners can't be mapped, because its filesystem does not do that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Otherwise {
    /// Its owners are to stay who they are: nothing is mapped.
    Unmapped,
    /// Copy the files, and give the copies to the container's users.
    Copy,
    /// Give up.
    Fail,
}

/// A directory that this runtime alone has something mounted on.
pub struct Stage {
    directory: PathBuf,
    other_users: bool,
    props: Vec<Prop>,
    devices: usize,
}

/// A mount in hand.
struct Prop {
    what: String,
    is_layer: bool,
    source: PathBuf,
    tree: OwnedFd,
    place: PathBuf,
    otherwise: Otherwise,
}

impl Stage {
    // ANCHOR: stage-new
    /// The runtime's half, before the child is made: a mount namespace of its own, and in it an empty stage.
    pub fn new(ledger: &Ledger, users: &Users) -> Result<Stage> {
        let state = state_directory()?;
        let directory = state.join("stage");
        match DirBuilder::new().mode(0o755).create(&directory) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(Error::io(STEP, &directory, &error));
            }
            _ => {}
        }
        if users.differ() {
            // The container's users have to pass. What else is in there stays closed to them.
            fs::set_permissions(state, Permissions::from_mode(0o711))
                .map_err(|error| Error::io(STEP, state, &error))?;
        }
        if !ledger.ordinary_user() {
            // An ordinary user's runtime has one since it entered its user namespace.
            sys::unshare("have a mount namespace to lay things out in", CloneFlags::CLONE_NEWNS)?;
        }
        make_private()?;
        let how = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        let why = "have an empty stage that nobody else sees";
        sys::mount(why, Some(Path::new("tmpfs")), &directory, Some("tmpfs"), how, Some(b"mode=755"))?;
        let stage = Stage { directory, other_users: users.differ(), props: Vec::new(), devices: 0 };
        make_directory(&stage.scratch())?;
        Ok(stage)
    }
    // ANCHOR_END: stage-new

    /// Where the container may mount a writable layer of its own.
    pub fn scratch(&self) -> PathBuf {
        self.directory.join("scratch")
    }

    /// Makes a directory on the stage, for something to be mounted on.
    pub fn place(&self, name: &str) -> Result<PathBuf> {
        let place = self.directory.join(name);
        make_directory(&place)?;
        Ok(place)
    }

    /// Are the container's users others than those whom the files on disk belong to?
    pub fn has_other_users(&self) -> bool {
        self.other_users
    }

    // ANCHOR: stage-take
    /// Picks up the directory `source`, without what is mounted below it. Returns where it will be.
    pub fn take(&mut self, name: &str, what: &str, source: &Path, otherwise: Otherwise) -> Result<PathBuf> {
        let tree = sys::open_tree(&format!("pick up {what}"), AT_FDCWD, source, false)?;
        let place = self.place(name)?;
        self.props.push(Prop::new(what, source, tree, &place, otherwise));
        Ok(place)
    }

    /// Picks up a volume: a directory or a file, with everything that is mounted below it.
    pub fn take_volume(&mut self, tree: OwnedFd, source: &Path, otherwise: Otherwise) -> Result<PathBuf> {
        let place = self.directory.join(format!("volume{}", self.props.len()));
        if is_directory(&tree)? {
            make_directory(&place)?;
        } else {
            File::create(&place).map_err(|error| Error::io(STEP, &place, &error))?;
        }
        let volume = Prop::new(&source.display().to_string(), source, tree, &place, otherwise);
        self.props.push(Prop { is_layer: false, ..volume });
        Ok(place)
    }
    // ANCHOR_END: stage-take

    /// Chapter 9: a place for a node of a device, which would be none on the stage itself.
    pub fn place_for_device(&mut self) -> Result<PathBuf> {
        let directory = self.directory.join("devices");
        if self.devices == 0 {
            make_directory(&directory)?;
            let why = "have a place where devices are devices";
            let tmpfs = Some(Path::new("tmpfs"));
            sys::mount(why, tmpfs, &directory, Some("tmpfs"), MsFlags::MS_NOSUID, Some(b"mode=755"))?;
        }
        self.devices += 1;
        Ok(directory.join(self.devices.to_string()))
    }

    // ANCHOR: stage-set
    /// The runtime's half, once the child has its maps and before it goes on: everything gets its owners, and is put down.
    /// `namespace` is the container's user namespace, if it has one of its own.
    pub fn set(self, users: &Users, namespace: Option<File>) -> Result<()> {
        for prop in &self.props {
            let mapped = match &namespace {
                Some(namespace) if self.other_users && prop.otherwise != Otherwise::Unmapped => {
                    prop.map_owners(namespace)
                }
                _ => Ok(()),
            };
            match mapped {
                Ok(()) => prop.put_down()?,
                Err(error) if is_unable(&error) && prop.otherwise == Otherwise::Copy => {
                    let source = prop.source.display();
                    explain::remark(&format!(
                        "the filesystem of {source} has no id-mapped mounts: copying the files"
                    ));
                    copy::copy(&prop.source, &prop.place, users)?;
                }
                Err(error) if is_unable(&error) => return Err(error.remedy(NO_IDMAP)),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
    // ANCHOR_END: stage-set
}

/// What helps where a filesystem does not do that.
const NO_IDMAP: &str = "this filesystem has no id-mapped mounts, or something mounted below has none: use a directory on \
                        ext4, xfs, btrfs or tmpfs, or --userns host; `cargo run --bin doctor` tells more";

/// Is it the filesystem, or the kernel, that does not do it?
fn is_unable(error: &Error) -> bool {
    matches!(error.errno(), Some(Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOSYS))
}

impl Prop {
    fn new(what: &str, source: &Path, tree: OwnedFd, place: &Path, otherwise: Otherwise) -> Prop {
        let (what, source, place) = (what.to_string(), source.to_path_buf(), place.to_path_buf());
        Prop { what, is_layer: true, source, tree, place, otherwise }
    }

    fn map_owners(&self, users: &File) -> Result<()> {
        let why = format!("let {} belong to the container's users", self.what);
        if self.is_layer && !kernel::is_since((5, 19)) {
            // The kernel would map it, and overlayfs refuse it a moment later.
            return Err(Error::call(why, "mount_setattr(MOUNT_ATTR_IDMAP)", Errno::EINVAL));
        }
        sys::mount_setattr_idmap(&why, self.tree.as_fd(), users.as_fd())
    }

    fn put_down(&self) -> Result<()> {
        let place = nix::fcntl::open(&self.place, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|errno| Error::call(STEP, format!("open({:?}, O_PATH)", self.place), errno))?;
        let why = format!("put {} down on the stage", self.what);
        sys::move_mount(&why, self.tree.as_fd(), place.as_fd())
    }
}

fn make_directory(path: &Path) -> Result<()> {
    DirBuilder::new().mode(0o755).create(path).map_err(|error| Error::io(STEP, path, &error))
}

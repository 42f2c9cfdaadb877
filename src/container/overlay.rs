//! Chapter 3: an overlay. The root filesystem below is only read; what the container writes goes into a
//! layer of its own on top. That is copy-on-write, and it is why a hundred containers can share an image.
//!
//! See the kernel's filesystems/overlayfs document.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FlockArg, OFlag};
use nix::sys::stat::{Mode, umask};

use super::mount::set_mode;
use super::power::selinux::{Context, labelled};
use super::root::NewRoot;
use super::stage::{Otherwise, Stage};
use super::state::claim::Claim;
use super::state::directory::state_directory;
use super::state::ledger::{Ledger, Leftover};
use super::sys::{self, MsFlags};
use super::user::namespace::in_first_user_namespace;
use crate::told::errors::{Advise, Error, Result};

// ANCHOR: overlay
/// The layers of a container's root.
pub struct Overlay {
    lower: PathBuf,
    kept: Option<Kept>,
    scratch: Option<PathBuf>,
    context: Option<String>,
}
// ANCHOR_END: overlay

/// A writable layer that outlives the container, and overlayfs's work directory beside it.
struct Kept {
    upper: PathBuf,
    work: PathBuf,
    _claim: Claim,
}

impl Overlay {
    /// Plans an overlay over `rootfs`. The writable layer is discarded with the container, or is the
    /// directory `upper`, which then holds what the container added, changed and deleted.
    pub fn new(ledger: &mut Ledger, rootfs: &Path, upper: Option<&Path>) -> Result<Overlay> {
        let kept = upper.map(|upper| Kept::new(ledger, rootfs, upper)).transpose()?;
        Ok(Overlay { lower: rootfs.to_path_buf(), kept, scratch: None, context: None })
    }

    // ANCHOR: overlay-on-stage
    /// Chapter 8: the same layers, laid out on the stage: if the container's users are others than those who own the
    /// layers' files, each layer is seen through a mount in which it is theirs. On disk nothing changes.
    pub fn on_stage(mut self, stage: &mut Stage) -> Result<Overlay> {
        self.scratch = Some(stage.scratch());
        if !stage.has_other_users() {
            return Ok(self);
        }
        self.lower = stage.take("lower", "the rootfs", &self.lower, Otherwise::Copy)?;
        if let Some(kept) = &mut self.kept {
            // Layer and work directory must be in one mount, so their common parent is taken. Only overlayfs gets to see it.
            let parent = kept.upper.parent().unwrap_or(Path::new("/"));
            let parent = stage.take("kept", "where the layer is kept", parent, Otherwise::Fail)?;
            let there = |path: &Path| parent.join(path.file_name().unwrap_or_default());
            (kept.upper, kept.work) = (there(&kept.upper), there(&kept.work));
        }
        Ok(self)
    }
    // ANCHOR_END: overlay-on-stage

    /// Chapter 9: the same, and SELinux calls every file of it so.
    pub fn labelled(self, context: Option<Context>) -> Overlay {
        Overlay { context: context.map(|context| context.to_string()), ..self }
    }

    // ANCHOR: overlay-mount
    /// Mounts the overlay. Called in the container's mount namespace.
    ///
    /// The layer that is discarded lives on a tmpfs that only this namespace has. The kernel discards it
    /// with the last process, whatever that dies of, and nothing is left to clean up. (What is written
    /// there counts as memory of the container, which chapter 6 can limit.) The tmpfs is mounted over
    /// the directory of the runtime's notes, because that one is sure to be there.
    pub fn mount(&self) -> Result<NewRoot> {
        // From here on a file has the mode that it is made with. (The command gets the usual umask again.)
        umask(Mode::empty());
        let scratch = match &self.scratch {
            Some(scratch) => scratch,
            None => state_directory()?,
        };
        let how = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        let why = "have room for a writable layer that vanishes with the container";
        let options = labelled(b"mode=755", self.context.as_deref());
        sys::mount(why, Some(Path::new("tmpfs")), scratch, Some("tmpfs"), how, Some(&options))?;

        let root = make_directory(scratch.join("root"))?;
        let (upper, work) = match &self.kept {
            Some(kept) => (kept.upper.clone(), kept.work.clone()),
            None => {
                // The root directory shows the permissions of its topmost layer.
                let mode = fs::metadata(&self.lower)
                    .map_err(|error| Error::io("look at the rootfs", &self.lower, &error))?
                    .mode();
                let upper = make_directory(scratch.join("upper"))?;
                set_mode(&upper, mode & 0o7777)?; // mkdir(2) would ignore the set-group-ID bit
                (upper, make_directory(scratch.join("work"))?)
            }
        };

        let (lower, upper, work) =
            (LayerOption::new(&self.lower)?, LayerOption::new(&upper)?, LayerOption::new(&work)?);
        let mut options = Vec::new();
        for (name, value) in [("lowerdir", &lower), (",upperdir", &upper), (",workdir", &work)] {
            options.extend_from_slice(name.as_bytes());
            options.push(b'=');
            options.extend_from_slice(value.text.as_os_str().as_bytes());
        }
        if !in_first_user_namespace()? {
            // Overlayfs marks its files with attributes that only the real root may set, unless told so.
            options.extend_from_slice(b",userxattr");
        }
        let options = labelled(&options, self.context.as_deref());
        let why = "lay the writable layer over the rootfs, which is only read";
        let overlay = Some(Path::new("overlay"));
        sys::mount(why, overlay, &root, Some("overlay"), MsFlags::empty(), Some(&options)).remedy_for(
            Errno::EINVAL,
            "overlayfs refuses one of the directories: an upper directory must be on a filesystem such as ext4, \
             xfs, btrfs or tmpfs, not on another overlay and not on NFS",
        )?;
        NewRoot::new(root, scratch.to_path_buf()).map(|root| root.with_context(self.context.clone()))
    }
    // ANCHOR_END: overlay-mount
}

impl Kept {
    fn new(ledger: &mut Ledger, rootfs: &Path, upper: &Path) -> Result<Kept> {
        const STEP: &str = "keep the writable layer";
        match DirBuilder::new().mode(0o755).create(upper) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(
                    Error::io(STEP, upper, &error).remedy("its parent directory must exist and be yours")
                );
            }
            _ => {}
        }
        let upper = fs::canonicalize(upper).map_err(|error| Error::io(STEP, upper, &error))?;
        let found = fs::metadata(&upper).map_err(|error| Error::io(STEP, &upper, &error))?;
        if !found.is_dir() {
            return Err(Error::new(STEP, format!("{} is not a directory", upper.display())));
        }
        if upper.starts_with(rootfs) || rootfs.starts_with(&upper) {
            let detail = format!("{} and the rootfs {} overlap", upper.display(), rootfs.display());
            return Err(Error::new(STEP, detail).remedy("choose a directory elsewhere"));
        }
        let directory = File::open(&upper).map_err(|error| Error::io(STEP, &upper, &error))?;
        let claim = Claim::on(directory, &upper, FlockArg::LockExclusiveNonblock)?.ok_or_else(|| {
            Error::new(STEP, format!("{} is in use by another container", upper.display()))
                .remedy("wait for its end, or choose another directory")
        })?;
        // The work directory must be on the same filesystem: overlayfs prepares files there and then
        // moves them into the layer in one step.
        let parent = upper.parent().unwrap_or(Path::new("/"));
        let same = fs::metadata(parent).is_ok_and(|parent| parent.dev() == found.dev());
        if !same {
            return Err(Error::new(STEP, format!("{} is a mount point", upper.display())).remedy(
                "choose a directory below it: overlayfs needs a second directory beside it, on the same filesystem",
            ));
        }
        let mut name = OsStr::new(".").to_owned();
        name.push(upper.file_name().unwrap_or_default());
        name.push(format!(".work-{}", std::process::id()));
        let work = parent.join(name);
        ledger.note(&Leftover::Directory(work.clone()))?;
        let work = make_directory(work)?;
        Ok(Kept { upper, work, _claim: claim })
    }
}

fn make_directory(path: PathBuf) -> Result<PathBuf> {
    DirBuilder::new()
        .mode(0o755)
        .create(&path)
        .map_err(|error| Error::io("make a directory for the overlay", &path, &error))?;
    Ok(path)
}

/// A path as an option of overlayfs.
///
/// There a colon separates layers, a comma ends the option and a backslash escapes, with rules that
/// changed from kernel to kernel; and all options together must fit into a page of memory. A path that
/// could get into trouble goes by a second name that cannot: /proc/self/fd/N of an open descriptor.
struct LayerOption {
    text: PathBuf,
    _open: Option<OwnedFd>,
}

impl LayerOption {
    fn new(path: &Path) -> Result<LayerOption> {
        let bytes = path.as_os_str().as_bytes();
        if bytes.len() < 1000 && !bytes.iter().any(|byte| b":,\\\n".contains(byte)) {
            return Ok(LayerOption { text: path.to_path_buf(), _open: None });
        }
        let open =
            nix::fcntl::open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).map_err(|errno| {
                Error::call("name a directory to overlayfs", format!("open({path:?}, O_PATH)"), errno)
            })?;
        Ok(LayerOption {
            text: PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd())),
            _open: Some(open),
        })
    }
}

//! Chapters 1 and 3: the root directory, first changed with chroot(2), then exchanged with pivot_root(2).

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::MntFlags;
use nix::sys::stat::Mode;

use super::power::selinux::labelled;
use super::sys;
use crate::told::errors::{Error, Result};

// ANCHOR: chroot-into
/// Chapter 1: changes the root directory of this process, and goes there.
///
/// chroot(2) alone leaves the working directory where it was, outside: `..` would lead through the
/// whole host. The order matters: after chroot(2), "/" is the new root.
pub fn chroot_into(root: &Path) -> Result<()> {
    sys::chroot("make this directory the root of all paths", root)?;
    sys::chdir("come inside: chroot alone leaves us standing outside", Path::new("/"))
}
// ANCHOR_END: chroot-into

// ANCHOR: pivot-into
/// Chapter 3: exchanges the root mount of this mount namespace, and detaches the old one.
///
/// chroot(2) leaves the host's tree mounted, and root can find a way back to it. pivot_root(2) puts
/// another mount in its place, so that the host's tree can be unmounted: no path leads there any more.
/// With "." twice the old root is mounted on top of the new one, where umount2(2) finds it; no
/// directory is needed to put it. See pivot_root(2), "pivot_root(\".\", \".\")".
pub fn pivot_into(root: &NewRoot) -> Result<()> {
    let here = Path::new(".");
    sys::chdir("stand in the new root", &root.path)?;
    sys::pivot_root("make it the root mount of this namespace", here, here)?;
    sys::umount2("let go of the host's tree, now stacked on top", here, MntFlags::MNT_DETACH)?;
    sys::chdir("stand in the new root, not in the old one", Path::new("/"))
}
// ANCHOR_END: pivot-into

/// Is this a path that something can be mounted at inside: from the root directory on, not that itself, and never up?
pub(super) fn is_place(path: &Path) -> bool {
    let is_named = path.components().any(|part| matches!(part, Component::Normal(_)));
    path.is_absolute() && is_named && !path.components().any(|part| part == Component::ParentDir)
}

// ANCHOR: new-root
/// A root directory that is being furnished, before anybody moves in.
///
/// Its contents may come from anyone. A rootfs whose `/dev` is a symbolic link to `/home` must not make
/// us mount on, or write to, the host's `/home`. So every path in it is looked up by openat2(2) with
/// RESOLVE_IN_ROOT, and what was found is used by its descriptor, never by its name again.
pub struct NewRoot {
    path: PathBuf,
    fd: OwnedFd,
    scratch: PathBuf,
    context: Option<String>,
}
// ANCHOR_END: new-root

impl NewRoot {
    /// The directory `path`, a mount point already. `scratch` is a directory that the container's mount
    /// namespace alone has.
    pub fn new(path: PathBuf, scratch: PathBuf) -> Result<NewRoot> {
        let how = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = nix::fcntl::open(&path, how, Mode::empty()).map_err(|errno| {
            Error::call("open the new root", format!("open({}, O_PATH)", path.display()), errno)
        })?;
        Ok(NewRoot { path, fd, scratch, context: None })
    }

    /// Chapter 9: the same, whose own filesystems SELinux calls so.
    pub(super) fn with_context(self, context: Option<String>) -> NewRoot {
        NewRoot { context, ..self }
    }

    /// Options of a filesystem that is to be the container's own.
    pub fn options(&self, options: &[u8]) -> Vec<u8> {
        labelled(options, self.context.as_deref())
    }

    // ANCHOR: find-inside
    /// The path of `name` inside; made if it is not there, with every directory above it.
    pub fn directory(&self, name: &str) -> Result<Place> {
        self.find(Path::new(name), OFlag::O_DIRECTORY, "mkdirat", |parent, name| {
            nix::sys::stat::mkdirat(parent, name, Mode::from_bits_truncate(0o755))
        })
    }
    // ANCHOR_END: find-inside

    /// The file `name` inside, opened to be read. It may be anything: to open a FIFO or a terminal neither waits nor
    /// has consequences.
    pub fn open_to_read(&self, name: &str) -> Result<OwnedFd> {
        let how = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        sys::open_in_root(&format!("read /{name} inside the new root"), self.fd.as_fd(), Path::new(name), how)
    }

    /// The file `name` inside; made, empty, if it is not there.
    pub fn file(&self, name: &str) -> Result<Place> {
        self.find(Path::new(name), OFlag::empty(), "openat", |parent, name| {
            let how = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
            nix::fcntl::openat(parent, name, how, Mode::from_bits_truncate(0o644)).map(drop)
        })
    }

    fn find(
        &self,
        name: &Path,
        kind: OFlag,
        call: &str,
        make: impl Fn(BorrowedFd, &Path) -> nix::Result<()>,
    ) -> Result<Place> {
        let inside = name.strip_prefix("/").unwrap_or(name);
        let why = format!("find /{} inside the new root", inside.display());
        let open = || sys::open_in_root(&why, self.fd.as_fd(), inside, OFlag::O_PATH | kind);
        match open() {
            Err(error) if error.errno() == Some(Errno::ENOENT) => {}
            found => return found.map(Place::new),
        }
        let failed = |shown: String, errno| Error::call(format!("make /{}", inside.display()), shown, errno);
        let Some(Component::Normal(last)) = inside.components().next_back() else {
            return Err(failed(format!("{call}({inside:?})"), Errno::EINVAL));
        };
        let last = Path::new(last);
        let parent = match inside.parent() {
            Some(parent) if parent.components().next().is_some() => {
                self.directory(&parent.to_string_lossy())?.fd
            }
            _ => self.fd.try_clone().map_err(|error| Error::io(&why, name, &error))?,
        };
        make_way(&parent, last)?;
        match make(parent.as_fd(), last) {
            Err(errno) if errno != Errno::EEXIST => {
                Err(failed(format!("{call}({}, {last:?})", parent.as_raw_fd()), errno))
            }
            _ => open().map(Place::new),
        }
    }

    /// An empty directory, which is in no layer and always the same: to cover others with.
    pub fn empty_directory(&self) -> Result<OwnedFd> {
        const STEP: &str = "have an empty directory";
        let path = self.scratch.join("empty");
        match DirBuilder::new().mode(0o555).create(&path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(Error::io(STEP, &path, &error));
            }
            _ => {}
        }
        nix::fcntl::open(&path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|errno| Error::call(STEP, format!("open({}, O_PATH)", path.display()), errno))
    }

    // ANCHOR: provide-file
    /// Puts a file with this text at `name`, without writing to the root's own layer: the file is in
    /// memory and mounted over the name. So Docker does it with /etc/hostname, hosts and resolv.conf.
    pub fn provide_file(&self, name: &str, text: &str) -> Result<()> {
        let source = self.scratch.join(name.replace('/', "-"));
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&source)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| Error::io(format!("write {name}"), &source, &error))?;
        let target = self.file(name)?;
        let why = format!("give the container its own /{name}, and its layer none");
        sys::mount(&why, Some(&source), target.path(), None, sys::MsFlags::MS_BIND, None)
    }
    // ANCHOR_END: provide-file
}

// ANCHOR: place
/// A file or directory inside a [`NewRoot`], held by a descriptor.
pub struct Place {
    fd: OwnedFd,
    path: PathBuf,
}

impl Place {
    fn new(fd: OwnedFd) -> Place {
        let path = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        Place { fd, path }
    }

    /// A path that leads to it whatever its name is by now. See proc_pid_fd(5).
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The descriptor alone.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Makes a directory in it, and returns a path that leads there. Only for what we have just mounted
    /// here: nobody else has put a link of that name into it.
    pub fn make_directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        DirBuilder::new()
            .mode(0o755)
            .create(&path)
            .map_err(|error| Error::io(format!("make a directory {name}"), &path, &error))?;
        Ok(path)
    }

    /// Makes an empty file in it, likewise.
    pub fn make_file(&self, name: &str) -> Result<File> {
        let path = self.path.join(name);
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&path)
            .map_err(|error| Error::io(format!("make a file {name}"), &path, &error))
    }
}
// ANCHOR_END: place

/// The root directory itself.
impl AsFd for NewRoot {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsFd for Place {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A symbolic link that leads nowhere stands where something is to be made: it has to go. (What goes is
/// the container's view of it. The rootfs below keeps its link.)
fn make_way(parent: &OwnedFd, name: &Path) -> Result<()> {
    if nix::fcntl::readlinkat(parent, name).is_err() {
        return Ok(());
    }
    nix::unistd::unlinkat(parent, name, nix::unistd::UnlinkatFlags::NoRemoveDir)
        .map_err(|errno| Error::call("replace a dangling link", format!("unlinkat({name:?})"), errno))
}

//! Exercise 3: a mount namespace.
//!
//! A whole program with chapter 3's command line. Its four tasks are functions of this file: look for
//! `Task 3.1` and so on. `cargo run --bin exercise03 -- mount` runs it, `cargo run --bin grade -- 3` grades it.
//!
//! One option is new: `--diff DIR` runs no command. DIR is a writable layer that a container left with
//! `--upper DIR`; the program lists what that container added, changed and deleted, as `docker diff` does.

use std::ffi::CString;
use std::fs::{self, FileType};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use clap::Parser;
use cooperage::container::host::Host;
use cooperage::container::mount;
use cooperage::container::overlay::Overlay;
use cooperage::container::process::{self, Status};
use cooperage::container::root::{NewRoot, Place};
use cooperage::container::sys::{self, CloneFlags, MntFlags, MsFlags};
use cooperage::told::errors::{Error, Result};
use cooperage::workshop::cli;
use cooperage::workshop::rootfs::Rootfs;
use cooperage::workshop::task::if_done;
use nix::fcntl::AT_FDCWD;

/// Run a command with file systems of its own.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: cli::Common,

    /// Directory that keeps what the container writes [default: it is discarded]
    #[arg(long, value_name = "DIR")]
    upper: Option<PathBuf>,

    /// Mount a directory or file of the host inside
    #[arg(short, long = "volume", value_name = "SRC:DST[:ro]")]
    volumes: Vec<Volume>,

    /// Run nothing: list what a container added, changed and deleted in this writable layer (task 3.4)
    #[arg(long, value_name = "DIR")]
    diff: Option<PathBuf>,
}

fn main() -> ExitCode {
    cli::exit_with(run(&Args::parse()))
}

fn run(args: &Args) -> Result<Status> {
    args.common.begin();
    if let Some(upper) = &args.diff {
        let rootfs = Rootfs::find(args.common.rootfs.as_deref())?;
        let mut changes = diff(rootfs.path(), upper)?;
        changes.sort_by(|one, other| one.path.as_os_str().cmp(other.path.as_os_str()));
        for change in changes {
            println!("{} {}", change.kind, change.path.display());
        }
        return Ok(Status::Exited(0));
    }
    let mut host = Host::enter()?;
    let rootfs = Rootfs::find(args.common.rootfs.as_deref())?;
    let overlay = Overlay::new(&mut host, rootfs.path(), args.upper.as_deref())?;

    let namespaces = CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS;
    let child = process::spawn(namespaces, |_| {
        keep_to_ourselves()?;
        let root = overlay.mount()?;
        mount::furnish(&root)?;
        for volume in &args.volumes {
            let target = volume.place(&root)?;
            attach(&volume.source, &target, volume.read_only)?;
        }
        let place = root.directory(".")?;
        if if_done("3.2", || enter(place.path())).transpose()?.is_none() {
            // As chapter 1 did it, until the task is done.
            sys::chroot("have a root at least", place.path())?;
            sys::chdir("come inside", Path::new("/"))?;
        }
        process::exec(&args.common.command)
    })?;

    child.wait()
}

/// Task 3.1 (4 points, one star, 15 minutes): nothing you mount is seen outside.
///
/// Called first, in the container's new mount namespace. It is done when nothing that this program or its
/// command mounts appears on the host, however the host has set up its own mounts.
fn keep_to_ourselves() -> Result<()> {
    // answer 3.1
    let how = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    sys::mount("let nothing mounted here be seen outside", None, Path::new("/"), None, how, None)
    // end of answer 3.1
}

/// Task 3.2 (5 points, two stars, 25 minutes): the old root is gone, not hidden.
///
/// Called when everything is mounted in the new root. `root` is its path, and a mount point. It is done when
/// the command has it as its root and starts there, and when none of the host's mounts is left in the mount
/// namespace that could be seen or returned to, not even by someone who enters the namespace from outside.
fn enter(root: &Path) -> Result<()> {
    // answer 3.2
    let here = Path::new(".");
    sys::chdir("stand in the new root", root)?;
    sys::pivot_root("make it the root mount, and stack the old one on top", here, here)?;
    sys::umount2("let go of the host's tree", here, MntFlags::MNT_DETACH)?;
    sys::chdir("stand in the new root", Path::new("/"))
    // end of answer 3.2
}

/// Task 3.3 (5 points, two stars, 30 minutes): read-only volumes, all the way down.
///
/// Makes the host's directory or file `source` appear at `target` in the new root, with everything that is
/// mounted below it. It is done when the command can read all of it, when with `read_only` it can write to none of
/// it, however deep, and without `read_only` to all of it; and when the host can write to it as before.
fn attach(source: &Path, target: &Place, read_only: bool) -> Result<()> {
    // answer 3.3
    let tree = sys::open_tree("pick it up with all that is mounted below", AT_FDCWD, source, true)?;
    if read_only {
        sys::mount_setattr_read_only("let nothing in it be written, however deep", tree.as_fd())?;
    }
    sys::move_mount("put it down in the new root", tree.as_fd(), target.as_fd())
    // end of answer 3.3
}

/// Task 3.4 (6 points, three stars, 45 minutes): what has the container done?
///
/// `upper` is the writable layer of a container that has ended, `lower` the rootfs below it. Returns what
/// the container has done to the rootfs, in any order, with paths as the container saw them, from the two
/// directories alone: nothing is mounted for it.
///
/// It is done when all of this is right:
/// - what is new is added (A), be it a file, a directory or a link, and so is each file in a new directory;
/// - what is in the layer and was in the rootfs too is changed (C), and so is every directory on the way to a change;
/// - what is no longer there is deleted (D): a deleted directory is one line, without its contents;
/// - a directory that was deleted and made again is changed, and what was in it and no longer is, is deleted. The
///   layer does not mark each thing that is gone. One mark says that everything from the rootfs is gone. It holds
///   for the directories inside as well, which have no mark of their own.
///
/// What a layer's marks look like is in the kernel's document filesystems/overlayfs ("whiteouts and opaque
/// directories"). [`attribute`] reads them.
fn diff(lower: &Path, upper: &Path) -> Result<Vec<Change>> {
    // answer 3.4
    let mut changes = Vec::new();
    compare(lower, upper, Path::new("/"), false, &mut changes)?;
    Ok(changes)
    // end of answer 3.4
}

// answer 3.4
/// Compares one directory of the layer. `all_hidden` says that a directory above it was opaque.
fn compare(
    lower: &Path,
    upper: &Path,
    path: &Path,
    all_hidden: bool,
    changes: &mut Vec<Change>,
) -> Result<()> {
    let in_lower = |path: &Path| lower.join(path.strip_prefix("/").unwrap_or(path));
    let in_upper = |path: &Path| upper.join(path.strip_prefix("/").unwrap_or(path));
    let was_directory = |path: &Path| kind(&in_lower(path)).is_some_and(|kind| kind.is_dir());
    let hidden = all_hidden || is_opaque(&in_upper(path));

    for name in list(&in_upper(path))? {
        let path = path.join(name);
        let was_there = kind(&in_lower(&path)).is_some();
        if is_whiteout(&in_upper(&path)) {
            changes.push(Change { kind: 'D', path });
            continue;
        }
        changes.push(Change { kind: if was_there { 'C' } else { 'A' }, path: path.clone() });
        if kind(&in_upper(&path)).is_some_and(|kind| kind.is_dir()) {
            compare(lower, upper, &path, hidden, changes)?;
        }
    }
    if hidden && was_directory(path) {
        for name in list(&in_lower(path))? {
            let path = path.join(name);
            if kind(&in_upper(&path)).is_none() {
                changes.push(Change { kind: 'D', path });
            }
        }
    }
    Ok(())
}

/// A whiteout is a character device with the number 0/0.
fn is_whiteout(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_char_device() && found.rdev() == 0)
}

/// An opaque directory shows nothing of the one below.
fn is_opaque(path: &Path) -> bool {
    ["trusted.overlay.opaque", "user.overlay.opaque"]
        .iter()
        .any(|name| attribute(path, name).is_some_and(|value| value == b"y"))
}
// end of answer 3.4

// What follows is no task.

/// One line of the difference.
struct Change {
    /// A, C or D.
    kind: char,
    /// As the container saw it: it begins with a slash.
    path: PathBuf,
}

/// What there is at this path, if there is something. Links are not followed.
fn kind(path: &Path) -> Option<FileType> {
    fs::symlink_metadata(path).ok().map(|found| found.file_type())
}

/// The names in a directory.
fn list(directory: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error: std::io::Error| Error::io("list a directory", directory, &error);
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        names.push(PathBuf::from(entry.map_err(failed)?.file_name()));
    }
    Ok(names)
}

/// An extended attribute of a file, as lgetxattr(2) reads it. Overlayfs has them in `trusted.overlay.`, or in
/// `user.overlay.` when an ordinary user mounted it.
fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let (path, name) = (CString::new(path.as_os_str().as_bytes()).ok()?, CString::new(name).ok()?);
    let mut value = vec![0u8; 256];
    // SAFETY: both names are C strings, and the kernel writes at most as much as there is room for.
    let length =
        unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    value.truncate(usize::try_from(length).ok()?);
    Some(value)
}

/// `SOURCE:TARGET[:ro]`.
#[derive(Debug, Clone)]
struct Volume {
    source: PathBuf,
    target: String,
    read_only: bool,
}

impl FromStr for Volume {
    type Err = String;

    fn from_str(text: &str) -> Result<Volume, String> {
        let (paths, read_only) = match text.strip_suffix(":ro") {
            Some(paths) => (paths, true),
            None => (text.strip_suffix(":rw").unwrap_or(text), false),
        };
        match paths.rsplit_once(':') {
            Some((source, target)) if !source.is_empty() && target.starts_with('/') && target != "/" => {
                Ok(Volume { source: source.into(), target: target.into(), read_only })
            }
            _ => Err(format!("{text:?} is not SOURCE:TARGET or SOURCE:TARGET:ro with an absolute TARGET")),
        }
    }
}

impl Volume {
    /// Where it goes in the new root.
    fn place(&self, root: &NewRoot) -> Result<Place> {
        let found = fs::metadata(&self.source)
            .map_err(|error| Error::io("look at the volume's source", &self.source, &error))?;
        if found.is_dir() { root.directory(&self.target) } else { root.file(&self.target) }
    }
}

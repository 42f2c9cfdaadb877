//! Paths that are hidden, and paths that are made read-only; sysctls; names.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use cooperage::container::mount::is_directory;
use cooperage::container::root::NewRoot;
use cooperage::container::sys::{self, CloneFlags, MsFlags};
use cooperage::told::errors::{Advise, Error, Result};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, fstat, major, minor};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use crate::bundle::{Bundle, wrong};
use crate::namespaces::Namespaces;

// ANCHOR: mask-paths
/// Hides files and directories. The cover is the host's own /dev/null, held open and seen to be that; the place is looked up inside the
/// new root. Nothing of an image has a say in either (CVE-2025-31133).
pub fn mask(root: &NewRoot, bundle: &Bundle) -> Result<()> {
    let paths = bundle.linux.masked_paths().as_deref().unwrap_or_default();
    if paths.is_empty() {
        return Ok(());
    }
    let null = null_device()?;
    for path in paths {
        let Some(place) = find(root, path)? else { continue };
        if is_directory(&place)? {
            let target = PathBuf::from(format!("/proc/self/fd/{}", place.as_raw_fd()));
            let how = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            sys::mount(
                &format!("hide {path}"),
                Some(Path::new("tmpfs")),
                &target,
                Some("tmpfs"),
                how,
                Some(b"nr_inodes=1,mode=555"),
            )?;
        } else {
            let cover =
                sys::open_tree(&format!("have a cover for {path}"), null.as_fd(), Path::new(""), false)?;
            sys::move_mount(&format!("hide {path}"), cover.as_fd(), place.as_fd())?;
        }
    }
    Ok(())
}
// ANCHOR_END: mask-paths

/// Makes files and directories read-only, with all that is mounted below them.
pub fn make_read_only(root: &NewRoot, bundle: &Bundle) -> Result<()> {
    for path in bundle.linux.readonly_paths().iter().flatten() {
        let Some(place) = find(root, path)? else { continue };
        let tree = sys::open_tree(&format!("take {path} in hand"), place.as_fd(), Path::new(""), true)?;
        sys::mount_setattr_read_only("let it be looked at only", tree.as_fd())?;
        sys::move_mount(&format!("put it over {path}"), tree.as_fd(), place.as_fd())?;
    }
    Ok(())
}

fn find(root: &NewRoot, path: &str) -> Result<Option<OwnedFd>> {
    if !path.starts_with('/') {
        return Err(wrong("linux.maskedPaths", format!("{path:?} does not begin with /")));
    }
    let below = Path::new(path).strip_prefix("/").unwrap_or(Path::new(path));
    match sys::look_up_in_root(root.as_fd(), below, OFlag::O_PATH | OFlag::O_CLOEXEC) {
        Ok(found) => Ok(Some(found)),
        // A directory on the way that nobody of this user namespace may enter needs no cover.
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES) => Ok(None),
        Err(errno) => Err(Error::call(format!("find {path}"), format!("openat2({path})"), errno)),
    }
}

fn null_device() -> Result<OwnedFd> {
    const STEP: &str = "have something to hide files under";
    let null =
        nix::fcntl::open("/dev/null", OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|errno| Error::call(STEP, "open(/dev/null)", errno))?;
    let found = fstat(&null).map_err(|errno| Error::call(STEP, "fstat(/dev/null)", errno))?;
    let is_device = SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFCHR;
    if is_device && (major(found.st_rdev), minor(found.st_rdev)) == (1, 3) {
        return Ok(null);
    }
    Err(Error::new(STEP, "the host's /dev/null is something else"))
}

/// Which settings of the kernel belong to a namespace: with it, they are the container's own.
pub fn check_sysctls(bundle: &Bundle, namespaces: &Namespaces) -> Result<()> {
    for name in bundle.linux.sysctl().iter().flat_map(|all| all.keys()) {
        let path = name.replace('.', "/");
        let needs = match path.as_str() {
            "kernel/domainname" => CloneFlags::CLONE_NEWUTS,
            "kernel/msgmax"
            | "kernel/msgmnb"
            | "kernel/msgmni"
            | "kernel/sem"
            | "kernel/shmall"
            | "kernel/shmmax"
            | "kernel/shmmni"
            | "kernel/shm_rmid_forced" => CloneFlags::CLONE_NEWIPC,
            _ if path.starts_with("fs/mqueue/") => CloneFlags::CLONE_NEWIPC,
            _ if path.starts_with("net/") => CloneFlags::CLONE_NEWNET,
            _ => {
                let field = format!("linux.sysctl: {name}");
                return Err(wrong(field, "it belongs to the whole machine, not to a namespace"));
            }
        };
        if path.split('/').any(|part| part == ".." || part.is_empty()) {
            return Err(wrong(format!("linux.sysctl: {name}"), "that is no name"));
        }
        if !namespaces.has(needs) {
            return Err(wrong(
                format!("linux.sysctl: {name}"),
                "it would be the host's: the namespace that it belongs to is not the container's own",
            ));
        }
    }
    Ok(())
}

/// The inode of the root directory of every /proc.
pub const PROC_ROOT: u64 = 1;

// ANCHOR: set-sysctls
/// Sets them, in the kernel's own /proc: no file that an image or a mount has put there takes them, and no other file of /proc that is
/// mounted over the one of that name (CVE-2025-52881).
pub fn set_sysctls(root: &NewRoot, bundle: &Bundle) -> Result<()> {
    let Some(all) = bundle.linux.sysctl().as_ref().filter(|all| !all.is_empty()) else { return Ok(()) };
    let mut all: Vec<_> = all.iter().collect();
    all.sort();
    let how = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let proc = sys::open_beneath("set linux.sysctl", root.as_fd(), Path::new("proc"), how)?;
    let kind = fstatfs(&proc).map_err(|errno| Error::call("set linux.sysctl", "fstatfs(/proc)", errno))?;
    let inode = fstat(&proc).map_err(|errno| Error::call("set linux.sysctl", "fstat(/proc)", errno))?.st_ino;
    if kind.filesystem_type() != PROC_SUPER_MAGIC || inode != PROC_ROOT {
        return Err(Error::new("set linux.sysctl", "something else is mounted on /proc"));
    }
    for (name, value) in all {
        let step = format!("set {name}");
        let path = Path::new("sys").join(name.replace('.', "/"));
        let opened = sys::open_beneath_one_mount(&step, proc.as_fd(), &path, OFlag::O_WRONLY)
            .remedy_for(Errno::EXDEV, "something is mounted in /proc/sys: leave that mount out")?;
        let mut file = std::fs::File::from(opened);
        file.write_all(value.as_bytes()).map_err(|error| Error::io(&step, &path, &error))?;
    }
    Ok(())
}
// ANCHOR_END: set-sysctls

/// The names of the machine, as the container has them.
pub fn set_names(bundle: &Bundle) -> Result<()> {
    if let Some(name) = bundle.spec.hostname().as_ref().filter(|name| !name.is_empty()) {
        sys::sethostname("have a name of its own", name)?;
    }
    if let Some(name) = bundle.spec.domainname().as_ref().filter(|name| !name.is_empty()) {
        // SAFETY: the name is as long as is said, and outlives the call.
        let result = unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) };
        Errno::result(result)
            .map_err(|errno| Error::call("set the domain name", format!("setdomainname({name:?})"), errno))?;
    }
    Ok(())
}

/// Sets what a process is worth when memory runs out.
pub fn set_oom_score(pid: nix::unistd::Pid, score: Option<i32>) -> Result<()> {
    let Some(score) = score else { return Ok(()) };
    let file = format!("/proc/{pid}/oom_score_adj");
    let step = "set process.oomScoreAdj";
    OpenOptions::new()
        .write(true)
        .open(&file)
        .and_then(|mut opened| opened.write_all(score.to_string().as_bytes()))
        .map_err(|error| Error::io(step, &file, &error))
}

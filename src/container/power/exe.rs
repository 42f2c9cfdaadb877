//! Chapter 9: the runtime's own program, which init goes on running in the container.
//!
//! `/proc/1/exe` leads to it. Init is not dumpable, so to follow that link takes CAP_SYS_PTRACE over the user namespace in
//! which the program was started. A container with users of its own has nobody who could have that. With `--userns host`
//! root has only to be given it, and could write to the file, of which the host's root starts the next container
//! (CVE-2019-5736). So there the runtime runs from a mount that is read-only, that hangs nowhere, and that is gone as soon
//! as it has been started. What can't be found can't be remounted.
//!
//! runc copies itself into memory and seals the copy, or makes an overlay of its own directory: it is written for kernels
//! that don't have mount_setattr(2). A copy costs the more, the larger the program is.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::geteuid;

use crate::container::sys;
use crate::container::user::Mode;
use crate::told::errors::{Error, Result};

const OWN: &str = "/proc/self/exe";

// ANCHOR: exe-out-of-reach
/// The very first step, since it begins the program once more: puts it out of the container's reach, if somebody in there
/// could reach it.
pub fn keep_out_of_reach(users: Mode) -> Result<()> {
    if users == Mode::Private || !geteuid().is_root() || is_out_of_reach() {
        return Ok(());
    }
    let name = std::fs::read_link(OWN).map_err(|error| Error::io("find its own program", OWN, &error))?;
    let tree = sys::open_tree("take its own program in hand", AT_FDCWD, Path::new(OWN), false)?;
    sys::mount_setattr_read_only("let nobody change it by this way", tree.as_fd())?;

    begin_once_more(tree.as_fd(), name)
}

/// Becomes this program, with the arguments and the environment that it has been given.
fn begin_once_more(program: BorrowedFd, name: PathBuf) -> Result<()> {
    // Its name in the first place, because what hangs nowhere has none.
    let arguments = strings(std::iter::once(name.into_os_string()).chain(std::env::args_os().skip(1)))?;
    let variables = std::env::vars_os().map(|(name, value)| [name.as_os_str(), &value].join(OsStr::new("=")));
    let environment = strings(variables)?;
    Err(sys::execveat("begin once more from there", program, &arguments, &environment))
}

/// Does this process run from there?
fn is_out_of_reach() -> bool {
    std::fs::read_link(OWN).is_ok_and(|path| path == Path::new("/"))
}
// ANCHOR_END: exe-out-of-reach

/// Chapter 10: the same for an ordinary user, who is root in his containers and may write to what is his. He can't make a mount before
/// he has a container; so it is a copy in memory, sealed. What belongs to somebody else needs none.
pub fn keep_own_out_of_reach() -> Result<()> {
    const STEP: &str = "keep its own program out of reach";
    let failed = |call: &str, errno| Error::call(STEP, call, errno);
    let name = std::fs::read_link(OWN).map_err(|error| Error::io(STEP, OWN, &error))?;
    let own = std::fs::metadata(OWN).map_err(|error| Error::io(STEP, OWN, &error))?;
    if own.uid() != geteuid().as_raw() || name.starts_with("/memfd:cooperage (deleted)") {
        return Ok(());
    }
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut copy =
        File::from(memfd_create(c"cooperage", flags).map_err(|errno| failed("memfd_create()", errno))?);
    File::open(OWN)
        .and_then(|mut own| std::io::copy(&mut own, &mut copy))
        .map_err(|error| Error::io(STEP, OWN, &error))?;
    let seals =
        SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(seals)).map_err(|errno| failed("fcntl(F_ADD_SEALS)", errno))?;
    begin_once_more(copy.as_fd(), name)
}

fn strings(texts: impl Iterator<Item = OsString>) -> Result<Vec<CString>> {
    texts
        .map(|text| CString::new(text.as_bytes()))
        .collect::<std::result::Result<_, _>>()
        .map_err(|_| Error::new("begin once more", "an argument contains a zero byte"))
}

/// Where this program is, if its name can be found out.
pub fn path() -> Option<PathBuf> {
    match is_out_of_reach() {
        true => std::env::args_os().next().map(PathBuf::from),
        false => std::env::current_exe().ok(),
    }
}

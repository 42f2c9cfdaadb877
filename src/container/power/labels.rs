//! Chapter 9: what a security module of the kernel knows the command by. AppArmor calls it a profile, SELinux a context, and
//! each has rules of its own for who is called so.

use std::path::Path;

use nix::errno::Errno;
use nix::sys::statfs::{PROC_SUPER_MAGIC, statfs};

use crate::container::sys;
use crate::told::errors::{Advise, Error, Result};

/// A name that the command gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Label {
    /// A profile of AppArmor's.
    AppArmor(String),
    /// A context of SELinux's.
    SELinux(String),
}

impl Label {
    // ANCHOR: label-set
    /// Takes the name with the next execve(2), which is the command's.
    ///
    /// A process whose name changes so is no longer killed when its parent dies: the kernel forgets that it was asked to.
    /// With an init that is no loss, since the command dies with init. Without one the command takes AppArmor's name
    /// before. (SELinux's rules seldom allow that: there a command without an init outlives a runtime that is killed.)
    pub fn set(&self) -> Result<()> {
        match self {
            Label::AppArmor(_) if std::process::id() == 1 => self.take(),
            Label::AppArmor(profile) => write(
                "let AppArmor know the command by its name",
                "apparmor/exec",
                &format!("exec {profile}"),
            ),
            Label::SELinux(context) => write("let SELinux know the command by its name", "exec", context),
        }
    }

    /// Takes it at once: for process 1. With SELinux it stays as it is.
    pub fn take(&self) -> Result<()> {
        match self {
            Label::AppArmor(profile) => write(
                "be known by this name from here on",
                "apparmor/current",
                &format!("changeprofile {profile}"),
            ),
            Label::SELinux(_) => Ok(()),
        }
    }
    // ANCHOR_END: label-set
}

fn write(why: &str, file: &str, text: &str) -> Result<()> {
    let directory = Path::new("/proc/thread-self/attr");
    // What is in the container's /proc is believed only when it is the kernel's: in runc a file that an image had put
    // there took the name, and the command ran without one (CVE-2019-16884, CVE-2025-52881).
    let found = statfs(directory)
        .map_err(|errno| Error::call(why, format!("statfs({})", directory.display()), errno))?;
    if found.filesystem_type() != PROC_SUPER_MAGIC {
        return Err(Error::new(why, "something else is mounted on /proc"));
    }
    sys::write_file(why, &directory.join(file), text)
        .remedy_for(Errno::ENOENT, "there is no such profile: is it loaded?")
        .remedy_for(Errno::EINVAL, "that is not a name that it knows")
        .remedy_for(
            Errno::EACCES,
            "the runtime is confined itself, by rules that let it give no other name: --security-opt apparmor=unconfined or \
             label=disable leaves the command the same one",
        )
}

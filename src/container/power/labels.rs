//! Chapter 9: what a security module of the kernel knows the command by. AppArmor calls it a profile, SELinux a context, and
//! each has rules of its own for who is called so. See apparmor(7) and selinux(8).

use std::path::Path;

use nix::errno::Errno;

use crate::container::sys;
use crate::told::errors::{Advise, Error, Result};

/// A name, to be taken with the next execve(2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    module: &'static str,
    /// Below /proc/thread-self/attr.
    file: &'static str,
    text: String,
}

impl Label {
    /// A profile of AppArmor's; `unconfined` is none.
    pub fn apparmor(profile: &str) -> Result<Option<Label>> {
        if profile == "unconfined" {
            return Ok(None);
        }
        apparmor_is_on()?;
        let loaded = std::fs::read_to_string("/sys/kernel/security/apparmor/profiles").unwrap_or_default();
        let is_loaded = |line: &str| line.rsplit_once(" (").is_some_and(|(name, _)| name == profile);
        if !loaded.is_empty() && !loaded.lines().any(is_loaded) {
            return Err(Error::new("choose a profile of AppArmor's", format!("{profile} is not loaded"))
                .remedy("apparmor_parser -r FILE loads one; `aa-status` shows which there are"));
        }
        // A kernel that has several security modules has a directory for each.
        let own = Path::new("/proc/thread-self/attr/apparmor/exec").exists();
        let file = if own { "apparmor/exec" } else { "exec" };
        Ok(Some(Label { module: "AppArmor", file, text: format!("exec {profile}") }))
    }

    /// A context of SELinux's; `disable` is none.
    pub fn selinux(context: &str) -> Result<Option<Label>> {
        if context == "disable" {
            return Ok(None);
        }
        selinux_is_on()?;
        Ok(Some(Label { module: "SELinux", file: "exec", text: context.to_string() }))
    }

    // ANCHOR: label-set
    /// Takes the name with the next execve(2), which is the command's.
    pub fn set(&self) -> Result<()> {
        let why = format!("let {} know the command by its name", self.module);
        let file = format!("/proc/thread-self/attr/{}", self.file);
        sys::write_file(&why, Path::new(&file), &self.text)
            .remedy_for(Errno::ENOENT, "there is no such profile: is it loaded?")
            .remedy_for(Errno::EINVAL, "that is not a name that it knows")
    }
    // ANCHOR_END: label-set
}

/// The error says that it is not.
pub fn apparmor_is_on() -> Result<()> {
    must_be_on("AppArmor", "/sys/module/apparmor/parameters/enabled", "Y")
}

/// The error says that it is not.
pub fn selinux_is_on() -> Result<()> {
    must_be_on("SELinux", "/sys/fs/selinux/enforce", "")
}

fn must_be_on(module: &str, file: &str, word: &str) -> Result<()> {
    let is_on = std::fs::read_to_string(file).is_ok_and(|found| found.trim().starts_with(word));
    if is_on {
        return Ok(());
    }
    Err(Error::new(format!("confine the command by {module}"), format!("{module} is not on in this kernel"))
        .remedy("leave the option away: everything else holds without it"))
}

//! Chapter 9: less power. What a command may not do, said in five ways.
//!
//! A namespace hides things, a cgroup counts them, a user namespace makes root nobody outside. What is left is the kernel
//! itself: some four hundred system calls, and files in /proc and /sys that belong to no namespace. Each mechanism here
//! takes away a part of that, and none of them asks who wants it:
//!
//! - [`capabilities`]: the pieces of root's power that a command keeps;
//! - [`seccomp`](super::seccomp): the system calls that it may make;
//! - [`paths`]: what it sees of /proc and /sys, and may change there;
//! - [`devices`]: the devices that it may use;
//! - [`rlimits`]: how much of the kernel's memory one process may hold;
//! - [`sysctls`]: settings of the kernel that are its own;
//! - [`labels`]: what a security module of the kernel knows it by, [`apparmor`] or [`selinux`];
//! - [`tmpfs`]: places to write to where the root is read-only;
//! - [`landlock`]: for init, which needs no file at all;
//! - [`exe`]: the runtime's own program, where the container's root is the host's.
//!
//! [`Power`] holds what has to be done last, in the process that becomes the command.

pub mod apparmor;
pub mod capabilities;
pub mod devices;
pub mod exe;
pub mod labels;
pub mod landlock;
pub mod paths;
pub mod rlimits;
pub mod selinux;
pub mod sysctls;
pub mod tmpfs;

use self::capabilities::Capabilities;
use self::labels::Label;
use self::rlimits::Rlimit;
use super::capability::Capability;
use super::seccomp::Filter;
use super::sys;
use super::user::person::User;
use crate::told::errors::Result;

/// What a command is left of its power: all that is settled in its own process, right before execve(2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Power {
    /// The pieces of root's power that it keeps.
    pub capabilities: Capabilities,
    /// Shall no program give it more than it has?
    pub no_new_privileges: bool,
    /// The system calls that it may make; all, if there is no filter.
    pub filter: Option<Filter>,
    /// Limits of each of its processes.
    pub limits: Vec<Rlimit>,
    /// What a security module of the kernel calls it.
    pub label: Option<Label>,
}

impl Power {
    // ANCHOR: power-confine
    /// Gives up everything else, and becomes `user`. Nothing but execve(2) comes after it.
    ///
    /// The order is the lesson. Raising a limit and leaving the bounding set need rights that go next. The user changes
    /// before the capabilities do, because the change needs two of them, and takes the rest along. A security module could
    /// forbid all of that to whom it knows by the new name. The filter is last of all: it could forbid any of these calls.
    /// Only where programs may gain rights it cannot wait so long: the kernel takes a filter then from nobody but root, who
    /// is about to be one no more.
    pub fn confine(&self, user: Option<&User>) -> Result<()> {
        for limit in &self.limits {
            limit.set()?;
        }
        if self.no_new_privileges {
            sys::set_no_new_privs("let no program that it starts give it more than it has")?;
        } else {
            self.load_filter()?;
        }
        self.capabilities.bound()?;
        self.capabilities.keep_as(user)?;
        if let Some(label) = &self.label {
            label.set()?;
        }
        if self.no_new_privileges { self.load_filter() } else { Ok(()) }
    }
    // ANCHOR_END: power-confine

    fn load_filter(&self) -> Result<()> {
        self.filter.as_ref().map_or(Ok(()), Filter::load)
    }

    // ANCHOR: confine-init
    /// What init keeps when the command has been started: the right to send a signal, whoever the command has become. It is
    /// the runtime's own program, and runs as long as the container does.
    pub fn confine_init(&self) -> Result<()> {
        if let Some(label) = &self.label {
            label.take()?;
        }
        sys::set_no_new_privs("init starts nothing any more that could have more rights")?;
        let kill = capabilities::Set::of([Capability::KILL]).0;
        sys::capset("init passes signals on, and does nothing else that takes a right", kill, kill, 0)?;
        landlock::give_up_files()
    }
    // ANCHOR_END: confine-init
}

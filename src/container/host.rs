//! The entrance: a runtime becomes root, or root of a user namespace; and at the end it leaves nothing behind.

use std::fs::File;
use std::ops::{Deref, DerefMut};
use std::path::Path;

use nix::unistd::{Gid, Uid, getegid, geteuid};

use super::state::directory::lock;
use super::state::ledger::{self, Ledger};
use super::sweep;
use super::sys::{self, CloneFlags};
use super::user::namespace::same_namespace;
use super::user::subordinate::{Scribes, Subordinate};
use crate::told::errors::{Advise, Result, user_namespace_remedy};
use crate::told::explain;

/// The host, and what this runtime owes it.
///
/// What it owes is noted in its [`Ledger`], which is what the features take: `Overlay::new(&mut host, ...)`.
pub struct Host {
    ledger: Ledger,
}

impl Host {
    // ANCHOR: host-enter
    /// Every runtime's first step. Root stays root. Anyone else becomes root of a user namespace
    /// (chapter 8 explains it), with a mount namespace to mount things in: the one that another
    /// container of this user lives in, or else a new one. Then what killed runtimes left is cleared up.
    pub fn enter() -> Result<Host> {
        Host::enter_with(|_| None)
    }
    // ANCHOR_END: host-enter

    // ANCHOR: host-enter-with-users
    /// Chapter 8: does what [`Host::enter`] does, and an ordinary user brings along the users that /etc/subuid gives him,
    /// where there are such.
    pub fn enter_with_users() -> Result<Host> {
        Host::enter_with(|(user, group)| match Subordinate::find(user, group) {
            Ok(found) => Some(found),
            Err(error) => {
                explain::remark(&format!("one user only, oneself: {}", error.reason()));
                None
            }
        })
    }
    // ANCHOR_END: host-enter-with-users

    fn enter_with(find_users: impl FnOnce((Uid, Gid)) -> Option<Subordinate>) -> Result<Host> {
        let ordinary_user = !geteuid().is_root();
        // Before the user changes, because the place of the notes depends on who it is.
        // And locked, because of two that start at the same time the second must find the first.
        let lock = lock(ledger::LOCK)?;
        if ordinary_user {
            become_root(find_users((geteuid(), getegid())))?;
        }
        sweep::sweep_at_start(&lock)?;
        Ok(Host { ledger: Ledger::open(&lock, ordinary_user)? })
    }
}

impl Deref for Host {
    type Target = Ledger;

    fn deref(&self) -> &Ledger {
        &self.ledger
    }
}

impl DerefMut for Host {
    fn deref_mut(&mut self) -> &mut Ledger {
        &mut self.ledger
    }
}

impl Drop for Host {
    /// The end of the runtime: it leaves the host as it was.
    fn drop(&mut self) {
        sweep::settle(&mut self.ledger);
    }
}

// ANCHOR: become-root-as-user
fn become_root(users: Option<Subordinate>) -> Result<()> {
    let new = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS;
    let why = "become root where an ordinary user may be root: in a user namespace";
    let (user, group) = (geteuid(), getegid());
    if join_living(users.as_ref())? {
        return Ok(());
    }
    let scribes = users.map(|users| users.scribes()).transpose()?;
    sys::unshare(why, new).remedy(&user_namespace_remedy())?;
    match scribes.map(Scribes::write) {
        Some(Ok(true)) => return Ok(()),
        Some(Err(error)) => return Err(error),
        Some(Ok(false)) | None => {}
    }
    // One user can be mapped, oneself. Groups first have to be given up for good: else a group
    // that is meant to keep its members out of a file could be dropped here. user_namespaces(7)
    let write = |why: &str, file: &str, text: &str| sys::write_file(why, Path::new(file), text);
    write("give up changing groups, as the kernel wants it first", "/proc/self/setgroups", "deny")?;
    write("user 0 inside is this user outside", "/proc/self/uid_map", &format!("0 {user} 1"))?;
    write("group 0 inside is this group outside", "/proc/self/gid_map", &format!("0 {group} 1"))
}
// ANCHOR_END: become-root-as-user

// ANCHOR: join-living
/// Joins the user namespace of another living container of this user, so that the two can share a
/// network. It may: a namespace's owner has every right in it. One with fewer users than are to be had is left to
/// the others.
fn join_living(users: Option<&Subordinate>) -> Result<bool> {
    for pid in ledger::living()? {
        let Ok(namespace) = File::open(format!("/proc/{pid}/ns/user")) else { continue };
        if same_namespace(&namespace, "user") || users.is_some_and(|users| !users.are_those_of(pid)) {
            continue;
        }
        let why = "become root in the user namespace that this user's other containers share";
        if sys::setns(why, &namespace, CloneFlags::CLONE_NEWUSER).is_ok() {
            sys::unshare("have mounts of its own", CloneFlags::CLONE_NEWNS)?;
            return Ok(true);
        }
    }
    Ok(false)
}
// ANCHOR_END: join-living

//! The entrance: a runtime becomes root, or root of a user namespace; and at the end it leaves nothing behind.

use std::fs::File;
use std::ops::{Deref, DerefMut};
use std::path::Path;

use nix::unistd::{getegid, geteuid};

use super::state::directory::lock;
use super::state::ledger::{self, Ledger};
use super::sweep;
use super::sys::{self, CloneFlags};
use super::user::same_namespace;
use crate::told::errors::{Advise, Result, user_namespace_remedy};

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
        let ordinary_user = !geteuid().is_root();
        // Before the user changes, because the place of the notes depends on who it is.
        // And locked, because of two that start at the same time the second must find the first.
        let lock = lock(ledger::LOCK)?;
        if ordinary_user {
            become_root()?;
        }
        sweep::sweep_at_start(&lock)?;
        Ok(Host { ledger: Ledger::open(&lock, ordinary_user)? })
    }
    // ANCHOR_END: host-enter
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

fn become_root() -> Result<()> {
    let (user, group) = (geteuid(), getegid());
    if !join_living()? {
        let new = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS;
        sys::unshare("become root where an ordinary user may be root: in a user namespace", new)
            .remedy(&user_namespace_remedy())?;
        // One user can be mapped, oneself. Groups first have to be given up for good: else a group
        // that is meant to keep its members out of a file could be dropped here. user_namespaces(7)
        let write = |why: &str, file: &str, text: &str| sys::write_file(why, Path::new(file), text);
        write("give up changing groups, as the kernel wants it first", "/proc/self/setgroups", "deny")?;
        write("user 0 inside is this user outside", "/proc/self/uid_map", &format!("0 {user} 1"))?;
        write("group 0 inside is this group outside", "/proc/self/gid_map", &format!("0 {group} 1"))?;
    }
    Ok(())
}

// ANCHOR: join-living
/// Joins the user namespace of another living container of this user, so that the two can share a
/// network. It may: a namespace's owner has every right in it.
fn join_living() -> Result<bool> {
    for pid in ledger::living()? {
        let Ok(namespace) = File::open(format!("/proc/{pid}/ns/user")) else { continue };
        if same_namespace(&namespace, "user") {
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

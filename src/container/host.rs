//! The runtime's footing on the host: it is root, or makes itself root in a user namespace.

use std::fs::File;
use std::path::Path;

use nix::unistd::{getegid, geteuid};

use super::ledger::{self, Ledger, Leftover};
use super::sys::{self, CloneFlags};
use crate::told::errors::{Advise, Error, Result, user_namespace_remedy};

/// The host, and what this runtime owes it.
pub struct Host {
    ledger: Ledger,
    ordinary_user: bool,
}

impl Host {
    // ANCHOR: host-enter
    /// Every runtime's first step. Root stays root. Anyone else becomes root of a user namespace
    /// (chapter 8 explains it), with a mount namespace to mount things in: the one that another
    /// container of this user lives in, or else a new one. Then what killed runtimes left is cleared up.
    pub fn enter() -> Result<Host> {
        let ordinary_user = !geteuid().is_root();
        // Before the user changes, because the place of the notes depends on who it is.
        // And locked, because of two that start at once the second is to find the first.
        let lock = ledger::lock(ledger::LEDGER)?;
        if ordinary_user {
            become_root()?;
        }
        Ok(Host { ledger: Ledger::open(&lock)?, ordinary_user })
    }
    // ANCHOR_END: host-enter

    /// Was the runtime started by someone other than root?
    pub fn ordinary_user(&self) -> bool {
        self.ordinary_user
    }

    /// Notes what is about to be made and would stay if this runtime were killed.
    pub fn note(&mut self, leftover: &Leftover) -> Result<()> {
        self.ledger.note(leftover)
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

// ANCHOR: same-namespace
/// Is this open namespace the one that the process is in already?
pub(super) fn same_namespace(namespace: &File, kind: &str) -> bool {
    use std::os::unix::fs::MetadataExt;
    let own = std::fs::metadata(format!("/proc/self/ns/{kind}"));
    match (namespace.metadata(), own) {
        (Ok(theirs), Ok(own)) => theirs.ino() == own.ino() && theirs.dev() == own.dev(),
        _ => false,
    }
}
// ANCHOR_END: same-namespace

/// Is this process in the first user namespace, where root is really root?
pub fn in_first_user_namespace() -> Result<bool> {
    let map = sys::read_file(Path::new("/proc/self/uid_map"))
        .map_err(|error| Error::io("see who is who here", "/proc/self/uid_map", &error))?;
    let numbers: Vec<&str> = map.split_whitespace().collect();
    Ok(numbers == ["0", "0", "4294967295"])
}

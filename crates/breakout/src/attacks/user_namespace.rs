//! A new user namespace, made inside.
//!
//! unshare(CLONE_NEWUSER) needs no right at all, and gives all rights over what is made in the new namespace:
//! mounts, networks, packet filters. None of that reaches outside by itself. But it opens to everyone those
//! parts of the kernel that only root used to reach, and most of the kernel's faults of recent years that led
//! out of containers began so: CVE-2022-0185 (fsconfig), CVE-2022-0492 (release_agent), CVE-2023-32233 and
//! CVE-2024-1086 (nf_tables).
//!
//! In chapters 1 and 2 the kernel refuses it, because in a chroot a user namespace could be used to get out.
//! pivot_root(2) is no chroot, so from chapter 3 on it works. Chapter 9 stops it: its seccomp filter refuses
//! the call, as Docker's does.

use nix::sched::{CloneFlags, unshare};

use crate::arena::{self, Arena};
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};

pub const ATTACK: Attack = Attack {
    name: "user-namespace",
    title: "all rights over a new user namespace, made inside",
    won: "had all rights over a namespace that it made itself",
    harmless: "",
    end: End::Chapter(9),
    because: "a seccomp filter refuses the call",
    prepare: arena::nothing,
    attack,
    judge: |arena: &mut Arena, _| arena.has_new_user_namespace(),
};

fn attack(_: &Inside) -> Result<String, Stopped> {
    unshare(CloneFlags::CLONE_NEWUSER).at("unshare(CLONE_NEWUSER)").map(|()| String::new())
}

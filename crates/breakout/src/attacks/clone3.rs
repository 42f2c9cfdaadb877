//! A new user namespace, by a call whose flags no filter can see.
//!
//! clone3(2) does what clone(2) does, with its flags in a structure in memory. A filter for system calls sees the six arguments
//! of a call, and no memory. So one that looks at the flags of clone(2) and lets clone3(2) through has forbidden nothing.
//!
//! Chapter 9 stops it: ENOSYS, as if the kernel had no such call. A C library that gets this answer uses clone(2); at EPERM it
//! would give up, and no program with threads would run.

use crate::arena::{self, Arena};
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};

pub const ATTACK: Attack = Attack {
    name: "clone3",
    title: "all rights over a user namespace, by clone3",
    won: "had all rights over a namespace that it made itself",
    harmless: "",
    end: End::Chapter(9),
    because: "to the filter there is no such call: its flags are in memory, where it cannot look",
    prepare: arena::nothing,
    attack,
    judge: |arena: &mut Arena, _| arena.has_new_user_namespace(),
};

fn attack(_: &Inside) -> Result<String, Stopped> {
    // SAFETY: a struct of numbers, for each of which 0 is valid.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = libc::CLONE_NEWUSER as u64;
    arguments.exit_signal = libc::SIGCHLD as u64;
    let size = size_of::<libc::clone_args>();
    // SAFETY: the arguments outlive the call and have the size that is given; without CLONE_VM the child goes on with a
    // copy of this process, which has one thread.
    match unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size) } {
        0 => {
            let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
            loop {
                nix::unistd::pause();
            }
        }
        result => nix::errno::Errno::result(result).at("clone3(CLONE_NEWUSER)").map(|_| String::new()),
    }
}

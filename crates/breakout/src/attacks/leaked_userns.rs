//! The host's user namespace, through a descriptor that somebody forgot to close.
//!
//! A namespace is entered with setns(2) by a descriptor of it. In the host's user namespace the container's root
//! would be the host's. Here the runtime's parent leaves descriptor 20 open on it.
//!
//! It never worked: the runtime closes what is above 2, whoever opened it. And where the container has a user namespace
//! of its own, the kernel wants CAP_SYS_ADMIN in the namespace that is entered: the way up is closed for good.

use std::os::fd::BorrowedFd;

use nix::sched::{CloneFlags, setns};

use crate::arena::Arena;
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};

pub const ATTACK: Attack = Attack {
    name: "leaked-userns",
    title: "setns(2) into the host's user namespace, which the runtime's parent left open",
    won: "entered the host's user namespace",
    harmless: "",
    end: End::Never,
    because: "close_range(2) closes everything above 2; and nobody enters a user namespace above his own",
    prepare: |arena: &mut Arena| arena.leak("/proc/self/ns/user".as_ref()),
    attack,
    judge: Arena::was_let,
};

fn attack(_: &Inside) -> Result<String, Stopped> {
    let mut refused = Stopped::nothing("there is no descriptor");
    for number in 3..1024 {
        // SAFETY: that it may not be open is what this finds out; nothing else uses it.
        let namespace = unsafe { BorrowedFd::borrow_raw(number) };
        match setns(namespace, CloneFlags::CLONE_NEWUSER).at("setns(every descriptor)") {
            Ok(()) => return Ok(String::new()),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

//! A debugger's hold on init.
//!
//! Process 1 of a container with an init is the runtime's own program, and has the rights of whoever made the container for as
//! long as it has not given them up. Whoever can trace it can make it do things.
//!
//! Chapter 7 brought the init, and with it this attack; chapter 8 stops it: init cannot be traced but by who has CAP_SYS_PTRACE
//! in the namespace in which its program was started. In chapter 9 it has nothing left that would be worth it.

use crate::arena::{self, Arena};
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};

pub const ATTACK: Attack = Attack {
    name: "ptrace-init",
    title: "a debugger's hold on the container's init",
    won: "traced init",
    harmless: "",
    end: End::Chapter(8),
    because: "init is not dumpable, and belongs to a program that was started outside",
    prepare: arena::nothing,
    attack,
    judge: Arena::was_let,
};

fn attack(_: &Inside) -> Result<String, Stopped> {
    if nix::unistd::getpid().as_raw() == 1 {
        return Err(Stopped::nothing("there is no init"));
    }
    let init = nix::unistd::Pid::from_raw(1);
    let options = nix::sys::ptrace::Options::empty();
    nix::sys::ptrace::seize(init, options).at("ptrace(PTRACE_SEIZE, 1)").map(|()| String::new())
}

//! Page faults, answered by the attacker.
//!
//! userfaultfd(2) lets a process answer its own page faults, and take its time: the kernel stands still in the middle of what it
//! was doing when it touched that page. That turns a race of nanoseconds, which is lost nearly always, into one that is won
//! every time. It is no way out by itself: it is a tool that exploits of the kernel have used, such as that of CVE-2021-22555.
//!
//! Chapter 9 stops it: it is not among the calls that its filter allows.

use crate::arena::{self, Arena};
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};

pub const ATTACK: Attack = Attack {
    name: "userfaultfd",
    title: "page faults that the attacker answers, when he likes",
    won: "had its own answer to page faults",
    harmless: "",
    end: End::Chapter(9),
    because: "a seccomp filter refuses the call",
    prepare: arena::nothing,
    attack,
    judge: Arena::was_let,
};

fn attack(_: &Inside) -> Result<String, Stopped> {
    const USER_MODE_ONLY: libc::c_int = 1; // that much anyone may have
    // SAFETY: a number is all that it takes.
    let faults = unsafe { libc::syscall(libc::SYS_userfaultfd, USER_MODE_ONLY) };
    nix::errno::Errno::result(faults).at("userfaultfd()").map(|_| String::new())
}

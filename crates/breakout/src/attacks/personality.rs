//! Memory where it always was.
//!
//! personality(2) lets a process ask for the memory layout of old programs: nothing at a random address any more
//! (ADDR_NO_RANDOMIZE), and all that can be read can be executed, too (READ_IMPLIES_EXEC). Its children have it as well.
//! Whoever has found a fault in one of the container's own programs has an easier time with it.
//!
//! Chapter 9 stops it: its filter lets a process be what Linux programs are, and nothing else.

use crate::arena::{self, Arena};
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};

pub const ATTACK: Attack = Attack {
    name: "personality",
    title: "memory without random addresses",
    won: "had its memory at known addresses",
    harmless: "",
    end: End::Chapter(9),
    because: "a seccomp filter lets five values through",
    prepare: arena::nothing,
    attack,
    judge: Arena::was_let,
};

fn attack(_: &Inside) -> Result<String, Stopped> {
    const ADDR_NO_RANDOMIZE: libc::c_ulong = 0x4_0000;
    // SAFETY: a number is all that it takes.
    nix::errno::Errno::result(unsafe { libc::personality(ADDR_NO_RANDOMIZE) })
        .at("personality(ADDR_NO_RANDOMIZE)")
        .map(|_| String::new())
}

//! A core dump for the host.
//!
//! When a program crashes, the kernel hands its memory to whatever /proc/sys/kernel/core_pattern says. On most machines that is a
//! program, and the kernel starts it as root of the host, outside of every namespace, to read what the attacker has
//! prepared. Those programs have had faults: CVE-2022-4415 and CVE-2025-4598 in systemd-coredump. And a dump holds what the
//! program knew.
//!
//! Chapter 9 stops it: the limit of a dump's size is 0, and nobody inside may raise it.

use nix::sys::resource::{Resource, setrlimit};

use crate::arena::{self, Arena};
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};

pub const ATTACK: Attack = Attack {
    name: "core-dump",
    title: "a crash that a program of the host's root looks at",
    won: "could have a core dump made",
    harmless: "",
    end: End::Chapter(9),
    because: "the limit RLIMIT_CORE is 0, and may not be raised",
    prepare: arena::nothing,
    attack,
    judge: Arena::was_let,
};

fn attack(_: &Inside) -> Result<String, Stopped> {
    const ROOM: u64 = 1 << 20;
    setrlimit(Resource::RLIMIT_CORE, ROOM, ROOM).at("setrlimit(RLIMIT_CORE)").map(|()| String::new())
}

//! Reading the host's POSIX shared memory.
//!
//! shm_open(3) is no system call: it opens a file in /dev/shm, a filesystem in memory. So it is no IPC
//! namespace that keeps one from it, but the root directory, from chapter 1 on; and from chapter 3 on the
//! container has a /dev/shm of its own. That is why it never worked, and why `--volume /dev/shm:/dev/shm` is
//! Docker's way to share it.

use crate::arena::{self, Arena};
use crate::inside::{At, Inside, Stopped};
use crate::victim::SHARED;
use crate::{Attack, End};

pub const ATTACK: Attack = Attack {
    name: "posix-shm",
    title: "POSIX shared memory of the host",
    won: "read the shared memory of a host process",
    harmless: "",
    end: End::Never,
    because: "it is a file in /dev/shm, and the host's is outside the container's root",
    prepare: arena::nothing,
    attack,
    judge: Arena::brought_back,
};

fn attack(_: &Inside) -> Result<String, Stopped> {
    std::fs::read_to_string(SHARED).at("shm_open(the victim's)")
}

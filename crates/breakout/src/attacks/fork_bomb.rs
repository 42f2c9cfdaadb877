//! A fork bomb.
//!
//! Processes are a resource of the whole machine: there are as many numbers as kernel.pid_max says, and each
//! costs memory that can't be swapped out. A PID namespace has numbers of its own, but every process in it
//! takes one of the host's as well. The bomb here stops at 300; `:(){ :|:& };:` does not.
//!
//! Chapter 6 stops it with `--pids-limit`: at the limit, fork(2) fails in the container, and only there.

use crate::arena::Arena;
use crate::inside::{At, Inside, Stopped, child};
use crate::{Attack, End};

pub const ATTACK: Attack = Attack {
    name: "fork-bomb",
    title: "hundreds of processes (against --pids-limit 64)",
    won: "filled the host with 300 processes",
    harmless: "",
    end: End::Chapter(6),
    because: "the pids controller of its cgroup counts them, and fork(2) fails at the limit",
    prepare: |arena: &mut Arena| arena.limit_or_nothing("--pids-limit", "64"),
    attack,
    judge: |arena: &mut Arena, _| arena.new_processes() >= 300,
};

fn attack(_: &Inside) -> Result<String, Stopped> {
    for _ in 0..300 {
        child(nix::unistd::pause).at("fork()")?;
    }
    Ok(String::new())
}

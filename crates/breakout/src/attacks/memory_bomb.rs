//! A memory bomb.
//!
//! Memory is one pool. When it runs dry the kernel kills a process somewhere on the machine, and it need not
//! be the one that took it all. The bomb here takes 128 MiB.
//!
//! Chapter 6 stops it with `--memory`: what a container has above its limit, it has to give back, and if it
//! can't, it is one of its own processes that the kernel kills.

use crate::arena::{Arena, processes};
use crate::inside::{Inside, Stopped};
use crate::{Attack, End};

const SIZE: usize = 128 * 1024 * 1024;

pub const ATTACK: Attack = Attack {
    name: "memory-bomb",
    title: "128 MiB of memory (against --memory 32m)",
    won: "took 128 MiB of the host's memory",
    harmless: "",
    end: End::Chapter(6),
    because: "the memory controller of its cgroup counts it, and the kernel kills within the container",
    prepare: |arena: &mut Arena| arena.limit_or_nothing("--memory", "32m"),
    attack,
    judge: |_: &mut Arena, _| processes().iter().any(|process| process.resident as usize * 1024 >= SIZE),
};

fn attack(_: &Inside) -> Result<String, Stopped> {
    // Memory that is written to, not only asked for: the kernel gives no page before that.
    let memory = vec![1u8; SIZE];
    std::mem::forget(std::hint::black_box(memory));
    Ok(String::new())
}

//! Killing a host process.
//!
//! kill(2) takes a number. Without a PID namespace the container's numbers are the host's, root may signal
//! everyone, and an ordinary user's container every process of that user, his editor for one. Not even a
//! /proc is needed: one can try all numbers, or say -1 and mean all.
//!
//! Chapter 2 stops it: in a PID namespace of its own there are only its own numbers.

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::arena::{self, Arena};
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};

pub const ATTACK: Attack = Attack {
    name: "kill",
    title: "SIGKILL to a host process",
    won: "killed a host process",
    harmless: "it killed nobody outside",
    end: End::Chapter(2),
    because: "in a PID namespace of its own the host's processes have no number",
    prepare: arena::nothing,
    attack,
    judge: |arena: &mut Arena, _| arena.victim_is_dead(),
};

fn attack(me: &Inside) -> Result<String, Stopped> {
    let victim = Pid::from_raw(me.number("pid") as i32);
    nix::sys::signal::kill(victim, Signal::SIGKILL).at("kill(the victim)").map(|()| String::new())
}

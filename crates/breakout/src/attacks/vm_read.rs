//! Reading the memory of a host process without stopping it.
//!
//! process_vm_readv(2) copies from another process's memory. It asks for the same rights as ptrace(2), and
//! leaves no trace: the target does not even pause. Keys and passwords are in memory in the clear.
//!
//! Chapter 2 stops it, as it does ptrace.

use nix::errno::Errno;

use crate::arena::{self, Arena};
use crate::inside::{At, Inside, Stopped};
use crate::victim::WORD;
use crate::{Attack, End};

pub const ATTACK: Attack = Attack {
    name: "vm-read",
    title: "process_vm_readv(2) of a host process",
    won: "read the memory of a host process",
    harmless: "",
    end: End::Chapter(2),
    because: "in a PID namespace of its own the host's processes have no number",
    prepare: arena::nothing,
    attack,
    judge: Arena::brought_back,
};

fn attack(me: &Inside) -> Result<String, Stopped> {
    let mut word = [0u8; WORD];
    let here = libc::iovec { iov_base: word.as_mut_ptr().cast(), iov_len: WORD };
    let there = libc::iovec { iov_base: me.number("address") as *mut libc::c_void, iov_len: WORD };
    // SAFETY: the kernel writes into `word`, no more than its length; the other address is the victim's.
    let count = unsafe { libc::process_vm_readv(me.number("pid") as i32, &here, 1, &there, 1, 0) };
    Errno::result(count).at("process_vm_readv(the victim)")?;
    Ok(String::from_utf8_lossy(&word).into_owned())
}

//! A program for the kernel.
//!
//! bpf(2) loads programs that the kernel runs at its own events. A verifier looks that they do no harm, and what it overlooks is a
//! way into the kernel: CVE-2021-3490, CVE-2022-23222. Who may do so depends on the machine's settings: everybody, or only who
//! has CAP_BPF or CAP_SYS_ADMIN in the first user namespace.
//!
//! Chapter 8 stops it for root, who has no capability there any more; chapter 9 for all.

use crate::arena::{self, Arena};
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};

pub const ATTACK: Attack = Attack {
    name: "bpf",
    title: "a program that the kernel runs",
    won: "had a program loaded into the kernel",
    harmless: "",
    end: End::Chapter(8),
    because: "CAP_BPF counts in the first user namespace only",
    prepare: arena::nothing,
    attack,
    judge: Arena::was_let,
};

fn attack(_: &Inside) -> Result<String, Stopped> {
    const BPF_PROG_LOAD: libc::c_long = 5;
    const SOCKET_FILTER: u64 = 1;
    // r0 = 0; exit
    let program: [u64; 2] = [0xb7, 0x95];
    let license = c"GPL";
    // The first fields of union bpf_attr: type, number of instructions, where they are, where the license is.
    let mut attributes = [0_u64; 16];
    attributes[0] = SOCKET_FILTER | 2 << 32;
    attributes[1] = program.as_ptr() as u64;
    attributes[2] = license.as_ptr() as u64;
    let (room, size) = (attributes.as_mut_ptr(), size_of_val(&attributes));
    // SAFETY: program, license and attributes outlive the call, and have the sizes that are given.
    let loaded = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, room, size) };
    nix::errno::Errno::result(loaded).at("bpf(BPF_PROG_LOAD)").map(|_| String::new())
}

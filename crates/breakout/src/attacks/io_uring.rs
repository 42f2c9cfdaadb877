//! A ring of requests to the kernel.
//!
//! io_uring_setup(2) makes a queue in memory through which a process asks the kernel for some fifty operations: to open, read,
//! send, rename. None of them is a system call any more, so no filter sees them; and the code behind it is young and large. Of
//! the faults that Google paid for in its kernel contest until 2023, six of ten were there. So Docker's profile has not had it
//! since 2023.
//!
//! Chapter 9 stops it: it is not among the calls that its filter allows.

use crate::arena::{self, Arena};
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};

pub const ATTACK: Attack = Attack {
    name: "io-uring",
    title: "a queue of requests that no filter sees",
    won: "had a ring of requests",
    harmless: "",
    end: End::Chapter(9),
    because: "a seccomp filter refuses the call",
    prepare: arena::nothing,
    attack,
    judge: Arena::was_let,
};

fn attack(_: &Inside) -> Result<String, Stopped> {
    let mut parameters = [0_u32; 30]; // struct io_uring_params
    // SAFETY: the structure has 120 bytes, and outlives the call.
    let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) };
    nix::errno::Errno::result(ring).at("io_uring_setup()").map(|_| String::new())
}

//! The processor's counters.
//!
//! perf_event_open(2) counts what the processor does, and samples where it is: in the kernel too, from which an attacker learns
//! where the kernel lies in memory. It has had faults that gave root: CVE-2013-2094, CVE-2023-5717. How much of it is open to
//! everybody is a setting of the machine (kernel.perf_event_paranoid).
//!
//! Chapter 8 stops what needs a capability, chapter 9 all of it.

use crate::arena::{self, Arena};
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};

pub const ATTACK: Attack = Attack {
    name: "perf",
    title: "counters of what the kernel does",
    won: "counted what the kernel does",
    harmless: "",
    end: End::Chapter(8),
    because: "CAP_PERFMON counts in the first user namespace only",
    prepare: arena::nothing,
    attack,
    judge: Arena::was_let,
};

fn attack(_: &Inside) -> Result<String, Stopped> {
    // struct perf_event_attr: a software counter, of all that processor 0 does.
    let mut attributes = [0_u64; 16];
    attributes[0] = 1 | 128 << 32; // PERF_TYPE_SOFTWARE, size
    let (everybody, processor, no_group, no_flags) = (-1, 0, -1, 0);
    let room = attributes.as_mut_ptr();
    // SAFETY: the attributes outlive the call, and have the size that they say.
    let counter = unsafe {
        libc::syscall(libc::SYS_perf_event_open, room, everybody, processor, no_group, no_flags)
    };
    nix::errno::Errno::result(counter).at("perf_event_open()").map(|_| String::new())
}

//! A directory that somebody forgot to close.
//!
//! A descriptor of a directory leads there, whatever the root directory is: openat(2) and fchdir(2) start
//! from it, and `..` goes up from there to the host's real root. Descriptors survive execve(2) unless they
//! are marked close-on-exec, so a runtime hands on what its own parent left open. Here the parent leaves
//! descriptor 20 open on purpose.
//!
//! It never worked: from chapter 1 on, `process::exec` marks everything above 2 close-on-exec, whoever opened
//! it.

use std::os::fd::BorrowedFd;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::arena::Arena;
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};

pub const ATTACK: Attack = Attack {
    name: "leaked-fd",
    title: "a host directory that the runtime's parent left open",
    won: "read a host file through a descriptor",
    harmless: "",
    end: End::Never,
    because: "close_range(2) closes everything above 2, whoever opened it, before the command starts",
    prepare: |arena: &mut Arena| arena.leak(&arena.path("outside")),
    attack,
    judge: Arena::brought_back,
};

fn attack(_: &Inside) -> Result<String, Stopped> {
    let mut refused = Stopped::nothing("there is no descriptor");
    for number in 3..1024 {
        // SAFETY: that it may not be open is what this finds out; nothing else uses it.
        let directory = unsafe { BorrowedFd::borrow_raw(number) };
        match openat(directory, "secret", OFlag::O_RDONLY, Mode::empty()).at("openat(every descriptor)") {
            Ok(file) => return std::io::read_to_string(std::fs::File::from(file)).at("read(the canary)"),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

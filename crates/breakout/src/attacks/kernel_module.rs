//! Code in the kernel.
//!
//! Who may load a module is the kernel. What is loaded here is no module, sixteen zero bytes: the kernel looks at the right
//! first, so that ENOEXEC says as much as a success would. Tried in the virtual machine alone.
//!
//! Chapter 8 stops it: CAP_SYS_MODULE counts in the first user namespace only.

use nix::errno::Errno;

use crate::arena::Arena;
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};

pub const ATTACK: Attack = Attack {
    name: "kernel-module",
    title: "init_module(2) of something that is no module",
    won: "had the right to load code into the kernel",
    harmless: "",
    end: End::Chapter(8),
    because: "CAP_SYS_MODULE counts in the first user namespace only",
    prepare: Arena::in_a_throw_away_machine,
    attack: |_: &Inside| -> Result<String, Stopped> {
        let nothing = [0u8; 16];
        // SAFETY: the bytes and the empty string outlive the call.
        let loaded =
            unsafe { libc::syscall(libc::SYS_init_module, nothing.as_ptr(), nothing.len(), c"".as_ptr()) };
        match Errno::result(loaded) {
            Err(Errno::ENOEXEC) | Ok(_) => Ok(String::new()),
            Err(errno) => Err(errno).at("init_module()"),
        }
    },
    judge: Arena::was_let,
};

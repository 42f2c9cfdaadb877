//! Another kernel.
//!
//! kexec_load(2) puts a kernel into memory that reboot(2) then starts in place of this one: who may do that is above every
//! rule of the one that runs. Nothing is loaded here. The flags are ones that there are not, and the kernel looks at the right
//! first, so that EINVAL says as much as a success would. Tried in the virtual machine alone.
//!
//! Chapter 8 stops it: CAP_SYS_BOOT counts in the first user namespace only.

use nix::errno::Errno;

use crate::arena::Arena;
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};

/// KEXEC_ON_CRASH is 1; this is no flag.
const NO_FLAG: libc::c_ulong = 1 << 15;

pub const ATTACK: Attack = Attack {
    name: "kexec",
    title: "kexec_load(2), with flags that there are not",
    won: "had the right to put another kernel in place",
    harmless: "",
    end: End::Chapter(8),
    because: "CAP_SYS_BOOT counts in the first user namespace only",
    prepare: Arena::in_a_throw_away_machine,
    attack: |_: &Inside| -> Result<String, Stopped> {
        let nothing: libc::c_ulong = 0;
        // SAFETY: numbers, and no segments at no address.
        let loaded = unsafe { libc::syscall(libc::SYS_kexec_load, nothing, nothing, nothing, NO_FLAG) };
        match Errno::result(loaded) {
            Err(Errno::EINVAL) | Ok(_) => Ok(String::new()),
            Err(errno) => Err(errno).at("kexec_load()"),
        }
    },
    judge: Arena::was_let,
};

//! reboot(2).
//!
//! Called with LINUX_REBOOT_CMD_CAD_OFF it only says what ctrl-alt-del is to do, and takes the same right as switching
//! off. It is put back. Tried in the virtual machine alone.
//!
//! It never worked here: for a PID namespace other than the first, reboot(2) ends that namespace's process 1 and knows
//! nothing else; and the lab, in which chapter 1 is attacked, has one already. See reboot(2).

use nix::errno::Errno;

use crate::arena::Arena;
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};

pub const ATTACK: Attack = Attack {
    name: "reboot",
    title: "reboot(2), to change what ctrl-alt-del does",
    won: "could have switched the machine off",
    harmless: "",
    end: End::Never,
    because: "in a PID namespace, and the lab has one, reboot(2) is about that namespace's process 1",
    prepare: Arena::in_a_throw_away_machine,
    attack: |_: &Inside| -> Result<String, Stopped> {
        // SAFETY: numbers are all that this takes.
        let set = |how: libc::c_int| Errno::result(unsafe { libc::reboot(how) });
        set(libc::RB_DISABLE_CAD).at("reboot(LINUX_REBOOT_CMD_CAD_OFF)")?;
        let _ = set(libc::RB_ENABLE_CAD);
        let _ = set(libc::RB_DISABLE_CAD);
        Ok(String::new())
    },
    judge: Arena::was_let,
};

//! The keyboard's last resort, as a file: /proc/sysrq-trigger.
//!
//! One letter written there makes the kernel reboot, crash, or kill every process of the machine. Here it is `h`, which
//! only prints the list of letters into the kernel's log. All the same it is tried in the virtual machine alone.
//!
//! Chapter 8 stops it: the file belongs to the host's root. (The kernel asks for no capability.)

use std::fs::File;

use crate::arena::Arena;
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};

pub const ATTACK: Attack = Attack {
    name: "sysrq",
    title: "a letter written to /proc/sysrq-trigger",
    won: "had the kernel obey a magic key",
    harmless: "",
    end: End::Chapter(8),
    because: "the file belongs to the host's root, who the container's root is not",
    prepare: Arena::in_a_throw_away_machine,
    attack: |me: &Inside| -> Result<String, Stopped> {
        use std::io::Write;
        me.need_proc()?;
        let file = File::options().write(true).open("/proc/sysrq-trigger");
        file.and_then(|mut file| file.write_all(b"h")).at("write(/proc/sysrq-trigger)").map(|()| String::new())
    },
    judge: Arena::was_let,
};

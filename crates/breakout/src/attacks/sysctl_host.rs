//! A setting of the whole machine, written in /proc/sys.
//!
//! kernel/core_pattern says what the kernel does with a crashing process's memory. Begins it with `|`, the
//! kernel starts that program, as root and outside of every container. Root in a container writes its own
//! program there, crashes, and is out: the shortest way there is, and no fault in the kernel.
//! vm/overcommit_memory, kernel/modprobe and sysrq-trigger are in no namespace either.
//!
//! The file is opened for writing, and nothing is written: the machine's setting would be changed.
//!
//! Chapter 8 stops it: the file belongs to the machine's root, and root of a user namespace is somebody else.
//! Chapter 9 makes /proc/sys read-only as well, for containers that have no user namespace; that is what
//! Docker does.

use std::fs::File;

use crate::arena::{self, Arena};
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};

const FILE: &str = "/proc/sys/kernel/core_pattern";

pub const ATTACK: Attack = Attack {
    name: "sysctl-host",
    title: "a setting in /proc/sys that is the whole machine's",
    won: "held the machine's core_pattern open for writing",
    harmless: "",
    end: End::Chapter(8),
    because: "in a user namespace the container's root is not the machine's, whose file it is",
    prepare: arena::nothing,
    attack,
    judge: |arena: &mut Arena, _| arena.holds_for_writing("/sys/kernel/core_pattern", libc::PROC_SUPER_MAGIC),
};

fn attack(me: &Inside) -> Result<String, Stopped> {
    me.need_proc()?;
    let file = File::options().write(true).open(FILE).at("open(/proc/sys/kernel/core_pattern)")?;
    std::mem::forget(file); // the judge looks at it
    Ok(String::new())
}

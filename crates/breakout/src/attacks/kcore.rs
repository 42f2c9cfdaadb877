//! The kernel's memory, as a file.
//!
//! /proc/kcore looks like a core dump of the running kernel: all of the machine's memory is in it, with every key, password and
//! process, whatever the namespaces. A debugger opens it as it opens any dump. Tried in the virtual machine alone,
//! because a lab has no CAP_SYS_RAWIO anywhere else.
//!
//! Chapter 8 stops it: the file belongs to the machine's root. Chapter 9 covers it as well, for containers that have no user
//! namespace.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::arena::Arena;
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};

pub const ATTACK: Attack = Attack {
    name: "kcore",
    title: "the machine's memory in /proc/kcore",
    won: "read the kernel's memory",
    harmless: "",
    end: End::Chapter(8),
    because: "the file belongs to the host's root, who the container's root is not",
    prepare: Arena::in_a_throw_away_machine,
    attack,
    judge: Arena::was_let,
};

/// An ELF file of 64 bits, see elf(5): where its program headers begin, how many there are, how long each is.
const HEADERS: usize = 32;
const COUNT: usize = 56;
const LENGTH: usize = 56;
/// The kind of a header that stands for a piece of memory, and where in the header the piece's place in the file is.
const MEMORY: u64 = 1;
const PLACE: usize = 8;

fn attack(me: &Inside) -> Result<String, Stopped> {
    me.need_proc()?;
    let file = File::open("/proc/kcore").at("open(/proc/kcore)")?;
    let mut start = [0; 64];
    let length = file.read_at(&mut start, 0).at("read(/proc/kcore)")?;
    if length < start.len() || !start.starts_with(b"\x7fELF") {
        return Err(Stopped::nothing("there is nothing to read in /proc/kcore"));
    }
    let (headers, count) = (number(&start, HEADERS, 8), number(&start, COUNT, 2));
    for index in 0..count {
        let (mut header, mut memory) = ([0; LENGTH], [0; 4096]);
        file.read_at(&mut header, headers + index * LENGTH as u64).at("read(/proc/kcore)")?;
        if number(&header, 0, 4) != MEMORY {
            continue;
        }
        let length = file.read_at(&mut memory, number(&header, PLACE, 8)).unwrap_or(0);
        if memory[..length].iter().any(|&byte| byte != 0) {
            return Ok(String::new());
        }
    }
    Err(Stopped::nothing("there is no memory in /proc/kcore"))
}

/// A number of so many bytes, as this machine writes it.
fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    let byte = |index: usize| u64::from(bytes.get(index).copied().unwrap_or(0));
    let places = at..at + length;
    if cfg!(target_endian = "big") {
        places.fold(0, |sum, index| sum << 8 | byte(index))
    } else {
        places.rev().fold(0, |sum, index| sum << 8 | byte(index))
    }
}

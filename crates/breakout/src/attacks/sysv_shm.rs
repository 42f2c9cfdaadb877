//! Reading the host's System V shared memory.
//!
//! A segment of shared memory has a number, not a path: no root directory keeps anyone from it. Its
//! permissions are a file's, owner and mode. Root reads all of them, and a container of an ordinary user
//! reads that user's. Databases and X servers keep what they work on in such segments.
//!
//! Chapter 4 stops it: in an IPC namespace of its own the number means another segment, or none.

use nix::errno::Errno;

use crate::arena::{self, Arena};
use crate::inside::{At, Inside, Stopped, pointer};
use crate::victim::{KEY, WORD};
use crate::{Attack, End};

pub const ATTACK: Attack = Attack {
    name: "sysv-shm",
    title: "shmat(2) of a segment of the host",
    won: "read the shared memory of a host process",
    harmless: "",
    end: End::Chapter(4),
    because: "in an IPC namespace of its own there is no such segment",
    prepare: arena::nothing,
    attack,
    judge: Arena::brought_back,
};

fn attack(_: &Inside) -> Result<String, Stopped> {
    // SAFETY: numbers are all that this call takes.
    let segment = Errno::result(unsafe { libc::shmget(KEY, 0, 0) }).at("shmget(the victim's key)")?;
    // SAFETY: the kernel chooses where it puts it.
    let place = unsafe { libc::shmat(segment, std::ptr::null(), libc::SHM_RDONLY) };
    let place = pointer(place).at("shmat(the victim's segment)")?;
    // SAFETY: the segment is at least a page, and stays attached.
    let word = unsafe { std::slice::from_raw_parts(place.cast::<u8>(), WORD) };
    Ok(String::from_utf8_lossy(word).into_owned())
}

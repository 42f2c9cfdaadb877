//! Taking a message out of the host's System V queue.
//!
//! A message that is received is gone: whoever reads it takes it away from the one it was meant for. A queue
//! has a number, as a segment of shared memory has, and permissions, and root reads all.
//!
//! Chapter 4 stops it with an IPC namespace.

use nix::errno::Errno;

use crate::arena::{self, Arena};
use crate::inside::{At, Inside, Stopped};
use crate::victim::{KEY, Letter, WORD};
use crate::{Attack, End};

pub const ATTACK: Attack = Attack {
    name: "sysv-queue",
    title: "msgrcv(2) from a message queue of the host",
    won: "took a message that was meant for a host process",
    harmless: "",
    end: End::Chapter(4),
    because: "in an IPC namespace of its own there is no such queue",
    prepare: arena::nothing,
    attack,
    judge: Arena::brought_back,
};

fn attack(_: &Inside) -> Result<String, Stopped> {
    // SAFETY: numbers are all that this call takes.
    let queue = Errno::result(unsafe { libc::msgget(KEY, 0) }).at("msgget(the victim's key)")?;
    let mut letter = Letter { kind: 0, text: [0; WORD] };
    // SAFETY: the letter has room for as much as the kernel is told.
    let count = unsafe { libc::msgrcv(queue, (&raw mut letter).cast(), WORD, 0, libc::IPC_NOWAIT) };
    Errno::result(count).at("msgrcv(the victim's queue)")?;
    Ok(String::from_utf8_lossy(&letter.text).into_owned())
}

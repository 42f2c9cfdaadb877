//! Taking a message out of the host's POSIX queue.
//!
//! A POSIX message queue has a name with a slash and looks like a file, but mq_open(2) does not look at the
//! tree of files: the names are the IPC namespace's. /dev/mqueue only shows them.
//!
//! Chapter 4 stops it with an IPC namespace.

use nix::errno::Errno;

use crate::arena::{self, Arena};
use crate::inside::{At, Inside, Stopped};
use crate::victim::{QUEUE, WORD};
use crate::{Attack, End};

pub const ATTACK: Attack = Attack {
    name: "posix-queue",
    title: "mq_receive(3) from a message queue of the host",
    won: "took a message that was meant for a host process",
    harmless: "",
    end: End::Chapter(4),
    because: "in an IPC namespace of its own there is no such queue",
    prepare: arena::nothing,
    attack,
    judge: Arena::brought_back,
};

fn attack(_: &Inside) -> Result<String, Stopped> {
    // SAFETY: the name is a C string that lives for ever.
    let queue = unsafe { libc::mq_open(QUEUE.as_ptr(), libc::O_RDONLY | libc::O_NONBLOCK) };
    let queue = Errno::result(queue).at("mq_open(the victim's queue)")?;
    let mut word = [0u8; WORD];
    // SAFETY: `word` is as long as the kernel is told; no priority is asked for.
    let count = unsafe { libc::mq_receive(queue, word.as_mut_ptr().cast(), WORD, std::ptr::null_mut()) };
    Errno::result(count).at("mq_receive(the victim's queue)")?;
    Ok(String::from_utf8_lossy(&word).into_owned())
}

//! A flood of zombies.
//!
//! A process that has ended stays in the table, as a zombie, until its parent has asked for its status. Is
//! the parent gone, it is process 1 that inherits the child and has to ask. A program that was not written to
//! be process 1 does not: its container collects zombies, and each takes one of the host's process numbers
//! until there are none left.
//!
//! Chapter 7 stops it with an init that waits for every orphan. In chapter 1 it does not work either: there
//! process 1 is the host's own, which knows its duty. (A program that does not wait for its *own* children
//! keeps its zombies even so, until it ends.)

use std::time::{Duration, Instant};

use crate::arena::{self, Arena, processes};
use crate::inside::{At, Inside, Stopped, child};
use crate::{Attack, End};

const COUNT: usize = 150;

pub const ATTACK: Attack = Attack {
    name: "zombies",
    title: "orphans that nobody waits for",
    won: "left more than 100 zombies in the host's process table",
    harmless: "every orphan was waited for",
    end: End::Chapter(7),
    because: "init waits for every orphan that it is given",
    prepare: arena::nothing,
    attack,
    judge,
};

fn judge(arena: &mut Arena, _: &crate::Said) -> bool {
    // The last of them may take their time to end, and an init that does its duty may take its time too.
    let (begun, mut since) = (Instant::now(), None);
    while begun.elapsed() < Duration::from_secs(5) && arena.new_processes() > COUNT / 3 {
        let zombies = processes().iter().filter(|process| process.state == 'Z').count();
        if zombies >= COUNT - COUNT / 3 {
            if since.get_or_insert_with(Instant::now).elapsed() > Duration::from_secs(1) {
                return true;
            }
        } else {
            since = None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

fn attack(_: &Inside) -> Result<String, Stopped> {
    for _ in 0..COUNT {
        let parent = child(|| {
            // SAFETY: this process has one thread.
            if let Ok(nix::unistd::ForkResult::Child) = unsafe { nix::unistd::fork() } {
                // SAFETY: _exit(2) has no precondition.
                unsafe { libc::_exit(0) }
            }
        });
        let parent = parent.at("fork()")?;
        nix::sys::wait::waitpid(parent, None).at("waitpid()")?;
    }
    Ok(String::new())
}

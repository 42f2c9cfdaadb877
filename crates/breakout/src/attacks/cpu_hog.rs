//! A processor hog.
//!
//! The scheduler shares processors out by thread. Whoever has more threads than others gets more, and a
//! container with a thousand of them leaves its neighbours little. Here four threads want 0.3 s of processor
//! time between them, within 4 s: of 0.05 processors that would be 0.2 s.
//!
//! Chapter 6 stops it with `--cpus`: once its share of a period is used up, none of its threads runs until
//! the next.

use std::time::{Duration, Instant};

use crate::arena::{Arena, Process, processes};
use crate::inside::{Inside, Stopped};
use crate::{Attack, End, Said};

pub const ATTACK: Attack = Attack {
    name: "cpu-hog",
    title: "threads that never sleep (against --cpus 0.05)",
    won: "took 0.3 s of processor time and did not have to wait for it",
    harmless: "",
    end: End::Chapter(6),
    because: "the cpu controller of its cgroup makes it wait for its next share",
    prepare: |arena: &mut Arena| arena.limit_or_nothing("--cpus", "0.05"),
    attack,
    judge: |_: &mut Arena, said: &Said| {
        let Some(Ok(before)) = &said.answer else { return false };
        let Ok(before) = before.parse::<u64>() else { return false };
        // The runtime, which is outside the limit, may need as much to start where everything is slow.
        let own = std::process::id() as i32;
        let hog = |process: &&Process| process.name == "breakout" && process.pid != own;
        processes().iter().filter(hog).any(|process| process.ticks * 10 >= before + 280)
    },
};

/// A little more than what the judge looks for, in milliseconds.
const GOAL: u64 = 300;

fn attack(_: &Inside) -> Result<String, Stopped> {
    let begun = Instant::now();
    let before = used(); // its own start
    let spin = || {
        while begun.elapsed() < Duration::from_secs(4) && used() < before + GOAL {
            std::hint::black_box((0..10_000).fold(0u64, |sum, number| sum ^ number));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(spin);
        }
    });
    if used() >= before + GOAL { Ok(before.to_string()) } else { Err(Stopped::nothing("it got its share and no more")) }
}

/// The processor time that this process has used, all its threads together, in milliseconds.
fn used() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes into `time`. The clock is there on every Linux, so there is no error to see.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
}

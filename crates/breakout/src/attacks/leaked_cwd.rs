//! A working directory that is a descriptor of the host: CVE-2024-21626.
//!
//! runc up to 1.1.11 had a host directory open while it made the container, as descriptor 7 or so.
//! An image whose working directory was `/proc/self/fd/7` started there: in the host's tree, with a working
//! directory that no change of the root takes away, and `../../..` did the rest. "Leaky Vessels", January
//! 2024; runc now closes everything in time, and looks whether the working directory lies inside.
//!
//! It never worked here: the runtime is started in a host directory, and moves to `/` after it has
//! changed the root; nothing above 2 is open when the command starts. Chapter 7 brings a process that does
//! not become another program, its init, and it closes its descriptors itself: what is looked at is its
//! /proc/1/fd too.

use crate::arena::{self, Arena};
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};

pub const ATTACK: Attack = Attack {
    name: "leaked-cwd",
    title: "a working directory or open file that is still the host's (CVE-2024-21626)",
    won: "read a host file from where it was started",
    harmless: "",
    end: End::Never,
    because: "chdir(2) follows the change of the root, and nothing of the host stays open, not in init either",
    prepare: arena::nothing,
    attack,
    judge: Arena::brought_back,
};

fn attack(_: &Inside) -> Result<String, Stopped> {
    let mut places = vec!["secret".to_string()];
    for process in ["self", "1"] {
        places.push(format!("/proc/{process}/cwd/secret"));
        places.extend((0..64).map(|number| format!("/proc/{process}/fd/{number}/secret")));
    }
    let found = places.iter().find_map(|place| std::fs::read_to_string(place).ok());
    found.map_or_else(|| Err(nix::errno::Errno::ENOENT).at("open(secret)"), Ok)
}

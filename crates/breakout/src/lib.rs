//! Breakouts: small attacks on the chapters' containers, each with one trick.
//!
//! An attack is one file here. It runs inside the container, as an ordinary program of the rootfs, and tries
//! to get at a *canary* that was planted outside: a file with a random word, a process that holds it, a host
//! name, a limit. Whether it got there is decided outside, by what it brought back or changed, never by what
//! it says of itself. All of it happens in a lab ([`cell`]); the attacker obeys nobody else ([`inside`]).

use cooperage::told::errors::Result;
use cooperage::workshop::chapters;

pub mod arena;
mod attacks;
pub mod cell;
pub mod inside;
pub mod job;
pub mod peer;
pub mod run;
pub mod table;
pub mod victim;

pub use attacks::{ATTACKS, OF_THE_MACHINE};

use arena::{Arena, Said};
use inside::{Inside, Stopped};

/// The newest chapter that is attacked: the later ones are told what to run by a file.
pub const CHAPTERS: u8 = chapters::NEWEST_CONTAINER;

/// One attack.
pub struct Attack {
    /// What it is called on the command line.
    pub name: &'static str,
    /// The trick, in a few words.
    pub title: &'static str,
    /// What it did, if it succeeded: "read a host file".
    pub won: &'static str,
    /// Why it comes to nothing where no system call fails.
    pub harmless: &'static str,
    /// Which chapter stops it.
    pub end: End,
    /// What stops it there, and why; or why it never worked.
    pub because: &'static str,
    /// Plants what [`Attack::judge`] looks at, and chooses the container's options. Runs in the lab.
    pub prepare: fn(&mut Arena) -> Result<()>,
    /// The attack. Runs in the container. It returns what it brought back.
    pub attack: fn(&Inside) -> Result<String, Stopped>,
    /// Has it escaped? Runs in the lab, while the attacker is still alive.
    pub judge: fn(&mut Arena, &Said) -> bool,
}

/// Which chapter stops an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// This one.
    Chapter(u8),
    /// This one, which is not built yet: against the newest chapter it still works.
    Later(u8),
    /// It never worked here.
    Never,
}

impl End {
    /// For the last column of the table.
    pub fn words(self) -> String {
        match self {
            End::Chapter(number) | End::Later(number) => format!("chapter {number}"),
            End::Never => "never worked".to_string(),
        }
    }
}

/// The attack of this name.
pub fn find(name: &str) -> Option<&'static Attack> {
    ATTACKS.iter().chain([&SLEEPER]).find(|attack| attack.name == name)
}

/// No attack: it never answers. It shows that one that hangs is ended.
const SLEEPER: Attack = Attack {
    name: "sleeper",
    title: "an attack that hangs",
    won: "",
    harmless: "",
    end: End::Never,
    because: "it does nothing",
    prepare: arena::nothing,
    attack: |_| {
        nix::unistd::pause();
        Ok(String::new())
    },
    judge: Arena::brought_back,
};

//! The files of user 65534.
//!
//! That number is called nobody, and too many services run as it; files that they make are theirs. A user
//! namespace shows whoever has no number in it as 65534, too: does the container's own 65534 get at what only looks so?
//!
//! It does not, from chapter 8 on: permissions compare the numbers outside, and the container's 65534 is another one
//! there. Up to chapter 7 the container's root is the host's, and may read everything.

use nix::unistd::{Uid, setresuid};

use crate::arena::Arena;
use crate::inside::{At, Inside, Stopped, child};
use crate::{Attack, End};
use cooperage::told::errors::Result;

/// Who is called nobody.
const NOBODY: u32 = 65534;

pub const ATTACK: Attack = Attack {
    name: "nobody-files",
    title: "a file of the host's user 65534, as root and as the container's 65534",
    won: "read a file of the host's user nobody",
    harmless: "",
    end: End::Chapter(8),
    because: "the container's 65534 is another number outside, and what looks like 65534 inside is nobody's",
    prepare,
    attack,
    judge: Arena::brought_back,
};

fn prepare(arena: &mut Arena) -> Result<()> {
    if !arena.share_volume("the user who starts it is user 65534 himself")? {
        return Ok(());
    }
    arena.write("volume/nobodys", &arena.word.clone())?;
    arena.give("volume/nobodys", NOBODY, 0o600)
}

fn attack(_: &Inside) -> std::result::Result<String, Stopped> {
    let read = || std::fs::read_to_string("/mnt/nobodys");
    if let Ok(found) = read() {
        return Ok(found);
    }
    // A child becomes 65534, and writes what it has read where its parent can.
    let seen = "/tmp/seen-by-nobody";
    let _ = std::fs::write(seen, "");
    let _ = std::os::unix::fs::chown(seen, Some(NOBODY), None);
    let nobody = Uid::from_raw(NOBODY);
    let pid = child(|| {
        if setresuid(nobody, nobody, nobody).is_ok()
            && let Ok(found) = read()
        {
            let _ = std::fs::write(seen, found);
        }
    })
    .at("fork()")?;
    let _ = nix::sys::wait::waitpid(pid, None);
    match std::fs::read_to_string(seen) {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => read().at("open(nobody's file)"),
    }
}

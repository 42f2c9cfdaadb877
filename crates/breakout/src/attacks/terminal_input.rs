//! Keys that nobody pressed.
//!
//! Who starts a container in a terminal shares the terminal with it. ioctl(2) with TIOCSTI puts a character into a terminal as if
//! it had been typed. The container types a command and ends; the shell outside reads what was typed, and runs it. So it was
//! with su (CVE-2005-4890, CVE-2016-2568) and with sandboxes (CVE-2017-5226 in bubblewrap, CVE-2019-10063 in Flatpak).
//!
//! Any process may do it to the terminal of its own session, so no namespace stops it, and no user. Since Linux 6.2 a kernel may
//! keep it for root: the setting is dev.tty.legacy_tiocsti.
//!
//! Chapter 9 stops it: the filter refuses the call. (With `--tty` the container has a terminal of its own, and nobody
//! outside reads from that.)

use nix::errno::Errno;

use crate::arena::Arena;
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};

/// What the shell outside would run.
const LINE: &str = "echo typed by the container\n";

pub const ATTACK: Attack = Attack {
    name: "terminal-input",
    title: "a command typed into the terminal of whoever started it (TIOCSTI)",
    won: "typed a command for the shell outside",
    harmless: "",
    end: End::Chapter(9),
    because: "the filter refuses ioctl(2) with TIOCSTI",
    prepare: |arena: &mut Arena| arena.give_terminal(),
    attack,
    judge: |arena: &mut Arena, _| arena.typed() == LINE,
};

fn attack(_: &Inside) -> Result<String, Stopped> {
    for byte in LINE.bytes() {
        // SAFETY: the byte outlives the call.
        let typed = unsafe { libc::ioctl(libc::STDERR_FILENO, libc::TIOCSTI, &raw const byte) };
        Errno::result(typed).at("ioctl(the terminal, TIOCSTI)")?;
    }
    Ok(String::new())
}

//! Keys that count for somebody else.
//!
//! The kernel keeps keys for its users, and each user may have 200 of them (proc_key_users(5)). Those that a container makes
//! count for the user whom its user is outside: for an ordinary user's container that is the person who started it, whose
//! programs then can store none. And the code for keyrings has had its share of faults: CVE-2016-0728.
//!
//! Chapter 9 stops it: it is not among the calls that its filter allows.

use crate::arena::{self, Arena};
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};

pub const ATTACK: Attack = Attack {
    name: "key-quota",
    title: "keys that count for whoever started it",
    won: "stored a key",
    harmless: "",
    end: End::Chapter(9),
    because: "a seccomp filter refuses the call",
    prepare: arena::nothing,
    attack,
    judge: Arena::was_let,
};

fn attack(_: &Inside) -> Result<String, Stopped> {
    const PROCESS_KEYRING: libc::c_long = -2;
    let (kind, name, word) = (c"user", c"of-the-attacker", c"word");
    // SAFETY: three strings that outlive the call, and the length of the third.
    let key = unsafe {
        libc::syscall(libc::SYS_add_key, kind.as_ptr(), name.as_ptr(), word.as_ptr(), 4_usize, PROCESS_KEYRING)
    };
    nix::errno::Errno::result(key).at("add_key()").map(|_| String::new())
}

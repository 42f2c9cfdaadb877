//! The keys of whoever started the container.
//!
//! The kernel keeps keys for processes: of encrypted filesystems, Kerberos, NFS, an ssh agent of a kind. A process has a
//! session keyring, and its children have the same one, through clone(2) and execve(2), in whatever namespaces. Who
//! possesses a keyring may read the keys in it.
//!
//! Chapter 8 stops it: the container begins a session keyring of its own (keyctl(2), KEYCTL_JOIN_SESSION_KEYRING). The
//! user's own keyrings are out of reach by then: each user namespace has its own. See session-keyring(7), keyrings(7).

use nix::errno::Errno;

use crate::arena::{Arena, KEY};
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};

pub const ATTACK: Attack = Attack {
    name: "session-key",
    title: "a key in the session keyring of whoever started it",
    won: "read a key of whoever started it",
    harmless: "",
    end: End::Chapter(8),
    because: "the container has a session keyring of its own",
    prepare: |arena: &mut Arena| arena.give_key(),
    attack,
    judge: Arena::brought_back,
};

const KEYCTL_SEARCH: libc::c_long = 10;
const KEYCTL_READ: libc::c_long = 11;
const SESSION_KEYRING: libc::c_long = -3;

fn attack(_: &Inside) -> Result<String, Stopped> {
    let (kind, name) = (c"user".as_ptr(), KEY.as_ptr());
    // SAFETY: the strings are static.
    let key = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_SEARCH, SESSION_KEYRING, kind, name, 0) };
    let key = Errno::result(key).at("keyctl(KEYCTL_SEARCH)")?;
    let mut text = [0u8; 64];
    // SAFETY: the buffer is as long as it is said to be.
    let length =
        unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_READ, key, text.as_mut_ptr(), text.len(), 0) };
    let length = Errno::result(length).at("keyctl(KEYCTL_READ)")? as usize;
    Ok(String::from_utf8_lossy(&text[..length.min(text.len())]).into_owned())
}

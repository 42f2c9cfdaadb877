//! The few calls of the C library that Rust's own library has no function for.

use std::ffi::{c_char, c_int};
use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

pub const AF_INET: c_int = 2;
pub const AF_NETLINK: c_int = 16;
pub const SOCK_DGRAM: c_int = 2;
pub const SOCK_RAW: c_int = 3;
pub const IPPROTO_ICMP: c_int = 1;
pub const NETLINK_ROUTE: c_int = 0;
const SOCK_CLOEXEC: c_int = 0o2000000;
const SIGINT: c_int = 2;
const SIGPIPE: c_int = 13;
const SIG_DFL: usize = 0;

// SAFETY: these are the declarations in the C library's headers. `safe` are those that take nothing but numbers.
unsafe extern "C" {
    #[link_name = "socket"]
    safe fn c_socket(family: c_int, kind: c_int, protocol: c_int) -> c_int;
    #[link_name = "kill"]
    safe fn c_kill(pid: c_int, signal: c_int) -> c_int;
    #[link_name = "sethostname"]
    fn c_sethostname(name: *const c_char, length: usize) -> c_int;
    #[link_name = "gethostname"]
    fn c_gethostname(name: *mut c_char, length: usize) -> c_int;
    #[link_name = "signal"]
    fn c_signal(signal: c_int, handler: usize) -> usize;
}

fn result(returned: c_int) -> io::Result<c_int> {
    if returned == -1 { Err(io::Error::last_os_error()) } else { Ok(returned) }
}

/// socket(2)
pub fn socket(family: c_int, kind: c_int, protocol: c_int) -> io::Result<OwnedFd> {
    let fd = result(c_socket(family, kind | SOCK_CLOEXEC, protocol))?;
    // SAFETY: the kernel has just opened it, for nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A socket to be read and written as a file is, which for netlink is the same as sending and receiving.
pub fn netlink() -> io::Result<File> {
    socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE).map(File::from)
}

/// kill(2)
pub fn kill(pid: c_int, signal: c_int) -> io::Result<()> {
    result(c_kill(pid, signal)).map(drop)
}

/// sethostname(2)
pub fn set_hostname(name: &str) -> io::Result<()> {
    // SAFETY: the kernel reads as many bytes as there are.
    result(unsafe { c_sethostname(name.as_ptr().cast(), name.len()) }).map(drop)
}

/// gethostname(2)
pub fn hostname() -> io::Result<String> {
    let mut name = [0u8; 256];
    // SAFETY: the C library writes no more than it is told is there.
    result(unsafe { c_gethostname(name.as_mut_ptr().cast(), name.len()) })?;
    let length = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    Ok(String::from_utf8_lossy(&name[..length]).into_owned())
}

/// Ends on SIGPIPE, as programs do. (Rust's start-up ignores it.)
pub fn default_sigpipe() {
    // SAFETY: no handler is installed.
    unsafe { c_signal(SIGPIPE, SIG_DFL) };
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_signal: c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// From here on ctrl-C only interrupts the call that waits; [`interrupted`] tells. Process 1 of a container has to ask for
/// the signal anyway: without a handler it does not get it.
pub fn catch_interrupt() {
    let handler: extern "C" fn(c_int) = note;
    // SAFETY: the handler does nothing but set a flag.
    unsafe { c_signal(SIGINT, handler as usize) };
}

/// Was ctrl-C typed?
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

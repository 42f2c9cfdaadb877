//! Narration: with `--explain` every system call that the book teaches is printed as it happens,
//! by the process that makes it, with the reason why.
//!
//! [`call`] makes a system call, narrates it, and turns its failure into an [`Error`]. The narration
//! is written after the call has returned and shows what it returned, so it cannot claim what did not
//! happen; a test holds it against strace(1).

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use colored::Colorize;
use nix::unistd::Pid;

use super::errors::{Error, Result};

static ENABLED: AtomicBool = AtomicBool::new(false);
static INSIDE: AtomicBool = AtomicBool::new(false);

/// Turns the narration on. It goes to stderr, because stdout belongs to the command.
pub fn enable() {
    if !std::io::stderr().is_terminal() || !std::io::stdout().is_terminal() {
        colored::control::set_override(false);
    }
    ENABLED.store(true, Ordering::Relaxed);
}

/// Is the narration on?
pub fn enabled() -> bool {
    ENABLED.load(Ordering::Relaxed)
}

/// From here on this process speaks as the container, not as the host.
pub fn we_are_inside() {
    INSIDE.store(true, Ordering::Relaxed);
}

/// Is this process the container's?
pub fn inside() -> bool {
    INSIDE.load(Ordering::Relaxed)
}

/// What a system call returns, as strace(1) would print it.
pub trait Returned {
    /// The number that the kernel returned.
    fn number(&self) -> i64;
}

impl Returned for () {
    fn number(&self) -> i64 {
        0
    }
}
impl Returned for usize {
    fn number(&self) -> i64 {
        *self as i64
    }
}
impl Returned for Pid {
    fn number(&self) -> i64 {
        i64::from(self.as_raw())
    }
}
impl Returned for OwnedFd {
    fn number(&self) -> i64 {
        i64::from(self.as_raw_fd())
    }
}

// ANCHOR: explain-call
/// Makes one system call: narrates it, or returns an error that shows it.
///
/// `why` is a plain phrase in the infinitive, "give the container its own /proc": the narration
/// prints it as the reason, an error as "could not give the container its own /proc". `shown` is the
/// call with its arguments, in the notation of strace(1).
pub fn call<T: Returned>(
    why: &str,
    shown: impl FnOnce() -> String,
    make: impl FnOnce() -> nix::Result<T>,
) -> Result<T> {
    match make() {
        Ok(value) => {
            if enabled() {
                line(&format!("{} = {}", shown(), value.number()), why);
            }
            Ok(value)
        }
        Err(errno) => {
            let shown = shown();
            if enabled() {
                line(&format!("{shown} = -1 {errno:?}"), why);
            }
            Err(Error::call(why, shown, errno))
        }
    }
}
// ANCHOR_END: explain-call

/// Narrates a call that does not return when it succeeds: execve(2).
pub fn last_call(why: &str, shown: &str) {
    if enabled() {
        line(shown, why);
    }
}

/// Narrates what is worth knowing and is not a system call.
pub fn remark(text: &str) {
    if enabled() {
        line("", text);
    }
}

fn line(call: &str, why: &str) {
    let place = if inside() { "container" } else { "host" };
    let label = format!("[{place} {}]", std::process::id());
    let label = format!("{label:<16}");
    let label = if inside() { label.green() } else { label.blue() };
    // One write for the whole line: several processes narrate at the same time.
    let line = if call.is_empty() {
        format!("{label} {}\n", why.dimmed())
    } else {
        format!("{label} {:<60}  {}\n", call.bold(), why.dimmed())
    };
    // A narration that nobody can read any more is no reason to stop.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// A string argument as strace(1) prints it.
pub fn quote(text: impl AsRef<[u8]>) -> String {
    let mut quoted = String::from("\"");
    for &byte in text.as_ref() {
        match byte {
            b'"' => quoted.push_str("\\\""),
            b'\\' => quoted.push_str("\\\\"),
            b'\n' => quoted.push_str("\\n"),
            b'\t' => quoted.push_str("\\t"),
            0x20..=0x7e => quoted.push(char::from(byte)),
            _ => {
                // Writing to a String cannot fail.
                let _ = write!(quoted, "\\{byte:o}");
            }
        }
    }
    quoted.push('"');
    quoted
}

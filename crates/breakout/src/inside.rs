//! The attacker's side: what runs in the container.
//!
//! The attacker is this crate's `breakout` program, which the arena puts into the rootfs. It is told what to
//! look for in its arguments, makes its attempt, says in one line what came of it, and waits until it is told
//! to end: the judge looks while it is alive.
//!
//! It obeys only if a ticket lies in its root directory, and the arena puts one there only in a lab's own
//! memory. So no attack can be started by hand on a machine that somebody needs.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// The argument that makes this program an attacker.
pub const MODE: &str = "@attack";
/// Where the attacker finds its ticket.
pub const TICKET: &str = "/breakout-ticket";

/// The system call that ended the attempt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Stopped {
    /// The call, without what differs from run to run.
    pub call: String,
    /// Its error number; 0 where nothing failed and nothing was found either.
    pub errno: i32,
}

impl Stopped {
    /// Nothing failed, but there was nothing to be had.
    pub fn nothing(what: &str) -> Stopped {
        Stopped { call: what.to_string(), errno: 0 }
    }
}

/// Names the call that a result is from.
pub trait At<T> {
    /// `call` as it shall be shown: "open(the canary)".
    fn at(self, call: &str) -> Result<T, Stopped>;
}

impl<T> At<T> for nix::Result<T> {
    fn at(self, call: &str) -> Result<T, Stopped> {
        self.map_err(|errno| Stopped { call: call.to_string(), errno: errno as i32 })
    }
}

impl<T> At<T> for std::io::Result<T> {
    fn at(self, call: &str) -> Result<T, Stopped> {
        self.map_err(|error| Stopped { call: call.to_string(), errno: error.raw_os_error().unwrap_or(0) })
    }
}

/// What the attacker says: `Ok` with what it brought back, or the call that stopped it.
pub type Answer = Result<String, Stopped>;

/// What the attacker was told.
pub struct Inside {
    given: BTreeMap<String, String>,
}

impl Inside {
    /// A text; empty if it was not given.
    pub fn text(&self, name: &str) -> &str {
        self.given.get(name).map_or("", String::as_str)
    }

    /// A path on the host.
    pub fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(self.text(name))
    }

    /// A number; 0 if it was not given.
    pub fn number(&self, name: &str) -> usize {
        self.text(name).parse().unwrap_or(0)
    }

    /// Reads the canary by the path that it has on the host.
    pub fn read_canary(&self) -> Answer {
        std::fs::read_to_string(self.path("canary")).at("open(the canary)")
    }

    /// Has a /proc: the container's, or in chapter 1, where there is none, a new one.
    pub fn need_proc(&self) -> Result<(), Stopped> {
        if Path::new("/proc/self").exists() {
            return Ok(());
        }
        let _ = std::fs::create_dir("/proc");
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>).at("mount(proc)")
    }
}

/// If this process was started to be an attacker, it is one from here on.
pub fn take_over() -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() != Some(MODE) {
        return None;
    }
    let name = arguments.next().unwrap_or_default();
    let split =
        |word: String| word.split_once('=').map(|(name, value)| (name.to_string(), value.to_string()));
    let me = Inside { given: arguments.filter_map(split).collect() };
    let ticket = std::fs::read_to_string(TICKET).unwrap_or_default();
    if ticket.is_empty() || ticket != me.text("ticket") {
        eprintln!(
            "cooperage: could not attack\n  error   this is not an arena that `breakout` has made in a lab\n  \
             remedy  cargo run --bin breakout -- {name} --chapter 1"
        );
        return Some(ExitCode::from(125));
    }
    let Some(attack) = super::find(&name) else { return Some(ExitCode::from(2)) };
    let answer = (attack.attack)(&me);
    if let Ok(text) = serde_json::to_string(&answer) {
        let mut out = std::io::stdout();
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }
    // Until the judge has seen enough.
    let _ = std::io::stdin().read(&mut [0]);
    Some(ExitCode::SUCCESS)
}

/// Makes a child that runs `work` and ends. It dies with this process.
pub fn child(work: impl FnOnce()) -> nix::Result<nix::unistd::Pid> {
    // SAFETY: the attacker has one thread.
    match unsafe { nix::unistd::fork()? } {
        nix::unistd::ForkResult::Parent { child } => Ok(child),
        nix::unistd::ForkResult::Child => {
            let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
            work();
            // SAFETY: _exit(2) has no precondition.
            unsafe { libc::_exit(0) }
        }
    }
}

/// A pointer that a system call returned, or its error.
pub fn pointer(result: *mut libc::c_void) -> nix::Result<*mut libc::c_void> {
    // Both shmat(2) and mmap(2) return -1 for an error.
    if result as isize == -1 { Err(Errno::last()) } else { Ok(result) }
}

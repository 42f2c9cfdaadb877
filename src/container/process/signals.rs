//! Chapter 1: signals. A supervisor reads them one by one; a command finds them as if nobody had touched them.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use nix::unistd::Pid;

use crate::told::errors::{Error, Result};

/// The signals that ask a program to end.
pub const ENDING: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT];

/// A signal that arrived.
pub struct Received {
    /// Which.
    pub signal: Signal,
    /// The kernel sent it because of a key such as ctrl-C, to every process in the foreground.
    pub from_terminal: bool,
}

// ANCHOR: received
/// The signals that have arrived since the last call.
pub fn received(signals: &SignalFd) -> Result<Vec<Received>> {
    let mut all = Vec::new();
    loop {
        match signals.read_signal() {
            Ok(Some(siginfo { ssi_signo, ssi_code, .. })) => {
                if let Ok(signal) = Signal::try_from(ssi_signo as i32) {
                    const SI_KERNEL: i32 = 0x80;
                    all.push(Received { signal, from_terminal: ssi_code == SI_KERNEL });
                }
            }
            Ok(None) => return Ok(all),
            Err(errno) => return Err(Error::call("read a signal", "read(signalfd)", errno)),
        }
    }
}
// ANCHOR_END: received

// ANCHOR: block-signals
/// Blocks what a supervisor has to see itself, and returns a descriptor to read it from.
///
/// Stops (SIGTSTP, SIGTTIN) keep their effect. SIGTTOU is blocked and not read: that is what lets a
/// process in the background hand the terminal on.
pub fn block_signals() -> Result<SignalFd> {
    use Signal::*;
    let mut read = SigSet::empty();
    for signal in ENDING.into_iter().chain([SIGCHLD, SIGUSR1, SIGUSR2, SIGALRM, SIGWINCH]) {
        read.add(signal);
    }
    let mut blocked = read;
    blocked.add(SIGTTOU);
    let failed = |call: &str, errno| Error::call("hold signals back", call, errno);
    blocked.thread_set_mask().map_err(|errno| failed("rt_sigprocmask()", errno))?;
    SignalFd::with_flags(&read, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(|errno| failed("signalfd4()", errno))
}
// ANCHOR_END: block-signals

// ANCHOR: default-signals
/// Gives every signal its default effect and lets all of them through: what a new program expects.
pub fn default_signals() -> Result<()> {
    const SIGNALS: libc::c_int = 64;
    // What the kernel takes: a handler (null is SIG_DFL), flags, a restorer and a mask. Not sigaction(3):
    // that one keeps two signals from us, for the use of threads.
    let default = [0u64; 4];
    for signal in (1..=SIGNALS).filter(|&signal| signal != libc::SIGKILL && signal != libc::SIGSTOP) {
        // SAFETY: no handler is installed, and the kernel's struct is no larger than what is given.
        Errno::result(unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), 0, size_of::<u64>())
        })
        .map_err(|errno| Error::call("reset a signal", format!("rt_sigaction({signal}, SIG_DFL)"), errno))?;
    }
    nix::sys::signal::sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
        .map_err(|errno| Error::call("let signals through", "rt_sigprocmask()", errno))
}
// ANCHOR_END: default-signals

/// Chapter 10: a descriptor that stays with this process, whoever has its number later. See pidfd_open(2).
pub fn open_process(pid: Pid) -> nix::Result<OwnedFd> {
    // SAFETY: numbers are all that it takes.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

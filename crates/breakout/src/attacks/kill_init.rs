//! SIGKILL to process 1.
//!
//! The end of process 1 is the end of its PID namespace: the kernel kills all the rest. So a single signal
//! would bring down the container, or in chapter 1, where process 1 is the host's, the host.
//!
//! It never worked: the kernel drops a signal to process 1 for which it has no handler if it comes from the
//! same PID namespace, and SIGKILL can't have one. Only a namespace above can kill it. See pid_namespaces(7).

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::arena::{self, Arena, Said};
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};

pub const ATTACK: Attack = Attack {
    name: "kill-init",
    title: "SIGKILL to process 1",
    won: "killed process 1",
    harmless: "the kernel dropped the signal",
    end: End::Never,
    because: "the kernel drops a signal to process 1 from its own PID namespace that it has no handler for",
    prepare: arena::nothing,
    attack,
    judge: |_: &mut Arena, said: &Said| said.answer.is_none(),
};

fn attack(_: &Inside) -> Result<String, Stopped> {
    // Not from process 1 itself, which this may be.
    // SAFETY: the attacker has one thread.
    match unsafe { nix::unistd::fork() }.at("fork()")? {
        nix::unistd::ForkResult::Child => {
            let errno = kill(Pid::from_raw(1), Signal::SIGKILL).err().map_or(0, |errno| errno as i32);
            // SAFETY: _exit(2) has no precondition.
            unsafe { libc::_exit(errno) }
        }
        nix::unistd::ForkResult::Parent { child } => match waitpid(child, None).at("waitpid()")? {
            WaitStatus::Exited(_, 0) => Ok(String::new()),
            // Or it was refused: chapter 1's process 1 may be another user's.
            WaitStatus::Exited(_, _) => Err(Stopped::nothing("the kernel refused to send the signal")),
            _ => Err(Stopped::nothing("the attacker's child was killed")),
        },
    }
}

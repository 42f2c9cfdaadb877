//! The terminal, and whose keys it sends: ctrl-C and ctrl-Z go to the foreground process group.
//!
//! A shell in the container does job control, and for that its process group must be one that it can
//! see: in a new PID namespace the runtime's group has no number. So the container's first process
//! makes a group of its own and takes the terminal; the runtime takes it back at the end. See
//! credentials(7), "Process group ID and session ID", and tcsetpgrp(3).

use std::io::{IsTerminal, stdin, stdout};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, getpgrp, getpid, setpgid, tcgetpgrp, tcsetpgrp};

use crate::told::errors::{Error, Result};

/// A terminal that was ours to hand on.
pub struct Terminal {
    group: Pid,
}

impl Terminal {
    /// The terminal, if there is one and this process is in its foreground. In a pipeline it belongs
    /// to all members (`chapter05 ip addr | less`), so it stays where it is.
    pub fn if_ours() -> Option<Terminal> {
        let group = getpgrp();
        let ours = stdin().is_terminal() && stdout().is_terminal() && tcgetpgrp(stdin()) == Ok(group);
        ours.then_some(Terminal { group })
    }

    // ANCHOR: terminal-take
    /// Called by the child: makes a process group and brings it into the foreground.
    pub fn take() -> Result<()> {
        setpgid(Pid::from_raw(0), Pid::from_raw(0))
            .map_err(|errno| Error::call("make a process group", "setpgid(0, 0)", errno))?;
        tcsetpgrp(stdin(), getpid())
            .map_err(|errno| Error::call("take the terminal", "ioctl(0, TIOCSPGRP)", errno))
    }
    // ANCHOR_END: terminal-take

    /// Called by the runtime at the end.
    pub fn give_back(&self) {
        // It fails when the terminal is gone; then nothing is to be given back.
        let _ = tcsetpgrp(stdin(), self.group);
    }

    /// The command was stopped by a key. Stops the runtime too, as the shell that started it expects
    /// of a job, and when that shell continues the job, continues the container.
    pub fn suspend(&self, container: Pid) -> Result<()> {
        self.give_back();
        killpg(self.group, Signal::SIGTSTP)
            .map_err(|errno| Error::call("stop with the command", "kill(0, SIGTSTP)", errno))?;
        // Here SIGCONT has come.
        if tcgetpgrp(stdin()) == Ok(self.group) {
            let _ = tcsetpgrp(stdin(), container);
        }
        // The group when there is one still, and init, which the command's group may have left.
        let _ = killpg(container, Signal::SIGCONT);
        let _ = kill(container, Signal::SIGCONT);
        Ok(())
    }
}

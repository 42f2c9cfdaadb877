//! Chapter 1: birth. clone(2) makes the child, and the child's half of the story begins.

use std::convert::Infallible;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::child::Child;
use super::newborn::{Newborn, Report};
use super::signals;
use crate::container::console::Console;
use crate::container::sys::{self, CloneFlags};
use crate::container::terminal::Terminal;
use crate::told::errors::{Error, Result};
use crate::told::explain;

/// The child's end of the two pipes.
pub struct Parent {
    ready: File,
    report: File,
    in_cgroup: bool,
}

impl Parent {
    /// Was this process born in the container's cgroup (chapter 6)?
    pub fn born_in_cgroup(&self) -> bool {
        self.in_cgroup
    }

    /// Stands still until the parent has done what only it can do, and releases the child. It may stand at
    /// several places of the story: the parent releases the child once for each.
    pub fn until_released(&self) -> Result<()> {
        let mut byte = [0];
        match (&self.ready).read(&mut byte) {
            Ok(1) => Ok(()),
            // The parent closed the pipe without a word: it gave up, or it is dead.
            _ => Err(Error::new("go on", "the runtime gave up")),
        }
    }

    /// What [`Parent::until_released`] was called when the first exercises were handed out.
    #[doc(hidden)]
    pub fn wait(&self) -> Result<()> {
        self.until_released()
    }

    /// Had the runtime died before this process was to die with it, no signal would have come: the pipe tells.
    pub(in crate::container) fn must_live(&self) -> Result<()> {
        if self.is_gone() { Err(Error::new("go on", "the runtime is gone")) } else { Ok(()) }
    }

    /// Chapter 10: gives birth once more, and ends. The new child has all that this one has, and whoever made this one is its
    /// parent too (CLONE_PARENT), and is told its number. Namespaces for processes take effect only on children: so who
    /// has joined one has to have one.
    pub fn hand_over(&self, new: CloneFlags) -> Result<()> {
        let why = "be born again: a PID namespace is that of children";
        let (told, telling) = sys::pipe("connect parent and child")?;
        // SAFETY: this process has one thread, as the child of one that has one.
        match unsafe { sys::clone(why, new | CloneFlags::CLONE_PARENT)? } {
            None => {
                // Not before the maker is told: its arrival would be taken for that of this one, whose number is another.
                drop(telling);
                let _ = File::from(told).read(&mut [0]);
                Ok(())
            }
            Some(pid) => {
                self.send(&Report::Successor(pid.as_raw()));
                sys::exit(0)
            }
        }
    }

    /// Tells the maker that the child has come to a place where the maker has something to do.
    pub fn report_arrival(&self) {
        self.send(&Report::Arrived);
    }

    /// Tells the runtime that the command was stopped.
    pub(in crate::container) fn report_stop(&self) {
        self.send(&Report::Stopped);
    }

    /// The descriptor that the report goes through.
    pub(in crate::container) fn report_fd(&self) -> BorrowedFd<'_> {
        self.report.as_fd()
    }

    /// Reports a failed step. The runtime prints it and ends with its status.
    pub(in crate::container) fn report_failure(&self, error: Error) {
        self.send(&Report::Failed(error));
    }

    fn send(&self, report: &Report) {
        if let Ok(mut line) = serde_json::to_vec(report) {
            line.push(b'\n');
            // When nobody listens any more there is nobody to tell.
            let _ = (&self.report).write_all(&line);
        }
    }

    /// Has the parent closed its end?
    fn is_gone(&self) -> bool {
        let mut watched = [PollFd::new(self.ready.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut watched, PollTimeout::ZERO);
        watched[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP))
    }
}

// ANCHOR: spawn
/// Makes a child in new namespaces, and watches over it. `half` is the child's half of the story: it
/// ends by becoming the command, so it returns only an error.
///
/// Signals are blocked before the child is made and stay so until its command starts: none that comes
/// in between is lost. The child dies with this process, even if that is killed by SIGKILL.
pub fn spawn(new: CloneFlags, half: impl FnOnce(&Parent) -> Result<Infallible>) -> Result<Child> {
    spawn_into(None, new, half)
}

/// Does what [`spawn`] does; the child is born in the cgroup whose directory is open as `cgroup`
/// (chapter 6), where there is one.
pub fn spawn_into(
    cgroup: Option<OwnedFd>,
    new: CloneFlags,
    half: impl FnOnce(&Parent) -> Result<Infallible>,
) -> Result<Child> {
    spawn_on(&Console::shared(), cgroup, new, half)
}

/// Does what [`spawn_into`] does; if the child is to have a terminal of its own (chapter 9), it does not take ours.
pub fn spawn_on(
    console: &Console,
    cgroup: Option<OwnedFd>,
    new: CloneFlags,
    half: impl FnOnce(&Parent) -> Result<Infallible>,
) -> Result<Child> {
    let signals = signals::block_signals()?;
    let terminal = if console.is_own() { None } else { Terminal::if_ours() };
    let newborn = bear(cgroup, new, |parent| {
        die_with(parent)?;
        if terminal.is_some() {
            Terminal::take()?;
        }
        half(parent)
    })?;
    Ok(Child::new(newborn, signals, terminal))
}
// ANCHOR_END: spawn

/// Makes a child that may outlive this process: it dies with nobody, and nobody waits for it.
pub fn bear(
    cgroup: Option<OwnedFd>,
    new: CloneFlags,
    half: impl FnOnce(&Parent) -> Result<Infallible>,
) -> Result<Newborn> {
    require_one_thread()?;
    let pipe = || sys::pipe("connect parent and child");
    let (ready_read, ready_write) = pipe()?;
    let (report_read, report_write) = pipe()?;
    // Without narration nobody waits here; with it, the parent's line comes before the child's first.
    let narrated = explain::enabled().then(pipe).transpose()?;

    // SAFETY: this process has one thread, as was just seen.
    let (born, in_cgroup) = unsafe { make_child(cgroup, new)? };
    let Some(pid) = born else {
        explain::we_are_inside();
        drop((ready_write, report_read));
        if let Some((read, write)) = narrated {
            drop(write);
            let _ = File::from(read).read(&mut [0]);
        }
        let parent = Parent { ready: File::from(ready_read), report: File::from(report_write), in_cgroup };
        live(&parent, half)
    };
    Newborn::new(pid, ready_write, report_read)
}

// ANCHOR: live
/// The child's life. It ends in here, whatever becomes of `half`: further up on the stack are values
/// that belong to the parent. A child that returned there, or whose panic unwound so far, would unlock
/// the parent's locks and take back what the parent has made.
fn live(parent: &Parent, half: impl FnOnce(&Parent) -> Result<Infallible>) -> ! {
    let status = match catch_unwind(AssertUnwindSafe(|| half(parent))) {
        Ok(Err(error)) => {
            parent.report_failure(error);
            1
        }
        Ok(Ok(never)) => match never {},
        Err(_) => {
            // What it said stands on stderr already. 101 is the status that a panic gives a program.
            parent.report_failure(Error::new("make the container", "the child's half panicked"));
            101
        }
    };
    sys::exit(status)
}
// ANCHOR_END: live

// ANCHOR: make-child
/// Makes the child, in the cgroup if the kernel does that. If not, the child has to go there itself: an
/// old kernel does not know the call, and container engines forbid it (their filters can't see its flags).
///
/// # Safety
///
/// As for [`sys::clone`].
unsafe fn make_child(cgroup: Option<OwnedFd>, new: CloneFlags) -> Result<(Option<Pid>, bool)> {
    if let Some(cgroup) = cgroup {
        let why = "make the process that becomes the container, in its cgroup";
        // SAFETY: the caller's promise.
        if let Ok(born) = unsafe { sys::clone_into(why, new, cgroup.as_fd()) } {
            return Ok((born, true));
        }
    }
    // SAFETY: the caller's promise.
    unsafe { Ok((sys::clone("make the process that becomes the container", new)?, false)) }
}
// ANCHOR_END: make-child

// ANCHOR: die-with
/// Makes the child die with its parent.
fn die_with(parent: &Parent) -> Result<()> {
    // It holds through execve(2), but not when the command changes its user (su, a setuid program): then
    // the kernel forgets it. Chapter 7's init does not change its user, and closes that gap.
    sys::set_parent_death_signal("die when the runtime dies, even by SIGKILL", Signal::SIGKILL)?;
    parent.must_live()
}
// ANCHOR_END: die-with

fn require_one_thread() -> Result<()> {
    // Each thread is a directory there.
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads == 1 {
        return Ok(());
    }
    Err(Error::new("make a child", format!("the runtime has {threads} threads and must have one")))
}

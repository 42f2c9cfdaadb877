//! Chapter 7: an init.
//!
//! Process 1 of a PID namespace is not like the others. Every orphan becomes its child, and stays a
//! zombie until it waits for it. A signal that it has no handler for does nothing to it. And when it
//! ends, the kernel kills all the rest. Few programs are written for that; so the container gets one
//! that is, and the command runs as its child. See pid_namespaces(7), "The namespace init process".

use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use super::process::signals::{block_signals, received};
use super::process::{Parent, Status};
use super::sys;
use crate::told::errors::{Error, Result};

// ANCHOR: init-run
/// Starts the command as a child, by `become_command`; then reaps, forwards and waits. Ends with the
/// command, and with its status.
///
/// This process goes on running the runtime's own program, a file on the host, and the container
/// sees it: /proc/1/exe leads there, and whoever may follow it may change that file (CVE-2019-5736).
/// So nobody may but root of the user namespace in which the runtime was started. It is done before
/// the command is there.
pub fn run(parent: &Parent, become_command: impl FnOnce() -> Result<Infallible>) -> Result<Infallible> {
    run_confined(parent, become_command, || Ok(()))
}

/// Chapter 9: does the same, and once the command has been started gives up by `confine` what only the start needed.
pub fn run_confined(
    parent: &Parent,
    become_command: impl FnOnce() -> Result<Infallible>,
    confine: impl FnOnce() -> Result<()>,
) -> Result<Infallible> {
    sys::set_not_dumpable("let none but real root follow /proc/1/exe to the runtime's own program")?;
    let start = || {
        // SAFETY: of what it changes nothing is used after it: it fails, or becomes the command.
        unsafe { sys::vfork(START, || end_as(parent, become_command)) }
    };
    let started = close_files(parent).and_then(|()| start());
    end_with(parent, started.and_then(|command| confine().map(|()| command)))
}

const START: &str = "start the command as a child of init";

/// The child: becomes the command, or reports why not and ends.
fn end_as(parent: &Parent, become_command: impl FnOnce() -> Result<Infallible>) -> u8 {
    let Err(error) = become_command();
    let status = error.status;
    parent.report_failure(error);
    status
}

/// Init: goes on until the command ends, and ends with its status.
fn end_with(parent: &Parent, command: Result<Pid>) -> ! {
    let ended = command.and_then(|command| supervise(parent, command));
    // Nothing is returned to the caller, who would close files that are closed already.
    sys::exit(match ended {
        Ok(status) => status.code(),
        Err(error) => {
            let status = error.status;
            parent.report_failure(error);
            status
        }
    })
}
// ANCHOR_END: init-run

/// Runs an init for the lab, whose inhabitants may look at it: their /proc/1/exe is how they know it.
pub fn run_in_sight(parent: &Parent, become_command: impl FnOnce() -> Result<Infallible>) -> ! {
    let start = || {
        // SAFETY: init has one thread, as the child of a process with one.
        unsafe { sys::fork(START, || end_as(parent, become_command)) }
    };
    end_with(parent, close_files(parent).and_then(|()| start()))
}

// ANCHOR: init-files
/// Init never becomes another program, so nothing closes the host's files for it. Whoever gets into
/// /proc/1/fd must find none, not even in the command's first moment: one of the host's directories would be a
/// way out (CVE-2024-21626).
fn close_files(parent: &Parent) -> Result<()> {
    let report = parent.report_fd().as_raw_fd();
    sys::close_all_but("leave none of the host's open files in /proc/1/fd", &[report])
}
// ANCHOR_END: init-files

// ANCHOR: init-supervise
fn supervise(parent: &Parent, command: Pid) -> Result<Status> {
    // They have been blocked since before the container was made, so none was lost.
    let signals = block_signals()?;

    loop {
        let mut watched = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        match poll(&mut watched, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::call("wait for a signal", "poll()", errno)),
        }
        for signal in received(&signals)? {
            if signal.signal == Signal::SIGCHLD {
                if let Some(status) = reap(parent, command)? {
                    return Ok(status);
                }
            } else if !signal.from_terminal {
                // A key's signal has reached the command already: it is in the same process group.
                let _ = kill(command, signal.signal);
            }
        }
    }
}
// ANCHOR_END: init-supervise

// ANCHOR: init-reap
/// Waits for every child that has ended, its own or an orphan that it was given. One SIGCHLD may stand
/// for many of them: signals do not queue, so one wait for each signal would leave zombies.
fn reap(parent: &Parent, command: Pid) -> Result<Option<Status>> {
    let mut status = None;
    let how = WaitPidFlag::WEXITED | WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG;
    loop {
        match waitid(Id::All, how) {
            Ok(WaitStatus::Exited(pid, code)) if pid == command => status = Some(Status::Exited(code as u8)),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == command => {
                status = Some(Status::Killed(signal as i32))
            }
            Ok(WaitStatus::Stopped(pid, signal)) if pid == command && signal != Signal::SIGSTOP => {
                parent.report_stop()
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(status),
            Ok(_) => {}
            Err(errno) => {
                return Err(Error::call("wait for the container's processes", "waitid(P_ALL)", errno));
            }
        }
    }
}
// ANCHOR_END: init-reap

//! Chapter 1: a child that is watched over: it gets the signals that the runtime gets, and ends with it.

use std::fs::File;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus};
use nix::unistd::Pid;

use super::newborn::{Newborn, Status};
use super::signals::{ENDING, received};
use crate::container::console::{Console, Relay};
use crate::container::sys;
use crate::container::terminal::Terminal;
use crate::told::errors::{Error, Result};
use crate::told::explain;

/// The container's first process, as the runtime that supervises it sees it.
pub struct Child {
    newborn: Newborn,
    signals: SignalFd,
    terminal: Option<Terminal>,
    relay: Option<Relay>,
    reaped: bool,
}

impl Child {
    /// Begins to watch over a child. `signals` were blocked before it was born; `terminal` was handed on to it.
    pub(super) fn new(newborn: Newborn, signals: SignalFd, terminal: Option<Terminal>) -> Child {
        Child { newborn, signals, terminal, relay: None, reaped: false }
    }

    /// Chapter 10: begins to watch over a child that was born to outlive its maker. `signals` were blocked before it was born.
    pub fn watch(newborn: Newborn, signals: SignalFd) -> Child {
        let terminal = Terminal::if_ours();
        Child::new(newborn, signals, terminal)
    }

    /// The child's process id, as the host sees it.
    pub fn pid(&self) -> Pid {
        self.newborn.pid()
    }

    /// Opens a namespace of the child: see [`Newborn::namespace`].
    pub fn namespace(&mut self, kind: &str) -> Result<File> {
        self.newborn.namespace(kind)
    }

    /// The parent's half is done: the child may go on.
    pub fn release(mut self) -> Result<Child> {
        self.newborn.release();
        Ok(self)
    }

    /// Chapter 9: while it waits, it carries what is typed to the container's own terminal, and what comes from there back.
    pub fn relaying(mut self, console: Console) -> Child {
        self.relay = console.relay();
        self
    }

    /// Waits for the end. SIGTERM, SIGINT, SIGHUP and SIGQUIT to the runtime end the container immediately;
    /// a gentler way has to wait for chapter 7. Any other signal is passed on.
    pub fn wait(self) -> Result<Status> {
        self.wait_or_kill(|| Ok(()))
    }

    /// Waits as [`Child::wait`] does; before the container is killed, `thaw` makes sure that it can die
    /// (chapter 6: a frozen process does not).
    pub fn wait_or_kill(self, thaw: impl Fn() -> Result<()>) -> Result<Status> {
        self.supervise(None, thaw)
    }

    /// Waits for the end. The four signals are passed on like any other, and the container has `grace`
    /// to end by itself before it is killed (chapter 7).
    pub fn wait_or_stop(self, grace: Duration, thaw: impl Fn() -> Result<()>) -> Result<Status> {
        self.supervise(Some(grace), thaw)
    }

    // ANCHOR: child-supervise
    fn supervise(mut self, grace: Option<Duration>, thaw: impl Fn() -> Result<()>) -> Result<Status> {
        let mut deadline: Option<Instant> = None;
        let mut asked_to_end: Option<Signal> = None;
        let mut init_is_gone = false;
        loop {
            if self.until_event(deadline)? {
                for signal in received(&self.signals)? {
                    match (signal.signal, grace) {
                        (Signal::SIGCHLD, _) => {
                            if let Some(status) = self.reap()? {
                                self.relay.iter_mut().for_each(Relay::finish);
                                if let Some(failure) = self.newborn.failure() {
                                    return Err(failure);
                                }
                                let ended_by_us = asked_to_end.filter(|_| grace.is_none());
                                return Ok(match ended_by_us {
                                    Some(signal) => Status::Killed(signal as i32),
                                    None => status,
                                });
                            }
                        }
                        (ending, None) if ENDING.contains(&ending) => {
                            asked_to_end = Some(ending);
                            thaw()?;
                            self.kill(Signal::SIGKILL)?;
                        }
                        (Signal::SIGWINCH, _) if self.relay.is_some() => self.resize(),
                        // The terminal has sent it to everyone in the foreground, the command too.
                        (_, _) if signal.from_terminal && self.relay.is_none() => {}
                        (ending, Some(grace)) if ENDING.contains(&ending) => {
                            deadline.get_or_insert(Instant::now() + grace);
                            thaw()?;
                            self.kill(ending)?;
                        }
                        (other, _) => self.kill(other)?,
                    }
                }
            } else {
                deadline = None;
                explain::remark("it did not end in time");
                thaw()?;
                self.kill(Signal::SIGKILL)?;
            }
            // An init keeps its end of the pipe as long as it lives. When it ends, the kernel kills the rest
            // of its PID namespace and waits for them all: for a frozen one it would wait for ever.
            if !init_is_gone && self.newborn.report_closed() {
                init_is_gone = true;
                thaw()?;
            }
        }
    }
    // ANCHOR_END: child-supervise

    /// Waits for a signal or a report. False when `deadline` came first.
    fn until_event(&mut self, deadline: Option<Instant>) -> Result<bool> {
        let timeout = match deadline {
            // Rounded up, so as not to spin in the last millisecond.
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
            }
            None => PollTimeout::NONE,
        };
        let mut watched = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        if !self.newborn.report_closed() {
            watched.push(PollFd::new(self.newborn.reports(), PollFlags::POLLIN));
        }
        let before_relay = watched.len();
        if let Some(relay) = &self.relay {
            watched.extend(relay.watched());
        }
        let ready = match poll(&mut watched, timeout) {
            Ok(count) => count > 0,
            Err(Errno::EINTR) => true,
            Err(errno) => return Err(Error::call("wait for the container", "poll()", errno)),
        };
        let has_come = |fd: &PollFd| fd.revents().is_some_and(|events| !events.is_empty());
        let of_relay = &watched[before_relay..];
        // The second of them is stdin.
        let (come, typed) = (of_relay.iter().any(has_come), of_relay.get(1).is_some_and(has_come));
        if let Some(relay) = self.relay.as_mut().filter(|_| come) {
            relay.carry(typed)?;
        }
        if self.newborn.was_stopped() {
            // A terminal that is gone is no reason to give up the container.
            let _ = self.suspend();
        }
        Ok(ready || deadline.is_none_or(|deadline| Instant::now() < deadline))
    }

    // ANCHOR: reap
    /// The child's status, once it has ended.
    fn reap(&mut self) -> Result<Option<Status>> {
        loop {
            let how = WaitPidFlag::WEXITED | WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG;
            let seen = nix::sys::wait::waitid(Id::Pid(self.pid()), how)
                .map_err(|errno| Error::call("wait for the container", "waitid()", errno))?;
            return Ok(match seen {
                WaitStatus::Exited(_, code) => {
                    self.reaped = true;
                    Some(Status::Exited(code as u8))
                }
                WaitStatus::Signaled(_, signal, _) => {
                    self.reaped = true;
                    Some(Status::Killed(signal as i32))
                }
                WaitStatus::Stopped(_, signal) => {
                    if signal != Signal::SIGSTOP {
                        self.suspend()?;
                    }
                    continue;
                }
                _ => None,
            });
        }
    }
    // ANCHOR_END: reap

    /// The command was stopped with ctrl-Z: so is the runtime, until the shell outside continues it.
    fn suspend(&mut self) -> Result<()> {
        match &self.terminal {
            Some(terminal) => terminal.suspend(self.pid()),
            None => Ok(()),
        }
    }

    fn resize(&self) {
        self.relay.iter().for_each(Relay::resize);
    }

    fn kill(&self, signal: Signal) -> Result<()> {
        match sys::kill("pass the signal on", self.pid(), signal) {
            Err(error) if error.errno() != Some(Errno::ESRCH) => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for Child {
    /// Whatever made the runtime give up, no container goes on without it.
    fn drop(&mut self) {
        if !self.reaped {
            let _ = nix::sys::signal::kill(self.pid(), Signal::SIGKILL);
            let _ = nix::sys::wait::waitpid(self.pid(), None);
        }
        if let Some(terminal) = &self.terminal {
            terminal.give_back();
        }
    }
}

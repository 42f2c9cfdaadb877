//! Chapter 1: what a maker holds of the child it has made: its number, and the ends of two pipes.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::told::errors::{Error, Result};

// ANCHOR: status
/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It returned this status.
    Exited(u8),
    /// This signal killed it.
    Killed(i32),
}

impl Status {
    /// The status that the runtime exits with: a shell's and Docker's convention, 128+N for signal N.
    pub fn code(self) -> u8 {
        match self {
            Status::Exited(code) => code,
            Status::Killed(signal) => 128 + signal as u8,
        }
    }
}
// ANCHOR_END: status

/// What the container's first process tells the runtime while it still is a part of the runtime.
#[derive(Serialize, Deserialize)]
pub(super) enum Report {
    /// A step failed.
    Failed(Error),
    /// The command was stopped from the terminal (chapter 7: only init sees that).
    Stopped,
    /// Another process goes on in its place (chapter 10).
    Successor(i32),
    /// It waits for something that only its maker can do (chapter 10).
    Arrived,
}

/// A child that was just born.
///
/// Nothing happens to it when this value goes: it may outlive its maker. Only one that was never released
/// gives up then, because nobody is left to release it. Who wants to watch over it makes a
/// [`Child`](super::Child) of it.
pub struct Newborn {
    pid: Pid,
    ready: File,
    report: File,
    unread: Vec<u8>,
    failure: Option<Error>,
    stopped: bool,
    arrived: usize,
}

impl Newborn {
    /// The child `pid`, and the maker's ends of the two pipes.
    pub(super) fn new(pid: Pid, ready: OwnedFd, report: OwnedFd) -> Result<Newborn> {
        nix::fcntl::fcntl(&report, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
            .map_err(|errno| Error::call("connect parent and child", "fcntl(F_SETFL, O_NONBLOCK)", errno))?;
        let (ready, report) = (File::from(ready), File::from(report));
        Ok(Newborn { pid, ready, report, unread: Vec::new(), failure: None, stopped: false, arrived: 0 })
    }

    /// The child's process id, as the host sees it.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Opens a namespace of the child: "net", "user", ... An open namespace lives on, whatever
    /// becomes of the child.
    pub fn namespace(&mut self, kind: &str) -> Result<File> {
        let path = format!("/proc/{}/ns/{kind}", self.pid);
        File::open(&path).map_err(|error| {
            // The usual reason is that the child failed, and its reason is the better one.
            self.read_reports();
            let failure = self.failure.take();
            failure.unwrap_or_else(|| Error::io("look at the child's namespaces", &path, &error))
        })
    }

    /// This side has done its part: the child may go on from where it waits for that. A child that waits at
    /// several places is released several times.
    pub fn release(&mut self) {
        // If the child is dead already, its status will say why. The pipe stays open: its end would tell the
        // child that the runtime is dead.
        let _ = self.ready.write_all(b"!");
    }

    /// The step that failed, if the child has reported one.
    pub fn failure(&mut self) -> Option<Error> {
        self.read_reports();
        self.failure.take()
    }

    /// Chapter 10: waits until the child has reported its arrival; or its failure, or until it is gone.
    pub fn until_arrival(&mut self) -> Result<()> {
        self.until(|newborn| newborn.arrived > 0)?;
        if self.arrived > 0 {
            self.arrived -= 1;
            return Ok(());
        }
        Err(Error::new("make the container", "its first process is gone without a word"))
    }

    /// Chapter 10: waits until the child has become its command, or has failed.
    pub fn until_command(&mut self) -> Result<()> {
        self.until(|_| false)
    }

    /// Reads reports until it is so, or until there is nobody left who could report.
    fn until(&mut self, is_so: impl Fn(&Newborn) -> bool) -> Result<()> {
        loop {
            let closed = self.report_closed();
            self.read_reports();
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
            if closed || is_so(self) {
                return Ok(());
            }
            let mut watched = [PollFd::new(self.report.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut watched, PollTimeout::NONE);
        }
    }

    /// Has the child reported since the last call that its command was stopped?
    pub(super) fn was_stopped(&mut self) -> bool {
        self.read_reports();
        std::mem::take(&mut self.stopped)
    }

    /// The descriptor that reports come through.
    pub(super) fn reports(&self) -> BorrowedFd<'_> {
        self.report.as_fd()
    }

    /// Has every process that could report closed its end? Then the command is running, or it has ended.
    pub fn report_closed(&self) -> bool {
        let mut watched = [PollFd::new(self.report.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut watched, PollTimeout::ZERO);
        let events = watched[0].revents().unwrap_or(PollFlags::empty());
        events.contains(PollFlags::POLLHUP) && !events.contains(PollFlags::POLLIN)
    }

    /// Takes in what the child has reported so far.
    fn read_reports(&mut self) {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = self.report.read(&mut buffer) {
            self.unread.extend_from_slice(&buffer[..count]);
        }
        while let Some(end) = self.unread.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.unread.drain(..=end).collect();
            match serde_json::from_slice(&line) {
                Ok(Report::Failed(error)) => self.failure = Some(error),
                Ok(Report::Stopped) => self.stopped = true,
                Ok(Report::Successor(pid)) => {
                    // The first one has nothing left to do but to end.
                    let _ = nix::sys::wait::waitpid(self.pid, None);
                    self.pid = Pid::from_raw(pid);
                }
                Ok(Report::Arrived) => self.arrived += 1,
                // Nothing else is ever written to that pipe.
                Err(_) => {}
            }
        }
    }
}

//! Chapter 1: processes. How the container's first process is born, becomes the command, and ends.
//!
//! The runtime makes one child with clone(2). The child makes itself a container, step by step, and at
//! last becomes the command with execve(2). Two pipes connect the two halves: on one the child waits
//! until its parent has done what only the parent can do; on the other it reports the step that failed.
//! Both are closed by execve(2).

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::sys::{self, CloneFlags};
use super::terminal::Terminal;
use crate::told::errors::{self, Error, Result};
use crate::told::explain;

/// Where a command is looked for, inside. Docker's default.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

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
enum Report {
    /// A step failed.
    Failed(Error),
    /// The command was stopped from the terminal (chapter 7: only init sees that).
    Stopped,
}

/// The child's end of the two pipes.
pub struct Parent {
    ready: File,
    report: File,
    in_cgroup: bool,
}

impl Parent {
    /// Was this process born in the container's cgroup (chapter 6)?
    pub fn has_placed_us(&self) -> bool {
        self.in_cgroup
    }

    /// Waits until the parent has done its half and released the child.
    pub fn wait(&self) -> Result<()> {
        let mut byte = [0];
        match (&self.ready).read(&mut byte) {
            Ok(1) => Ok(()),
            // The parent closed the pipe without a word: it gave up, or it is dead.
            _ => Err(Error::new("go on", "the runtime gave up")),
        }
    }

    /// Tells the runtime that the command was stopped.
    pub(super) fn report_stop(&self) {
        self.send(&Report::Stopped);
    }

    /// The descriptor that the report goes through.
    pub(super) fn report_fd(&self) -> BorrowedFd<'_> {
        self.report.as_fd()
    }

    /// Reports a failed step. The runtime prints it and ends with its status.
    pub(super) fn report_failure(&self, error: Error) {
        self.send(&Report::Failed(error));
    }

    fn send(&self, report: &Report) {
        if let Ok(mut line) = serde_json::to_vec(report) {
            line.push(b'\n');
            // When nobody listens any more there is nobody to tell.
            let _ = (&self.report).write_all(&line);
        }
    }
}

/// The container's first process, seen from the runtime.
pub struct Child {
    pid: Pid,
    ready: File,
    report: File,
    unread: Vec<u8>,
    failure: Option<Error>,
    signals: SignalFd,
    terminal: Option<Terminal>,
    reaped: bool,
}

// ANCHOR: spawn
/// Makes a child in new namespaces. `half` is the child's half of the story: it ends by becoming the
/// command, so it returns only an error.
///
/// Signals are blocked before the child is made and stay so until its command starts: none that comes
/// in between is lost. The child dies with this process, even if that is killed by SIGKILL.
pub fn spawn(new: CloneFlags, half: impl FnOnce(&Parent) -> Result<Infallible>) -> Result<Child> {
    spawn_into(None, new, half)
}

/// The same, with the directory of a cgroup for the child to be born in (chapter 6), where there is one.
pub fn spawn_into(
    cgroup: Option<OwnedFd>,
    new: CloneFlags,
    half: impl FnOnce(&Parent) -> Result<Infallible>,
) -> Result<Child> {
    require_one_thread()?;
    let signals = block_signals()?;
    let pipe = || {
        nix::unistd::pipe2(OFlag::O_CLOEXEC)
            .map_err(|errno| Error::call("connect parent and child", "pipe2(O_CLOEXEC)", errno))
    };
    let (ready_read, ready_write) = pipe()?;
    let (report_read, report_write) = pipe()?;
    // Without narration nobody waits here; with it, the parent's line comes before the child's first.
    let narrated = explain::enabled().then(pipe).transpose()?;
    let terminal = Terminal::if_ours();

    // SAFETY: this process has one thread, as was just seen.
    let (born, in_cgroup) = unsafe { make_child(cgroup, new)? };
    let Some(pid) = born else {
        explain::we_are_inside();
        drop((ready_write, report_read, signals));
        let parent = Parent { ready: File::from(ready_read), report: File::from(report_write), in_cgroup };
        if let Some((read, write)) = narrated {
            drop(write);
            let _ = File::from(read).read(&mut [0]);
        }
        let Err(error) = child_half(&parent, terminal.is_some(), half);
        parent.report_failure(error);
        // Not exit(): what was registered to run at exit belongs to the parent.
        // SAFETY: _exit(2) has no precondition.
        unsafe { libc::_exit(1) }
    };
    drop(narrated);
    set_nonblocking(&report_read)?;
    Ok(Child {
        pid,
        ready: File::from(ready_write),
        report: File::from(report_read),
        unread: Vec::new(),
        failure: None,
        signals,
        terminal,
        reaped: false,
    })
}
// ANCHOR_END: spawn

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

// ANCHOR: child-half
fn child_half(
    parent: &Parent,
    terminal: bool,
    half: impl FnOnce(&Parent) -> Result<Infallible>,
) -> Result<Infallible> {
    // It holds through execve(2), but not when the command changes its user (su, a setuid program): then
    // the kernel forgets it. Chapter 7's init does not change its user, and closes that gap.
    sys::set_parent_death_signal("die when the runtime dies, even by SIGKILL", Signal::SIGKILL)?;
    // Had the runtime died just before, no signal would come: the pipe tells.
    if hung_up(parent.ready.as_fd()) {
        return Err(Error::new("go on", "the runtime is gone"));
    }
    if terminal {
        Terminal::take()?;
    }
    half(parent)
}
// ANCHOR_END: child-half

impl Child {
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

    /// The parent's half is done: the child may go on.
    pub fn release(mut self) -> Result<Child> {
        // If the child is dead already, wait() will say why. The pipe stays open: its end would tell the
        // child that the runtime is dead.
        let _ = self.ready.write_all(b"!");
        Ok(self)
    }

    /// Waits for the end. SIGTERM, SIGINT, SIGHUP and SIGQUIT to the runtime end the container at once;
    /// a gentler way has to wait for chapter 7. Any other signal is passed on.
    pub fn wait(self) -> Result<Status> {
        self.wait_or_kill(|| Ok(()))
    }

    /// The same; before the container is killed, `thaw` makes sure that it can die (chapter 6: a frozen
    /// process does not).
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
                for signal in self.pending_signals()? {
                    match (signal.signal, grace) {
                        (Signal::SIGCHLD, _) => {
                            if let Some(status) = self.reap()? {
                                self.read_reports();
                                if let Some(failure) = self.failure.take() {
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
                        // The terminal has sent it to everyone in the foreground, the command too.
                        (_, _) if signal.from_terminal => {}
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
            if !init_is_gone && self.report_closed() {
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
        if self.report.as_raw_fd() >= 0 && !self.report_closed() {
            watched.push(PollFd::new(self.report.as_fd(), PollFlags::POLLIN));
        }
        let ready = match poll(&mut watched, timeout) {
            Ok(count) => count > 0,
            Err(Errno::EINTR) => true,
            Err(errno) => return Err(Error::call("wait for the container", "poll()", errno)),
        };
        self.read_reports();
        Ok(ready || deadline.is_none_or(|deadline| Instant::now() < deadline))
    }

    fn report_closed(&self) -> bool {
        let mut watched = [PollFd::new(self.report.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut watched, PollTimeout::ZERO);
        let events = watched[0].revents().unwrap_or(PollFlags::empty());
        events.contains(PollFlags::POLLHUP) && !events.contains(PollFlags::POLLIN)
    }

    fn pending_signals(&mut self) -> Result<Vec<Received>> {
        received(&self.signals)
    }

    // ANCHOR: reap
    /// The child's status, once it has ended.
    fn reap(&mut self) -> Result<Option<Status>> {
        loop {
            let how = WaitPidFlag::WEXITED | WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG;
            let seen = nix::sys::wait::waitid(Id::Pid(self.pid), how)
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
            Some(terminal) => terminal.suspend(self.pid),
            None => Ok(()),
        }
    }

    fn kill(&self, signal: Signal) -> Result<()> {
        match sys::kill("pass the signal on", self.pid, signal) {
            Err(error) if error.errno() != Some(Errno::ESRCH) => Err(error),
            _ => Ok(()),
        }
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
                Ok(Report::Stopped) => {
                    let _ = self.suspend();
                }
                // Nothing else is ever written to that pipe.
                Err(_) => {}
            }
        }
    }
}

impl Drop for Child {
    /// Whatever made the runtime give up, no container goes on without it.
    fn drop(&mut self) {
        if !self.reaped {
            let _ = nix::sys::signal::kill(self.pid, Signal::SIGKILL);
            let _ = nix::sys::wait::waitpid(self.pid, None);
        }
        if let Some(terminal) = &self.terminal {
            terminal.give_back();
        }
    }
}

// ANCHOR: exec
/// Becomes the command: the last step of the child's half.
///
/// The command gets a clean environment, no descriptor above 2, and default signal handling. It is
/// looked for in [`PATH`] unless its name has a slash. Exit status 127 if it is not found, 126 if it
/// cannot be executed.
pub fn exec(command: &[OsString]) -> Result<Infallible> {
    let name = command.first().map_or("/bin/sh".into(), |name| name.to_string_lossy().into_owned());
    let arguments = arguments(&name, command)?;
    let environment = environment()?;

    sys::close_range("leave no open file of the host's to the command", 3, u32::MAX, true)?;
    default_signals()?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));

    let mut refused = None;
    for candidate in candidates(&arguments[0])? {
        let error = sys::execve("become the command", &candidate, &arguments, &environment);
        match error.errno() {
            Some(Errno::ENOENT | Errno::ENOTDIR) if !exists(&candidate) => {}
            _ => refused = refused.or(Some(error)),
        }
    }
    Err(match refused {
        Some(error) => cannot_execute(error, &name),
        None => Error::new(format!("run {name:?}"), "there is no such program in the root filesystem")
            .remedy(format!("its programs are in {PATH}; `ls /bin` inside shows them"))
            .status(errors::NOT_FOUND),
    })
}
// ANCHOR_END: exec

/// The command and its arguments, as execve(2) wants them.
fn arguments(name: &str, command: &[OsString]) -> Result<Vec<CString>> {
    let mut arguments = Vec::new();
    for argument in command {
        arguments.push(CString::new(argument.as_bytes()).map_err(|_| {
            Error::new(format!("run {name:?}"), "an argument contains a zero byte").status(2)
        })?);
    }
    if arguments.is_empty() {
        arguments.push(c"/bin/sh".to_owned());
    }
    if arguments[0].is_empty() {
        return Err(Error::new("run the command", "its name is empty").status(errors::NOT_FOUND));
    }
    Ok(arguments)
}

// ANCHOR: environment
/// The command's environment. It begins with nothing: what the host has in its own may be a secret.
fn environment() -> Result<[CString; 4]> {
    let variable = |text: Vec<u8>| {
        CString::new(text).map_err(|_| Error::new("set the environment", "a value contains a zero byte"))
    };
    let terminal = std::env::var_os("TERM").unwrap_or_else(|| "dumb".into());
    Ok([
        variable(format!("PATH={PATH}").into_bytes())?,
        c"HOME=/root".to_owned(),
        variable([b"TERM=", terminal.as_bytes()].concat())?,
        c"container=cooperage".to_owned(),
    ])
}
// ANCHOR_END: environment

/// Where the program may be: at the path that was given, or in a directory of [`PATH`].
fn candidates(program: &CString) -> Result<Vec<CString>> {
    if program.to_bytes().contains(&b'/') {
        return Ok(vec![program.clone()]);
    }
    let in_directory = |directory: &str| {
        let path = [directory.as_bytes(), b"/", program.to_bytes()].concat();
        CString::new(path).map_err(|_| Error::new("look for the command", "its name contains a zero byte"))
    };
    let all = PATH.split(':').map(in_directory).collect::<Result<Vec<_>>>()?;
    // Looked at first, so that the narration shows no call that was bound to fail.
    Ok(all.into_iter().filter(exists).collect())
}

fn exists(program: &CString) -> bool {
    Path::new(std::ffi::OsStr::from_bytes(program.to_bytes())).exists()
}

fn cannot_execute(error: Error, name: &str) -> Error {
    let remedy = match error.errno() {
        Some(Errno::EACCES) => format!("{name} is a directory, or is not executable: chmod +x it"),
        Some(Errno::ENOEXEC) => {
            format!("{name} is no program for this machine: a script needs a first line such as #!/bin/sh")
        }
        Some(Errno::ENOENT) => format!(
            "{name} is there, but the interpreter or dynamic loader that it names is not in the root filesystem"
        ),
        _ => return error.status(errors::CANNOT_EXECUTE),
    };
    error.remedy(remedy).status(errors::CANNOT_EXECUTE)
}

/// The signals that ask a program to end.
const ENDING: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT];

/// A signal that arrived.
pub(super) struct Received {
    pub signal: Signal,
    /// The kernel sent it because of a key such as ctrl-C, to every process in the foreground.
    pub from_terminal: bool,
}

// ANCHOR: received
/// The signals that have arrived since the last call.
pub(super) fn received(signals: &SignalFd) -> Result<Vec<Received>> {
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
pub(super) fn block_signals() -> Result<SignalFd> {
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

fn require_one_thread() -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    // Each thread is a directory there, and a directory has a link for each directory in it besides two of
    // its own: one look tells how many there are.
    let threads = std::fs::metadata("/proc/self/task").map_or(1, |found| found.nlink().saturating_sub(2));
    if threads == 1 {
        return Ok(());
    }
    Err(Error::new("make a child", format!("the runtime has {threads} threads and must have one")))
}

fn hung_up(pipe: BorrowedFd) -> bool {
    let mut watched = [PollFd::new(pipe, PollFlags::POLLIN)];
    let _ = poll(&mut watched, PollTimeout::ZERO);
    watched[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP))
}

fn set_nonblocking(pipe: &OwnedFd) -> Result<()> {
    nix::fcntl::fcntl(pipe, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
        .map(drop)
        .map_err(|errno| Error::call("connect parent and child", "fcntl(F_SETFL, O_NONBLOCK)", errno))
}

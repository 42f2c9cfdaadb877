//! A run of the submission, from its start to its end, and within its bounds.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, ChildStdin, Command};
use std::rc::Rc;
use std::time::{Duration, Instant};

use cooperage::container::mountinfo::Mounted;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::host::{Host, descendants};
use super::verdict::{Failure, OUTPUT, Run, TIME, cannot, code, shorten};

/// A container that is running: its command waits to be told to end.
pub struct Session {
    child: Child,
    stdin: Option<ChildStdin>,
    out: Stream,
    err: Stream,
    pub(super) kept: Vec<String>,
    shown: String,
    mounts: Vec<Mounted>,
    host: Rc<Host>,
    status: Option<i32>,
}

struct Stream {
    from: OwnedFd,
    bytes: Vec<u8>,
    open: bool,
    taken: usize,
}

impl Stream {
    fn new(from: OwnedFd) -> Stream {
        let _ = fcntl(from.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
        Stream { from, bytes: Vec::new(), open: true, taken: 0 }
    }

    /// Takes what is there.
    fn pump(&mut self) {
        let mut buffer = [0; 16 * 1024];
        while self.open && self.bytes.len() <= OUTPUT {
            match nix::unistd::read(&self.from, &mut buffer) {
                Ok(0) => self.open = false,
                Ok(count) => self.bytes.extend_from_slice(&buffer[..count]),
                Err(nix::errno::Errno::EAGAIN) => return,
                Err(nix::errno::Errno::EINTR) => {}
                Err(_) => self.open = false,
            }
        }
    }

    fn rest(&self) -> String {
        String::from_utf8_lossy(self.bytes.get(self.taken..).unwrap_or_default()).into_owned()
    }

    fn all(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

impl Session {
    pub(super) fn spawn(mut command: Command, shown: String, host: &Rc<Host>) -> Result<Session, Failure> {
        (host.announce.borrow())(&shown);
        let mounts = host.mounts();
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                return Err(Failure::new(
                    shown,
                    "a program that can be started",
                    error.to_string(),
                    "is it an executable file, and does the interpreter of its first line exist?",
                ));
            }
        };
        let stdin = child.stdin.take();
        let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
            cannot("read what the program prints", "no pipe")
        };
        Ok(Session {
            child,
            stdin,
            out: Stream::new(out.into()),
            err: Stream::new(err.into()),
            kept: Vec::new(),
            shown,
            mounts,
            host: Rc::clone(host),
            status: None,
        })
    }

    /// The program itself: the container's runtime, by the host's number.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// All processes that descend from it, by the host's numbers, in order of their depth.
    pub fn descendants(&self) -> Vec<i32> {
        descendants(self.pid())
    }

    /// The process that runs the container's shell: the deepest descendant of the program when the script
    /// waits. With an init it is the child of the container's process 1.
    pub fn deepest(&self) -> Option<i32> {
        self.descendants().last().copied()
    }

    /// The command line as it is shown to the student.
    pub fn command(&self) -> &str {
        &self.shown
    }

    /// The next line that its script printed; empty if it ended or said nothing within 10 s.
    pub fn line(&mut self) -> String {
        if !self.kept.is_empty() {
            return self.kept.remove(0);
        }
        self.try_line(TIME).unwrap_or_default()
    }

    /// Writes a line to the command's stdin.
    pub fn tell(&mut self, line: &str) {
        if let Some(stdin) = &mut self.stdin {
            let _ = stdin.write_all(format!("{line}\n").as_bytes());
        }
    }

    /// Sends the program a signal and does not wait.
    pub fn send(&self, signal: Signal) {
        if self.status.is_none() {
            let _ = kill(Pid::from_raw(self.pid()), signal);
        }
    }

    /// Lets the command end, and waits for the program's end.
    pub fn end(mut self) -> Result<Run, Failure> {
        self.tell("");
        self.finish()
    }

    /// Sends the program a signal and waits for its end.
    pub fn signal(self, signal: Signal) -> Result<Run, Failure> {
        self.send(signal);
        self.finish()
    }

    /// Waits for its end.
    pub fn wait(self) -> Result<Run, Failure> {
        self.finish()
    }

    /// A failure that says what was run.
    pub fn fail(
        &self,
        expected: impl Into<String>,
        saw: impl Into<String>,
        lesson: impl Into<String>,
    ) -> Failure {
        Failure::new(&self.shown, expected, saw, lesson)
    }

    /// Has the program ended?
    pub fn ended(&mut self) -> bool {
        if self.status.is_none()
            && let Ok(Some(status)) = self.child.try_wait()
        {
            self.status = Some(code(status));
        }
        self.status.is_some()
    }

    fn finish(mut self) -> Result<Run, Failure> {
        let mut run = self.collect(TIME)?;
        run.out = session_out(&self.kept, &run.out);
        Ok(run)
    }

    pub(super) fn try_line(&mut self, patience: Duration) -> Option<String> {
        let start = Instant::now();
        loop {
            let rest = self.out.bytes.get(self.out.taken..).unwrap_or_default();
            if let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
                let line = String::from_utf8_lossy(&rest[..end]).into_owned();
                self.out.taken += end + 1;
                return Some(line);
            }
            let over = start.elapsed() >= patience;
            if over || !self.out.open || self.out.bytes.len() > OUTPUT {
                return None;
            }
            if self.ended() {
                // Whatever else holds the pipe open is not waited for.
                self.out.pump();
                let rest = self.out.bytes.get(self.out.taken..).unwrap_or_default();
                if !rest.contains(&b'\n') {
                    return None;
                }
                continue;
            }
            self.pump(Duration::from_millis(20));
        }
    }

    /// Waits a little for output, and takes it.
    fn pump(&mut self, patience: Duration) {
        let streams: [BorrowedFd; 2] = [self.out.from.as_fd(), self.err.from.as_fd()];
        let mut wanted = Vec::new();
        for (stream, open) in streams.iter().zip([self.out.open, self.err.open]) {
            if open {
                wanted.push(PollFd::new(*stream, PollFlags::POLLIN));
            }
        }
        let patience = PollTimeout::try_from(patience).unwrap_or(PollTimeout::ZERO);
        if wanted.is_empty() {
            std::thread::sleep(Duration::from_millis(2));
        } else {
            let _ = poll(&mut wanted, patience);
        }
        self.out.pump();
        self.err.pump();
    }

    /// Reads to the end of the program, within bounds.
    pub(super) fn collect(&mut self, patience: Duration) -> Result<Run, Failure> {
        let start = Instant::now();
        let mut ended_at: Option<Instant> = None;
        let mut bound = None;
        loop {
            self.pump(Duration::from_millis(5));
            if self.out.bytes.len() > OUTPUT || self.err.bytes.len() > OUTPUT {
                bound = Some("output");
                break;
            }
            if self.ended() {
                // A process that it left behind may hold its pipes open.
                let at = *ended_at.get_or_insert_with(Instant::now);
                if (!self.out.open && !self.err.open) || at.elapsed() > Duration::from_millis(300) {
                    break;
                }
            } else if start.elapsed() >= patience {
                bound = Some("time");
                break;
            }
        }
        if let Some(id) = todo_in(&self.err.all()) {
            self.host.todo.borrow_mut().get_or_insert(id);
        }
        let alive = 1 + self.descendants().len();
        let damage = self.host.damage(&self.mounts);
        if bound.is_some() {
            self.host.kill_all();
            if let Ok(status) = self.child.wait() {
                self.status = Some(code(status));
            }
        }
        let seconds = TIME.as_secs();
        let text = shorten(&self.err.all());
        let also = if text.is_empty() { String::new() } else { format!("; stderr: {text}") };
        match (damage, bound) {
            (Some((saw, lesson)), _) => {
                Err(self.fail("a program that leaves its host as it was", saw, lesson))
            }
            (_, Some("output")) => {
                let expected = format!("at most {} KiB of output", OUTPUT / 1024);
                let seconds = start.elapsed().as_secs_f64();
                let begins: String = shorten(&self.out.all()).chars().take(60).collect();
                let saw = format!("more than that within {seconds:.1} s: {begins}");
                Err(self.fail(expected, saw, "a loop that prints has no end"))
            }
            (_, Some(_)) => {
                let saw = format!("it was still running, with {alive} processes{also}");
                let lesson = "it waits for something that never comes: a pipe whose other end is open in \
                              another process, a child that is not its own, a signal that is blocked";
                Err(self.fail(format!("the program ends within {seconds} s"), saw, lesson))
            }
            (None, None) if self.host.todo.borrow().is_some() => {
                Err(self.fail("the task is done", format!("not yet implemented{also}"), "not started"))
            }
            (None, None) => Ok(Run {
                status: self.status.unwrap_or(-1),
                out: self.out.rest(),
                err: self.err.all(),
                command: self.shown.clone(),
            }),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.ended() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The task whose `todo!()` was reached, by what a panic prints.
fn todo_in(text: &str) -> Option<String> {
    let after = text.split("not yet implemented: task ").nth(1)?;
    let id: String = after.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    (!id.is_empty()).then(|| id.trim_end_matches('.').to_string())
}

pub(super) fn session_out(kept: &[String], rest: &str) -> String {
    let mut out: String = kept.iter().map(|line| format!("{line}\n")).collect();
    out.push_str(rest);
    out
}

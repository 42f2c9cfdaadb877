//! Chapter 9: a terminal of its own.
//!
//! A command that shares the terminal of whoever started it can do to that terminal what its owner can: read what is typed
//! there next, or push characters into it as if they had been typed (ioctl_tty(2), TIOCSTI), and the shell outside runs them
//! when the container has ended. So with `--tty` the container gets a pseudoterminal, a pair of ends: the command
//! has one and takes it for a terminal, the runtime has the other, and carries what comes from either side to the other.
//! See pty(7).
//!
//! The pair is made inside, in the container's own devpts: there its name means something, /dev/pts/0. The
//! runtime's end comes out through a socket. Nothing is found by a name that the root filesystem has a say in (that was
//! CVE-2025-52565).

use std::fs::File;
use std::io::{IoSliceMut, IsTerminal, Read, Write, stdin, stdout};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, recvmsg, socketpair,
};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, getpgrp, tcgetpgrp};

use super::root::NewRoot;
use super::sys;
use super::user::person::User;
use crate::told::errors::{Error, Result};

/// The terminal that a container is to have, if it is to have its own.
pub struct Console(Option<Ends>);

/// A pair of sockets that the runtime's end of the terminal comes out through.
struct Ends {
    outside: Option<OwnedFd>,
    inside: OwnedFd,
}

impl Console {
    /// It uses the files that the runtime has.
    pub fn shared() -> Console {
        Console(None)
    }

    // ANCHOR: console-new
    /// The runtime's half, before the child is made.
    pub fn new() -> Result<Console> {
        if !stdin().is_terminal() {
            return Err(Error::new("give the command a terminal", "stdin is none")
                .remedy("leave out --tty where nobody types"));
        }
        // A job in the background may not change the terminal. It waits until it is in the foreground, as if it had read.
        while tcgetpgrp(stdin()).is_ok_and(|foreground| foreground != getpgrp()) {
            kill(Pid::from_raw(0), Signal::SIGTTIN)
                .map_err(|errno| Error::call("wait for the terminal", "kill(0, SIGTTIN)", errno))?;
        }
        let (outside, inside) =
            socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)
                .map_err(|errno| Error::call("have a way out for the terminal", "socketpair()", errno))?;
        Ok(Console(Some(Ends { outside: Some(outside), inside })))
    }
    // ANCHOR_END: console-new

    /// Chapter 10: somebody else takes the runtime's end of the terminal, and listens at this socket for it.
    pub fn for_other(socket: OwnedFd) -> Console {
        Console(Some(Ends { outside: None, inside: socket }))
    }

    /// Is it one of the container's own?
    pub fn is_own(&self) -> bool {
        self.0.is_some()
    }

    // ANCHOR: console-open
    /// The child's half: makes the pair, sends the runtime its end, and lives on the other from here on.
    pub fn open(&self, root: &NewRoot, user: Option<&User>) -> Result<()> {
        self.open_as(root, user, true)
    }

    fn open_as(&self, root: &NewRoot, user: Option<&User>, as_console: bool) -> Result<()> {
        let Some(Ends { inside, .. }) = &self.0 else { return Ok(()) };
        let dev = root.directory("dev")?;
        let how = OFlag::O_RDWR | OFlag::O_NOCTTY;
        let ours = sys::open_beneath("make a terminal", dev.as_fd(), Path::new("pts/ptmx"), how)?;
        let theirs = sys::open_peer("open its other end, and not by a name", ours.as_fd())?;
        if let Some(user) = user {
            let (fd, uid) = (theirs.as_raw_fd(), user.uid);
            nix::unistd::fchown(&theirs, Some(uid), None).map_err(|errno| {
                Error::call("let the terminal belong to its user", format!("fchown({fd}, {uid})"), errno)
            })?;
        }
        // What programs take for the machine's own terminal, where they write when nothing else is left.
        if as_console {
            let tree = sys::open_tree("have it as /dev/console too", theirs.as_fd(), Path::new(""), false)?;
            sys::move_mount("put it there", tree.as_fd(), dev.make_file("console")?.as_fd())?;
        }

        sys::send_descriptor("hand the runtime its end", inside.as_fd(), ours.as_fd())?;
        sys::setsid("begin a session of its own: nobody outside is in it")?;
        sys::take_terminal("take the terminal, whose keys then come here", theirs.as_fd())?;
        // The host's terminal goes: init would have kept it, and /proc/1/fd/0 led there.
        let replaced =
            dup2_stdin(&theirs).and_then(|()| dup2_stdout(&theirs)).and_then(|()| dup2_stderr(&theirs));
        replaced.map_err(|errno| Error::call("use the terminal", "dup2()", errno))
    }
    // ANCHOR_END: console-open

    /// Chapter 10: the half of a process that joins a container, whose /dev/console is another's already.
    pub fn open_again(&self, root: &NewRoot, user: Option<&User>) -> Result<()> {
        self.open_as(root, user, false)
    }

    /// The runtime's half, once the child has been made: its end is about to come.
    pub(super) fn relay(self) -> Option<Relay> {
        // The child's end is the child's alone from here on: when the child dies, the socket ends.
        let outside = self.0.and_then(|ends| ends.outside)?;
        Some(Relay { way: Way::Expected(outside), typed: Vec::new(), typing: true, was: None })
    }
}

/// The runtime between two terminals.
pub(super) struct Relay {
    way: Way,
    /// Read outside, and not yet written inside: a program may be slow to read.
    typed: Vec<u8>,
    /// Is there anybody who types?
    typing: bool,
    was: Option<Termios>,
}

enum Way {
    Expected(OwnedFd),
    Open(File),
    Closed,
}

impl Relay {
    /// What to wait for.
    pub(super) fn watched(&self) -> Vec<PollFd<'_>> {
        match &self.way {
            Way::Expected(socket) => vec![PollFd::new(socket.as_fd(), PollFlags::POLLIN)],
            Way::Open(terminal) => {
                let mut events = PollFlags::POLLIN;
                events.set(PollFlags::POLLOUT, !self.typed.is_empty());
                let mut watched = vec![PollFd::new(terminal.as_fd(), events)];
                if self.typing && self.typed.is_empty() {
                    // SAFETY: nobody closes stdin.
                    let stdin = unsafe { std::os::fd::BorrowedFd::borrow_raw(libc::STDIN_FILENO) };
                    watched.push(PollFd::new(stdin, PollFlags::POLLIN));
                }
                watched
            }
            Way::Closed => Vec::new(),
        }
    }

    // ANCHOR: relay-carry
    /// Carries what has come, from each side to the other. `typed` tells that there is something on stdin.
    pub(super) fn carry(&mut self, typed: bool) -> Result<()> {
        if let Way::Expected(socket) = &self.way {
            self.way = receive(socket)?;
            if matches!(self.way, Way::Open(_)) {
                self.resize();
                self.make_raw();
            }
            return Ok(());
        }
        let mut buffer = [0; 4096];
        if typed {
            match nix::unistd::read(stdin(), &mut buffer) {
                Ok(count @ 1..) => self.typed.extend_from_slice(&buffer[..count]),
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                // The terminal outside is gone.
                Ok(_) | Err(_) => self.typing = false,
            }
        }
        let Way::Open(terminal) = &mut self.way else { return Ok(()) };
        // What does not fit waits in `typed`.
        if !self.typed.is_empty()
            && let Ok(count) = terminal.write(&self.typed)
        {
            self.typed.drain(..count);
        }
        match terminal.read(&mut buffer) {
            Ok(count @ 1..) => show(&buffer[..count]),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) => {}
            // EIO: the last process that had it open has ended.
            Ok(_) | Err(_) => self.way = Way::Closed,
        }
        Ok(())
    }
    // ANCHOR_END: relay-carry

    /// The window outside has another size: so has the one inside.
    pub(super) fn resize(&self) {
        if let Way::Open(terminal) = &self.way {
            // A terminal that tells no size has none to pass on.
            let _ = sys::copy_window_size(stdin().as_fd(), terminal.as_fd());
        }
    }

    /// The command has ended. What it said last is still on its way.
    pub(super) fn finish(&mut self) {
        if let Way::Expected(socket) = &self.way {
            self.way = receive(socket).unwrap_or(Way::Closed);
        }
        let Way::Open(terminal) = &mut self.way else { return };
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = terminal.read(&mut buffer) {
            show(&buffer[..count]);
        }
    }

    /// Every key is the container's from here on: ctrl-C too is a character, and its terminal makes a signal of it.
    fn make_raw(&mut self) {
        if let Ok(was) = tcgetattr(stdin()) {
            let mut raw = was.clone();
            cfmakeraw(&mut raw);
            if tcsetattr(stdin(), SetArg::TCSADRAIN, &raw).is_ok() {
                self.was = Some(was);
            }
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(was) = &self.was {
            let _ = tcsetattr(stdin(), SetArg::TCSADRAIN, was);
        }
    }
}

/// Shows what the container has said. If nobody reads it, nobody is to be told.
fn show(text: &[u8]) {
    let _ = stdout().write_all(text).and_then(|()| stdout().flush());
}

/// The runtime's end of the terminal, out of the socket; `Closed` if the child died before it had one.
fn receive(socket: &OwnedFd) -> Result<Way> {
    const STEP: &str = "receive the container's terminal";
    let failed = |call: &str, errno| Error::call(STEP, call, errno);
    let (mut byte, mut space) = ([0], nix::cmsg_space!(RawFd));
    let mut parts = [IoSliceMut::new(&mut byte)];
    let how = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let message = match recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut parts, Some(&mut space), how) {
        Err(Errno::EAGAIN) => return Ok(Way::Closed),
        received => received.map_err(|errno| failed("recvmsg()", errno))?,
    };
    let messages = message.cmsgs().map_err(|errno| failed("recvmsg()", errno))?;
    let mut descriptors = messages.filter_map(|message| match message {
        ControlMessageOwned::ScmRights(descriptors) => descriptors.first().copied(),
        _ => None,
    });
    let Some(fd) = descriptors.next() else { return Ok(Way::Closed) };
    // SAFETY: the descriptor came with the message, and is nobody else's.
    let terminal = unsafe { File::from_raw_fd(fd) };
    fcntl(&terminal, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
        .map_err(|errno| failed("fcntl(F_SETFL, O_NONBLOCK)", errno))?;
    Ok(Way::Open(terminal))
}

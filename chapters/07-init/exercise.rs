//! Exercise 7: an init.
//!
//! The container's process 1 is a part of this program: it starts the command as its child and does for
//! it what the command was not written for. Outside, the runtime ends the container in time. The program
//! has chapter 7's command line.
//!
//! What is done already: the container, the loops of [`init`] and [`supervise`], and all that has to do with
//! receiving signals. Both halves hold them back since before the container was made, and read them one
//! by one. What is to be done with each is yours.
#![allow(unused, clippy::all, clippy::diverging_sub_expression, clippy::todo)]

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use cooperage::container::cgroup::Cgroup;
use cooperage::container::host::Host;
use cooperage::container::network::Network;
use cooperage::container::overlay::Overlay;
use cooperage::container::process::{self, Child, Status};
use cooperage::container::sys::{self, CloneFlags};
use cooperage::container::{ipc, mount, root, uts};
use cooperage::told::errors::{Error, Result};
use cooperage::workshop::cli;
use cooperage::workshop::rootfs::Rootfs;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

/// Run a command under an init that reaps and forwards signals.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: cli::Common,
    #[command(flatten)]
    mounts: cli::Mounts,
    #[command(flatten)]
    names: cli::Names,
    #[command(flatten)]
    networks: cli::Networks,
    #[command(flatten)]
    resources: cli::Resources,
    #[command(flatten)]
    ending: cli::Ending,
}

/// The signals that ask a program to end.
const ENDING: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT];
/// Others that a program may wait for.
const OTHERS: [Signal; 4] = [Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGALRM, Signal::SIGWINCH];

fn main() -> ExitCode {
    cli::exit_with(run(&Args::parse()))
}

fn run(args: &Args) -> Result<Status> {
    args.common.begin();
    let mut host = Host::enter()?;
    let rootfs = Rootfs::find(args.common.rootfs.as_deref())?;
    let overlay = Overlay::new(&mut host, rootfs.path(), args.mounts.upper.as_deref())?;
    let hostname = args.names.hostname()?;
    let network = Network::new(&mut host, args.networks.network)?;
    let cgroup = Cgroup::new(&mut host, &args.resources.limits())?;

    let namespaces = CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | network.namespace();
    let mut child = process::spawn_into(cgroup.open()?, namespaces, |parent| {
        cgroup.enter(parent)?;
        mount::make_private()?;
        let root = overlay.mount()?;
        mount::furnish(&root)?;
        cgroup.mount_view(&root)?;
        ipc::mount_mqueue(&root)?;
        uts::set_hostname(&hostname)?;
        uts::provide_names(&root, &hostname, network.address())?;
        network.provide_resolver(&root)?;
        for volume in &args.mounts.volumes {
            volume.mount(&root)?;
        }
        root::pivot_into(&root)?;
        parent.until_released()?;
        network.set_up_inside()?;
        if args.ending.init() { init(&args.common.command) } else { process::exec(&args.common.command) }
    })?;

    network.plug_in(&mut child)?;
    let child = child.release()?;
    supervise(&child, args.ending.grace())?;
    // It has ended. Only its status is still to be had.
    let status = child.wait_or_kill(|| cgroup.thaw());
    cli::complain(cgroup.memory_report());
    status
}

/// Inside: process 1. Starts the command as its child, and ends with it.
fn init(command: &[OsString]) -> Result<Infallible> {
    // Init never becomes another program, so nothing closes the host's files for it. Before there is a command.
    sys::close_range("leave none of the host's open files in /proc/1/fd", 3, u32::MAX, false)?;
    let run = || {
        // SAFETY: this process was made by clone(2) from one with a single thread, and has started none.
        match unsafe { sys::clone("start the command as a child of init", CloneFlags::empty())? } {
            Some(command) => reap_and_pass_on(command),
            None => process::exec(command).map(|never| match never {}),
        }
    };
    let status = run().unwrap_or_else(|error| {
        eprintln!("cooperage: {error}");
        error.status.into()
    });
    exit(status)
}

/// Until the command has ended: the status for init to end with.
fn reap_and_pass_on(command: Pid) -> Result<i32> {
    let signals = receive([Signal::SIGCHLD].into_iter().chain(ENDING).chain(OTHERS))?;
    loop {
        let (signal, from_terminal) = next(&signals)?;
        if signal != Signal::SIGCHLD {
            pass_on(signal, from_terminal, command)?;
        } else if let Some(wait_status) = reap(command)? {
            return Ok(exit_status(wait_status));
        }
    }
}

/// Task 7.1 (5 points, two stars, 20 minutes): no zombie stays.
///
/// Init calls this when it has received SIGCHLD: a child has ended, or several have. A child is the command,
/// or an orphan, whose parent ended before it. [`wait_for`] waits for one. If the command is among those
/// that have ended, return its wait status, otherwise None. Do not block.
///
/// Done when no zombie stays in the container, however many processes end at the same moment, and the
/// container goes on as long as the command does.
fn reap(command: Pid) -> Result<Option<i32>> {
    todo!("task 7.1")
}

/// Task 7.2 (4 points, one star, 15 minutes): signals arrive.
///
/// Init calls this for each signal that it receives, except SIGCHLD. `from_terminal` says that a key such as
/// ctrl-C has sent it: the terminal sends such a signal to every process in the foreground, and the command
/// is one of them.
///
/// Done when a signal that the runtime is sent reaches the command, once, and no other process; and when it
/// is no error that the command has just ended.
fn pass_on(signal: Signal, from_terminal: bool, command: Pid) -> Result<()> {
    todo!("task 7.2")
}

/// Task 7.3 (4 points, one star, 10 minutes): the status is the command's.
///
/// `wait_status` is what waitpid(2) has reported about the command. Init ends with the number that you return.
///
/// Done when the runtime ends with the command's own exit status; or with 128+N, if signal N killed the
/// command.
fn exit_status(wait_status: i32) -> i32 {
    todo!("task 7.3")
}

/// Outside: the runtime, until the container's process 1 has ended.
fn supervise(child: &Child, grace: Duration) -> Result<()> {
    let events = Events::of(child.pid())?;
    loop {
        match events.next(None)? {
            Event::Ended => return Ok(()),
            Event::Signal(signal) if ENDING.contains(&signal) => {
                return stop(&events, child.pid(), signal, grace);
            }
            Event::Signal(signal) => send(child.pid(), signal)?,
            Event::TimeUp => {}
        }
    }
}

/// Task 7.4 (7 points, three stars, 35 minutes): stop with grace, then without.
///
/// The runtime calls this when it is told to end by `signal`, SIGTERM for example. `init` is the container's
/// process 1, which passes on what it is sent. `grace` is what `--stop-timeout` says.
/// [`Events::next`] tells what happens meanwhile; [`send`] sends a signal. Return when `init` has ended.
///
/// Done when the command gets the signal and has the whole grace to end by itself, with a status of its
/// own; when it is killed at the end of the grace if it has not (status 137); and when more signals in the
/// meantime reach it too, and do not give it more time.
fn stop(events: &Events, init: Pid, signal: Signal, grace: Duration) -> Result<()> {
    todo!("task 7.4")
}

/// waitpid(2) for child `pid`, or -1 for any: which one has ended, and its wait status. None if none has
/// ended (with WNOHANG), or there is no child.
fn wait_for(pid: i32, flags: i32) -> Result<Option<(Pid, i32)>> {
    let mut wait_status = 0;
    // SAFETY: the status is written to a variable that outlives the call.
    match Errno::result(unsafe { libc::waitpid(pid, &raw mut wait_status, flags) }) {
        Ok(0) | Err(Errno::ECHILD) => Ok(None),
        Ok(ended) => Ok(Some((Pid::from_raw(ended), wait_status))),
        Err(errno) => Err(Error::call("wait for a child", format!("waitpid({pid})"), errno)),
    }
}

/// What the runtime waits for.
enum Event {
    /// The container's process 1 has ended, and with it all the others.
    Ended,
    /// The runtime was sent this signal, by a process (not by a key of the terminal).
    Signal(Signal),
    /// Nothing has happened in the time given.
    TimeUp,
}

/// Where the runtime's events come from.
struct Events {
    signals: SignalFd,
    child: OwnedFd,
}

impl Events {
    fn of(child: Pid) -> Result<Events> {
        let failed = |errno| Error::call("watch the container", format!("pidfd_open({child})"), errno);
        // SAFETY: pidfd_open(2) takes two numbers.
        let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, child.as_raw(), 0) });
        // SAFETY: the descriptor is new and nobody else's.
        let child = unsafe { OwnedFd::from_raw_fd(fd.map_err(failed)? as i32) };
        Ok(Events { signals: receive(ENDING.into_iter().chain(OTHERS))?, child })
    }

    /// The next event. `patience`: how long to wait for it; None is for ever.
    fn next(&self, patience: Option<Duration>) -> Result<Event> {
        let start = Instant::now();
        loop {
            let timeout = match patience.map(|patience| patience.saturating_sub(start.elapsed())) {
                None => PollTimeout::NONE,
                Some(Duration::ZERO) => PollTimeout::ZERO,
                // Rounded up, so as not to spin in the last millisecond.
                Some(left) => {
                    PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
                }
            };
            let mut watched = [
                PollFd::new(self.child.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut watched, timeout) {
                Ok(0) => return Ok(Event::TimeUp),
                Ok(_) if watched[0].any().unwrap_or(false) => return Ok(Event::Ended),
                Ok(_) => {
                    let (signal, from_terminal) = next(&self.signals)?;
                    if !from_terminal {
                        return Ok(Event::Signal(signal));
                    }
                }
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::call("wait for the container", "poll()", errno)),
            }
        }
    }
}

/// Sends a signal. That there is nobody to receive it any more is no error.
fn send(pid: Pid, signal: Signal) -> Result<()> {
    match kill(pid, signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(Error::call("send a signal", format!("kill({pid}, {signal})"), errno)),
    }
}

/// A descriptor to read these signals from. They are blocked already: see `process::spawn`.
fn receive(signals: impl Iterator<Item = Signal>) -> Result<SignalFd> {
    SignalFd::with_flags(&signals.collect::<SigSet>(), SfdFlags::SFD_CLOEXEC)
        .map_err(|errno| Error::call("receive signals", "signalfd4()", errno))
}

/// Waits for a signal. Did the kernel send it because of a key of the terminal?
fn next(signals: &SignalFd) -> Result<(Signal, bool)> {
    loop {
        let failed = |errno| Error::call("receive a signal", "read(signalfd)", errno);
        let Some(info) = signals.read_signal().map_err(failed)? else { continue };
        if let Ok(signal) = Signal::try_from(info.ssi_signo as i32) {
            const SI_KERNEL: i32 = 0x80;
            return Ok((signal, info.ssi_code == SI_KERNEL));
        }
    }
}

fn exit(status: i32) -> ! {
    // SAFETY: _exit(2) has no precondition.
    unsafe { libc::_exit(status) }
}

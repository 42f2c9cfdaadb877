//! Exercise 1: chroot.
//!
//! A whole program with chapter 1's command line. Its three tasks are functions of this file: look for
//! `Task 1.1` and so on. `cargo run --bin exercise01 -- ls /` runs it, `cargo run --bin grade -- 1` grades it.
//!
//! One option is new: `--break-out` makes the program enter its jail, break out of it, and run the command
//! with the whole machine as its root: `exercise01 --break-out -- cat /etc/hostname`.
#![allow(unused, clippy::all, clippy::diverging_sub_expression, clippy::todo)]

use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use cooperage::container::host::Host;
use cooperage::container::process::{self, PATH, Status};
use cooperage::container::sys::{self, CloneFlags};
use cooperage::told::errors::{self, Error, Result};
use cooperage::workshop::cli;
use cooperage::workshop::rootfs::Rootfs;
use cooperage::workshop::task::if_done;
use nix::errno::Errno;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal};

/// Run a command with another root directory.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: cli::Common,

    /// Enter the jail, break out of it, and run the command outside (task 1.3)
    #[arg(long)]
    break_out: bool,
}

fn main() -> ExitCode {
    cli::exit_with(run(&Args::parse()))
}

fn run(args: &Args) -> Result<Status> {
    args.common.begin();
    let _host = Host::enter()?;
    let rootfs = Rootfs::find(args.common.rootfs.as_deref())?;

    let child = process::spawn(CloneFlags::empty(), |_| {
        if args.break_out {
            enter(rootfs.path())?;
            break_out()?;
            return process::exec(&args.common.command);
        }
        let environment = match if_done("1.2", empty_pockets) {
            Some(environment) => environment?,
            None => inherited_environment(),
        };
        enter(rootfs.path())?;
        become_command(&args.common.command, &environment)
    })?;

    child.wait()
}

/// Task 1.1 (6 points, one star, 15 minutes): be really inside.
///
/// Makes `root` the root directory of this process, for good. It is done when no path leads from the command
/// to a file outside: none that begins with a slash, and none that does not. The command starts in the new
/// root directory.
fn enter(root: &Path) -> Result<()> {
    todo!("task 1.1")
}

/// Task 1.2 (6 points, one star, 20 minutes): leave nothing in your pockets.
///
/// Called before the command is started. What this program has open would still be open in the command, and
/// what is in its environment would be in the command's: whoever started the program may have left one of the
/// host's directories open, or a password in a variable. It is done when the command has no descriptor but 0, 1 and 2,
/// whatever else was open, and its environment is exactly the list that this function returns: `PATH` (the
/// constant [`PATH`]), `HOME=/root`, `TERM` (the one that this program has, or `dumb`) and
/// `container=cooperage`, each as `NAME=value`.
///
/// The program itself has descriptors open that it needs until the command starts, so that it can tell if
/// something fails. They must be gone when the command runs, not earlier.
fn empty_pockets() -> Result<Vec<CString>> {
    todo!("task 1.2")
}

/// Task 1.3 (8 points, two stars, 30 minutes): break out.
///
/// Called when the process is in its jail: its root is the rootfs, its working directory is in there, and it
/// holds no descriptor of anything outside. But it is root. It is done when the process has the machine's root
/// directory again, so that the command that runs next sees every file on the machine.
///
/// The jail is that of chapter 1: no namespace belongs to it. The rootfs may be read-only. The grader puts the
/// whole program into another such jail, so keeping something back, or never going in, does not help.
fn break_out() -> Result<()> {
    todo!("task 1.3")
}

// What follows is no task.

/// Becomes the command, with this environment.
fn become_command(command: &[OsString], environment: &[CString]) -> Result<Infallible> {
    let default = [OsString::from("/bin/sh")];
    let command = if command.is_empty() { &default } else { command };
    let mut arguments = Vec::new();
    for argument in command {
        arguments.push(
            CString::new(argument.as_bytes())
                .map_err(|_| Error::new("run the command", "an argument contains a zero byte").status(2))?,
        );
    }

    // The runtime holds signals back, and a Rust program ignores SIGPIPE: the command shall not inherit it.
    // SAFETY: no handler is installed.
    let default_action = unsafe { nix::sys::signal::signal(Signal::SIGPIPE, SigHandler::SigDfl) };
    let mask = nix::sys::signal::sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
    default_action.and(mask).map_err(|errno| Error::call("let signals through", "sigprocmask()", errno))?;

    let name = command[0].to_string_lossy().into_owned();
    let candidates: Vec<String> = match name.contains('/') || name.is_empty() {
        true => vec![name.clone()],
        false => PATH.split(':').map(|directory| format!("{directory}/{name}")).collect(),
    };
    for candidate in candidates {
        let Ok(program) = CString::new(candidate.clone()) else { continue };
        if !Path::new(&candidate).exists() {
            continue;
        }
        let error = sys::execve("become the command", &program, &arguments, environment);
        if error.errno() != Some(Errno::ENOENT) {
            return Err(error.status(errors::CANNOT_EXECUTE));
        }
    }
    Err(Error::new(format!("run {name:?}"), "there is no such program in the root filesystem")
        .status(errors::NOT_FOUND))
}

/// The environment of this program.
fn inherited_environment() -> Vec<CString> {
    std::env::vars_os().map(|(name, value)| variable(&name, &value)).collect()
}

/// `NAME=value`, as execve(2) wants it.
fn variable(name: &OsStr, value: &OsStr) -> CString {
    let mut text = name.to_owned().into_vec();
    text.push(b'=');
    text.extend_from_slice(value.as_bytes());
    CString::new(text).unwrap_or_default()
}

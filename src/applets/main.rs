//! The small programs that a machine may lack and that the book types in a container: one file, one link for each name.
//!
//! Debian's smallest system has no ps, no ip and no ping; the packages that have them are called procps, iproute2 and
//! iputils-ping. A root filesystem that is assembled from the programs of such a machine gets these in their place
//! (see src/workshop/rootfs.rs). Each does what the chapters need of it, prints what the kernel says in the
//! format that busybox has, and refuses what it does not know: a small one that guesses would teach wrong things.
//!
//! They need nothing but the standard library and the C library, and are compiled by build.rs: so they are there whatever
//! program of the crate is built.

mod hostname;
mod httpd;
mod ip;
mod kill;
mod nc;
mod netlink;
mod ping;
mod ps;
mod sys;

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

/// What an applet ends with, where it could not do what it was asked for: the message says why, and on which status.
pub struct Failure {
    message: String,
    status: u8,
}

impl Failure {
    /// It is not known here.
    fn usage(usage: &str) -> Failure {
        Failure { message: format!("usage: {usage}"), status: 2 }
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Failure {
        Failure { message, status: 1 }
    }
}

impl From<&str> for Failure {
    fn from(message: &str) -> Failure {
        message.to_string().into()
    }
}

/// What an applet returns: its exit status, or why not.
pub type Done = Result<u8, Failure>;

type Applet = fn(&[String]) -> Done;

const APPLETS: &[(&str, Applet)] = &[
    ("hostname", hostname::main),
    ("httpd", httpd::main),
    ("ip", ip::main),
    ("kill", kill::main),
    ("nc", nc::main),
    ("ping", ping::main),
    ("ps", ps::main),
];

fn main() -> ExitCode {
    // A program that writes to `head -1` is to end with it, and so is what nc starts.
    sys::default_sigpipe();
    let mut words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let called = words.next().unwrap_or_default();
    let called = Path::new(&called).file_name().map(OsString::from).unwrap_or_default();
    let mut name = called.to_string_lossy().into_owned();
    if !APPLETS.iter().any(|(known, _)| *known == name) {
        name = words.next().unwrap_or_default();
    }
    let words: Vec<String> = words.collect();
    if name == "--list" {
        for (name, _) in APPLETS {
            print(name);
        }
        return ExitCode::SUCCESS;
    }
    let Some((_, applet)) = APPLETS.iter().find(|(known, _)| *known == name) else {
        eprintln!("usage: applets --list, or the name of one of them and its arguments");
        return ExitCode::from(2);
    };
    match applet(&words) {
        Ok(status) => ExitCode::from(status),
        Err(Failure { message, status }) => {
            eprintln!("{name}: {message}");
            ExitCode::from(status)
        }
    }
}

/// Prints a line immediately: somebody may be waiting for it at the other end of a pipe. That nobody reads is no failure.
fn print(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// An error of the kernel in words, without the number that Rust adds.
fn words(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_string()
}

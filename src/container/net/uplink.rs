//! Chapter 8: an ordinary user's way to the world.
//!
//! No link leads out of the hub, and only root could make one. But every user may open sockets, and may make a tun device in
//! a network namespace of his own: a link whose other end is a program. The program takes the packets that come out of it, and makes of
//! them what any program may send, connections of its own; what it gets back it makes into packets again: a whole TCP/IP,
//! as an ordinary process. There are two of that kind, pasta(1) and slirp4netns(1). Rootless Podman and Docker use them.
//!
//! It belongs to no container: it serves the hub as long as one of the user's runtimes is in it. So it has a guardian, who is
//! nobody's child. Whoever dies, and whatever of, nothing is left:
//!
//! ```text
//!     guardian                 ends when one of its two children does, and ends the other
//!       +- pasta               dies with the guardian (prctl(2), PR_SET_PDEATHSIG)
//!       +- waiter              dies with the guardian; ends when the last runtime has
//! ```
//!
//! Each runtime has a shared lock on a file, and the waiter asks to have it alone: the kernel lets it have it when there is
//! no runtime any more. The guardian has a lock on another file as long as all is well, and there it says where names
//! are asked.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::FlockArg;
use nix::mount::MntFlags;
use nix::sys::signal::Signal;
use nix::sys::wait::waitpid;
use nix::unistd::{AccessFlags, Pid, access};

use crate::container::process::default_signals;
use crate::container::programs;
use crate::container::state::claim::Claim;
use crate::container::state::directory::state_directory;
use crate::container::state::pool;
use crate::container::sys::{self, CloneFlags, MsFlags};
use crate::told::errors::{Error, Result};
use crate::told::explain;

const STEP: &str = "find a way to the world for an ordinary user";
const TUN: &str = "/dev/net/tun";

/// What helps where there is none.
const REMEDY: &str =
    "apt install passt (or slirp4netns), and let users open /dev/net/tun: sudo chmod 666 /dev/net/tun";

// ANCHOR: uplink-programs
/// A program that is a link to the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    path: PathBuf,
    is_pasta: bool,
}

impl Program {
    /// Where it listens for questions about names, in the hub.
    fn resolver(&self) -> Ipv4Addr {
        if self.is_pasta { Ipv4Addr::new(169, 254, 1, 1) } else { Ipv4Addr::new(10, 0, 2, 3) }
    }

    /// How it is started for the network namespace that is mounted on `hub`: no port of the host's leads in, none of the
    /// hub's leads out, and what listens on the host's loopback device only is not reached.
    fn arguments(&self, hub: &str) -> Vec<String> {
        let resolver = self.resolver().to_string();
        let words: Vec<&str> = if self.is_pasta {
            let nothing = ["-t", "none", "-u", "none", "-T", "none", "-U", "none"];
            let rest = ["--no-map-gw", "--dns-forward", &resolver, "--netns", hub];
            ["pasta", "--foreground", "--quiet", "--config-net"]
                .into_iter()
                .chain(nothing)
                .chain(rest)
                .collect()
        } else {
            let how = ["--configure", "--mtu=65520", "--disable-host-loopback", "--netns-type=path"];
            ["slirp4netns"].into_iter().chain(how).chain([hub, "tap0"]).collect()
        };
        words.into_iter().map(str::to_string).collect()
    }
}
// ANCHOR_END: uplink-programs

/// The program that this machine has, if this user can use it. The error says what is missing.
pub fn program() -> Result<Program> {
    let find = |name, is_pasta| programs::find(name, &[]).map(|path| Program { path, is_pasta });
    let program = find("pasta", true)
        .or_else(|| find("slirp4netns", false))
        .ok_or_else(|| Error::new(STEP, "neither pasta nor slirp4netns is installed").remedy(REMEDY))?;
    access(TUN, AccessFlags::R_OK | AccessFlags::W_OK)
        .map_err(|errno| Error::call(STEP, format!("access({TUN}, R_OK|W_OK)"), errno).remedy(REMEDY))?;
    Ok(program)
}

impl std::fmt::Display for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_pasta { "pasta" } else { "slirp4netns" })
    }
}

/// A hub's way to the world, as one of the runtimes in the hub has it.
pub struct Uplink {
    /// Where names are asked.
    pub resolver: Ipv4Addr,
    _user: Claim,
}

/// The two files of a hub's uplink.
struct Files {
    /// Locked by each runtime, together.
    users: PathBuf,
    /// Locked by the guardian.
    guardian: PathBuf,
}

impl Files {
    fn of(hub: &File) -> Result<Files> {
        let found = hub.metadata().map_err(|error| Error::io(STEP, "/proc/self/ns/net", &error))?;
        let directory = directory()?;
        fs::create_dir_all(&directory).map_err(|error| Error::io(STEP, &directory, &error))?;
        let file = |end: &str| directory.join(format!("{}{end}", found.ino()));
        Ok(Files { users: file(".users"), guardian: file("") })
    }

    /// This runtime is one of the users.
    fn join(&self) -> Result<Claim> {
        let file = open(&self.users)?;
        Claim::on(file, &self.users, FlockArg::LockShared)?
            .ok_or_else(|| Error::new(STEP, "somebody else has locked the file"))
    }

    /// Where names are asked, if the uplink is alive.
    fn resolver(&self) -> Option<Ipv4Addr> {
        let is_alive = Claim::is_held(&self.guardian);
        fs::read_to_string(&self.guardian).ok().filter(|_| is_alive)?.trim().parse().ok()
    }
}

fn open(path: &Path) -> Result<File> {
    let how = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    how.map_err(|error| Error::io(STEP, path, &error))
}

fn directory() -> Result<PathBuf> {
    Ok(state_directory()?.join("uplinks"))
}

/// Removes what nobody has locked any more.
pub fn sweep() -> Result<()> {
    pool::sweep(&directory()?);
    Ok(())
}

impl Uplink {
    /// The uplink of this hub, if it has one that is alive.
    pub fn of(hub: &File) -> Result<Option<Uplink>> {
        if !directory()?.exists() {
            return Ok(None);
        }
        let files = Files::of(hub)?;
        let user = files.join()?;
        Ok(files.resolver().map(|resolver| Uplink { resolver, _user: user }))
    }
}

/// A guardian who waits outside, in the host's network, until the hub is there.
pub struct Guardian {
    program: Program,
    ready: File,
    said: File,
}

impl Guardian {
    /// Makes one. It is born by a child that ends immediately: so it is nobody's child, and nobody waits for it.
    pub fn hire(program: Program) -> Result<Guardian> {
        let ((ready_read, ready_write), (said_read, said_write)) = (sys::pipe(STEP)?, sys::pipe(STEP)?);
        let runtime = Pid::this();
        let why = "leave somebody in the host's network, who serves the hub and outlives us";
        // SAFETY: the runtime has one thread at its start.
        match unsafe { sys::clone(why, CloneFlags::empty())? } {
            Some(between) => {
                let _ = waitpid(between, None);
                Ok(Guardian { program, ready: File::from(ready_write), said: File::from(said_read) })
            }
            None => {
                drop((ready_write, said_read));
                // SAFETY: as above; and what it changes is its own copy.
                let born = unsafe { nix::unistd::fork() };
                if matches!(born, Ok(nix::unistd::ForkResult::Child)) {
                    guard(&program, runtime, ready_read, said_write);
                }
                sys::exit(0)
            }
        }
    }

    /// This runtime is in the hub now: the guardian starts the program. `None` if it does not work.
    pub fn start(mut self, hub: &File) -> Result<Option<Uplink>> {
        let user = Files::of(hub)?.join()?;
        let _ = self.ready.write_all(b"!");
        let mut said = String::new();
        // One line: the guardian's children have the other end, too, and live on.
        let _ = BufReader::new(self.said).read_line(&mut said);
        match said.trim().parse() {
            Ok(resolver) => {
                explain::remark(&format!(
                    "{} serves the hub: a way to the world; names are asked of {resolver}",
                    self.program
                ));
                Ok(Some(Uplink { resolver, _user: user }))
            }
            Err(_) => {
                let why = if said.is_empty() { "it ended" } else { said.trim() };
                explain::remark(&format!("no way to the world by {}: {why}", self.program));
                Ok(None)
            }
        }
    }
}

// ANCHOR: uplink-guard
/// The guardian's life.
fn guard(program: &Program, runtime: Pid, ready: OwnedFd, said: OwnedFd) -> ! {
    say_nothing();
    // What the runtime has open is the runtime's: its locks above all, which would outlive it here.
    let _ = sys::close_all_but("leave the runtime its files", &[ready.as_raw_fd(), said.as_raw_fd()]);
    // A key in the terminal is for what runs there, and its directory may be wanted by others.
    let _ = nix::unistd::setsid();
    let _ = nix::unistd::chdir("/");
    if matches!(File::from(ready).read(&mut [0]), Ok(1)) {
        let mut said = File::from(said);
        match serve(program, runtime) {
            Ok((guarded, mut children)) => {
                let _ = writeln!(said, "{}", program.resolver());
                drop(said);
                // The first to end takes the other along.
                let ended = nix::sys::wait::wait().ok().and_then(|status| status.pid());
                children.retain(|child| Some(*child) != ended);
                end(&children);
                guarded.remove();
            }
            Err(error) => {
                let _ = writeln!(said, "{}", error.reason());
            }
        }
    }
    sys::exit(0)
}

/// Starts the program, and the waiter.
fn serve(program: &Program, runtime: Pid) -> Result<(Claim, Vec<Pid>)> {
    let path = format!("/proc/{runtime}/ns/net");
    let hub = File::open(&path).map_err(|error| Error::io(STEP, &path, &error))?;
    let files = Files::of(&hub)?;
    let claim =
        Claim::take(STEP, &files.guardian)?.ok_or_else(|| Error::new(STEP, "there is one already"))?;
    let users = open(&files.users)?;
    let waiter = child(|| {
        let _ = Claim::on(users, &files.users, FlockArg::LockExclusive);
        let _ = fs::remove_file(&files.users);
    })?;
    // By a name that needs no right to look into a process: pasta gives such rights up before it looks.
    let place = files.guardian.display().to_string();
    let named = sys::unshare("have a name for the hub", CloneFlags::CLONE_NEWNS).and_then(|()| {
        sys::mount("name it", Some(Path::new(&path)), &files.guardian, None, MsFlags::MS_BIND, None)
    });
    let before = links(&runtime);
    let started = named.and_then(|()| child(|| become_program(program, &place)));
    let mut children = vec![waiter];
    let served = started.and_then(|serving| {
        children.push(serving);
        until_up(serving, || links(&runtime) > before)
    });
    // It has it open by now.
    let _ = nix::mount::umount2(&files.guardian, MntFlags::MNT_DETACH);
    let noted = served.and_then(|()| {
        let text = program.resolver().to_string();
        let mut file = claim.file();
        file.set_len(0)
            .and_then(|()| file.write_all(text.as_bytes()))
            .map_err(|error| Error::io(STEP, &files.guardian, &error))
    });
    match noted {
        Ok(()) => Ok((claim, children)),
        Err(error) => {
            end(&children);
            claim.remove();
            Err(error)
        }
    }
}
// ANCHOR_END: uplink-guard

/// Waits until the program has made its link in the hub, or has ended.
fn until_up(program: Pid, is_up: impl Fn() -> bool) -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let begun = Instant::now();
    while !is_up() {
        let how = nix::sys::wait::WaitPidFlag::WNOHANG;
        let ended = waitpid(program, Some(how)).is_ok_and(|status| status.pid().is_some());
        if ended || begun.elapsed() > PATIENCE {
            return Err(Error::new(STEP, if ended { "it ended immediately" } else { "it makes no link" }));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// How many routes the hub has that lead somewhere: the program gives it the first.
fn links(runtime: &Pid) -> usize {
    fs::read_to_string(format!("/proc/{runtime}/net/route")).unwrap_or_default().lines().skip(1).count()
}

/// A child that dies with the guardian.
fn child(work: impl FnOnce()) -> Result<Pid> {
    // SAFETY: the guardian has one thread.
    unsafe {
        sys::fork("have a child that dies with the guardian", || {
            let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
            work();
            127
        })
    }
}

fn become_program(program: &Program, hub: &str) {
    let text = |text: &[u8]| CString::new(text).unwrap_or_default();
    let arguments: Vec<CString> = program.arguments(hub).iter().map(|word| text(word.as_bytes())).collect();
    let _ = default_signals();
    let _ = nix::unistd::execve(&text(program.path.as_os_str().as_bytes()), &arguments, &[] as &[CString; 0]);
}

fn end(children: &[Pid]) {
    for child in children {
        let _ = nix::sys::signal::kill(*child, Signal::SIGKILL);
        let _ = waitpid(*child, None);
    }
}

/// /dev/null in place of the terminal: for what is told from here on, too.
fn say_nothing() {
    if let Ok(null) = OpenOptions::new().read(true).write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdin(&null);
        let _ = nix::unistd::dup2_stdout(&null);
        let _ = nix::unistd::dup2_stderr(&null);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(is_pasta: bool) -> String {
        Program { path: "/x".into(), is_pasta }.arguments("/run/hub").join(" ")
    }

    #[test]
    fn nothing_of_the_host_is_let_in() {
        let pasta = words(true);
        assert!(pasta.starts_with("pasta --foreground") && pasta.ends_with("--netns /run/hub"), "{pasta}");
        for wanted in ["-t none", "-u none", "-T none", "-U none", "--no-map-gw", "--dns-forward 169.254.1.1"]
        {
            assert!(pasta.contains(wanted), "{pasta}");
        }
        let slirp = words(false);
        assert!(slirp.contains("--disable-host-loopback") && slirp.ends_with("/run/hub tap0"), "{slirp}");
    }
}

//! The host's side of an attack: in a lab, it plants the canaries, starts the chapter with the attacker as
//! its command, hears what the attacker says, and gives the judge something to look at.

use std::collections::{BTreeMap, HashSet};
use std::ffi::CStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{OpenptyResult, openpty};
use nix::unistd::{Gid, Uid};

use super::inside::{Answer, Stopped, TICKET};
use super::job::Job;
use super::peer::{self, Peer};
use super::{Attack, inside, victim};
use cooperage::container::capability::Capability;
use cooperage::container::mountinfo;
use cooperage::container::sys;
use cooperage::container::user::in_first_user_namespace;
use cooperage::told::errors::{Error, Result};
use cooperage::workshop::rootfs;

/// How long an attack may take. None takes a second; but on an emulated processor a container that may use 0.05
/// of it needs ten only to start.
pub const BOUND: Duration = Duration::from_secs(20);
/// What is said of one that takes longer.
pub const TOO_LONG: &str = "it took too long";
/// Where everything is, in the lab.
pub const PLACE: &str = "/tmp/arena";
/// The ordinary user that starts the container.
const NOBODY: u32 = 65534;
/// What the key is called that [`Arena::give_key`] gives to whoever starts the container.
pub const KEY: &CStr = c"cooperage-canary";
/// The descriptor that [`Arena::leak`] leaves open.
const LEAKED: i32 = 20;
const STEP: &str = "make an arena for the attack";

/// What the attacker said, or how it ended without a word.
#[derive(Debug)]
pub struct Said {
    /// Its answer.
    pub answer: Option<Answer>,
    /// Where there is none: the status that the chapter ended with, as a shell shows it.
    pub status: Option<i32>,
    /// Where there is none: what the chapter wrote to stderr.
    pub complaint: String,
}

/// A lab that is ready for an attack.
pub struct Arena {
    /// The chapter that is attacked.
    pub chapter: u8,
    /// Is the container an ordinary user's?
    pub user: bool,
    peer: Option<Peer>,
    /// The word that nobody inside can know.
    pub word: String,
    options: Vec<String>,
    told: BTreeMap<String, String>,
    absent: Option<String>,
    leaked: Option<OwnedFd>,
    key: bool,
    handed_on: Option<Capability>,
    terminal: Option<OpenptyResult>,
    victim: Option<Child>,
    another: Option<Child>,
    before: Before,
    container: Option<Container>,
}

/// How it was before the attack.
#[derive(Default)]
struct Before {
    processes: usize,
    open_files: usize,
}

struct Container {
    runtime: Child,
    lines: Receiver<String>,
}

/// A process of the lab, as the lab sees it.
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Its name: the first 15 bytes of its program's.
    pub name: String,
    /// Its state: `Z` for a zombie.
    pub state: char,
    /// The processor time that it has used, in hundredths of a second.
    pub ticks: u64,
    /// The memory that it has, in KiB.
    pub resident: u64,
}

/// For attacks that need nothing but the canaries that are always there.
pub fn nothing(_: &mut Arena) -> Result<()> {
    Ok(())
}

impl Arena {
    /// Makes it: a copy of the root filesystem with the attacker in it, a copy of the chapter, a directory
    /// outside with a secret, and the victim. To be called in a lab only.
    pub fn new(job: &Job) -> Result<Arena> {
        let Job { chapter, user, programs, rootfs, .. } = job;
        if !cooperage::workshop::lab::inside() {
            return Err(Error::new(STEP, "this is not a lab").remedy("breakout makes one by itself"));
        }
        let mut arena = Arena {
            chapter: *chapter,
            user: *user,
            peer: job.peer.clone(),
            word: random()?,
            options: Vec::new(),
            told: BTreeMap::new(),
            absent: None,
            leaked: None,
            key: false,
            handed_on: None,
            terminal: None,
            victim: None,
            another: None,
            before: Before::default(),
            container: None,
        };
        bound_the_lab();
        for directory in ["", "bin", "rootfs", "outside", "volume"] {
            make_directory(&arena.path(directory))?;
        }
        // A filesystem of its own: an attack may fill it.
        let data = Some("mode=755,size=256m,nr_inodes=5000");
        mount(Some("rootfs"), &arena.path("rootfs"), Some("tmpfs"), MsFlags::empty(), data)
            .map_err(|errno| Error::call(STEP, "mount(tmpfs)", errno))?;
        rootfs::copy(rootfs, &arena.path("rootfs"))?;
        let attacker = programs.join("breakout");
        rootfs::add_program(&arena.path("rootfs"), &attacker, Path::new("/usr/bin/breakout"))?;
        let from =
            job.peer.as_ref().map_or_else(|| programs.join(arena.program()), |peer| peer.program.clone());
        let to = arena.path("bin").join(arena.program());
        fs::copy(&from, &to).map_err(|error| Error::io(STEP, &from, &error))?;
        let ticket = random()?;
        let inside = arena.path("rootfs").join(TICKET.trim_start_matches('/'));
        fs::write(&inside, &ticket).map_err(|error| Error::io(STEP, &inside, &error))?;
        arena.tell("ticket", &ticket);
        let secret = arena.word.clone();
        arena.write("outside/secret", &secret)?;
        arena.tell("canary", &arena.path("outside/secret").display().to_string());
        fs::set_permissions(arena.path("outside/secret"), fs::Permissions::from_mode(0o600))
            .map_err(|error| Error::io(STEP, arena.path("outside/secret"), &error))?;
        arena.give_to_the_user(Path::new(PLACE))?;
        arena.start_victim()?;
        Ok(arena)
    }

    /// The name of the program that makes the container.
    pub fn program(&self) -> String {
        self.peer.as_ref().map_or_else(|| format!("chapter{:02}", self.chapter), |peer| peer.name.clone())
    }

    /// A path in the arena.
    pub fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { PathBuf::from(PLACE) } else { Path::new(PLACE).join(name) }
    }

    /// Writes a file of the arena.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path(name);
        fs::write(&path, text).map_err(|error| Error::io(STEP, &path, &error))?;
        self.give_to_the_user(&path)
    }

    /// Makes a directory of the arena.
    pub fn make_directory(&self, name: &str) -> Result<()> {
        make_directory(&self.path(name))?;
        self.give_to_the_user(&self.path(name))
    }

    /// Reads a file of the arena; nothing if it is not there.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Gives the container an option.
    pub fn option(&mut self, option: &str, value: &str) {
        self.options.extend([option.to_string(), value.to_string()]);
    }

    /// Gives the container a limit, where the chapter has it and this machine can set it for whoever starts
    /// the container. False if not.
    pub fn limit(&mut self, option: &str, value: &str) -> Result<bool> {
        if self.peer.is_some() {
            self.nothing_to_attack("it sets no limit unless it is told to");
            return Ok(false);
        }
        if self.chapter < 6 {
            return Ok(false);
        }
        let more = [option.to_string(), value.to_string()];
        let mut trial = self.command(&[&self.options[..], &more].concat(), &["true".to_string()])?;
        trial.stdin(Stdio::null()).stderr(Stdio::null());
        let status = trial.status().map_err(|error| Error::io(STEP, self.program(), &error))?;
        if status.success() {
            self.option(option, value);
        }
        Ok(status.success())
    }

    /// As [`Arena::limit`]; but from chapter 6 on, where it can't be set there is nothing that could be got
    /// round.
    pub fn limit_or_nothing(&mut self, option: &str, value: &str) -> Result<()> {
        if !self.limit(option, value)? && self.chapter >= 6 && self.peer.is_none() {
            self.nothing_to_attack(
                "whoever starts it may write no cgroup, and the runtime refuses to run without the limit",
            );
        }
        Ok(())
    }

    /// Tells the attacker something.
    pub fn tell(&mut self, name: &str, value: &str) {
        self.told.insert(name.to_string(), value.to_string());
    }

    /// There is nothing to attack in this chapter, and why.
    pub fn nothing_to_attack(&mut self, why: &str) {
        self.absent = Some(why.to_string());
    }

    /// Is it a runtime that is told to make no cgroup?
    pub fn has_no_cgroup(&self) -> bool {
        self.peer.is_some() && peer::arguments(&self.program()).contains(&peer::WITHOUT_CGROUPS)
    }

    /// Why there is nothing to attack, if there is nothing.
    pub fn absent(&self) -> Option<&str> {
        self.absent.as_deref()
    }

    /// Starts the chapter with a descriptor of this directory open, as a careless runtime's parent might.
    pub fn leak(&mut self, directory: &Path) -> Result<()> {
        let open = fs::File::open(directory).map_err(|error| Error::io(STEP, directory, &error))?;
        self.leaked = Some(open.into());
        Ok(())
    }

    /// Whoever starts the chapter has the word as a key in its session keyring.
    pub fn give_key(&mut self) -> Result<()> {
        self.key = true;
        Ok(())
    }

    /// Whoever starts the chapter hands this capability on: it is in the inheritable set and, as long as he is root, in
    /// the ambient one.
    pub fn hand_on(&mut self, capability: Capability) -> Result<()> {
        self.handed_on = Some(capability);
        Ok(())
    }

    /// The chapter is started from a terminal, which a shell outside reads from when the container has ended. The command has
    /// that terminal as its stderr.
    pub fn give_terminal(&mut self) -> Result<()> {
        let failed = |call: &str, errno| Error::call(STEP, call, errno);
        let terminal = openpty(None, None).map_err(|errno| failed("openpty()", errno))?;
        for end in [&terminal.master, &terminal.slave] {
            // Or the chapter would have both ends.
            let close = FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC);
            fcntl(end, close).map_err(|errno| failed("fcntl(F_SETFD)", errno))?;
        }
        self.terminal = Some(terminal);
        Ok(())
    }

    /// For what would harm a machine that somebody needs: there is nothing to attack but in the virtual machine.
    pub fn in_a_throw_away_machine(arena: &mut Arena) -> Result<()> {
        if !cooperage::workshop::lab::is_thrown_away() {
            arena.nothing_to_attack("it is tried in the virtual machine only, where it can do no harm");
        }
        Ok(())
    }

    /// The container has a volume of the host's, /mnt, where everybody may write.
    pub fn open_volume(&mut self) -> Result<()> {
        let volume = self.path("volume");
        fs::set_permissions(&volume, fs::Permissions::from_mode(0o1777))
            .map_err(|error| Error::io(STEP, &volume, &error))?;
        self.option("--volume", &format!("{}:/mnt", volume.display()));
        Ok(())
    }

    /// As [`Arena::open_volume`], for what root's containers may do to each other or the host. False where that is nothing:
    /// before there are volumes, and for an ordinary user, for a reason.
    pub fn share_volume(&mut self, why_not_a_user: &str) -> Result<bool> {
        if self.chapter < 3 {
            self.nothing_to_attack("volumes come with chapter 3");
        } else if self.user {
            self.nothing_to_attack(why_not_a_user);
        } else {
            self.open_volume()?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Gives a file of the arena to this user, with this mode.
    pub fn give(&self, name: &str, user: u32, mode: u32) -> Result<()> {
        let path = self.path(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
            .and_then(|()| std::os::unix::fs::chown(&path, Some(user), Some(user)))
            .map_err(|error| Error::io(STEP, &path, &error))
    }

    /// Starts another container in the same way, which lives as long as this one. Its shell has run `script` when this
    /// returns.
    pub fn start_another(&mut self, script: &str) -> Result<()> {
        let script = format!("{script}; echo ready; read line");
        let mut command = self.command(&self.options, &["sh".to_string(), "-c".to_string(), script])?;
        let mut another = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| Error::io(STEP, self.program(), &error))?;
        let mut line = String::new();
        if let Some(out) = another.stdout.take() {
            BufReader::new(out).read_line(&mut line).map_err(|error| Error::io(STEP, "another", &error))?;
        }
        self.another = Some(another);
        match line.trim() {
            "ready" => Ok(()),
            _ => Err(Error::new(STEP, "the other container did not come to life")),
        }
    }

    fn give_to_the_user(&self, path: &Path) -> Result<()> {
        if !self.user || !in_first_user_namespace()? {
            // Without the right to give files away, all of them are the user's already.
            return Ok(());
        }
        let (user, group) = (Some(NOBODY), Some(NOBODY));
        std::os::unix::fs::lchown(path, user, group).map_err(|error| Error::io(STEP, path, &error))?;
        if !fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
            return Ok(());
        }
        for entry in fs::read_dir(path).map_err(|error| Error::io(STEP, path, &error))?.flatten() {
            self.give_to_the_user(&entry.path())?;
        }
        Ok(())
    }

    /// A command that runs as whoever starts the container.
    fn as_starter(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("TERM", "dumb");
        command.current_dir(self.path("outside")).stdout(Stdio::null());
        if !self.user {
            return command;
        }
        if in_first_user_namespace().unwrap_or(false) {
            command.uid(NOBODY).gid(NOBODY);
            return command;
        }
        // The lab's root is an ordinary user of the machine, and can become no other. A user namespace in
        // which its number is another makes it look like one.
        // SAFETY: between fork and exec it only makes system calls, and allocates in one thread.
        unsafe {
            command.pre_exec(|| {
                let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER)?;
                fs::write("/proc/self/setgroups", "deny")?;
                fs::write("/proc/self/uid_map", format!("{user} 0 1"))?;
                fs::write("/proc/self/gid_map", format!("{group} 0 1"))
            });
        }
        command
    }

    /// What starts a container with these options and this command.
    fn command(&self, options: &[String], inside: &[String]) -> Result<Command> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let program = self.path("bin").join(self.program());
        let mut command = self.as_starter(&program);
        if self.peer.is_some() {
            let name = format!("peer-{}", COUNT.fetch_add(1, Ordering::Relaxed));
            let bundle = self.path(&name);
            peer::bundle(&program, &bundle, &self.path("rootfs"), options, inside)?;
            command.args(peer::arguments(&self.program())).arg("--bundle").arg(bundle).arg(name);
        } else {
            command.arg("--rootfs").arg(self.path("rootfs")).args(options).arg("--").args(inside);
        }
        Ok(command)
    }

    fn start_victim(&mut self) -> Result<()> {
        // A number that no process in a container has: there they begin with 1.
        let _ = fs::write("/proc/sys/kernel/ns_last_pid", "20000");
        let mut command = self.as_starter(&self.path("rootfs/usr/bin/breakout"));
        let mut victim = command
            .args([victim::MODE, &self.word])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| Error::io(STEP, "breakout", &error))?;
        let mut line = String::new();
        if let Some(out) = victim.stdout.take() {
            BufReader::new(out).read_line(&mut line).map_err(|error| Error::io(STEP, "victim", &error))?;
        }
        if line.is_empty() {
            return Err(Error::new(STEP, "the victim did not come to life"));
        }
        self.tell("pid", &victim.id().to_string());
        self.tell("address", line.trim());
        self.victim = Some(victim);
        Ok(())
    }

    /// Starts the chapter with the attacker in it, and hears what it says. One that says nothing in time is
    /// ended.
    pub fn attack(&mut self, attack: &Attack) -> Result<Said> {
        self.before = Before { processes: processes().len(), open_files: open_files() };
        let mut inside = ["breakout", inside::MODE, attack.name].map(String::from).to_vec();
        inside.extend(self.told.iter().map(|(name, value)| format!("{name}={value}")));
        let mut command = self.command(&self.options, &inside)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(leaked) = self.leaked.as_ref().map(AsRawFd::as_raw_fd) {
            // SAFETY: dup2(2) takes numbers, and the copy it makes is not closed by execve(2).
            unsafe {
                command.pre_exec(move || {
                    nix::errno::Errno::result(libc::dup2(leaked, LEAKED)).map(drop).map_err(Into::into)
                });
            }
        }
        if self.key {
            let word = self.word.clone();
            // SAFETY: between fork and exec it only makes system calls, with memory that is there already.
            unsafe {
                command.pre_exec(move || add_key(&word).map_err(Into::into));
            }
        }
        if let Some(terminal) = &self.terminal {
            let shared = terminal.slave.try_clone().map_err(|error| Error::io(STEP, "a terminal", &error))?;
            command.stderr(shared);
            // SAFETY: two system calls, with numbers.
            unsafe {
                command.pre_exec(|| {
                    nix::unistd::setsid()?;
                    Errno::result(libc::ioctl(libc::STDERR_FILENO, libc::TIOCSCTTY, 0))?;
                    Ok(())
                });
            }
        }
        let handing_on = self.handed_on.map(HandingOn::begin).transpose()?;
        let started = command.spawn().map_err(|error| Error::io(STEP, self.program(), &error));
        drop(handing_on);
        let mut runtime = started?;
        let (send, lines) = channel();
        if let Some(out) = runtime.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(out).lines().map_while(std::io::Result::ok) {
                    let _ = send.send(line);
                }
            });
        }
        let mut container = Container { runtime, lines };
        let said = container.hear();
        self.container = Some(container);
        Ok(said)
    }

    /// Starts one more container, with these options and this script, and waits for its end. What it wrote to stdout, if it came to life.
    pub fn try_script(&self, options: &[&str], script: &str) -> Result<Option<String>> {
        let options: Vec<String> = options.iter().map(|option| option.to_string()).collect();
        let mut command = self.command(&options, &["sh", "-c", script].map(String::from))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let done = command
            .stderr(Stdio::null())
            .output()
            .map_err(|error| Error::io(STEP, self.program(), &error))?;
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        Ok(done.status.success().then_some(text))
    }

    /// Lets the container end, so that the judge can see what is left. Ends it if it takes too long.
    pub fn finish(&mut self) {
        let Some(mut container) = self.container.take() else { return };
        drop(container.runtime.stdin.take());
        let deadline = Instant::now() + Duration::from_secs(3);
        while Instant::now() < deadline {
            if let Ok(Some(_)) = container.runtime.try_wait() {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = container.runtime.kill();
        let _ = container.runtime.wait();
    }

    // ---- What judges look at

    /// Did it bring back the word?
    pub fn brought_back(&mut self, said: &Said) -> bool {
        matches!(&said.answer, Some(Ok(loot)) if loot.contains(&self.word))
    }

    /// Did all its calls succeed? For what leaves nothing to look at.
    pub fn was_let(&mut self, said: &Said) -> bool {
        matches!(&said.answer, Some(Ok(_)))
    }

    /// Is the victim dead? One that was just killed is given a moment.
    pub fn victim_is_dead(&mut self) -> bool {
        let Some(victim) = &mut self.victim else { return false };
        let begun = Instant::now();
        while matches!(victim.try_wait(), Ok(None)) {
            if begun.elapsed() > Duration::from_secs(1) {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }

    /// Is something mounted at this path of the arena, for all the host to see?
    pub fn is_mounted(&self, name: &str) -> bool {
        let point = self.path(name);
        mountinfo::here().is_ok_and(|all| all.iter().any(|mount| mount.point == point))
    }

    /// How many processes there are more than before.
    pub fn new_processes(&self) -> usize {
        processes().len().saturating_sub(self.before.processes)
    }

    /// How many open descriptors there are more than before.
    pub fn new_open_files(&self) -> usize {
        open_files().saturating_sub(self.before.open_files)
    }

    /// Does a process of the container hold a file open for writing whose path ends like this, on a
    /// filesystem of this kind (a number of statfs(2))?
    pub fn holds_for_writing(&self, end: &str, kind: i64) -> bool {
        descriptors().any(|link| {
            let is_it = fs::read_link(&link).is_ok_and(|path| path.to_string_lossy().ends_with(end));
            is_it && kind_of(&link) == kind && is_for_writing(&link)
        })
    }

    /// Does a process hold this very file open for writing?
    pub fn holds_itself_for_writing(&self, name: &str) -> bool {
        let Ok(file) = fs::metadata(self.path(name)) else { return false };
        descriptors().any(|link| {
            let is_it = |found: fs::Metadata| (found.dev(), found.ino()) == (file.dev(), file.ino());
            fs::metadata(&link).is_ok_and(is_it) && is_for_writing(&link)
        })
    }

    /// The line that a shell outside would read from the terminal next.
    pub fn typed(&self) -> String {
        let Some(terminal) = &self.terminal else { return String::new() };
        let mut readable = [PollFd::new(terminal.slave.as_fd(), PollFlags::POLLIN)];
        let mut line = [0; 256];
        match poll(&mut readable, PollTimeout::from(500_u16)) {
            Ok(1..) => nix::unistd::read(&terminal.slave, &mut line)
                .map_or(String::new(), |count| String::from_utf8_lossy(&line[..count]).into_owned()),
            _ => String::new(),
        }
    }

    /// Does a process hold this device open, by a node with this name?
    pub fn holds_device(&self, name: &str, device: u64) -> bool {
        descriptors().any(|link| {
            let is_it = fs::read_link(&link).is_ok_and(|path| path.to_string_lossy().ends_with(name));
            is_it && fs::metadata(&link).is_ok_and(|found| found.rdev() == device)
        })
    }

    /// Are the runtime and the container's processes in more user namespaces than the chapter makes?
    pub fn has_new_user_namespace(&self) -> bool {
        let Some(container) = &self.container else { return false };
        let mut pids = vec![container.runtime.id() as i32];
        let mut next = 0;
        while let Some(pid) = pids.get(next).copied() {
            // Each thread has children of its own.
            for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
                let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
                pids.extend(children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
            }
            next += 1;
        }
        let namespace = |pid: &i32| fs::read_link(format!("/proc/{pid}/ns/user")).ok();
        let found: HashSet<PathBuf> = pids.iter().filter_map(namespace).collect();
        let made = if self.chapter >= 8 && self.peer.is_none() { 2 } else { 1 };
        found.len() > made
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        self.finish();
        for other in [&mut self.victim, &mut self.another].into_iter().flatten() {
            let _ = other.kill();
            let _ = other.wait();
        }
    }
}

impl Container {
    fn hear(&mut self) -> Said {
        match self.lines.recv_timeout(BOUND) {
            Ok(line) => match serde_json::from_str(&line) {
                Ok(answer) => Said { answer: Some(answer), status: None, complaint: String::new() },
                Err(_) => Said { answer: None, status: None, complaint: line },
            },
            Err(why) => {
                if why == RecvTimeoutError::Timeout {
                    let _ = self.runtime.kill();
                }
                let status = self
                    .runtime
                    .wait()
                    .ok()
                    .map(|status| status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)));
                let mut complaint = String::new();
                if let Some(mut err) = self.runtime.stderr.take() {
                    let _ = err.read_to_string(&mut complaint);
                }
                if why == RecvTimeoutError::Timeout {
                    complaint = TOO_LONG.to_string();
                }
                Said { answer: None, status, complaint }
            }
        }
    }
}

/// While it lives, what this thread starts is handed a capability.
struct HandingOn;

impl HandingOn {
    fn begin(capability: Capability) -> Result<HandingOn> {
        const WHY: &str = "hand a capability on";
        let own = sys::permitted().map_err(|errno| Error::call(STEP, "capget()", errno))?;
        sys::capset(WHY, own, own, 1 << capability.0)?;
        let handing_on = HandingOn;
        sys::raise_ambient(WHY, capability)?;
        Ok(handing_on)
    }
}

impl Drop for HandingOn {
    fn drop(&mut self) {
        const WHY: &str = "hand nothing on any more";
        let own = sys::permitted().unwrap_or(0);
        // It is the lab's, and there for one attack.
        let _ = sys::clear_ambient(WHY).and_then(|()| sys::capset(WHY, own, own, 0));
    }
}

/// Begins a session keyring, and puts a key with this word into it.
fn add_key(word: &str) -> nix::Result<()> {
    const JOIN_SESSION_KEYRING: libc::c_long = 1;
    const SESSION_KEYRING: libc::c_long = -3;
    let (kind, name, text) = (c"user".as_ptr(), KEY.as_ptr(), word.as_ptr());
    // SAFETY: strings that outlive the calls, a length that is theirs, and numbers.
    unsafe {
        Errno::result(libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, 0, 0, 0, 0))?;
        Errno::result(libc::syscall(libc::SYS_add_key, kind, name, text, word.len(), SESSION_KEYRING))
            .map(drop)
    }
}

/// The processes of the lab.
pub fn processes() -> Vec<Process> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // The name in parentheses may have anything in it.
        let Some((before, rest)) = stat.rsplit_once(") ") else { continue };
        let name = before.split_once('(').map_or("", |(_, name)| name).to_string();
        let words: Vec<_> = rest.split(' ').collect();
        let number = |index: usize| words.get(index).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        all.push(Process {
            pid,
            name,
            state: rest.chars().next().unwrap_or('?'),
            ticks: number(11) + number(12),
            resident: number(21) * 4,
        });
    }
    all
}

/// Every open descriptor of every process of the lab, as a path in /proc.
fn descriptors() -> impl Iterator<Item = PathBuf> {
    let all = processes().into_iter().map(|process| format!("/proc/{}/fd", process.pid));
    all.flat_map(|directory| fs::read_dir(directory).into_iter().flatten().flatten())
        .map(|entry| entry.path())
}

fn open_files() -> usize {
    descriptors().count()
}

fn kind_of(path: &Path) -> i64 {
    // The type has another size and sign on other machines.
    #[allow(clippy::unnecessary_cast)]
    nix::sys::statfs::statfs(path).map_or(0, |found| found.filesystem_type().0 as i64)
}

fn is_for_writing(descriptor: &Path) -> bool {
    let info = descriptor.to_string_lossy().replace("/fd/", "/fdinfo/");
    let text = fs::read_to_string(info).unwrap_or_default();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok()).unwrap_or(0);
    [libc::O_WRONLY, libc::O_RDWR].contains(&(flags & libc::O_ACCMODE))
}

/// Sets what limits of the lab can be set: it is the lab that keeps a bomb from the machine.
fn bound_the_lab() {
    let memory = 2u64 * 1024 * 1024 * 1024;
    for (file, value) in [
        ("/sys/fs/cgroup/pids/pids.max", 1000),
        ("/sys/fs/cgroup/pids.max", 1000),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", memory),
        ("/sys/fs/cgroup/memory.max", memory),
    ] {
        // Where one can't be set: no attack asks for more than a few hundred of anything.
        if let Ok(mut file) = fs::File::options().write(true).open(file) {
            let _ = file.write_all(value.to_string().as_bytes());
        }
    }
}

fn make_directory(path: &Path) -> Result<()> {
    fs::create_dir(path).map_err(|error| Error::io(STEP, path, &error))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .map_err(|error| Error::io(STEP, path, &error))
}

fn random() -> Result<String> {
    let mut bytes = [0; victim::WORD / 2];
    let read = fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(|error| Error::io(STEP, "/dev/urandom", &error))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

impl Said {
    /// What stopped it, if it said so.
    pub fn stopped(&self) -> Option<&Stopped> {
        self.answer.as_ref().and_then(|answer| answer.as_ref().err())
    }
}

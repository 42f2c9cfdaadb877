//! Starting chapters and looking at them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use cooperage::container::mountinfo;
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{AccessFlags, Pid, access, geteuid};

use super::sweep::OWN_USERS;
use super::{Who, binary, built};

/// The directory of the programs, mounted a second time where everybody may go.
pub const USERS_VIEW: &str = "/tmp/bin";
/// The ordinary user.
pub const NOBODY: u32 = 65534;

/// Makes the lab ready for a case.
pub fn prepare(who: Who) {
    assert!(Path::new("/run").exists() && std::env::var_os("COOPERAGE_LAB").is_some(), "this is not a lab");
    if who == Who::User {
        let built = built();
        fs::create_dir(USERS_VIEW).expect("the lab's /tmp is writable");
        mount(Some(&built), USERS_VIEW, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("bind mount");
    }
}

/// A chapter's program, to be started by `who`.
pub fn chapter(number: u32, who: Who) -> Command {
    program(&format!("chapter{number:02}"), who)
}

/// A program of this crate, to be started by `who`, with nothing of the test's environment but PATH.
pub fn program(name: &str, who: Who) -> Command {
    let mut command = Command::new(binary(name, who));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).stdin(Stdio::null());
    command.env("TERM", "xterm").env("RUST_BACKTRACE", "0");
    as_who(&mut command, who);
    command
}

/// Makes a command run as `who`.
pub fn as_who(command: &mut Command, who: Who) {
    if who == Who::Root {
        return;
    }
    command.current_dir("/tmp");
    if fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| map.contains("4294967295")) {
        // setgroups(2) with no group comes along with it, for root.
        command.uid(NOBODY).gid(NOBODY);
    } else {
        // The lab's root is an ordinary user of the machine and can become no other. A user namespace in
        // which its number is another makes it look like one.
        // SAFETY: between fork and exec it only makes system calls, and allocates in one thread.
        unsafe {
            command.pre_exec(|| {
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER)?;
                fs::write("/proc/self/setgroups", "deny")?;
                fs::write("/proc/self/uid_map", format!("{NOBODY} 0 1"))?;
                fs::write("/proc/self/gid_map", format!("{NOBODY} 0 1"))
            });
        }
    }
}

/// A command that has ended.
pub struct Ended {
    pub status: i32,
    pub out: String,
    pub err: String,
}

/// Runs it to its end.
pub fn run(command: &mut Command) -> Ended {
    let Output { status, stdout, stderr } = command.output().expect("the program starts");
    Ended { status: code(status), out: text(stdout), err: text(stderr) }
}

/// A volume as a chapter's option, whose files belong inside to whom they belong outside. Where root's container has users
/// of its own, that has to be said.
pub fn volume(number: u32, text: &str) -> String {
    if number < OWN_USERS {
        return text.to_string();
    }
    let end = if text.ends_with(":ro") { ",idmap" } else { ":idmap,suid" };
    format!("{}{end}", text.trim_end_matches(":rw"))
}

/// Runs `script` with the container's shell.
pub fn sh(number: u32, who: Who, options: &[&str], script: &str) -> Ended {
    run(chapter(number, who).args(options).args(["--", "sh", "-c", script]))
}

/// As [`sh`], but it must succeed with nothing on stderr. Returns what it printed.
pub fn says(number: u32, who: Who, options: &[&str], script: &str) -> String {
    let ended = sh(number, who, options, script);
    assert_eq!((ended.status, ended.err.as_str()), (0, ""), "chapter {number}: {script}\n{}", ended.out);
    ended.out
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A status as a shell shows it.
pub fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// A chapter that is running: its command waits to be told to end.
pub struct Running {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Running {
    /// Starts a chapter whose shell first runs `script`, and waits until it has.
    pub fn start(number: u32, who: Who, options: &[&str], script: &str) -> Running {
        Running::spawn(chapter(number, who).args(options), script, "")
    }

    /// As [`Running::start`] without a first script; when it is told to end, its shell runs `last`.
    pub fn start_then(number: u32, who: Who, options: &[&str], last: &str) -> Running {
        Running::spawn(chapter(number, who).args(options), "", last)
    }

    /// As [`Running::start`], with any command line that a shell can be appended to.
    pub fn spawn(command: &mut Command, first: &str, last: &str) -> Running {
        // Twice: a trap interrupts the first.
        let script = format!("{first}\necho the container is ready\nread line || read line || :\n{last}");
        let mut child = command
            .args(["--", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let mut running = Running { child, out };
        running.until("the container is ready");
        running
    }

    /// Reads what it prints up to a line, without it.
    pub fn until(&mut self, last: &str) -> String {
        let mut said = String::new();
        loop {
            let mut line = String::new();
            if self.out.read_line(&mut line).expect("readable") == 0 {
                let mut err = String::new();
                self.child.stderr.take().expect("piped").read_to_string(&mut err).expect("readable");
                panic!("it ended without saying {last:?}: {said}{err}");
            }
            if line.trim_end() == last {
                return said;
            }
            said.push_str(&line);
        }
    }

    /// The runtime.
    pub fn runtime(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// The container's first process, by the host's number.
    pub fn first(&self) -> Pid {
        children(self.runtime()).first().copied().expect("the runtime has a child")
    }

    /// Lets the command end.
    pub fn end(mut self) -> Ended {
        let _ = self.child.stdin.as_mut().expect("piped").write_all(b"\n");
        self.wait()
    }

    /// Sends the runtime a signal and waits for its end.
    pub fn signal(self, signal: Signal) -> Ended {
        kill(self.runtime(), signal).expect("it is alive");
        self.wait()
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Ended {
        // Not closed before the end, as Child::wait would do: the command would see the end of its input.
        let mut stdin = self.child.stdin.take();
        let start = Instant::now();
        let status = loop {
            match self.child.try_wait().expect("it is our child") {
                Some(status) => break status,
                // A signal that comes between a shell's last look for one and its wait for input is noticed with
                // the input, also in busybox. A trap that was not set off prints nothing then, either.
                None if start.elapsed() > Duration::from_secs(20) => drop(stdin.take()),
                None => {}
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let (mut out, mut err) = (String::new(), String::new());
        self.out.read_to_string(&mut out).expect("readable");
        self.child.stderr.take().expect("piped").read_to_string(&mut err).expect("readable");
        Ended { status: code(status), out, err }
    }
}

/// The children of a process.
pub fn children(pid: Pid) -> Vec<Pid> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw).collect()
}

/// The kinds of namespaces.
pub const KINDS: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

/// Every namespace of a process, by kind.
pub fn namespaces(pid: Pid) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for kind in KINDS {
        let link = fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("a living process");
        all.insert(kind.to_string(), link.to_string_lossy().into_owned());
    }
    all
}

/// What of a container could stay behind on its host: mounts, links, cgroups, processes, files.
#[derive(Debug, PartialEq, Eq)]
pub struct Host {
    pub mounts: Vec<String>,
    pub links: Vec<String>,
    pub cgroups: Vec<PathBuf>,
    pub processes: Vec<String>,
    pub files: Vec<PathBuf>,
    pub ip_forward: String,
}

impl Host {
    /// Looks around.
    pub fn now() -> Host {
        let mut mounts: Vec<_> =
            mountinfo::here().expect("readable").iter().map(ToString::to_string).collect();
        mounts.sort();
        let mut files = Vec::new();
        for directory in ["/run", "/tmp", "/dev/shm", "/var/tmp"] {
            walk(Path::new(directory), &mut |path| files.push(path.to_path_buf()));
        }
        // What is made once and kept: rootfs, and the empty places for notes. And where the repository is in /tmp, what is
        // built or comes and goes in it is nobody's leftover.
        let repository = super::repository();
        files.retain(|path| {
            let name = path.to_string_lossy();
            !name.contains("cooperage-rootfs")
                && !name.starts_with(USERS_VIEW)
                && !is_place_for_notes(&name)
                && !path.starts_with(repository)
        });
        let mut cgroups = Vec::new();
        // An ordinary user's lab shows the machine's cgroups. What may not be written to is others' work, and comes and
        // goes as they like.
        let may_be_ours = |path: &Path| access(path, AccessFlags::W_OK).is_ok();
        walk(Path::new("/sys/fs/cgroup"), &mut |path| {
            if path.is_dir() && may_be_ours(path) {
                cgroups.push(path.to_path_buf());
            }
        });
        Host {
            mounts,
            links: links(),
            cgroups,
            processes: processes(),
            files,
            ip_forward: fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap_or_default(),
        }
    }

    /// Fails unless everything is as it was.
    pub fn must_be(&self, before: &Host, after_what: &str) {
        let lines = |host: &Host| format!("{host:#?}").lines().map(str::to_string).collect::<Vec<_>>();
        let (now, then) = (lines(self), lines(before));
        let new: Vec<_> = now.iter().filter(|line| !then.contains(line)).collect();
        let gone: Vec<_> = then.iter().filter(|line| !now.contains(line)).collect();
        assert!(self == before, "after {after_what} there is {new:#?}, and gone is {gone:#?}");
    }
}

fn is_place_for_notes(path: &str) -> bool {
    // Chapter 10's, as an ordinary user.
    if path == format!("/tmp/cooperage-oci-{NOBODY}") {
        return true;
    }
    let names = ["", "/lock", "/network", "/runtimes", "/addresses", "/stage", "/users", "/oci"];
    // The last is root's, if a test has made /run/cooperage fail.
    let places = ["/run/cooperage", &format!("/tmp/cooperage-{NOBODY}"), "/tmp/cooperage-0"];
    places.iter().any(|place| names.iter().any(|name| path == format!("{place}{name}")))
}

/// The names of the network devices of this namespace.
pub fn links() -> Vec<String> {
    let text = fs::read_to_string("/proc/self/net/dev").expect("readable");
    let mut names: Vec<String> = text
        .lines()
        .skip(2)
        .filter_map(|line| line.split(':').next())
        .map(|name| name.trim().to_string())
        .collect();
    names.sort();
    names
}

/// The command names of all processes but zombies and this one.
pub fn processes() -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir("/proc").expect("readable").flatten() {
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        if let (Some(open), Some(close)) = (stat.find('('), stat.rfind(')'))
            && !stat[close..].starts_with(") Z")
        {
            names.push(stat[open + 1..close].to_string());
        }
    }
    names.sort();
    names
}

/// Calls `found` with all that is below a directory.
pub fn walk(directory: &Path, found: &mut dyn FnMut(&Path)) {
    let mut entries: Vec<_> = fs::read_dir(directory).into_iter().flatten().flatten().collect();
    entries.sort_by_key(|entry| entry.path());
    for entry in entries {
        let path = entry.path();
        found(&path);
        let kept = path == Path::new(USERS_VIEW) || path == super::repository();
        if kept || path.to_string_lossy().contains("cooperage-rootfs") {
            continue;
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&path, found);
        }
    }
}

/// Puts a file in place of one of the lab's own /etc.
pub fn in_etc(name: &str, text: &str) {
    let etc = Path::new("/tmp/etc");
    if !etc.exists() {
        let copied = Command::new("cp").args(["-a", "/etc", "/tmp/etc"]).output().expect("cp");
        assert!(etc.join("passwd").exists(), "{copied:?}");
        mount(Some(etc), "/etc", None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("bind mount");
    }
    fs::write(Path::new("/etc").join(name), text).expect("writable");
}

/// Waits until something is so. No assertion about time: the limit only ends a test that hangs.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(60), "never came: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Is this the machine's real root, rather than root of a user namespace?
pub fn real_root() -> bool {
    geteuid().is_root()
        && fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| map.contains("4294967295"))
}

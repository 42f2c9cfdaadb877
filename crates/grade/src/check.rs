//! What a check is written with: start the submission, look at it, and say what is wrong.
//!
//! A check runs inside a lab of its own, as the lab's root. The submission is a program with the chapter's
//! command line; nothing else about it is known, neither its language nor its way. Its output, its
//! processes and what it leaves behind are all that a check judges.

use std::cell::RefCell;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use cooperage::container::capability::Capability;
use cooperage::container::mountinfo::{self, Mounted};

/// How long one run of the submission may take.
pub const TIME: Duration = Duration::from_secs(10);
/// How much one run may print, in bytes.
pub const OUTPUT: usize = 256 * 1024;
/// How many processes a check may have at a time, where a cgroup can limit them.
pub const PROCESSES: u32 = 400;
/// How much each temporary directory of the lab holds, in bytes.
pub const DISK: u64 = 256 * 1024 * 1024;

/// How one task is checked.
#[derive(Clone, Copy)]
pub struct Check {
    /// The task, such as "5.2".
    pub task: &'static str,
    /// What the check does, for `--explain`.
    pub explain: &'static str,
    /// What the machine must be able to do, by the doctor's names.
    pub needs: &'static [&'static str],
    /// The check itself.
    pub run: fn(&mut Trial) -> Result<(), Failure>,
}

/// What a student is told when a task is not done: four lines.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Failure {
    /// The command line that was run.
    pub ran: String,
    /// What should have come of it.
    pub expected: String,
    /// What came of it.
    pub saw: String,
    /// What the difference means: this line teaches.
    pub lesson: String,
}

impl Failure {
    /// A failure in four lines.
    pub fn new(
        ran: impl Into<String>,
        expected: impl Into<String>,
        saw: impl Into<String>,
        lesson: impl Into<String>,
    ) -> Failure {
        Failure { ran: ran.into(), expected: expected.into(), saw: saw.into(), lesson: lesson.into() }
    }
}

/// What keeps a check from judging: the machine's or the grader's fault, not the student's. It is passed on
/// as a panic, which the grader reports as an error of its own.
#[allow(clippy::panic)] // caught where the check was called
fn cannot(what: &str, error: impl std::fmt::Display) -> ! {
    panic!("can't {what}: {error}")
}

/// One run of the submission that has ended.
#[derive(Debug, Clone)]
pub struct Run {
    /// The status as a shell shows it: 128+N if signal N killed it.
    pub status: i32,
    /// What it printed to stdout.
    pub out: String,
    /// What it printed to stderr.
    pub err: String,
    /// The command line, as it is shown to the student.
    pub command: String,
}

impl Run {
    /// A failure that says what was run.
    pub fn fail(
        &self,
        expected: impl Into<String>,
        saw: impl Into<String>,
        lesson: impl Into<String>,
    ) -> Failure {
        Failure::new(&self.command, expected, saw, lesson)
    }

    /// All that it printed, with its status: for the line "saw". Long output is shortened.
    pub fn said(&self) -> String {
        let mut parts = vec![format!("status {}", self.status)];
        for (name, text) in [("stdout", &self.out), ("stderr", &self.err)] {
            if !text.trim().is_empty() {
                parts.push(format!("{name}: {}", shorten(text)));
            }
        }
        parts.join(", ")
    }

    /// Fails unless the status is 0 and nothing was written to stderr by the runtime (cooperage: or a panic).
    pub fn success(&self, lesson: impl Into<String>) -> Result<(), Failure> {
        if self.status == 0 {
            return Ok(());
        }
        Err(self.fail("the command runs and ends with status 0", self.said(), lesson))
    }
}

/// The text on one line, and not too long a line.
pub fn shorten(text: &str) -> String {
    let line: Vec<_> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let line = line.join(" | ");
    match line.char_indices().nth(300) {
        Some((end, _)) => format!("{} ...", &line[..end]),
        None => line,
    }
}

/// A check at work: the submission, and the lab around it.
pub struct Trial {
    program: PathBuf,
    name: String,
    rootfs: PathBuf,
    directory: PathBuf,
    environment: Vec<(String, String)>,
    leaks: Vec<(OwnedFd, RawFd)>,
    random: File,
    /// For inputs that are the same from run to run, as the grader's own tests need them.
    seed: Option<u64>,
    host: Rc<Host>,
}

type Announce = Box<dyn Fn(&str)>;

/// What all runs of a check share.
struct Host {
    proc: OwnedFd,
    /// The task whose `todo!()` was reached.
    todo: RefCell<Option<String>>,
    /// Is told each command line before it runs.
    announce: RefCell<Announce>,
}

impl Trial {
    /// To be called in a lab only: at the end of a run that went wrong it kills every process there is.
    pub(super) fn new(program: &Path, name: &str, rootfs: &Path) -> std::io::Result<Trial> {
        Trial::seeded(program, name, rootfs, None)
    }

    /// The same with inputs that are the same from run to run.
    pub(super) fn seeded(
        program: &Path,
        name: &str,
        rootfs: &Path,
        seed: Option<u64>,
    ) -> std::io::Result<Trial> {
        let ours = fs::read_link("/proc/1/exe")? == fs::read_link("/proc/self/exe")?;
        if !cooperage::workshop::lab::inside() || !ours {
            return Err(std::io::Error::other("this is not a lab of the grader's"));
        }
        let proc =
            nix::fcntl::open("/proc", OFlag::O_PATH | OFlag::O_CLOEXEC, nix::sys::stat::Mode::empty())?;
        let mut trial = Trial {
            program: program.to_path_buf(),
            name: name.to_string(),
            rootfs: rootfs.to_path_buf(),
            directory: PathBuf::from("/"),
            environment: Vec::new(),
            leaks: Vec::new(),
            random: File::open("/dev/urandom")?,
            seed,
            host: Rc::new(Host { proc, todo: RefCell::new(None), announce: RefCell::new(Box::new(|_| {})) }),
        };
        trial.directory = trial.directory();
        Ok(trial)
    }

    /// From now on `what` is told each command line of the submission before it runs.
    pub(super) fn announce(&self, what: impl Fn(&str) + 'static) {
        *self.host.announce.borrow_mut() = Box::new(what);
    }

    /// The task whose `todo!()` was reached, if one was.
    pub(super) fn todo(&self) -> Option<String> {
        self.host.todo.borrow().clone()
    }

    /// The root filesystem that every run is given with `--rootfs`, unless the arguments name another. It is
    /// read-only and has `witness` in its PATH.
    pub fn rootfs(&self) -> &Path {
        &self.rootfs
    }

    /// A copy of it that can be written to, and spoilt.
    pub fn copy_of_rootfs(&mut self) -> PathBuf {
        let copy = self.directory().join("rootfs");
        match cooperage::workshop::rootfs::copy(&self.rootfs, &copy) {
            Ok(()) => copy,
            Err(error) => cannot(error.step(), error.reason()),
        }
    }

    /// The submission: an executable file.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The directory in which the submission is started: in the lab's /tmp, with a random name.
    pub fn working_directory(&self) -> &Path {
        &self.directory
    }

    /// Starts the submission in this directory from now on.
    pub fn start_in(&mut self, directory: &Path) {
        self.directory = directory.to_path_buf();
    }

    /// Gives the submission a variable, from now on. It has PATH, TERM and HOME anyway.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_string(), value.to_string()));
    }

    /// Hands the submission an open descriptor of this file or directory, from now on. Its number is the
    /// result.
    pub fn hand_down(&mut self, path: &Path) -> RawFd {
        let number = 20 + 3 * self.leaks.len() as RawFd;
        match File::open(path) {
            Ok(file) => self.leaks.push((file.into(), number)),
            Err(error) => cannot(&format!("open {}", path.display()), error),
        }
        number
    }

    /// A random word of lowercase letters, 10 long.
    pub fn word(&mut self) -> String {
        (0..10).map(|_| char::from(b'a' + self.number(0, 25) as u8)).collect()
    }

    /// A random number, both ends included.
    pub fn number(&mut self, from: u64, to: u64) -> u64 {
        let mut bytes = [0; 8];
        if let Some(seed) = &mut self.seed {
            // Knuth's MMIX; its upper half is the better one.
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            bytes = (*seed >> 32).to_ne_bytes();
        } else if let Err(error) = self.random.read_exact(&mut bytes) {
            cannot("read /dev/urandom", error);
        }
        from + u64::from_ne_bytes(bytes) % (to.saturating_sub(from) + 1)
    }

    /// A fresh directory in the lab's /tmp with a random name.
    pub fn directory(&mut self) -> PathBuf {
        let path = Path::new("/tmp").join(self.word());
        match fs::create_dir(&path) {
            Ok(()) => path,
            Err(error) => cannot(&format!("make {}", path.display()), error),
        }
    }

    /// Runs the submission to its end, with empty stdin. `args` are its options, then "--", then the
    /// command. A run that hangs, floods, fills the disk or unmounts things is a failure that says so.
    pub fn run(&mut self, args: &[&str]) -> Result<Run, Failure> {
        let (command, shown) = self.command(args);
        self.finish(command, shown)
    }

    /// The same for a shell script: `options` and then `-- sh -c script`.
    pub fn sh(&mut self, options: &[&str], script: &str) -> Result<Run, Failure> {
        let mut args = options.to_vec();
        args.extend(["--", "sh", "-c", script]);
        self.run(&args)
    }

    /// Starts a container whose `sh -c` runs `script`, then prints a ready word and waits for a line on
    /// stdin. Returns when it is ready. What the script printed comes from [`Session::line`].
    pub fn start(&mut self, args: &[&str], script: &str) -> Result<Session, Failure> {
        self.start_then(args, script, "")
    }

    /// The same; when it is told to end, its shell runs `last`.
    pub fn start_then(&mut self, args: &[&str], script: &str, last: &str) -> Result<Session, Failure> {
        let ready = format!("ready-{}", self.word());
        // Twice: a trap interrupts the first.
        let script_with = format!("{script}\necho {ready}\nread line || read line || :\n{last}");
        let mut all = args.to_vec();
        all.extend(["--", "sh", "-c", &script_with]);
        let (mut command, _) = self.command(&all);
        let mut shown_args = args.to_vec();
        shown_args.extend(["--", "sh", "-c", if script.is_empty() { "read line" } else { script }]);
        let shown = self.shown(&shown_args);
        command.stdin(Stdio::piped());
        let mut session = Session::spawn(command, shown, &self.host)?;
        let start = Instant::now();
        while let Some(line) = session.try_line(TIME.saturating_sub(start.elapsed())) {
            if line == ready {
                return Ok(session);
            }
            session.kept.push(line);
        }
        let hung = !session.ended();
        let mut run = session.collect(if hung { Duration::ZERO } else { Duration::from_secs(1) })?;
        run.out = session_out(&session.kept, &run.out);
        let unknown = ["unexpected argument", "unknown option", "unrecognized"];
        let lesson = if unknown.iter().any(|words| run.err.to_lowercase().contains(words)) {
            "the program must take this option: the task's words say what it does"
        } else if [125, 126, 127].contains(&run.status) {
            "the container was not made, or its command not found: stderr says at which step"
        } else {
            "the container's command inherits stdin, stdout and stderr; it ended too early, or never ran"
        };
        Err(run.fail("the command starts, and waits for a line on its stdin", run.said(), lesson))
    }

    /// Runs a command of the host's (the lab's): not the submission.
    pub fn host(&mut self, script: &str) -> Run {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).stdin(Stdio::null()).current_dir("/tmp");
        match command.output() {
            Ok(done) => Run {
                status: code(done.status),
                out: String::from_utf8_lossy(&done.stdout).into_owned(),
                err: String::from_utf8_lossy(&done.stderr).into_owned(),
                command: script.to_string(),
            },
            Err(error) => cannot("run /bin/sh", error),
        }
    }

    /// What is mounted on the host (the lab), sorted.
    pub fn host_mounts(&self) -> Vec<Mounted> {
        self.host.mounts()
    }

    /// The names of the host's network devices, sorted.
    pub fn host_links(&self) -> Vec<String> {
        let text = self.proc("self/net/dev").unwrap_or_default();
        let mut names: Vec<_> = text
            .lines()
            .skip(2)
            .filter_map(|line| line.split(':').next())
            .map(|name| name.trim().to_string())
            .collect();
        names.sort();
        names
    }

    /// Every cgroup directory of the host's, sorted.
    pub fn host_cgroups(&self) -> Vec<PathBuf> {
        fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    found.push(entry.path());
                    walk(&entry.path(), found);
                }
            }
        }
        let mut found = Vec::new();
        walk(Path::new("/sys/fs/cgroup"), &mut found);
        found.sort();
        found
    }

    /// A file below the host's /proc, whatever has been done to /proc by now.
    pub fn proc(&self, name: &str) -> Option<String> {
        self.host.read(name)
    }

    /// Waits until something is so, 5 seconds at most.
    pub fn eventually(&self, mut is_so: impl FnMut() -> bool) -> bool {
        let start = Instant::now();
        while !is_so() {
            if start.elapsed() > Duration::from_secs(5) {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }

    fn shown(&self, args: &[&str]) -> String {
        let mut shown = self.name.clone();
        for arg in args {
            shown.push(' ');
            shown.push_str(&quote(arg));
        }
        shown
    }

    fn command(&self, args: &[&str]) -> (Command, String) {
        let mut all: Vec<OsString> = Vec::new();
        let options = args.iter().take_while(|arg| **arg != "--");
        if !options.clone().any(|arg| *arg == "--rootfs" || arg.starts_with("--rootfs=")) {
            all.extend(["--rootfs".into(), self.rootfs.clone().into()]);
        }
        all.extend(args.iter().map(OsString::from));
        let mut command = Command::new(&self.program);
        command
            .args(all)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("TERM", "dumb")
            .env("HOME", "/root")
            .env("RUST_BACKTRACE", "0")
            .envs(self.environment.iter().cloned())
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let leaks: Vec<(RawFd, RawFd)> = self.leaks.iter().map(|(fd, to)| (fd.as_raw_fd(), *to)).collect();
        // SAFETY: between fork and exec it makes system calls only.
        unsafe {
            command.pre_exec(move || {
                // Without this capability it can't look into the checker or write to its descriptors: see
                // cap_ptrace_access_check in the kernel. A submission must not write its own mark.
                Capability::SYS_PTRACE.drop_from_bounding_set()?;
                // Whoever started the grader may ignore some, as nohup(1) does SIGHUP; and a shell that inherits
                // that can set no trap for it.
                cooperage::container::process::default_signals()
                    .map_err(|_| std::io::Error::last_os_error())?;
                libc::setpgid(0, 0);
                for &(from, to) in &leaks {
                    if libc::dup2(from, to) < 0 {
                        return Err(std::io::Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
        (command, self.shown(args))
    }

    fn finish(&mut self, command: Command, shown: String) -> Result<Run, Failure> {
        let mut session = Session::spawn(command, shown, &self.host)?;
        session.collect(TIME)
    }
}

impl Host {
    fn read(&self, name: &str) -> Option<String> {
        Some(String::from_utf8_lossy(&self.read_bytes(name)?).into_owned())
    }

    fn read_bytes(&self, name: &str) -> Option<Vec<u8>> {
        let how = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let file = nix::fcntl::openat(&self.proc, name, how, nix::sys::stat::Mode::empty()).ok()?;
        let mut bytes = Vec::new();
        File::from(file).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    fn mounts(&self) -> Vec<Mounted> {
        let mut mounts = mountinfo::parse(&self.read_bytes("self/mountinfo").unwrap_or_default());
        mounts.sort_by_cached_key(ToString::to_string);
        mounts
    }

    /// What a run has done to its host that is nobody's task.
    fn damage(&self, mounts: &[Mounted]) -> Option<(String, String)> {
        let limited = "the grader's lab holds it, but the check cannot go on".to_string();
        let now = self.mounts();
        let is_there = |mount: &Mounted| now.iter().any(|other| other.point == mount.point);
        if let Some(gone) = mounts.iter().find(|mount| !is_there(mount)) {
            let point = gone.point.display();
            let lesson = "a container has its own mount namespace, in which it may unmount; or it unmounts only \
                          what it has mounted itself";
            return Some((format!("it unmounted {point} on its host"), lesson.to_string()));
        }
        for file in ["/sys/fs/cgroup/pids/pids.events", "/sys/fs/cgroup/pids.events"] {
            let text = fs::read_to_string(file).unwrap_or_default();
            let times = text.lines().find_map(|line| line.strip_prefix("max ")).unwrap_or("0");
            if times.trim() != "0" {
                return Some((
                    format!("it reached the limit of {PROCESSES} processes: a fork bomb"),
                    limited,
                ));
            }
        }
        for directory in ["/tmp", "/run", "/var/tmp", "/dev/shm"] {
            if let Ok(found) = nix::sys::statvfs::statvfs(directory)
                && found.blocks() > 0
                && found.blocks_free() == 0
            {
                let size = found.blocks() * found.fragment_size() / (1024 * 1024);
                return Some((format!("it filled the disk: all {size} MiB of {directory}"), limited));
            }
        }
        None
    }

    /// Ends every process in the lab but this one and the lab's init.
    fn kill_all(&self) {
        // Once would do: a process that has been sent SIGKILL cannot fork. See `Trial::new` for why it is safe.
        for _ in 0..3 {
            let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
        }
    }
}

fn quote(arg: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+,./:@%".contains(c);
    if !arg.is_empty() && arg.chars().all(plain) {
        return arg.to_string();
    }
    format!("'{}'", arg.trim().replace('\n', "; "))
}

/// A status as a shell shows it.
pub fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

fn session_out(kept: &[String], rest: &str) -> String {
    let mut out: String = kept.iter().map(|line| format!("{line}\n")).collect();
    out.push_str(rest);
    out
}

/// A container that is running: its command waits to be told to end.
pub struct Session {
    child: Child,
    stdin: Option<ChildStdin>,
    out: Stream,
    err: Stream,
    kept: Vec<String>,
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
    fn spawn(mut command: Command, shown: String, host: &Rc<Host>) -> Result<Session, Failure> {
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

    fn try_line(&mut self, patience: Duration) -> Option<String> {
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
    fn collect(&mut self, patience: Duration) -> Result<Run, Failure> {
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
        let expected = format!("the program ends within {seconds} s");
        match (damage, bound) {
            (Some((saw, lesson)), _) => {
                Err(self.fail("a program that leaves its host as it was", saw, lesson))
            }
            (_, Some("output")) => Err(self.fail(
                format!("at most {} KiB of output", OUTPUT / 1024),
                format!("more than that within {:.1} s: {}", start.elapsed().as_secs_f64(), shorten(&self.out.all()).chars().take(60).collect::<String>()),
                "a loop that prints has no end",
            )),
            (_, Some(_)) => Err(self.fail(
                expected,
                format!("it was still running, with {alive} processes{also}"),
                "it waits for something that never comes: a pipe whose other end is open in another process, a \
                 child that is not its own, a signal that is blocked",
            )),
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

/// The children of a process.
pub fn children(pid: i32) -> Vec<i32> {
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        found.extend(text.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
    }
    found
}

/// All processes that descend from a process, in order of their depth.
pub fn descendants(pid: i32) -> Vec<i32> {
    let mut found = children(pid);
    let mut next = 0;
    while next < found.len() && found.len() < 10_000 {
        found.extend(children(found[next]));
        next += 1;
    }
    found
}

/// A namespace of a process, such as `net:[4026531840]`.
pub fn namespace(pid: i32, kind: &str) -> Option<String> {
    let link = fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()?;
    Some(link.to_string_lossy().into_owned())
}

/// A line of /proc/PID/status: the words after `key:`.
pub fn status_of(pid: i32, key: &str) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap_or_default().split_whitespace().map(str::to_string).collect()
}

/// Is an error only that nothing is there?
pub fn is_missing(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::NotFound
}

//! A check at work: it starts the submission, looks at it, and judges.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use cooperage::container::capability::Capability;
use cooperage::container::mountinfo::Mounted;

use super::host::Host;
use super::session::{Session, session_out};
use super::verdict::{Failure, Run, TIME, cannot, code};

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

/// A check at work: the submission, and the lab around it.
pub struct Trial {
    program: PathBuf,
    name: String,
    rootfs: PathBuf,
    directory: PathBuf,
    environment: Vec<(String, String)>,
    leaks: Vec<(OwnedFd, RawFd)>,
    gives_rootfs: bool,
    random: File,
    /// For inputs that are the same from run to run, as the grader's own tests need them.
    seed: Option<u64>,
    host: Rc<Host>,
}

impl Trial {
    /// To be called in a lab only: at the end of a run that went wrong it kills every process there is.
    pub(crate) fn new(program: &Path, name: &str, rootfs: &Path) -> std::io::Result<Trial> {
        Trial::seeded(program, name, rootfs, None)
    }

    /// As [`Trial::new`], with inputs that are the same in every run if there is a `seed`.
    pub(crate) fn seeded(
        program: &Path,
        name: &str,
        rootfs: &Path,
        seed: Option<u64>,
    ) -> std::io::Result<Trial> {
        let ours = fs::read_link("/proc/1/exe")? == fs::read_link("/proc/self/exe")?;
        if !cooperage::workshop::lab::inside() || !ours {
            return Err(std::io::Error::other("this is not one of the grader's labs"));
        }
        let mut trial = Trial {
            program: program.to_path_buf(),
            name: name.to_string(),
            rootfs: rootfs.to_path_buf(),
            directory: PathBuf::from("/"),
            environment: Vec::new(),
            leaks: Vec::new(),
            gives_rootfs: true,
            random: File::open("/dev/urandom")?,
            seed,
            host: Rc::new(Host::new()?),
        };
        trial.directory = trial.directory();
        Ok(trial)
    }

    /// From now on `what` is told each command line of the submission before it runs.
    pub(crate) fn announce(&self, what: impl Fn(&str) + 'static) {
        *self.host.announce.borrow_mut() = Box::new(what);
    }

    /// The task whose `todo!()` was reached, if one was.
    pub(crate) fn todo(&self) -> Option<String> {
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

    /// Adds no --rootfs to the arguments, from now on: the command line is not that of Part I, and a file says where it is.
    pub fn without_rootfs(&mut self) {
        self.gives_rootfs = false;
    }

    /// Makes the checker the parent of all whose parents have ended, from now on. Nobody waits for them, so that
    /// who has ended stays a zombie until [`Trial::reap`].
    pub fn adopt_orphans(&self) {
        if let Err(errno) = nix::sys::prctl::set_child_subreaper(true) {
            cannot("be the parent of orphans", errno);
        }
    }

    /// Waits for a process that has ended and was adopted, so that its number is free.
    pub fn reap(&self, pid: i32) {
        let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None);
    }

    /// Gives a number that is free to a new process of the host, which does nothing.
    pub fn occupy(&self, pid: i32) {
        if let Err(error) = super::host::occupy(pid) {
            cannot("give a process a number of one's choice", error);
        }
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

    /// As [`Trial::run`], for a shell script: `options` and then `-- sh -c script`.
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

    /// As [`Trial::start`]; when it is told to end, its shell runs `last`.
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

    /// Runs a command on the host (the lab): not the submission.
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

    /// Every cgroup directory of the host, sorted.
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
        let mut options = args.iter().take_while(|arg| **arg != "--");
        let names_one = options.any(|arg| *arg == "--rootfs" || arg.starts_with("--rootfs="));
        if self.gives_rootfs && !names_one {
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
                // Whoever started the grader may ignore some, as nohup(1) does SIGHUP; and a shell that
                // inherits that can set no trap for it.
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

fn quote(arg: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+,./:@%".contains(c);
    if !arg.is_empty() && arg.chars().all(plain) {
        return arg.to_string();
    }
    format!("'{}'", arg.trim().replace('\n', "; "))
}

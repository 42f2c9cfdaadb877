//! One check, in a lab of its own.
//!
//! The grader starts itself again in a lab: see [`harness`]. What came of the check is written to standard
//! output. The submission has other descriptors, and can't get at this one: it lacks the capability to look into the checker (see [`super::check`]). It
//! can end the checker, and then there is no result: that is a failure too.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::check::{DISK, Failure, PROCESSES, Trial};
use super::checks;
use cooperage::told::errors::Error;
use cooperage::workshop::chapters;
use cooperage::workshop::lab::Layout;
use cooperage::workshop::lab::harness::{self, Done, Ending, Harness};
use cooperage::workshop::rootfs;

/// How long one check may take, with all its runs.
const BOUND: Duration = Duration::from_secs(60);
/// How much memory a check may use, with the files in its temporary directories.
const MEMORY: u64 = 2 * 1024 * 1024 * 1024;

/// The variable that makes the inputs the same from run to run. For the grader's own tests; and to see the
/// same failure twice.
pub const SEED: &str = "COOPERAGE_GRADE_SEED";

/// What is to be checked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// The chapter.
    pub chapter: u8,
    /// The task.
    pub task: String,
    /// The program.
    pub program: PathBuf,
    /// What it is called in messages.
    pub name: String,
    /// The root filesystem that it is given.
    pub rootfs: PathBuf,
    /// Directories that it shall not see: where the answers are.
    pub hide: Vec<PathBuf>,
    /// The directory that the program was handed in with. It sees it, read-only, under its own path.
    pub directory: Option<PathBuf>,
    /// Inputs that are the same from run to run: see [`SEED`].
    pub seed: Option<u64>,
    /// What the result must begin with.
    pub nonce: String,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// It is done.
    Pass,
    /// It is not.
    Fail(Failure),
    /// A `todo!()` was reached: of this task or another.
    Todo(String),
    /// The check itself went wrong.
    Error(String),
}

/// If this process was started to be a lab or a check, it is one from here on.
pub fn take_over() -> Option<ExitCode> {
    harness::take_over(be_check)
}

fn be_check(job: &str) -> ExitCode {
    let job: Job = match serde_json::from_str(job) {
        Ok(job) => job,
        Err(error) => return complain(&error),
    };
    // Not println: it panics where nobody listens.
    let mut out = std::io::stdout();
    let nonce = job.nonce.clone();
    let mut tell = move |text: &str| writeln!(out, "{nonce} {text}").and_then(|()| out.flush());
    let mut trial = match prepare(&job) {
        Ok(trial) => trial,
        Err(error) => return complain(&error),
    };
    if let Err(error) = tell("begun") {
        return complain(&error);
    }
    let nonce = job.nonce.clone();
    trial.announce(move |command| {
        let mut out = std::io::stdout();
        let _ = writeln!(out, "{nonce} ran {}", command.replace('\n', " "));
        let _ = out.flush();
    });
    let Some(check) = checks::of(job.chapter).iter().find(|check| check.task == job.task) else {
        return complain(&format!("there is no check for task {}", job.task));
    };
    std::panic::set_hook(Box::new(|_| {})); // the text goes into the report
    let result = catch_unwind(AssertUnwindSafe(|| (check.run)(&mut trial)));
    let outcome = match (result, trial.todo()) {
        (Err(panic), _) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            Outcome::Error(text.unwrap_or_else(|| "the check panicked".to_string()))
        }
        (Ok(_), Some(id)) => Outcome::Todo(id),
        (Ok(Ok(())), None) => Outcome::Pass,
        (Ok(Err(failure)), None) => Outcome::Fail(failure),
    };
    match serde_json::to_string(&outcome) {
        Ok(text) => match tell(&format!("result {text}")) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(&error),
        },
        Err(error) => complain(&error),
    }
}

fn complain(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("cooperage: the check can't begin: {error}");
    ExitCode::from(125)
}

const PLACE: &str = "/run/cooperage-grade";

/// Makes the lab ready: limits, the root filesystem, the program, and no answers in sight.
fn prepare(job: &Job) -> Result<Trial, Error> {
    let step = "prepare the lab for a check";
    let io = |path: &Path, error: std::io::Error| Error::io(step, path, &error);
    limit();
    let bind = |from: &Path, to: &Path| {
        mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(|errno| Error::call(step, format!("mount({}, MS_BIND)", from.display()), errno))
    };
    let place = Path::new(PLACE);
    let (rootfs, bin) = (place.join("rootfs"), place.join("bin"));
    for directory in [&rootfs, &bin] {
        fs::create_dir_all(directory).map_err(|error| io(directory, error))?;
    }
    bind(&job.rootfs, &rootfs)?;
    let mut program = job.program.clone();
    if !program.is_absolute() {
        // What the grader has put into the working directory.
        program = bin.join(&job.name);
        fs::copy(&job.program, &program).map_err(|error| io(&job.program, error))?;
    }
    // One may be below another, and is gone with it.
    for hidden in job.hide.iter().filter(|path| path.is_dir()) {
        let data = Some("size=64k,mode=755");
        mount(Some("hidden"), hidden, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, data)
            .map_err(|errno| Error::call(step, format!("mount(tmpfs, {})", hidden.display()), errno))?;
    }
    if let Some(own) = &job.directory {
        fs::create_dir_all(own).map_err(|error| io(own, error))?;
        bind(Path::new(BESIDE), own)?;
        let how = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, own, None::<&str>, how, None::<&str>)
            .map_err(|errno| Error::call(step, format!("mount({}, MS_RDONLY)", own.display()), errno))?;
    }
    std::env::set_current_dir("/tmp").map_err(|error| io(Path::new("/tmp"), error))?;
    Trial::seeded(&program, &job.name, &rootfs, job.seed).map_err(|error| Error::new(step, error.to_string()))
}

/// Sets what limits of the lab can be set. Where one can't, the time still is limited.
fn limit() {
    for (file, value) in [
        ("/sys/fs/cgroup/pids/pids.max", u64::from(PROCESSES)),
        ("/sys/fs/cgroup/pids.max", u64::from(PROCESSES)),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", MEMORY),
        ("/sys/fs/cgroup/memory.max", MEMORY),
    ] {
        if let Ok(mut file) = File::options().write(true).open(file) {
            let _ = file.write_all(value.to_string().as_bytes());
        }
    }
    let size = format!("size={DISK}");
    for directory in FRESH {
        let how = match directory {
            "/dev/shm" => MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
            "/run" => MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
            _ => MsFlags::empty(),
        };
        let _ = mount(None::<&str>, directory, None::<&str>, how | MsFlags::MS_REMOUNT, Some(size.as_str()));
    }
}

/// Directories that the lab has of its own.
const FRESH: [&str; 4] = ["/tmp", "/run", "/var/tmp", "/dev/shm"];

/// A word that nobody can guess.
pub fn nonce() -> String {
    let mut bytes = [0; 16];
    // Without it a result could only be forged by somebody who can write to the pipe, and nobody can.
    let _ = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where checks may have their working directories: the lab leaves it writable, so it is empty and goes.
fn scratch() -> std::io::Result<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("check-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let own = chapters::workbook().join("target/grade").join(&name);
    if fs::create_dir_all(&own).is_ok() {
        return Ok(own);
    }
    let path = std::env::temp_dir().join(format!("cooperage-grade-{name}"));
    fs::create_dir_all(&path)?;
    Ok(path)
}

/// Where the directory of a program is in the lab's working directory.
const BESIDE: &str = "beside";

/// Copies the directory of a program, if it is of a size that people hand in.
fn bring_along(from: &Path, to: &Path) -> std::io::Result<()> {
    fn size(directory: &Path) -> std::io::Result<u64> {
        let mut sum = 0;
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            sum += if kind.is_dir() { size(&entry.path())? } else { entry.metadata()?.len() };
        }
        Ok(sum)
    }
    const MOST: u64 = 256 * 1024 * 1024;
    if size(from)? > MOST {
        let text = format!(
            "{} holds more than {} MiB: put the program, with what it needs, into a directory of its own",
            from.display(),
            MOST >> 20
        );
        return Err(std::io::Error::other(text));
    }
    fs::create_dir(to)?;
    rootfs::copy(from, to).map_err(std::io::Error::other)
}

/// Runs a check in a lab, and waits for it.
pub fn run(job: &Job) -> Outcome {
    let directory = match scratch() {
        Ok(directory) => directory,
        Err(error) => return Outcome::Error(format!("no directory for the check: {error}")),
    };
    let outcome = start(job, &directory);
    let _ = fs::remove_dir_all(&directory);
    outcome.unwrap_or_else(|error| Outcome::Error(format!("the check can't be started: {error}")))
}

fn variable(name: &&str) -> Option<(OsString, OsString)> {
    Some((name.into(), std::env::var_os(name)?))
}

fn start(job: &Job, directory: &Path) -> std::io::Result<Outcome> {
    // What the lab does not show is brought along.
    let mut job = job.clone();
    let is_fresh = |path: &Path| FRESH.iter().any(|fresh| path.starts_with(fresh));
    let is_hidden = |path: &Path| job.hide.iter().any(|hidden| path.starts_with(hidden)) || is_fresh(path);
    let all_of_a_place = |path: &PathBuf| FRESH.iter().any(|fresh| path == Path::new(fresh));
    job.directory = job.directory.filter(|own| is_hidden(own) && !all_of_a_place(own));
    if let Some(own) = &job.directory {
        bring_along(own, &directory.join(BESIDE))?;
    }
    // A link may lead to what is not shown.
    let file = fs::canonicalize(&job.program)?;
    if is_hidden(&file) && job.directory.as_ref().is_none_or(|own| !file.starts_with(own)) {
        fs::copy(&file, directory.join("program"))?;
        job.program = PathBuf::from("program");
        job.directory = None;
    }
    if is_fresh(&job.rootfs) {
        rootfs::copy(&job.rootfs, &directory.join("rootfs")).map_err(std::io::Error::other)?;
        job.rootfs = fs::canonicalize(directory)?.join("rootfs");
    }
    // The lab has no such directory: there is nothing to hide.
    job.hide.retain(|path| !is_fresh(path));
    let harness = Harness {
        directory,
        cgroups: Layout::Host,
        // The submission can read it: nothing that belongs to the instructor may be in it.
        environment: Some(["PATH", "HOME", "LANG"].iter().filter_map(variable).collect()),
        bound: BOUND,
    };
    let Done { ending, status, out, err } = harness.run(&serde_json::to_string(&job)?)?;
    let mine = |line: &str| line.strip_prefix(&job.nonce).map(|rest| rest.trim().to_string());
    let lines: Vec<_> = out.lines().filter_map(mine).collect();
    if let Some(result) = lines.iter().find_map(|line| line.strip_prefix("result ")) {
        return Ok(serde_json::from_str(result)?);
    }
    let said = super::check::shorten(&err);
    if lines.is_empty() {
        let silent = || format!("the lab ended before the check began: {status}");
        return Ok(Outcome::Error(if said.is_empty() { silent() } else { said }));
    }
    let ran = lines.iter().rev().find_map(|line| line.strip_prefix("ran ")).unwrap_or(&job.name);
    let signal = status.signal().or_else(|| status.code().filter(|code| *code > 128).map(|code| code - 128));
    let name = signal.and_then(|signal| Signal::try_from(signal).ok());
    let name = name.map_or_else(|| status.to_string(), |name| name.to_string());
    let lives = "the process that started the program lives on, and can go on";
    let own = "a container that ends may only end its own processes";
    Ok(Outcome::Fail(match ending {
        Ending::InTime => Failure::new(
            ran,
            lives,
            format!("it was ended by {name}"),
            format!("the program has killed its parent, or every process on its host: {own}"),
        ),
        Ending::Stopped => Failure::new(
            ran,
            lives,
            "it was stopped by SIGSTOP",
            "the program has stopped its parent: only a shell, by job control, stops what is its own",
        ),
        Ending::Late => Failure::new(
            ran,
            format!("the check ends within {} s", BOUND.as_secs()),
            "it did not",
            "the program holds up the process that started it: it hangs again and again",
        ),
    }))
}

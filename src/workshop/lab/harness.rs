//! Work that is done in a lab: a program starts itself again, hands itself a job, and takes the answer.
//!
//! The grader's checks, the break-outs and the tests all work like that. Such a program calls [`take_over`]
//! before anything else. It is started again twice: as a lab, and as that lab's command, which reads the job
//! from its standard input and writes the answer to its standard output. Neither is in an argument or a
//! variable, where anybody in the lab could read it.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{GRACE, Layout, Options};
use crate::workshop::cli;

const LAB: &str = "@lab";
const JOB: &str = "@job";
const WHOLE_MACHINE: &str = "@whole-machine";

/// How much of what the work prints is kept, of stdout and of stderr.
const OUTPUT: u64 = 4 * 1024 * 1024;

/// How often a lab is looked at that has not ended.
const LOOK: Duration = Duration::from_millis(3);

/// Was this process started to be a lab, or to work in one?
pub fn is_started_again() -> bool {
    std::env::args_os().nth(1).is_some_and(|word| word == LAB || word == JOB)
}

/// If this process was started to be a lab, or to work in one, it does that and nothing else. To be called
/// before there are threads. `work` is given the job.
pub fn take_over(work: impl FnOnce(&str) -> ExitCode) -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next()?.to_str()? {
        LAB => Some(be_lab(arguments)),
        JOB => Some(be_at_work(work)),
        _ => None,
    }
}

fn be_lab(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let layout = arguments.next();
    let layout =
        layout.as_deref().and_then(OsStr::to_str).and_then(|name| Layout::from_str(name, false).ok());
    let whole_machine = arguments.next().is_some_and(|word| word == WHOLE_MACHINE) && super::is_thrown_away();
    cli::exit_with(super::run(&Options {
        whole_machine,
        // By its link, because the lab may have another /tmp where its file is.
        command: vec!["/proc/self/exe".into(), JOB.into()],
        working_directory: PathBuf::from("."),
        cgroups: layout.unwrap_or_default(),
    }))
}

fn be_at_work(work: impl FnOnce(&str) -> ExitCode) -> ExitCode {
    if !super::inside() {
        eprintln!("cooperage: this is not a lab, and such work is done nowhere else");
        return ExitCode::from(125);
    }
    let mut job = String::new();
    let read = std::io::stdin().read_to_string(&mut job).and_then(|_| {
        // Whatever the work starts finds nothing to read.
        Ok(nix::unistd::dup2_stdin(File::open("/dev/null")?)?)
    });
    match read {
        Ok(()) => work(&job),
        Err(error) => {
            eprintln!("cooperage: there is no job for this lab: {error}");
            ExitCode::from(125)
        }
    }
}

/// How and where a job is done.
#[derive(Debug, Clone)]
pub struct Harness<'a> {
    /// The lab's working directory: what is made here reaches the lab, and what the lab writes here stays.
    pub directory: &'a Path,
    /// What /sys/fs/cgroup looks like.
    pub cgroups: Layout,
    /// All variables that the lab is given; those of this process if it is nothing.
    pub environment: Option<Vec<(OsString, OsString)>>,
    /// How long it may take, with the making of the lab.
    pub bound: Duration,
}

/// What came of a job.
#[derive(Debug)]
pub struct Done {
    /// How the lab has ended.
    pub ending: Ending,
    /// With which status: that of the work, unless the lab itself has failed.
    pub status: ExitStatus,
    /// What was written to stdout.
    pub out: String,
    /// What was written to stderr.
    pub err: String,
}

/// How a lab has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// By itself.
    InTime,
    /// It took too long, and was ended.
    Late,
    /// The work was stopped by SIGSTOP, and was ended: nothing in the lab would have let it go on.
    Stopped,
}

impl Harness<'_> {
    /// Has the job done, and waits for it. Nothing of the lab is left then.
    pub fn run(&self, job: &str) -> std::io::Result<Done> {
        self.run_as(job, None)
    }

    /// As [`Harness::run`]; where the machine is one that is thrown away, root keeps in the lab what concerns all of
    /// the machine.
    pub fn run_for_whole_machine(&self, job: &str) -> std::io::Result<Done> {
        self.run_as(job, Some(WHOLE_MACHINE))
    }

    fn run_as(&self, job: &str, how: Option<&str>) -> std::io::Result<Done> {
        let layout = self.cgroups.to_possible_value();
        let layout = layout.as_ref().map_or("", |value| value.get_name());
        let mut command = Command::new(std::env::current_exe()?);
        command.args([LAB, layout]).args(how).current_dir(self.directory);
        if let Some(environment) = &self.environment {
            command.env_clear().envs(environment.iter().cloned());
        }
        let mut lab = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let written = lab.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(job.as_bytes()));
        let (out, err) = (reader(lab.stdout.take()), reader(lab.stderr.take()));
        let (ending, status) = wait(&mut lab, self.bound)?;
        let (out, err) = (out.join().unwrap_or_default(), err.join().unwrap_or_default());
        // Where the lab has failed it says why, and that is worth more.
        if out.is_empty() && err.is_empty() {
            written?;
        }
        Ok(Done { ending, status, out, err })
    }
}

fn reader(from: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(from) = from {
            let _ = from.take(OUTPUT).read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Waits for the lab to end; ends it when it takes too long, or can't go on.
fn wait(lab: &mut Child, bound: Duration) -> std::io::Result<(Ending, ExitStatus)> {
    let start = Instant::now();
    let mut ending = Ending::InTime;
    let mut looked = start;
    loop {
        if let Some(status) = lab.try_wait()? {
            return Ok((ending, status));
        }
        if start.elapsed() > bound + GRACE + Duration::from_secs(3) {
            let _ = lab.kill(); // and with it dies everything in it
        } else if ending == Ending::InTime {
            if start.elapsed() > bound {
                ending = Ending::Late;
                let _ = kill(Pid::from_raw(lab.id() as i32), Signal::SIGTERM);
            } else if looked.elapsed() > Duration::from_millis(200) {
                looked = Instant::now();
                if let Some(work) = stopped(lab.id()) {
                    ending = Ending::Stopped;
                    let _ = kill(work, Signal::SIGKILL);
                }
            }
        }
        std::thread::sleep(LOOK);
    }
}

/// The process that does the work in this lab, if it has been stopped. See proc_pid_stat(5).
fn stopped(lab: u32) -> Option<Pid> {
    let file = |pid: &str, name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let children = |pid: &str| -> Vec<String> {
        file(pid, &format!("task/{pid}/children")).split_whitespace().map(str::to_string).collect()
    };
    let all = children(&lab.to_string()).iter().flat_map(|init| children(init)).collect::<Vec<_>>();
    let is_stopped = |pid: &&String| {
        let stat = file(pid, "stat");
        let state = stat.rsplit_once(") ").map(|(_, rest)| rest.starts_with('T'));
        state == Some(true) && file(pid, "cmdline").ends_with("@job\0")
    };
    all.iter().find(is_stopped)?.parse().ok().map(Pid::from_raw)
}

//! One attack against one chapter, in a lab of its own.
//!
//! The program starts itself again in a lab, see [`harness`]. There it arranges the attack and judges it. What came
//! of it is one line on its standard output.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::Attack;
use super::arena::{Arena, Said};
use super::job::Job;
use cooperage::told::errors::{Error, Result};
use cooperage::workshop::lab::Layout;
use cooperage::workshop::lab::harness::{self, Ending, Harness};

/// How long all of it may take. The attack itself has less: [`super::arena::BOUND`].
const BOUND: Duration = Duration::from_secs(90);

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// The attack's name.
    pub attack: String,
    /// The chapter.
    pub chapter: u8,
    /// As an ordinary user?
    pub user: bool,
    /// The name of another runtime that was in the chapter's place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// What it did, or what stopped it.
    pub text: String,
    /// The error of the system call that stopped it, such as "EPERM".
    pub errno: Option<String>,
}

/// How an attack ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It reached what is outside.
    Escaped,
    /// It did not.
    Contained,
    /// This chapter has nothing that it could attack.
    Absent,
    /// It could not be tried: the fault of this program, or of the machine.
    Error,
}

/// If this process was started to be a lab or an arena, it is one from here on.
pub fn take_over() -> Option<ExitCode> {
    harness::take_over(be_arena)
}

fn be_arena(job: &str) -> ExitCode {
    let job: Job = match serde_json::from_str(job) {
        Ok(job) => job,
        Err(error) => {
            eprintln!("cooperage: there is nothing to attack: {error}");
            return ExitCode::from(2);
        }
    };
    let cell = match attempt(&job) {
        Ok(cell) => cell,
        Err(error) if error.status == 2 => {
            eprintln!("cooperage: {error}");
            return ExitCode::from(2);
        }
        Err(error) => failed(&job, &error.to_string()),
    };
    match serde_json::to_string(&cell).map(|text| writeln!(std::io::stdout(), "{text}")) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn attempt(job: &Job) -> Result<Cell> {
    let attack = super::find(&job.attack)
        .ok_or_else(|| Error::new("attack", format!("there is no attack {}", job.attack)).status(2))?;
    let mut arena = Arena::new(job)?;
    (attack.prepare)(&mut arena)?;
    let cell = |outcome, text: String, errno| Cell {
        attack: job.attack.clone(),
        chapter: job.chapter,
        user: job.user,
        peer: job.peer.as_ref().map(|peer| peer.name.clone()),
        outcome,
        text,
        errno,
    };
    if let Some(why) = arena.absent() {
        return Ok(cell(Outcome::Absent, why.to_string(), None));
    }
    let said = arena.attack(attack)?;
    let escaped = (attack.judge)(&mut arena, &said);
    arena.finish();
    if escaped {
        return Ok(cell(Outcome::Escaped, attack.won.to_string(), None));
    }
    let (outcome, text, errno) = contained(attack, &said);
    Ok(cell(outcome, text, errno))
}

/// What stopped it, in words that are the same in every run.
fn contained(attack: &Attack, said: &Said) -> (Outcome, String, Option<String>) {
    match said {
        Said { answer: Some(Ok(_)), .. } => (Outcome::Contained, attack.harmless.to_string(), None),
        Said { answer: Some(Err(stopped)), .. } if stopped.errno == 0 => {
            (Outcome::Contained, stopped.call.clone(), None)
        }
        Said { answer: Some(Err(stopped)), .. } => {
            let errno = Errno::from_raw(stopped.errno);
            let text = format!("{}: {}", stopped.call, errno.desc());
            (Outcome::Contained, text, Some(format!("{errno:?}")))
        }
        Said { complaint, .. } if complaint == super::arena::TOO_LONG => {
            (Outcome::Error, complaint.clone(), None)
        }
        Said { status: Some(137), .. } => (Outcome::Contained, "the kernel killed it".to_string(), None),
        Said { status: Some(125), complaint, .. } if complaint.contains("is not a directory") => {
            (Outcome::Contained, "the runtime refused this rootfs".to_string(), None)
        }
        // In the words of runc, and of crun.
        Said { status: Some(1), complaint, .. }
            if complaint.contains("must be mounted on ordinary directory")
                || complaint.contains("the target `/proc` is invalid") =>
        {
            (Outcome::Contained, "the runtime refused this rootfs".to_string(), None)
        }
        Said { status, complaint, .. } => {
            let status = status.map_or("no status".to_string(), |status| format!("status {status}"));
            (Outcome::Error, format!("it said nothing ({status}): {}", complaint.trim()), None)
        }
    }
}

fn failed(job: &Job, why: &str) -> Cell {
    Cell {
        attack: job.attack.clone(),
        chapter: job.chapter,
        user: job.user,
        peer: job.peer.as_ref().map(|peer| peer.name.clone()),
        outcome: Outcome::Error,
        text: why.to_string(),
        errno: None,
    }
}

/// Runs it in a lab, and waits for it. `directory` is where the lab works, and what it can see of what is
/// made for it.
pub fn run(job: &Job, directory: &Path) -> Cell {
    start(job, directory).unwrap_or_else(|error| failed(job, &format!("the lab can't be started: {error}")))
}

fn start(job: &Job, directory: &Path) -> std::io::Result<Cell> {
    // Both want to say which devices there are, and with version 1 a lab lets nobody say so. Nor does crun take a mixture.
    let cgroups = if job.peer.is_some() { Layout::V2 } else { Layout::Host };
    let harness = Harness { directory, cgroups, environment: None, bound: BOUND };
    let text = serde_json::to_string(job)?;
    let whole_machine = super::OF_THE_MACHINE.contains(&job.attack.as_str());
    let done = if whole_machine { harness.run_for_whole_machine(&text)? } else { harness.run(&text)? };
    if let Some(cell) = done.out.lines().find_map(|line| serde_json::from_str(line).ok()) {
        return Ok(cell);
    }
    let why = match done.ending {
        Ending::InTime => format!("{}: {}", done.status, done.err.trim()),
        Ending::Late => "it took too long".to_string(),
        Ending::Stopped => "it was stopped by SIGSTOP".to_string(),
    };
    Ok(failed(job, &format!("the lab ended without a result: {why}")))
}

//! Grades a chapter: which tasks can be graded, in which order, and what they earn.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex};

use super::check::Failure;
use super::inside::{self, Job, Outcome};
use super::report::{Report, TaskReport, Verdict};
use super::tasks::{Exercise, Task};
use super::{checks, compile};
use cooperage::told::errors::Result;
use cooperage::workshop::doctor;
use cooperage::workshop::rootfs::Rootfs;

/// What all chapters' and submissions' grading shares: one of it is made for a run of the grader.
pub struct Grader {
    /// The crate's directory.
    pub root: PathBuf,
    rootfs: Rootfs,
    /// Why a feature is missing, for those that any check needs.
    missing: BTreeMap<&'static str, Option<String>>,
    free: Mutex<usize>,
    freed: Condvar,
}

/// What is graded.
#[derive(Debug, Clone)]
pub struct Submission {
    /// The program; or why it could not be built.
    pub program: compile::Built,
    /// What it is called in messages.
    pub name: String,
    /// Its source, if that is known: it tells what is still a `todo!()`.
    pub source: Option<String>,
    /// Directories to hide from it, besides the crate itself: other students' work, and their grades.
    pub hide: Vec<PathBuf>,
    /// The directory that it was handed in with: what is beside it there, it may need.
    pub directory: Option<PathBuf>,
}

impl Grader {
    /// Tries what the checks of these chapters need, and has a root filesystem made. To be called before
    /// any thread is started: the doctor forks.
    pub fn new(root: &Path, chapters: &[u8]) -> Result<Grader> {
        let mut missing = BTreeMap::new();
        let needs = chapters.iter().flat_map(|&chapter| checks::of(chapter)).flat_map(|check| check.needs);
        for need in std::iter::once(&"lab").chain(needs) {
            missing.entry(*need).or_insert_with(|| {
                let error = doctor::check(need).err()?;
                let remedy = error.advice().map(|advice| format!(" Remedy: {advice}")).unwrap_or_default();
                Some(format!("this machine lacks {need}: {}.{remedy}", error.reason().trim_end_matches('.')))
            });
        }
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let rootfs = Rootfs::find(None)?;
        Ok(Grader {
            root: root.to_path_buf(),
            rootfs,
            missing,
            free: Mutex::new(cores),
            freed: Condvar::new(),
        })
    }

    /// Grades a program by the tasks of a chapter.
    pub fn grade(&self, exercise: &Exercise, submission: &Submission) -> Report {
        let (program, build_error) = match &submission.program {
            Ok(program) => (Some(program), None),
            Err(text) => (None, Some(text.clone())),
        };
        let mut done: BTreeMap<&str, TaskReport> = BTreeMap::new();
        for task in &exercise.tasks {
            if is_todo(submission, task) {
                done.insert(&task.id, result(task, Verdict::NotStarted, "not started"));
            } else if program.is_none() {
                done.insert(&task.id, result(task, Verdict::Fail, "the program could not be built"));
            }
        }
        // Round after round, all tasks whose base is known.
        while done.len() < exercise.tasks.len() {
            let mut round = Vec::new();
            for task in exercise.tasks.iter().filter(|task| !done.contains_key(task.id.as_str())) {
                if task.needs.iter().all(|need| done.contains_key(need.as_str())) {
                    round.push(task);
                }
            }
            if round.is_empty() {
                // A circle: exercise.toml is wrong.
                for task in &exercise.tasks {
                    done.entry(&task.id).or_insert_with(|| {
                        result(task, Verdict::Error, "its needs in exercise.toml form a circle")
                    });
                }
                break;
            }
            let results: Vec<(&Task, TaskReport)> = std::thread::scope(|scope| {
                let mut threads = Vec::new();
                for task in round {
                    let base = task
                        .needs
                        .iter()
                        .filter_map(|need| done.get(need.as_str()))
                        .find(|need| need.verdict != Verdict::Pass);
                    let early = base.map(|base| match base.verdict {
                        Verdict::Blocked | Verdict::Error => result(
                            task,
                            Verdict::Blocked,
                            &format!("needs {}, which could not be graded", base.id),
                        ),
                        _ => result(task, Verdict::Needs, &format!("needs {} first", base.id)),
                    });
                    threads.push((
                        task,
                        scope.spawn(move || {
                            early.unwrap_or_else(|| match program {
                                Some(program) => self.task(exercise, task, program, submission),
                                None => result(task, Verdict::Fail, "the program could not be built"),
                            })
                        }),
                    ));
                }
                let end = |task, thread: std::thread::ScopedJoinHandle<'_, TaskReport>| {
                    let report = thread.join();
                    report.unwrap_or_else(|_| result(task, Verdict::Error, "the grader went wrong"))
                };
                threads.into_iter().map(|(task, thread)| (task, end(task, thread))).collect()
            });
            for (task, report) in results {
                done.insert(&task.id, report);
            }
        }
        let tasks = exercise.tasks.iter().filter_map(|task| done.remove(task.id.as_str())).collect();
        Report::new(exercise.chapter, &exercise.title, build_error, tasks)
    }

    fn task(&self, exercise: &Exercise, task: &Task, program: &Path, submission: &Submission) -> TaskReport {
        let Some(check) = checks::of(exercise.chapter).iter().find(|check| check.task == task.id) else {
            return result(task, Verdict::Error, "this grader has no check for it");
        };
        for need in std::iter::once(&"lab").chain(check.needs) {
            if let Some(Some(reason)) = self.missing.get(need) {
                return result(task, Verdict::Blocked, reason);
            }
        }
        // Answers are not in chapters/ alone: they are in tests/, and in the history below .git.
        let mut hide = vec![self.root.clone()];
        hide.extend(submission.hide.clone());
        hide.retain(|path| path.is_dir());
        let job = Job {
            chapter: exercise.chapter,
            task: task.id.clone(),
            program: program.to_path_buf(),
            name: submission.name.clone(),
            rootfs: self.rootfs.path().to_path_buf(),
            hide,
            directory: submission.directory.clone(),
            seed: std::env::var(inside::SEED).ok().and_then(|seed| seed.parse().ok()),
            nonce: inside::nonce(),
        };
        self.take();
        let outcome = inside::run(&job);
        self.give_back();
        match outcome {
            Outcome::Pass => result(task, Verdict::Pass, ""),
            Outcome::Fail(failure) => self.failed(exercise, task, failure),
            Outcome::Todo(id) if id == task.id => result(task, Verdict::NotStarted, "not started"),
            Outcome::Todo(id) => result(task, Verdict::Needs, &format!("needs {id} first")),
            Outcome::Error(text) => result(task, Verdict::Error, &format!("the grader's own fault: {text}")),
        }
    }

    fn failed(&self, exercise: &Exercise, task: &Task, failure: Failure) -> TaskReport {
        let mut report = result(task, Verdict::Fail, &failure.lesson);
        report.reread = Some(format!("chapter {}, \"{}\"", exercise.chapter, task.section));
        report.failure = Some(failure);
        report
    }

    /// Takes one of as many places as there are processors.
    fn take(&self) {
        let Ok(mut free) = self.free.lock() else { return };
        while *free == 0 {
            match self.freed.wait(free) {
                Ok(guard) => free = guard,
                Err(_) => return,
            }
        }
        *free -= 1;
    }

    fn give_back(&self) {
        if let Ok(mut free) = self.free.lock() {
            *free += 1;
        }
        self.freed.notify_one();
    }
}

fn result(task: &Task, verdict: Verdict, message: &str) -> TaskReport {
    TaskReport {
        id: task.id.clone(),
        title: task.title.clone(),
        verdict,
        points: if verdict == Verdict::Pass { task.points } else { 0 },
        max_points: task.points,
        message: message.to_string(),
        failure: None,
        reread: None,
    }
}

/// Does the source still have the task's `todo!()`, other than in a comment?
fn is_todo(submission: &Submission, task: &Task) -> bool {
    let Some(source) = &submission.source else { return false };
    let wanted = format!("todo!(\"task {}\")", task.id);
    source.lines().filter_map(|line| line.split("//").next()).any(|line| line.contains(&wanted))
}

/// Is there the program that the root filesystem has besides the machine's own?
pub fn has_witness() -> bool {
    std::env::current_exe().is_ok_and(|path| path.with_file_name("witness").is_file())
}

/// The submission that is the student's own file in this crate, built.
pub fn own_exercises(root: &Path, exercises: &[Exercise]) -> Result<Vec<Submission>> {
    let names: Vec<String> =
        exercises.iter().map(|exercise| format!("exercise{:02}", exercise.chapter)).collect();
    let mut wanted: Vec<&str> = names.iter().map(String::as_str).collect();
    if !has_witness() {
        wanted.push("witness");
    }
    let mut built = compile::own(root, &wanted)?;
    let mut submissions = Vec::new();
    for (exercise, name) in exercises.iter().zip(names) {
        let program = built.remove(&name).unwrap_or_else(|| Err("cargo did not build it".to_string()));
        let source = fs::read_to_string(exercise.directory.join("exercise.rs")).ok();
        submissions.push(Submission { program, name, source, hide: Vec::new(), directory: None });
    }
    Ok(submissions)
}

//! Grades a class: every subfolder of a directory is one student's submission.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

use super::chapter::{Grader, Submission};
use super::compile;
use super::report::Report;
use super::tasks::Exercise;
use cooperage::told::errors::{Error, Result};

/// What is kept of one submission: NAME.json.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    submission: String,
    /// Of what was graded, and by what: when it is the same, it need not be graded again.
    fingerprint: String,
    reports: Vec<Report>,
}

/// One student's work, as it was found.
struct Found {
    name: String,
    fingerprint: String,
    /// Its source for each chapter; or an executable for all.
    files: BTreeMap<u8, PathBuf>,
    executable: Option<PathBuf>,
}

const STEP: &str = "grade the submissions";

fn io(path: &Path, error: &std::io::Error) -> Error {
    Error::io(STEP, path, error)
}

/// Grades every subfolder of `directory`, and writes results.csv and a NAME.json each into `output`. What is
/// there already and has not changed is not graded again. The result is how many there are, and how many
/// were graded now.
pub fn grade(
    grader: &Grader,
    exercises: &[Exercise],
    directory: &Path,
    output: &Path,
) -> Result<(usize, usize)> {
    let directory = fs::canonicalize(directory).map_err(|error| io(directory, &error))?;
    fs::create_dir_all(output).map_err(|error| io(output, &error))?;
    let output = fs::canonicalize(output).map_err(|error| io(output, &error))?;
    let mut all = Vec::new();
    let mut entries: Vec<PathBuf> = fs::read_dir(&directory)
        .map_err(|error| io(&directory, &error))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir() && *path != output)
        .collect();
    entries.sort();
    for path in entries {
        all.push(find(grader, exercises, &path)?);
    }
    let finished = |found: &&Found| {
        let text = fs::read_to_string(json(&output, found)).unwrap_or_default();
        serde_json::from_str::<Record>(&text).is_ok_and(|record| record.fingerprint == found.fingerprint)
    };
    let (_, waiting): (Vec<&Found>, Vec<&Found>) = all.iter().partition(finished);

    let bar = ProgressBar::new(waiting.len() as u64);
    if let Ok(style) =
        ProgressStyle::with_template("{msg:24} [{bar:40}] {pos}/{len}  {elapsed} of about {duration}")
    {
        bar.set_style(style.progress_chars("##."));
    }
    bar.set_message("compiling");
    let programs = compile_all(grader, exercises, &waiting)?;
    bar.set_message("grading");

    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let hide = [directory.clone(), output.clone()];
    let queue = Mutex::new(waiting.iter());
    let failed: Mutex<Option<Error>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().ok().and_then(|mut queue| queue.next().copied());
                    let Some(found) = next else { return };
                    let record = one(grader, exercises, found, &programs, &hide);
                    if let Err(error) = write(&json(&output, found), &record)
                        && let Ok(mut failed) = failed.lock()
                    {
                        failed.get_or_insert(error);
                    }
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    if let Ok(Some(error)) = failed.into_inner() {
        return Err(error);
    }
    write_csv(&output, &all)?;
    Ok((all.len(), waiting.len()))
}

fn json(output: &Path, found: &Found) -> PathBuf {
    output.join(format!("{}.json", found.name))
}

/// Looks what a student has handed in.
fn find(grader: &Grader, exercises: &[Exercise], directory: &Path) -> Result<Found> {
    let mut hasher = DefaultHasher::new();
    let mut files = BTreeMap::new();
    for exercise in exercises {
        let tasks = exercise.directory.join("exercise.toml");
        fs::read(&tasks).map_err(|error| io(&tasks, &error))?.hash(&mut hasher);
        let place = exercise.directory.strip_prefix(&grader.root).unwrap_or(&exercise.directory);
        let mut file = directory.join(place).join("exercise.rs");
        // Who grades one chapter may have asked for one file.
        if exercises.len() == 1 && !file.exists() {
            file = directory.join("exercise.rs");
        }
        if let Ok(text) = fs::read(&file) {
            text.hash(&mut hasher);
            files.insert(exercise.chapter, file);
        }
    }
    let mut executable = None;
    if files.is_empty() {
        let mut entries: Vec<PathBuf> = fs::read_dir(directory)
            .map_err(|error| io(directory, &error))?
            .flatten()
            .map(|entry| entry.path())
            .collect();
        entries.sort();
        executable = entries.into_iter().find(|path| {
            fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        });
        executable.as_ref().and_then(|path| fs::read(path).ok()).hash(&mut hasher);
    }
    // Another grader may judge otherwise.
    let grader = std::env::current_exe().and_then(fs::metadata).and_then(|found| found.modified()).ok();
    grader.hash(&mut hasher);
    Ok(Found {
        name: directory.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        fingerprint: format!("{:016x}", hasher.finish()),
        files,
        executable,
    })
}

/// Builds all sources at once, each text once. The result has a program for each text.
fn compile_all(
    grader: &Grader,
    exercises: &[Exercise],
    all: &[&Found],
) -> Result<BTreeMap<String, compile::Built>> {
    let mut wanted = BTreeMap::new();
    for found in all {
        for (chapter, file) in &found.files {
            if exercises.iter().any(|exercise| exercise.chapter == *chapter) {
                wanted.entry(name_of(file)).or_insert_with(|| file.clone());
            }
        }
    }
    if wanted.is_empty() {
        return Ok(BTreeMap::new());
    }
    let files: Vec<(String, PathBuf)> = wanted.into_iter().collect();
    let place = grader.root.join("target/grade").join(format!("class-{}", std::process::id()));
    let built = compile::foreign(&grader.root, &place, &files);
    let _ = fs::remove_dir_all(&place);
    built
}

/// What the program of this text is called.
fn name_of(file: &Path) -> String {
    let mut hasher = DefaultHasher::new();
    fs::read(file).unwrap_or_default().hash(&mut hasher);
    format!("graded-{:016x}", hasher.finish())
}

fn one(
    grader: &Grader,
    exercises: &[Exercise],
    found: &Found,
    programs: &BTreeMap<String, compile::Built>,
    hide: &[PathBuf],
) -> Record {
    let mut reports = Vec::new();
    for exercise in exercises {
        let file = found.files.get(&exercise.chapter);
        let program = match (file, &found.executable) {
            (Some(file), _) => programs
                .get(&name_of(file))
                .cloned()
                .unwrap_or_else(|| Err("cargo did not build it".to_string())),
            (None, Some(path)) => Ok(path.clone()),
            (None, None) => Err(format!("{} has neither {} nor an executable", found.name, "exercise.rs")),
        };
        let name = match &found.executable {
            Some(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            None => format!("exercise{:02}", exercise.chapter),
        };
        let source = file.and_then(|file| fs::read_to_string(file).ok());
        // An executable may have files of its own beside it; what was built of an exercise.rs has none.
        let directory = found.executable.as_ref().filter(|_| file.is_none()).and_then(|path| path.parent());
        let directory = directory.map(Path::to_path_buf);
        let submission = Submission { program, name, source, hide: hide.to_vec(), directory };
        reports.push(grader.grade(exercise, &submission));
    }
    Record { submission: found.name.clone(), fingerprint: found.fingerprint.clone(), reports }
}

/// Written beside and renamed, so that what is there is whole.
fn write(path: &Path, record: &Record) -> Result<()> {
    let text = serde_json::to_string_pretty(record).map_err(|error| Error::new(STEP, error.to_string()))?;
    let new = path.with_extension("json.new");
    fs::write(&new, text).map_err(|error| io(&new, &error))?;
    fs::rename(&new, path).map_err(|error| io(path, &error))
}

fn write_csv(output: &Path, all: &[Found]) -> Result<()> {
    let mut text = String::from("submission,chapter,score,max_score,blocked_points,passed,failed,note\n");
    for found in all {
        let path = json(output, found);
        let record = fs::read_to_string(&path).map_err(|error| io(&path, &error))?;
        let record: Record = serde_json::from_str(&record)
            .map_err(|error| Error::new(STEP, format!("{}: {error}", path.display())))?;
        for report in &record.reports {
            let ids = |wanted: &str| {
                let tasks = report.tasks.iter().filter(|task| task.verdict.word() == wanted);
                tasks.map(|task| task.id.as_str()).collect::<Vec<_>>().join(" ")
            };
            let note = if report.build_error.is_some() {
                "could not be built"
            } else if report.is_untouched() {
                "not started"
            } else {
                ""
            };
            let cells = [
                quoted(&record.submission),
                report.chapter.to_string(),
                report.score.to_string(),
                report.max_score.to_string(),
                report.blocked_points.to_string(),
                ids("pass"),
                ids("FAIL"),
                note.to_string(),
            ];
            text.push_str(&cells.join(","));
            text.push('\n');
        }
    }
    let path = output.join("results.csv");
    fs::write(&path, text).map_err(|error| io(&path, &error))
}

/// A cell as spreadsheets read it. A student's folder may have any name.
fn quoted(text: &str) -> String {
    let text = if text.starts_with(['=', '+', '-', '@']) { format!("'{text}") } else { text.to_string() };
    if text.contains([',', '"', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

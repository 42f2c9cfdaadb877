//! `cargo run --bin grade -- N`: which tasks of a chapter are done, and what is wrong with the others.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use cooperage::told::errors::{Error, Result};
use cooperage::workshop::chapters;
use grade::chapter::{Grader, Submission, has_witness, own_exercises};
use grade::report::Report;
use grade::tasks::Exercise;
use grade::{checks, class, compile, formats, inside, print};

/// Prints a line; to a pipe that nobody reads any more (`| head`) too.
macro_rules! say {
    ($($words:tt)*) => {{
        let _ = writeln!(std::io::stdout(), $($words)*);
    }};
}

/// Grade exercises. Each task is checked in a throw-away lab, by what the program does.
///
/// Exit status 0 if every task that can be graded here passes, or none is begun yet; 1 if not; 2 for a wrong
/// command line. With --format gradescope or classroom50 it is 0 whenever there is a result.
#[derive(Parser, Debug)]
#[command(name = "grade")]
struct Args {
    /// Chapter to grade
    #[arg(value_name = "CHAPTER")]
    number: Option<u8>,

    /// Chapter to grade, as an option
    #[arg(long, value_name = "N", conflicts_with = "number")]
    chapter: Option<u8>,

    /// Grade all chapters
    #[arg(long, conflicts_with_all = ["number", "chapter"])]
    all: bool,

    /// Grade this executable instead of the exercise: in any language, with the chapter's command line. It sees
    /// the files beside it, unless it is in the workbook or directly in /tmp
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,

    /// How the result is written
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    format: Format,

    /// Show a hint for a task; again, and it shows the next
    #[arg(long, value_name = "TASK", conflicts_with_all = ["number", "chapter", "all", "program"])]
    hint: Option<String>,

    /// Which hint, 1 to 3
    #[arg(long, value_name = "1..3", requires = "hint")]
    level: Option<usize>,

    /// Tell what a task's check does
    #[arg(long, value_name = "TASK", conflicts_with_all = ["number", "chapter", "all", "program", "hint"])]
    explain: Option<String>,

    /// Grade every subfolder of DIR: a checkout of this crate, or a folder with one exercise.rs or one executable
    #[arg(long, value_name = "DIR", conflicts_with_all = ["program", "format", "hint", "explain", "progress", "watch"])]
    submissions: Option<PathBuf>,

    /// Where the results of --submissions go
    #[arg(long, value_name = "DIR", default_value = "grades")]
    output: PathBuf,

    /// Grade again whenever the file is saved, and tell what has changed
    #[arg(long, conflicts_with_all = ["hint", "explain", "progress", "all"])]
    watch: bool,

    /// One line for each chapter
    #[arg(long, conflicts_with_all = ["number", "chapter", "program", "hint", "explain"])]
    progress: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Format {
    /// For people
    #[default]
    Text,
    /// This crate's own: see crates/grade/src/schema.json
    Json,
    /// results.json of a Gradescope autograder
    Gradescope,
    /// result.json of Classroom 50
    Classroom50,
}

fn main() -> ExitCode {
    if let Some(status) = inside::take_over() {
        return status;
    }
    match run(&Args::parse()) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("cooperage: {error}");
            ExitCode::from(if error.status == 2 { 2 } else { 1 })
        }
    }
}

fn usage(text: &str) -> Error {
    Error::new("understand the command line", text)
        .remedy("cargo run --bin grade -- 1    (grade --help tells the rest)")
        .status(2)
}

fn run(args: &Args) -> Result<ExitCode> {
    let root = chapters::workbook();
    if let Some(id) = &args.hint {
        return hint(&root, id, args.level);
    }
    if let Some(id) = &args.explain {
        return explain(&root, id);
    }
    let wanted: Vec<u8> = match (args.number.or(args.chapter), args.all || args.progress) {
        (Some(number), _) if chapters::numbers().contains(&number) => vec![number],
        (Some(number), _) => {
            return Err(usage(&format!(
                "there are no exercises of chapter {number}: {} to {}",
                chapters::FIRST,
                chapters::NEWEST
            )));
        }
        (None, true) => chapters::numbers().collect(),
        (None, false) => return Err(usage("which chapter? Name one, or --all")),
    };
    let exercises = wanted.iter().map(|&number| Exercise::read(&root, number)).collect::<Result<Vec<_>>>()?;
    if let Some(directory) = &args.submissions {
        if !has_witness() {
            compile::own(&root, &["witness"])?;
        }
        let grader = Grader::new(&root, &wanted)?;
        let begun = std::time::Instant::now();
        let (count, graded) = class::grade(&grader, &exercises, directory, &args.output)?;
        let seconds = begun.elapsed().as_secs_f64();
        let file = args.output.join("results.csv");
        say!("{count} submissions, {graded} graded now in {seconds:.1} s: {}", file.display());
        return Ok(ExitCode::SUCCESS);
    }
    let submissions = submissions(args, &root, &exercises)?;
    let grader = Grader::new(&root, &wanted)?;
    let reports = grade(&grader, &exercises, &submissions)?;
    let status = show(args, &reports, &exercises)?;
    if args.watch {
        watch(args, &grader, &exercises, reports)?;
    }
    Ok(status)
}

fn submissions(args: &Args, root: &Path, exercises: &[Exercise]) -> Result<Vec<Submission>> {
    let Some(path) = &args.program else { return own_exercises(root, exercises) };
    let failed = |error: std::io::Error| Error::io("find the program to grade", path, &error).status(2);
    std::fs::metadata(path).map_err(failed)?;
    // Not the file that a link leads to: a program may go by the name that it is called by.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let parent = std::fs::canonicalize(parent).map_err(failed)?;
    let path = parent.join(path.file_name().unwrap_or_default());
    // The workbook holds the answers, and is out of a submission's sight.
    let directory = Some(parent).filter(|parent| !parent.starts_with(root) && !root.starts_with(parent));
    if !has_witness() {
        // Some checks need it. Where there is no cargo, they say so.
        let _ = compile::own(root, &["witness"]);
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let one = Submission { program: Ok(path), name, source: None, hide: Vec::new(), directory };
    Ok(vec![one; exercises.len()])
}

fn grade(grader: &Grader, exercises: &[Exercise], submissions: &[Submission]) -> Result<Vec<Report>> {
    std::thread::scope(|scope| {
        let start = |(exercise, submission)| scope.spawn(move || grader.grade(exercise, submission));
        let threads: Vec<_> = exercises.iter().zip(submissions).map(start).collect();
        threads.into_iter().map(|thread| thread.join().ok()).collect::<Option<Vec<_>>>()
    })
    .ok_or_else(|| Error::new("grade", "a thread of the grader ended too early"))
}

/// Grades whenever the file that is graded has been written. Ends with Ctrl-C.
fn watch(args: &Args, grader: &Grader, exercises: &[Exercise], first: Vec<Report>) -> Result<()> {
    let Some(exercise) = exercises.first() else { return Ok(()) };
    let file = args.program.clone().unwrap_or_else(|| exercise.directory.join("exercise.rs"));
    let time = || std::fs::metadata(&file).and_then(|found| found.modified()).ok();
    let (mut seen, mut before) = (time(), first);
    say!("\nwatching {}: save it to grade again, Ctrl-C ends", file.display());
    loop {
        std::thread::sleep(std::time::Duration::from_millis(200));
        let now = time();
        if now == seen || now.is_none() {
            continue;
        }
        seen = now;
        let submissions = submissions(args, &grader.root, exercises)?;
        let reports = grade(grader, exercises, &submissions)?;
        say!();
        show(args, &reports, exercises)?;
        let tasks = |reports: &[Report]| -> Vec<_> {
            reports.iter().flat_map(|report| report.tasks.clone()).collect()
        };
        let mut changes = 0;
        for (old, new) in tasks(&before).iter().zip(tasks(&reports)) {
            if old.verdict != new.verdict {
                changes += 1;
                say!("changed: {} {} -> {}", new.id, old.verdict.word(), new.verdict.word());
            }
        }
        if changes == 0 {
            say!("no verdict changed");
        }
        before = reports;
    }
}

fn show(args: &Args, reports: &[Report], exercises: &[Exercise]) -> Result<ExitCode> {
    let fine = reports.iter().all(Report::is_done) || reports.iter().all(Report::is_untouched);
    let status = if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    match args.format {
        Format::Json => say!("{}", formats::own(reports)?),
        Format::Gradescope => {
            say!("{}", formats::gradescope(reports)?);
            return Ok(ExitCode::SUCCESS);
        }
        Format::Classroom50 => {
            say!("{}", formats::classroom50(reports)?);
            return Ok(ExitCode::SUCCESS);
        }
        Format::Text if args.progress => {
            for report in reports {
                say!("{}", print::progress(report));
            }
            let sum = |points: fn(&Report) -> u32| reports.iter().map(points).sum::<u32>();
            say!("\n  {} of {} points", sum(|report| report.score), sum(|report| report.max_score));
        }
        Format::Text => {
            for report in reports {
                say!("{}", print::report(report));
            }
            if reports.len() > 1 {
                let sum = |points: fn(&Report) -> u32| reports.iter().map(points).sum::<u32>();
                say!("In all: {} of {} points", sum(|report| report.score), sum(|report| report.max_score));
            }
            if args.program.is_none() {
                say!("{}", print::next(reports, exercises));
            }
        }
    }
    Ok(status)
}

fn find(root: &Path, id: &str) -> Result<Exercise> {
    let number = id.split('.').next().and_then(|number| number.parse().ok());
    let unknown = || usage(&format!("there is no task {id:?}: they are called 1.1, 5.2 and so on"));
    let number: u8 = number.ok_or_else(unknown)?;
    let exercise = Exercise::read(root, number).map_err(|error| error.status(2))?;
    if exercise.task(id).is_none() {
        return Err(unknown());
    }
    Ok(exercise)
}

fn hint(root: &Path, id: &str, level: Option<usize>) -> Result<ExitCode> {
    let exercise = find(root, id)?;
    let Some(task) = exercise.task(id) else { return Err(usage(id)) };
    let count = task.hints.len();
    let file = root.join("target/grade/hints.json");
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    let mut shown: std::collections::BTreeMap<String, usize> =
        serde_json::from_str(&text).unwrap_or_default();
    let level = match level {
        Some(level) if (1..=count).contains(&level) => level,
        Some(level) => return Err(usage(&format!("there is no hint {level} for task {id}: 1 to {count}"))),
        None => (shown.get(id).copied().unwrap_or(0) + 1).min(count),
    };
    let Some(hint) = task.hints.get(level.saturating_sub(1)) else {
        return Err(usage(&format!("task {id} has no hints")));
    };
    say!("Hint {level} of {count} for task {id}, {}:\n\n  {}", task.title, hint.trim());
    say!("\nChapter {}, \"{}\", has the idea.", exercise.chapter, task.section);
    if level < count {
        say!("For more: cargo run --bin grade -- --hint {id} --level {}, or the same again.", level + 1);
    }
    shown.insert(id.to_string(), level);
    // Where it can't be kept, --level does.
    if let Ok(text) = serde_json::to_string(&shown) {
        let _ = file.parent().map(std::fs::create_dir_all);
        let _ = std::fs::write(&file, text);
    }
    Ok(ExitCode::SUCCESS)
}

fn explain(root: &Path, id: &str) -> Result<ExitCode> {
    let exercise = find(root, id)?;
    let Some(task) = exercise.task(id) else { return Err(usage(id)) };
    let (stars, minutes) = ("*".repeat(usize::from(task.stars)), task.minutes);
    say!("Task {id}, {}: {} points, {stars}, about {minutes} minutes", task.title, task.points);
    match checks::of(exercise.chapter).iter().find(|check| check.task == id) {
        Some(check) => {
            say!("\n{}", check.explain.trim());
            if !task.needs.is_empty() {
                say!("\nIt is checked when {} passes.", task.needs.join(" and "));
            }
            if !check.needs.is_empty() {
                say!("\nThe machine must have: {} (see cargo run --bin doctor).", check.needs.join(", "));
            }
        }
        None => say!("\nThis grader has no check for it yet."),
    }
    Ok(ExitCode::SUCCESS)
}
